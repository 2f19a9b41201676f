//! Where a listener looks for a visitor's identity.

use http::HeaderName;

/// One place to look; a listener has an ordered list of them, and the first that names a visitor wins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VisitorSource {
    /// The cookie that the sidecar mints. Written `cookie`.
    Cookie,
    /// A header that a trusted app sets. Written `header:<name>`.
    Header(HeaderName),
}
