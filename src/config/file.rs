//! The configuration as it is typed: every key, whether it makes sense or not. What it means is decided in `parse`.
//!
//! Every key is optional here, so that whatever is missing can be reported together with everything else.
//!
//! The comments are what users read in their editors: `schema` makes the JSON Schema of this model, with them as its
//! descriptions. They say what a key is for, its unit, and its default, in short; `config/reference.toml` says it at length.
//! ``Default: `2s`.`` becomes a default of the schema; a default that is no value is told without backticks at its beginning. The
//! `schemars` attributes refuse nothing that `parse` takes, but for odd ways of writing; `parse` knows more and says it better.

use schemars::JsonSchema;
use serde::Deserialize;

use super::schema::patterns::{
    COOKIE, DOMAIN, HEADER, HOST, HTTP, LISTEN, MODE, OTLP, PATH, REDIS, SOCKET, SOURCE, TOKEN,
};
use super::values::{
    Bytes, ClientAuth, Create, Credentials, LogFormat, OnLost, OnUnavailable, Rate, Ratio,
    RedisMode, SameSite, Span, StoreKind, TlsVersion,
};
use crate::secret::Secret;

/// A whole configuration file.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    /// Where clients connect: one `[[listeners]]` for each address, at least one. Required.
    #[schemars(required, length(min = 1))]
    pub(crate) listeners: Option<Vec<Listener>>,
    /// The Dressipi account. Required.
    #[schemars(required)]
    pub(crate) dressipi: Option<Dressipi>,
    /// How visitor sessions live, and where they are stored; the default store, `redb`, needs a `path`. Required.
    #[schemars(required)]
    pub(crate) session: Option<Session>,
    /// The visitor cookie, by which browsers are known.
    pub(crate) cookie: Option<Cookie>,
    /// What counts as consent. Without it no profile is made and none is used.
    pub(crate) consent: Option<Consent>,
    /// When a visitor whom the store does not know may cost a profile.
    pub(crate) creation: Option<Creation>,
    /// Where requests go: one `[[routes]]` for each path prefix, at least one. Required.
    #[schemars(required, length(min = 1))]
    pub(crate) routes: Option<Vec<Route>>,
    /// App servers that routes can name, one `[[upstreams]]` each.
    pub(crate) upstreams: Option<Vec<Upstream>>,
    /// The admin listener: health, metrics, status page. Without this section there is none.
    pub(crate) admin: Option<Admin>,
    /// Logging.
    pub(crate) log: Option<Log>,
    /// Traces, sent to a collector by OTLP. Without this section, or without `endpoint` in it, there are none.
    pub(crate) traces: Option<Traces>,
    /// What clients may take of connections, headers and time.
    pub(crate) limits: Option<Limits>,
    /// The process.
    pub(crate) server: Option<Server>,
}

/// An address that clients connect to.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Listener {
    /// IP address and port, such as `0.0.0.0:8080`, or `unix:` and the path of a socket. Required.
    #[schemars(required, regex(pattern = LISTEN), example = "0.0.0.0:8080", example = "unix:/run/sidecar/http.sock")]
    pub(crate) address: Option<String>,
    /// The permissions of a Unix-domain socket, in octal. Default: `0660`.
    #[schemars(regex(pattern = MODE))]
    pub(crate) socket_mode: Option<String>,
    /// TLS. Default: none is spoken.
    pub(crate) tls: Option<ListenerTls>,
    /// Where a visitor's identity is looked for; the first source that names one wins: `cookie`, `header:<name>`,
    /// `app-cookie:<name>`. Default: `["cookie"]`.
    #[schemars(length(min = 1), inner(regex(pattern = SOURCE)), example = ["cookie"], example = ["header:x-visitor-id"])]
    pub(crate) visitor: Option<Vec<String>>,
    /// Addresses or networks of those who may name visitors in a header. Default: on a loopback address, whoever connects;
    /// elsewhere nobody.
    #[schemars(example = ["10.1.0.0/16"])]
    pub(crate) identity_peers: Option<Vec<String>>,
    /// Addresses or networks of proxies whose `Forwarded` and `X-Forwarded-*` headers are believed; `unix:` for whoever
    /// connects over a Unix-domain socket. Default: `[]`.
    #[schemars(example = ["10.0.0.0/8"])]
    pub(crate) trusted_proxies: Option<Vec<String>>,
}

