//! PURE: where a request body ends. Chunks are read strictly: hexadecimal digits, extensions of printable characters, CRLF.

use super::fields;
use super::head::Announced;
use super::refusal::Refusal;

/// What is left of a body.
#[derive(Debug)]
pub(super) enum Body {
    /// So many bytes; 0: the body is at its end.
    Length(u64),
    /// Chunks.
    Chunks(Chunks),
}

/// Where in a chunked body the next byte is.
#[derive(Debug)]
pub(super) struct Chunks {
    place: Place,
    /// Of a chunk size: its value. Of chunk data: what is left.
    size: u64,
    /// Of a chunk's line: its bytes so far. Of trailers: the bytes of all of them.
    bytes: usize,
    trailer: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Size,
    Extension,
    SizeEnd,
    Data,
    DataCr,
    DataLf,
    Trailer,
    TrailerEnd,
    Done,
}

/// A chunk's line with its extensions.
const LINE_BYTES: usize = 256;
const SIZE_DIGITS: usize = 16;
const TRAILER_BYTES: usize = 8 * 1024;

impl Body {
    pub(super) fn new(announced: Announced) -> Self {
        match announced {
            Announced::Length(length) => Self::Length(length),
            Announced::Chunks => Self::Chunks(Chunks {
                place: Place::Size,
                size: 0,
                bytes: 0,
                trailer: Vec::new(),
            }),
        }
    }

    pub(super) fn is_done(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunks(chunks) => chunks.place == Place::Done,
        }
    }

    /// Reads on; returns how many of `bytes` belong to the body.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        match self {
            Self::Length(left) => {
                let taken = (*left).min(bytes.len() as u64);
                *left -= taken;
                Ok(usize::try_from(taken).unwrap_or(bytes.len()))
            }
            Self::Chunks(chunks) => chunks.read(bytes),
        }
    }
}

impl Chunks {
    fn read(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        let mut at = 0;
        while self.place != Place::Done
            && let Some(byte) = bytes.get(at)
        {
            match self.place {
                Place::Data => {
                    let taken = self.size.min((bytes.len() - at) as u64);
                    self.size -= taken;
                    at += usize::try_from(taken).unwrap_or(bytes.len());
                    if self.size == 0 {
                        self.place = Place::DataCr;
                    }
                    continue;
                }
                Place::Size | Place::Extension | Place::SizeEnd => self.line(*byte)?,
                Place::DataCr => self.expect(*byte, b'\r', Place::DataLf)?,
                Place::DataLf => {
                    self.expect(*byte, b'\n', Place::Size)?;
                    self.bytes = 0;
                }
                Place::Trailer | Place::TrailerEnd => self.trailer(*byte)?,
                Place::Done => {}
            }
            at += 1;
        }
        Ok(at)
    }

    fn expect(&mut self, byte: u8, expected: u8, next: Place) -> Result<(), Refusal> {
        if byte != expected {
            return Err(Refusal::Chunk);
        }
        self.place = next;
        Ok(())
    }

    fn line(&mut self, byte: u8) -> Result<(), Refusal> {
        self.bytes += 1;
        if self.bytes > LINE_BYTES {
            return Err(Refusal::Chunk);
        }
        match (self.place, byte) {
            (Place::Size, _) if byte.is_ascii_hexdigit() && self.bytes <= SIZE_DIGITS => {
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                // More than anybody's body: what would overflow elsewhere.
                if self.size >> 52 != 0 {
                    return Err(Refusal::Chunk);
                }
                self.size = self.size << 4 | u64::from(digit);
            }
            (Place::Size, b';') if self.bytes > 1 => self.place = Place::Extension,
            (Place::Size, b'\r') if self.bytes > 1 => self.place = Place::SizeEnd,
            (Place::Extension, b'\r') => self.place = Place::SizeEnd,
            (Place::Extension, b'\t' | b' '..=b'~' | 0x80..) => {}
            (Place::SizeEnd, b'\n') => {
                self.bytes = 0;
                self.place = match self.size {
                    0 => Place::Trailer,
                    _ => Place::Data,
                };
            }
            _ => return Err(Refusal::Chunk),
        }
        Ok(())
    }

