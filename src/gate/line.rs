//! PURE: what the stream and the proxy tell each other about one HTTP/1.x connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use pingora::protocols::Digest;

/// Where a connection is. Both sides run in one task, so the order of memory does not matter.
///
/// pingora hands a stream's digest to the exchanges on it; the entry for upstream proxies, which a client's connection has
/// not, carries this.
#[derive(Debug, Default)]
pub struct Line(AtomicU8);

/// The next request may be handed over.
const OPEN: u8 = 0;
/// A request was handed over and is not answered yet.
const TAKEN: u8 = 1;
/// The protocol has been changed: there are no more requests.
const TUNNEL: u8 = 2;

impl Line {
    /// The line of the connection that an exchange has come over; HTTP/2 has one that nobody heeds.
    pub fn of(digest: Option<&Digest>) -> Option<&Self> {
        let data = digest?.proxy_digest.as_ref()?.user_data.as_ref()?;
        data.downcast_ref::<Arc<Self>>().map(AsRef::as_ref)
    }

    /// The exchange is over.
    pub fn reopen(&self) {
        if self.0.load(Ordering::Relaxed) == TAKEN {
            self.0.store(OPEN, Ordering::Relaxed);
        }
    }

    /// The upgrade has been granted.
    pub fn tunnel(&self) {
        self.0.store(TUNNEL, Ordering::Relaxed);
    }

    pub(super) fn take(&self) {
        self.0.store(TAKEN, Ordering::Relaxed);
    }

    pub(super) fn is_taken(&self) -> bool {
        self.0.load(Ordering::Relaxed) == TAKEN
    }

    pub(super) fn is_tunnel(&self) -> bool {
        self.0.load(Ordering::Relaxed) == TUNNEL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tunnel_stays_one() {
        let line = Line::default();
        assert!(!line.is_taken() && !line.is_tunnel());
        line.take();
        assert!(line.is_taken());
        line.reopen();
        assert!(!line.is_taken());
        line.tunnel();
        line.reopen();
        assert!(line.is_tunnel());
    }
}
