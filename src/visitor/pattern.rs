//! What a consent cookie or header must hold: a text in which `*` stands for anything.

use std::borrow::Cow;

use percent_encoding::percent_decode;

/// A pattern for a whole value. `*` stands for any characters, also none; everything else for itself. A value matches as it is, or
/// percent-decoded, as consent managers write theirs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValuePattern(Vec<Box<str>>);

// === impl ValuePattern ===

impl ValuePattern {
    /// The pattern that `text` writes.
    pub fn new(text: &str) -> Self {
        Self(text.split('*').map(Into::into).collect())
    }

    /// The pattern as it is written.
    pub fn text(&self) -> String {
        self.0.join("*")
    }

    /// Whether every value matches.
    pub fn matches_all(&self) -> bool {
        self.0.len() > 1 && self.0.iter().all(|part| part.is_empty())
    }

    /// Whether `value` matches.
    pub fn matches(&self, value: &[u8]) -> bool {
        self.matches_plain(value)
            || match Cow::from(percent_decode(value)) {
                Cow::Borrowed(_) => false,
                Cow::Owned(decoded) => self.matches_plain(&decoded),
            }
    }

    fn matches_plain(&self, mut rest: &[u8]) -> bool {
        let (first, others) = match self.0.split_first() {
            None => return rest.is_empty(),
            Some((only, [])) => return rest == only.as_bytes(),
            Some(split) => split,
        };
        let Some((last, between)) = others.split_last() else {
            return false;
        };
        let begun = rest.strip_prefix(first.as_bytes());
        let Some(middle) = begun.and_then(|rest| rest.strip_suffix(last.as_bytes())) else {
            return false;
        };
        rest = middle;
        between.iter().all(|part| {
            let found = memchr::memmem::find(rest, part.as_bytes());
            found.is_some_and(|at| {
                rest = &rest[at + part.len()..];
                true
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ONE_TRUST: &str = "isGpcEnabled=0&datestamp=Mon+Jan+05+2026&version=202501.1.0&groups=C0001%3A1%2CC0002%3A0%2CC0003%3A1%2CC0004%3A0&AwaitingReconsent=false";
    const COOKIEBOT: &str = "%7Bstamp:%27abc%3D%3D%27%2Cnecessary:true%2Cpreferences:true%2Cstatistics:false%2Cmarketing:false%2Cver:1%7D";

    fn matches(pattern: &str, value: &str) -> bool {
        ValuePattern::new(pattern).matches(value.as_bytes())
    }

    #[test]
    fn a_group_in_a_long_encoded_value_is_found() {
        assert!(matches("*C0003:1*", ONE_TRUST));
        assert!(!matches("*C0003:0*", ONE_TRUST));
        assert!(matches("*C0002:0*", ONE_TRUST));
        assert!(matches("*C0003%3A1*", ONE_TRUST), "as it is, too");
        assert!(matches("*preferences:true*", COOKIEBOT));
        assert!(!matches("*preferences:false*", COOKIEBOT));
        assert!(matches("*,statistics:false,*", COOKIEBOT));
    }

    #[test]
    fn a_pattern_is_for_the_whole_value() {
        for (pattern, value, expected) in [
            ("yes", "yes", true),
            ("yes", "yes!", false),
            ("yes", "Yes", false),
            ("*", "", true),
            ("a*", "abc", true),
            ("a*", "ba", false),
            ("*c", "abc", true),
            ("a*b*c", "a-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("ab*bc", "abc", false),
            ("*aa*aa*", "aaa", false),
            ("", "", true),
            ("a b", "a%20b", true),
            ("%zz", "%zz", true),
        ] {
            assert_eq!(matches(pattern, value), expected, "{pattern} {value}");
        }
        assert!(ValuePattern::new("**").matches_all() && !ValuePattern::new("").matches_all());
    }

    proptest! {
        /// It matches what a plain backtracking matcher matches.
        #[test]
        fn it_matches_what_the_plain_reading_does(pattern in "[ab*]{0,8}", value in "[ab]{0,12}") {
            fn plain(pattern: &[u8], value: &[u8]) -> bool {
                match (pattern, value) {
                    ([], []) => true,
                    ([b'*', rest @ ..], _) if plain(rest, value) => true,
                    ([b'*', ..], [_, rest @ ..]) => plain(pattern, rest),
                    ([a, pattern @ ..], [b, value @ ..]) => a == b && plain(pattern, value),
                    _ => false,
                }
            }
            prop_assert_eq!(matches(&pattern, &value), plain(pattern.as_bytes(), value.as_bytes()));
        }
    }
}
