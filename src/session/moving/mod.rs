//! Moving visitor sessions from one store to another, or to other keys: export and import.
//!
//! Decides what an export file holds and how two records of one visitor become one. What is in the file stays sealed with the
//! exporter's keyring: no token leaves its seal. The importer opens it with any of its keys, seals it with its first one, and
//! keeps the newer of two records: nothing that an import does can put an older refresh token in a newer one's place, and to
//! import the same file again changes nothing.
//!
//! The key that turns identities into visitor keys moves along, since the records mean nothing without it.

mod export;
mod format;
mod import;
mod summary;

pub use export::{ExportError, Exporter};
pub use format::{FormatError, Reader, check};
pub use import::{Adoption, ImportError, ImportFailed, import};
pub use summary::{Problem, Summary};
