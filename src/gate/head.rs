//! PURE: one request head, read line by line as it arrives.

use memchr::{memchr, memchr2, memrchr};

use super::fields::{self, Asked};
use super::refusal::Refusal;

/// How much a head may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeadLimits {
    /// All of it, with the request line.
    pub(super) bytes: usize,
    /// Header lines.
    pub(super) count: usize,
}

/// What follows a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Announced {
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunks,
}

/// A head that is not at its end yet.
#[derive(Debug, Default)]
pub(super) struct Head {
    /// Where the line begins that is not at its end yet.
    line: usize,
    /// Where its end is looked for.
    searched: usize,
    begun: bool,
    http_1_1: bool,
    count: usize,
    host: bool,
    length: Option<u64>,
    chunked: bool,
    upgrade: Option<Asked>,
    closes: bool,
}

impl Head {
    /// Reads on in `bytes`, which begin where the head begins and hold more than the last time. Returns where the head ends,
    /// and what follows it; `None`: it is not at its end.
    pub(super) fn read(
        &mut self,
        bytes: &[u8],
        limits: HeadLimits,
    ) -> Result<Option<(usize, Announced)>, Refusal> {
        loop {
            let Some(found) = memchr2(b'\r', b'\n', &bytes[self.searched..]) else {
                self.searched = bytes.len();
                return within(bytes.len(), limits).map(|()| None);
            };
            let end = self.searched + found;
            if bytes[end] == b'\n' {
                return Err(Refusal::BareLineFeed);
            }
            match bytes.get(end + 1) {
                Some(b'\n') => {}
                Some(_) => return Err(Refusal::ControlByte),
                None => {
                    self.searched = end;
                    return within(bytes.len(), limits).map(|()| None);
                }
            }
            let line = &bytes[self.line..end];
            self.line = end + 2;
            self.searched = self.line;
            match line {
                [] => {
                    within(self.line, limits)?;
                    let announced = self.finish(&bytes[..end])?;
                    return Ok(Some((self.line, announced)));
                }
                line if self.begun => self.header(line, limits)?,
                line => self.request_line(line)?,
            }
        }
    }

    /// Whether the client sends no request after this one.
    pub(super) fn closes(&self) -> bool {
        self.closes
    }

    fn request_line(&mut self, line: &[u8]) -> Result<(), Refusal> {
        let (Some(first), Some(last)) = (memchr(b' ', line), memrchr(b' ', line)) else {
            return Err(Refusal::RequestLine);
        };
        let (method, version) = (&line[..first], &line[last + 1..]);
        if first == last {
            return Err(Refusal::RequestLine);
        }
        self.http_1_1 = match version {
            b"HTTP/1.1" => true,
            b"HTTP/1.0" => false,
            // Something between version and end, or no version at all.
            version if !version.starts_with(b"HTTP/") => return Err(Refusal::RequestLine),
            _ => return Err(Refusal::Version),
        };
        fields::method(method)?;
        fields::target(&line[first + 1..last], method)?;
        self.begun = true;
        Ok(())
    }

    fn header(&mut self, line: &[u8], limits: HeadLimits) -> Result<(), Refusal> {
        self.count += 1;
        if self.count > limits.count {
            return Err(Refusal::HeaderCount);
        }
        let length = fields::name_length(line)?;
        let name = &line[..length];
        // Length and first letter tell nearly all others apart.
        let known: &[u8] = match (length, line[0] | 0x20) {
            (4, b'h') => b"host",
            (7, b'u') => b"upgrade",
            (10, b'c') => b"connection",
            (14, b'c') => b"content-length",
            (17, b't') => b"transfer-encoding",
            _ => return Ok(()),
        };
        if !name.eq_ignore_ascii_case(known) {
            return Ok(());
        }
        let value = trim(&line[length + 1..]);
        match length {
            4 if self.host => Err(Refusal::DoubledHost),
            4 => {
                self.host = true;
                fields::host(value)
            }
            7 => match self.upgrade.replace(fields::upgrade(value)?) {
                None => Ok(()),
                Some(_) => Err(Refusal::Upgrade),
            },
            10 => {
                self.closes |= fields::connection(value)?;
                Ok(())
            }
            14 => match self.length.replace(fields::content_length(value)?) {
                None => Ok(()),
                Some(_) => Err(Refusal::ContentLength),
            },
            _ => match !self.chunked && value.eq_ignore_ascii_case(b"chunked") {
                true => {
                    self.chunked = true;
                    Ok(())
                }
                false => Err(Refusal::TransferCoding),
            },
        }
    }

