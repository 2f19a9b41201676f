//! PURE: settings that make sense and are a risk all the same. None of them is an error: there are places where each is right.
//!
//! Here is what can be seen of the configuration that came of it. What depends on how it was typed, or on the files beside it, is
//! noted where that is looked at (`parse`).

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use ipnet::IpNet;

use super::model::{Config, IdentityPeers, ListenAddress, Listener};
use super::spans;
use crate::session::StoreSettings;
use crate::visitor::VisitorSource;

/// A risk, and how to be without it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Risk {
    /// The key that it comes from.
    pub(super) path: String,
    /// What may happen.
    pub(super) message: String,
    /// What to do about it.
    pub(super) hint: &'static str,
}

/// Whoever renews certificates has done it by then.
const EXPIRES_SOON: Duration = Duration::from_secs(30 * DAY);
const DAY: u64 = 24 * 3600;
/// Networks of a shorter prefix are a large part of the internet: nobody has a larger one to himself than 10.0.0.0/8 and
/// fc00::/7 (RFC 1918, RFC 4193).
const SHORTEST_PREFIXES: (u8, u8) = (8, 7);

/// The risks of a configuration.
pub(super) fn risks(config: &Config) -> Vec<Risk> {
    let mut risks = Vec::new();
    for (number, listener) in config.listeners.iter().enumerate() {
        listeners(&mut risks, &spans::index("listeners", number), listener);
    }
    dressipi(&mut risks, config);
    store(&mut risks, &config.store);
    if !config.cookie.secure {
        let message = "is off: the visitor cookie travels in the clear";
        note(
            &mut risks,
            "cookie.secure",
            message,
            "switch it off on localhost only",
        );
    }
    limits(&mut risks, config);
    admin(&mut risks, config);
    if config.server.core_dumps {
        let message = "is on: a core dump holds tokens and keys";
        let hint = "leave it out when the fault is found";
        note(&mut risks, "server.core_dumps", message, hint);
    }
    risks
}

/// What to say of a certificate that ends at `expires`, if anything; the rest of a sentence that begins with its file.
pub(super) fn certificate(expires: SystemTime, now: SystemTime) -> Option<String> {
    let left = expires.duration_since(now).unwrap_or_default();
    if left.is_zero() {
        return Some("has expired".to_owned());
    }
    (left < EXPIRES_SOON).then(|| match left.as_secs() / DAY {
        0 => "ends within a day".to_owned(),
        1 => "ends in 1 day".to_owned(),
        days => format!("ends in {days} days"),
    })
}

/// Whether a host is this one, by its name or address without brackets.
pub(super) fn is_loopback(host: &str) -> bool {
    let loopback = |ip: IpAddr| ip.to_canonical().is_loopback();
    host == "localhost" || host.ends_with(".localhost") || host.parse().is_ok_and(loopback)
}

fn listeners(risks: &mut Vec<Risk>, at: &str, listener: &Listener) {
    let by_header = listener
        .visitor
        .iter()
        .any(|source| matches!(source, VisitorSource::Header(_)));
    if let (IdentityPeers::Listed(nets), true) = (&listener.identity_peers, by_header)
        && let Some((whom, nets)) = large(nets)
    {
        let message = format!("lets {whom} name visitors: {nets}");
        let hint = "list the addresses or networks of the app alone";
        note(risks, &spans::join(at, "identity_peers"), message, hint);
    }
    if let (ListenAddress::Unix { mode, .. }, true) = (&listener.address, by_header)
        && mode & 0o002 != 0
    {
        let message = "lets every user of this host name visitors";
        let hint = "\"0660\", and the app in the group of the socket";
        note(risks, &spans::join(at, "socket_mode"), message, hint);
    }
    if let Some((whom, nets)) = large(&listener.trusted_proxies.nets) {
        let message = format!("believes {whom} about where requests come from: {nets}");
        let hint = "list the addresses or networks of the proxies alone: limits for each address depend on it";
        note(risks, &spans::join(at, "trusted_proxies"), message, hint);
    }
}

fn dressipi(risks: &mut Vec<Risk>, config: &Config) {
    let url = &config.dressipi.base_url;
    if !url.tls() && !is_loopback(url.server_name()) {
        let message = "is plain http: tokens and the API key can be read on the way";
        note(risks, "dressipi.base_url", message, "use https://");
    }
}