    fn trailer(&mut self, byte: u8) -> Result<(), Refusal> {
        self.bytes += 1;
        match (self.place, byte) {
            _ if self.bytes > TRAILER_BYTES => return Err(Refusal::Trailer),
            (Place::Trailer, b'\r') => self.place = Place::TrailerEnd,
            (Place::Trailer, b'\t' | b' '..=b'~' | 0x80..) => self.trailer.push(byte),
            (Place::TrailerEnd, b'\n') if self.trailer.is_empty() => self.place = Place::Done,
            (Place::TrailerEnd, b'\n') => {
                fields::name_length(&self.trailer).map_err(|_| Refusal::Trailer)?;
                self.trailer.clear();
                self.place = Place::Trailer;
            }
            _ => return Err(Refusal::Trailer),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<(usize, bool), Refusal> {
        let mut body = Body::new(Announced::Chunks);
        body.read(text.as_bytes())
            .map(|taken| (taken, body.is_done()))
    }

    #[test]
    fn a_body_ends_where_it_says() {
        let mut body = Body::new(Announced::Length(5));
        assert_eq!((body.read(b"hel"), body.is_done()), (Ok(3), false));
        assert_eq!((body.read(b"loGET"), body.is_done()), (Ok(2), true));
        for good in [
            "0\r\n\r\n",
            "5\r\nhello\r\n0\r\n\r\n",
            "005;a=b;c=\"d;e\"\r\nhello\r\n00\r\nx-t: 1\r\nx-u: 2\r\n\r\n",
            "9\r\n0\r\n\r\nab\r\n\r\n0\r\n\r\n",
        ] {
            assert_eq!(
                read(&format!("{good}GET /")),
                Ok((good.len(), true)),
                "{good:?}"
            );
        }
        assert_eq!(read("5\r\nhel"), Ok((6, false)));
    }

    #[test]
    fn invariant_14_a_malformed_chunk_is_refused() {
        for bad in [
            "\r\n",
            ";a\r\n",
            "0x5\r\n",
            "+5\r\n",
            "-5\r\n",
            " 5\r\n",
            "5 \r\n",
            "5 ;a\r\n",
            "g\r\n",
            "5\n",
            "5\rx",
            "5\r\nhelloX",
            "5\r\nhello\n",
            "5\r\nhello\rX",
            "5;a\n",
            "5;\0\r\n",
            "5;a\rb\r\n",
            "5,5\r\n",
            "5.\r\n",
            "5_0\r\n",
            "10000000000000000\r\n",
            "fffffffffffffffff\r\n",
            "ffffffffffffffff\r\n",
            "00000000000000005\r\n",
        ] {
            assert_eq!(read(bad), Err(Refusal::Chunk), "{bad:?}");
        }
        assert_eq!(
            read(&format!("5;{}\r\n", "a".repeat(300))),
            Err(Refusal::Chunk)
        );
        for bad in [
            "0\r\n x\r\n",
            "0\r\nx\r\n",
            "0\r\nx : 1\r\n",
            "0\r\nx: 1\n",
            "0\r\n\rX",
            "0\r\nx: \0\r\n",
            "0\r\ncontent_length: 5\r\n",
        ] {
            assert_eq!(read(bad), Err(Refusal::Trailer), "{bad:?}");
        }
        assert_eq!(
            read(&format!("0\r\nx: {}", "a".repeat(9000))),
            Err(Refusal::Trailer)
        );
    }

    proptest! {
        /// How a body is cut into pieces changes nothing.
        #[test]
        fn invariant_14_pieces_are_judged_as_the_whole(
            chunks in prop::collection::vec("(3\r\nabc\r\n|1;x=y\r\nz\r\n|02\r\n\r\n\r\n|5\r\nab\r\n|x)", 0..4),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let text = format!("{}0\r\nx-t: 1\r\n\r\nGET /", chunks.concat());
            let whole = read(&text);
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let mut body = Body::new(Announced::Chunks);
            let mut taken = Ok(0);
            for pair in cuts.windows(2) {
                let piece = &text.as_bytes()[pair[0]..pair[1]];
                taken = taken.and_then(|before| body.read(piece).map(|more| before + more));
            }
            prop_assert_eq!(taken.map(|taken| (taken, body.is_done())), whole);
        }
    }
}
