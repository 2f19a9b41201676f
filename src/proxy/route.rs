//! PURE: which route a path takes, and what the path becomes on the way. The longest prefix wins; the query takes no part.

use std::borrow::Cow;

use super::path;
use crate::config::Route;

/// Routes, the longest prefix first.
#[derive(Debug)]
pub(super) struct RouteTable<T>(Vec<(Route, T)>);

impl<T> RouteTable<T> {
    pub(super) fn new(routes: impl IntoIterator<Item = (Route, T)>) -> Self {
        let mut routes: Vec<_> = routes.into_iter().collect();
        routes.sort_by_key(|(route, _)| std::cmp::Reverse(route.path.len()));
        Self(routes)
    }

    /// The index of the route that `target` (path and query, as received) takes.
    pub(super) fn find(&self, target: &[u8]) -> Option<usize> {
        self.find_path(path(target))
    }

    fn find_path(&self, path: &[u8]) -> Option<usize> {
        let mut routes = self.0.iter();
        routes.position(|(route, _)| path.starts_with(route.path.as_bytes()))
    }

    /// Whether some server may read `target`'s path so that it takes another route than `found`, or none that it may take.
    pub(super) fn is_ambiguous(&self, target: &[u8], found: Option<usize>) -> bool {
        let path = path(target);
        if path::is_plain(path) {
            return false;
        }
        let elsewhere = |reading: &Vec<u8>| self.find_path(reading) != found;
        path::readings(path).is_none_or(|readings| readings.iter().any(elsewhere))
    }

    pub(super) fn at(&self, index: usize) -> Option<&(Route, T)> {
        self.0.get(index)
    }
}

/// The path of a request target, without its query.
pub(super) fn path(target: &[u8]) -> &[u8] {
    let end = target
        .iter()
        .position(|byte| *byte == b'?')
        .unwrap_or(target.len());
    &target[..end]
}

/// What the upstream is asked for: `target` with the route's prefix replaced, byte for byte otherwise.
pub(super) fn rewrite<'a>(target: &'a [u8], route: &Route) -> Cow<'a, [u8]> {
    match (
        &route.upstream_path,
        target.strip_prefix(route.path.as_bytes()),
    ) {
        (Some(replacement), Some(rest)) if *replacement != route.path => {
            Cow::Owned([replacement.as_bytes(), rest].concat())
        }
        _ => Cow::Borrowed(target),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Credentials, OnUnavailable, UpstreamRef};

    fn route(path: &str, upstream_path: Option<&str>) -> Route {
        Route {
            path: path.into(),
            upstream: UpstreamRef::Dressipi,
            upstream_path: upstream_path.map(Into::into),
            credentials: Credentials::Visitor,
            on_unavailable: OnUnavailable::Anonymous,
            cookies: Vec::new(),
            subn_header: None,
            upgrade: false,
        }
    }

    #[test]
    fn the_longest_prefix_wins_and_the_query_takes_no_part() {
        let table =
            RouteTable::new(["/", "/api/", "/api/items/"].map(|path| (route(path, None), path)));
        let found = |target: &str| {
            table
                .find(target.as_bytes())
                .and_then(|index| table.at(index))
                .map(|(_, path)| *path)
        };
        assert_eq!(found("/api/items/7"), Some("/api/items/"));
        assert_eq!(found("/api/x"), Some("/api/"));
        assert_eq!(found("/api"), Some("/"));
        assert_eq!(found("/?/api/"), Some("/"));
        assert_eq!(found("/apix?x=/api/items/"), Some("/"));
        assert_eq!(found("*"), None);
        assert_eq!(found("http://a/api/"), None);
    }

    #[test]
    fn a_path_that_another_reading_sends_elsewhere_is_ambiguous() {
        let table = RouteTable::new(["/", "/api/", "/top"].map(|path| (route(path, None), ())));
        let ambiguous =
            |target: &str| table.is_ambiguous(target.as_bytes(), table.find(target.as_bytes()));
        for target in [
            "//api/items",
            "/api;x/items",
            "/%61pi/items",
            "/api%2fitems",
            "/api%252fitems",
            "\\api/items",
            "/api\\items",
            "/api/..%2fshop",
            "/api/%2e%2e/",
            "/./api/",
            "//top",
            "/t%6fp",
            "/x/../api/",
            "/;/api/x",
        ] {
            assert!(ambiguous(target), "{target}");
        }
        for target in [
            "/api/items",
            "/api/items/a%2Fb",
            "/api/items//b",
            "/api/items;v=1",
            "/shop/a%20b",
            "/shop//a",
            "/.well-known/x",
            "/?next=/api/../x",
            "/shop?a=//api/%2e%2e",
            "*",
            "/api//items",
            "/top%20x",
        ] {
            assert!(!ambiguous(target), "{target}");
        }
    }

    #[test]
    fn a_rewrite_replaces_the_prefix_and_nothing_else() {
        let api = route("/dressipi/api/", Some("/api/"));
        assert_eq!(
            &*rewrite(b"/dressipi/api/items/a%2Fb?q=/dressipi/api/", &api),
            b"/api/items/a%2Fb?q=/dressipi/api/"
        );
        assert_eq!(
            &*rewrite(b"/api/items?x", &route("/api/", None)),
            b"/api/items?x"
        );
    }
}
