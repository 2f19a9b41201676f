//! PURE: `X-Forwarded-*` and `Forwarded` (RFC 7239). Believed and extended for listed proxies, replaced for everybody else.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::names::{has_prefix, is_same};
use crate::config::TrustedProxies;

const FORWARDED: HeaderName = http::header::FORWARDED;
const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// How a request came here.
#[derive(Clone, Copy)]
pub(super) struct Came<'a> {
    /// From whom; a Unix socket's peer has no address.
    pub(super) peer: Option<IpAddr>,
    /// The same as a header value, where that is at hand.
    pub(super) written: Option<&'a HeaderValue>,
    /// Whether what it says of others is believed.
    pub(super) trusted: bool,
    /// `http` or `https`; `http` if nothing is said.
    pub(super) scheme: Option<&'a HeaderValue>,
}

/// Whether a header says where a request came from.
pub(super) fn is_forwarding(name: &str) -> bool {
    has_prefix(name, "x-forwarded-") || is_same(name, "forwarded")
}

/// Whether it is taken away: all of them from whoever is not `trusted`, and from everybody what only looks like one of them, which
/// no proxy before us may have stripped.
pub(super) fn is_stripped(name: &str, trusted: bool) -> bool {
    let believed = trusted && (name.starts_with("x-forwarded-") || name == FORWARDED);
    is_forwarding(name) && !believed
}

/// The client's address: that of the peer, or, as far as listed proxies are to be believed, what they say: the rightmost address that is
/// none of theirs, of `X-Forwarded-For` or else of `Forwarded`. What stands further left is the client's own word. `None`: a peer without
/// an address, of which nothing is believed.
pub(super) fn client(
    headers: &HeaderMap,
    peer: Option<IpAddr>,
    proxies: &TrustedProxies,
) -> Option<IpAddr> {
    let mut client = peer.map(|peer| peer.to_canonical());
    let name = match headers.contains_key(FOR) {
        true => FOR,
        false => FORWARDED,
    };
    let mut values: Vec<_> = headers.get_all(&name).iter().collect();
    values.reverse();
    for value in values {
        // What is no text ends the trust, as what is no address does.
        let Ok(value) = value.to_str() else {
            return client;
        };
        for element in value.rsplit(',') {
            if !proxies.include(client) {
                return client;
            }
            let node = match name == FOR {
                true => Some(element),
                false => forwarded_for(element),
            };
            match node.and_then(address) {
                Some(before) => client = Some(before),
                None => return client,
            }
        }
    }
    client
}

/// The `for` of an element of `Forwarded` (RFC 7239 §4).
fn forwarded_for(element: &str) -> Option<&str> {
    element.split(';').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then_some(value)
    })
}

/// The address of a node, which may be quoted, in brackets, and have a port (RFC 7239 §6).
fn address(node: &str) -> Option<IpAddr> {
    let node = node.trim().trim_matches('"');
    let bare = node.strip_prefix('[').unwrap_or(node);
    let bare = bare.strip_suffix(']').unwrap_or(bare);
    let address = bare.parse::<IpAddr>().ok();
    let with_port = || Some(node.parse::<std::net::SocketAddr>().ok()?.ip());
    address
        .or_else(with_port)
        .map(|address| address.to_canonical())
}

/// Sets the forwarding headers of a request for `host`: adds to those that are there where the peer is trusted; from others none
/// is there any more.
pub(super) fn apply(headers: &mut HeaderMap, came: Came<'_>, host: Option<&HeaderValue>) {
    let Came {
        peer,
        written,
        trusted,
        scheme,
    } = came;
    if trusted {
        extend(headers, peer, scheme, host);
    } else {
        if let Some(peer) = written.cloned().or_else(|| value_of(peer?)) {
            headers.insert(FOR, peer);
        }
        begin(headers, scheme, host);
    }
}

