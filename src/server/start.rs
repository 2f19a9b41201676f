//! The start: the store, the manager, the sockets and all that runs, in the order in which each needs the others.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex;
use pingora::apps::HttpServerOptions;
use pingora::protocols::http::v2::server::default_h2_options;
use pingora::proxy::HttpProxy;
use pingora::server::configuration::ServerConf;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::binding::Bound;
use super::reload::{ReloaderParts, open_tls};
use super::socket::Socket;
use super::store::choose_tls_provider;
use super::workers::{Workers, accept};
use super::{Lookout, Reloader, Running, StartError, Taken, open_store, reload};
use crate::admin::{Admin, AdminParts, ConfigState, Health, UpstreamFacts};
use crate::clock::{Clock, SteadyClock, SystemClock};
use crate::config::{Config, ListenAddress};
use crate::dressipi::{Client, CurrentClient};
use crate::gate::{Census, GateRules, Gated, GatedParts, Refusal, refused_connections};
use crate::proxy::{Present, Proxy, ProxyParts, Snapshot, resolve_forever, resolve_once};
use crate::session::{FlowRuntime, Keyring, Manager, Parts, Store, StoreSettings, Vault};
use crate::telemetry::{AccessLog, History, InFlight, LOOK_INTERVAL, Metrics, Traces, Witness};
use crate::visitor::{CookieJar, Spent};

/// Attempts for one request: an upstream's addresses, and one replay after a rejected token.
const ATTEMPTS: usize = 5;
/// How long the start waits for names to be resolved; after that they are resolved in the background.
pub(super) const RESOLVE_BOUND: Duration = Duration::from_secs(2);
/// What the metrics call the store where others are upstreams.
const STORE: &str = "session.redis";
/// How often the clock is compared with the one that counts.
const CLOCK_INTERVAL: Duration = Duration::from_secs(2);

/// Starts a sidecar on the present runtime.
pub async fn start(config: &Config) -> Result<Running, StartError> {
    start_with(config, None).await
}

/// The same with the sockets of a predecessor, as far as they are for the same addresses.
pub async fn start_with(config: &Config, taken: Option<&mut Taken>) -> Result<Running, StartError> {
    let (store, keyring) = open_store(&config.store).await?;
    start_all(config, store, keyring, taken).await
}

/// Starts a sidecar on a store that is open already; what `config` says about a store does not matter.
pub async fn start_on(
    config: &Config,
    store: Arc<dyn Store>,
    keyring: Keyring,
) -> Result<Running, StartError> {
    choose_tls_provider();
    start_all(config, store, keyring, None).await
}

