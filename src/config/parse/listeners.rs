//! `[[listeners]]`: where clients connect, and what is believed of them there.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::report::{Report, element, key};
use super::{listener_tls, names};
use crate::config::{IdentityPeers, ListenAddress, Listener, TrustedProxies, file};
use crate::dressipi::Headers;
use crate::visitor::{VisitorSource, is_ours};

/// Among the proxies: whoever connects over the Unix-domain socket, as nginx has it.
const UNIX_PEERS: &str = "unix:";

/// Names that have a meaning already.
pub(super) struct Names<'a> {
    /// The headers that carry our credentials.
    pub(super) dressipi: &'a Headers,
    /// The visitor cookie.
    pub(super) cookie: &'a str,
}

/// The listeners that make sense.
pub(super) fn parse(
    report: &mut Report<'_>,
    raw: Option<Vec<file::Listener>>,
    names: &Names<'_>,
) -> Vec<Listener> {
    let raw = raw.unwrap_or_default();
    if raw.is_empty() {
        report.missing(
            "listeners",
            "add [[listeners]] with an address, such as \"127.0.0.1:8080\"",
        );
    }
    let mut listeners: Vec<Listener> = Vec::new();
    for (number, raw) in raw.into_iter().enumerate() {
        let path = element("listeners", number);
        let address = listen_address(report, &path, raw.address.as_deref(), raw.socket_mode);
        let taken = |other: &&Listener| match &address {
            Some(ListenAddress::Tcp(address)) => overlap(&other.address, *address),
            Some(unix) => other.address.to_string() == unix.to_string(),
            None => false,
        };
        if let (Some(address), Some(other)) = (&address, listeners.iter().find(taken)) {
            let message = format!("{address} is taken by another listener ({})", other.address);
            report.problem(
                &key(&path, "address"),
                message,
                "give one of the two another address",
            );
        }
        let local = address.as_ref().is_none_or(ListenAddress::is_local);
        let trusted = local || raw.identity_peers.is_some();
        let visitor = sources(report, &key(&path, "visitor"), raw.visitor, trusted, names);
        let peers_path = key(&path, "identity_peers");
        let identity_peers = identity_peers(report, &peers_path, raw.identity_peers, &visitor);
        let unix = address.as_ref().map(|address| address.tcp().is_none());
        let proxies_path = key(&path, "trusted_proxies");
        let proxies = raw.trusted_proxies.unwrap_or_default();
        let trusted_proxies = trusted_proxies(report, &proxies_path, proxies, unix);
        let tls = listener_tls::parse(report, &key(&path, "tls"), raw.tls);
        listeners.extend(address.map(|address| Listener {
            address,
            tls,
            visitor,
            identity_peers,
            trusted_proxies,
        }));
    }
    listeners
}

/// Where a listener of `section` waits: at an address, or at a Unix-domain socket.
fn listen_address(
    report: &mut Report<'_>,
    section: &str,
    text: Option<&str>,
    mode: Option<String>,
) -> Option<ListenAddress> {
    let path = key(section, "address");
    let Some(socket) = text.and_then(|text| text.trim().strip_prefix("unix:")) else {
        if mode.is_some() {
            let hint = "leave it out, or write address = \"unix:/run/sidecar/http.sock\"";
            report.problem(
                &key(section, "socket_mode"),
                "is for Unix-domain sockets",
                hint,
            );
        }
        return address(report, &path, text).map(ListenAddress::Tcp);
    };
    let mode = match mode.as_deref().map(|mode| u32::from_str_radix(mode, 8)) {
        None => Some(0o660),
        Some(Ok(mode)) if mode <= 0o777 => Some(mode),
        Some(_) => {
            let message = "is no mode of a file in octal";
            report.problem(&key(section, "socket_mode"), message, "such as \"0660\"");
            None
        }
    };
    // The kernel's bound, with the byte at the end.
    if socket.is_empty() || socket.len() > 107 {
        let message =
            format!("{socket:?} cannot be the path of a socket: it must have 1 to 107 bytes");
        report.problem(&path, message, "such as \"unix:/run/sidecar/http.sock\"");
        return None;
    }
    let path = report.file_path(socket);
    Some(ListenAddress::Unix { path, mode: mode? })
}

/// An address to listen on. Port 0, any free one, is for tests.
pub(super) fn address(
    report: &mut Report<'_>,
    path: &str,
    text: Option<&str>,
) -> Option<SocketAddr> {
    let Some(text) = text else {
        report.missing(path, "an IP address and a port, such as \"127.0.0.1:8080\"");
        return None;
    };
    let address = text.trim().parse().ok();
    if address.is_none() {
        let port = text.trim().trim_start_matches(':');
        let hint = match (port.parse::<u16>(), text.rsplit_once(':')) {
            (Ok(port), _) => format!(
                "\"0.0.0.0:{port}\" for everybody, \"127.0.0.1:{port}\" for this host alone"
            ),
            (_, Some(("localhost", port))) => {
                format!("names are not looked up here; write \"127.0.0.1:{port}\"")
            }
            _ => "such as \"127.0.0.1:8080\" or \"[::1]:8080\"; names are not looked up here"
                .to_owned(),
        };
        report.problem(
            path,
            format!("{text:?} is not an IP address with a port"),
            hint,
        );
    }
    address
}