/// Adds this hop to what the proxies before said.
fn extend(
    headers: &mut HeaderMap,
    peer: Option<IpAddr>,
    scheme: Option<&HeaderValue>,
    host: Option<&HeaderValue>,
) {
    if let Some(peer) = peer.map(|peer| peer.to_canonical()) {
        append(headers, FOR, peer.to_string());
        if headers.contains_key(FORWARDED) {
            let node = match peer {
                IpAddr::V4(address) => format!("for={address}"),
                IpAddr::V6(address) => format!("for=\"[{address}]\""),
            };
            append(headers, FORWARDED, node);
        }
    }
    let host = host.filter(|_| !headers.contains_key(HOST));
    if headers.contains_key(PROTO) {
        set_host(headers, host);
    } else {
        begin(headers, scheme, host);
    }
}

/// Says what the client asked for, where no proxy before has.
fn begin(headers: &mut HeaderMap, scheme: Option<&HeaderValue>, host: Option<&HeaderValue>) {
    let scheme = scheme.cloned();
    headers.insert(PROTO, scheme.unwrap_or(HeaderValue::from_static("http")));
    set_host(headers, host);
}

fn set_host(headers: &mut HeaderMap, host: Option<&HeaderValue>) {
    if let Some(host) = host {
        headers.insert(HOST, host.clone());
    }
}

/// The address as a header value; what nearly always comes, an IPv4 address, without the formatting machinery and in one
/// allocation.
pub(super) fn value_of(address: IpAddr) -> Option<HeaderValue> {
    let address = address.to_canonical();
    let IpAddr::V4(address) = address else {
        return HeaderValue::try_from(address.to_string()).ok();
    };
    let mut text = [b'.'; 15];
    let mut length = 0;
    for (index, byte) in address.octets().into_iter().enumerate() {
        // The dots are there already.
        length += usize::from(index > 0);
        for (power, least) in [(100, 100), (10, 10), (1, 0)] {
            if byte >= least {
                text[length] = b'0' + byte / power % 10;
                length += 1;
            }
        }
    }
    HeaderValue::from_bytes(&text[..length]).ok()
}

