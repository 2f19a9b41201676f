//! What people call a visitor: the key, whole or as it is logged.

use std::ops::RangeInclusive;

use super::id::VisitorKey;

/// A visitor's name, as somebody wrote it down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VisitorName {
    /// The whole key: 64 hexadecimal digits.
    Key(VisitorKey),
    /// Its first bytes, as logs have them: 12 hexadecimal digits. In a large store two visitors may share them.
    Logged([u8; LOGGED]),
}

/// So many bytes of a key are logged.
pub(super) const LOGGED: usize = 6;

impl VisitorName {
    /// The name that `text` is, if it is one.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(key) = VisitorKey::from_hex(text) {
            return Some(Self::Key(key));
        }
        let mut bytes = [0; LOGGED];
        read_hex(text.as_bytes(), &mut bytes).then_some(Self::Logged(bytes))
    }

    /// The keys that it may mean.
    pub fn keys(&self) -> RangeInclusive<VisitorKey> {
        match *self {
            Self::Key(key) => key..=key,
            Self::Logged(bytes) => {
                let [mut first, mut last] = [[0; 32], [0xff; 32]];
                first[..LOGGED].copy_from_slice(&bytes);
                last[..LOGGED].copy_from_slice(&bytes);
                VisitorKey::from_bytes(first)..=VisitorKey::from_bytes(last)
            }
        }
    }
}

/// Fills `bytes` from exactly as many hexadecimal digits; says whether that went well.
pub(super) fn read_hex(digits: &[u8], bytes: &mut [u8]) -> bool {
    let value = |digit: u8| char::from(digit).to_digit(16).map(|value| value as u8);
    let (pairs, rest) = digits.as_chunks::<2>();
    if pairs.len() != bytes.len() || !rest.is_empty() {
        return false;
    }
    bytes.iter_mut().zip(pairs).all(|(byte, &[high, low])| {
        let pair = value(high).zip(value(low));
        pair.map(|(high, low)| *byte = high << 4 | low).is_some()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: VisitorKey = VisitorKey::from_bytes([0x3f; 32]);

    #[test]
    fn a_name_is_a_whole_key_or_what_is_logged_of_it() {
        let whole = VisitorName::parse(&KEY.to_hex()).unwrap();
        assert_eq!(whole, VisitorName::Key(KEY));
        assert_eq!(whole.keys(), KEY..=KEY);
        let logged = VisitorName::parse(&KEY.to_string().to_uppercase()).unwrap();
        assert_eq!(logged, VisitorName::Logged([0x3f; 6]));
        assert!(logged.keys().contains(&KEY));
        assert!(!logged.keys().contains(&VisitorKey::from_bytes([0x3e; 32])));
        for none in [
            "",
            "3f",
            "3f3f3f3f3f3g",
            "+f3f3f3f3f3f",
            "3f3f3f3f3f3f3",
            "ä3f3f3f3f3f",
        ] {
            assert_eq!(VisitorName::parse(none), None, "{none}");
        }
    }
}
