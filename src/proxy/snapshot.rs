//! The configuration as the proxy uses it, worked out once. An exchange pins one snapshot, so that a reload cannot split a
//! request.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{HeaderName, HeaderValue};

use super::headers::{HeaderNames, HeaderRules};
use super::identity::AnonymousReason;
use super::peer::{Destination, PeerError, Pool};
use super::route::RouteTable;
use crate::config::{Config, Credentials, IdentityPeers, Route, TrustedProxies, UpstreamRef};
use crate::dressipi::api_key_value;
use crate::telemetry::{Metrics, RouteMetrics, Tracer};
use crate::visitor::{
    ConsentRules, CookieJar, CreationRules, IdentityKey, KnownCookies, Namespace, VisitorKey,
    VisitorSource,
};

/// Everything that exchanges go by.
pub struct Snapshot {
    pub(super) listeners: Vec<ListenerRules>,
    pub(super) visitors: VisitorRules,
    pub(super) routes: RouteTable<RouteRules>,
    pub(super) client_timeout: Duration,
    pub(super) header_count: usize,
    pub(super) access_log: bool,
    /// The part of the requests that have an access line, if that is not all of them.
    pub(super) access_sample: Option<f64>,
    pub(super) server_timing: bool,
    pub(super) token_state_header: bool,
    /// Whether somebody wants to know how long the upstream took.
    pub(super) timed: bool,
    /// What records traces, if anything does.
    pub(super) tracer: Option<Arc<Tracer>>,
    pub(super) resolve_interval: Duration,
    pools: Vec<Arc<Pool>>,
}

/// The present snapshot, as one worker holds it. How many exchanges pin it is counted for each worker: one count for all of them would be
/// written to by every request on every processor.
pub struct Present(ArcSwap<Arc<Snapshot>>);

/// The snapshot that an exchange goes by.
pub(super) type Pinned = Arc<Arc<Snapshot>>;

/// The rules of one listener.
pub(super) struct ListenerRules {
    pub(super) sources: Vec<VisitorSource>,
    pub(super) identity_peers: IdentityPeers,
    pub(super) trusted_proxies: TrustedProxies,
    /// What clients speak here, `http` or `https`.
    pub(super) scheme: HeaderValue,
}

impl Present {
    /// Holds `snapshot`.
    pub fn new(snapshot: Arc<Snapshot>) -> Self {
        Self(ArcSwap::from_pointee(snapshot))
    }

    /// The snapshot of this moment.
    pub(super) fn pin(&self) -> Pinned {
        self.0.load_full()
    }

    /// Holds `snapshot` from here on, and lets go of the one before, with its secrets.
    pub fn replace(&self, snapshot: Arc<Snapshot>) {
        self.0.store(Arc::new(snapshot));
    }
}

impl ListenerRules {
    /// The same as a text.
    pub(super) fn scheme_name(&self) -> &'static str {
        match self.scheme == "https" {
            true => "https",
            false => "http",
        }
    }
}

/// The rules about visitors.
pub(super) struct VisitorRules {
    pub(super) jar: CookieJar,
    pub(super) identity_key: Arc<IdentityKey>,
    /// What `jar` and `identity_key` made of the cookies that came lately.
    pub(super) known: KnownCookies,
    pub(super) consent: ConsentRules,
    pub(super) creation: CreationRules,
}

/// The rules of one route.
pub(super) struct RouteRules {
    pub(super) headers: HeaderRules,
    pub(super) pool: Arc<Pool>,
    pub(super) metrics: RouteMetrics,
    /// The route's path, for the access log.
    pub(super) name: Arc<str>,
}

/// Why a configuration gives no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The API key cannot stand in a header.
    #[error("dressipi.api_key has characters that a header may not have")]
    ApiKey,
    /// The base URL's host cannot stand in a header.
    #[error("dressipi.base_url has a host that a header may not have")]
    Host,
    /// An upstream cannot be used.
    #[error(transparent)]
    Peer(#[from] PeerError),
}

