//! Whether a visitor agrees to be known.

use http::{HeaderMap, HeaderName};

use super::cookie::{CookieJar, is_ours};
use super::cookies::{Cookies, Lookup, Place};
use super::rules::{ConsentPlace, ConsentRules};

/// The cookies that decide who a visitor is, as one pass over a request finds them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen<'a> {
    /// Whether a cookie says that the visitor opted out.
    pub opt_out: bool,
    /// The consent cookie, where the shop asks for one.
    pub consent: Lookup<'a>,
    /// The visitor cookie.
    pub visitor: Lookup<'a>,
    /// The recovery cookie.
    pub recovery: Lookup<'a>,
    /// Where the visitor cookie stands, if it is the only one of ours.
    pub place: Option<Place>,
}

/// What the request says of consent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consent {
    /// Nothing stands against a profile.
    Given,
    /// The consent that the shop asks for is not there (yet): nothing is made and nothing used, and what is stored stays.
    Missing,
    /// The visitor opted out: no profile is made, none is used, and what is stored is removed.
    Refused,
}

/// Global Privacy Control.
const GPC: HeaderName = HeaderName::from_static("sec-gpc");

impl<'a> Seen<'a> {
    /// Looks through the cookies in `headers`.
    pub fn in_headers(headers: &'a HeaderMap, rules: &ConsentRules, jar: &CookieJar) -> Self {
        let mut seen = Self::default();
        let visitor = jar.name().as_bytes();
        let recovery = jar.recovery_name().is_some();
        let consent_cookie = rules.cookie();
        seen.place = Cookies::new(headers).each(|name, value| {
            let ours = is_ours(name, visitor);
            let Some(value) = value else {
                return ours;
            };
            if ours && name.len() == visitor.len() {
                seen.visitor.see(value);
            } else if ours && recovery {
                seen.recovery.see(value);
            }
            let is_name = |listed: &String| listed.as_bytes() == name;
            seen.opt_out |= rules.opt_out_cookies.iter().any(is_name);
            if consent_cookie.is_some_and(|wanted| wanted.as_bytes() == name) {
                seen.consent.see(value);
            }
            ours
        });
        seen
    }
}

/// Reads consent from a request's headers and the cookies `seen` in them.
pub fn consent(headers: &HeaderMap, seen: &Seen<'_>, rules: &ConsentRules) -> Consent {
    if seen.opt_out {
        return Consent::Refused;
    }
    if rules.honour_gpc && headers.get(&GPC).is_some_and(|value| value == "1") {
        return Consent::Refused;
    }
    let Some(required) = &rules.required else {
        return Consent::Given;
    };
    let found = match &required.place {
        ConsentPlace::Cookie(_) => seen.consent,
        ConsentPlace::Header(name) => {
            let mut found = Lookup::Absent;
            let values = headers.get_all(name).iter();
            values.for_each(|value| found.see(value.as_bytes()));
            found
        }
    };
    let Lookup::One(value) = found else {
        return Consent::Missing;
    };
    let refused = required.refused.as_ref();
    if refused.is_some_and(|pattern| pattern.matches(value)) {
        return Consent::Refused;
    }
    let given = match &required.given {
        Some(pattern) => pattern.matches(value),
        None => !value.is_empty(),
    };
    if given {
        Consent::Given
    } else {
        Consent::Missing
    }
}

#[cfg(test)]
mod tests {
    use super::super::pattern::ValuePattern;
    use super::super::rules::{CookieSettings, RequiredConsent};
    use super::*;

    fn jar(recovery: bool) -> CookieJar {
        let settings = CookieSettings {
            name: "v".into(),
            recovery,
            ..CookieSettings::default()
        };
        CookieJar::new(settings, Vec::new())
    }

    fn consent(headers: &HeaderMap, rules: &ConsentRules) -> Consent {
        super::consent(
            headers,
            &Seen::in_headers(headers, rules, &jar(false)),
            rules,
        )
    }

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
            required: Some(RequiredConsent {
                place: ConsentPlace::Cookie("consent".into()),
                given: value.map(ValuePattern::new),
                refused: None,
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

    #[test]
    fn invariant_9_a_value_gives_consent_refuses_it_or_is_no_answer_yet() {
        let places = [
            (ConsentPlace::Cookie("OptanonConsent".into()), "cookie"),
            (
                ConsentPlace::Header(HeaderName::from_static("x-consent")),
                "x-consent",
            ),
        ];
        for (place, name) in places {
            let rules = ConsentRules {
                required: Some(RequiredConsent {
                    place,
                    given: Some(ValuePattern::new("*C0003:1*")),
                    refused: Some(ValuePattern::new("*C0003:0*")),
                }),
                ..ConsentRules::default()
            };
            let says = |values: &[&str]| {
                let prefix = if name == "cookie" {
                    "OptanonConsent="
                } else {
                    ""
                };
                let mut headers = HeaderMap::new();
                for value in values {
                    let value = format!("{prefix}{value}").parse().unwrap();
                    headers.append(name.parse::<HeaderName>().unwrap(), value);
                }
                consent(&headers, &rules)
            };
            let (yes, no) = (
                "groups=C0001%3A1%2CC0003%3A1",
                "groups=C0001%3A1%2CC0003%3A0",
            );
            assert_eq!(says(&[yes]), Consent::Given);
            assert_eq!(says(&[no]), Consent::Refused);
            assert_eq!(says(&["C0003:1,C0003:0"]), Consent::Refused, "a no is a no");
            for unanswered in [
                &["groups=C0001%3A1"][..],
                &[""],
                &[],
                &[yes, yes],
                &[no, yes],
            ] {
                assert_eq!(says(unanswered), Consent::Missing, "{unanswered:?}");
            }
        }
    }

    #[test]
    fn one_cookie_may_be_several_things() {
        let rules = ConsentRules {
            opt_out_cookies: vec!["dnt".into()],
            required: Some(RequiredConsent {
                place: ConsentPlace::Cookie("v".into()),
                given: None,
                refused: None,
            }),
            honour_gpc: true,
        };
        let headers = headers(&[("cookie", "v=1; dnt")]);
        let seen = Seen::in_headers(&headers, &rules, &jar(false));
        let one = Lookup::One(&b"1"[..]);
        assert_eq!(
            (seen.visitor, seen.consent, seen.opt_out),
            (one, one, false)
        );
    }

    #[test]
    fn the_recovery_cookie_is_seen_where_there_is_one() {
        let headers = headers(&[("cookie", "v=1; v-recovery=2")]);
        for (switch, found) in [(true, Lookup::One(&b"2"[..])), (false, Lookup::Absent)] {
            let seen = Seen::in_headers(&headers, &ConsentRules::default(), &jar(switch));
            assert_eq!(seen.recovery, found);
        }
    }
}
