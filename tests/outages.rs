//! The session manager when its store fails, and when tokens age: invariants 3, 5, 11 and 12, with a clock that is told the
//! time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use dressipi_sidecar::clock::{Clock, ManualClock, Timestamp};
use dressipi_sidecar::config::{self, Format};
use dressipi_sidecar::dressipi::Client;
use dressipi_sidecar::session::moving::{self, Adoption};
use dressipi_sidecar::session::{
    Census, Cursor, Entry, Keyring, Manager, MemoryStore, Page, Parts, PutError, Settings,
    StateTag, Store, StoreError, Stored, Unavailable, Unobserved, Vault, Version,
    generate_key_line,
};
use dressipi_sidecar::simulator::{Endpoint, Fault, FaultKind, SimulatorConfig};
use dressipi_sidecar::visitor::{IdentityKey, Namespace, VisitorKey};

use crate::support::{Dressipi, Sidecar, eventually, profile};

/// A store whose reads and writes can be made to fail.
struct Flaky {
    inner: MemoryStore,
    reads_fail: AtomicBool,
    writes_fail: AtomicBool,
}

impl Flaky {
    fn new() -> Arc<Self> {
        Self::with_room(1000)
    }

    fn with_room(visitors: u64) -> Arc<Self> {
        Arc::new(Self {
            inner: MemoryStore::new(visitors),
            reads_fail: AtomicBool::new(false),
            writes_fail: AtomicBool::new(false),
        })
    }

    fn check(switch: &AtomicBool, operation: &'static str) -> Result<(), StoreError> {
        match switch.load(Ordering::SeqCst) {
            false => Ok(()),
            true => Err(StoreError::Unavailable {
                operation,
                source: "switched off".into(),
            }),
        }
    }
}

#[async_trait]
impl Store for Flaky {
    async fn load(&self, key: &VisitorKey, now: Timestamp) -> Result<Option<Stored>, StoreError> {
        Self::check(&self.reads_fail, "read")?;
        self.inner.load(key, now).await
    }

    async fn put(
        &self,
        key: &VisitorKey,
        expected: Option<Version>,
        entry: Entry,
        now: Timestamp,
    ) -> Result<Version, PutError> {
        Self::check(&self.writes_fail, "write")?;
        self.inner.put(key, expected, entry, now).await
    }

    async fn remove(&self, key: &VisitorKey) -> Result<bool, StoreError> {
        Self::check(&self.writes_fail, "write")?;
        self.inner.remove(key).await
    }

    async fn check(&self) -> Result<(), StoreError> {
        Self::check(&self.writes_fail, "write")
    }

    async fn census(&self) -> Result<Census, StoreError> {
        self.inner.census().await
    }

    async fn scan(
        &self,
        cursor: Option<Cursor>,
        limit: usize,
        now: Timestamp,
    ) -> Result<Page, StoreError> {
        Self::check(&self.reads_fail, "scan")?;
        self.inner.scan(cursor, limit, now).await
    }

    async fn sweep(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        self.inner.sweep(now, limit).await
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

/// A simulator, a manager before a flaky store, and one clock for both.
struct Bench {
    dressipi: Dressipi,
    store: Arc<Flaky>,
    keyring: Keyring,
    clock: Arc<ManualClock>,
    manager: Manager,
}

impl Bench {
    async fn new() -> Self {
        Self::with(Flaky::new()).await
    }

    async fn with(store: Arc<Flaky>) -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_800_000_000)));
        let told = clock.clone();
        let dressipi = Dressipi::with_clock(
            SimulatorConfig::default(),
            Arc::new(move || told.now().as_millis()),
        )
        .await;
        let keyring = Keyring::parse(&generate_key_line()).unwrap();
        let manager = Self::manager(&dressipi, &store, &keyring, &clock);
        Self {
            dressipi,
            store,
            keyring,
            clock,
            manager,
        }
    }

    fn manager(
        dressipi: &Dressipi,
        store: &Arc<Flaky>,
        keyring: &Keyring,
        clock: &Arc<ManualClock>,
    ) -> Manager {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let text = Sidecar::behind(dressipi).text();
        let loaded = config::load_text("test.toml", &text, Format::Toml, "/".as_ref(), []).unwrap();
        let template = loaded.config.dressipi.headers.token_template.clone();
        let manager = Manager::new(Parts {
            vault: Vault::new(store.clone(), keyring.clone(), Duration::from_secs(86_400)),
            server: Arc::new(Client::new(&loaded.config.dressipi).unwrap()),
            clock: clock.clone(),
            settings: Settings {
                max_wait: Duration::from_secs(10),
                ..Settings::default()
            },
            render: Arc::new(move |token| template.render(token)),
            observer: Arc::new(Unobserved),
            runtime: tokio::runtime::Handle::current(),
        });
        let maintained = manager.clone();
        tokio::spawn(async move { maintained.maintain().await });
        manager
    }

    /// The process starts again on the same store.
    fn restart(&mut self) {
        self.manager = Self::manager(&self.dressipi, &self.store, &self.keyring, &self.clock);
    }

    async fn profile(&self, visitor: &VisitorKey) -> Result<String, Unavailable> {
        let authorized = self.manager.ensure(visitor, true).await?;
        let token = authorized.header().to_str().unwrap();
        Ok(self.dressipi.simulator.profile_of_token(token).unwrap())
    }

    fn refreshes(&self) -> u64 {
        self.dressipi
            .simulator
            .totals()
            .token_calls_of("refresh_token", "ok")
    }
}

