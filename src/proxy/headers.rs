//! PURE: what is taken from requests and answers, and what is added.
//!
//! Stripping comes first and always; only then is anything injected, and a token only from an [`Authorized`].

use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, COOKIE, EXPIRES, HOST, PROXY_AUTHORIZATION, SET_COOKIE,
};
use http::{HeaderName, HeaderValue};
use pingora::http::{RequestHeader, ResponseHeader};

use super::names::NameSet;
use crate::config::{Credentials, Route, UpstreamRef};
use crate::session::Authorized;
use crate::visitor::Cookies;

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

/// A header's name as it goes over the wire: cloned without allocating, which pingora would do for a [`HeaderName`].
type WireName = Bytes;

fn wire_name(name: &HeaderName) -> WireName {
    Bytes::copy_from_slice(name.as_str().as_bytes())
}

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
    token: Option<WireName>,
    api_key: Option<(WireName, HeaderValue)>,
    subn: Option<WireName>,
    cookies: Vec<String>,
    visitor_cookie: String,
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
            token: with_token.then(|| wire_name(&names.token)),
            api_key: names
                .api_key_value
                .clone()
                .filter(|_| api_key)
                .map(|value| (wire_name(&names.api_key), value)),
            subn: route.subn_header.as_ref().map(wire_name),
            cookies: route.cookies.clone(),
            visitor_cookie: names.visitor_cookie.clone(),
            host: to_dressipi.then(|| names.dressipi_host.clone()),
        }
    }

    /// Whether the upstream gets another `Host` than the client asked for.
    pub(super) fn sets_host(&self) -> bool {
        self.host.is_some()
    }

    /// Strips what the client may not send, and injects what the route adds.
    pub(super) fn apply_to_request(
        &self,
        request: &mut RequestHeader,
        authorized: Option<&Authorized>,
    ) {
        remove_all(request, |name| self.strip.contains(name));
        self.filter_cookies(request, authorized.is_some());
        if let Some(host) = &self.host {
            let _ = request.insert_header(HOST, host.clone());
        }
        if let Some((name, value)) = &self.api_key {
            let _ = request.insert_header(name.clone(), value.clone());
        }
        if let (Some(name), Some(authorized)) = (&self.token, authorized) {
            let _ = request.insert_header(name.clone(), authorized.header().clone());
            if let (Some(name), Some(subn)) = (&self.subn, authorized.subn()) {
                let _ = request.insert_header(name.clone(), subn.clone());
            }
        }
    }

    fn filter_cookies(&self, request: &mut RequestHeader, with_token: bool) {
        let fields = request.headers.get_all(COOKIE).iter().count();
        if fields == 0 {
            return;
        }
        let cookies = Cookies::new(&request.headers);
        let (kept, dropped) = if self.to_dressipi {
            cookies.retain(|name| {
                self.cookies.iter().any(|listed| listed.as_bytes() == name)
                    && name != self.visitor_cookie.as_bytes()
                    && !(with_token
                        && COOKIES_OVER_TOKEN
                            .iter()
                            .any(|over| over.as_bytes() == name))
            })
        } else {
            cookies.retain(|name| name != self.visitor_cookie.as_bytes())
        };
        match kept {
            // HTTP/2 splits them; HTTP/1.1 must have them in one field (RFC 9113 §8.2.3).
            _ if !dropped && fields == 1 => {}
            Some(kept) => {
                let _ = request.insert_header("Cookie", kept);
            }
            None => {
                request.remove_header(&COOKIE);
            }
        }
    }

    /// Strips what the client may not see.
    pub(super) fn apply_to_answer(&self, answer: &mut ResponseHeader) {
        let strip = |name: &HeaderName| {
            self.strip_from_answer.contains(name.as_str())
                || (self.to_dressipi && *name == SET_COOKIE)
        };
        let names: Vec<_> = answer
            .headers
            .keys()
            .filter(|name| strip(name))
            .cloned()
            .collect();
        for name in names {
            answer.remove_header(&name);
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

/// Lets go of the spelling of header names, which pingora keeps beside the headers: names are case-insensitive (RFC 9110 §5.1)
/// and leave in lower case, as they do from Envoy and over HTTP/2. Every later edit and the copy for the upstream are a
/// good deal cheaper without. A target that the URI does not reproduce byte for byte stays with its header as it is.
pub(super) fn forget_spelling(request: &mut RequestHeader) {
    let target = request.uri.path_and_query().map(|target| target.as_str());
    if !request.has_case() || target.map(str::as_bytes) != Some(request.raw_path()) {
        return;
    }
    let (nothing, ()) = http::Request::new(()).into_parts();
    let spelled = std::mem::replace(request, RequestHeader::from(nothing));
    *request = RequestHeader::from(http::request::Parts::from(spelled));
}

/// Removes every header whose name `matches`.
pub(super) fn remove_all(request: &mut RequestHeader, matches: impl Fn(&str) -> bool) {
    // Nearly always there is none, and then this allocates nothing.
    let names: Vec<_> = request
        .headers
        .keys()
        .filter(|name| matches(name.as_str()))
        .cloned()
        .collect();
    for name in names {
        request.remove_header(&name);
    }
}

/// Adds a visitor cookie, and makes sure that no shared cache keeps the answer that sets it.
pub(super) fn set_visitor_cookie(answer: &mut ResponseHeader, set_cookie: &str) {
    if let Ok(mut value) = HeaderValue::try_from(set_cookie) {
        value.set_sensitive(true);
        let _ = answer.append_header(SET_COOKIE, value);
        forbid_shared_caching(answer, HeaderValue::from_static("private, no-store"));
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
        }
    }

    fn hostile() -> RequestHeader {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
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
            request.append_header(name, value).unwrap();
        }
        request
    }

    fn applied(
        upstream: UpstreamRef,
        credentials: Credentials,
        authorized: Option<&Authorized>,
    ) -> RequestHeader {
        let mut request = hostile();
        HeaderRules::new(&route(upstream, credentials), &names())
            .apply_to_request(&mut request, authorized);
        request
    }

    fn listed(request: &RequestHeader) -> Vec<(String, String)> {
        let mut listed: Vec<_> = request
            .headers
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
        assert!(request.headers["x-dressipi-jwt"].is_sensitive());
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
        assert!(!request.headers.contains_key("x-api-key"));
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
        let mut answer = ResponseHeader::build(200, None).unwrap();
        for (name, value) in [
            ("x-dressipi-jwt", "token"),
            ("X_Api_Key", "key"),
            ("set-cookie", "drsp=1"),
            ("dressipi-sidecar", "forged"),
            ("etag", "1"),
        ] {
            answer.append_header(name, value).unwrap();
        }
        let rules = HeaderRules::new(
            &route(UpstreamRef::Dressipi, Credentials::Visitor),
            &names(),
        );
        rules.apply_to_answer(&mut answer);
        assert_eq!(answer.headers.len(), 1);
        assert_eq!(answer.headers["etag"], "1");
    }

    #[test]
    fn the_apps_set_cookie_passes() {
        let mut answer = ResponseHeader::build(200, None).unwrap();
        answer.append_header("set-cookie", "cart=7").unwrap();
        let rules = HeaderRules::new(&route(UpstreamRef::App(0), Credentials::Visitor), &names());
        rules.apply_to_answer(&mut answer);
        assert_eq!(answer.headers["set-cookie"], "cart=7");
    }

    #[test]
    fn forgetting_the_spelling_loses_nothing_else() {
        let mut request = hostile();
        let (before, target) = (listed(&request), request.raw_path().to_owned());
        forget_spelling(&mut request);
        assert!(!request.has_case());
        assert_eq!(
            (listed(&request), request.raw_path()),
            (before, &target[..])
        );
        // A target that is not what the URI says of it is left alone.
        let mut odd = RequestHeader::build("GET", b"/caf\xe9", None).unwrap();
        forget_spelling(&mut odd);
        assert!(odd.has_case());
        assert_eq!(odd.raw_path(), b"/caf\xe9");
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
        set_visitor_cookie(&mut answer, "v=1; Path=/");
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
