//! Reads and filters `Cookie` headers (RFC 6265 §5.4) without allocating on the way.

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
    One(&'a str),
    /// Several with different values: nobody can say which one is meant.
    Ambiguous,
}

impl<'a> Cookies<'a> {
    /// The cookies in `headers`.
    pub fn new(headers: &'a HeaderMap) -> Self {
        Self(headers)
    }

    /// The cookie called `name`, in just this spelling.
    pub fn find(&self, name: &str) -> Lookup<'a> {
        let mut found = Lookup::Absent;
        for (_, value) in self.pairs().filter(|(pair_name, _)| *pair_name == name) {
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
        self.pairs().any(|(pair_name, _)| pair_name == name)
    }

    /// A `Cookie` header with only those cookies that `keep` wants; `None` where none is left. The second value says
    /// whether any was dropped at all.
    pub fn retain(&self, keep: impl Fn(&str) -> bool) -> (Option<HeaderValue>, bool) {
        let mut kept = String::new();
        let mut dropped = false;
        for pair in self.raw() {
            let name = pair.split_once('=').map_or(pair, |(name, _)| name).trim();
            if keep(name) {
                if !kept.is_empty() {
                    kept.push_str("; ");
                }
                kept.push_str(pair);
            } else {
                dropped = true;
            }
        }
        (
            HeaderValue::try_from(kept)
                .ok()
                .filter(|value| !value.is_empty()),
            dropped || self.has_unreadable(),
        )
    }

    fn pairs(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.raw().filter_map(|pair| {
            let (name, value) = pair.split_once('=')?;
            Some((name.trim(), value.trim()))
        })
    }

    fn raw(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let headers = self.0.get_all(COOKIE).iter();
        headers
            .filter_map(|value| std::str::from_utf8(value.as_bytes()).ok())
            .flat_map(|value| value.split(';'))
            .map(str::trim)
            .filter(|pair| !pair.is_empty())
    }

    /// Cookies that are no text are passed over, so they are not passed on either.
    fn has_unreadable(&self) -> bool {
        let mut headers = self.0.get_all(COOKIE).iter();
        headers.any(|value| std::str::from_utf8(value.as_bytes()).is_err())
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
        let headers = headers(&["a=1; b=2", " c = 3;;d=4=5"]);
        let cookies = Cookies::new(&headers);
        assert_eq!(cookies.find("a"), Lookup::One("1"));
        assert_eq!(cookies.find("c"), Lookup::One("3"));
        assert_eq!(cookies.find("d"), Lookup::One("4=5"));
        assert_eq!(cookies.find("A"), Lookup::Absent);
        assert!(!cookies.has("e"));
    }

    #[test]
    fn two_values_for_one_name_are_ambiguous() {
        let map = headers(&["a=1; a=2"]);
        assert_eq!(Cookies::new(&map).find("a"), Lookup::Ambiguous);
        let map = headers(&["a=1", "a=1"]);
        assert_eq!(Cookies::new(&map).find("a"), Lookup::One("1"));
    }

    #[test]
    fn retain_keeps_order_and_says_whether_anything_was_dropped() {
        let headers = headers(&["a=1; b=2", "c=3"]);
        let cookies = Cookies::new(&headers);
        assert_eq!(
            cookies.retain(|name| name != "b"),
            (Some(HeaderValue::from_static("a=1; c=3")), true)
        );
        assert_eq!(cookies.retain(|_| false), (None, true));
        assert_eq!(
            cookies.retain(|_| true),
            (Some(HeaderValue::from_static("a=1; b=2; c=3")), false)
        );
    }
}
