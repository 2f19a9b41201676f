//! PURE: header names in every spelling.
//!
//! Servers behind a gateway interface see `X_Dressipi_Jwt` and `X-Dressipi-Jwt` as one name, so they are one name here.

use http::HeaderName;

/// A set of header names, matched whatever stands between their words.
#[derive(Clone, Debug, Default)]
pub(super) struct NameSet {
    names: Vec<HeaderName>,
    /// One bit for each length that occurs: most headers are told apart by that alone.
    lengths: u64,
}

impl NameSet {
    pub(super) fn new(names: impl IntoIterator<Item = HeaderName>) -> Self {
        let mut set = Self::default();
        for name in names {
            set.lengths |= length_bit(name.as_str());
            if !set.contains(name.as_str()) {
                set.names.push(name);
            }
        }
        set
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.lengths & length_bit(name) != 0
            && self.names.iter().any(|ours| is_same(ours.as_str(), name))
    }
}

fn length_bit(name: &str) -> u64 {
    1 << (name.len() % 64)
}

/// Whether two names differ at most in case and in what stands for a hyphen.
pub(super) fn is_same(one: &str, other: &str) -> bool {
    one.len() == other.len() && one.bytes().map(fold).eq(other.bytes().map(fold))
}

/// Whether `name` begins with `prefix` in any spelling. Names come in lower case, so the first letter tells most apart.
pub(super) fn has_prefix(name: &str, prefix: &str) -> bool {
    name.len() >= prefix.len()
        && name.as_bytes().first() == prefix.as_bytes().first()
        && name
            .bytes()
            .zip(prefix.bytes())
            .all(|(a, b)| fold(a) == fold(b))
}

fn fold(byte: u8) -> u8 {
    match byte {
        b'a'..=b'z' | b'0'..=b'9' => byte,
        b'A'..=b'Z' => byte.to_ascii_lowercase(),
        _ => b'-',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invariant_7_every_spelling_is_one_name() {
        let set = NameSet::new([HeaderName::from_static("x-dressipi-jwt")]);
        for name in [
            "x-dressipi-jwt",
            "X-Dressipi-JWT",
            "x_dressipi_jwt",
            "x-dressipi_jwt",
            "x.dressipi.jwt",
        ] {
            assert!(set.contains(name), "{name}");
        }
        for name in [
            "x-dressipi-jw",
            "x-dressipi-jwtt",
            "xdressipijwt",
            "y-dressipi-jwt",
        ] {
            assert!(!set.contains(name), "{name}");
        }
        assert!(has_prefix("x_forwarded_user", "x-forwarded-"));
        assert!(!has_prefix("x-forward", "x-forwarded-"));
    }
}
