//! The configuration as it is typed: every key, whether it makes sense or not. What it means is decided in `parse`.
//!
//! Every key is optional here, so that whatever is missing can be reported together with everything else. The comments
//! say what a key is for and what its default is; `config/reference.toml` says it at length.

use serde::Deserialize;

use super::values::{
    Bytes, ClientAuth, Create, Credentials, LogFormat, OnLost, OnUnavailable, Rate, RedisMode,
    SameSite, Span, StoreKind, TlsVersion,
};
use crate::secret::Secret;

/// A whole configuration file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    /// Where clients connect; at least one.
    pub(crate) listeners: Option<Vec<Listener>>,
    /// The Dressipi account. Required.
    pub(crate) dressipi: Option<Dressipi>,
    /// How visitor sessions live, and where they are stored.
    pub(crate) session: Option<Session>,
    /// The visitor cookie.
    pub(crate) cookie: Option<Cookie>,
    /// What counts as consent.
    pub(crate) consent: Option<Consent>,
    /// When a visitor may cost a profile.
    pub(crate) creation: Option<Creation>,
    /// Where requests go; at least one.
    pub(crate) routes: Option<Vec<Route>>,
    /// App servers.
    pub(crate) upstreams: Option<Vec<Upstream>>,
    /// The admin listener; without this section there is none.
    pub(crate) admin: Option<Admin>,
    /// Logging.
    pub(crate) log: Option<Log>,
    /// What clients may take.
    pub(crate) limits: Option<Limits>,
    /// The process.
    pub(crate) server: Option<Server>,
}

/// An address that clients connect to.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Listener {
    /// IP address and port, such as `0.0.0.0:8080`, or `unix:` and the path of a socket. Required.
    pub(crate) address: Option<String>,
    /// The permissions of a Unix-domain socket, in octal. Default: `0660`.
    pub(crate) socket_mode: Option<String>,
    /// TLS. Default: none is spoken.
    pub(crate) tls: Option<ListenerTls>,
    /// Where a visitor's identity is looked for, in this order: `cookie`, `header:<name>`, `app-cookie:<name>`.
    /// Default: `["cookie"]`.
    pub(crate) visitor: Option<Vec<String>>,
    /// Addresses or networks of those who may name visitors in a header. Default: on a loopback address, whoever connects;
    /// elsewhere nobody.
    pub(crate) identity_peers: Option<Vec<String>>,
    /// Addresses or networks whose `Forwarded` and `X-Forwarded-*` headers are believed; `unix:` for whoever connects over a
    /// Unix-domain socket. Default: none.
    pub(crate) trusted_proxies: Option<Vec<String>>,
}

/// TLS of a listener.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListenerTls {
    /// The certificate with its intermediates, in PEM. Required in this section.
    pub(crate) cert_file: Option<String>,
    /// Its key, in PEM. Required in this section.
    pub(crate) key_file: Option<String>,
    /// The authorities of clients' certificates, in PEM. Required where `client_auth` is not `none`.
    pub(crate) client_ca_file: Option<String>,
    /// Whether clients show a certificate: `none`, `optional` or `required`. Default: `none`.
    pub(crate) client_auth: Option<ClientAuth>,
    /// The oldest version that is spoken: `1.2` or `1.3`. Default: `1.2`.
    pub(crate) min_version: Option<TlsVersion>,
    /// Whether HTTP/2 is offered. Default: true.
    pub(crate) http2: Option<bool>,
}

/// The Dressipi account and its endpoints.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Dressipi {
    /// The retailer's own Dressipi host, `https://…`. Required.
    pub(crate) base_url: Option<String>,
    /// The OAuth client identifier. This or `client_id_file` is required.
    pub(crate) client_id: Option<Secret>,
    /// A file that holds the client identifier.
    pub(crate) client_id_file: Option<String>,
    /// The API key. Default: none is sent.
    pub(crate) api_key: Option<Secret>,
    /// A file that holds the API key.
    pub(crate) api_key_file: Option<String>,
    /// The redirect URI of the OAuth calls. Default: `urn:ietf:wg:oauth:2.0:oob:auto`.
    pub(crate) redirect_uri: Option<String>,
    /// The path of the authorization endpoint. Default: `/api/oauth/authorize`.
    pub(crate) authorize_path: Option<String>,
    /// The path of the token endpoint. Default: `/api/oauth/token`.
    pub(crate) token_path: Option<String>,
    /// How long connecting may take. Default: `2s`.
    pub(crate) connect_timeout: Option<Span>,
    /// How long a whole OAuth call may take. Default: `10s`.
    pub(crate) timeout: Option<Span>,
    /// A PEM bundle of certificate authorities to trust instead of the system's.
    pub(crate) ca_file: Option<String>,
    /// Our certificate with its intermediates, in PEM, for a Dressipi that asks for one. Default: none is shown.
    pub(crate) client_certificate_file: Option<String>,
    /// Its key, in PEM.
    pub(crate) client_key_file: Option<String>,
    /// How the headers are called.
    pub(crate) headers: Option<Headers>,
}