fn visitor(name: &str) -> VisitorKey {
    IdentityKey::new(&[1; 32]).visitor_key(Namespace::Header, name.as_bytes())
}

#[tokio::test]
async fn invariant_3_an_export_holds_the_tokens_that_could_not_be_stored_yet() {
    let bench = Bench::new().await;
    let vault = Vault::new(
        bench.store.clone(),
        bench.keyring.clone(),
        Duration::from_secs(86_400),
    );
    vault.identity_key(bench.clock.now()).await.unwrap();
    let ada = visitor("ada");
    let profile = bench.profile(&ada).await.unwrap();
    bench.clock.advance(Duration::from_secs(880));
    bench.store.writes_fail.store(true, Ordering::SeqCst);
    assert_eq!(bench.profile(&ada).await.as_ref(), Ok(&profile));
    assert_eq!(bench.manager.unsaved(), 1);

    let mut exporter = bench.manager.export().await.unwrap();
    let mut pieces = Vec::new();
    while let Some(piece) = exporter.next().await.unwrap() {
        pieces.push(Ok(piece));
    }
    let there = Flaky::new();
    let moved = Vault::new(
        there.clone(),
        bench.keyring.clone(),
        Duration::from_secs(86_400),
    );
    let clock: Arc<dyn Clock> = bench.clock.clone();
    let pieces = futures::stream::iter(pieces);
    let adoption = Adoption::IfEmpty;
    let summary = moving::import(&moved, &clock, adoption, pieces, |_| {}).await;
    assert_eq!(summary.unwrap().records(), 2, "the old one and the new one");

    // The old refresh token is spent; the moved one is the new one.
    let manager = Bench::manager(&bench.dressipi, &there, &bench.keyring, &bench.clock);
    bench.clock.advance(Duration::from_secs(880));
    let authorized = manager.ensure(&ada, false).await.unwrap();
    let token = authorized.header().to_str().unwrap();
    let same = bench.dressipi.simulator.profile_of_token(token);
    assert_eq!(same, Some(profile));
    assert_eq!(bench.dressipi.simulator.totals().refresh_reuse, 0);
}

#[tokio::test]
async fn invariants_3_and_11_a_refresh_that_cannot_be_stored_is_kept_used_and_written_later() {
    let mut bench = Bench::new().await;
    let ada = visitor("ada");
    let before = bench.profile(&ada).await.unwrap();
    bench.clock.advance(Duration::from_secs(880));
    bench.store.writes_fail.store(true, Ordering::SeqCst);
    assert_eq!(
        bench.profile(&ada).await.as_ref(),
        Ok(&before),
        "the new token is used"
    );
    assert_eq!((bench.refreshes(), bench.manager.unsaved()), (1, 1));
    // Nobody new meanwhile: their profile could not be kept.
    assert_eq!(
        bench.profile(&visitor("eve")).await,
        Err(Unavailable::Store)
    );
    assert_eq!(bench.dressipi.profiles(), 1);
    // The unsaved token set ages, too, and is refreshed from memory: the store's refresh token is spent.
    bench.clock.advance(Duration::from_secs(880));
    assert_eq!(bench.profile(&ada).await.as_ref(), Ok(&before));
    assert_eq!((bench.refreshes(), bench.manager.unsaved()), (2, 1));

    bench.store.writes_fail.store(false, Ordering::SeqCst);
    eventually("the session is written", async || {
        bench.manager.unsaved() == 0
    })
    .await;
    bench.restart();
    bench.clock.advance(Duration::from_secs(880));
    assert_eq!(
        bench.profile(&ada).await.as_ref(),
        Ok(&before),
        "and found after a restart"
    );
    let totals = bench.dressipi.simulator.totals();
    assert_eq!((totals.profiles, totals.refresh_reuse), (1, 0));
    assert!(bench.profile(&visitor("eve")).await.is_ok());
}