    /// What can be said only when all is there.
    fn finish(&self, head: &[u8]) -> Result<Announced, Refusal> {
        if !self.begun {
            return Err(Refusal::RequestLine);
        }
        if has_control(head) {
            return Err(Refusal::ControlByte);
        }
        if !self.host {
            return Err(Refusal::MissingHost);
        }
        let announced = match (self.chunked, self.length) {
            (true, Some(_)) => return Err(Refusal::LengthAndCoding),
            // Not a coding that a client of that version can know (RFC 9112 §6.1).
            (true, None) if !self.http_1_1 => return Err(Refusal::TransferCoding),
            (true, None) => Announced::Chunks,
            (false, length) => Announced::Length(length.unwrap_or(0)),
        };
        match self.upgrade == Some(Asked::Tunnel) && announced != Announced::Length(0) {
            // Where would the body end and the other protocol begin?
            true => Err(Refusal::Upgrade),
            false => Ok(announced),
        }
    }
}

fn within(bytes: usize, limits: HeadLimits) -> Result<(), Refusal> {
    match bytes > limits.bytes {
        true => Err(Refusal::HeaderBytes),
        false => Ok(()),
    }
}

/// Without the spaces and tabs around it.
fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// Whether there is a control byte other than the tab and line ends. Without a branch for each byte, so that many are looked at
/// together.
fn has_control(bytes: &[u8]) -> bool {
    let control = |byte: u8| {
        ((byte < 0x20) & (byte != b'\t') & (byte != b'\r') & (byte != b'\n')) | (byte == 0x7f)
    };
    bytes
        .iter()
        .fold(false, |found, byte| found | control(*byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: HeadLimits = HeadLimits {
        bytes: 400,
        count: 8,
    };

    fn read(head: &str) -> Result<Option<(usize, Announced)>, Refusal> {
        Head::default().read(head.as_bytes(), LIMITS)
    }

    #[test]
    fn a_head_says_what_follows_it() {
        for (fields, announced) in [
            ("", Announced::Length(0)),
            ("Content-Length: 5\r\n", Announced::Length(5)),
            ("content-length:\t5 \r\n", Announced::Length(5)),
            ("TRANSFER-ENCODING: Chunked\r\n", Announced::Chunks),
            (
                "Upgrade: websocket\r\nConnection: Upgrade\r\n",
                Announced::Length(0),
            ),
            (
                "X-Empty:\r\nx-tab: a\tb\r\nx-byte: \u{e9}\r\n",
                Announced::Length(0),
            ),
        ] {
            let head = format!("POST /a?b HTTP/1.1\r\nHost: shop.example\r\n{fields}\r\n");
            let with_more = format!("{head}hello");
            assert_eq!(
                read(&with_more),
                Ok(Some((head.len(), announced))),
                "{fields}"
            );
        }
        assert_eq!(
            read("OPTIONS * HTTP/1.0\r\nHost: a\r\n\r\n"),
            Ok(Some((31, Announced::Length(0))))
        );
    }

    #[test]
    fn invariant_14_what_is_wrong_with_a_head_has_a_name() {
        use Refusal as R;
        let get = |fields: &str| format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        for (head, refusal) in [
            ("\r\n".to_owned(), R::RequestLine),
            (
                "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
                R::RequestLine,
            ),
            ("GET /\r\n".to_owned(), R::RequestLine),
            ("GET  / HTTP/1.1\r\n".to_owned(), R::TargetForm),
            ("GET / a HTTP/1.1\r\n".to_owned(), R::RequestLine),
            ("GET / HTTP/1.1 \r\n".to_owned(), R::RequestLine),
            ("GET / HTTP/2.0\r\n".to_owned(), R::Version),
            ("GET / a\r\n".to_owned(), R::RequestLine),
            ("GET / http/1.1\r\n".to_owned(), R::RequestLine),
            ("GET / HTTP/1.10\r\n".to_owned(), R::Version),
            ("CONNECT a:80 HTTP/1.1\r\n".to_owned(), R::Method),
            ("GET http://a/ HTTP/1.1\r\n".to_owned(), R::TargetForm),
            ("GET /#a HTTP/1.1\r\n".to_owned(), R::Fragment),
            ("GET / HTTP/1.1\n".to_owned(), R::BareLineFeed),
            ("GET / HTTP/1.1\rHost: a\r\n".to_owned(), R::ControlByte),
            (
                "GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
                R::ControlByte,
            ),
            ("GET / HTTP/1.1\r\n\r\n".to_owned(), R::MissingHost),
            ("GET / HTTP/1.0\r\n\r\n".to_owned(), R::MissingHost),
            (get("Host: a\r\n"), R::DoubledHost),
            (get("host : a\r\n"), R::HeaderName),
            (get("x: a\x7f\r\n"), R::ControlByte),
            (get("x: a\r\n b\r\n"), R::FoldedLine),
            (
                get("Content-Length: 1\r\nContent-Length: 1\r\n"),
                R::ContentLength,
            ),
            (get("Content-Length: 1, 1\r\n"), R::ContentLength),
            (
                get("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n"),
                R::LengthAndCoding,
            ),
            (
                get("Transfer-Encoding: gzip, chunked\r\n"),
                R::TransferCoding,
            ),
            (
                get("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
                R::TransferCoding,
            ),
            (get("Transfer-Encoding: \r\n"), R::TransferCoding),
            (get("Upgrade: h2c\r\nUpgrade: websocket\r\n"), R::Upgrade),
            (
                get("Upgrade: websocket\r\nContent-Length: 1\r\n"),
                R::Upgrade,
            ),
            (get(&"x: 1\r\n".repeat(8)), R::HeaderCount),
            (get(&format!("x: {}\r\n", "1".repeat(400))), R::HeaderBytes),
            (format!("GET /{}", "a".repeat(400)), R::HeaderBytes),
        ] {
            assert_eq!(read(&head), Err(refusal), "{head:?}");
        }
        let chunked = "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(read(chunked), Err(R::TransferCoding));
    }

    proptest! {
        /// How a head is cut into pieces changes nothing.
        #[test]
        fn invariant_14_pieces_are_judged_as_the_whole(
            lines in prop::collection::vec("(Host: a|Content-Length: [0-9]{1,2}|X-[a-z]{1,5}: [ -~]{0,9}| ?[a-z]{0,3} ?:[\\x00-\\x20])", 0..6),
            ends in prop::collection::vec("(\r\n|\r\n|\r\n|\n|\r)", 8),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..5),
        ) {
            let mut text = String::from("GET / HTTP/1.1");
            for (line, end) in lines.iter().zip(&ends) {
                text.push_str(end);
                text.push_str(line);
            }
            text.push_str(&ends[6]);
            text.push_str(&ends[7]);
            let whole = read(&text);
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
            cuts.push(text.len());
            cuts.sort_unstable();
            let mut head = Head::default();
            let mut last = Ok(None);
            for cut in cuts {
                last = head.read(&text.as_bytes()[..cut], LIMITS);
                if last != Ok(None) {
                    break;
                }
            }
            prop_assert_eq!(last, whole);
        }
    }
}
