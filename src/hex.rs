//! Hexadecimal digits of short values, written at once and not byte by byte: every request has some.

use std::fmt;

/// No value that is written has more bytes.
const LONGEST: usize = 16;

/// Writes two small digits for each of `bytes`, of which there are no more than 16.
pub(crate) fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 2 * LONGEST];
    for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    let digits = &text[..bytes.len() * 2];
    f.write_str(std::str::from_utf8(digits).unwrap_or_default())
}