#[tokio::test]
async fn invariant_11_a_code_that_cannot_be_stored_is_neither_exchanged_nor_asked_for_again() {
    let bench = Bench::new().await;
    let ada = visitor("ada");
    bench.store.writes_fail.store(true, Ordering::SeqCst);
    for _ in 0..5 {
        assert_eq!(bench.profile(&ada).await, Err(Unavailable::Store));
    }
    let totals = bench.dressipi.simulator.totals();
    assert_eq!((totals.authorize_calls, totals.token_calls.len()), (1, 0));
    bench.store.writes_fail.store(false, Ordering::SeqCst);
    eventually("ada gets her profile", async || {
        bench.profile(&ada).await.is_ok()
    })
    .await;
    assert_eq!(bench.dressipi.profiles(), 1);
}

#[tokio::test]
async fn invariant_11_a_store_that_cannot_be_read_is_no_empty_store() {
    let mut bench = Bench::new().await;
    let (ada, eve) = (visitor("ada"), visitor("eve"));
    let before = bench.profile(&ada).await.unwrap();
    bench.store.reads_fail.store(true, Ordering::SeqCst);
    assert_eq!(
        bench.profile(&ada).await.as_ref(),
        Ok(&before),
        "the cache serves"
    );
    assert_eq!(bench.profile(&eve).await, Err(Unavailable::Store));
    bench.restart();
    assert_eq!(bench.profile(&ada).await, Err(Unavailable::Store));
    assert_eq!(bench.dressipi.profiles(), 1);
    bench.store.reads_fail.store(false, Ordering::SeqCst);
    assert_eq!(bench.profile(&ada).await, Ok(before));
    assert_eq!(bench.dressipi.profiles(), 1);
}

#[tokio::test]
async fn a_record_that_another_keyring_sealed_is_an_error_and_no_new_visitor() {
    let mut bench = Bench::new().await;
    let ada = visitor("ada");
    let before = bench.profile(&ada).await.unwrap();
    let right = std::mem::replace(
        &mut bench.keyring,
        Keyring::parse(&generate_key_line()).unwrap(),
    );
    bench.restart();
    assert_eq!(bench.profile(&ada).await, Err(Unavailable::Store));
    assert_eq!(bench.dressipi.profiles(), 1);
    bench.keyring = right;
    bench.restart();
    assert_eq!(bench.profile(&ada).await, Ok(before));
}

#[tokio::test]
async fn more_sessions_than_one_sweep_takes_are_swept_without_a_long_pause() {
    const EXPIRED: u64 = 2_500;
    let store = Flaky::with_room(EXPIRED);
    let long_ago = Timestamp::from_secs(1_700_000_000);
    for number in 0..EXPIRED {
        let entry = Entry {
            sealed: Bytes::from_static(b"long ago"),
            state: StateTag::Active,
            expires_at: long_ago + Duration::from_secs(1),
        };
        let key = visitor(&number.to_string());
        store.put(&key, None, entry, long_ago).await.unwrap();
    }
    let bench = Bench::with(store).await;
    // Three sweeps, of which the last finds no more than it may take. One a minute would take two minutes for it.
    eventually("all are gone", async || {
        bench.store.census().await.unwrap().active == 0
    })
    .await;
}

#[tokio::test]
async fn invariant_5_a_tokens_life_begins_when_it_was_asked_for() {
    let bench = Bench::new().await;
    let ada = visitor("ada");
    let slow = FaultKind::DelayAfterCommit { ms: 300 };
    let simulator = &bench.dressipi.simulator;
    simulator.add_fault(Fault::once(Endpoint::Token, slow));
    let manager = bench.manager.clone();
    let asking = tokio::spawn(async move { manager.ensure(&ada, true).await.is_ok() });
    eventually("the token is issued and on its way", async || {
        let totals = simulator.totals();
        totals.token_calls_of("authorization_code", "ok") == 1
    })
    .await;
    // Nearly its whole life of 900 s.
    bench.clock.advance(Duration::from_secs(880));
    assert!(!asking.await.unwrap(), "it is too old to be used");
    assert!(bench.profile(&ada).await.is_ok());
    assert_eq!(bench.refreshes(), 1);
}