/// TLS of a listener.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend(
    "if" = { "properties": { "client_auth": { "enum": ["optional", "required"] } }, "required": ["client_auth"] },
    "then" = { "required": ["client_ca_file"] },
))]
pub(crate) struct ListenerTls {
    /// The certificate with its intermediates: a file in PEM. Required in this section.
    #[schemars(required)]
    pub(crate) cert_file: Option<String>,
    /// The certificate's key: a file in PEM. Required in this section.
    #[schemars(required)]
    pub(crate) key_file: Option<String>,
    /// The authorities of clients' certificates: a file in PEM. Required where `client_auth` is not `none`.
    pub(crate) client_ca_file: Option<String>,
    /// Whether clients show a certificate: `none`, `optional` (one that is shown must be good) or `required`. Default:
    /// `none`.
    pub(crate) client_auth: Option<ClientAuth>,
    /// The oldest version of TLS that is spoken: `1.2` or `1.3`. Default: `1.2`.
    pub(crate) min_version: Option<TlsVersion>,
    /// Whether HTTP/2 is offered beside HTTP/1.1. Default: `true`.
    pub(crate) http2: Option<bool>,
}

/// The Dressipi account and its endpoints.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend(
    "if" = { "not": { "required": ["client_id_file"] } },
    "then" = { "required": ["client_id"] },
    "dependentRequired" = { "client_certificate_file": ["client_key_file"], "client_key_file": ["client_certificate_file"] },
))]
pub(crate) struct Dressipi {
    /// The retailer's own Dressipi host: scheme, host and port, no path. Required.
    #[schemars(required, regex(pattern = HTTP), example = "https://dressipi.shop.example")]
    pub(crate) base_url: Option<String>,
    /// The OAuth client identifier. This or `client_id_file` is required.
    pub(crate) client_id: Option<Secret>,
    /// A file that holds the OAuth client identifier, in place of `client_id`.
    pub(crate) client_id_file: Option<String>,
    /// The API key, sent with the calls to Dressipi. Better in `api_key_file` than here. Default: none is sent.
    pub(crate) api_key: Option<Secret>,
    /// A file that holds the API key, in place of `api_key`.
    pub(crate) api_key_file: Option<String>,
    /// The redirect URI of the OAuth calls. Default: `urn:ietf:wg:oauth:2.0:oob:auto`.
    pub(crate) redirect_uri: Option<String>,
    /// The path of the authorization endpoint. Default: `/api/oauth/authorize`.
    #[schemars(regex(pattern = PATH))]
    pub(crate) authorize_path: Option<String>,
    /// The path of the token endpoint. Default: `/api/oauth/token`.
    #[schemars(regex(pattern = PATH))]
    pub(crate) token_path: Option<String>,
    /// How long connecting may take. Default: `2s`.
    pub(crate) connect_timeout: Option<Span>,
    /// How long a whole OAuth call may take. Default: `10s`.
    pub(crate) timeout: Option<Span>,
    /// A PEM bundle of certificate authorities to trust. Default: the system's.
    pub(crate) ca_file: Option<String>,
    /// Our certificate with its intermediates, a file in PEM, for a Dressipi that asks for one. Default: none is shown.
    pub(crate) client_certificate_file: Option<String>,
    /// The key of `client_certificate_file`: a file in PEM. Required with it.
    pub(crate) client_key_file: Option<String>,
    /// How the headers are called that carry our credentials.
    pub(crate) headers: Option<Headers>,
}

/// The headers that carry our credentials.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Headers {
    /// The header of the API key. Default: `x-api-key`.
    #[schemars(regex(pattern = HEADER))]
    pub(crate) api_key: Option<String>,
    /// The header of the access token. Default: `x-dressipi-jwt`.
    #[schemars(regex(pattern = HEADER))]
    pub(crate) token: Option<String>,
    /// What the token's header holds, with `{token}` for the token: with `authorization` that is `Bearer {token}`. Default:
    /// `{token}`.
    #[schemars(regex(pattern = TOKEN))]
    pub(crate) token_value: Option<String>,
}

