//! The keys of all sections but `[session]`, in the order of the reference.

use super::value::{list, size, time};
use super::{Rows, Shown, session};
use crate::config::Traces;
use crate::config::spans;
use crate::config::{
    Config, Credentials, IdentityPeers, ListenAddress, Listener, LogFormat, OnUnavailable, Route,
    Upstream, UpstreamRef,
};
use crate::tls::{ClientAuth, ClientIdentity, MinVersion};
use crate::visitor::{ConsentPlace, CreateOn, Rate, SameSite, VisitorSource};

pub(super) fn all(rows: &mut Rows<'_>, config: &Config) {
    for (number, listener) in config.listeners.iter().enumerate() {
        listeners(rows, &spans::index("listeners", number), listener);
    }
    dressipi(rows, config);
    session::keys(rows, config);
    cookie(rows, config);
    consent(rows, config);
    creation(rows, config);
    for (number, route) in config.routes.iter().enumerate() {
        routes(rows, &spans::index("routes", number), route, config);
    }
    for (number, upstream) in config.upstreams.iter().enumerate() {
        upstreams(rows, &spans::index("upstreams", number), upstream);
    }
    process(rows, config);
}

fn listeners(rows: &mut Rows<'_>, at: &str, listener: &Listener) {
    rows.put(at, "address", listener.address.to_string());
    let mode = match &listener.address {
        ListenAddress::Unix { mode, .. } => Some(format!("{mode:04o}")),
        ListenAddress::Tcp(_) => None,
    };
    rows.put(at, "socket_mode", mode);
    let of_tls = spans::join(at, "tls");
    let tls = listener.tls.as_ref();
    rows.put(&of_tls, "cert_file", tls.map(|tls| &tls.cert_file));
    rows.put(&of_tls, "key_file", tls.map(|tls| &tls.key_file));
    let (auth, ca_file) = match tls.map(|tls| &tls.client_auth) {
        None => (None, None),
        Some(ClientAuth::None) => (Some("none"), None),
        Some(ClientAuth::Optional(file)) => (Some("optional"), Some(file)),
        Some(ClientAuth::Required(file)) => (Some("required"), Some(file)),
    };
    rows.put(&of_tls, "client_auth", auth);
    rows.put(&of_tls, "client_ca_file", ca_file);
    let version = tls.map(|tls| match tls.min_version {
        MinVersion::Tls12 => "1.2",
        MinVersion::Tls13 => "1.3",
    });
    rows.put(&of_tls, "min_version", version);
    rows.put(&of_tls, "http2", tls.map(|tls| tls.http2));
    let sources = listener.visitor.iter().map(|source| match source {
        VisitorSource::Cookie => "cookie".to_owned(),
        VisitorSource::Header(name) => format!("header:{name}"),
        VisitorSource::AppCookie(name) => format!("app-cookie:{name}"),
    });
    rows.put(at, "visitor", list(sources));
    let peers = match &listener.identity_peers {
        IdentityPeers::All => Shown::Nothing,
        IdentityPeers::Listed(nets) => list(nets),
    };
    rows.put(at, "identity_peers", peers);
    let proxies = &listener.trusted_proxies;
    let nets = proxies.nets.iter().map(ToString::to_string);
    let unix = proxies.unix.then(|| "unix:".to_owned());
    rows.put(at, "trusted_proxies", list(nets.chain(unix)));
}

fn dressipi(rows: &mut Rows<'_>, config: &Config) {
    let (at, settings) = ("dressipi", &config.dressipi);
    rows.put(at, "base_url", settings.base_url.to_string());
    // OAuth's client identifier is public; one that is kept in a file is shown as the secrets are.
    rows.put_secret(at, "client_id", &settings.client_id);
    rows.put_secret(at, "api_key", settings.api_key.as_ref());
    rows.put(at, "redirect_uri", &settings.redirect_uri);
    rows.put(at, "authorize_path", &settings.authorize_path);
    rows.put(at, "token_path", &settings.token_path);
    rows.put(at, "connect_timeout", settings.connect_timeout);
    rows.put(at, "timeout", settings.timeout);
    rows.put(at, "ca_file", settings.ca_file.as_ref());
    client_identity(rows, at, settings.client_identity.as_ref());
    let (at, headers) = ("dressipi.headers", &settings.headers);
    rows.put(at, "api_key", &headers.api_key);
    rows.put(at, "token", &headers.token);
    rows.put(at, "token_value", headers.token_template.text());
}

