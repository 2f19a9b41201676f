//! Takes a new configuration into use: as a whole or not at all.
//!
//! Everything that can fail comes first and changes nothing. What follows are exchanges of pointers: requests that have begun go
//! on with what they began with, and so do connections.

use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::start::RESOLVE_BOUND;
use super::{StartError, store};
use crate::admin::ConfigState;
use crate::clock::Clock;
use crate::config::{Config, Listener, Problems, needs_restart};
use crate::dressipi::{Client, CurrentClient};
use crate::gate::{Census, GateRules, Tls};
use crate::proxy::{Present, Snapshot, resolve_new};
use crate::secret::Secret;
use crate::session::{Keyring, Vault};
use crate::telemetry::{Metrics, Tracer, Traces, set_log_level};
use crate::tls::ServerFiles;
use crate::visitor::{CookieJar, IdentityKey};

/// Takes new configurations into use. Clones are handles to the same sidecar.
#[derive(Clone)]
pub struct Reloader(Arc<Inner>);

/// What is exchanged, and what that takes.
pub(super) struct ReloaderParts {
    pub(super) config: ConfigState,
    pub(super) snapshot: Arc<ArcSwap<Snapshot>>,
    /// What holds it for each worker and listener.
    pub(super) presents: Arc<Mutex<Vec<Arc<Present>>>>,
    /// By listener.
    pub(super) gates: Vec<Arc<ArcSwap<GateRules>>>,
    /// What follows the certificate files, by listener.
    pub(super) following: Vec<Option<Following>>,
    pub(super) client: Arc<CurrentClient>,
    pub(super) vault: Vault,
    pub(super) identity_key: Arc<IdentityKey>,
    pub(super) census: Census,
    pub(super) admin_token: Arc<ArcSwapOption<Secret>>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) traces: Traces,
}

struct Inner {
    config: ConfigState,
    following: Mutex<Vec<Option<Following>>>,
    /// One at a time.
    turn: tokio::sync::Mutex<()>,
    parts: Swapped,
}

struct Swapped {
    snapshot: Arc<ArcSwap<Snapshot>>,
    presents: Arc<Mutex<Vec<Arc<Present>>>>,
    gates: Vec<Arc<ArcSwap<GateRules>>>,
    client: Arc<CurrentClient>,
    vault: Vault,
    identity_key: Arc<IdentityKey>,
    census: Census,
    admin_token: Arc<ArcSwapOption<Secret>>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    traces: Traces,
}

/// A task that ends with this.
pub(super) type Following = JoinSet<()>;

