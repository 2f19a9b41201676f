//! PURE: what is taken from requests and answers, and what is added.
//!
//! Stripping comes first and always; only then is anything injected, and a token only from an [`Authorized`].

use http::header::{
    AUTHORIZATION, CACHE_CONTROL, COOKIE, EXPIRES, HOST, PROXY_AUTHORIZATION, SET_COOKIE,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use memchr::memmem::Finder;
use pingora::http::{RequestHeader, ResponseHeader};

use super::edit::remove_all;
use super::forwarded;
use super::names::NameSet;
use crate::config::{Credentials, Route, UpstreamRef};
use crate::session::Authorized;
use crate::visitor::{Change, Cookies, Place, is_ours};

/// The vendor's cookies that make Dressipi ignore the token header.
const COOKIES_OVER_TOKEN: [&str; 2] = ["drsp", "dressipi_jwt"];

/// The names that Dressipi itself knows, whatever ours are configured to be.
const VENDOR_NAMES: [HeaderName; 2] = [
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("x-dressipi-jwt"),
];

/// Cache directives for some shared caches only, which would override `Cache-Control`.
const TARGETED_CACHE_CONTROL: [&str; 4] = [
    "surrogate-control",
    "cdn-cache-control",
    "cloudflare-cdn-cache-control",
    "edge-control",
];

/// The response header that says that a call went without the visitor's token, and why.
pub(super) const SIDECAR: HeaderName = HeaderName::from_static("dressipi-sidecar");

/// What all routes need to know of headers.
#[derive(Clone, Debug)]
pub(super) struct HeaderNames {
    pub(super) token: HeaderName,
    pub(super) api_key: HeaderName,
    pub(super) api_key_value: Option<HeaderValue>,
    pub(super) visitor_cookie: String,
    /// The headers in which apps name visitors, on any listener, and those in which they receive something of ours.
    pub(super) internal: Vec<HeaderName>,
    /// Dressipi's `Host`.
    pub(super) dressipi_host: HeaderValue,
}

/// The header rules of one route.
#[derive(Debug)]
pub(super) struct HeaderRules {
    strip: NameSet,
    strip_from_answer: NameSet,
    to_dressipi: bool,
    token: Option<HeaderName>,
    api_key: Option<(HeaderName, HeaderValue)>,
    subn: Option<HeaderName>,
    cookies: Vec<String>,
    /// Looks for the visitor cookie's name.
    visitor_cookie: Finder<'static>,
    host: Option<HeaderValue>,
}

impl HeaderRules {
    /// The rules of `route`.
    pub(super) fn new(route: &Route, names: &HeaderNames) -> Self {
        let to_dressipi = route.upstream == UpstreamRef::Dressipi;
        let with_token = route.credentials == Credentials::Visitor;
        // Where the app's own `Authorization` is no carrier of ours, it is the app's.
        let theirs = |name: &HeaderName| *name == AUTHORIZATION && !to_dressipi && !with_token;
        let ours = [names.token.clone(), names.api_key.clone()];
        let ours: Vec<_> = ours.into_iter().filter(|name| !theirs(name)).collect();
        let mut strip = ours.clone();
        strip.extend(names.internal.iter().cloned());
        if to_dressipi {
            strip.extend(VENDOR_NAMES);
            strip.extend([AUTHORIZATION, PROXY_AUTHORIZATION]);
        }
        let api_key = match route.credentials {
            Credentials::Visitor => to_dressipi,
            Credentials::ApiKey => true,
            Credentials::None => false,
        };
        Self {
            strip: NameSet::new(strip),
            strip_from_answer: NameSet::new(
                ours.into_iter()
                    .chain(names.internal.iter().cloned())
                    .chain([SIDECAR]),
            ),
            to_dressipi,
            token: with_token.then(|| names.token.clone()),
            api_key: names
                .api_key_value
                .clone()
                .filter(|_| api_key)
                .map(|value| (names.api_key.clone(), value)),
            subn: route.subn_header.clone(),
            cookies: route.cookies.clone(),
            visitor_cookie: Finder::new(&names.visitor_cookie).into_owned(),
            host: to_dressipi.then(|| names.dressipi_host.clone()),
        }
    }

    /// Whether the upstream gets another `Host` than the client asked for.
    pub(super) fn sets_host(&self) -> bool {
        self.host.is_some()
    }

    /// Takes away what the client may not send, but for cookies; what it says of where it came from is believed only if it is
    /// `trusted`. Says whether there is a `Host`. Nearly always nothing is to be taken away: one look at the names tells.
    pub(super) fn strip_request(&self, headers: &mut HeaderMap, trusted: bool) -> bool {
        let (mut found, mut host) = (false, false);
        for name in headers.keys() {
            host |= *name == HOST;
            let name = name.as_str();
            found |= self.strip.contains(name) || forwarded::is_forwarding(name);
        }
        if found {
            remove_all(headers, |name| self.strip.contains(name));
            remove_all(headers, |name| forwarded::is_stripped(name, trusted));
        }
        host
    }

    /// Takes our cookie away, which stands at `place` if that is known, and injects what the route adds.
    pub(super) fn add_to_request(
        &self,
        headers: &mut HeaderMap,
        authorized: Option<&Authorized>,
        place: Option<Place>,
    ) {
        self.filter_cookies(headers, authorized.is_some(), place);
        if let Some(host) = &self.host {
            headers.insert(HOST, host.clone());
        }
        if let Some((name, value)) = &self.api_key {
            headers.insert(name, value.clone());
        }
        if let (Some(name), Some(authorized)) = (&self.token, authorized) {
            headers.insert(name, authorized.header().clone());
            if let (Some(name), Some(subn)) = (&self.subn, authorized.subn()) {
                headers.insert(name, subn.clone());
            }
        }
    }

    fn filter_cookies(&self, headers: &mut HeaderMap, with_token: bool, place: Option<Place>) {
        if let (false, Some(place)) = (self.to_dressipi, place)
            && let Some(field) = headers.get_mut(COOKIE)
            && let Some(Change::To(value)) = place.cut_from(field, self.visitor_cookie.needle())
        {
            *field = value;
            return;
        }
        let cookies = Cookies::new(headers);
        let change = if self.to_dressipi {
            cookies.retain(|name| {
                self.cookies.iter().any(|listed| listed.as_bytes() == name)
                    && !is_ours(name, self.visitor_cookie.needle())
                    && !(with_token
                        && COOKIES_OVER_TOKEN
                            .iter()
                            .any(|over| over.as_bytes() == name))
            })
        } else {
            cookies.without_ours(&self.visitor_cookie)
        };
        match change {
            Change::None => {}
            Change::To(value) => {
                headers.insert(COOKIE, value);
            }
            Change::Remove => {
                headers.remove(COOKIE);
            }
        }
    }

    /// Strips what the client may not see.
    pub(super) fn apply_to_answer(&self, headers: &mut HeaderMap) {
        remove_all(headers, |name| self.strip_from_answer.contains(name));
        if self.to_dressipi {
            headers.remove(SET_COOKIE);
        }
    }
}

/// The host that the client asked for. HTTP/2 names it in `:authority`, which wins (RFC 9113 §8.3.1).
pub(super) fn host(request: &RequestHeader) -> Option<HeaderValue> {
    match request.uri.authority() {
        Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
        None => request.headers.get(HOST).cloned(),
    }
}

/// Adds cookies of ours, and makes sure that no shared cache keeps the answer that sets them.
pub(super) fn set_visitor_cookies<'a>(
    answer: &mut ResponseHeader,
    set_cookies: impl Iterator<Item = &'a String>,
) {
    for set_cookie in set_cookies {
        if let Ok(mut value) = HeaderValue::try_from(set_cookie) {
            value.set_sensitive(true);
            let _ = answer.append_header(SET_COOKIE, value);
            forbid_shared_caching(answer, HeaderValue::from_static("private, no-store"));
        }
    }
}