/// The certificate that we show to those who ask.
pub(super) fn client_identity(rows: &mut Rows<'_>, at: &str, identity: Option<&ClientIdentity>) {
    let certificate = identity.map(|identity| &identity.certificate_file);
    rows.put(at, "client_certificate_file", certificate);
    let key = identity.map(|identity| &identity.key_file);
    rows.put(at, "client_key_file", key);
}

fn cookie(rows: &mut Rows<'_>, config: &Config) {
    let (at, cookie) = ("cookie", &config.cookie);
    rows.put(at, "name", &cookie.name);
    rows.put(at, "secure", cookie.secure);
    let same_site = match cookie.same_site {
        SameSite::Lax => "lax",
        SameSite::Strict => "strict",
        SameSite::None => "none",
    };
    rows.put(at, "same_site", same_site);
    rows.put(at, "max_age", cookie.max_age);
    rows.put(at, "renew_after", cookie.renew_after);
    rows.put(at, "max_life", cookie.max_life);
    rows.put(at, "domain", cookie.domain.as_ref());
    rows.put(at, "path", &cookie.path);
    rows.put(at, "recovery", cookie.recovery);
}

fn consent(rows: &mut Rows<'_>, config: &Config) {
    let (at, consent) = ("consent", &config.consent);
    rows.put(at, "opt_out_cookies", list(&consent.opt_out_cookies));
    let required = consent.required.as_ref();
    let (cookie, header) = match required.map(|required| &required.place) {
        None => (None, None),
        Some(ConsentPlace::Cookie(name)) => (Some(name), None),
        Some(ConsentPlace::Header(name)) => (None, Some(name)),
    };
    rows.put(at, "required_cookie", cookie);
    rows.put(at, "required_header", header);
    let given = required.and_then(|required| required.given.as_ref());
    rows.put(at, "required_value", given.map(|pattern| pattern.text()));
    let refused = required.and_then(|required| required.refused.as_ref());
    rows.put(at, "refused_value", refused.map(|pattern| pattern.text()));
    rows.put(at, "honour_gpc", consent.honour_gpc);
}

fn creation(rows: &mut Rows<'_>, config: &Config) {
    let (at, creation) = ("creation", &config.creation);
    let create = match creation.create {
        CreateOn::FirstRequest => "first-request",
        CreateOn::Navigation => "navigation",
        CreateOn::Returning => "returning",
    };
    rows.put(at, "create", create);
    rows.put(at, "exclude_bots", creation.exclude_bots);
    rows.put(at, "extra_bots", list(&creation.extra_bots));
    rows.put(at, "adopt_cookie", creation.adopt_cookie.as_ref());
    let rate = |rate: Option<Rate>| match rate {
        None => "unlimited".to_owned(),
        Some(Rate { count, per }) => format!("{count}/{}", time(per)),
    };
    rows.put(at, "per_client", rate(creation.limits.per_client));
    rows.put(at, "overall", rate(creation.limits.overall));
    rows.put(at, "daily", creation.limits.daily);
}

fn routes(rows: &mut Rows<'_>, at: &str, route: &Route, config: &Config) {
    rows.put(at, "path", &route.path);
    let upstream = match route.upstream {
        UpstreamRef::Dressipi => Some("dressipi"),
        UpstreamRef::App(index) => config.upstreams.get(index).map(|app| app.name.as_str()),
    };
    rows.put(at, "upstream", upstream);
    rows.put(at, "upstream_path", route.upstream_path.as_ref());
    let credentials = match route.credentials {
        Credentials::Visitor => "visitor",
        Credentials::ApiKey => "api-key",
        Credentials::None => "none",
    };
    rows.put(at, "credentials", credentials);
    let on_unavailable = match route.on_unavailable {
        OnUnavailable::Anonymous => "anonymous",
        OnUnavailable::Reject => "reject",
    };
    // Of no meaning where no token is added.
    let by_visitor = route.credentials == Credentials::Visitor;
    rows.put(at, "on_unavailable", by_visitor.then_some(on_unavailable));
    rows.put(at, "cookies", list(&route.cookies));
    rows.put(at, "subn_header", route.subn_header.as_ref());
    rows.put(at, "upgrade", route.upgrade);
}