/// Who may name visitors in a header. Where nobody is listed, that a source may be a header at all has been settled.
fn identity_peers(
    report: &mut Report<'_>,
    path: &str,
    raw: Option<Vec<String>>,
    sources: &[VisitorSource],
) -> IdentityPeers {
    let Some(raw) = raw else {
        return IdentityPeers::All;
    };
    let by_header = |source: &VisitorSource| matches!(source, VisitorSource::Header(_));
    if !sources.iter().any(by_header) {
        let hint = "leave it out, or name visitors with \"header:<name>\" in visitor";
        report.warning(
            path,
            "says who may name visitors in a header, and no header does",
            hint,
        );
    } else if raw.is_empty() {
        let hint = "the addresses or networks of the app, such as \"10.1.0.0/16\"";
        report.problem(path, "lets nobody name visitors", hint);
    }
    IdentityPeers::Listed(nets(report, path, raw, &[]))
}

/// The proxies that are believed; `unix`: whether peers have no address, as far as that is known.
fn trusted_proxies(
    report: &mut Report<'_>,
    path: &str,
    raw: Vec<String>,
    unix: Option<bool>,
) -> TrustedProxies {
    let by_socket = raw.iter().position(|text| text.trim() == UNIX_PEERS);
    if let Some(number) = by_socket
        && unix == Some(false)
    {
        let hint = "leave it out, or write address = \"unix:/run/sidecar/http.sock\"";
        report.problem(
            &element(path, number),
            "is for listeners on Unix-domain sockets",
            hint,
        );
    }
    let nets = nets(report, path, raw, &[UNIX_PEERS]);
    if unix == Some(true) && !nets.is_empty() && by_socket.is_none() {
        report.warning(
            path,
            "lists addresses, which nobody has who connects over a Unix-domain socket",
            "write \"unix:\" to believe whoever connects",
        );
    }
    TrustedProxies {
        nets,
        unix: by_socket.is_some(),
    }
}

/// Whether the second of two listeners cannot be bound.
pub(super) fn overlap(a: &ListenAddress, b: SocketAddr) -> bool {
    let Some(a) = a.tcp() else {
        return false;
    };
    let same_family = a.is_ipv4() == b.is_ipv4();
    let same_host =
        a.ip() == b.ip() || (same_family && (a.ip().is_unspecified() || b.ip().is_unspecified()));
    a.port() != 0 && a.port() == b.port() && same_host
}

fn sources(
    report: &mut Report<'_>,
    path: &str,
    raw: Option<Vec<String>>,
    trusted: bool,
    names: &Names<'_>,
) -> Vec<VisitorSource> {
    let Some(raw) = raw else {
        return vec![VisitorSource::Cookie];
    };
    if raw.is_empty() {
        report.problem(
            path,
            "names no source",
            "such as [\"cookie\"] or [\"header:x-visitor-id\"]",
        );
    }
    let mut sources = Vec::new();
    for (number, text) in raw.iter().enumerate() {
        let path = element(path, number);
        if report.broken(&path) {
            continue;
        }
        let Some(source) = source(report, &path, text, names) else {
            continue;
        };
        if matches!(source, VisitorSource::Header(_)) && !trusted {
            report.problem(
                &path,
                "would let everybody who can connect be any visitor",
                "list the addresses or networks of the app in identity_peers, such as [\"10.1.0.0/16\"]; or listen on a loopback address",
            );
        }
        if sources.contains(&source) {
            report.problem(
                &path,
                format!("{text:?} is there twice"),
                "leave one of the two out",
            );
        }
        sources.push(source);
    }
    sources
}

fn source(
    report: &mut Report<'_>,
    path: &str,
    text: &str,
    names: &Names<'_>,
) -> Option<VisitorSource> {
    let name = match text.trim().split_once(':') {
        None if text.trim() == "cookie" => return Some(VisitorSource::Cookie),
        Some(("header", name)) => names::header(report, path, name)?,
        Some(("app-cookie", name)) => {
            names::cookie(report, path, name);
            if is_ours(name.as_bytes(), names.cookie.as_bytes()) {
                let message = format!("{name:?} is the sidecar's own cookie and not the app's");
                report.problem(path, message, "\"cookie\" looks for that one");
            }
            return Some(VisitorSource::AppCookie(name.to_owned()));
        }
        _ => {
            let message = format!("{text:?} is not a visitor source");
            report.problem(
                path,
                message,
                "\"cookie\", \"header:<name>\" or \"app-cookie:<name>\"",
            );
            return None;
        }
    };
    if names::is_credential(&name, names.dressipi) {
        let message = format!("the header `{name}` carries credentials and cannot name a visitor");
        report.problem(
            path,
            message,
            "choose another, such as \"header:x-visitor-id\"",
        );
        return None;
    }
    Some(VisitorSource::Header(name))
}

/// Networks; `but`: words among them that are none.
fn nets(report: &mut Report<'_>, path: &str, raw: Vec<String>, but: &[&str]) -> Vec<IpNet> {
    let mut nets = Vec::new();
    for (number, text) in raw.iter().enumerate() {
        let path = element(path, number);
        let text = text.trim();
        if but.contains(&text) {
            continue;
        }
        let net = text
            .parse()
            .ok()
            .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
        if net.is_none() && !report.broken(&path) {
            let message = format!("{text:?} is not an IP address or network");
            report.problem(&path, message, "such as \"10.0.0.0/8\" or \"192.0.2.7\"");
        }
        nets.extend(net);
    }
    nets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_overlap_where_the_kernel_says_so() {
        let overlap = |a: &str, b: &str| {
            let a = ListenAddress::Tcp(a.parse().unwrap());
            overlap(&a, b.parse().unwrap())
        };
        assert!(overlap("127.0.0.1:80", "127.0.0.1:80"));
        assert!(overlap("0.0.0.0:80", "127.0.0.1:80"));
        assert!(!overlap("127.0.0.1:80", "127.0.0.2:80"));
        assert!(!overlap("127.0.0.1:0", "127.0.0.1:0"));
        assert!(!overlap("0.0.0.0:80", "[::]:80"));
    }
}