/// The headers that carry our credentials.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Headers {
    /// The API key's header. Default: `x-api-key`.
    pub(crate) api_key: Option<String>,
    /// The access token's header. Default: `x-dressipi-jwt`.
    pub(crate) token: Option<String>,
    /// What the token's header holds, with `{token}` for the token. Default: `{token}`.
    pub(crate) token_value: Option<String>,
}

/// How visitor sessions live, and where they are stored.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Session {
    /// `redb` (one file), `redis` (for several replicas) or `memory` (forgotten on exit). Default: `redb`.
    pub(crate) store: Option<StoreKind>,
    /// redb: the database file. Required there.
    pub(crate) path: Option<String>,
    /// The keys that seal what is stored. Required for redis. Default: redb makes a key once beside the database; memory has
    /// one that ends with the process.
    pub(crate) keys_file: Option<String>,
    /// memory: how many visitors it holds. Default: 100000.
    pub(crate) max_visitors: Option<u64>,
    /// redb: memory for the database's page cache. Default: `64 MiB`.
    pub(crate) page_cache: Option<Bytes>,
    /// How many visitors the cache in front of the store holds. Default: 100000.
    pub(crate) cache_capacity: Option<u64>,
    /// How long before its expiry a token counts as expired. Default: `30s`.
    pub(crate) expiry_margin: Option<Span>,
    /// How long before that a token is refreshed in the background. Default: `1m`.
    pub(crate) refresh_ahead: Option<Span>,
    /// How long a request waits for a token. Default: `2s`.
    pub(crate) max_wait: Option<Span>,
    /// How many OAuth flows may run at the same time. Default: 64.
    pub(crate) max_flows: Option<u64>,
    /// How many of them may make profiles, so that the others are there for known visitors. Default: half of `max_flows`.
    pub(crate) max_creations: Option<u64>,
    /// How long a visitor session is kept after it was last written. Default: `400d`.
    pub(crate) idle_timeout: Option<Span>,
    /// What happens to a visitor whose refresh token the server has declared dead: `recreate` or `anonymous`.
    /// Default: `recreate`.
    pub(crate) on_lost: Option<OnLost>,
    /// How long a code may wait for its exchange. Default: `9m`.
    pub(crate) max_code_age: Option<Span>,
    /// How many authorize calls with a lost answer a visitor may have cost before no more are made. Default: 3.
    pub(crate) max_unconfirmed: Option<u32>,
    /// The pause after the first of them, doubled by each further one. Default: `30s`.
    pub(crate) unconfirmed_pause: Option<Span>,
    /// The first pause after a failed OAuth call, doubled by each further one. Default: `1s`.
    pub(crate) min_backoff: Option<Span>,
    /// The longest such pause. Default: `1m`.
    pub(crate) max_backoff: Option<Span>,
    /// How long a refresh that a 401 or 403 asked for keeps further ones of the visitor away. Default: `30s`.
    pub(crate) rejection_pause: Option<Span>,
    /// How long a flow owns its visitor without saying so again. Default: `dressipi.timeout` and five seconds.
    pub(crate) lease_term: Option<Span>,
    /// How long a refresh token that Dressipi calls invalid is kept for a replica that may hold its successor, before a new
    /// profile is made. Default: `2m`.
    pub(crate) lost_grace: Option<Span>,
    /// How long a cached token is used without asking the store. Default: `10s`.
    pub(crate) cache_validity: Option<Span>,
    /// redis: the servers. Required there.
    pub(crate) redis: Option<Redis>,
}

