//! PURE: who asks, and whether they may have a profile.

use http::HeaderMap;

use super::snapshot::VisitorRules;
use crate::clock::Timestamp;
use crate::session::{Marker, Unavailable};
use crate::visitor::{
    Arrival, Consent, Issued, KnownVisitor, Lookup, Namespace, Place, Seen, VisitorId, VisitorKey,
    VisitorSource, Withheld, app_cookie_id, consent, header_id, is_no_person,
};

/// What a request says about its visitor.
#[derive(Debug)]
pub(super) enum Identity {
    /// A visitor.
    Visitor {
        key: VisitorKey,
        arrival: Arrival,
        /// The `Set-Cookie` value that introduces a new visitor, or lets a known one live on.
        set_cookie: Option<String>,
        /// Where the visitor cookie stands that was read.
        place: Option<Place>,
        /// What the recovery cookie is about, for visitors who have one.
        carries: Option<Carries>,
    },
    /// Nobody whom the sidecar keeps apart.
    Nobody(AnonymousReason),
    /// A visitor who opted out.
    OptedOut {
        /// Under which keys they may be known, by any of the sources.
        forget: Vec<VisitorKey>,
        /// Whether the browser has cookies of ours.
        has_cookies: bool,
    },
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
    /// The visitor has no profile, and this request may not make one.
    Withheld(Withheld),
    /// There is a visitor, but no usable token.
    Unavailable(Unavailable),
}

/// Where a request may say who its visitor is.
#[derive(Clone, Copy)]
pub(super) struct Trust<'a> {
    /// The sources, in order.
    pub(super) sources: &'a [VisitorSource],
    /// Whether the peer at the other end of the connection may name visitors in a header.
    pub(super) vouches: &'a dyn Fn() -> bool,
}