fn store(risks: &mut Vec<Risk>, store: &StoreSettings) {
    match store {
        StoreSettings::Memory { .. } => {
            let message = "forgets every visitor on exit, and each of them then costs a second profile; so do visitors who meet a second replica";
            let hint = "use \"redb\", or \"redis\" for several replicas, for anything but demonstrations and tests";
            note(risks, "session.store", message, hint);
        }
        StoreSettings::Redb { .. } | StoreSettings::Redis { .. } => {}
    }
}

fn limits(risks: &mut Vec<Risk>, config: &Config) {
    let creation = &config.creation.limits;
    if creation.per_client.is_none() {
        let message = "is off: one client can use up what all may cost";
        let hint = "leave it out for 600 a minute";
        note(risks, "creation.per_client", message, hint);
    }
    if creation.overall.is_none() {
        let message = "is off: many clients together can cost any number of profiles in a day";
        let hint = "leave it out for 6000 a minute, and mind creation.daily";
        note(risks, "creation.overall", message, hint);
    }
    if config.limits.body_rate == 0 {
        let message = "is off: clients that send nothing hold connections for as long as server.client_timeout lets them";
        note(
            risks,
            "limits.body_rate",
            message,
            "leave it out for 100 bytes a second",
        );
    }
}

fn admin(risks: &mut Vec<Risk>, config: &Config) {
    match &config.admin {
        None => {
            let message = "is not there: no health checks, no metrics, no status page";
            let hint = "add [admin] with address = \"127.0.0.1:9901\"";
            note(risks, "admin", message, hint);
        }
        Some(admin)
            if admin.token.is_none() && !admin.address.ip().to_canonical().is_loopback() =>
        {
            let message = "is not a loopback address, and there is no token: whoever reaches it reads metrics and status";
            let hint = "listen on 127.0.0.1, or let nobody but the monitoring reach it and set admin.token_file";
            note(risks, "admin.address", message, hint);
        }
        Some(_) => {}
    }
}

fn is_large(net: &IpNet) -> bool {
    let (v4, v6) = SHORTEST_PREFIXES;
    match net {
        IpNet::V4(net) => net.prefix_len() < v4,
        IpNet::V6(net) => net.prefix_len() < v6,
    }
}

/// The large ones among some networks, and who is in them.
fn large(nets: &[IpNet]) -> Option<(&'static str, String)> {
    let large: Vec<_> = nets.iter().filter(|net| is_large(net)).collect();
    let whom = match large.iter().map(|net| net.prefix_len()).min()? {
        0 => "everybody",
        _ => "a large part of the internet",
    };
    let names: Vec<_> = large.iter().map(ToString::to_string).collect();
    Some((whom, names.join(", ")))
}

fn note(risks: &mut Vec<Risk>, path: &str, message: impl Into<String>, hint: &'static str) {
    risks.push(Risk {
        path: path.to_owned(),
        message: message.into(),
        hint,
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_mentioned_from_thirty_days_before_its_end() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000 * DAY);
        let in_days = |days: u64| certificate(now + Duration::from_secs(days * DAY), now);
        assert_eq!(in_days(30), None);
        assert_eq!(in_days(29).as_deref(), Some("ends in 29 days"));
        assert_eq!(in_days(1).as_deref(), Some("ends in 1 day"));
        let hour = Duration::from_secs(3600);
        assert_eq!(
            certificate(now + hour, now).as_deref(),
            Some("ends within a day")
        );
        for past in [now, now - hour] {
            assert_eq!(certificate(past, now).as_deref(), Some("has expired"));
        }
    }

    #[test]
    fn large_networks_are_those_that_nobody_has_alone() {
        let large = |net: &str| is_large(&net.parse().unwrap());
        assert!(large("0.0.0.0/0") && large("0.0.0.0/1") && large("::/0") && large("2000::/3"));
        assert!(!large("10.0.0.0/8") && !large("fc00::/7") && !large("192.0.2.7/32"));
    }

    #[test]
    fn this_host_has_several_names() {
        for host in [
            "localhost",
            "a.localhost",
            "127.0.0.9",
            "::1",
            "::ffff:127.0.0.1",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["localhost.example", "10.0.0.1", "shop", "::"] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