/// The Redis servers that hold the visitor sessions.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Redis {
    /// The server, `redis://host:port`, or `rediss://` for TLS. This or `urls` is required.
    pub(crate) url: Option<String>,
    /// The sentinels, or some servers of the cluster.
    pub(crate) urls: Option<Vec<String>>,
    /// What the servers are to each other: `standalone`, `sentinel` or `cluster`. Default: `standalone`.
    pub(crate) mode: Option<RedisMode>,
    /// sentinel: what the sentinels call the master. Required there.
    pub(crate) master_name: Option<String>,
    /// The ACL user. Default: the one called `default`.
    pub(crate) username: Option<String>,
    /// The password. Default: none is sent.
    pub(crate) password: Option<Secret>,
    /// A file that holds the password.
    pub(crate) password_file: Option<String>,
    /// sentinel: the ACL user at the sentinels. Default: the one called `default`.
    pub(crate) sentinel_username: Option<String>,
    /// sentinel: the password at the sentinels. Default: none is sent.
    pub(crate) sentinel_password: Option<Secret>,
    /// sentinel: a file that holds it.
    pub(crate) sentinel_password_file: Option<String>,
    /// The number of the database. Default: 0.
    pub(crate) database: Option<u32>,
    /// What every key begins with. Default: `dressipi-sidecar:`.
    pub(crate) key_prefix: Option<String>,
    /// How long connecting may take, TLS and login included. Default: `1s`.
    pub(crate) connect_timeout: Option<Span>,
    /// How long one call may take in all, retries included. Default: `500ms`.
    pub(crate) timeout: Option<Span>,
    /// TLS: a PEM bundle of certificate authorities to trust instead of the system's.
    pub(crate) ca_file: Option<String>,
    /// TLS: our certificate, in PEM.
    pub(crate) client_certificate_file: Option<String>,
    /// TLS: its key, in PEM.
    pub(crate) client_key_file: Option<String>,
    /// How many replicas must confirm a write before it counts. Default: 0.
    pub(crate) wait_replicas: Option<u32>,
    /// How long they may take. Default: half of `timeout`.
    pub(crate) wait_timeout: Option<Span>,
}

/// The visitor cookie.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cookie {
    /// Its name. Default: `__Host-dressipi-visitor`.
    pub(crate) name: Option<String>,
    /// Whether browsers may send it over TLS only. Default: true.
    pub(crate) secure: Option<bool>,
    /// Whether requests from other sites carry it: `lax`, `strict` or `none`. Default: `lax`.
    pub(crate) same_site: Option<SameSite>,
    /// How long it lives after it was last set; browsers allow 400 days at most. Default: `400d`.
    pub(crate) max_age: Option<Span>,
    /// How long a visitor is known by it in all. Default: for as long as they come back in time.
    pub(crate) max_life: Option<Span>,
    /// How old it is when it is set anew. Default: a tenth of `max_age`.
    pub(crate) renew_after: Option<Span>,
    /// The domain whose hosts share it. Default: the host that set it, alone.
    pub(crate) domain: Option<String>,
    /// The path below which it is sent. Default: `/`.
    pub(crate) path: Option<String>,
    /// Whether the sealed token set rides with the visitor in a second cookie, in case that the store is lost. Default: false.
    pub(crate) recovery: Option<bool>,
}

/// What counts as consent. Without it no profile is made and none is used.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Consent {
    /// Cookies whose presence means that the visitor opted out. Default: `["dressipi_dnt"]`.
    pub(crate) opt_out_cookies: Option<Vec<String>>,
    /// A cookie that must be there. Default: none.
    pub(crate) required_cookie: Option<String>,
    /// A header that must be there, in place of the cookie. Default: none.
    pub(crate) required_header: Option<String>,
    /// The value that gives consent, with `*` for anything. Default: any but the empty one.
    pub(crate) required_value: Option<String>,
    /// The value that refuses or withdraws it, with `*` for anything. Default: none.
    pub(crate) refused_value: Option<String>,
    /// Whether `Sec-GPC: 1` counts as an opt-out. Default: true.
    pub(crate) honour_gpc: Option<bool>,
}

/// When a visitor whom the store does not know may cost a profile.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Creation {
    /// On which request: `first-request`, `navigation` or `returning`. Default: `first-request`.
    pub(crate) create: Option<Create>,
    /// Whether known crawlers and tools stay anonymous. Default: true.
    pub(crate) exclude_bots: Option<bool>,
    /// Further parts of a `User-Agent` that mark a bot. Default: none.
    pub(crate) extra_bots: Option<Vec<String>>,
    /// The cookie of a token that the vendor's own scripts got for the visitor, which then serves in place of a new profile.
    /// Default: none.
    pub(crate) adopt_cookie: Option<String>,
    /// How many profiles one client address may cost: `"600/1m"`, or `"unlimited"`. Default: `600/1m`.
    pub(crate) per_client: Option<Rate>,
    /// How many all of them may cost. Default: `6000/1m`.
    pub(crate) overall: Option<Rate>,
    /// How many profiles this process makes in a day of UTC. Default: 1000000.
    pub(crate) daily: Option<u64>,
}