/// How visitor sessions live, and where they are stored.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("allOf" = [
    {
        "if": { "properties": { "store": { "const": "redb" } } },
        "then": { "required": ["path"] }
    },
    {
        "if": { "properties": { "store": { "const": "redis" } }, "required": ["store"] },
        "then": { "required": ["keys_file", "redis"] }
    },
]))]
pub(crate) struct Session {
    /// `redb` (one file), `redis` (for several replicas) or `memory` (forgotten on exit). Default: `redb`.
    pub(crate) store: Option<StoreKind>,
    /// redb: the database file, which nothing else may use. Required there.
    #[schemars(example = "/var/lib/dressipi-sidecar/sessions.redb")]
    pub(crate) path: Option<String>,
    /// A file with the keys that seal what is stored; `dressipi-sidecar keygen` makes one. Required for redis. Default:
    /// redb makes a key once beside the database; memory has one that ends with the process.
    pub(crate) keys_file: Option<String>,
    /// memory: how many visitors the store holds; beyond that new ones stay anonymous. Default: `100000`.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub(crate) max_visitors: Option<u64>,
    /// redb: memory for the database's page cache, as a number of bytes or with a unit. Default: `64 MiB`.
    pub(crate) page_cache: Option<Bytes>,
    /// How many visitors the cache in front of the store holds. Default: `100000`.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub(crate) cache_capacity: Option<u64>,
    /// How long before its expiry a token counts as expired. Default: `30s`.
    pub(crate) expiry_margin: Option<Span>,
    /// How long before `expiry_margin` begins a token is refreshed in the background. Default: `1m`.
    pub(crate) refresh_ahead: Option<Span>,
    /// How long a request waits for a token before it goes on as the route's `on_unavailable` says; `0s`: not at all.
    /// Default: `2s`.
    pub(crate) max_wait: Option<Span>,
    /// How many OAuth flows may run at the same time. Default: `64`.
    #[schemars(range(min = 1, max = 100_000))]
    pub(crate) max_flows: Option<u64>,
    /// How many of `max_flows` may make profiles, so that the others are there for known visitors. Default: half of
    /// `max_flows`.
    #[schemars(range(min = 1, max = 99_999))]
    pub(crate) max_creations: Option<u64>,
    /// How long a visitor session is kept after it was last written; not shorter than the cookie's `max_age`. Default:
    /// `400d`.
    pub(crate) idle_timeout: Option<Span>,
    /// What happens to a visitor whose refresh token Dressipi has declared dead: `recreate` makes a new profile,
    /// `anonymous` does not. Default: `recreate`.
    pub(crate) on_lost: Option<OnLost>,
    /// How long an authorization code may wait for its exchange. Default: `9m`.
    pub(crate) max_code_age: Option<Span>,
    /// How many authorize calls with a lost answer a visitor may have cost before no more are made. Default: `3`.
    #[schemars(range(min = 1, max = 1000))]
    pub(crate) max_unconfirmed: Option<u32>,
    /// The pause after the first authorize call with a lost answer, doubled by each further one. Default: `30s`.
    pub(crate) unconfirmed_pause: Option<Span>,
    /// The first pause after a failed OAuth call of a visitor, doubled by each further one. Default: `1s`.
    pub(crate) min_backoff: Option<Span>,
    /// The longest pause after a failed OAuth call of a visitor. Default: `1m`.
    pub(crate) max_backoff: Option<Span>,
    /// How long a refresh that a 401 or 403 asked for keeps further ones of the same visitor away. Default: `30s`.
    pub(crate) rejection_pause: Option<Span>,
    /// redis: how long a replica's flow owns its visitor without saying so again. Default: five seconds more than
    /// `dressipi.timeout`.
    pub(crate) lease_term: Option<Span>,
    /// redis: how long a refresh token that Dressipi calls invalid is kept for a replica that may hold its successor,
    /// before a new profile is made. Default: `2m`.
    pub(crate) lost_grace: Option<Span>,
    /// redis: how long a cached token is used without asking the store. Default: `10s`.
    pub(crate) cache_validity: Option<Span>,
    /// redis: the servers. Required there.
    pub(crate) redis: Option<Redis>,
}

