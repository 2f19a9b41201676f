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
    /// Several: nobody can say which one is meant.
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

/// Where a cookie stands in the one `Cookie` header of a request: what was found once need not be searched again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    begin: usize,
    end: usize,
}

/// `name=value` pairs, trimmed, in the order in which they stand.
struct Pairs<'a> {
    whole: &'a [u8],
    /// Where the last one began.
    begin: usize,
    /// Where the rest begins.
    at: usize,
}

impl<'a> Cookies<'a> {
    /// The cookies in `headers`.
    pub fn new(headers: &'a HeaderMap) -> Self {
        Self(headers)
    }

    /// Shows every cookie, with its name in just this spelling and its value if it has one, to `see`. Says where the last one
    /// stands for which that returned true, if it is the only one and in the only `Cookie` header.
    pub fn each(&self, mut see: impl FnMut(&'a [u8], Option<&'a [u8]>) -> bool) -> Option<Place> {
        let (mut fields, mut found, mut place) = (0, 0, None);
        for field in self.0.get_all(COOKIE) {
            fields += 1;
            let mut pairs = Pairs::of(field.as_bytes());
            while let Some(pair) = pairs.next() {
                let (name, value) = split(pair);
                if see(name, value) {
                    found += 1;
                    place = Some(pairs.place());
                }
            }
        }
        place.filter(|_| (fields, found) == (1, 1))
    }

    /// The cookie called `name`.
    pub fn find(&self, name: &[u8]) -> Lookup<'a> {
        let mut found = Lookup::Absent;
        self.each(|other, value| {
            if other == name
                && let Some(value) = value
            {
                found.see(value);
            }
            false
        });
        found
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
            _ => return self.without_all(name),
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
        match alone {
            true => cut(before, after),
            false => self.without_all(name),
        }
    }

    fn without_all(&self, name: &Finder<'_>) -> Change {
        self.retain(|other| !is_ours(other, name.needle()))
    }
}

impl Place {
    /// `field` without the cookie that stands here; `None` where that is not one called `name`.
    pub fn cut_from(self, field: &HeaderValue, name: &[u8]) -> Option<Change> {
        let field = field.as_bytes();
        let pair = field.get(self.begin..self.end)?.trim_ascii();
        let called = pair.strip_prefix(name)?.trim_ascii_start();
        matches!(called.first(), None | Some(b'='))
            .then(|| cut(&field[..self.begin], &field[self.end..]))
    }
}

impl<'a> Lookup<'a> {
    /// Another cookie of that name.
    pub fn see(&mut self, value: &'a [u8]) {
        *self = match self {
            Self::Absent => Self::One(value),
            Self::One(_) | Self::Ambiguous => Self::Ambiguous,
        };
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

/// What is left when something is cut out from between `before` and `after`.
fn cut(before: &[u8], after: &[u8]) -> Change {
    Change::to(match (trim(before), trim(after)) {
        ([], one) | (one, []) => one.to_vec(),
        (before, after) => [before, b"; ", after].concat(),
    })
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
        Self {
            whole,
            begin: 0,
            at: 0,
        }
    }

    /// Where the last one stands, with the space around it.
    fn place(&self) -> Place {
        Place {
            begin: self.begin,
            end: self.at - 1,
        }
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
                self.begin = begin;
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
        Cookies::new(headers).find(wanted.as_bytes())
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
    fn a_cookie_that_is_there_twice_is_ambiguous() {
        assert_eq!(find(&headers(&["a=1; a=2"]), "a"), Lookup::Ambiguous);
        assert_eq!(find(&headers(&["a=1; a=2; a=2"]), "a"), Lookup::Ambiguous);
        assert_eq!(find(&headers(&["a=1", "a=1"]), "a"), Lookup::Ambiguous);
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

    #[test]
    fn only_the_only_cookie_of_a_name_in_the_only_header_has_a_place() {
        for (fields, has_place) in [
            (&["a=1; v=x; b=2"][..], true),
            (&["v"], true),
            (&["v=x; v=x"], false),
            (&["v=x; v"], false),
            (&["v=x", "a=1"], false),
            (&["a=1"], false),
            (&[], false),
        ] {
            let place = Cookies::new(&headers(fields)).each(|name, _| name == b"v");
            assert_eq!(place.is_some(), has_place, "{fields:?}");
        }
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
            if let Some(place) = cookies.each(|name, _| is_ours(name, b"v")) {
                let other = headers[COOKIE].to_str().unwrap().contains("v-recovery");
                match place.cut_from(&headers[COOKIE], b"v") {
                    Some(change) => prop_assert_eq!(&pairs_after(&change, &headers), &kept),
                    None => prop_assert!(other),
                }
                prop_assert_eq!(place.cut_from(&headers[COOKIE], b"a"), None);
                prop_assert_eq!(place.cut_from(&HeaderValue::from_static("v"), b"vv"), None);
            }
            prop_assert!(cut.iter().all(|pair| !is_ours(split(pair).0, b"v")));
        }
    }
}
