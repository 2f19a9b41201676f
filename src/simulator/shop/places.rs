//! PURE: under which names the demo shop is reached, and what follows for the policies of its pages.
//!
//! Browsers keep cookies by host name and not by port, and send them into frames of the same site only. `shop.localhost` and
//! `second.shop.localhost` are two hosts of one site, and browsers know by themselves that names under `localhost` are this machine.
//! Under an address, or plain `localhost`, there is no second name on the same site: there is room for one visitor.

use http::{HeaderMap, header};

/// The name under which two visitors fit into one window.
pub const SHOP_HOST: &str = "shop.localhost";
const SECOND: &str = "second.";

/// Whether a host name, without port, is one that means this machine. Anything else may be a name that somebody made point here.
pub fn is_own_host(name: &str) -> bool {
    name == "127.0.0.1" || name == "[::1]" || name == "localhost" || name.ends_with(".localhost")
}

/// The host name that was asked for, if a policy may name it.
fn host(headers: &HeaderMap) -> Option<&str> {
    let host = headers.get(header::HOST)?.to_str().ok()?;
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-[]:".contains(&byte);
    (is_own_host(name) && name.bytes().all(is_plain)).then_some(name)
}

/// Where a page may ask: at the shop's own port of the same host.
pub(super) fn ask(headers: &HeaderMap, port: Option<u16>) -> String {
    match (host(headers), port) {
        (Some(host), Some(port)) => format!("http://{host}:{port}"),
        _ => String::new(),
    }
}

/// What the stage may frame: the visitors' pages, at any replica.
pub(super) fn frames(headers: &HeaderMap) -> String {
    match host(headers) {
        Some(SHOP_HOST) => format!("http://{SHOP_HOST}:* http://{SECOND}{SHOP_HOST}:*"),
        Some(host) => format!("http://{host}:*"),
        None => String::new(),
    }
}

/// Who may frame a visitor's page: the stage, at any replica.
pub(super) fn stages(headers: &HeaderMap) -> String {
    match host(headers) {
        Some(host) => format!("http://{}:*", host.strip_prefix(SECOND).unwrap_or(host)),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test may panic")]
    use super::*;

    fn asked(host: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::HOST, host.parse().unwrap())])
    }

    #[test]
    fn two_visitors_fit_under_the_name_and_one_under_an_address() {
        let named = asked("shop.localhost:8080");
        assert_eq!(
            frames(&named),
            "http://shop.localhost:* http://second.shop.localhost:*"
        );
        assert_eq!(
            stages(&asked("second.shop.localhost:8080")),
            "http://shop.localhost:*"
        );
        assert_eq!(frames(&asked("127.0.0.1:8080")), "http://127.0.0.1:*");
        assert_eq!(ask(&named, Some(8091)), "http://shop.localhost:8091");
        assert_eq!(ask(&named, None), "");
    }

    #[test]
    fn a_policy_names_no_host_but_this_machine() {
        for host in [
            "shop.example:80",
            "localhost.example",
            "a;script-src *.localhost",
            "x y.localhost",
            "",
        ] {
            let headers = asked(host);
            assert_eq!(
                (frames(&headers), stages(&headers), ask(&headers, Some(1))),
                Default::default(),
                "{host}"
            );
        }
    }
}