/// Appends an element to a list header, all in one field line.
fn append(headers: &mut HeaderMap, name: HeaderName, element: String) {
    let mut list = Vec::new();
    for value in headers.get_all(&name) {
        list.extend_from_slice(value.as_bytes());
        list.extend_from_slice(b", ");
    }
    let value = if list.is_empty() {
        HeaderValue::try_from(element)
    } else {
        list.extend_from_slice(element.as_bytes());
        HeaderValue::try_from(list)
    };
    if let Ok(value) = value {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::super::edit::remove_all;
    use super::*;

    fn request(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    const PEER: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 9)));

    fn came(trusted: bool) -> Came<'static> {
        Came {
            peer: PEER,
            written: None,
            trusted,
            scheme: None,
        }
    }

    #[test]
    fn a_peer_over_tls_came_by_https_and_one_without_an_address_is_not_named() {
        let https = HeaderValue::from_static("https");
        let mut request = HeaderMap::new();
        let came = Came {
            peer: None,
            written: None,
            trusted: false,
            scheme: Some(&https),
        };
        apply(&mut request, came, None);
        assert_eq!(request["x-forwarded-proto"], "https");
        assert_eq!(request.len(), 1);
    }

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
        remove_all(&mut request, |name| is_stripped(name, false));
        apply(&mut request, came(false), Some(&host));
        assert_eq!(request["x-forwarded-for"], "10.0.0.9");
        assert_eq!(request["x-forwarded-proto"], "http");
        assert_eq!(request["x-forwarded-host"], "shop.example");
        assert_eq!(request.len(), 3);
    }

    #[test]
    fn a_listed_proxy_is_believed_and_extended() {
        let mut request = request(&[
            ("x-forwarded-for", "1.2.3.4"),
            ("x-forwarded-for", "5.6.7.8"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "www.shop.example"),
            ("forwarded", "for=1.2.3.4;proto=https"),
            ("x_forwarded_for", "6.6.6.6"),
            ("x-forwarded_host", "evil.example"),
        ]);
        let host = HeaderValue::from_static("shop.example");
        remove_all(&mut request, |name| is_stripped(name, true));
        apply(&mut request, came(true), Some(&host));
        assert_eq!(request["x-forwarded-for"], "1.2.3.4, 5.6.7.8, 10.0.0.9");
        assert_eq!(request["x-forwarded-proto"], "https");
        assert_eq!(request["x-forwarded-host"], "www.shop.example");
        assert_eq!(
            request["forwarded"],
            "for=1.2.3.4;proto=https, for=10.0.0.9"
        );
        assert_eq!(request.keys().count(), 4);
    }

    #[test]
    fn invariant_10_the_client_is_the_rightmost_address_that_is_no_listed_proxy() {
        let proxies = TrustedProxies {
            nets: vec!["10.0.0.0/8".parse().unwrap()],
            unix: true,
        };
        let client = |pairs: &[(&'static str, &'static str)], peer: &str| {
            let client = client(&request(pairs), peer.parse().ok(), &proxies);
            client.map_or("none".to_owned(), |client| client.to_string())
        };
        let of = "x-forwarded-for";
        assert_eq!(client(&[(of, "1.2.3.4")], "9.9.9.9"), "9.9.9.9");
        assert_eq!(client(&[(of, "1.2.3.4")], "10.0.0.1"), "1.2.3.4");
        assert_eq!(
            client(&[(of, "6.6.6.6, 1.2.3.4, 10.0.0.2")], "10.0.0.1"),
            "1.2.3.4"
        );
        assert_eq!(
            client(&[(of, "6.6.6.6"), (of, "1.2.3.4:80,10.0.0.2")], "10.0.0.1"),
            "1.2.3.4"
        );
        assert_eq!(
            client(&[(of, "6.6.6.6, rubbish, 10.0.0.2")], "10.0.0.1"),
            "10.0.0.2"
        );
        assert_eq!(
            client(&[(of, "10.0.0.3, 10.0.0.2")], "10.0.0.1"),
            "10.0.0.3"
        );
        assert_eq!(client(&[], "10.0.0.1"), "10.0.0.1");
        assert_eq!(
            client(&[(of, "2001:db8::1")], "::ffff:10.0.0.1"),
            "2001:db8::1"
        );
        let standard = "for=6.6.6.6, For=\"[2001:db8::7]:80\";proto=https, for=10.0.0.2";
        assert_eq!(
            client(&[("forwarded", standard)], "10.0.0.1"),
            "2001:db8::7"
        );
        assert_eq!(
            client(&[("forwarded", standard), (of, "1.2.3.4")], "10.0.0.1"),
            "1.2.3.4"
        );
        assert_eq!(
            client(&[("forwarded", "for=_hidden")], "10.0.0.1"),
            "10.0.0.1"
        );
        assert_eq!(client(&[], "socket"), "none");
        assert_eq!(client(&[(of, "6.6.6.6, 1.2.3.4")], "socket"), "1.2.3.4");
        assert_eq!(
            client(&[(of, "6.6.6.6, 1.2.3.4, 10.0.0.2")], "socket"),
            "1.2.3.4"
        );
    }

    #[test]
    fn nothing_is_believed_of_a_socket_that_is_not_listed() {
        let proxies = TrustedProxies::default();
        let headers = request(&[("x-forwarded-for", "1.2.3.4")]);
        assert_eq!(client(&headers, None, &proxies), None);
    }

    #[test]
    fn addresses_are_written_as_everybody_writes_them() {
        for text in [
            "0.0.0.0",
            "127.0.0.1",
            "10.20.109.200",
            "255.255.255.255",
            "9.99.100.101",
            "::1",
            "2001:db8::7",
        ] {
            assert_eq!(value_of(text.parse().unwrap()).unwrap(), text);
        }
    }

    #[test]
    fn listed_networks_hold_mapped_addresses_too() {
        let proxies = TrustedProxies {
            nets: vec!["10.0.0.0/8".parse().unwrap()],
            unix: false,
        };
        assert!(proxies.include(PEER));
        assert!(proxies.include(Some("::ffff:10.0.0.1".parse().unwrap())));
        assert!(!proxies.include(Some("11.0.0.1".parse().unwrap())));
        assert!(!proxies.include(None));
    }
}
