//! PURE: which route a path takes, and what the path becomes on the way. The longest prefix wins; the query takes no part.

use std::borrow::Cow;

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
        let path = path(target);
        self.0
            .iter()
            .position(|(route, _)| path.starts_with(route.path.as_bytes()))
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
