//! PURE: whom a request would be taken for, without taking it: nobody is minted, erased or counted.

use http::HeaderMap;

use super::identity::{AnonymousReason, Identity, Trust, identify};
use super::snapshot::Snapshot;
use crate::clock::Timestamp;
use crate::visitor::{Arrival, VisitorKey};

/// Whom a request would be taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recognised {
    /// A known visitor.
    Visitor(VisitorKey),
    /// Somebody who would be a new visitor.
    New,
    /// Nobody whom the sidecar keeps apart.
    Nobody(AnonymousReason),
}

/// Whom a request with these headers would be taken for on the first listener. Headers that name a visitor count as none: nobody
/// vouches for them here.
pub fn recognise(snapshot: &Snapshot, headers: &HeaderMap, now: Timestamp) -> Recognised {
    let sources = snapshot.listeners.first();
    let trust = Trust {
        sources: sources.map_or(&[], |listener| &listener.sources),
        vouches: &|| false,
    };
    // What is minted of it is thrown away.
    let random = || Some([0; 16]);
    match identify(headers, trust, &snapshot.visitors, now, random) {
        Identity::Visitor {
            arrival: Arrival::New,
            ..
        } => Recognised::New,
        Identity::Visitor { key, .. } => Recognised::Visitor(key),
        Identity::Nobody(reason) => Recognised::Nobody(reason),
        Identity::OptedOut { .. } => Recognised::Nobody(AnonymousReason::OptOut),
    }
}
