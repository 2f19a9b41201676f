//! The resolved configuration: what it means, not what was typed. Built only by `parse`, so whoever holds a [`Config`]
//! holds a valid one.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

use super::values::Ratio;
use crate::secret::Secret;
use crate::session::{Settings as SessionSettings, StoreSettings};
use crate::tls::{ClientIdentity, ServerTls};
use crate::visitor::{ConsentRules, CookieSettings, CreationRules, VisitorSource};

/// Everything that a running sidecar goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where clients connect; at least one.
    pub listeners: Vec<Listener>,
    /// The Dressipi account and its endpoints.
    pub dressipi: crate::dressipi::Settings,
    /// How visitor sessions live.
    pub session: SessionSettings,
    /// Where visitor sessions are stored.
    pub store: StoreSettings,
    /// The visitor cookie.
    pub cookie: CookieSettings,
    /// What counts as consent.
    pub consent: ConsentRules,
    /// When a visitor may cost a profile.
    pub creation: CreationRules,
    /// Where requests go; at least one.
    pub routes: Vec<Route>,
    /// App upstreams.
    pub upstreams: Vec<Upstream>,
    /// The admin listener.
    pub admin: Option<Admin>,
    /// Logging.
    pub log: Log,
    /// Where traces go, if there are any.
    pub traces: Option<Traces>,
    /// What clients may take.
    pub limits: Limits,
    /// The process.
    pub server: Server,
}

/// An address that clients connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The address.
    pub address: ListenAddress,
    /// TLS, if it is spoken.
    pub tls: Option<ServerTls>,
    /// Where visitors' identities are looked for, in this order.
    pub visitor: Vec<VisitorSource>,
    /// Who may name visitors in a header.
    pub identity_peers: IdentityPeers,
    /// Peers whose `X-Forwarded-*` and `Forwarded` headers are believed and extended; others' are replaced.
    pub trusted_proxies: TrustedProxies,
}

/// The proxies before a listener, whose word on where a request came from is believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    /// Those in these networks.
    pub nets: Vec<IpNet>,
    /// Whoever has no address, since they connect over a Unix-domain socket; never set where there is another way to connect.
    pub unix: bool,
}

/// The peers whose headers may name visitors: those at the other end of the connection, whoever they speak for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentityPeers {
    /// Whoever can connect: nobody but processes of this host can.
    All,
    /// Those in these networks.
    Listed(Vec<IpNet>),
}

/// Where a listener waits for connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// An IP address and a port.
    Tcp(SocketAddr),
    /// A Unix-domain socket, whose peers have no address.
    Unix {
        /// The socket's file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
}

impl ListenAddress {
    /// The IP address and port, if it has them.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix { .. } => None,
        }
    }

    /// Whether only processes on this host can connect.
    pub fn is_local(&self) -> bool {
        let is_loopback = |address: SocketAddr| address.ip().to_canonical().is_loopback();
        self.tcp().is_none_or(is_loopback)
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix { path, .. } => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Where the requests of a path prefix go, and with what credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The path prefix; the longest that matches wins.
    pub path: String,
    /// Where to.
    pub upstream: UpstreamRef,
    /// What replaces the prefix on the way, if anything does.
    pub upstream_path: Option<String>,
    /// What is added.
    pub credentials: Credentials,
    /// What happens when a visitor's token should be added and there is none.
    pub on_unavailable: OnUnavailable,
    /// The client's cookies that may reach Dressipi on this route; app routes pass all.
    pub cookies: Vec<String>,
    /// The header in which an app route receives the visitor's Snowplow network user id (`subn`).
    pub subn_header: Option<HeaderName>,
    /// Whether clients may change the protocol (WebSocket); never on routes to Dressipi.
    pub upgrade: bool,
}

/// A route's upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamRef {
    /// Dressipi itself.
    Dressipi,
    /// The app upstream at this index of [`Config::upstreams`].
    App(usize),
}

/// What a route adds to its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// The visitor's access token, and to Dressipi the API key.
    Visitor,
    /// The API key alone.
    ApiKey,
    /// Nothing.
    None,
}

/// What happens to a call that should carry a token when there is no usable one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnUnavailable {
    /// It goes on without the token; Dressipi answers unpersonalised.
    Anonymous,
    /// It is answered 503 with `Retry-After`.
    Reject,
}

