//! PURE: why a request goes no further, and how the stream tells the proxy.

use std::fmt;

use pingora::Error;

/// Why a request is refused. The words are the values of a metric's label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The request line is not method, target and version with one space between them.
    RequestLine,
    /// A method that is no token, or that no route may have (CONNECT, TRACE).
    Method,
    /// Another version than HTTP/1.0 and HTTP/1.1.
    Version,
    /// The target is not a path (or `*` for OPTIONS).
    TargetForm,
    /// `#` in the target.
    Fragment,
    /// A control byte: NUL, a bare CR, DEL and the like.
    ControlByte,
    /// A line that ends without CR.
    BareLineFeed,
    /// A header line that begins with white space (obs-fold).
    FoldedLine,
    /// A header line without a colon, without a name, or with anything but token characters in the name.
    HeaderName,
    /// A name that some server takes for a framing header, such as `content_length`.
    Spelling,
    /// No `Host`.
    MissingHost,
    /// More than one `Host`.
    DoubledHost,
    /// A `Host` that is no host.
    Host,
    /// A `Content-Length` that is not one number, or more than one.
    ContentLength,
    /// A `Transfer-Encoding` that is not `chunked` alone.
    TransferCoding,
    /// `Content-Length` beside `Transfer-Encoding`.
    LengthAndCoding,
    /// A chunk that is malformed.
    Chunk,
    /// A trailer that is malformed.
    Trailer,
    /// `Connection` names a header that must not get lost on the way.
    ConnectionOption,
    /// An upgrade where none is enabled, to what is not allowed, or with a body.
    Upgrade,
    /// A path that means one thing here and another one elsewhere.
    AmbiguousPath,
    /// More headers than allowed.
    HeaderCount,
    /// Longer headers than allowed.
    HeaderBytes,
    /// The header did not arrive in time.
    HeaderTimeout,
    /// The body comes too slowly.
    BodyRate,
}

/// Every refusal with its label and what people read.
const ALL: [(Refusal, &str, &str); 25] = {
    use Refusal as R;
    [
        (
            R::RequestLine,
            "request_line",
            "The request line cannot be understood",
        ),
        (R::Method, "method", "The method is not allowed"),
        (
            R::Version,
            "version",
            "The version of HTTP is not supported",
        ),
        (
            R::TargetForm,
            "target_form",
            "The request target is not a path",
        ),
        (R::Fragment, "fragment", "The request target has a fragment"),
        (
            R::ControlByte,
            "control_byte",
            "The request has a control byte",
        ),
        (
            R::BareLineFeed,
            "bare_line_feed",
            "A line ends without a carriage return",
        ),
        (R::FoldedLine, "folded_line", "A header line is folded"),
        (
            R::HeaderName,
            "header_name",
            "A header line has no proper name",
        ),
        (
            R::Spelling,
            "spelling",
            "A header name can be taken for another one",
        ),
        (R::MissingHost, "missing_host", "There is no Host header"),
        (
            R::DoubledHost,
            "doubled_host",
            "There is more than one Host header",
        ),
        (R::Host, "host", "The Host header is not a host"),
        (
            R::ContentLength,
            "content_length",
            "Content-Length is not one number",
        ),
        (
            R::TransferCoding,
            "transfer_coding",
            "Transfer-Encoding is not chunked",
        ),
        (
            R::LengthAndCoding,
            "length_and_coding",
            "Content-Length and Transfer-Encoding exclude each other",
        ),
        (R::Chunk, "chunk", "A chunk of the body is malformed"),
        (R::Trailer, "trailer", "A trailer is malformed"),
        (
            R::ConnectionOption,
            "connection_option",
            "Connection names a header that is needed",
        ),
        (R::Upgrade, "upgrade", "The protocol cannot be changed here"),
        (R::AmbiguousPath, "ambiguous_path", "The path is ambiguous"),
        (R::HeaderCount, "header_count", "There are too many headers"),
        (R::HeaderBytes, "header_bytes", "The headers are too long"),
        (
            R::HeaderTimeout,
            "header_timeout",
            "The headers did not arrive in time",
        ),
        (R::BodyRate, "body_rate", "The body arrives too slowly"),
    ]
};

/// What stands before the label in the marker's target. No client can send it: a target that begins so is refused.
const MARKER: u8 = b'?';

// === impl Refusal ===

impl Refusal {
    /// Every one.
    #[cfg(test)]
    pub fn all() -> impl Iterator<Item = Self> {
        ALL.iter().map(|(refusal, ..)| *refusal)
    }

    /// The word for metrics and answers.
    pub fn label(self) -> &'static str {
        self.row().1
    }

    /// All the words.
    pub fn labels() -> impl Iterator<Item = &'static str> {
        ALL.iter().map(|(_, label, _)| *label)
    }

    /// What people read.
    pub fn title(self) -> &'static str {
        self.row().2
    }

    /// The status of the answer.
    pub fn status(self) -> u16 {
        match self {
            Self::HeaderCount | Self::HeaderBytes => 431,
            Self::HeaderTimeout | Self::BodyRate => 408,
            _ => 400,
        }
    }

    fn row(self) -> &'static (Self, &'static str, &'static str) {
        ALL.iter()
            .find(|(refusal, ..)| *refusal == self)
            .unwrap_or(&ALL[0])
    }

    /// The request that takes the place of a refused one. It is well-formed, so that the proxy comes to answer it.
    pub(super) fn marker(self) -> Vec<u8> {
        [
            b"GET ",
            &[MARKER][..],
            self.label().as_bytes(),
            b" HTTP/1.0\r\n\r\n",
        ]
        .concat()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

impl std::error::Error for Refusal {}

/// Why the request was refused for which `target` stands, if it is a marker.
pub fn refused_by_marker(target: &[u8]) -> Option<Refusal> {
    if target.first() != Some(&MARKER) {
        return None;
    }
    let found = ALL
        .iter()
        .find(|(_, label, _)| label.as_bytes() == &target[1..]);
    Some(found.map_or(Refusal::TargetForm, |(refusal, ..)| *refusal))
}

/// Why the stream broke off, if a malformed body was the cause of `error`.
pub fn refused_by_stream(error: &Error) -> Option<Refusal> {
    let cause = error.root_cause().downcast_ref::<std::io::Error>()?;
    cause.get_ref()?.downcast_ref::<Refusal>().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invariant_14_a_marker_says_why_and_is_no_target_of_a_client() {
        for (refusal, label, title) in ALL {
            let target = [b"?", label.as_bytes()].concat();
            assert_eq!(refused_by_marker(&target), Some(refusal));
            assert_eq!((refusal.label(), refusal.title()), (label, title));
            let marker = String::from_utf8(refusal.marker()).unwrap();
            assert_eq!(marker, format!("GET ?{label} HTTP/1.0\r\n\r\n"));
            assert!(matches!(refusal.status(), 400 | 408 | 431));
        }
        assert_eq!(refused_by_marker(b"/?host"), None);
        assert_eq!(refused_by_marker(b""), None);
        assert_eq!(refused_by_marker(b"?else"), Some(Refusal::TargetForm));
    }

    #[test]
    fn the_cause_of_a_broken_stream_is_found() {
        let io = std::io::Error::new(std::io::ErrorKind::InvalidData, Refusal::Chunk);
        let error = Error::because(pingora::ErrorType::ReadError, "reading", io);
        assert_eq!(refused_by_stream(&error), Some(Refusal::Chunk));
        let other = Error::because(
            pingora::ErrorType::ReadError,
            "reading",
            std::io::Error::other("reset"),
        );
        assert_eq!(refused_by_stream(&other), None);
    }
}
