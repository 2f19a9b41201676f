//! PURE: who asks, and whether they may have a profile.

use http::{HeaderMap, HeaderName};

use super::snapshot::VisitorRules;
use crate::clock::Timestamp;
use crate::session::{Marker, Unavailable};
use crate::visitor::{
    Arrival, Consent, KnownVisitor, Lookup, Namespace, Place, Seen, VisitorId, VisitorKey,
    VisitorSource, consent, is_bot,
};

/// What a request says about its visitor.
#[derive(Debug)]
pub(super) enum Identity {
    /// A visitor.
    Visitor {
        key: VisitorKey,
        arrival: Arrival,
        /// The `Set-Cookie` value that introduces a new visitor.
        set_cookie: Option<String>,
        /// Where the visitor cookie stands that was read.
        place: Option<Place>,
        /// What the recovery cookie is about, for visitors who have one.
        carries: Option<Carries>,
    },
    /// Nobody whom the sidecar keeps apart.
    Nobody(AnonymousReason),
    /// A visitor who opted out, with the key of what is to be forgotten, if there is anything.
    OptedOut { forget: Option<VisitorKey> },
}

/// What a visitor carries in the recovery cookie.
#[derive(Clone, Copy, Debug)]
pub(super) struct Carries {
    /// Whom it must be sealed for.
    pub(super) id: VisitorId,
    /// Which token set is in it, if there is a cookie.
    pub(super) marker: Option<Marker>,
}

/// Why a call goes without a visitor's token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AnonymousReason {
    /// The visitor opted out.
    OptOut,
    /// The consent that the shop asks for is missing.
    NoConsent,
    /// The request names no visitor, and none may be minted for it.
    NoVisitor,
    /// There is a visitor, but no usable token.
    Unavailable(Unavailable),
}

/// The longest id that a header may name: longer ones are no ids.
const MAX_HEADER_ID: usize = 256;

/// Reads the identity from `headers`. `random` makes the id of a new visitor.
pub(super) fn identify(
    headers: &HeaderMap,
    sources: &[VisitorSource],
    rules: &VisitorRules,
    now: Timestamp,
    random: impl FnOnce() -> Option<[u8; 16]>,
) -> Identity {
    let seen = Seen::in_headers(headers, &rules.consent, &rules.jar);
    match consent(headers, &seen, &rules.consent) {
        Consent::Given => {}
        Consent::Missing => return Identity::Nobody(AnonymousReason::NoConsent),
        Consent::Refused => {
            let forget = known(headers, &seen, sources, rules, now).map(|known| known.key);
            return Identity::OptedOut { forget };
        }
    }
    let carries = |id| {
        rules.jar.recovery_name().map(|_| Carries {
            id,
            marker: match seen.recovery {
                Lookup::One(value) => Marker::of_value(value),
                _ => None,
            },
        })
    };
    if let Some(known) = known(headers, &seen, sources, rules, now) {
        return Identity::Visitor {
            key: known.key,
            arrival: known.arrival,
            set_cookie: None,
            place: seen.place,
            carries: known.id.and_then(carries),
        };
    }
    let mints = sources.contains(&VisitorSource::Cookie);
    if !mints || (rules.creation.exclude_bots && is_bot(headers, &rules.creation.extra_bots)) {
        return Identity::Nobody(AnonymousReason::NoVisitor);
    }
    match random().and_then(|random| rules.jar.mint(random, now)) {
        Some(minted) => Identity::Visitor {
            key: rules
                .identity_key
                .visitor_key(Namespace::Minted, minted.id.as_bytes()),
            arrival: Arrival::New,
            set_cookie: Some(minted.set_cookie),
            place: None,
            carries: carries(minted.id),
        },
        None => Identity::Nobody(AnonymousReason::Unavailable(Unavailable::Internal)),
    }
}

/// A visitor whom a request names.
struct Known {
    key: VisitorKey,
    arrival: Arrival,
    /// What the visitor cookie says, if it is that which names them.
    id: Option<VisitorId>,
}

/// The visitor whom the first source names that names one.
fn known(
    headers: &HeaderMap,
    seen: &Seen<'_>,
    sources: &[VisitorSource],
    rules: &VisitorRules,
    now: Timestamp,
) -> Option<Known> {
    sources.iter().find_map(|source| match source {
        VisitorSource::Cookie => {
            let Lookup::One(value) = seen.visitor else {
                return None;
            };
            let KnownVisitor { key, id } =
                rules
                    .known
                    .visitor(value, now, &rules.jar, &rules.identity_key)?;
            Some(Known {
                key,
                arrival: Arrival::Returning,
                id: Some(id),
            })
        }
        VisitorSource::Header(name) => {
            let id = header_id(headers, name)?;
            Some(Known {
                key: rules.identity_key.visitor_key(Namespace::Header, id),
                arrival: Arrival::Vouched,
                id: None,
            })
        }
    })
}