/// Keeps an answer that was made for one visitor out of shared caches.
pub(super) fn protect_personal_answer(answer: &mut ResponseHeader) {
    let mut directives = answer.headers.get_all(CACHE_CONTROL).iter();
    let protected = directives.any(|value| {
        let value = String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
        value
            .split(',')
            .any(|directive| matches!(directive.trim(), "private" | "no-store"))
    });
    if protected {
        remove_targeted_cache_control(answer);
    } else {
        forbid_shared_caching(answer, HeaderValue::from_static("private"));
    }
}

fn forbid_shared_caching(answer: &mut ResponseHeader, cache_control: HeaderValue) {
    let _ = answer.insert_header(CACHE_CONTROL, cache_control);
    answer.remove_header(&EXPIRES);
    remove_targeted_cache_control(answer);
}

fn remove_targeted_cache_control(answer: &mut ResponseHeader) {
    for name in TARGETED_CACHE_CONTROL {
        if answer.headers.contains_key(name) {
            answer.remove_header(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::OnUnavailable;

    fn names() -> HeaderNames {
        HeaderNames {
            token: HeaderName::from_static("x-dressipi-jwt"),
            api_key: HeaderName::from_static("x-api-key"),
            api_key_value: Some(HeaderValue::from_static("key")),
            visitor_cookie: "__Host-v".into(),
            internal: vec![
                HeaderName::from_static("x-visitor-id"),
                HeaderName::from_static("x-subn"),
            ],
            dressipi_host: HeaderValue::from_static("dressipi.example"),
        }
    }

    fn route(upstream: UpstreamRef, credentials: Credentials) -> Route {
        Route {
            path: "/".into(),
            upstream,
            upstream_path: None,
            credentials,
            on_unavailable: OnUnavailable::Anonymous,
            cookies: vec!["locale".into(), "drsp".into()],
            subn_header: Some(HeaderName::from_static("x-subn")),
            upgrade: true,
        }
    }

    fn hostile() -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("host", "shop.example"),
            ("X-Dressipi-JWT", "stolen"),
            ("x_dressipi_jwt", "stolen"),
            ("X-Dressipi_Jwt", "stolen"),
            ("X-API-Key", "stolen"),
            ("x_api_key", "stolen"),
            ("x-visitor-id", "somebody"),
            ("X_VISITOR_ID", "somebody"),
            ("x-subn", "somebody"),
            ("authorization", "Bearer app"),
            ("cookie", "__Host-v=secret; locale=en; drsp=1"),
            ("cookie", "cart=7"),
            ("accept", "*/*"),
        ] {
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, HeaderValue::from_static(value));
        }
        headers
    }

    fn applied(
        upstream: UpstreamRef,
        credentials: Credentials,
        authorized: Option<&Authorized>,
    ) -> HeaderMap {
        let mut headers = hostile();
        let rules = HeaderRules::new(&route(upstream, credentials), &names());
        assert!(rules.strip_request(&mut headers, false));
        rules.add_to_request(&mut headers, authorized, None);
        headers
    }

    fn listed(headers: &HeaderMap) -> Vec<(String, String)> {
        let mut listed: Vec<_> = headers
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect();
        listed.sort();
        listed
    }

    fn expected(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn invariant_7_dressipi_gets_our_headers_and_none_of_the_clients() {
        let authorized = Authorized::for_tests("token", Some("u-1"));
        let request = applied(
            UpstreamRef::Dressipi,
            Credentials::Visitor,
            Some(&authorized),
        );
        assert_eq!(
            listed(&request),
            expected(&[
                ("accept", "*/*"),
                ("cookie", "locale=en"),
                ("host", "dressipi.example"),
                ("x-api-key", "key"),
                ("x-dressipi-jwt", "token"),
                ("x-subn", "u-1"),
            ])
        );
        assert!(request["x-dressipi-jwt"].is_sensitive());
    }

    #[test]
    fn an_anonymous_call_keeps_a_listed_vendor_cookie_and_has_no_token() {
        let request = applied(UpstreamRef::Dressipi, Credentials::Visitor, None);
        assert_eq!(
            listed(&request),
            expected(&[
                ("accept", "*/*"),
                ("cookie", "locale=en; drsp=1"),
                ("host", "dressipi.example"),
                ("x-api-key", "key"),
            ])
        );
        let request = applied(UpstreamRef::Dressipi, Credentials::None, None);
        assert!(!request.contains_key("x-api-key"));
    }

    #[test]
    fn the_app_keeps_its_own_credentials_and_cookies_and_gets_no_api_key() {
        let authorized = Authorized::for_tests("token", None);
        let request = applied(UpstreamRef::App(0), Credentials::Visitor, Some(&authorized));
        assert_eq!(
            listed(&request),
            expected(&[
                ("accept", "*/*"),
                ("authorization", "Bearer app"),
                ("cookie", "locale=en; drsp=1; cart=7"),
                ("host", "shop.example"),
                ("x-dressipi-jwt", "token"),
            ])
        );
    }

    #[test]
    fn an_app_route_without_credentials_gets_nothing_of_ours_nor_of_the_clients_forgery() {
        let request = applied(UpstreamRef::App(0), Credentials::None, None);
        assert_eq!(
            listed(&request),
            expected(&[
                ("accept", "*/*"),
                ("authorization", "Bearer app"),
                ("cookie", "locale=en; drsp=1; cart=7"),
                ("host", "shop.example"),
            ])
        );
    }

    #[test]
    fn invariant_7_no_secret_and_no_vendor_cookie_comes_back() {
        let mut answer = HeaderMap::new();
        for (name, value) in [
            ("x-dressipi-jwt", "token"),
            ("X_Api_Key", "key"),
            ("set-cookie", "drsp=1"),
            ("dressipi-sidecar", "forged"),
            ("etag", "1"),
        ] {
            let name: HeaderName = name.parse().unwrap();
            answer.append(name, HeaderValue::from_static(value));
        }
        let rules = HeaderRules::new(
            &route(UpstreamRef::Dressipi, Credentials::Visitor),
            &names(),
        );
        rules.apply_to_answer(&mut answer);
        assert_eq!(listed(&answer), expected(&[("etag", "1")]));
    }

    #[test]
    fn the_visitor_cookie_goes_wherever_it_was_found() {
        let rules = HeaderRules::new(&route(UpstreamRef::App(0), Credentials::Visitor), &names());
        let is_ours = |name: &[u8], _: Option<&[u8]>| name == b"__Host-v";
        for (cookie, left) in [
            ("a=1; __Host-v=secret; b=2", Some("a=1; b=2")),
            ("__Host-v=secret", None),
            ("__Host-v=secret; __Host-v=other; b=2", Some("b=2")),
            ("b=2", Some("b=2")),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(COOKIE, HeaderValue::from_static(cookie));
            let place = Cookies::new(&headers).each(is_ours);
            // One that is wrong does no harm.
            let other = Cookies::new(&applied_cookie("x=1; y=2; __Host-v=3")).each(is_ours);
            for place in [place, other, None] {
                let mut headers = headers.clone();
                rules.add_to_request(&mut headers, None, place);
                let found = headers.get(COOKIE).map(|value| value.to_str().unwrap());
                assert_eq!(found, left, "{cookie}");
            }
        }
    }

    fn applied_cookie(cookie: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(COOKIE, HeaderValue::from_static(cookie))])
    }

    #[test]
    fn the_apps_set_cookie_passes() {
        let mut answer = HeaderMap::new();
        answer.insert(SET_COOKIE, HeaderValue::from_static("cart=7"));
        let rules = HeaderRules::new(&route(UpstreamRef::App(0), Credentials::Visitor), &names());
        rules.apply_to_answer(&mut answer);
        assert_eq!(answer["set-cookie"], "cart=7");
    }

    #[test]
    fn invariant_16_the_answer_that_sets_the_cookie_is_for_no_shared_cache() {
        let mut answer = ResponseHeader::build(200, None).unwrap();
        for (name, value) in [
            ("cache-control", "public, max-age=600"),
            ("expires", "Thu, 01 Jan 2037 00:00:00 GMT"),
            ("surrogate-control", "max-age=600"),
            ("CDN-Cache-Control", "max-age=600"),
            ("set-cookie", "cart=7"),
        ] {
            answer.append_header(name, value).unwrap();
        }
        set_visitor_cookies(&mut answer, ["v=1; Path=/".to_owned()].iter());
        assert_eq!(
            answer
                .headers
                .get_all(CACHE_CONTROL)
                .iter()
                .collect::<Vec<_>>(),
            ["private, no-store"]
        );
        assert_eq!(answer.headers.get_all(SET_COOKIE).iter().count(), 2);
        assert_eq!(answer.headers.len(), 3);
    }

    #[test]
    fn a_personal_answer_is_private_and_a_stricter_one_stays_as_it_is() {
        for (given, wanted) in [
            ("public, max-age=60", "private"),
            ("no-store", "no-store"),
            ("max-age=0, Private", "max-age=0, Private"),
        ] {
            let mut answer = ResponseHeader::build(200, None).unwrap();
            answer.insert_header(CACHE_CONTROL, given).unwrap();
            protect_personal_answer(&mut answer);
            assert_eq!(answer.headers[CACHE_CONTROL], wanted);
        }
    }
}