/// A named app server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// The name that routes use.
    pub name: String,
    /// Host name or address, without brackets around IPv6.
    pub host: String,
    /// Port.
    pub port: u16,
    /// TLS, if it is spoken.
    pub tls: Option<UpstreamTls>,
    /// How long connecting may take, TLS included.
    pub connect_timeout: Duration,
    /// How long the upstream may be silent, also while it waits for a request's body.
    pub read_timeout: Duration,
    /// How long an idle connection is kept.
    pub idle_timeout: Duration,
}

/// TLS towards an upstream. Verification cannot be switched off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamTls {
    /// The name that the certificate must have, sent as SNI; never empty.
    pub server_name: String,
    /// A PEM bundle of certificate authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Our certificate, for an app that asks for one.
    pub client: Option<ClientIdentity>,
    /// Whether HTTP/2 is offered.
    pub http2: bool,
}

/// The admin listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// The address.
    pub address: SocketAddr,
    /// The bearer token for `/sessions…`; without one nobody may use it.
    pub token: Option<Secret>,
}

// === impl TrustedProxies ===

impl TrustedProxies {
    /// Whether `peer` is one of them; it has no address over a Unix-domain socket.
    pub fn include(&self, peer: Option<IpAddr>) -> bool {
        match peer.map(|peer| peer.to_canonical()) {
            None => self.unix,
            Some(peer) => self.nets.iter().any(|net| net.contains(&peer)),
        }
    }
}

// === impl IdentityPeers ===

impl IdentityPeers {
    /// Whether they include the one that `peer` gives. One without an IP address is in no network.
    pub fn include(&self, peer: impl FnOnce() -> Option<IpAddr>) -> bool {
        match self {
            Self::All => true,
            Self::Listed(nets) => peer().is_some_and(|peer| {
                let peer = peer.to_canonical();
                nets.iter().any(|net| net.contains(&peer))
            }),
        }
    }
}

/// Logging.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// A `tracing` filter, such as `info` or `info,dressipi_sidecar::session=debug`.
    pub level: String,
    /// The form of a line.
    pub format: LogFormat,
    /// Whether each request has an access line.
    pub access: bool,
    /// The part of the requests that have one, those that failed aside.
    pub access_sample: Ratio,
}

/// Traces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traces {
    /// Where the collector takes them: a URL without user, query and fragment.
    pub endpoint: String,
    /// Headers for it, marked sensitive.
    pub headers: HeaderMap,
    /// The part of the traces begun here that are recorded.
    pub sample_ratio: Ratio,
    /// What the sidecar is called in them.
    pub service_name: String,
    /// What else is said of it.
    pub resource_attributes: Vec<(String, String)>,
    /// Certificate authorities to trust in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// How long one call may take.
    pub timeout: Duration,
    /// So many spans may wait.
    pub queue: usize,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Text,
    /// For machines, one object a line.
    Json,
}

/// What clients may take of connections, headers and time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections of all listeners.
    pub connections: usize,
    /// Connections from one address, or from one /64 network of IPv6.
    pub connections_per_address: usize,
    /// Requests on one HTTP/1.1 connection.
    pub requests_per_connection: u32,
    /// How long a connection may be idle between two requests, at least.
    pub idle_timeout: Duration,
    /// How long a request's header may take in all.
    pub header_timeout: Duration,
    /// The longest header, in bytes.
    pub header_bytes: usize,
    /// The most header lines.
    pub header_count: usize,
    /// How many bytes of a request body must arrive in each second of waiting for it; 0: any number.
    pub body_rate: u64,
    /// How long a body may be waited for before that is asked of it.
    pub body_grace: Duration,
}

/// The process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Worker threads.
    pub threads: usize,
    /// How long the sidecar serves on after it has said that it is not ready any more.
    pub drain_delay: Duration,
    /// How long requests in flight may take after that.
    pub drain_timeout: Duration,
    /// How long a client may be silent while it sends a request.
    pub client_timeout: Duration,
    /// Idle upstream connections that each worker keeps.
    pub keepalive_pool: usize,
    /// How often upstream host names are resolved anew.
    pub resolve_interval: Duration,
    /// Whether the system may write a core dump of the process.
    pub core_dumps: bool,
    /// Whether the system may back its memory with transparent huge pages.
    pub huge_pages: bool,
    /// Where a successor takes over the sockets.
    pub upgrade_socket: Option<PathBuf>,
    /// Whether answers tell how long their parts took.
    pub server_timing: bool,
    /// Whether every answer tells the state of the visitor's token.
    pub token_state_header: bool,
}
