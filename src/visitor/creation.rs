//! When a request may make a profile for a visitor who has none.

use http::HeaderMap;
use http::header::ACCEPT;

use super::bots::{is_bot, is_probe_or_prefetch};
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

/// Whether this request may make a profile.
pub fn may_create(headers: &HeaderMap, arrival: Arrival, rules: &CreationRules) -> bool {
    if is_probe_or_prefetch(headers) {
        return false;
    }
    if arrival == Arrival::Vouched {
        return true;
    }
    if rules.exclude_bots && is_bot(headers, &rules.extra_bots) {
        return false;
    }
    match (rules.create, arrival) {
        (CreateOn::FirstRequest, _) | (_, Arrival::Returning | Arrival::Vouched) => true,
        (CreateOn::Navigation, Arrival::New) => is_navigation(headers),
        (CreateOn::Returning, Arrival::New) => false,
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
}