/// Why a configuration was not taken into use. The one before stays, whole.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// It makes no sense.
    #[error(transparent)]
    Problems(#[from] Problems),
    /// It has changes that only a restart can make.
    #[error("only a restart can change {}; nothing was changed", .0.join(", "))]
    NeedsRestart(Vec<String>),
    /// Something that it names cannot be used.
    #[error(transparent)]
    Unusable(#[from] StartError),
}

/// What a new configuration needs, worked out and not in use.
struct Prepared {
    config: Config,
    keyring: Option<Keyring>,
    client: Client,
    snapshot: Arc<Snapshot>,
    tracer: Option<Arc<Tracer>>,
    /// By listener; the files of those that are new.
    tls: Vec<Option<(Arc<Tls>, Option<ServerFiles>)>>,
}

// === impl Reloader ===

impl Reloader {
    pub(super) fn new(parts: ReloaderParts) -> Self {
        parts.metrics.config_in_use(parts.clock.now());
        Self(Arc::new(Inner {
            config: parts.config,
            following: Mutex::new(parts.following),
            turn: tokio::sync::Mutex::new(()),
            parts: Swapped {
                snapshot: parts.snapshot,
                presents: parts.presents,
                gates: parts.gates,
                client: parts.client,
                vault: parts.vault,
                identity_key: parts.identity_key,
                census: parts.census,
                admin_token: parts.admin_token,
                clock: parts.clock,
                metrics: parts.metrics,
                traces: parts.traces,
            },
        }))
    }

    /// The configuration in use.
    pub fn config(&self) -> Arc<Config> {
        self.0.config.present().config.clone()
    }

    /// Takes the result of reading the configuration into use, or says why not; either way it is counted.
    pub async fn apply(&self, config: Result<Config, Problems>) -> Result<(), ReloadError> {
        let _turn = self.0.turn.lock().await;
        let applied = match config {
            Ok(config) => self.try_apply(config).await,
            Err(problems) => Err(problems.into()),
        };
        let metrics = &self.0.parts.metrics;
        metrics.config_reloaded(match &applied {
            Ok(()) => "ok",
            Err(ReloadError::NeedsRestart(_)) => "restart",
            Err(ReloadError::Problems(_) | ReloadError::Unusable(_)) => "error",
        });
        let now = self.0.parts.clock.now();
        match &applied {
            Ok(()) => metrics.config_in_use(now),
            Err(error) => self.0.config.refuse(error.to_string(), now),
        }
        applied
    }

    async fn try_apply(&self, config: Config) -> Result<(), ReloadError> {
        let keys = needs_restart(&self.config(), &config);
        if !keys.is_empty() {
            return Err(ReloadError::NeedsRestart(keys));
        }
        let reloader = self.clone();
        // Reads files, and the system's certificate authorities.
        let prepared = tokio::task::spawn_blocking(move || reloader.prepare(config)).await;
        let prepared = prepared.map_err(|_| StartError::Interrupted)??;
        if let Some(keyring) = &prepared.keyring {
            let Swapped { vault, clock, .. } = &self.0.parts;
            let admitted = vault.admits(keyring, clock.now()).await;
            admitted.map_err(StartError::from)?;
        }
        // Requests do not wait for names: what cannot be resolved by then is resolved in the background.
        let resolving = resolve_new(&prepared.snapshot);
        let _ = tokio::time::timeout(RESOLVE_BOUND, resolving).await;
        self.take_into_use(prepared);
        Ok(())
    }

    fn prepare(&self, config: Config) -> Result<Prepared, StartError> {
        let running = self.config();
        let parts = &self.0.parts;
        let keyring = store::read_keyring(&config.store)?;
        let cookie_keys = match &keyring {
            Some(keyring) => keyring.cookie_keys(),
            None => parts.vault.keyring().cookie_keys(),
        };
        let jar = CookieJar::new(config.cookie.clone(), cookie_keys);
        let before = parts.snapshot.load_full();
        let identity_key = parts.identity_key.clone();
        let snapshot = Snapshot::new(&config, jar, identity_key, &parts.metrics, Some(&before))?;
        let tracer = parts.traces.prepare(&config).map_err(StartError::from)?;
        let mut tls = Vec::new();
        for (index, listener) in config.listeners.iter().enumerate() {
            let kept = parts.gates[index].load().tls.clone();
            tls.push(match kept {
                // Its files are followed already.
                Some(kept) if running.listeners[index].tls == listener.tls => Some((kept, None)),
                _ => open_tls(index, listener, &parts.metrics)?
                    .map(|(tls, files)| (tls, Some(files))),
            });
        }
        Ok(Prepared {
            keyring,
            client: Client::new(&config.dressipi)?,
            snapshot: Arc::new(snapshot.traced(tracer.clone())),
            tracer,
            tls,
            config,
        })
    }

    /// Nothing in here can fail.
    fn take_into_use(&self, prepared: Prepared) {
        let Prepared {
            config,
            keyring,
            client,
            snapshot,
            tracer,
            tls,
        } = prepared;
        let parts = &self.0.parts;
        // What is sealed from here on, other cookies and all, can be opened by the time that it comes.
        if let Some(keyring) = keyring {
            parts.vault.replace_keyring(keyring);
        }
        parts.client.replace(client);
        snapshot.count_client_certificates(&parts.metrics, Some(&parts.snapshot.load()));
        for present in &*parts.presents.lock() {
            present.replace(snapshot.clone());
        }
        parts.snapshot.store(snapshot);
        parts.traces.replace(tracer);
        let limits = &config.limits;
        parts
            .census
            .set_limits(limits.connections, limits.connections_per_address);
        let mut following = self.0.following.lock();
        for (index, tls) in tls.into_iter().enumerate() {
            let (tls, new) = match tls {
                Some((tls, files)) => (Some(tls), files),
                None => (None, None),
            };
            parts.gates[index].store(Arc::new(GateRules {
                limits: limits.clone(),
                trusted_proxies: config.listeners[index].trusted_proxies.clone(),
                tls: tls.clone(),
            }));
            match (tls, new) {
                (Some(tls), Some(files)) => following[index] = Some(follow_files(tls, files)),
                (Some(_), None) => {}
                (None, _) => following[index] = None,
            }
        }
        drop(following);
        let token = config.admin.as_ref().and_then(|admin| admin.token.clone());
        parts.admin_token.store(token.map(Arc::new));
        let running = self.config();
        if config.log.level != running.log.level
            && let Err(error) = set_log_level(&config.log.level)
        {
            tracing::warn!(%error, "the log's level stays as it is");
        }
        self.0.config.replace(config, parts.clock.now());
    }
}

/// The TLS of the listener of that number, if it speaks any, and what its files held.
pub(super) fn open_tls(
    index: usize,
    listener: &Listener,
    metrics: &Arc<Metrics>,
) -> Result<Option<(Arc<Tls>, ServerFiles)>, StartError> {
    let Some(settings) = listener.tls.clone() else {
        return Ok(None);
    };
    let opened = Tls::new(settings, listener.address.to_string(), metrics.clone());
    let (tls, files) = opened.map_err(|source| StartError::Tls {
        key: format!("listeners[{index}].tls"),
        source,
    })?;
    Ok(Some((Arc::new(tls), files)))
}

/// Uses new certificate files when they come.
pub(super) fn follow_files(tls: Arc<Tls>, files: ServerFiles) -> Following {
    let mut following = JoinSet::new();
    following.spawn(tls.follow(files));
    following
}
