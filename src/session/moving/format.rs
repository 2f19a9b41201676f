//! PURE: the export file. Newline-delimited JSON:
//!
//! ```text
//! {"format":"dressipi-sidecar sessions","version":1,"exported_at":…,"exported_by":"0.1.0","identity":"…"}
//! {"visitor":"…","state":"active","expires_at":…,"sealed":"…"}        one line a record
//! {"records":1}                                                       the end
//! ```
//!
//! Times are milliseconds since the Unix epoch, bytes are base64url without padding. The last line is what tells a whole file
//! from one that was cut off. Fields that are not known are passed over; a version once written is read for ever.

use std::borrow::Cow;
use std::io::Read;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::visitor::VisitorKey;

const FORMAT: &str = "dressipi-sidecar sessions";
const VERSION: u32 = 1;
/// No line is longer: a record is a few kilobytes.
const MAX_LINE: usize = 256 * 1024;

/// Why a file is no export, or not a whole one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// The first line is not that of an export.
    #[error("this is no export of dressipi-sidecar: its first line does not say so")]
    NotAnExport,
    /// Written by a newer sidecar.
    #[error(
        "the export has version {0}, which this version of the sidecar does not know; it reads up to {VERSION}: import it with \
         the version that wrote it, or a later one"
    )]
    Version(u32),
    /// A line is longer than any record.
    #[error("line {0} is longer than any record can be")]
    LineTooLong(u64),
    /// A line is neither a record nor the end.
    #[error("line {0} cannot be read: the file is damaged")]
    Line(u64),
    /// The last line is missing.
    #[error("the export is not whole: it ends after {0} records without its last line")]
    Truncated(u64),
    /// There are more or fewer records than the last line says.
    #[error("the export is not whole: its last line says {said} records, and there are {found}")]
    Count {
        /// What the last line says.
        said: u64,
        /// How many there are.
        found: u64,
    },
    /// Something follows the last line.
    #[error("something follows the export's last line")]
    Trailing,
}

/// The first line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) exported_at: Timestamp,
    /// The identity key's sealed record.
    pub(super) identity: Bytes,
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) visitor: VisitorKey,
    pub(super) expires_at: Timestamp,
    pub(super) sealed: Bytes,
}

/// What a line holds, but for the last one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item {
    Header(Header),
    Record(Record),
}

/// Reads an export that comes in pieces, with as much memory as its longest line takes.
#[derive(Debug, Default)]
pub struct Reader {
    buffer: Vec<u8>,
    /// What of the buffer is read already.
    done: usize,
    line: u64,
    records: u64,
    ended: bool,
}

#[derive(Serialize, Deserialize)]
struct HeaderLine<'a> {
    #[serde(borrow)]
    format: Cow<'a, str>,
    version: u32,
    #[serde(default)]
    exported_at: u64,
    #[serde(borrow, default)]
    exported_by: Cow<'a, str>,
    #[serde(borrow, default)]
    identity: Cow<'a, str>,
}

#[derive(Serialize, Deserialize)]
struct RecordLine<'a> {
    #[serde(borrow)]
    visitor: Cow<'a, str>,
    /// For whoever reads the file: an import believes the sealed record.
    #[serde(borrow, default)]
    state: Cow<'a, str>,
    expires_at: u64,
    #[serde(borrow)]
    sealed: Cow<'a, str>,
}

#[derive(Serialize, Deserialize)]
struct LastLine {
    records: u64,
}

// === writing ===

pub(super) fn write_header(exported_at: Timestamp, identity: &[u8], out: &mut Vec<u8>) {
    let line = HeaderLine {
        format: FORMAT.into(),
        version: VERSION,
        exported_at: exported_at.as_millis(),
        exported_by: env!("CARGO_PKG_VERSION").into(),
        identity: URL_SAFE_NO_PAD.encode(identity).into(),
    };
    write(&line, out);
}

pub(super) fn write_record(
    visitor: &VisitorKey,
    state: &str,
    expires_at: Timestamp,
    sealed: &[u8],
    out: &mut Vec<u8>,
) {
    let line = RecordLine {
        visitor: URL_SAFE_NO_PAD.encode(visitor.as_bytes()).into(),
        state: state.into(),
        expires_at: expires_at.as_millis(),
        sealed: URL_SAFE_NO_PAD.encode(sealed).into(),
    };
    write(&line, out);
}

pub(super) fn write_end(records: u64, out: &mut Vec<u8>) {
    write(&LastLine { records }, out);
}

fn write(line: &impl Serialize, out: &mut Vec<u8>) {
    serde_json::to_writer(&mut *out, line).expect("writing plain data to memory cannot fail");
    out.push(b'\n');
}

// === reading ===