/// Where the requests of a path prefix go.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Route {
    /// The path prefix; the longest that matches wins. Required.
    pub(crate) path: Option<String>,
    /// `dressipi`, or the name of one of the upstreams. Required.
    pub(crate) upstream: Option<String>,
    /// What replaces the prefix on the way. Default: nothing, the path stays.
    pub(crate) upstream_path: Option<String>,
    /// What is added: `visitor`, `api-key` or `none`. Default: `visitor`.
    pub(crate) credentials: Option<Credentials>,
    /// What happens when there is no usable token: `anonymous` or `reject`. Default: `anonymous`.
    pub(crate) on_unavailable: Option<OnUnavailable>,
    /// The client's cookies that may reach Dressipi. Default: none.
    pub(crate) cookies: Option<Vec<String>>,
    /// The header in which an app receives the visitor's `subn`. Default: none.
    pub(crate) subn_header: Option<String>,
    /// Whether clients may change the protocol (WebSocket). Default: true for apps.
    pub(crate) upgrade: Option<bool>,
}

/// A named app server.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Upstream {
    /// The name that routes use; `dressipi` is taken. Required.
    pub(crate) name: Option<String>,
    /// `host:port`. Required.
    pub(crate) address: Option<String>,
    /// Whether TLS is spoken. Default: false.
    pub(crate) tls: Option<bool>,
    /// TLS: the name that the certificate must have. Default: the host of the address.
    pub(crate) server_name: Option<String>,
    /// TLS: a PEM bundle of certificate authorities to trust instead of the system's.
    pub(crate) ca_file: Option<String>,
    /// TLS: our certificate with its intermediates, in PEM, for an app that asks for one. Default: none is shown.
    pub(crate) client_certificate_file: Option<String>,
    /// TLS: its key, in PEM.
    pub(crate) client_key_file: Option<String>,
    /// TLS: whether HTTP/2 is offered. Over it, a whole request body must arrive within `read_timeout`. Default: false.
    pub(crate) http2: Option<bool>,
    /// How long connecting may take, TLS included. Default: `2s`.
    pub(crate) connect_timeout: Option<Span>,
    /// How long the upstream may be silent, also while it waits for a request's body. Default: `60s`.
    pub(crate) read_timeout: Option<Span>,
    /// How long an idle connection is kept. Default: `60s`.
    pub(crate) idle_timeout: Option<Span>,
}

/// The admin listener.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Admin {
    /// IP address and port. Required in this section.
    pub(crate) address: Option<String>,
    /// The bearer token that `/sessions…` asks for. Default: nobody may use it.
    pub(crate) token: Option<Secret>,
    /// A file that holds the token.
    pub(crate) token_file: Option<String>,
}

/// Logging.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Log {
    /// A level, or levels of modules: `info,dressipi_sidecar::session=debug`. Default: `info`.
    pub(crate) level: Option<String>,
    /// `auto` (text on a terminal, JSON elsewhere), `text` or `json`. Default: `auto`.
    pub(crate) format: Option<LogFormat>,
    /// Whether each request has a line. Default: true.
    pub(crate) access: Option<bool>,
}

/// What clients may take of connections, headers and time.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limits {
    /// Connections of all listeners. Default: 10000.
    pub(crate) connections: Option<u64>,
    /// Connections from one address; those of trusted proxies and of this host do not count. Default: 2000.
    pub(crate) connections_per_address: Option<u64>,
    /// Requests on one HTTP/1.1 connection. Default: 10000.
    pub(crate) requests_per_connection: Option<u64>,
    /// How long a connection may be idle between two requests. Default: `75s`.
    pub(crate) idle_timeout: Option<Span>,
    /// How long a request's header may take in all. Default: `30s`.
    pub(crate) header_timeout: Option<Span>,
    /// The longest header. Default: 64 KiB.
    pub(crate) header_bytes: Option<Bytes>,
    /// The most header lines. Default: 100.
    pub(crate) header_count: Option<u64>,
    /// Bytes of a request body for each second of waiting; 0: any number. Default: 100.
    pub(crate) body_rate: Option<u64>,
    /// How long a body may be waited for before that is asked of it. Default: `10s`.
    pub(crate) body_grace: Option<Span>,
}

/// The process.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Server {
    /// Worker threads. Default: as many as there are processors.
    pub(crate) threads: Option<u64>,
    /// How long the sidecar serves on after it has said that it is not ready any more. Default: `2s`.
    pub(crate) drain_delay: Option<Span>,
    /// How long requests in flight may take after that. Default: `20s`.
    pub(crate) drain_timeout: Option<Span>,
    /// How long a client may be silent while it sends a request. Default: `60s`.
    pub(crate) client_timeout: Option<Span>,
    /// Idle upstream connections kept, in all. Default: 128.
    pub(crate) keepalive_pool: Option<u64>,
    /// How often upstream host names are resolved anew. Default: `30s`.
    pub(crate) resolve_interval: Option<Span>,
    /// Whether the system may write a core dump, in which tokens and keys would be. Default: false.
    pub(crate) core_dumps: Option<bool>,
}
