//! PURE: one HTTP/1.x connection, request after request.

use super::body::Body;
use super::head::{Head, HeadLimits};
use super::refusal::Refusal;

/// Where the next byte of a connection belongs.
#[derive(Debug)]
pub(super) struct Framing {
    limits: HeadLimits,
    head: Head,
    body: Body,
    last: bool,
}

impl Framing {
    pub(super) fn new(limits: HeadLimits) -> Self {
        Self {
            limits,
            head: Head::default(),
            body: Body::Length(0),
            last: false,
        }
    }

    /// Whether a body is on its way; otherwise the next byte begins a head, or goes on with one.
    #[inline]
    pub(super) fn in_body(&self) -> bool {
        !self.body.is_done()
    }

    /// Whether the client has said that its last request is the last one. pingora heeds the first `Connection` only.
    #[inline]
    pub(super) fn is_last(&self) -> bool {
        self.last
    }

    /// Reads on in a head. `bytes` begin where it begins. Returns how many of them are of this request, with what is there of
    /// its body; `None`: the head is not at its end. A malformed body that has arrived with the head refuses the whole request.
    pub(super) fn head(&mut self, bytes: &[u8]) -> Result<Option<usize>, Refusal> {
        let Some((end, announced)) = self.head.read(bytes, self.limits)? else {
            return Ok(None);
        };
        self.last = self.head.closes();
        self.head = Head::default();
        self.body = Body::new(announced);
        match self.in_body() {
            true => Ok(Some(end + self.body.read(&bytes[end..])?)),
            false => Ok(Some(end)),
        }
    }

    /// Reads on in a body; returns how many of `bytes` belong to it.
    pub(super) fn body(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        self.body.read(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits {
        bytes: 4096,
        count: 100,
    };

    #[test]
    fn one_request_after_the_other() {
        let mut framing = Framing::new(LIMITS);
        let first = "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n";
        let stream = format!("{first}helloGET /2 HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(framing.head(&stream.as_bytes()[..20]), Ok(None));
        assert_eq!(
            framing.head(&stream.as_bytes()[..first.len() + 2]),
            Ok(Some(first.len() + 2))
        );
        assert!(framing.in_body());
        assert_eq!(framing.body(&stream.as_bytes()[first.len() + 2..]), Ok(3));
        assert!(!framing.in_body());
        let rest = &stream.as_bytes()[first.len() + 5..];
        assert_eq!(framing.head(rest), Ok(Some(rest.len())));
        assert!(!framing.in_body());
    }

    #[test]
    fn invariant_14_a_malformed_body_at_hand_refuses_the_whole_request() {
        let mut framing = Framing::new(LIMITS);
        let request = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n";
        assert_eq!(framing.head(request), Err(Refusal::Chunk));
    }
}
