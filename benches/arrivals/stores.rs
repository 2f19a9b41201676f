//! The sidecars that are measured: one on each store, all running throughout, each asked in its turn.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use dressipi_sidecar::session::generate_key_line;

#[path = "../../tests/support/redis.rs"]
#[allow(dead_code, reason = "one plain server is all that is needed")]
mod redis;

use self::redis::RedisServer;
use crate::timetable;
use crate::timetable::client::Client;
use crate::timetable::configuration::Configuration;
use crate::timetable::mock::Mock;
use crate::timetable::place::Place;
use crate::timetable::sidecar::{self, Sidecar};

/// A sidecar on a store.
pub(crate) struct Served {
    /// What the table calls the store.
    pub(crate) name: &'static str,
    /// The part of the direct rate that it must reach.
    pub(crate) target: f64,
    /// The cookie of a visitor who is known.
    pub(crate) cookie: String,
    sidecar: Sidecar,
    _redis: Option<RedisServer>,
    _folder: tempfile::TempDir,
}

impl Served {
    /// One on redb, as durable as it is configured by default, and one on a Redis of this machine.
    pub(crate) async fn all(mock: &Mock, at_once: usize) -> Vec<Self> {
        let redis = RedisServer::start();
        vec![
            Self::start("redb", 0.60, mock, at_once, None).await,
            Self::start("Redis", 0.50, mock, at_once, Some(redis)).await,
        ]
    }

    async fn start(
        name: &'static str,
        target: f64,
        mock: &Mock,
        at_once: usize,
        redis: Option<RedisServer>,
    ) -> Self {
        let folder = tempfile::Builder::new().prefix("arrivals-").tempdir();
        let folder = folder.expect("a folder of its own");
        let store = match &redis {
            // In a folder of its own: that of the configuration is watched.
            None => format!("path = {:?}", folder.path().join("store/sessions.redb")),
            Some(redis) => {
                let keys = folder.path().join("keys");
                std::fs::write(&keys, generate_key_line()).expect("a file");
                format!(
                    "store = \"redis\"\nkeys_file = {keys:?}\nredis.url = \"{}\"\nredis.timeout = \"10s\"",
                    redis.url()
                )
            }
        };
        let configuration = Configuration {
            upstream: mock.address,
            session: format!(
                "{store}\nmax_wait = \"30s\"\nmax_flows = {}\nmax_creations = {at_once}",
                at_once * 2
            ),
            threads: Place::threads(),
            folder: folder.path(),
        };
        let path = configuration.write("sidecar");
        let sidecar = Sidecar::start(&path, &folder.path().join("log")).await;
        Place::Measured.put(sidecar.pid());
        let cookie = first_cookie(sidecar.address).await;
        Self {
            name,
            target,
            cookie,
            sidecar,
            _redis: redis,
            _folder: folder,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.sidecar.address
    }

    /// The processor time that it has taken.
    pub(crate) fn cpu(&self) -> Duration {
        sidecar::cpu(self.sidecar.pid())
    }

    pub(crate) async fn stop(self) {
        assert!(self.sidecar.stop().await, "it ends when it is told to");
    }
}

async fn first_cookie(address: SocketAddr) -> String {
    let mut client = Client::new(Ipv4Addr::LOCALHOST, address);
    let answer = client.ask(&timetable::page(None), false).await;
    let answer = answer.expect("the sidecar answers");
    answer
        .cookie
        .expect("a new visitor is given a cookie")
        .to_owned()
}