/// The Redis servers that hold the visitor sessions.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend(
    "allOf" = [
        {
            "if": { "not": { "required": ["urls"] } },
            "then": { "required": ["url"] }
        },
        {
            "if": { "properties": { "mode": { "const": "sentinel" } }, "required": ["mode"] },
            "then": { "required": ["master_name"] }
        },
    ],
    "dependentRequired" = { "client_certificate_file": ["client_key_file"], "client_key_file": ["client_certificate_file"] },
))]
pub(crate) struct Redis {
    /// The server, `redis://host:port`, or `rediss://` for TLS; user, password and database have keys of their own. This or
    /// `urls` is required.
    #[schemars(regex(pattern = REDIS), example = "redis://127.0.0.1:6379")]
    pub(crate) url: Option<String>,
    /// The sentinels, or some servers of the cluster, in place of `url`. This or `url` is required.
    #[schemars(length(min = 1), inner(regex(pattern = REDIS)), example = ["redis://10.0.0.1:26379", "redis://10.0.0.2:26379"])]
    pub(crate) urls: Option<Vec<String>>,
    /// What the servers are to each other: `standalone`, `sentinel` or `cluster`. Default: `standalone`.
    pub(crate) mode: Option<RedisMode>,
    /// sentinel: what the sentinels call the master. Required there.
    #[schemars(example = &"mymaster")]
    pub(crate) master_name: Option<String>,
    /// The ACL user. Default: the one called `default`.
    pub(crate) username: Option<String>,
    /// The password of the ACL user. Better in `password_file` than here. Default: none is sent.
    pub(crate) password: Option<Secret>,
    /// A file that holds the password, in place of `password`.
    pub(crate) password_file: Option<String>,
    /// sentinel: the ACL user at the sentinels. Default: the one called `default`.
    pub(crate) sentinel_username: Option<String>,
    /// sentinel: the password at the sentinels. Default: none is sent.
    pub(crate) sentinel_password: Option<Secret>,
    /// sentinel: a file that holds the password at the sentinels, in place of `sentinel_password`.
    pub(crate) sentinel_password_file: Option<String>,
    /// The number of the database; a cluster has only 0. Default: `0`.
    #[schemars(range(max = 10_000))]
    pub(crate) database: Option<u32>,
    /// What every key and channel begins with; sidecars that share visitors have the same. Default: `dressipi-sidecar:`.
    pub(crate) key_prefix: Option<String>,
    /// How long connecting may take, TLS and login included. Default: `1s`.
    pub(crate) connect_timeout: Option<Span>,
    /// How long one call of the store may take in all, retries included. Default: `500ms`.
    pub(crate) timeout: Option<Span>,
    /// TLS: a PEM bundle of certificate authorities to trust. Default: the system's.
    pub(crate) ca_file: Option<String>,
    /// TLS: our certificate, a file in PEM, where the servers ask for one. Default: none is shown.
    pub(crate) client_certificate_file: Option<String>,
    /// TLS: the key of `client_certificate_file`: a file in PEM. Required with it.
    pub(crate) client_key_file: Option<String>,
    /// How many replicas must confirm a write before it counts. Default: `0`.
    #[schemars(range(max = 10_000))]
    pub(crate) wait_replicas: Option<u32>,
    /// How long `wait_replicas` may take to confirm a write; shorter than `timeout`. Default: half of `timeout`.
    pub(crate) wait_timeout: Option<Span>,
}

/// The visitor cookie.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cookie {
    /// The cookie's name; `__Host-` makes browsers insist on `secure`, the path `/` and no `domain`. Default:
    /// `__Host-dressipi-visitor`.
    #[schemars(regex(pattern = COOKIE))]
    pub(crate) name: Option<String>,
    /// Whether browsers send the cookie over TLS only; for plain HTTP on localhost, `false` and a name without `__Host-`. Default:
    /// `true`.
    pub(crate) secure: Option<bool>,
    /// Whether requests from other sites carry the cookie: `lax` (where the visitor follows a link), `strict` (never) or `none`
    /// (always). Default: `lax`.
    pub(crate) same_site: Option<SameSite>,
    /// How long the cookie lives after it was last set; browsers allow 400 days at most. Default: `400d`.
    pub(crate) max_age: Option<Span>,
    /// How long a visitor is known by the cookie in all, however often they come. Default: without end.
    pub(crate) max_life: Option<Span>,
    /// How old the cookie is when it is set anew. Default: a tenth of `max_age`.
    pub(crate) renew_after: Option<Span>,
    /// The domain whose hosts share the visitor. Default: the host that set the cookie, alone.
    #[schemars(regex(pattern = DOMAIN), example = "shop.example")]
    pub(crate) domain: Option<String>,
    /// The path below which the cookie is sent. Default: `/`.
    #[schemars(regex(pattern = PATH))]
    pub(crate) path: Option<String>,
    /// Whether the sealed token set rides with the visitor in a second cookie, so that a lost store costs no profile. Needs
    /// `session.keys_file`. Default: `false`.
    pub(crate) recovery: Option<bool>,
}

