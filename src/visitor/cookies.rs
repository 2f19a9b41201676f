//! Reads and filters `Cookie` headers (RFC 6265 §5.4). Every request of a known visitor comes through here, so all questions are
//! answered in one pass, and only what is handed out is allocated.

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};
use memchr::memmem::Finder;

use super::cookie::is_ours;

/// The cookies of a request, which may lie in several headers (RFC 9113 §8.2.3).
#[derive(Clone, Copy, Debug)]
pub struct Cookies<'a>(&'a HeaderMap);

/// What a look for one cookie finds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lookup<'a> {
    /// No cookie of that name.
    #[default]
    Absent,
    /// One.
    One(&'a [u8]),
    /// Several with different values: nobody can say which one is meant.
    Ambiguous,
}

/// What is to become of a request's `Cookie` header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It stays as it is.
    None,
    /// It becomes one header with this value.
    To(HeaderValue),
    /// No cookie is left.
    Remove,
}

/// `name=value` pairs, trimmed, in the order in which they stand.
struct Pairs<'a> {
    whole: &'a [u8],
    /// Where the rest begins.
    at: usize,
}

impl<'a> Cookies<'a> {
    /// The cookies in `headers`.
    pub fn new(headers: &'a HeaderMap) -> Self {
        Self(headers)
    }

    /// Shows every cookie that has a value, with its name in just this spelling, to `see`.
    pub fn each(&self, mut see: impl FnMut(&'a [u8], &'a [u8])) {
        for field in self.0.get_all(COOKIE) {
            for pair in Pairs::of(field.as_bytes()) {
                if let (name, Some(value)) = split(pair) {
                    see(name, value);
                }
            }
        }
    }

    /// The `Cookie` header with only those cookies whose names `keep` wants.
    pub fn retain(&self, keep: impl Fn(&[u8]) -> bool) -> Change {
        let fields = self.0.get_all(COOKIE).iter();
        let mut kept = Vec::with_capacity(fields.map(|value| value.len() + 2).sum());
        let (mut fields, mut dropped) = (0, false);
        for field in self.0.get_all(COOKIE) {
            fields += 1;
            for pair in Pairs::of(field.as_bytes()) {
                if keep(split(pair).0) {
                    if !kept.is_empty() {
                        kept.extend_from_slice(b"; ");
                    }
                    kept.extend_from_slice(pair);
                } else {
                    dropped = true;
                }
            }
        }
        match dropped {
            // HTTP/2 splits them; HTTP/1.1 must have them in one field (RFC 9113 §8.2.3).
            false if fields < 2 => Change::None,
            _ => Change::to(kept),
        }
    }

    /// The `Cookie` header without the sidecar's own cookies, where `name` looks for the visitor cookie: what every request of a
    /// known visitor needs, so where the name stands once and is that cookie's, nothing but that one is looked at.
    pub fn without_ours(&self, name: &Finder<'_>) -> Change {
        let mut fields = self.0.get_all(COOKIE).iter();
        let field = match (fields.next(), fields.next()) {
            (Some(field), None) => field.as_bytes(),
            _ => return self.retain(|other| !is_ours(other, name.needle())),
        };
        let Some(begin) = name.find(field) else {
            return Change::None;
        };
        let end = match memchr::memchr(b';', &field[begin..]) {
            Some(length) => begin + length,
            None => field.len(),
        };
        let (before, after) = (&field[..begin], &field[end..]);
        let alone = matches!(before.trim_ascii_end().last(), None | Some(b';'))
            && split(field[begin..end].trim_ascii()).0 == name.needle()
            && name.find(after).is_none();
        if !alone {
            return self.retain(|other| !is_ours(other, name.needle()));
        }
        Change::to(match (trim(before), trim(after)) {
            ([], one) | (one, []) => one.to_vec(),
            (before, after) => [before, b"; ", after].concat(),
        })
    }
}

impl<'a> Lookup<'a> {
    /// Another cookie of that name.
    pub fn see(&mut self, value: &'a [u8]) {
        match self {
            Self::Absent => *self = Self::One(value),
            Self::One(first) if *first == value => {}
            _ => *self = Self::Ambiguous,
        }
    }
}

impl Change {
    fn to(kept: Vec<u8>) -> Self {
        match HeaderValue::try_from(kept) {
            Ok(value) if !value.is_empty() => Self::To(value),
            _ => Self::Remove,
        }
    }
}

/// The name of a pair, and its value if it has a `=`.
fn split(pair: &[u8]) -> (&[u8], Option<&[u8]>) {
    match pair.iter().position(|byte| *byte == b'=') {
        Some(at) => (
            pair[..at].trim_ascii_end(),
            Some(pair[at + 1..].trim_ascii_start()),
        ),
        None => (pair, None),
    }
}

/// `text` without separators at its ends.
fn trim(mut text: &[u8]) -> &[u8] {
    let separates = |byte: &u8| *byte == b';' || byte.is_ascii_whitespace();
    while let [first, rest @ ..] = text
        && separates(first)
    {
        text = rest;
    }
    while let [rest @ .., last] = text
        && separates(last)
    {
        text = rest;
    }
    text
}

