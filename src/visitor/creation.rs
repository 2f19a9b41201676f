//! When a request may make a profile for a visitor who has none.

use http::header::ACCEPT;
use http::{HeaderMap, Method};

use super::bots::{is_bot, is_prefetch, is_probe};
use super::rules::{CreateOn, CreationRules};

/// How the visitor was known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// By a cookie that was minted for this very request.
    New,
    /// By a cookie that came back.
    Returning,
    /// By a header of a trusted app, which vouches for the visitor: no browser's headers can be expected.
    Vouched,
}

/// Why a request may not make a profile, whoever sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Withheld {
    /// A crawler or a tool.
    Bot,
    /// A health probe.
    Probe,
    /// The browser fetches ahead of a visit that may never come.
    Prefetch,
    /// The method is one by which nobody visits.
    Method,
    /// `creation.create` waits for another request.
    NotYet,
}

/// Whether this request may make a profile; if not, why.
pub fn may_create(
    method: &Method,
    headers: &HeaderMap,
    arrival: Arrival,
    rules: &CreationRules,
) -> Result<(), Withheld> {
    if !visits(method) {
        return Err(Withheld::Method);
    }
    if is_prefetch(headers) {
        return Err(Withheld::Prefetch);
    }
    if is_probe(headers) {
        return Err(Withheld::Probe);
    }
    if arrival == Arrival::Vouched {
        return Ok(());
    }
    if let Some(withheld) = is_no_person(headers, rules) {
        return Err(withheld);
    }
    let may = match (rules.create, arrival) {
        (CreateOn::FirstRequest, _) | (_, Arrival::Returning | Arrival::Vouched) => true,
        (CreateOn::Navigation, Arrival::New) => is_navigation(headers),
        (CreateOn::Returning, Arrival::New) => false,
    };
    may.then_some(()).ok_or(Withheld::NotYet)
}

/// Who asks, if it is not a person: such a client is given no visitor cookie either.
pub fn is_no_person(headers: &HeaderMap, rules: &CreationRules) -> Option<Withheld> {
    if is_probe(headers) {
        return Some(Withheld::Probe);
    }
    (rules.exclude_bots && is_bot(headers, &rules.extra_bots)).then_some(Withheld::Bot)
}

/// Whether people visit by this method. Pages are fetched with `GET`, and scripts in them report with `POST`, `PUT`, `PATCH` and
/// `DELETE`, often first. `OPTIONS` is a preflight, which never brings a cookie; `HEAD` is of link checkers and monitors; the rest
/// is of nobody in a shop.
fn visits(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::POST | Method::PUT | Method::PATCH | Method::DELETE
    )
}

// === impl Withheld ===

impl Withheld {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Bot,
        Self::Probe,
        Self::Prefetch,
        Self::Method,
        Self::NotYet,
    ];

    /// The word for metrics and for the `Dressipi-Sidecar` response header.
    pub fn label(self) -> &'static str {
        match self {
            Self::Bot => "bot",
            Self::Probe => "probe",
            Self::Prefetch => "prefetch",
            Self::Method => "method",
            Self::NotYet => "not-created",
        }
    }
}

fn is_navigation(headers: &HeaderMap) -> bool {
    match headers.get("sec-fetch-mode") {
        Some(mode) => mode == "navigate",
        None => headers
            .get(ACCEPT)
            .and_then(|accept| accept.to_str().ok())
            .is_some_and(|accept| accept.contains("text/html")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BROWSER: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let agent = [("user-agent", BROWSER)];
        let pairs = agent.iter().chain(pairs);
        pairs
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect()
    }

    fn may_create(headers: &HeaderMap, arrival: Arrival, rules: &CreationRules) -> bool {
        super::may_create(&Method::GET, headers, arrival, rules).is_ok()
    }

    fn rules(create: CreateOn) -> CreationRules {
        CreationRules {
            create,
            ..CreationRules::default()
        }
    }

    #[test]
    fn each_mode_asks_for_what_it_says() {
        let plain = headers(&[]);
        let page = headers(&[("sec-fetch-mode", "navigate")]);
        let old_page = headers(&[("accept", "text/html,*/*")]);
        let fetch = headers(&[("sec-fetch-mode", "cors"), ("accept", "text/html")]);
        assert!(may_create(
            &plain,
            Arrival::New,
            &rules(CreateOn::FirstRequest)
        ));
        for (headers, expected) in [
            (&plain, false),
            (&page, true),
            (&old_page, true),
            (&fetch, false),
        ] {
            assert_eq!(
                may_create(headers, Arrival::New, &rules(CreateOn::Navigation)),
                expected
            );
        }
        assert!(!may_create(
            &page,
            Arrival::New,
            &rules(CreateOn::Returning)
        ));
        for create in [
            CreateOn::FirstRequest,
            CreateOn::Navigation,
            CreateOn::Returning,
        ] {
            assert!(may_create(&plain, Arrival::Returning, &rules(create)));
        }
    }

    #[test]
    fn invariant_9_bots_and_prefetches_create_nothing() {
        let prefetch = headers(&[("sec-purpose", "prefetch")]);
        let bot =
            HeaderMap::from_iter([(http::header::USER_AGENT, "Googlebot/2.1".parse().unwrap())]);
        let rules = rules(CreateOn::FirstRequest);
        for arrival in [Arrival::New, Arrival::Returning, Arrival::Vouched] {
            assert!(!may_create(&prefetch, arrival, &rules));
        }
        assert!(!may_create(&bot, Arrival::New, &rules));
        assert!(!may_create(&bot, Arrival::Returning, &rules));
        assert!(
            may_create(&bot, Arrival::Vouched, &rules),
            "an app's own HTTP client is no bot"
        );
    }

    #[test]
    fn invariant_9_only_methods_by_which_people_visit_create() {
        let rules = rules(CreateOn::FirstRequest);
        for (method, expected) in [
            (Method::GET, Ok(())),
            (Method::POST, Ok(())),
            (Method::DELETE, Ok(())),
            (Method::HEAD, Err(Withheld::Method)),
            (Method::OPTIONS, Err(Withheld::Method)),
            (Method::TRACE, Err(Withheld::Method)),
            (
                Method::from_bytes(b"PROPFIND").unwrap(),
                Err(Withheld::Method),
            ),
        ] {
            for arrival in [Arrival::New, Arrival::Returning, Arrival::Vouched] {
                let may = super::may_create(&method, &headers(&[]), arrival, &rules);
                assert_eq!(may, expected, "{method}");
            }
        }
    }
}
