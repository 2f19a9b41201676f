//! Reads and filters `Cookie` headers (RFC 6265 §5.4). Every request of a known visitor comes through here, so it goes over
//! the bytes once for each question and allocates only what it hands out.

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};

/// The cookies of a request, which may lie in several headers (RFC 9113 §8.2.3).
#[derive(Clone, Copy, Debug)]
pub struct Cookies<'a>(&'a HeaderMap);

/// What a look for one cookie finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup<'a> {
    /// No cookie of that name.
    Absent,
    /// One.
    One(&'a [u8]),
    /// Several with different values: nobody can say which one is meant.
    Ambiguous,
}

/// `name=value` pairs, trimmed, in the order in which they stand.
struct Pairs<'a> {
    rest: &'a [u8],
}

impl<'a> Cookies<'a> {
    /// The cookies in `headers`.
    pub fn new(headers: &'a HeaderMap) -> Self {
        Self(headers)
    }

    /// The cookie called `name`, in just this spelling.
    pub fn find(&self, name: &str) -> Lookup<'a> {
        let mut found = Lookup::Absent;
        for pair in self.pairs() {
            let Some(value) = value_of(pair, name.as_bytes()) else {
                continue;
            };
            found = match found {
                Lookup::Absent => Lookup::One(value),
                Lookup::One(first) if first == value => Lookup::One(first),
                _ => return Lookup::Ambiguous,
            };
        }
        found
    }

    /// Whether there is a cookie called `name`.
    pub fn has(&self, name: &str) -> bool {
        self.pairs()
            .any(|pair| value_of(pair, name.as_bytes()).is_some())
    }

    /// A `Cookie` header with only those cookies whose names `keep` wants; `None` where none is left. The second value says
    /// whether any was dropped at all.
    pub fn retain(&self, keep: impl Fn(&[u8]) -> bool) -> (Option<HeaderValue>, bool) {
        let length = |value: &HeaderValue| value.len() + 2;
        let mut kept = Vec::with_capacity(self.0.get_all(COOKIE).iter().map(length).sum());
        let mut dropped = false;
        for pair in self.pairs() {
            if keep(name_of(pair)) {
                if !kept.is_empty() {
                    kept.extend_from_slice(b"; ");
                }
                kept.extend_from_slice(pair);
            } else {
                dropped = true;
            }
        }
        let kept = Some(kept).filter(|kept| !kept.is_empty());
        (
            kept.and_then(|kept| HeaderValue::try_from(kept).ok()),
            dropped,
        )
    }

    fn pairs(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let headers = self.0.get_all(COOKIE).iter();
        headers.flat_map(|value| Pairs {
            rest: value.as_bytes(),
        })
    }
}

/// The value of `pair` if it is called `name`: the name may be followed by spaces before its `=`.
fn value_of<'a>(pair: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let rest = pair.strip_prefix(name)?;
    match rest.first()? {
        b'=' => Some(rest[1..].trim_ascii_start()),
        b' ' | b'\t' => Some(
            rest.trim_ascii_start()
                .strip_prefix(b"=")?
                .trim_ascii_start(),
        ),
        _ => None,
    }
}

fn name_of(pair: &[u8]) -> &[u8] {
    let end = pair.iter().position(|byte| *byte == b'=');
    pair[..end.unwrap_or(pair.len())].trim_ascii_end()
}

impl<'a> Iterator for Pairs<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while !self.rest.is_empty() {
            let end = memchr::memchr(b';', self.rest).unwrap_or(self.rest.len());
            let pair = self.rest[..end].trim_ascii();
            self.rest = self.rest.get(end + 1..).unwrap_or_default();
            if !pair.is_empty() {
                return Some(pair);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(COOKIE, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn a_cookie_is_found_wherever_it_stands() {
        let headers = headers(&["a=1; b=2;bb=x", " c = 3;;d=4=5"]);
        let cookies = Cookies::new(&headers);
        assert_eq!(cookies.find("a"), Lookup::One(b"1"));
        assert_eq!(cookies.find("b"), Lookup::One(b"2"));
        assert_eq!(cookies.find("c"), Lookup::One(b"3"));
        assert_eq!(cookies.find("d"), Lookup::One(b"4=5"));
        assert_eq!(cookies.find("A"), Lookup::Absent);
        assert!(!cookies.has("e"));
    }

    #[test]
    fn two_values_for_one_name_are_ambiguous() {
        let map = headers(&["a=1; a=2"]);
        assert_eq!(Cookies::new(&map).find("a"), Lookup::Ambiguous);
        let map = headers(&["a=1", "a=1"]);
        assert_eq!(Cookies::new(&map).find("a"), Lookup::One(b"1"));
    }

    #[test]
    fn retain_keeps_order_and_says_whether_anything_was_dropped() {
        let headers = headers(&["a=1; b=2", "c=3; flag"]);
        let cookies = Cookies::new(&headers);
        let value = |text| Some(HeaderValue::from_static(text));
        assert_eq!(
            cookies.retain(|name| name != b"b"),
            (value("a=1; c=3; flag"), true)
        );
        assert_eq!(cookies.retain(|_| false), (None, true));
        assert_eq!(
            cookies.retain(|_| true),
            (value("a=1; b=2; c=3; flag"), false)
        );
        assert_eq!(
            cookies.retain(|name| name == b"flag"),
            (value("flag"), true)
        );
    }
}