async fn start_all(
    config: &Config,
    store: Arc<dyn Store>,
    keyring: Keyring,
    taken: Option<&mut Taken>,
) -> Result<Running, StartError> {
    let steady = Arc::new(SteadyClock::new(SystemClock.now()));
    let clock: Arc<dyn Clock> = steady.clone();

    set_clock(&steady, &*store).await;
    let cookie_keys = keyring.cookie_keys();
    let vault = Vault::new(store.clone(), keyring, config.session.idle_timeout);
    let identity_key = Arc::new(vault.identity_key(clock.now()).await?);

    let flows = FlowRuntime::start().map_err(StartError::FlowRuntime)?;
    let metrics = Arc::new(Metrics::new());
    metrics.started(clock.now());
    metrics.preset_refusals(Refusal::labels(), refused_connections());
    let traces = Traces::new(flows.handle().clone(), metrics.clone());
    let template = config.dressipi.headers.token_template.clone();
    let client = Arc::new(CurrentClient::new(Client::new(&config.dressipi)?));
    let manager = Manager::new(Parts {
        vault: vault.clone(),
        server: client.clone(),
        clock: clock.clone(),
        settings: config.session,
        render: Arc::new(move |token| template.render(token)),
        observer: Arc::new(Witness {
            metrics: metrics.clone(),
            traces: traces.clone(),
        }),
        runtime: flows.handle().clone(),
    });
    let jar = CookieJar::new(config.cookie.clone(), cookie_keys);
    let snapshot = Snapshot::new(config, jar, identity_key.clone(), &metrics, None)?;
    snapshot.count_client_certificates(&metrics, None);
    metrics.client_certificate(STORE, store_certificate_ends(&config.store));
    let tracer = traces.prepare(config)?;
    traces.replace(tracer.clone());
    let snapshot = Arc::new(ArcSwap::from_pointee(snapshot.traced(tracer)));

    let Bound {
        listeners: sockets,
        admin,
        offered,
        handed_over,
    } = Bound::open(config, taken)?;
    let admin_token = config.admin.as_ref().and_then(|admin| admin.token.clone());
    let admin_token = Arc::new(ArcSwapOption::from_pointee(admin_token));
    let _ = tokio::time::timeout(RESOLVE_BOUND, resolve_once(&snapshot.load_full())).await;

    let census = Census::new(
        config.limits.connections,
        config.limits.connections_per_address,
    );
    let (mut gates, mut following) = (Vec::new(), Vec::new());
    for (index, listener) in config.listeners.iter().enumerate() {
        let tls = open_tls(index, listener, &metrics)?;
        gates.push(Arc::new(ArcSwap::from_pointee(GateRules {
            limits: config.limits.clone(),
            trusted_proxies: listener.trusted_proxies.clone(),
            tls: tls.as_ref().map(|(tls, _)| tls.clone()),
        })));
        following.push(tls.map(|(tls, files)| reload::follow_files(tls, files)));
    }
    let presents = Arc::new(Mutex::new(Vec::new()));
    let config_state = ConfigState::new(config.clone(), clock.now());
    let reloader = Reloader::new(ReloaderParts {
        config: config_state.clone(),
        snapshot: snapshot.clone(),
        presents: presents.clone(),
        gates: gates.clone(),
        following,
        client,
        vault,
        identity_key: identity_key.clone(),
        census: census.clone(),
        admin_token: admin_token.clone(),
        clock: clock.clone(),
        metrics: metrics.clone(),
        traces: traces.clone(),
    });

    let (stop_listening, shutdown) = watch::channel(false);
    let (close_idle, closing) = watch::channel(false);
    let draining = Arc::new(AtomicBool::new(false));
    let health = Health::new(draining.clone());
    let in_flight = InFlight::default();
    let (access_log, access_log_guard) =
        AccessLog::start(metrics.clone()).map_err(StartError::AccessLog)?;
    let workers = Workers::start(config.server.threads).map_err(StartError::Workers)?;
    let mut running = Running {
        addresses: Vec::new(),
        admin: None,
        manager: manager.clone(),
        health: health.clone(),
        in_flight: in_flight.clone(),
        reloader,
        quit: Arc::default(),
        sockets: Arc::new(offered),
        handed_over,
        lookout: Lookout {
            snapshot: snapshot.clone(),
            manager: manager.clone(),
            metrics: metrics.clone(),
            clock: clock.clone(),
        },
        stop_listening,
        close_idle,
        census: census.clone(),
        listeners: JoinSet::new(),
        background: JoinSet::new(),
        traces,
        workers,
        flows,
        access_log: access_log_guard,
    };
    let spent = Arc::new(Mutex::new(Spent::new()));
    for (listener, (socket, rules)) in sockets.into_iter().zip(gates).enumerate() {
        running.addresses.push(match &socket {
            Socket::Tcp(_, address) => ListenAddress::Tcp(*address),
            Socket::Unix(..) => config.listeners[listener].address.clone(),
        });
        let seats = running.workers.places().map(|place| {
            let present = Arc::new(Present::new(snapshot.load_full()));
            presents.lock().push(present.clone());
            let proxy = Proxy::new(ProxyParts {
                snapshot: present,
                listener,
                manager: manager.clone(),
                spent: spent.clone(),
                clock: clock.clone(),
                metrics: metrics.clone(),
                in_flight: in_flight.lane(),
                access_log: access_log.clone(),
                draining: draining.clone(),
            });
            let gate = GatedParts {
                rules: rules.clone(),
                census: census.clone(),
                closing: closing.clone(),
                metrics: metrics.clone(),
            };
            let app = Gated::new(http_proxy(proxy, config), gate);
            (place.clone(), Arc::new(app))
        });
        socket.set_mode().map_err(|source| StartError::Bind {
            key: format!("listeners[{listener}].socket_mode"),
            address: config.listeners[listener].address.clone(),
            source,
        })?;
        let accept = accept(socket, seats.collect(), shutdown.clone(), closing.clone());
        let ear = running.workers.place(listener).runtime();
        running.listeners.spawn_on(accept, ear);
    }
    if let Some((socket, address)) = admin {
        running.admin = Some(address);
        let history = History::default();
        let present = snapshot.clone();
        let router = Admin::new(AdminParts {
            runtimes: [
                ("proxy", running.workers.handles().collect()),
                ("main", vec![Handle::current()]),
                ("oauth", vec![running.flows.handle().clone()]),
            ],
            health,
            manager: manager.clone(),
            metrics: metrics.clone(),
            in_flight,
            census: census.clone(),
            spent,
            history: history.clone(),
            config: config_state,
            upstreams: Box::new(move || upstream_facts(&present.load())),
            clock: clock.clone(),
            quit: running.quit.clone(),
            started: clock.now(),
            token: admin_token,
            identity_key,
            visitor_of_cookie: {
                let snapshot = snapshot.clone();
                Arc::new(move |value| snapshot.load().visitor_of_cookie(value))
            },
        })
        .router();
        running.background.spawn(async move {
            loop {
                history.look(clock.now(), metrics.totals());
                pingora::time::sleep(LOOK_INTERVAL).await;
            }
        });
        running.background.spawn(async move {
            let service = router.into_make_service_with_connect_info::<SocketAddr>();
            if let Err(error) = axum::serve(socket, service).await {
                tracing::error!(%error, "the admin listener has ended");
            }
        });
    }
    running.background.spawn(resolve_forever(snapshot));
    running
        .background
        .spawn(async move { manager.maintain().await });
    running.background.spawn(async move {
        loop {
            pingora::time::sleep(CLOCK_INTERVAL).await;
            set_clock(&steady, &*store).await;
        }
    });
    running.handed_over.store(false, Ordering::Relaxed);
    Ok(running)
}

