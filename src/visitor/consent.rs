//! Whether a visitor agrees to be known.

use http::HeaderMap;

use super::cookies::{Cookies, Lookup};
use super::rules::ConsentRules;

/// What the request says of consent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consent {
    /// Nothing stands against a profile.
    Given,
    /// The consent that the shop asks for is not there (yet).
    Missing,
    /// The visitor opted out: no profile is made, none is used, and what is stored is removed.
    Refused,
}

/// Reads consent from a request's headers.
pub fn consent(headers: &HeaderMap, rules: &ConsentRules) -> Consent {
    let cookies = Cookies::new(headers);
    if rules.opt_out_cookies.iter().any(|name| cookies.has(name)) {
        return Consent::Refused;
    }
    if rules.honour_gpc && headers.get("sec-gpc").is_some_and(|value| value == "1") {
        return Consent::Refused;
    }
    match &rules.required_cookie {
        None => Consent::Given,
        Some(required) => match (cookies.find(&required.name), &required.value) {
            (Lookup::One(value), Some(wanted)) if value == wanted.as_bytes() => Consent::Given,
            (Lookup::One(value), None) if !value.is_empty() => Consent::Given,
            _ => Consent::Missing,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::rules::RequiredCookie;
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn invariant_9_an_opt_out_cookie_or_gpc_refuses() {
        let rules = ConsentRules::default();
        assert_eq!(consent(&headers(&[]), &rules), Consent::Given);
        assert_eq!(
            consent(&headers(&[("cookie", "a=1; dressipi_dnt=1")]), &rules),
            Consent::Refused
        );
        assert_eq!(
            consent(&headers(&[("sec-gpc", "1")]), &rules),
            Consent::Refused
        );
        assert_eq!(
            consent(&headers(&[("sec-gpc", "0")]), &rules),
            Consent::Given
        );
        let deaf = ConsentRules {
            honour_gpc: false,
            ..rules
        };
        assert_eq!(
            consent(&headers(&[("sec-gpc", "1")]), &deaf),
            Consent::Given
        );
    }

    #[test]
    fn invariant_9_a_required_cookie_that_is_missing_or_different_is_no_consent() {
        let required = |value: Option<&str>| ConsentRules {
            required_cookie: Some(RequiredCookie {
                name: "consent".into(),
                value: value.map(Into::into),
            }),
            ..ConsentRules::default()
        };
        let yes = headers(&[("cookie", "consent=yes")]);
        let no = headers(&[("cookie", "consent=no")]);
        let empty = headers(&[("cookie", "consent=")]);
        assert_eq!(consent(&yes, &required(Some("yes"))), Consent::Given);
        assert_eq!(consent(&no, &required(Some("yes"))), Consent::Missing);
        assert_eq!(consent(&no, &required(None)), Consent::Given);
        assert_eq!(consent(&empty, &required(None)), Consent::Missing);
        assert_eq!(consent(&headers(&[]), &required(None)), Consent::Missing);
    }
}