/// The id in a header that is there once, bounded, and visible ASCII.
fn header_id<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let mut values = headers.get_all(name).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    let id = value.as_bytes();
    let fits = !id.is_empty() && id.len() <= MAX_HEADER_ID && id.iter().all(u8::is_ascii_graphic);
    fits.then_some(id)
}

// === impl AnonymousReason ===

impl AnonymousReason {
    /// The word for metrics and for the `Dressipi-Sidecar` response header.
    pub fn label(self) -> &'static str {
        match self {
            Self::OptOut => "opt-out",
            Self::NoConsent => "no-consent",
            Self::NoVisitor => "no-visitor",
            Self::Unavailable(reason) => reason.label(),
        }
    }

    /// Whether a route that rejects calls without a token rejects this one: not where the visitor or the operator wanted
    /// it to be anonymous.
    pub(super) fn is_failure(self) -> bool {
        match self {
            Self::OptOut | Self::NoConsent | Self::NoVisitor => false,
            Self::Unavailable(reason) => !matches!(
                reason,
                Unavailable::NotCreated | Unavailable::Lost | Unavailable::Erased
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ring::hmac;

    use super::*;
    use crate::visitor::{
        ConsentRules, CookieJar, CookieSettings, CreationRules, IdentityKey, KnownCookies,
    };

    const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);
    const BROWSER: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";

    fn rules() -> VisitorRules {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &[1; 32]);
        VisitorRules {
            jar: CookieJar::new(CookieSettings::default(), vec![([1; 4], key)]),
            identity_key: Arc::new(IdentityKey::new(&[2; 32])),
            known: KnownCookies::new(),
            consent: ConsentRules::default(),
            creation: CreationRules::default(),
        }
    }

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("user-agent", BROWSER.parse().unwrap());
        for (name, value) in pairs {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        headers
    }

    fn by_cookie(pairs: &[(&str, &str)]) -> Identity {
        identify(
            &headers(pairs),
            &[VisitorSource::Cookie],
            &rules(),
            NOW,
            || Some([5; 16]),
        )
    }

    fn by_header(pairs: &[(&str, &str)]) -> Identity {
        let source = VisitorSource::Header(HeaderName::from_static("x-visitor-id"));
        identify(&headers(pairs), &[source], &rules(), NOW, || None)
    }

    fn minted() -> (VisitorKey, String) {
        match by_cookie(&[]) {
            Identity::Visitor {
                key,
                arrival: Arrival::New,
                set_cookie: Some(set_cookie),
                ..
            } => (key, set_cookie.split(';').next().unwrap().to_owned()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_minted_cookie_brings_the_same_visitor_back() {
        let (key, cookie) = minted();
        match by_cookie(&[("cookie", &cookie)]) {
            Identity::Visitor {
                key: again,
                arrival: Arrival::Returning,
                set_cookie: None,
                place: Some(_),
                carries: None,
            } => assert_eq!(again, key),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn invariant_8_a_forged_or_doubled_cookie_is_as_none() {
        let (_, cookie) = minted();
        let forged = format!("{}A", &cookie[..cookie.len() - 1]);
        let other = "__Host-dressipi-visitor=x";
        for cookies in [forged.as_str(), other, &format!("{cookie}; {other}")] {
            match by_cookie(&[("cookie", cookies)]) {
                Identity::Visitor {
                    set_cookie: Some(_),
                    ..
                } => {}
                other => panic!("{cookies}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_header_names_a_visitor_if_it_is_there_once_and_is_an_id() {
        assert!(matches!(
            by_header(&[("x-visitor-id", "42")]),
            Identity::Visitor {
                arrival: Arrival::Vouched,
                ..
            }
        ));
        let long = "x".repeat(257);
        for pairs in [
            &[][..],
            &[("x-visitor-id", "")],
            &[("x-visitor-id", "a b")],
            &[("x-visitor-id", long.as_str())],
            &[("x-visitor-id", "1"), ("x-visitor-id", "1")],
        ] {
            assert!(
                matches!(
                    by_header(pairs),
                    Identity::Nobody(AnonymousReason::NoVisitor)
                ),
                "{pairs:?}"
            );
        }
    }

    #[test]
    fn invariant_9_who_opted_out_is_nobody_and_is_forgotten() {
        let (key, cookie) = minted();
        assert!(matches!(
            by_cookie(&[("cookie", "dressipi_dnt=1")]),
            Identity::OptedOut { forget: None }
        ));
        match by_cookie(&[("cookie", &format!("{cookie}; dressipi_dnt=1"))]) {
            Identity::OptedOut {
                forget: Some(forgotten),
            } => assert_eq!(forgotten, key),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn invariant_9_bots_get_no_cookie() {
        let bot = HeaderMap::from_iter([(http::header::USER_AGENT, "Googlebot".parse().unwrap())]);
        let identity = identify(&bot, &[VisitorSource::Cookie], &rules(), NOW, || {
            Some([5; 16])
        });
        assert!(matches!(
            identity,
            Identity::Nobody(AnonymousReason::NoVisitor)
        ));
    }
}