#[tokio::test]
async fn a_token_that_is_due_is_used_and_refreshed_in_the_background() {
    let bench = Bench::new().await;
    let ada = visitor("ada");
    bench.profile(&ada).await.unwrap();
    bench.dressipi.simulator.add_fault(Fault::always(
        Endpoint::Refresh,
        FaultKind::Delay { ms: 50 },
    ));
    let old = bench
        .manager
        .ensure(&ada, true)
        .await
        .unwrap()
        .fingerprint();
    // 900 s less 30 s of margin, less what the token's place in the window leaves: 30 to 60 s.
    bench.clock.advance(Duration::from_secs(845));
    let now = bench.clock.now();
    assert_eq!(
        bench.manager.current(&ada, now).unwrap().fingerprint(),
        old,
        "used at once"
    );
    assert_eq!(bench.refreshes(), 0);
    eventually("the background refresh", async || {
        bench.manager.current(&ada, now).unwrap().fingerprint() != old
    })
    .await;
    assert_eq!(bench.refreshes(), 1);
}

#[tokio::test]
async fn invariant_5_an_expired_token_is_waited_for_and_never_used() {
    let bench = Bench::new().await;
    let ada = visitor("ada");
    let old = bench.manager.ensure(&ada, true).await.unwrap();
    bench.clock.advance(Duration::from_secs(871));
    assert!(bench.manager.current(&ada, bench.clock.now()).is_none());
    assert!(!old.is_usable(bench.clock.now()));
    let new = bench.manager.ensure(&ada, true).await.unwrap();
    assert_ne!(new.fingerprint(), old.fingerprint());
    assert_eq!(bench.refreshes(), 1);
    // Dressipi down: not even then.
    bench
        .dressipi
        .simulator
        .add_fault(Fault::always(Endpoint::Refresh, FaultKind::status(503)));
    bench.clock.advance(Duration::from_secs(871));
    assert_eq!(
        bench.manager.ensure(&ada, true).await.unwrap_err(),
        Unavailable::Dressipi
    );
}

#[tokio::test]
async fn an_idle_visitor_is_not_refreshed_for_ever() {
    let bench = Bench::new().await;
    bench.profile(&visitor("ada")).await.unwrap();
    bench.clock.advance(Duration::from_secs(40_000));
    tokio::task::yield_now().await;
    assert_eq!(bench.refreshes(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_in_the_store_file_can_be_read() {
    let dressipi = Dressipi::start().await;
    let folder = tempfile::tempdir().unwrap();
    let sidecar = Sidecar::behind(&dressipi).redb(folder.path()).start().await;
    let echo = crate::support::json(
        sidecar
            .visitor("ada-the-visitor", "/api/echo")
            .send()
            .await
            .unwrap(),
    )
    .await;
    let headers = echo["headers"].as_array().unwrap();
    let token = headers
        .iter()
        .find(|header| header[0] == "x-dressipi-jwt")
        .unwrap()[1]
        .as_str()
        .unwrap();
    sidecar.stop().await;
    let file = std::fs::read(folder.path().join("sessions.redb")).unwrap();
    let holds = |needle: &str| {
        file.windows(needle.len())
            .any(|window| window == needle.as_bytes())
    };
    // Parts of it, too: base64 of a JWT's head, and what a record would look like in clear.
    for needle in [
        token,
        &token[..40],
        "ada-the-visitor",
        "refresh",
        "access",
        "\"is\"",
    ] {
        assert!(!holds(needle), "{needle}");
    }
    let mode = std::os::unix::fs::PermissionsExt::mode(&file_permissions(
        &folder.path().join("sessions.redb"),
    ));
    assert_eq!(mode & 0o777, 0o600);
    let mode = std::os::unix::fs::PermissionsExt::mode(&file_permissions(
        &folder.path().join("sessions.redb.keys"),
    ));
    assert_eq!(mode & 0o777, 0o600);
}

fn file_permissions(path: &std::path::Path) -> std::fs::Permissions {
    std::fs::metadata(path).unwrap().permissions()
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_follows_the_store_and_never_dressipi() {
    let dressipi = Dressipi::start().await;
    let sidecar = Sidecar::behind(&dressipi).start().await;
    for endpoint in [
        Endpoint::Authorize,
        Endpoint::Token,
        Endpoint::Refresh,
        Endpoint::Resource,
    ] {
        dressipi
            .simulator
            .add_fault(Fault::always(endpoint, FaultKind::status(503)));
    }
    let _ = sidecar
        .visitor("ada", "/api/items/top?client_id=demo")
        .send()
        .await
        .unwrap();
    assert_eq!(sidecar.admin("/readyz").await.status(), 200);
    dressipi.simulator.clear_faults();
    eventually("ada gets her profile", async || {
        profile(
            sidecar
                .visitor("ada", "/api/items/top?client_id=demo")
                .send()
                .await
                .unwrap(),
        )
        .await
        .is_some()
    })
    .await;
}