impl Snapshot {
    /// Works out `config`. `jar` and `identity_key` come from the keyring and the store. Upstreams that are as they were `before` keep
    /// their connections and addresses.
    pub fn new(
        config: &Config,
        jar: CookieJar,
        identity_key: Arc<IdentityKey>,
        metrics: &Metrics,
        before: Option<&Self>,
    ) -> Result<Self, SnapshotError> {
        let pools = before.map_or(&[][..], Self::pools);
        let pool = |destination| {
            let new = Pool::new(destination)?;
            let same = pools.iter().find(|old| old.is_same(&new));
            Ok::<_, PeerError>(same.cloned().unwrap_or_else(|| Arc::new(new)))
        };
        let dressipi = pool(Destination::of_dressipi(&config.dressipi))?;
        let apps = config
            .upstreams
            .iter()
            .map(|upstream| pool(Destination::of_app(upstream)));
        let apps = apps.collect::<Result<Vec<_>, _>>()?;
        let names = header_names(config, jar.name())?;
        let routes = config.routes.iter().map(|route| {
            let pool = match route.upstream {
                UpstreamRef::Dressipi => dressipi.clone(),
                UpstreamRef::App(index) => apps[index].clone(),
            };
            if route.credentials == Credentials::Visitor {
                metrics.preset_unpersonalised(&route.path, AnonymousReason::labels());
            }
            let rules = RouteRules {
                headers: HeaderRules::new(route, &names),
                metrics: metrics.route(&route.path, pool.name()),
                name: route.path.as_str().into(),
                pool,
            };
            (route.clone(), rules)
        });
        Ok(Self {
            listeners: config
                .listeners
                .iter()
                .map(|listener| ListenerRules {
                    sources: listener.visitor.clone(),
                    identity_peers: listener.identity_peers.clone(),
                    trusted_proxies: listener.trusted_proxies.clone(),
                    scheme: HeaderValue::from_static(match listener.tls {
                        Some(_) => "https",
                        None => "http",
                    }),
                })
                .collect(),
            visitors: VisitorRules {
                jar,
                identity_key,
                known: KnownCookies::new(),
                consent: config.consent.clone(),
                creation: config.creation.clone(),
            },
            routes: RouteTable::new(routes),
            client_timeout: config.server.client_timeout,
            header_count: config.limits.header_count,
            access_log: config.log.access,
            access_sample: Some(config.log.access_sample.value()).filter(|part| *part < 1.0),
            server_timing: config.server.server_timing,
            token_state_header: config.server.token_state_header,
            timed: config.log.access || config.server.server_timing,
            tracer: None,
            resolve_interval: config.server.resolve_interval,
            pools: std::iter::once(dressipi).chain(apps).collect(),
        })
    }

    /// The same, with traces.
    pub fn traced(mut self, tracer: Option<Arc<Tracer>>) -> Self {
        self.tracer = tracer;
        self
    }

    /// The upstreams: name, where it is, and how many addresses that is.
    pub fn upstreams(&self) -> impl Iterator<Item = (&str, String, usize)> {
        let pools = self.pools.iter();
        pools.map(|pool| (pool.name(), pool.place(), pool.len()))
    }

    /// Tells `metrics` of the certificates that we show to upstreams, in the place of those `before`.
    pub fn count_client_certificates(&self, metrics: &Metrics, before: Option<&Self>) {
        for pool in before.map_or(&[][..], Self::pools) {
            metrics.client_certificate(pool.name(), None);
        }
        for pool in &self.pools {
            metrics.client_certificate(pool.name(), pool.client_certificate_ends());
        }
    }

    /// Whom a visitor cookie's value names, however old the cookie is.
    pub fn visitor_of_cookie(&self, value: &[u8]) -> Option<VisitorKey> {
        let VisitorRules {
            jar, identity_key, ..
        } = &self.visitors;
        let id = jar.read_of_any_age(value)?;
        Some(identity_key.visitor_key(Namespace::Minted, id.as_bytes()))
    }

    /// The upstream pools, for background resolution.
    pub(super) fn pools(&self) -> &[Arc<Pool>] {
        &self.pools
    }

    pub(super) fn route(&self, index: usize) -> Option<(&Route, &RouteRules)> {
        self.routes.at(index).map(|(route, rules)| (route, rules))
    }
}

fn header_names(config: &Config, visitor_cookie: &str) -> Result<HeaderNames, SnapshotError> {
    let named_by_header = config
        .listeners
        .iter()
        .flat_map(|listener| &listener.visitor);
    let visitor_headers = named_by_header.filter_map(|source| match source {
        VisitorSource::Header(name) => Some(name.clone()),
        VisitorSource::Cookie | VisitorSource::AppCookie(_) => None,
    });
    let subn_headers = config
        .routes
        .iter()
        .filter_map(|route| route.subn_header.clone());
    let internal: Vec<HeaderName> = visitor_headers.chain(subn_headers).collect();
    let api_key = config.dressipi.api_key.as_ref();
    let api_key = api_key
        .map(|key| api_key_value(key).ok_or(SnapshotError::ApiKey))
        .transpose()?;
    Ok(HeaderNames {
        token: config.dressipi.headers.token.clone(),
        api_key: config.dressipi.headers.api_key.clone(),
        api_key_value: api_key,
        visitor_cookie: visitor_cookie.to_owned(),
        internal,
        dressipi_host: HeaderValue::try_from(config.dressipi.base_url.authority())
            .map_err(|_| SnapshotError::Host)?,
    })
}