/// What counts as consent. Without it no profile is made and none is used.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Consent {
    /// Cookies whose presence means that the visitor opted out. Default: `["dressipi_dnt"]`.
    #[schemars(inner(regex(pattern = COOKIE)))]
    pub(crate) opt_out_cookies: Option<Vec<String>>,
    /// A cookie that must be there. Default: none.
    #[schemars(regex(pattern = COOKIE), example = &"OptanonConsent")]
    pub(crate) required_cookie: Option<String>,
    /// A header that must be there, in place of `required_cookie`. Default: none.
    #[schemars(regex(pattern = HEADER), example = "x-consent")]
    pub(crate) required_header: Option<String>,
    /// The value of `required_cookie` or `required_header` that gives consent, with `*` for any characters. Default: any
    /// but the empty one.
    #[schemars(length(min = 1), example = "*C0003:1*")]
    pub(crate) required_value: Option<String>,
    /// The value that refuses or withdraws consent, with `*` for any characters. Default: none.
    #[schemars(length(min = 1), example = "*C0003:0*")]
    pub(crate) refused_value: Option<String>,
    /// Whether Global Privacy Control (`Sec-GPC: 1`) counts as an opt-out. Default: `true`.
    pub(crate) honour_gpc: Option<bool>,
}

/// When a visitor whom the store does not know may cost a profile.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Creation {
    /// On which request: `first-request`, `navigation` (the first that fetches a page) or `returning` (the first that
    /// brings the visitor cookie back). Default: `first-request`.
    pub(crate) create: Option<Create>,
    /// Whether known crawlers and tools stay anonymous. Default: `true`.
    pub(crate) exclude_bots: Option<bool>,
    /// Further parts of a `User-Agent` that mark a bot, in any case. Default: `[]`.
    pub(crate) extra_bots: Option<Vec<String>>,
    /// The cookie of a token that the vendor's own scripts got for the visitor, such as `dressipi_jwt`, which then serves
    /// in place of a new profile. Default: none.
    #[schemars(regex(pattern = COOKIE), example = &"dressipi_jwt")]
    pub(crate) adopt_cookie: Option<String>,
    /// How many profiles one client address may cost: so many at once, and so many again within each such time; or
    /// `unlimited`. Default: `600/1m`.
    pub(crate) per_client: Option<Rate>,
    /// How many profiles all client addresses together may cost, or `unlimited`. Default: `6000/1m`.
    pub(crate) overall: Option<Rate>,
    /// How many profiles this process makes in a day of UTC. Default: `1000000`.
    #[schemars(range(min = 1, max = 1_000_000_000_000_u64))]
    pub(crate) daily: Option<u64>,
}

/// Where the requests of a path prefix go.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Route {
    /// The path prefix; the longest that matches wins. Required.
    #[schemars(required, regex(pattern = PATH), example = "/api/")]
    pub(crate) path: Option<String>,
    /// `dressipi`, or the name of one of the upstreams. Required.
    #[schemars(required, example = &"dressipi")]
    pub(crate) upstream: Option<String>,
    /// What replaces the prefix on the way; both end in `/` or neither does. Default: nothing, the path stays.
    #[schemars(regex(pattern = PATH))]
    pub(crate) upstream_path: Option<String>,
    /// What is added: `visitor` (the access token, and to Dressipi the API key), `api-key` (that alone, to Dressipi) or
    /// `none`. Default: `visitor`.
    pub(crate) credentials: Option<Credentials>,
    /// What happens when there is no usable token: `anonymous` sends the request on without one, `reject` answers 503.
    /// Default: `anonymous`.
    pub(crate) on_unavailable: Option<OnUnavailable>,
    /// The client's cookies that may reach Dressipi; apps receive all but the sidecar's own. Default: `[]`.
    #[schemars(inner(regex(pattern = COOKIE)))]
    pub(crate) cookies: Option<Vec<String>>,
    /// The header in which an app receives the visitor's Snowplow network user id (`subn`). Default: none.
    #[schemars(regex(pattern = HEADER), example = "x-dressipi-subn")]
    pub(crate) subn_header: Option<String>,
    /// Whether clients may change the protocol (WebSocket), on routes to an app. Default: true for apps.
    pub(crate) upgrade: Option<bool>,
}

