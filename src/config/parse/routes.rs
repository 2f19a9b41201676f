//! `[[routes]]`: which path goes where, with what.

use http::HeaderName;

use super::report::{Report, element, key};
use super::upstreams::{self, DRESSIPI};
use super::{dressipi, names, visitor};
use crate::config::suggest;
use crate::config::values;
use crate::config::{Credentials, Listener, OnUnavailable, Route, UpstreamRef, file};
use crate::visitor::{CookieSettings, VisitorSource};

/// Cookies with which Dressipi would ignore the token that we send, and answer for whoever they name.
const DRESSIPI_LOGINS: [&str; 2] = ["drsp", "dressipi_jwt"];

/// The other sections, as far as routes depend on them.
pub(super) struct Around<'a> {
    pub(super) dressipi: &'a dressipi::Parsed,
    pub(super) listeners: &'a [Listener],
    pub(super) cookie: &'a CookieSettings,
    pub(super) upstreams: &'a upstreams::Parsed,
}

/// The routes that make sense.
pub(super) fn parse(
    report: &mut Report<'_>,
    raw: Option<Vec<file::Route>>,
    around: &Around<'_>,
) -> Vec<Route> {
    let raw = raw.unwrap_or_default();
    if raw.is_empty() {
        report.missing(
            "routes",
            "add [[routes]] with path = \"/api/\" and upstream = \"dressipi\"",
        );
    }
    let mut routes: Vec<Route> = Vec::new();
    for (number, raw) in raw.into_iter().enumerate() {
        let at = element("routes", number);
        let path = path(report, &at, raw.path, raw.upstream_path.as_deref(), &routes);
        let upstream = upstream(
            report,
            &key(&at, "upstream"),
            raw.upstream.as_deref(),
            around.upstreams,
        );
        let route = Route {
            path,
            upstream: upstream.clone().unwrap_or(UpstreamRef::Dressipi),
            upstream_path: raw.upstream_path,
            credentials: raw.credentials.map_or(Credentials::Visitor, |credentials| {
                match credentials {
                    values::Credentials::Visitor => Credentials::Visitor,
                    values::Credentials::ApiKey => Credentials::ApiKey,
                    values::Credentials::None => Credentials::None,
                }
            }),
            on_unavailable: match raw.on_unavailable {
                Some(values::OnUnavailable::Reject) => OnUnavailable::Reject,
                Some(values::OnUnavailable::Anonymous) | None => OnUnavailable::Anonymous,
            },
            cookies: raw.cookies.unwrap_or_default(),
            subn_header: raw
                .subn_header
                .and_then(|name| subn_header(report, &key(&at, "subn_header"), &name, around)),
            upgrade: raw
                .upgrade
                .unwrap_or(upstream != Some(UpstreamRef::Dressipi)),
        };
        // What does not fit together is judged only if it is known where the route goes and with what.
        if upstream.is_some() && !report.broken(&key(&at, "credentials")) {
            credentials(report, &at, &route, raw.on_unavailable.is_some(), around);
        }
        cookies(report, &key(&at, "cookies"), &route, around);
        if route.upgrade && upstream == Some(UpstreamRef::Dressipi) {
            let message = "is for routes to an app: nothing is tunnelled to Dressipi";
            report.problem(&key(&at, "upgrade"), message, "leave it out");
        }
        routes.push(route);
    }
    routes
}

fn path(
    report: &mut Report<'_>,
    at: &str,
    path: Option<String>,
    upstream_path: Option<&str>,
    before: &[Route],
) -> String {
    let (path_at, upstream_path_at) = (key(at, "path"), key(at, "upstream_path"));
    if let Some(upstream_path) = upstream_path {
        names::url_path(report, &upstream_path_at, upstream_path);
    }
    let Some(path) = path else {
        report.missing(
            &path_at,
            "the beginning of the paths that the route is for, such as \"/api/\"",
        );
        return String::new();
    };
    names::url_path(report, &path_at, &path);
    if before.iter().any(|other| other.path == path) {
        report.problem(
            &path_at,
            format!("another route has the path {path:?} too"),
            "one route for each path; leave one of the two out",
        );
    }
    if let Some(upstream_path) = upstream_path
        && upstream_path.starts_with('/')
        && path.ends_with('/') != upstream_path.ends_with('/')
    {
        let example = match path.ends_with('/') {
            true => format!("{}x would go to {upstream_path}x", path),
            false => format!("{path}/x would go to {upstream_path}/x"),
        };
        let message = format!("ends in another way than path does: {example}");
        report.problem(&upstream_path_at, message, "end both in / or neither");
    }
    path
}