/// Reads the identity from `headers`. `random` makes the id of a new visitor.
pub(super) fn identify(
    headers: &HeaderMap,
    trust: Trust<'_>,
    rules: &VisitorRules,
    now: Timestamp,
    random: impl FnOnce() -> Option<[u8; 16]>,
) -> Identity {
    let seen = Seen::in_headers(headers, &rules.consent, &rules.jar);
    match consent(headers, &seen, &rules.consent) {
        Consent::Given => {}
        Consent::Missing => return Identity::Nobody(AnonymousReason::NoConsent),
        Consent::Refused => {
            let known = all_known(headers, &seen, trust, rules, now);
            return Identity::OptedOut {
                forget: known.map(|known| known.key).collect(),
                has_cookies: (seen.visitor, seen.recovery) != (Lookup::Absent, Lookup::Absent),
            };
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
    let known = all_known(headers, &seen, trust, rules, now).next();
    if let Some(known) = known {
        let renewal = known.id.zip(known.renewal);
        return Identity::Visitor {
            key: known.key,
            arrival: known.arrival,
            set_cookie: renewal.and_then(|(id, issued)| rules.jar.renew(id, issued, now)),
            place: seen.place,
            carries: known.id.and_then(carries),
        };
    }
    let mints = trust.sources.contains(&VisitorSource::Cookie);
    if !mints {
        return Identity::Nobody(AnonymousReason::NoVisitor);
    }
    if let Some(withheld) = is_no_person(headers, &rules.creation) {
        return Identity::Nobody(AnonymousReason::Withheld(withheld));
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
    /// How old the cookie is, if it is due to be set anew.
    renewal: Option<Issued>,
}

/// The visitors whom the sources name, in their order: the first one counts.
fn all_known<'a>(
    headers: &'a HeaderMap,
    seen: &'a Seen<'_>,
    trust: Trust<'a>,
    rules: &'a VisitorRules,
    now: Timestamp,
) -> impl Iterator<Item = Known> + 'a {
    let outside = move |namespace, id, arrival| Known {
        key: rules.identity_key.visitor_key(namespace, id),
        arrival,
        id: None,
        renewal: None,
    };
    trust.sources.iter().filter_map(move |source| match source {
        VisitorSource::Cookie => {
            let Lookup::One(value) = seen.visitor else {
                return None;
            };
            let KnownVisitor { key, id, renewal } =
                rules
                    .known
                    .visitor(value, now, &rules.jar, &rules.identity_key)?;
            Some(Known {
                key,
                arrival: Arrival::Returning,
                id: Some(id),
                renewal,
            })
        }
        VisitorSource::Header(name) => {
            let id = header_id(headers, name)?;
            (trust.vouches)().then(|| outside(Namespace::Header, id, Arrival::Vouched))
        }
        VisitorSource::AppCookie(name) => {
            let id = app_cookie_id(headers, name)?;
            Some(outside(Namespace::AppCookie, id, Arrival::Returning))
        }
    })
}

// === impl AnonymousReason ===

impl AnonymousReason {
    /// All the words.
    pub(super) fn labels() -> impl Iterator<Item = &'static str> {
        let own = [Self::OptOut, Self::NoConsent, Self::NoVisitor].map(Self::label);
        let withheld = Withheld::ALL.map(Withheld::label);
        let unavailable = Unavailable::ALL.map(Unavailable::label);
        own.into_iter().chain(withheld).chain(unavailable)
    }

    /// The word for metrics and for the `Dressipi-Sidecar` response header.
    pub fn label(self) -> &'static str {
        match self {
            Self::OptOut => "opt-out",
            Self::NoConsent => "no-consent",
            Self::NoVisitor => "no-visitor",
            Self::Withheld(reason) => reason.label(),
            Self::Unavailable(reason) => reason.label(),
        }
    }

    /// Whether a route that rejects calls without a token rejects this one: not where the visitor or the operator wanted
    /// it to be anonymous.
    pub(super) fn is_failure(self) -> bool {
        match self {
            Self::OptOut | Self::NoConsent | Self::NoVisitor | Self::Withheld(_) => false,
            Self::Unavailable(reason) => !matches!(
                reason,
                Unavailable::NotCreated
                    | Unavailable::Limited(_)
                    | Unavailable::CreationsBusy
                    | Unavailable::Lost
                    | Unavailable::Erased
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::HeaderName;
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

    fn by(
        sources: &[VisitorSource],
        vouches: bool,
        headers: &HeaderMap,
        now: Timestamp,
    ) -> Identity {
        let vouches = &|| vouches;
        let trust = Trust { sources, vouches };
        identify(headers, trust, &rules(), now, || Some([5; 16]))
    }

    fn by_cookie(pairs: &[(&str, &str)]) -> Identity {
        by(&[VisitorSource::Cookie], false, &headers(pairs), NOW)
    }

    fn header() -> VisitorSource {
        VisitorSource::Header(HeaderName::from_static("x-visitor-id"))
    }

    fn by_header(pairs: &[(&str, &str)]) -> Identity {
        by(&[header()], true, &headers(pairs), NOW)
    }

    fn key_of(identity: &Identity) -> VisitorKey {
        match identity {
            Identity::Visitor { key, .. } => *key,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_header_of_a_peer_who_may_not_name_visitors_is_as_none() {
        let headers = headers(&[("x-visitor-id", "42")]);
        assert!(matches!(
            by(&[header()], false, &headers, NOW),
            Identity::Nobody(AnonymousReason::NoVisitor)
        ));
        let minted = by(&[header(), VisitorSource::Cookie], false, &headers, NOW);
        assert!(matches!(
            minted,
            Identity::Visitor {
                arrival: Arrival::New,
                ..
            }
        ));
    }

    #[test]
    fn the_first_source_that_names_a_visitor_wins_and_each_has_a_namespace_of_its_own() {
        let id = "0123456789abcdef";
        let app_cookie = VisitorSource::AppCookie("sid".into());
        let (_, ours) = minted();
        let headers = headers(&[
            ("x-visitor-id", id),
            ("cookie", &format!("sid={id}; {ours}")),
        ]);
        let one = |source: VisitorSource| key_of(&by(&[source], true, &headers, NOW));
        let keys = [header(), app_cookie.clone(), VisitorSource::Cookie].map(one);
        assert!(keys[0] != keys[1] && keys[0] != keys[2] && keys[1] != keys[2]);
        let all = [app_cookie, VisitorSource::Cookie, header()];
        assert_eq!(key_of(&by(&all, true, &headers, NOW)), keys[1]);
        let guessable = self::headers(&[("x-visitor-id", id), ("cookie", "sid=deleted")]);
        assert_eq!(key_of(&by(&all, true, &guessable, NOW)), keys[0]);
    }

    #[test]
    fn a_cookie_past_a_part_of_its_idle_life_is_set_anew_for_the_same_visitor() {
        let (key, cookie) = minted();
        let headers = headers(&[("cookie", &cookie)]);
        let at = |days: u64| NOW + std::time::Duration::from_secs(days * 24 * 3600);
        for (days, renewed) in [(39, false), (40, true), (400, true)] {
            match by(&[VisitorSource::Cookie], false, &headers, at(days)) {
                Identity::Visitor {
                    key: again,
                    arrival: Arrival::Returning,
                    set_cookie,
                    ..
                } => assert_eq!((again, set_cookie.is_some()), (key, renewed)),
                other => panic!("{other:?}"),
            }
        }
        assert!(matches!(
            by(&[VisitorSource::Cookie], false, &headers, at(401)),
            Identity::Visitor {
                arrival: Arrival::New,
                ..
            }
        ));
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
            Identity::OptedOut {
                has_cookies: false,
                ..
            }
        ));
        match by_cookie(&[("cookie", &format!("{cookie}; dressipi_dnt=1"))]) {
            Identity::OptedOut {
                forget,
                has_cookies: true,
            } => assert_eq!(forget, [key]),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn invariant_9_bots_get_no_cookie() {
        let bot = HeaderMap::from_iter([(http::header::USER_AGENT, "Googlebot".parse().unwrap())]);
        let identity = by(&[VisitorSource::Cookie], false, &bot, NOW);
        assert!(matches!(
            identity,
            Identity::Nobody(AnonymousReason::Withheld(Withheld::Bot))
        ));
    }
}