/// When the certificate ends that the store is shown.
fn store_certificate_ends(store: &StoreSettings) -> Option<SystemTime> {
    let StoreSettings::Redis { settings, .. } = store else {
        return None;
    };
    let identity = settings.tls.as_ref()?.client.as_ref()?;
    identity.load().ok().map(|ours| ours.expires)
}

fn upstream_facts(snapshot: &Snapshot) -> Vec<UpstreamFacts> {
    let upstreams = snapshot.upstreams();
    upstreams
        .map(|(name, address, addresses)| UpstreamFacts {
            name: name.to_owned(),
            address,
            addresses,
        })
        .collect()
}

/// Replicas on one store go by the store's time, so that their own clocks may differ; alone, a process goes by its own.
async fn set_clock(clock: &SteadyClock, store: &dyn Store) {
    let Some(shared) = store.shared() else {
        return clock.advance_to(SystemClock.now());
    };
    let begun = Instant::now();
    match shared.time().await {
        Ok(time) => clock.set(time + begun.elapsed() / 2),
        // The clock runs on by itself.
        Err(error) => tracing::debug!(%error, "the store did not tell the time"),
    }
}

/// What serves the requests of one listener on one worker.
fn http_proxy(proxy: Proxy, config: &Config) -> HttpProxy<Proxy> {
    let conf = ServerConf {
        threads: 1,
        upstream_keepalive_pool_size: config.server.keepalive_pool,
        max_retries: ATTEMPTS,
        ..ServerConf::default()
    };
    let limits = &config.limits;
    let mut options = HttpServerOptions::default();
    options.h2c = true;
    // pingora counts how often a connection may be used again.
    options.keepalive_request_limit = Some(limits.requests_per_connection.saturating_sub(1));
    options.h2_idle_timeout = Some(limits.idle_timeout);
    let mut h2 = default_h2_options();
    h2.max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX));
    let mut proxy = HttpProxy::new(proxy, Arc::new(conf));
    proxy.server_options = Some(options);
    proxy.h2_options = Some(h2);
    proxy.handle_init_modules();
    proxy
}
