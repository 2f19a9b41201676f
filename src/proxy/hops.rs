//! PURE: headers that are meant for one connection and not for what lies behind it (RFC 9110 §7.6.1).
//!
//! pingora takes them away, and those that `Connection` names: a dozen lookups for each request, nearly always for nothing. One look at
//! the names tells whether there are any.

use http::HeaderMap;
use pingora::upstreams::peer::HttpUpstreamRequestPolicy;

/// Whether a request has headers that pingora would take away.
pub(super) fn has_hop_by_hop(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| is_hop_by_hop(name.as_str()))
}

fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings"
    )
}

/// What pingora is to do with such headers of a request.
pub(super) fn policy(hop_by_hop: bool, upgrades: bool) -> HttpUpstreamRequestPolicy {
    match (hop_by_hop, upgrades) {
        // There is nothing to preserve.
        (false, _) => HttpUpstreamRequestPolicy::preserve(),
        (true, true) => HttpUpstreamRequestPolicy::standard(),
        (true, false) => HttpUpstreamRequestPolicy::deny_upgrades(),
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(names: &[&str]) -> HeaderMap {
        let each = names.iter().map(|name| {
            let name: HeaderName = name.parse().unwrap();
            (name, HeaderValue::from_static("1"))
        });
        each.collect()
    }

    /// Of a browser, whose requests are most.
    const PLAIN: [&str; 9] = [
        "Host",
        "User-Agent",
        "Accept",
        "Accept-Encoding",
        "Accept-Language",
        "Content-Length",
        "Content-Type",
        "Cookie",
        "Sec-Fetch-Mode",
    ];

    #[test]
    fn each_of_them_is_found_among_others_however_it_is_spelled() {
        assert!(!has_hop_by_hop(&headers(&PLAIN)));
        for name in [
            "Connection",
            "KEEP-ALIVE",
            "proxy-connection",
            "Proxy-Authenticate",
            "Proxy-Authorization",
            "TE",
            "Trailer",
            "Transfer-Encoding",
            "Upgrade",
            "HTTP2-Settings",
        ] {
            let mut names = PLAIN.to_vec();
            names.insert(4, name);
            assert!(has_hop_by_hop(&headers(&names)), "{name}");
        }
    }

    #[test]
    fn pingora_is_left_out_only_where_it_would_find_nothing() {
        let preserve = HttpUpstreamRequestPolicy::preserve();
        for upgrades in [false, true] {
            assert_eq!(policy(false, upgrades), preserve);
            assert!(policy(true, upgrades).strip_hop_by_hop);
            assert!(policy(true, upgrades).strip_connection_nominated);
        }
        assert_ne!(policy(true, false), policy(true, true));
    }
}
