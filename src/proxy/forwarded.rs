//! PURE: `X-Forwarded-*` and `Forwarded` (RFC 7239). Believed and extended for listed proxies, replaced for everybody else.

use std::net::IpAddr;

use http::{HeaderName, HeaderValue};
use ipnet::IpNet;
use pingora::http::RequestHeader;

use super::names::{has_prefix, is_same};

const FORWARDED: HeaderName = http::header::FORWARDED;
const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Whether `peer` is one of the listed proxies.
pub(super) fn is_trusted(peer: Option<IpAddr>, proxies: &[IpNet]) -> bool {
    peer.is_some_and(|peer| proxies.iter().any(|net| net.contains(&peer.to_canonical())))
}

/// Whether a header says where a request came from.
fn is_forwarding(name: &str) -> bool {
    has_prefix(name, "x-forwarded-") || is_same(name, "forwarded")
}

/// Sets the forwarding headers of a request that came from `peer` for `host`.
pub(super) fn apply(
    request: &mut RequestHeader,
    peer: Option<IpAddr>,
    trusted: bool,
    host: Option<&HeaderValue>,
) {
    if !trusted {
        super::headers::remove_all(request, is_forwarding);
    }
    if let Some(peer) = peer {
        let peer = peer.to_canonical();
        append(request, FOR, &peer.to_string());
        if request.headers.contains_key(FORWARDED) {
            let node = match peer {
                IpAddr::V4(address) => format!("for={address}"),
                IpAddr::V6(address) => format!("for=\"[{address}]\""),
            };
            append(request, FORWARDED, &node);
        }
    }
    if !request.headers.contains_key(PROTO) {
        let _ = request.insert_header(PROTO, HeaderValue::from_static("http"));
    }
    if let Some(host) = host
        && !request.headers.contains_key(HOST)
    {
        let _ = request.insert_header(HOST, host.clone());
    }
}

/// Appends an element to a list header, all in one field line.
fn append(request: &mut RequestHeader, name: HeaderName, element: &str) {
    let mut list = Vec::new();
    for value in request.headers.get_all(&name) {
        list.extend_from_slice(value.as_bytes());
        list.extend_from_slice(b", ");
    }
    list.extend_from_slice(element.as_bytes());
    if let Ok(value) = HeaderValue::try_from(list) {
        let _ = request.insert_header(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(pairs: &[(&'static str, &'static str)]) -> RequestHeader {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        for (name, value) in pairs {
            request.append_header(*name, *value).unwrap();
        }
        request
    }

    const PEER: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 9)));

    #[test]
    fn an_unlisted_peer_is_not_believed() {
        let mut request = request(&[
            ("x-forwarded-for", "1.2.3.4"),
            ("x_forwarded_for", "1.2.3.4"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-user", "root"),
            ("forwarded", "for=1.2.3.4"),
        ]);
        let host = HeaderValue::from_static("shop.example");
        apply(&mut request, PEER, false, Some(&host));
        assert_eq!(request.headers["x-forwarded-for"], "10.0.0.9");
        assert_eq!(request.headers["x-forwarded-proto"], "http");
        assert_eq!(request.headers["x-forwarded-host"], "shop.example");
        assert_eq!(request.headers.len(), 3);
    }

    #[test]
    fn a_listed_proxy_is_believed_and_extended() {
        let mut request = request(&[
            ("x-forwarded-for", "1.2.3.4"),
            ("x-forwarded-for", "5.6.7.8"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "www.shop.example"),
            ("forwarded", "for=1.2.3.4;proto=https"),
        ]);
        let host = HeaderValue::from_static("shop.example");
        apply(&mut request, PEER, true, Some(&host));
        assert_eq!(
            request.headers["x-forwarded-for"],
            "1.2.3.4, 5.6.7.8, 10.0.0.9"
        );
        assert_eq!(request.headers["x-forwarded-proto"], "https");
        assert_eq!(request.headers["x-forwarded-host"], "www.shop.example");
        assert_eq!(
            request.headers["forwarded"],
            "for=1.2.3.4;proto=https, for=10.0.0.9"
        );
    }

    #[test]
    fn listed_networks_hold_mapped_addresses_too() {
        let nets: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap()];
        assert!(is_trusted(PEER, &nets));
        assert!(is_trusted(Some("::ffff:10.0.0.1".parse().unwrap()), &nets));
        assert!(!is_trusted(Some("11.0.0.1".parse().unwrap()), &nets));
        assert!(!is_trusted(None, &nets));
    }
}