/// A named app server.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("dependentRequired" = { "client_certificate_file": ["client_key_file"], "client_key_file": ["client_certificate_file"] }))]
pub(crate) struct Upstream {
    /// The name that routes use; `dressipi` is taken. Required.
    #[schemars(required, example = &"shop")]
    pub(crate) name: Option<String>,
    /// Host and port. Required.
    #[schemars(required, regex(pattern = HOST), example = "127.0.0.1:3000")]
    pub(crate) address: Option<String>,
    /// Whether TLS is spoken; certificates are always verified. Default: `false`.
    pub(crate) tls: Option<bool>,
    /// TLS: the name that the certificate must have. Default: the host of `address`.
    pub(crate) server_name: Option<String>,
    /// TLS: a PEM bundle of certificate authorities to trust. Default: the system's.
    pub(crate) ca_file: Option<String>,
    /// TLS: our certificate with its intermediates, a file in PEM, for an app that asks for one. Default: none is shown.
    pub(crate) client_certificate_file: Option<String>,
    /// TLS: the key of `client_certificate_file`: a file in PEM. Required with it.
    pub(crate) client_key_file: Option<String>,
    /// TLS: whether HTTP/2 is offered. Over it, a whole request body must arrive within `read_timeout`. Default: `false`.
    pub(crate) http2: Option<bool>,
    /// How long connecting may take, TLS included. Default: `2s`.
    pub(crate) connect_timeout: Option<Span>,
    /// How long the upstream may be silent, also while it waits for a request's body. Default: `60s`.
    pub(crate) read_timeout: Option<Span>,
    /// How long an idle connection is kept. Default: `60s`.
    pub(crate) idle_timeout: Option<Span>,
}

/// The admin listener.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Admin {
    /// IP address and port. Required in this section.
    #[schemars(required, regex(pattern = SOCKET), example = "127.0.0.1:9901")]
    pub(crate) address: Option<String>,
    /// The bearer token that `/sessions…` asks for, at least 16 characters. Better in `token_file` than here. Default:
    /// nobody may use it.
    #[schemars(length(min = 16))]
    pub(crate) token: Option<Secret>,
    /// A file that holds the token, in place of `token`.
    pub(crate) token_file: Option<String>,
}

/// Logging.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Log {
    /// `off`, `error`, `warn`, `info`, `debug` or `trace`; or levels of modules: `info,dressipi_sidecar::session=debug`.
    /// Default: `info`.
    #[schemars(
        example = &"info",
        example = &"warn",
        example = "info,dressipi_sidecar::session=debug"
    )]
    pub(crate) level: Option<String>,
    /// The form of a line: `text`, `json`, or `auto` (text on a terminal, JSON elsewhere). Default: `auto`.
    pub(crate) format: Option<LogFormat>,
    /// Whether each request has a line. Default: `true`.
    pub(crate) access: Option<bool>,
    /// The part of the requests that have one, from 0 to 1. Those that failed (no answer, 5xx, or refused) always have. Default: `1`.
    pub(crate) access_sample: Option<Ratio>,
}

