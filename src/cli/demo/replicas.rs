//! The sidecars of the demo: one, and on demand a second one, on one store in memory. They are as far apart as two processes on
//! one Redis are: nothing but the store and the keyring is common to them.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::Context;
use tokio::sync::Mutex;

use crate::config::{Config, ListenAddress};
use crate::server::{self, Lookout, Running, StartError};
use crate::session::{Keyring, SharedMemoryStore, StoreSettings};

/// The sidecars that run.
pub(super) struct Replicas {
    config: Config,
    /// `None`: another store is configured, which each replica opens for itself.
    memory: Option<(SharedMemoryStore, Keyring)>,
    front: SocketAddr,
    admin: Option<SocketAddr>,
    /// Held while a replica is started.
    running: Mutex<Vec<Running>>,
    replicas: RwLock<Vec<Replica>>,
}

/// One of them.
#[derive(Clone)]
pub(super) struct Replica {
    pub(super) port: u16,
    pub(super) lookout: Lookout,
}

/// Two show what there is to see.
const MOST: usize = 2;

impl Replicas {
    /// Starts the first one, as `config` says.
    pub(super) async fn start(config: &Config) -> anyhow::Result<Self> {
        let memory = match config.store {
            StoreSettings::Memory { max_visitors, .. } => {
                Some((SharedMemoryStore::new(max_visitors), Keyring::ephemeral()))
            }
            StoreSettings::Redb { .. } | StoreSettings::Redis { .. } => None,
        };
        let first = start(config, memory.as_ref()).await?;
        Ok(Self {
            config: config.clone(),
            memory,
            front: front(&first)?,
            admin: first.admin(),
            replicas: RwLock::new(vec![Replica::of(&first)?]),
            running: Mutex::new(vec![first]),
        })
    }

    /// Where clients connect to the first one.
    pub(super) fn front(&self) -> SocketAddr {
        self.front
    }

    /// The first one's admin listener.
    pub(super) fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// All of them, in the order of their start.
    pub(super) fn all(&self) -> Vec<Replica> {
        let replicas = self.replicas.read();
        replicas.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Starts a second one, on a port that is free; there will be no third.
    pub(super) async fn start_second(&self) -> anyhow::Result<()> {
        let mut running = self.running.lock().await;
        if running.len() >= MOST {
            return Ok(());
        }
        let mut config = self.config.clone();
        config.admin = None;
        for listener in &mut config.listeners {
            if let ListenAddress::Tcp(address) = &mut listener.address {
                address.set_port(0);
            }
        }
        let second = start(&config, self.memory.as_ref()).await?;
        let replica = Replica::of(&second)?;
        running.push(second);
        let mut replicas = self
            .replicas
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        replicas.push(replica);
        Ok(())
    }

    /// Takes all of them down.
    pub(super) async fn stop(&self) {
        for running in self.running.lock().await.drain(..) {
            running.stop().await;
        }
    }
}

impl Replica {
    fn of(running: &Running) -> anyhow::Result<Self> {
        Ok(Self {
            port: front(running)?.port(),
            lookout: running.lookout().clone(),
        })
    }
}

async fn start(
    config: &Config,
    memory: Option<&(SharedMemoryStore, Keyring)>,
) -> Result<Running, StartError> {
    match memory {
        Some((store, keyring)) => {
            let store = Arc::new(store.another());
            server::start_on(config, store, keyring.clone()).await
        }
        None => server::start(config).await,
    }
}

fn front(running: &Running) -> anyhow::Result<SocketAddr> {
    let first = running
        .addresses()
        .iter()
        .find_map(|address| match address {
            ListenAddress::Tcp(address) => Some(*address),
            ListenAddress::Unix { .. } => None,
        });
    first.context("the demo needs a listener that browsers can reach")
}