impl<'a> Pairs<'a> {
    fn of(whole: &'a [u8]) -> Self {
        Self { whole, at: 0 }
    }
}

impl<'a> Iterator for Pairs<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while self.at < self.whole.len() {
            let begin = self.at;
            let rest = &self.whole[begin..];
            let length = memchr::memchr(b';', rest).unwrap_or(rest.len());
            self.at = begin + length + 1;
            let pair = rest[..length].trim_ascii();
            if !pair.is_empty() {
                return Some(pair);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(COOKIE, value.parse().unwrap());
        }
        headers
    }

    fn find<'a>(headers: &'a HeaderMap, wanted: &str) -> Lookup<'a> {
        let mut found = Lookup::default();
        Cookies::new(headers).each(|name, value| {
            if name == wanted.as_bytes() {
                found.see(value);
            }
        });
        found
    }

    fn to(value: &str) -> Change {
        Change::To(value.parse().unwrap())
    }

    #[test]
    fn a_cookie_is_found_wherever_it_stands() {
        let headers = headers(&["a=1; b=2;bb=x", " c = 3;;d=4=5;e"]);
        assert_eq!(find(&headers, "a"), Lookup::One(b"1"));
        assert_eq!(find(&headers, "b"), Lookup::One(b"2"));
        assert_eq!(find(&headers, "c"), Lookup::One(b"3"));
        assert_eq!(find(&headers, "d"), Lookup::One(b"4=5"));
        assert_eq!(find(&headers, "A"), Lookup::Absent);
        assert_eq!(find(&headers, "e"), Lookup::Absent);
    }

    #[test]
    fn two_values_for_one_name_are_ambiguous() {
        assert_eq!(find(&headers(&["a=1; a=2"]), "a"), Lookup::Ambiguous);
        assert_eq!(find(&headers(&["a=1; a=2; a=2"]), "a"), Lookup::Ambiguous);
        assert_eq!(find(&headers(&["a=1", "a=1"]), "a"), Lookup::One(b"1"));
    }

    #[test]
    fn retain_keeps_order_and_joins_what_came_in_several_headers() {
        let headers = headers(&["a=1; b=2", "c=3; flag"]);
        let cookies = Cookies::new(&headers);
        assert_eq!(cookies.retain(|name| name != b"b"), to("a=1; c=3; flag"));
        assert_eq!(cookies.retain(|_| false), Change::Remove);
        assert_eq!(cookies.retain(|_| true), to("a=1; b=2; c=3; flag"));
        assert_eq!(cookies.retain(|name| name == b"flag"), to("flag"));
    }

    #[test]
    fn cutting_one_out_leaves_the_others_as_they_are() {
        for (whole, left) in [
            ("a=1; v=x; b=2", to("a=1; b=2")),
            ("v=x; b=2;c=3", to("b=2;c=3")),
            ("a=1;v=x", to("a=1")),
            ("a=1; v", to("a=1")),
            ("v=x", Change::Remove),
            (";; v = x ; ;", Change::Remove),
            ("v=x; a=1; v=x", to("a=1")),
            ("a=1; vv=x; w=v", Change::None),
            ("v-recovery=y; a=1; v=x", to("a=1")),
            ("v=x; v-recovery=y; v-recover=1", to("v-recover=1")),
            ("v-recovery=y", Change::Remove),
        ] {
            let headers = headers(&[whole]);
            assert_eq!(
                Cookies::new(&headers).without_ours(&Finder::new("v")),
                left,
                "{whole}"
            );
        }
        assert_eq!(
            Cookies::new(&headers(&[])).without_ours(&Finder::new("v")),
            Change::None
        );
    }

    /// What is left after a change, pair by pair.
    fn pairs_after(change: &Change, before: &HeaderMap) -> Vec<Vec<u8>> {
        let after = match change {
            Change::None => before.clone(),
            Change::To(value) => HeaderMap::from_iter([(COOKIE, value.clone())]),
            Change::Remove => HeaderMap::new(),
        };
        let fields = after.get_all(COOKIE).iter();
        fields
            .flat_map(|field| Pairs::of(field.as_bytes()))
            .map(<[u8]>::to_vec)
            .collect()
    }

    proptest! {
        /// The short way gives what the long way gives, for any spelling of any cookies.
        #[test]
        fn cutting_one_out_is_keeping_all_others(
            fields in proptest::collection::vec("([;= \\t]|v|v=1|v-recovery=1|a|b=2; |; ?){0,12}", 0..3)
        ) {
            let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
            let headers = headers(&fields);
            let cookies = Cookies::new(&headers);
            let cut = pairs_after(&cookies.without_ours(&Finder::new("v")), &headers);
            let kept = pairs_after(&cookies.retain(|name| !is_ours(name, b"v")), &headers);
            prop_assert_eq!(&cut, &kept);
            prop_assert!(cut.iter().all(|pair| !is_ours(split(pair).0, b"v")));
        }
    }
}
