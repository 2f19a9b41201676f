//! The proxy: one HTTP exchange at a time, each step in the phase where pingora has it.
//!
//! Decisions (routing, identity, header edits, forwarding headers, replay, error answers) are PURE and have a file each;
//! `service` calls them in order.

mod authenticate;
mod context;
mod edit;
mod ending;
mod forwarded;
mod headers;
mod hops;
mod identity;
mod names;
mod path;
mod peer;
mod recognise;
mod replay;
mod rescue;
mod route;
mod service;
mod snapshot;
mod telling;
mod tracing;
mod upgrade;

pub use identity::AnonymousReason;
pub use peer::{PeerError, resolve_forever, resolve_new, resolve_once};
pub use recognise::{Recognised, recognise};
pub use service::{Proxy, ProxyParts};
pub use snapshot::{Present, Snapshot, SnapshotError};