/// Traces.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Traces {
    /// The collector: scheme, host and port, and a path if it has one; `/v1/traces` is added. OTLP over HTTP, port 4318 nearly
    /// everywhere. Default: none, and no traces.
    #[schemars(regex(pattern = OTLP), example = "http://collector:4318")]
    pub(crate) endpoint: Option<String>,
    /// Headers for the collector, written `name=value,name=value` with `%20` for a space, as in `OTEL_EXPORTER_OTLP_HEADERS`. Better
    /// in `headers_file` than here. Default: none.
    pub(crate) headers: Option<Secret>,
    /// A file that holds the headers for the collector, in place of `headers`.
    pub(crate) headers_file: Option<String>,
    /// The part of the traces begun here that are recorded, from 0 to 1; of those begun elsewhere, the caller has decided.
    /// Default: `1`.
    pub(crate) sample_ratio: Option<Ratio>,
    /// What the sidecar is called in traces. Default: `dressipi-sidecar`.
    #[schemars(length(min = 1))]
    pub(crate) service_name: Option<String>,
    /// What else is said of it, written `key=value,key=value`, as in `OTEL_RESOURCE_ATTRIBUTES`. Default: nothing.
    #[schemars(example = "deployment.environment.name=production,k8s.namespace.name=shop")]
    pub(crate) resource_attributes: Option<String>,
    /// A PEM bundle of certificate authorities to trust. Default: the system's.
    pub(crate) ca_file: Option<String>,
    /// How long one call of the collector may take. Default: `10s`.
    pub(crate) timeout: Option<Span>,
    /// So many spans may wait for the collector; those beyond are dropped and counted. Default: `4096`.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(crate) queue: Option<u64>,
}

/// What clients may take of connections, headers and time.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limits {
    /// Connections of all listeners together; what is beyond is closed at once. Default: `10000`.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(crate) connections: Option<u64>,
    /// Connections from one address (of IPv6: one /64 network); those of trusted proxies and of this host do not count.
    /// Default: `2000`.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(crate) connections_per_address: Option<u64>,
    /// Requests on one HTTP/1.1 connection; it is closed after the last one's answer. Default: `10000`.
    #[schemars(range(min = 1, max = 4_294_967_295_u64))]
    pub(crate) requests_per_connection: Option<u64>,
    /// How long a connection may be idle between two requests. Default: `75s`.
    pub(crate) idle_timeout: Option<Span>,
    /// How long a request's header may take in all. Default: `30s`.
    pub(crate) header_timeout: Option<Span>,
    /// The longest header of a request, from 1 KiB to 1 MiB, the request line included. Default: `64 KiB`.
    #[schemars(range(min = 1024, max = 1_048_575))]
    pub(crate) header_bytes: Option<Bytes>,
    /// The most header lines of a request, 256 at most. Default: `100`.
    #[schemars(range(min = 1, max = 256))]
    pub(crate) header_count: Option<u64>,
    /// How many bytes of a request body must arrive in each second of waiting for them (HTTP/1.1); `0`: any number.
    /// Default: `100`.
    pub(crate) body_rate: Option<u64>,
    /// How long a body may be waited for before `body_rate` is asked of it. Default: `10s`.
    pub(crate) body_grace: Option<Span>,
}

/// The process.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Server {
    /// Worker threads; each connection is served by one of them. Default: as many as there are processors.
    #[schemars(range(min = 1, max = 1024))]
    pub(crate) threads: Option<u64>,
    /// How long the sidecar serves on after SIGTERM, once it has said that it is not ready any more. Default: `2s`.
    pub(crate) drain_delay: Option<Span>,
    /// How long requests in flight may take after `drain_delay`. Default: `20s`.
    pub(crate) drain_timeout: Option<Span>,
    /// How long a client may be silent while it sends a request. Default: `60s`.
    pub(crate) client_timeout: Option<Span>,
    /// Idle connections to upstreams that each worker keeps. Default: `128`.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(crate) keepalive_pool: Option<u64>,
    /// How often the host names of upstreams are resolved anew. Default: `30s`.
    pub(crate) resolve_interval: Option<Span>,
    /// Whether the system may write a core dump, in which tokens and keys would be. Default: `false`.
    pub(crate) core_dumps: Option<bool>,
    /// Whether memory may lie in the system's huge pages: with a million visitors in the cache a request takes less processor time, and
    /// any sidecar takes up to twice the memory. Default: `false`.
    pub(crate) huge_pages: Option<bool>,
    /// The path of a Unix-domain socket at which `serve --upgrade` takes over the sockets of the process that runs; only with the
    /// redis store. Default: nobody takes over.
    pub(crate) upgrade_socket: Option<String>,
    /// Whether answers have a `Server-Timing` header: how long upstream, token and sidecar took. Default: `false`.
    pub(crate) server_timing: Option<bool>,
    /// Whether every answer has a `Dressipi-Sidecar` header with the state of the visitor's token; without it, only those that went
    /// without a token have. Default: `false`.
    pub(crate) token_state_header: Option<bool>,
}