fn upstream(
    report: &mut Report<'_>,
    at: &str,
    name: Option<&str>,
    known: &upstreams::Parsed,
) -> Option<UpstreamRef> {
    let Some(name) = name else {
        report.missing(at, "\"dressipi\", or the name of one of the upstreams");
        return None;
    };
    if name == DRESSIPI {
        return Some(UpstreamRef::Dressipi);
    }
    if let Some(index) = known
        .upstreams
        .iter()
        .position(|upstream| upstream.name == name)
    {
        return Some(UpstreamRef::App(index));
    }
    // It is known but has problems of its own, or it may be the one whose name has.
    if !known.complete || known.names.iter().any(|other| other == name) {
        return None;
    }
    let names = || known.names.iter().map(String::as_str).chain([DRESSIPI]);
    let hint = match suggest::nearest(name, names()) {
        Some(near) => format!("did you mean {near:?}?"),
        None => format!(
            "there is {}; others are made with [[upstreams]]",
            suggest::one_of(&names().collect::<Vec<_>>())
        ),
    };
    report.problem(at, format!("no upstream is called {name:?}"), hint);
    None
}

fn credentials(
    report: &mut Report<'_>,
    at: &str,
    route: &Route,
    on_unavailable_given: bool,
    around: &Around<'_>,
) {
    let to_dressipi = route.upstream == UpstreamRef::Dressipi;
    if route.credentials == Credentials::ApiKey && !to_dressipi {
        report.problem(
            &key(at, "credentials"),
            "\"api-key\" is for routes to Dressipi: the key is not given to apps",
            "\"visitor\" or \"none\"",
        );
    } else if route.credentials == Credentials::ApiKey && !around.dressipi.has_api_key {
        report.problem(
            &key(at, "credentials"),
            "there is no API key to add",
            "set dressipi.api_key_file or dressipi.api_key",
        );
    }
    if route.credentials != Credentials::Visitor {
        if on_unavailable_given {
            let message = "has no meaning where no token is added";
            report.problem(
                &key(at, "on_unavailable"),
                message,
                "it needs credentials = \"visitor\"",
            );
        }
        if route.subn_header.is_some() {
            let message = "has no meaning where the visitor is not looked up";
            report.problem(
                &key(at, "subn_header"),
                message,
                "it needs credentials = \"visitor\"",
            );
        }
    }
    if to_dressipi && route.subn_header.is_some() {
        let message = "is for routes to an app; Dressipi knows the visitor by the token";
        report.problem(&key(at, "subn_header"), message, "leave it out");
    }
    if !to_dressipi && !route.cookies.is_empty() {
        let hint = "leave it out: apps receive all cookies but the sidecar's own";
        report.problem(&key(at, "cookies"), "is for routes to Dressipi", hint);
    }
}

fn cookies(report: &mut Report<'_>, at: &str, route: &Route, around: &Around<'_>) {
    visitor::cookies(report, at, &route.cookies);
    for (number, name) in route.cookies.iter().enumerate() {
        let at = element(at, number);
        if *name == around.cookie.name {
            report.problem(
                &at,
                "is the visitor cookie, which stays between the browser and the sidecar",
                "leave it out of the list",
            );
        } else if DRESSIPI_LOGINS.contains(&name.as_str())
            && route.credentials == Credentials::Visitor
        {
            let message = format!("with the cookie {name:?} Dressipi ignores the visitor's token");
            report.problem(&at, message, "leave it out, or set credentials = \"none\"");
        }
    }
}

fn subn_header(
    report: &mut Report<'_>,
    at: &str,
    name: &str,
    around: &Around<'_>,
) -> Option<HeaderName> {
    let name = names::header(report, at, name)?;
    let listeners = around.listeners.iter();
    let names_visitors = listeners.flat_map(|listener| &listener.visitor).any(
        |source| matches!(source, VisitorSource::Header(other) if names::same_header(other, &name)),
    );
    if names_visitors || names::is_credential(&name, &around.dressipi.headers) {
        let message = format!("the header `{name}` has another meaning already");
        report.problem(
            at,
            message,
            "choose a name of its own, such as \"x-dressipi-subn\"",
        );
        return None;
    }
    Some(name)
}
