//! The same on redb, in this process: the store's calls pass the gate, and at the last point the file is copied as it lies
//! there, in the middle of things. The copy is what the next process would find.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use dressipi_sidecar::clock::{Clock, SystemClock, Timestamp};
use dressipi_sidecar::config::{self, Format};
use dressipi_sidecar::dressipi::Client;
use dressipi_sidecar::session::{
    Census, Cursor, Entry, Keyring, Manager, Page, Parts, PutError, RedbStore, Settings, Store,
    StoreError, Stored, Unobserved, Vault, Version, generate_key_line,
};
use dressipi_sidecar::simulator::{ExpiredAs, Simulator};
use dressipi_sidecar::visitor::{IdentityKey, Namespace, VisitorKey};

use super::{Outcome, Scene, Stop, at_every_point, first_visit, refresh, serve, simulator};
use crate::support::link::Gate;
use crate::support::{Dressipi, Sidecar};

/// A store behind the gate.
struct Gated {
    store: RedbStore,
    gate: Arc<Gate>,
}

impl Gated {
    async fn pass<T>(&self, name: &str, call: impl Future<Output = T>) -> T {
        let number = self.gate.before(name).await;
        let result = call.await;
        if let Some(number) = number {
            self.gate.after(number).await;
        }
        result
    }
}

#[async_trait]
impl Store for Gated {
    async fn load(&self, key: &VisitorKey, now: Timestamp) -> Result<Option<Stored>, StoreError> {
        self.pass("store load", self.store.load(key, now)).await
    }

    async fn put(
        &self,
        key: &VisitorKey,
        expected: Option<Version>,
        entry: Entry,
        now: Timestamp,
    ) -> Result<Version, PutError> {
        self.pass("store put", self.store.put(key, expected, entry, now))
            .await
    }

    async fn remove(&self, key: &VisitorKey) -> Result<bool, StoreError> {
        self.pass("store remove", self.store.remove(key)).await
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.store.check().await
    }

    async fn census(&self) -> Result<Census, StoreError> {
        self.store.census().await
    }

    async fn scan(
        &self,
        cursor: Option<Cursor>,
        limit: usize,
        now: Timestamp,
    ) -> Result<Page, StoreError> {
        self.store.scan(cursor, limit, now).await
    }

    async fn sweep(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        self.store.sweep(now, limit).await
    }

    async fn close(&self) {
        self.store.close().await;
    }
}

fn manager(dressipi: &Dressipi, keyring: &Keyring, path: &Path, gate: &Arc<Gate>) -> Manager {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let text = Sidecar::behind(dressipi).text();
    let loaded = config::load_text("test.toml", &text, Format::Toml, "/".as_ref(), []).unwrap();
    let template = loaded.config.dressipi.headers.token_template.clone();
    let store = Arc::new(Gated {
        store: RedbStore::open(path, 1 << 20).unwrap(),
        gate: gate.clone(),
    });
    let mut settings = Settings {
        max_wait: Duration::from_secs(10),
        ..Settings::default()
    };
    settings.policy.unconfirmed_pause = Duration::from_millis(50);
    Manager::new(Parts {
        vault: Vault::new(store, keyring.clone(), Duration::from_secs(86_400)),
        server: Arc::new(Client::new(&loaded.config.dressipi).unwrap()),
        clock: Arc::new(SystemClock),
        settings,
        render: Arc::new(move |token| template.render(token)),
        observer: Arc::new(Unobserved),
        runtime: tokio::runtime::Handle::current(),
    })
}

/// As a request does it: a token that is rejected is replaced once.
async fn visit(manager: &Manager, simulator: &Simulator, ada: &VisitorKey) -> Option<String> {
    for _ in 0..2 {
        let authorized = match manager.current(ada, SystemClock.now()) {
            Some(authorized) => authorized,
            None => manager.ensure(ada, true).await.ok()?,
        };
        let token = authorized.header().to_str().unwrap().to_owned();
        if simulator.accepts(&token) {
            return simulator.profile_of_token(&token);
        }
        manager.reject(&authorized);
    }
    None
}

async fn play(scene: Scene, stop: Stop) -> Outcome {
    let gate = Gate::new(stop);
    let simulator = simulator();
    let dressipi = Dressipi {
        address: serve(&simulator, gate.clone()).await,
        simulator: simulator.clone(),
    };
    let folder = tempfile::tempdir().unwrap();
    let (path, copy) = (folder.path().join("a.redb"), folder.path().join("b.redb"));
    let keyring = Keyring::parse(&generate_key_line()).unwrap();
    let key = |name: &[u8]| IdentityKey::new(&[1; 32]).visitor_key(Namespace::Header, name);
    let ada = key(b"ada");

    let life = manager(&dressipi, &keyring, &path, &gate);
    visit(&life, &simulator, &key(b"somebody-else"))
        .await
        .unwrap();
    let before = match scene {
        Scene::First => None,
        Scene::Refresh => visit(&life, &simulator, &ada).await,
    };
    if scene == Scene::Refresh {
        simulator.expire_tokens(ExpiredAs::Unauthorized);
    }
    gate.arm();
    let visiting = visit(&life, &simulator, &ada);
    match stop {
        None => assert!(visiting.await.is_some()),
        Some(_) => tokio::select! {
            () = gate.reached() => {}
            _ = visiting => panic!("the point is reached before the visitor is answered"),
        },
    }
    let points = gate.points();
    gate.open();
    std::fs::copy(&path, &copy).unwrap();

    let next = manager(&dressipi, &keyring, &copy, &gate);
    let mut after = None;
    crate::support::eventually("the visitor has a token", async || {
        after = visit(&next, &simulator, &ada).await;
        after.is_some()
    })
    .await;
    Outcome {
        points,
        before,
        after: after.unwrap(),
        totals: simulator.totals(),
    }
}

#[tokio::test]
async fn invariant_2_a_kill_at_any_point_of_the_first_visit_costs_at_most_what_was_on_its_way() {
    at_every_point(Scene::First, play, first_visit).await;
}

#[tokio::test]
async fn invariant_3_a_kill_at_any_point_of_a_refresh_loses_nothing() {
    at_every_point(Scene::Refresh, play, refresh).await;
}
