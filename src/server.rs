//! The composition root: opens the store, builds the manager, binds the sockets and starts the services (`start`); and takes it all
//! down again in the right order (here).
//!
//! Exchanges live on threads of their own (`workers.rs`), flows and OAuth connections on another ([`FlowRuntime`]), and everything else on
//! the caller's runtime. What an exchange waits for has pingora's timer: a worker that goes to sleep while its runtime has a timer set has
//! the kernel set one too.

mod binding;
mod follow;
mod handover;
mod lookout;
mod reload;
mod socket;
mod start;
mod store;
mod workers;

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use self::workers::Workers;
use crate::admin::Health;
use crate::config::ListenAddress;
use crate::dressipi::BuildError;
use crate::gate::Census;
use crate::proxy::SnapshotError;
use crate::session::{
    FlowRuntime, KeyringError, Manager, OpenRedisError, OpenStoreError, VaultError,
};
use crate::telemetry::{AccessLogGuard, InFlight, Traces, TracesError};
use crate::tls::FilesError;

pub use self::follow::{FollowError, follow};
pub use self::handover::{Offer, TakeError, Taken};
pub use self::lookout::Lookout;
pub use self::reload::{ReloadError, Reloader};
pub use self::start::{start, start_on, start_with};
pub use self::store::{keys_beside, open_store};

/// A sidecar that serves.
pub struct Running {
    addresses: Vec<ListenAddress>,
    admin: Option<SocketAddr>,
    manager: Manager,
    health: Health,
    in_flight: InFlight,
    reloader: Reloader,
    quit: Arc<Notify>,
    /// What a successor would get. A socket that is still here is listened on, even if nobody accepts any more.
    sockets: Arc<handover::Sockets>,
    handed_over: Arc<AtomicBool>,
    lookout: Lookout,
    stop_listening: watch::Sender<bool>,
    close_idle: watch::Sender<bool>,
    census: Census,
    listeners: JoinSet<()>,
    background: JoinSet<()>,
    traces: Traces,
    /// Dropped when exchanges have ended, or have had their time.
    workers: Workers,
    /// Dropped when the store is closed.
    flows: FlowRuntime,
    /// Last: it writes the lines of the requests that end with the rest.
    access_log: AccessLogGuard,
}

/// How a sidecar came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// Requests that were cut off because they took longer than a drain may.
    pub cut_off: usize,
    /// Visitor sessions that could not be written.
    pub unsaved: u64,
}

/// Why a sidecar could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The keyring.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] OpenStoreError),
    /// The store in Redis cannot be opened.
    #[error(transparent)]
    Redis(#[from] OpenRedisError),
    /// The store cannot be used with this keyring.
    #[error(
        "the session store cannot be used: {0}; was it made with other keys? `session.keys_file` must hold every key that sealed something in it"
    )]
    Vault(#[from] VaultError),
    /// The OAuth client.
    #[error(transparent)]
    Client(#[from] BuildError),
    /// The configuration cannot be carried out.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// Traces cannot be sent.
    #[error(transparent)]
    Traces(#[from] TracesError),
    /// The runtime ended while the store was being opened.
    #[error("interrupted while the session store was being opened")]
    Interrupted,
    /// The threads of the exchanges.
    #[error("the worker threads (server.threads) cannot be started: {0}")]
    Workers(io::Error),
    /// The thread of the flows.
    #[error("the thread of the OAuth flows cannot be started: {0}")]
    FlowRuntime(io::Error),
    /// The access log's thread.
    #[error("the thread of the access log cannot be started: {0}")]
    AccessLog(io::Error),
    /// The certificate files of a listener.
    #[error("{key}: {source}")]
    Tls {
        /// The configuration key.
        key: String,
        /// What is wrong with them.
        source: FilesError,
    },
    /// An address cannot be listened on.
    #[error("{key}: {address} cannot be listened on: {source}")]
    Bind {
        /// The configuration key.
        key: String,
        /// The address.
        address: ListenAddress,
        /// Why.
        source: io::Error,
    },
}

/// How long a connection that was accepted last may take to send its first request, before those without one are closed.
const LAST_REQUESTS: Duration = Duration::from_millis(500);
/// How long unsaved sessions are tried again before the process ends.
const CLOSE_BOUND: Duration = Duration::from_secs(5);
/// How long the collector may take for the last traces.
const TRACES_BOUND: Duration = Duration::from_secs(2);

// === impl Running ===

impl Running {
    /// The addresses that clients connect to, in the order of the configuration, with the ports that were given.
    pub fn addresses(&self) -> &[ListenAddress] {
        &self.addresses
    }

    /// The admin listener's address.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Waits until somebody tells the admin listener that the process shall end.
    pub async fn told_to_quit(&self) {
        self.quit.notified().await;
    }

    /// Offers the listening sockets at `path` to a successor.
    pub fn offer(&self, path: &Path) -> io::Result<Offer> {
        Offer::new(path, self.sockets.clone(), self.handed_over.clone())
    }

    /// What takes new configurations into use.
    pub fn reloader(&self) -> &Reloader {
        &self.reloader
    }

    /// What looks at it from within the process.
    pub fn lookout(&self) -> &Lookout {
        &self.lookout
    }

    /// Whoever was accepted at the last moment has the time to ask.
    async fn serve_last(&self) {
        let begun = Instant::now();
        while self.census.count() > 0 && begun.elapsed() < LAST_REQUESTS {
            tokio::time::sleep(LAST_REQUESTS / 50).await;
        }
    }

    /// Takes the sidecar down: not ready, a pause in which it serves on and asks clients to connect anew, no new connections,
    /// requests in flight finished within the bound, everything written, the store closed.
    pub async fn stop(mut self) -> Stopped {
        self.health.drain();
        let server = self.reloader.config().server.clone();
        self.sockets = Arc::default();
        tokio::time::sleep(server.drain_delay).await;
        let _ = self.stop_listening.send(true);
        self.serve_last().await;
        let _ = self.close_idle.send(true);
        let drained = async {
            while self.listeners.join_next().await.is_some() {}
            self.in_flight.emptied().await;
            // Of an answer over HTTP/2 the last bytes may be on their way when its exchange is over.
            self.serve_last().await;
        };
        let _ = tokio::time::timeout(server.drain_timeout, drained).await;
        let cut_off = self.in_flight.count();
        let unsaved = self.manager.close(CLOSE_BOUND).await;
        self.traces.close(TRACES_BOUND).await;
        self.background.shutdown().await;
        drop((self.workers, self.flows));
        // Waits in a thread where waiting is allowed.
        let _ = tokio::task::spawn_blocking(move || drop(self.access_log)).await;
        Stopped { cut_off, unsaved }
    }
}
