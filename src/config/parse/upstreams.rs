//! `[[upstreams]]`: the app servers, and how to reach them.

use std::net::Ipv6Addr;
use std::time::Duration;

use super::report::{Report, element, key};
use super::{client_identity, files};
use crate::config::{Upstream, UpstreamTls, file};

/// The name that routes use for Dressipi itself.
pub(super) const DRESSIPI: &str = "dressipi";

/// What the routes need to know of the upstreams, even if some have problems.
pub(super) struct Parsed {
    /// Those that make sense.
    pub(super) upstreams: Vec<Upstream>,
    /// The names of all.
    pub(super) names: Vec<String>,
    /// Whether every one of them has a name.
    pub(super) complete: bool,
}

/// The app upstreams.
pub(super) fn parse(report: &mut Report<'_>, raw: Option<Vec<file::Upstream>>) -> Parsed {
    let mut parsed = Parsed {
        upstreams: Vec::new(),
        names: Vec::new(),
        complete: !report.broken("upstreams"),
    };
    for (number, raw) in raw.unwrap_or_default().into_iter().enumerate() {
        let path = element("upstreams", number);
        let name = name(
            report,
            &key(&path, "name"),
            raw.name.as_deref(),
            &parsed.names,
        );
        let address = address(report, &key(&path, "address"), raw.address.as_deref());
        let host = address.as_ref().map(|(host, _)| host.as_str());
        let tls = tls(report, &path, &raw, host);
        let at = |name| key(&path, name);
        let connect_timeout = report.positive(
            &at("connect_timeout"),
            raw.connect_timeout,
            Duration::from_secs(2),
        );
        let read_timeout = report.positive(
            &at("read_timeout"),
            raw.read_timeout,
            Duration::from_secs(60),
        );
        let idle_timeout = report.positive(
            &at("idle_timeout"),
            raw.idle_timeout,
            Duration::from_secs(60),
        );
        parsed.complete &= name.is_some();
        parsed.names.extend(name.clone());
        if let (Some(name), Some((host, port))) = (name, address) {
            parsed.upstreams.push(Upstream {
                name,
                host,
                port,
                tls,
                connect_timeout,
                read_timeout,
                idle_timeout,
            });
        }
    }
    parsed
}

fn name(
    report: &mut Report<'_>,
    path: &str,
    name: Option<&str>,
    taken: &[String],
) -> Option<String> {
    let Some(name) = name else {
        report.missing(path, "the name that routes use, such as \"shop\"");
        return None;
    };
    let plain = |c: char| c.is_alphanumeric() || "-_.".contains(c);
    if name == DRESSIPI {
        let hint = "it means Dressipi itself, which [dressipi] describes";
        report.problem(path, "\"dressipi\" cannot be the name of an upstream", hint);
    } else if name.is_empty() || !name.chars().all(plain) {
        let message = format!("{name:?} is not a name for an upstream");
        report.problem(path, message, "letters, digits and - _ . only");
    } else if taken.iter().any(|other| other == name) {
        report.problem(
            path,
            format!("another upstream is called {name:?} too"),
            "each needs a name of its own",
        );
    }
    Some(name.to_owned())
}

/// Host, without brackets, and port.
fn address(report: &mut Report<'_>, path: &str, text: Option<&str>) -> Option<(String, u16)> {
    let Some(text) = text else {
        report.missing(path, "host and port, such as \"127.0.0.1:3000\"");
        return None;
    };
    let text = text.trim();
    if text.contains("://") || text.contains('/') {
        let message = format!("{text:?} is a URL");
        report.problem(
            path,
            message,
            "host and port only, such as \"shop:3000\"; for https add tls = true",
        );
        return None;
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        let hint = format!("an IPv6 address has brackets: \"[{text}]:3000\"");
        report.problem(path, format!("{text:?} has no port"), hint);
        return None;
    }
    let Some((host, port)) = text.rsplit_once(':').filter(|(host, _)| !host.is_empty()) else {
        let hint = match text.strip_prefix(':') {
            Some(port) => format!("host and port, such as \"127.0.0.1:{port}\""),
            None => format!("host and port, such as \"{text}:3000\""),
        };
        report.problem(path, format!("{text:?} is not a host with a port"), hint);
        return None;
    };
    let Some(port) = port.parse().ok().filter(|port| *port > 0) else {
        report.problem(
            path,
            format!("{port:?} is not a port"),
            "a number from 1 to 65535",
        );
        return None;
    };
    match url::Host::parse(host) {
        Ok(url::Host::Ipv6(ip)) => Some((ip.to_string(), port)),
        Ok(host) => Some((host.to_string(), port)),
        Err(_) => {
            report.problem(
                path,
                format!("{host:?} is not a host name or IP address"),
                "such as \"shop\", \"shop.internal\" or \"10.0.0.7\"",
            );
            None
        }
    }
}

fn tls(
    report: &mut Report<'_>,
    path: &str,
    raw: &file::Upstream,
    host: Option<&str>,
) -> Option<UpstreamTls> {
    let at = |name| key(path, name);
    let client = client_identity::Typed {
        certificate: raw.client_certificate_file.as_deref(),
        key: raw.client_key_file.as_deref(),
    };
    if !raw.tls.unwrap_or(false) {
        let given = [
            ("server_name", raw.server_name.is_some()),
            ("ca_file", raw.ca_file.is_some()),
            ("http2", raw.http2 == Some(true)),
        ];
        let given = given.into_iter().chain(client.given());
        for (name, _) in given.filter(|(_, given)| *given) {
            if !report.broken(&at("tls")) {
                report.problem(
                    &at(name),
                    "has no meaning without TLS",
                    "add tls = true, or leave it out",
                );
            }
        }
        return None;
    }
    let server_name = raw.server_name.as_deref().or(host).unwrap_or_default();
    if raw.server_name.is_some() && url::Host::parse(server_name).is_err() {
        if server_name.trim().is_empty() {
            report.problem(
                &at("server_name"),
                "is empty, which would switch the verification of the certificate off",
                "leave it out to use the host of the address",
            );
        } else {
            report.problem(
                &at("server_name"),
                format!("{server_name:?} is not a host name"),
                "leave it out to use the host of the address",
            );
        }
    }
    Some(UpstreamTls {
        server_name: server_name.to_owned(),
        ca_file: raw
            .ca_file
            .as_ref()
            .map(|file| files::ca_bundle(report, &at("ca_file"), file)),
        client: client_identity::parse(report, path, client),
        http2: raw.http2.unwrap_or(false),
    })
}
