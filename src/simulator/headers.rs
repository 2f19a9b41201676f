//! PURE. Which credentials a request presents.
//!
//! As strict as the worst server: `_` in a header name is the same as `-` (CGI style), and repeated headers are joined into
//! one value, which then is no good. The vendor's cookies beat every header.

use std::borrow::Cow;

use http::{HeaderMap, header};

use super::config::SimulatorConfig;

/// Cookies whose presence makes Dressipi ignore authentication headers.
const TOKEN_COOKIES: [&str; 2] = ["drsp", "dressipi_jwt"];

/// The access token that Dressipi would go by, and no other.
pub(super) fn presented_token(headers: &HeaderMap) -> Option<Cow<'_, str>> {
    if let Some(token) = TOKEN_COOKIES.iter().find_map(|name| cookie(headers, name)) {
        return Some(Cow::Borrowed(token));
    }
    value(headers, "x-dressipi-jwt").or_else(|| match value(headers, "authorization")? {
        Cow::Borrowed(text) => bearer(text).map(Cow::Borrowed),
        Cow::Owned(text) => bearer(&text).map(|token| Cow::Owned(token.to_owned())),
    })
}

/// Whether the API key, or its absence, is acceptable.
pub(super) fn api_key_passes(headers: &HeaderMap, config: &SimulatorConfig) -> bool {
    match (&config.api_key, value(headers, "x-api-key")) {
        (None, _) => true,
        (Some(expected), Some(presented)) => *expected == *presented,
        (Some(_), None) => !config.require_api_key,
    }
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then_some(token.trim())
}

/// The value of a header in any spelling; several are joined by commas.
fn value<'a>(headers: &'a HeaderMap, name: &str) -> Option<Cow<'a, str>> {
    let same = |other: &str| {
        other.len() == name.len()
            && other
                .bytes()
                .zip(name.bytes())
                .all(|(a, b)| a == b || (a, b) == (b'_', b'-'))
    };
    let found = headers.iter().filter(|(other, _)| same(other.as_str()));
    found
        .map(|(_, value)| String::from_utf8_lossy(value.as_bytes()))
        .reduce(|all, next| Cow::Owned(format!("{all}, {next}")))
}

fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|line| line.to_str().ok());
    let mut pairs = lines
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='));
    pairs
        .find(|(other, _)| *other == name)
        .map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test may panic")]
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn token(pairs: &[(&'static str, &'static str)]) -> Option<String> {
        presented_token(&headers(pairs)).map(Cow::into_owned)
    }

    #[test]
    fn a_vendor_cookie_beats_the_headers_even_when_it_is_garbage() {
        assert_eq!(
            token(&[("x-dressipi-jwt", "h"), ("cookie", "a=b; drsp=c")]).unwrap(),
            "c"
        );
        assert_eq!(
            token(&[("authorization", "Bearer h"), ("cookie", "dressipi_jwt=")]).unwrap(),
            ""
        );
        assert_eq!(
            token(&[("x-dressipi-jwt", "h"), ("cookie", "xdrsp=c; a=drsp=c")]).unwrap(),
            "h"
        );
    }

    #[test]
    fn a_token_comes_in_its_header_or_as_a_bearer() {
        assert_eq!(
            token(&[("x-dressipi-jwt", "h"), ("authorization", "Bearer b")]).unwrap(),
            "h"
        );
        assert_eq!(token(&[("authorization", "bearer b")]).unwrap(), "b");
        assert_eq!(token(&[("authorization", "Basic b")]), None);
        assert_eq!(token(&[]), None);
    }

    #[test]
    fn a_smuggled_second_spelling_spoils_the_first() {
        assert_eq!(
            token(&[("x-dressipi-jwt", "a"), ("x_dressipi_jwt", "b")]).unwrap(),
            "a, b"
        );
        assert_eq!(token(&[("x_dressipi-jwt", "b")]).unwrap(), "b");
    }

    #[test]
    fn a_wrong_api_key_fails_and_a_missing_one_by_choice() {
        let mut config = SimulatorConfig::default();
        assert!(api_key_passes(
            &headers(&[("x-api-key", "demo-api-key")]),
            &config
        ));
        assert!(!api_key_passes(
            &headers(&[("x-api-key", "wrong")]),
            &config
        ));
        assert!(api_key_passes(&headers(&[]), &config));
        config.require_api_key = true;
        assert!(!api_key_passes(&headers(&[]), &config));
        config.api_key = None;
        assert!(api_key_passes(&headers(&[("x-api-key", "wrong")]), &config));
    }
}