/// Reads a whole export and says how many records it holds; whatever is wrong with it as a file is found.
pub fn check(mut file: impl Read) -> std::io::Result<Result<u64, FormatError>> {
    let mut reader = Reader::default();
    let mut chunk = vec![0; 64 * 1024];
    loop {
        let length = match file.read(&mut chunk) {
            Ok(0) => return Ok(reader.finish()),
            Ok(length) => length,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if let Err(error) = reader.pass(&chunk[..length]) {
            return Ok(Err(error));
        }
    }
}

impl Reader {
    /// Looks at the next piece of a file that goes elsewhere.
    pub fn pass(&mut self, bytes: &[u8]) -> Result<(), FormatError> {
        self.push(bytes);
        while self.next_item()?.is_some() {}
        Ok(())
    }

    /// How many records there were so far.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// The next piece of the file.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.done);
        self.done = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// What the next whole line holds; `None`: there is none yet.
    pub(super) fn next_item(&mut self) -> Result<Option<Item>, FormatError> {
        let rest = &self.buffer[self.done..];
        let Some(length) = memchr::memchr(b'\n', rest) else {
            return match rest.len() {
                length if length > MAX_LINE => Err(FormatError::LineTooLong(self.line + 1)),
                _ => Ok(None),
            };
        };
        self.line += 1;
        self.done += length + 1;
        let line = &rest[..length];
        if length > MAX_LINE {
            return Err(FormatError::LineTooLong(self.line));
        }
        if self.ended {
            return Err(FormatError::Trailing);
        }
        if self.line == 1 {
            return header(line).map(|header| Some(Item::Header(header)));
        }
        if let Some(record) = record(line) {
            self.records += 1;
            return Ok(Some(Item::Record(record)));
        }
        let LastLine { records: said } =
            serde_json::from_slice(line).map_err(|_| FormatError::Line(self.line))?;
        self.ended = true;
        match said == self.records {
            // One line further: there must be nothing.
            true => self.next_item(),
            false => Err(FormatError::Count {
                said,
                found: self.records,
            }),
        }
    }

    /// There is no further piece: how many records there were, if the file was whole.
    pub fn finish(&self) -> Result<u64, FormatError> {
        match (self.ended, self.buffer.len() - self.done) {
            (true, 0) => Ok(self.records),
            (true, _) => Err(FormatError::Trailing),
            (false, _) if self.line == 0 => Err(FormatError::NotAnExport),
            (false, _) => Err(FormatError::Truncated(self.records)),
        }
    }
}

fn header(line: &[u8]) -> Result<Header, FormatError> {
    let HeaderLine {
        format,
        version,
        exported_at,
        identity,
        ..
    } = serde_json::from_slice(line).map_err(|_| FormatError::NotAnExport)?;
    if format != FORMAT {
        return Err(FormatError::NotAnExport);
    }
    if version != VERSION {
        return Err(FormatError::Version(version));
    }
    Ok(Header {
        exported_at: Timestamp::from_millis(exported_at),
        identity: bytes(&identity).ok_or(FormatError::Line(1))?,
    })
}

fn record(line: &[u8]) -> Option<Record> {
    let line: RecordLine<'_> = serde_json::from_slice(line).ok()?;
    let mut visitor = [0; 32];
    let length = URL_SAFE_NO_PAD
        .decode_slice(line.visitor.as_bytes(), &mut visitor)
        .ok()?;
    (length == visitor.len()).then_some(())?;
    Some(Record {
        visitor: VisitorKey::from_bytes(visitor),
        expires_at: Timestamp::from_millis(line.expires_at),
        sealed: bytes(&line.sealed)?,
    })
}

fn bytes(text: &str) -> Option<Bytes> {
    URL_SAFE_NO_PAD.decode(text).ok().map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(records: u8) -> Vec<u8> {
        let mut out = Vec::new();
        write_header(Timestamp::from_secs(1), b"identity", &mut out);
        for number in 0..records {
            let visitor = VisitorKey::from_bytes([number; 32]);
            write_record(&visitor, "active", Timestamp::from_secs(2), b"x", &mut out);
        }
        write_end(records.into(), &mut out);
        out
    }

    fn read(file: &[u8]) -> Result<u64, FormatError> {
        check(file).unwrap()
    }

    proptest! {
        #[test]
        fn an_export_is_read_whatever_pieces_it_comes_in(records in 0u8..20, piece in 1usize..200) {
            let mut reader = Reader::default();
            let mut found = Vec::new();
            for bytes in file(records).chunks(piece) {
                reader.push(bytes);
                while let Some(item) = reader.next_item().unwrap() {
                    found.push(item);
                }
            }
            prop_assert_eq!(reader.finish(), Ok(records.into()));
            prop_assert_eq!(found.len(), usize::from(records) + 1);
            let header = Header { exported_at: Timestamp::from_secs(1), identity: Bytes::from_static(b"identity") };
            prop_assert_eq!(&found[0], &Item::Header(header));
        }
    }

    #[test]
    fn an_export_cut_off_anywhere_is_refused() {
        let file = file(3);
        assert_eq!(read(&file), Ok(3));
        for cut in 0..file.len() {
            assert!(read(&file[..cut]).is_err(), "{cut}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let whole = String::from_utf8(file(2)).unwrap();
        let lines: Vec<&str> = whole.lines().collect();
        let without = |line: usize| {
            let kept = lines.iter().enumerate().filter(|(at, _)| *at != line);
            kept.map(|(_, line)| format!("{line}\n"))
                .collect::<String>()
        };
        let count = FormatError::Count { said: 2, found: 1 };
        let newer = whole.replacen("\"version\":1", "\"version\":2", 1);
        let long = format!("{}\n{}", lines[0], "x".repeat(MAX_LINE + 2));
        let cases = [
            (String::new(), FormatError::NotAnExport),
            ("{}\n".to_owned(), FormatError::NotAnExport),
            (without(0), FormatError::NotAnExport),
            (without(1), count),
            (without(3), FormatError::Truncated(2)),
            (format!("{whole}{{}}\n"), FormatError::Trailing),
            (format!("{whole}x"), FormatError::Trailing),
            (newer, FormatError::Version(2)),
            (long, FormatError::LineTooLong(2)),
            (
                whole.replace("\"sealed\":\"eA\"", "\"sealed\":\"!\""),
                FormatError::Line(2),
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(read(text.as_bytes()), Err(expected), "{text:.200}");
        }
    }
}
