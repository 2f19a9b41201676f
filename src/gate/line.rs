//! PURE: what the stream and the proxy tell each other about one HTTP/1.x connection.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};

use http::HeaderValue;
use pingora::protocols::Digest;

/// Where a connection is. Both sides run in one task, so the order of memory does not matter.
///
/// pingora hands a stream's digest to the exchanges on it; the entry for upstream proxies, which a client's connection has
/// not, carries this.
#[derive(Debug, Default)]
pub struct Line {
    at: AtomicU8,
    client: OnceLock<Option<HeaderValue>>,
}

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
        if self.at.load(Ordering::Relaxed) == TAKEN {
            self.at.store(OPEN, Ordering::Relaxed);
        }
    }

    /// The upgrade has been granted.
    pub fn tunnel(&self) {
        self.at.store(TUNNEL, Ordering::Relaxed);
    }

    /// The client's address as a header value: the same for all requests, so `written` by the first one.
    pub fn client(&self, written: impl FnOnce() -> Option<HeaderValue>) -> Option<&HeaderValue> {
        self.client.get_or_init(written).as_ref()
    }

    pub(super) fn take(&self) {
        self.at.store(TAKEN, Ordering::Relaxed);
    }

    pub(super) fn is_taken(&self) -> bool {
        self.at.load(Ordering::Relaxed) == TAKEN
    }

    pub(super) fn is_tunnel(&self) -> bool {
        self.at.load(Ordering::Relaxed) == TUNNEL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_is_written_once() {
        let (line, nameless) = (Line::default(), Line::default());
        let value = || Some(HeaderValue::from_static("192.0.2.1"));
        assert_eq!(line.client(value).unwrap(), "192.0.2.1");
        let again = line.client(|| panic!("it is written already"));
        assert_eq!(again.unwrap(), "192.0.2.1");
        // The peer of a Unix socket has no address, and is not asked again either.
        assert_eq!(nameless.client(|| None), None);
        assert_eq!(nameless.client(value), None);
    }

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