fn upstreams(rows: &mut Rows<'_>, at: &str, upstream: &Upstream) {
    rows.put(at, "name", &upstream.name);
    let address = match upstream.host.contains(':') {
        true => format!("[{}]:{}", upstream.host, upstream.port),
        false => format!("{}:{}", upstream.host, upstream.port),
    };
    rows.put(at, "address", address);
    let tls = upstream.tls.as_ref();
    rows.put(at, "tls", tls.is_some());
    rows.put(at, "server_name", tls.map(|tls| &tls.server_name));
    rows.put(at, "ca_file", tls.and_then(|tls| tls.ca_file.as_ref()));
    client_identity(rows, at, tls.and_then(|tls| tls.client.as_ref()));
    rows.put(at, "http2", tls.map(|tls| tls.http2));
    rows.put(at, "connect_timeout", upstream.connect_timeout);
    rows.put(at, "read_timeout", upstream.read_timeout);
    rows.put(at, "idle_timeout", upstream.idle_timeout);
}

fn process(rows: &mut Rows<'_>, config: &Config) {
    let admin = config.admin.as_ref();
    let address = admin.map(|admin| admin.address.to_string());
    rows.put("admin", "address", address);
    let token = admin.and_then(|admin| admin.token.as_ref());
    rows.put_secret("admin", "token", token);

    rows.put("log", "level", &config.log.level);
    let format = match config.log.format {
        LogFormat::Auto => "auto",
        LogFormat::Text => "text",
        LogFormat::Json => "json",
    };
    rows.put("log", "format", format);
    rows.put("log", "access", config.log.access);
    let sample = config.log.access_sample.value();
    rows.put("log", "access_sample", sample);

    traces(rows, config.traces.as_ref());

    let (at, limits) = ("limits", &config.limits);
    rows.put(at, "connections", limits.connections);
    let per_address = limits.connections_per_address;
    rows.put(at, "connections_per_address", per_address);
    let requests = limits.requests_per_connection;
    rows.put(at, "requests_per_connection", requests);
    rows.put(at, "idle_timeout", limits.idle_timeout);
    rows.put(at, "header_timeout", limits.header_timeout);
    rows.put(at, "header_bytes", size(limits.header_bytes));
    rows.put(at, "header_count", limits.header_count);
    rows.put(at, "body_rate", limits.body_rate);
    rows.put(at, "body_grace", limits.body_grace);

    let (at, server) = ("server", &config.server);
    rows.put(at, "threads", server.threads);
    rows.put(at, "drain_delay", server.drain_delay);
    rows.put(at, "drain_timeout", server.drain_timeout);
    rows.put(at, "client_timeout", server.client_timeout);
    rows.put(at, "keepalive_pool", server.keepalive_pool);
    rows.put(at, "resolve_interval", server.resolve_interval);
    rows.put(at, "core_dumps", server.core_dumps);
    rows.put(at, "huge_pages", server.huge_pages);
    let upgrade_socket = server.upgrade_socket.as_ref();
    rows.put(at, "upgrade_socket", upgrade_socket);
    rows.put(at, "server_timing", server.server_timing);
    rows.put(at, "token_state_header", server.token_state_header);
}

fn traces(rows: &mut Rows<'_>, traces: Option<&Traces>) {
    let at = "traces";
    rows.put(at, "endpoint", traces.map(|traces| &traces.endpoint));
    let headers = traces.is_some_and(|traces| !traces.headers.is_empty());
    let headers = match headers {
        true => Shown::Secret,
        false => Shown::Nothing,
    };
    rows.put_secret(at, "headers", headers);
    let ratio = traces.map(|traces| traces.sample_ratio.value());
    rows.put(at, "sample_ratio", ratio);
    let name = traces.map(|traces| &traces.service_name);
    rows.put(at, "service_name", name);
    let attributes = traces.map(|traces| {
        let pairs = traces.resource_attributes.iter();
        let pairs = pairs.map(|(key, value)| format!("{}={}", written(key), written(value)));
        pairs.collect::<Vec<_>>().join(",")
    });
    let attributes = attributes.filter(|attributes| !attributes.is_empty());
    rows.put(at, "resource_attributes", attributes);
    rows.put(
        at,
        "ca_file",
        traces.and_then(|traces| traces.ca_file.as_ref()),
    );
    rows.put(at, "timeout", traces.map(|traces| time(traces.timeout)));
    rows.put(at, "queue", traces.map(|traces| traces.queue));
}

/// What a resource attribute may have as it is.
const PLAIN: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'/')
    .remove(b':');

/// The value of a resource attribute, as it is typed.
fn written(value: &str) -> impl std::fmt::Display {
    percent_encoding::utf8_percent_encode(value, PLAIN)
}
