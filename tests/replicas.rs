//! Several session managers on one store: what one of them does, the others know, and no visitor gets a second profile.
//!
//! The store here is a model of a shared one, in memory, so that the way to it can be cut for one replica, its news can be
//! held back and its calls counted. `tests/store_contract.rs` holds the real ones to the same contract.

#![allow(
    clippy::unwrap_used,
    reason = "a test that panics is a test that fails"
)]

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use dressipi_sidecar::clock::{Clock, ManualClock, Timestamp};
use dressipi_sidecar::config::{self, Format};
use dressipi_sidecar::dressipi::Client;
use dressipi_sidecar::oauth::TokenFingerprint;
use dressipi_sidecar::session::{
    Acquired, Census, Creation, Cursor, Entry, Keyring, LeaseOwner, Manager, MemoryStore, News,
    Page, Parts, Policy, PutError, Remember, Replicas, Settings, SharedStore, Store, StoreError,
    Stored, Unavailable, Unobserved, Vault, Version, generate_key_line,
};
use dressipi_sidecar::simulator::{Endpoint, Fault, FaultKind, SimulatorConfig};
use dressipi_sidecar::visitor::{IdentityKey, Namespace, VisitorKey};
use parking_lot::Mutex;
use tokio::sync::broadcast;

use crate::support::{Dressipi, Sidecar, eventually};

/// What all replicas see.
struct Shared {
    records: MemoryStore,
    leases: Mutex<HashMap<VisitorKey, (LeaseOwner, Instant)>>,
    /// News with its sender.
    news: broadcast::Sender<(usize, News)>,
    muted: AtomicBool,
    /// How many turns of the scheduler away it is.
    distance: AtomicU64,
    clock: Arc<ManualClock>,
}

/// One replica's way to it.
struct Way {
    number: usize,
    shared: Arc<Shared>,
    cut: AtomicBool,
    calls: AtomicU64,
    news: broadcast::Sender<News>,
}

impl Way {
    fn new(number: usize, shared: &Arc<Shared>) -> Arc<Self> {
        let (sender, _) = broadcast::channel(1024);
        let (mut all, to) = (shared.news.subscribe(), sender.clone());
        tokio::spawn(async move {
            while let Ok((from, news)) = all.recv().await {
                if from != number {
                    let _ = to.send(news);
                }
            }
        });
        Arc::new(Self {
            number,
            shared: shared.clone(),
            cut: AtomicBool::new(false),
            calls: AtomicU64::new(0),
            news: sender,
        })
    }

    fn call(&self) -> Result<&Shared, StoreError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        match self.cut.load(Ordering::SeqCst) {
            false => Ok(&self.shared),
            true => Err(StoreError::Unavailable {
                operation: "reach",
                source: "cut off".into(),
            }),
        }
    }

    async fn travel(&self) {
        for _ in 0..self.shared.distance.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
    }

    fn tell(&self, news: News) {
        if !self.shared.muted.load(Ordering::SeqCst) {
            let _ = self.shared.news.send((self.number, news));
        }
    }
}

#[async_trait]
impl Store for Way {
    async fn load(&self, key: &VisitorKey, now: Timestamp) -> Result<Option<Stored>, StoreError> {
        self.travel().await;
        self.call()?.records.load(key, now).await
    }

    async fn put(
        &self,
        key: &VisitorKey,
        expected: Option<Version>,
        entry: Entry,
        now: Timestamp,
    ) -> Result<Version, PutError> {
        self.travel().await;
        let version = self.call()?.records.put(key, expected, entry, now).await?;
        self.tell(News::Changed(*key));
        Ok(version)
    }

    async fn remove(&self, key: &VisitorKey) -> Result<bool, StoreError> {
        let removed = self.call()?.records.remove(key).await?;
        self.tell(News::Erased(*key));
        Ok(removed)
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.call()?.records.check().await
    }

    async fn census(&self) -> Result<Census, StoreError> {
        self.call()?.records.census().await
    }

    async fn scan(
        &self,
        cursor: Option<Cursor>,
        limit: usize,
        now: Timestamp,
    ) -> Result<Page, StoreError> {
        self.call()?.records.scan(cursor, limit, now).await
    }

    async fn sweep(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        self.shared.records.sweep(now, limit).await
    }

    async fn close(&self) {}

    fn shared(&self) -> Option<&dyn SharedStore> {
        Some(self)
    }
}

#[async_trait]
impl SharedStore for Way {
    async fn acquire(
        &self,
        key: &VisitorKey,
        owner: &LeaseOwner,
        term: Duration,
        now: Timestamp,
    ) -> Result<Acquired, StoreError> {
        self.travel().await;
        let shared = self.call()?;
        {
            let mut leases = shared.leases.lock();
            let present = Instant::now();
            if let Some((holder, until)) = leases.get(key)
                && holder != owner
                && present < *until
            {
                return Ok(Acquired::Theirs(*until - present));
            }
            leases.insert(*key, (*owner, present + term));
        }
        Ok(Acquired::Ours(shared.records.load(key, now).await?))
    }

    async fn renew(
        &self,
        key: &VisitorKey,
        owner: &LeaseOwner,
        term: Duration,
    ) -> Result<bool, StoreError> {
        let mut leases = self.call()?.leases.lock();
        Ok(match leases.get_mut(key) {
            Some((holder, until)) if holder == owner && Instant::now() < *until => {
                *until = Instant::now() + term;
                true
            }
            _ => false,
        })
    }

    async fn release(&self, key: &VisitorKey, owner: &LeaseOwner) -> Result<(), StoreError> {
        let mut leases = self.call()?.leases.lock();
        if leases.get(key).is_some_and(|(holder, _)| holder == owner) {
            leases.remove(key);
            self.tell(News::Released(*key));
        }
        Ok(())
    }

    async fn announce_rejection(
        &self,
        key: &VisitorKey,
        token: TokenFingerprint,
    ) -> Result<(), StoreError> {
        self.call()?;
        self.tell(News::Rejected(*key, token));
        Ok(())
    }

    fn news(&self) -> broadcast::Receiver<News> {
        self.news.subscribe()
    }

    async fn time(&self) -> Result<Timestamp, StoreError> {
        Ok(self.call()?.shared_now())
    }
}

impl Shared {
    fn shared_now(&self) -> Timestamp {
        self.clock.now()
    }
}

/// A simulator, a store, and replicas on it; one clock for all.
struct Bench {
    dressipi: Dressipi,
    shared: Arc<Shared>,
    clock: Arc<ManualClock>,
    ways: Vec<Arc<Way>>,
    replicas: Vec<Manager>,
    maintained: Vec<tokio::task::JoinHandle<()>>,
}

const SETTINGS: Settings = Settings {
    policy: Policy {
        expiry_margin: Duration::from_secs(30),
        refresh_ahead: Duration::from_secs(60),
        max_code_age: Duration::from_secs(540),
        on_lost: dressipi_sidecar::session::OnLost::Recreate,
        max_unconfirmed: 3,
        unconfirmed_pause: Duration::from_secs(30),
        replicas: Some(Replicas {
            lease_term: Duration::from_secs(15),
            lost_grace: Duration::from_secs(120),
            cache_validity: Duration::from_secs(10),
        }),
    },
    max_wait: Duration::from_secs(10),
    max_flows: 64,
    max_creations: 64,
    cache_capacity: 10_000,
    idle_timeout: Duration::from_secs(86_400),
    min_backoff: Duration::from_secs(1),
    max_backoff: Duration::from_secs(60),
    rejection_pause: Duration::from_secs(30),
};

impl Bench {
    async fn new(replicas: usize) -> Self {
        Self::with(replicas, SETTINGS).await
    }

    async fn with(replicas: usize, settings: Settings) -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_800_000_000)));
        let told = clock.clone();
        let dressipi = Dressipi::with_clock(
            SimulatorConfig::default(),
            Arc::new(move || told.now().as_millis()),
        )
        .await;
        let keyring = Keyring::parse(&generate_key_line()).unwrap();
        let (news, _) = broadcast::channel(1024);
        let shared = Arc::new(Shared {
            records: MemoryStore::new(10_000),
            leases: Mutex::default(),
            news,
            distance: AtomicU64::new(0),
            muted: AtomicBool::new(false),
            clock: clock.clone(),
        });
        let mut bench = Self {
            dressipi,
            shared,
            clock,
            ways: Vec::new(),
            replicas: Vec::new(),
            maintained: Vec::new(),
        };
        for number in 0..replicas {
            bench.add_replica(number, &keyring, settings);
        }
        // Whoever does not listen yet hears nothing.
        eventually("all replicas listen", async || {
            bench.ways.iter().all(|way| way.news.receiver_count() == 1)
        })
        .await;
        bench
    }

    fn add_replica(&mut self, number: usize, keyring: &Keyring, settings: Settings) {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let text = Sidecar::behind(&self.dressipi).text();
        let loaded = config::load_text("test.toml", &text, Format::Toml, "/".as_ref(), []).unwrap();
        let template = loaded.config.dressipi.headers.token_template.clone();
        let way = Way::new(number, &self.shared);
        let manager = Manager::new(Parts {
            vault: Vault::new(way.clone(), keyring.clone(), settings.idle_timeout),
            server: Arc::new(Client::new(&loaded.config.dressipi).unwrap()),
            clock: self.clock.clone(),
            settings,
            render: Arc::new(move |token| template.render(token)),
            observer: Arc::new(Unobserved),
            runtime: tokio::runtime::Handle::current(),
        });
        let maintained = manager.clone();
        self.maintained
            .push(tokio::spawn(async move { maintained.maintain().await }));
        self.ways.push(way);
        self.replicas.push(manager);
    }

    async fn profile(&self, replica: usize, visitor: &VisitorKey) -> Result<String, Unavailable> {
        let authorized = self.replicas[replica].ensure(visitor, true).await?;
        let token = authorized.header().to_str().unwrap();
        Ok(self.dressipi.simulator.profile_of_token(token).unwrap())
    }

    async fn token(&self, replica: usize, visitor: &VisitorKey) -> TokenFingerprint {
        let ensured = self.replicas[replica].ensure(visitor, true).await;
        ensured.unwrap().fingerprint()
    }

    /// Calls that a replica makes to the store while `work` runs.
    async fn calls(&self, replica: usize, work: impl Future) -> u64 {
        let before = self.ways[replica].calls.load(Ordering::SeqCst);
        work.await;
        self.ways[replica].calls.load(Ordering::SeqCst) - before
    }

    fn cut(&self, replica: usize, cut: bool) {
        self.ways[replica].cut.store(cut, Ordering::SeqCst);
    }

    fn fault(&self, endpoint: Endpoint, kind: FaultKind) {
        let simulator = &self.dressipi.simulator;
        simulator.add_fault(Fault::always(endpoint, kind));
    }

    fn refreshes(&self) -> u64 {
        let totals = self.dressipi.simulator.totals();
        totals.token_calls_of("refresh_token", "ok")
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for maintained in &self.maintained {
            maintained.abort();
        }
    }
}

fn visitor(name: &str) -> VisitorKey {
    IdentityKey::new(&[1; 32]).visitor_key(Namespace::Header, name.as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_1_parallel_first_requests_at_three_replicas_make_one_profile() {
    let bench = Arc::new(Bench::new(3).await);
    bench.fault(Endpoint::Authorize, FaultKind::Delay { ms: 50 });
    let requests: Vec<_> = (0..60 * 12)
        .map(|number| {
            let bench = bench.clone();
            let key = visitor(&format!("visitor-{}", number / 12));
            tokio::spawn(async move { (key, bench.profile(number % 3, &key).await.unwrap()) })
        })
        .collect();
    let mut profiles = HashMap::new();
    for request in requests {
        let (key, profile) = request.await.unwrap();
        assert_eq!(
            *profiles.entry(key).or_insert_with(|| profile.clone()),
            profile
        );
    }
    let totals = bench.dressipi.simulator.totals();
    assert_eq!((totals.profiles, totals.authorize_calls), (60, 60));
    assert!(
        bench.shared.leases.lock().is_empty(),
        "all leases are given back"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_3_tokens_that_expire_are_refreshed_by_one_replica_and_used_by_all() {
    let bench = Arc::new(Bench::new(3).await);
    let ada = visitor("ada");
    let before = bench.profile(0, &ada).await.unwrap();
    for round in 1..=10 {
        bench.clock.advance(Duration::from_secs(880));
        let requests: Vec<_> = (0..30)
            .map(|number| {
                let bench = bench.clone();
                tokio::spawn(async move { bench.profile(number % 3, &ada).await })
            })
            .collect();
        for request in requests {
            assert_eq!(request.await.unwrap().as_ref(), Ok(&before));
        }
        assert_eq!(bench.refreshes(), round);
    }
    let totals = bench.dressipi.simulator.totals();
    assert_eq!((totals.profiles, totals.refresh_reuse), (1, 0));
}

#[tokio::test]
async fn a_known_visitor_costs_no_call_while_cached_and_one_otherwise_and_a_new_one_six() {
    let bench = Bench::new(2).await;
    let ada = visitor("ada");
    assert_eq!(bench.calls(0, bench.profile(0, &ada)).await, 6);
    assert_eq!(bench.calls(0, bench.profile(0, &ada)).await, 0);
    assert_eq!(
        bench.calls(1, bench.profile(1, &ada)).await,
        1,
        "at another replica"
    );
    assert_eq!(bench.calls(1, bench.profile(1, &ada)).await, 0);
    bench.clock.advance(Duration::from_secs(11));
    assert_eq!(
        bench.calls(1, bench.profile(1, &ada)).await,
        1,
        "after the validity"
    );
}

#[tokio::test]
async fn a_look_at_the_store_that_is_soon_due_is_taken_while_nobody_waits() {
    let bench = Bench::new(1).await;
    let ada = visitor("ada");
    bench.profile(0, &ada).await.unwrap();
    bench.clock.advance(Duration::from_secs(8));
    let before = bench.ways[0].calls.load(Ordering::SeqCst);
    assert!(
        bench.replicas[0].current(&ada, bench.clock.now()).is_some(),
        "at once"
    );
    eventually("the look in the background", async || {
        bench.ways[0].calls.load(Ordering::SeqCst) == before + 1
    })
    .await;
    eventually("the flow's end", async || bench.replicas[0].flows() == 0).await;
    bench.clock.advance(Duration::from_secs(7));
    assert_eq!(bench.calls(0, bench.profile(0, &ada)).await, 0);
}

#[tokio::test]
async fn a_refreshed_token_spreads_at_once_and_without_news_within_the_validity() {
    let bench = Bench::new(2).await;
    let ada = visitor("ada");
    assert_eq!(bench.token(0, &ada).await, bench.token(1, &ada).await);
    let renew = async |muted| {
        bench.shared.muted.store(muted, Ordering::SeqCst);
        let old = bench.replicas[0].ensure(&ada, true).await.unwrap();
        bench.clock.advance(Duration::from_secs(60));
        // The other replica has looked a moment ago.
        assert_eq!(bench.token(1, &ada).await, old.fingerprint());
        bench.replicas[0].reject(&old);
        let new = bench.token(0, &ada).await;
        assert_ne!(new, old.fingerprint());
        (old.fingerprint(), new)
    };
    let (_, new) = renew(false).await;
    eventually(
        "the other replica has it, though its clock stands still",
        async || bench.token(1, &ada).await == new,
    )
    .await;

    let (old, new) = renew(true).await;
    assert_eq!(bench.token(1, &ada).await, old, "nobody told");
    bench.clock.advance(Duration::from_secs(11));
    assert_eq!(bench.token(1, &ada).await, new);
}

#[tokio::test]
async fn a_token_that_one_replica_saw_rejected_is_used_by_none() {
    let bench = Bench::new(2).await;
    let ada = visitor("ada");
    let token = bench.replicas[0].ensure(&ada, true).await.unwrap();
    assert_eq!(bench.token(1, &ada).await, token.fingerprint());
    // It cannot be refreshed at present: this is about the rejection alone.
    bench.fault(Endpoint::Refresh, FaultKind::status(503));
    bench.replicas[0].reject(&token);
    eventually("the other replica knows", async || {
        bench.replicas[1].current(&ada, bench.clock.now()).is_none()
    })
    .await;
    assert_eq!(bench.profile(1, &ada).await, Err(Unavailable::Dressipi));
}

#[tokio::test]
async fn a_gap_in_the_news_has_every_cached_token_looked_up_anew() {
    let bench = Bench::new(1).await;
    let ada = visitor("ada");
    bench.profile(0, &ada).await.unwrap();
    bench.ways[0].news.send(News::Gap).unwrap();
    eventually("the cache is not believed", async || {
        bench.replicas[0].current(&ada, bench.clock.now()).is_none()
    })
    .await;
    bench.clock.advance(Duration::from_millis(2));
    assert_eq!(bench.calls(0, bench.profile(0, &ada)).await, 1);
}

#[tokio::test]
async fn invariant_11_without_the_store_cached_visitors_are_served_as_long_as_their_tokens_live() {
    let bench = Bench::new(1).await;
    let (ada, eve) = (visitor("ada"), visitor("eve"));
    let before = bench.profile(0, &ada).await.unwrap();
    bench.cut(0, true);
    for _ in 0..8 {
        bench.clock.advance(Duration::from_secs(100));
        assert_eq!(bench.profile(0, &ada).await.as_ref(), Ok(&before));
        assert_eq!(bench.profile(0, &eve).await, Err(Unavailable::Store));
    }
    // Invariant 5: and no longer.
    bench.clock.advance(Duration::from_secs(100));
    assert_eq!(bench.profile(0, &ada).await, Err(Unavailable::Store));
    assert_eq!((bench.dressipi.profiles(), bench.refreshes()), (1, 0));
    bench.cut(0, false);
    assert_eq!(bench.profile(0, &ada).await, Ok(before));
    assert_eq!(bench.dressipi.profiles(), 1);
}

/// The server is strict: a refresh token that was replaced is refused, and means `invalid_grant` to whoever still has it.
#[tokio::test]
async fn invariants_2_to_4_a_replica_that_was_cut_off_with_new_tokens_in_hand_brings_them_back() {
    let bench = Bench::with(
        2,
        Settings {
            policy: Policy {
                replicas: Some(Replicas {
                    lease_term: Duration::from_secs(1),
                    ..SETTINGS.policy.replicas.unwrap()
                }),
                ..SETTINGS.policy
            },
            ..SETTINGS
        },
    )
    .await;
    let ada = visitor("ada");
    let before = bench.profile(0, &ada).await.unwrap();
    bench.clock.advance(Duration::from_secs(880));
    bench.dressipi.simulator.add_fault(Fault::always(
        Endpoint::Refresh,
        FaultKind::Delay { ms: 200 },
    ));
    let refresh = bench.profile(0, &ada);
    let cut = async {
        eventually("the refresh is under way", async || {
            !bench.shared.leases.lock().is_empty()
        })
        .await;
        bench.cut(0, true);
    };
    let (first, ()) = tokio::join!(refresh, cut);
    assert_eq!(
        first.as_ref(),
        Ok(&before),
        "new tokens are used, stored or not"
    );
    assert_eq!((bench.refreshes(), bench.replicas[0].unsaved()), (1, 1));
    bench.dressipi.simulator.clear_faults();

    // The other replica finds a token set that the server calls dead, and does not believe that yet.
    eventually("the lease ends", async || {
        bench.profile(1, &ada).await == Err(Unavailable::Lost)
    })
    .await;
    bench.clock.advance(Duration::from_secs(60));
    assert_eq!(bench.profile(1, &ada).await, Err(Unavailable::Lost));
    bench.cut(0, false);
    eventually("the tokens are stored", async || {
        bench.replicas[0].unsaved() == 0
    })
    .await;
    assert_eq!(bench.profile(1, &ada).await.as_ref(), Ok(&before));
    bench.clock.advance(Duration::from_secs(880));
    assert_eq!(bench.profile(1, &ada).await, Ok(before));
    assert_eq!(bench.dressipi.profiles(), 1);
}

#[tokio::test]
async fn a_token_set_that_is_really_dead_is_made_anew_after_the_grace() {
    let bench = Bench::new(2).await;
    let ada = visitor("ada");
    let before = bench.profile(0, &ada).await.unwrap();
    bench.dressipi.simulator.revoke_refresh_tokens();
    bench.clock.advance(Duration::from_secs(880));
    assert_eq!(bench.profile(0, &ada).await, Err(Unavailable::Lost));
    assert_eq!(bench.profile(1, &ada).await, Err(Unavailable::Lost));
    assert_eq!(bench.dressipi.profiles(), 1);
    bench.clock.advance(Duration::from_secs(121));
    let after = bench.profile(1, &ada).await.unwrap();
    assert_ne!(after, before);
    eventually("the other one agrees", async || {
        bench.profile(0, &ada).await.as_ref() == Ok(&after)
    })
    .await;
    assert_eq!(bench.dressipi.profiles(), 2);
}

/// All at once in the morning: what ends with an outage does not end in a stampede.
#[tokio::test(flavor = "multi_thread")]
async fn invariant_12_thousands_come_back_with_dressipi_and_make_no_stampede() {
    const VISITORS: u64 = 2000;
    const FLOWS: usize = 16;
    let settings = Settings {
        max_flows: FLOWS,
        max_wait: Duration::from_secs(60),
        ..SETTINGS
    };
    let bench = Arc::new(Bench::with(2, settings).await);
    let visitors: Vec<_> = (0..VISITORS)
        .map(|id| visitor(&format!("visitor-{id}")))
        .collect();
    let everybody = async || {
        let tasks: Vec<_> = visitors
            .iter()
            .enumerate()
            .map(|(number, key)| {
                let (bench, key) = (bench.clone(), *key);
                tokio::spawn(async move { bench.profile(number % 2, &key).await })
            })
            .collect();
        let profiles = futures::future::join_all(tasks).await;
        profiles.into_iter().map(Result::unwrap).collect::<Vec<_>>()
    };
    let before = everybody().await;
    let calls = || {
        let totals = bench.dressipi.simulator.totals();
        totals.token_calls["refresh_token"].values().sum::<u64>()
    };
    // Every token has ended, and Dressipi is down: each visitor costs one call, however often they ask.
    bench.clock.advance(Duration::from_secs(3600));
    let down = FaultKind::Status {
        code: 503,
        retry_after: None,
        body: None,
    };
    bench.fault(Endpoint::Refresh, down);
    for _ in 0..3 {
        let profiles = everybody().await;
        assert!(
            profiles
                .iter()
                .all(|profile| *profile == Err(Unavailable::Dressipi))
        );
    }
    assert_eq!(calls(), VISITORS);
    // It is back, and so are they all.
    bench.dressipi.simulator.clear_faults();
    bench.fault(Endpoint::Refresh, FaultKind::Delay { ms: 1 });
    bench.clock.advance(Duration::from_secs(120));
    assert_eq!(everybody().await, before);
    let totals = bench.dressipi.simulator.totals();
    assert_eq!((calls(), bench.refreshes()), (VISITORS * 2, VISITORS));
    assert_eq!(
        (totals.profiles, totals.authorize_calls),
        (VISITORS, VISITORS)
    );
    let most = totals.max_concurrent.token;
    assert!(
        most <= 2 * FLOWS as u64,
        "{most} calls at once by two replicas"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn when_thousands_of_tokens_end_together_visitors_are_served_before_the_background() {
    let settings = Settings {
        max_flows: 8,
        policy: Policy {
            replicas: None,
            ..SETTINGS.policy
        },
        ..SETTINGS
    };
    let bench = Arc::new(Bench::with(1, settings).await);
    let visitors: Vec<_> = (0..400)
        .map(|id| visitor(&format!("visitor-{id}")))
        .collect();
    let all = |range: std::ops::Range<usize>| {
        let tasks: Vec<_> = visitors[range]
            .iter()
            .map(|key| {
                let (bench, key) = (bench.clone(), *key);
                tokio::spawn(async move { bench.profile(0, &key).await.unwrap() })
            })
            .collect();
        futures::future::join_all(tasks)
    };
    all(0..400).await;
    // All are due; their refreshes begin in the background.
    bench.clock.advance(Duration::from_secs(850));
    let now = bench.clock.now();
    bench.fault(Endpoint::Refresh, FaultKind::Delay { ms: 20 });
    for key in &visitors {
        let _ = bench.replicas[0].current(key, now);
    }
    let waiting = bench.replicas[0].flows();
    assert!(waiting > 300, "{waiting}");
    // One visitor's token has ended: it does not stand in line behind four hundred.
    let late = visitor("late");
    let begun = Instant::now();
    bench.profile(0, &late).await.unwrap();
    let (took, left) = (begun.elapsed(), bench.replicas[0].flows());
    assert!(
        left > waiting / 2,
        "{left} of {waiting} were still waiting after {took:?}"
    );
    eventually("all are refreshed", async || bench.replicas[0].flows() == 0).await;
    assert_eq!((bench.refreshes(), bench.dressipi.profiles()), (400, 401));
}

// --- erasing ---

/// Whether a visitor is known is looked at before a profile is paid for. Who joins such a look of somebody else's while another replica's call
/// is under way does not give up with it, but waits for the call's end.
#[tokio::test(flavor = "multi_thread")]
async fn invariant_1_parallel_first_requests_under_limits_are_all_personalised_at_both_replicas() {
    let bench = Bench::new(2).await;
    bench.shared.distance.store(20, Ordering::SeqCst);
    for round in 1..=40 {
        let visitor = visitor(&format!("visitor-{round}"));
        let requests = (0..100).map(|number| {
            let manager = bench.replicas[number % 2].clone();
            tokio::spawn(async move {
                // All at once, or one after the other.
                for _ in 0..number * (round as usize % 8) {
                    tokio::task::yield_now().await;
                }
                let creation = Creation::Limited {
                    is_new: false,
                    spend: &|| Ok(()),
                };
                manager.ensure_or_recover(&visitor, creation, None).await
            })
        });
        for request in futures::future::join_all(requests).await {
            let refused = request.unwrap().err();
            assert_eq!(refused, None, "round {round}");
        }
        assert_eq!(bench.dressipi.profiles(), round);
    }
}

impl Bench {
    async fn is_forgotten(&self, visitor: &VisitorKey) -> bool {
        let now = self.clock.now();
        let known = self.replicas.iter();
        let mut known = known.filter(|replica| replica.current(visitor, now).is_some());
        let stored = self.shared.records.load(visitor, now).await.unwrap();
        known.next().is_none() && stored.is_none()
    }

    fn slow_token_endpoint(&self) {
        let kind = FaultKind::Delay { ms: 1_500 };
        let fault = Fault::once(Endpoint::Token, kind);
        self.dressipi.simulator.add_fault(fault);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_9_an_erased_visitor_is_not_served_by_a_replica_that_has_lost_the_store() {
    let bench = Bench::new(2).await;
    let ada = visitor("ada");
    let before = bench.profile(0, &ada).await.unwrap();
    assert_eq!(bench.profile(1, &ada).await.unwrap(), before);
    bench.cut(1, true);
    bench.replicas[0]
        .forget(&ada, Remember::ADay)
        .await
        .unwrap();
    // A look at the token may have begun a flow, which ends as the erasure's.
    eventually("the other replica has dropped the token", async || {
        bench.is_forgotten(&ada).await && bench.replicas[1].flows() == 0
    })
    .await;
    let refused = bench.replicas[1].ensure(&ada, true).await;
    assert_eq!(refused.err(), Some(Unavailable::Store));
    // Who comes back of their own will is somebody new.
    bench.cut(1, false);
    bench.clock.advance(Duration::from_secs(120));
    eventually("the store is used again", async || {
        bench.profile(1, &ada).await.is_ok_and(|now| now != before)
    })
    .await;
    assert_eq!(bench.dressipi.profiles(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_under_way_does_not_write_an_erased_visitor_back() {
    for eraser in [0, 1] {
        let bench = Bench::new(2).await;
        let ada = visitor("ada");
        bench.slow_token_endpoint();
        let manager = bench.replicas[1].clone();
        let flow = tokio::spawn(async move { manager.ensure(&ada, true).await });
        eventually("the code is stored", async || {
            bench.shared.records.census().await.unwrap().granted == 1
        })
        .await;
        bench.replicas[eraser]
            .forget(&ada, Remember::ADay)
            .await
            .unwrap();
        assert_eq!(flow.await.unwrap().err(), Some(Unavailable::Erased));
        eventually("all is forgotten", async || bench.is_forgotten(&ada).await).await;
        assert_eq!(bench.replicas[eraser].pending_erasures(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_that_the_store_cannot_do_is_made_up_for_and_meanwhile_nothing_is_used() {
    let bench = Bench::new(1).await;
    let ada = visitor("ada");
    bench.profile(0, &ada).await.unwrap();
    bench.cut(0, true);
    bench.replicas[0]
        .forget(&ada, Remember::ADay)
        .await
        .unwrap_err();
    let refused = bench.replicas[0].ensure(&ada, true).await;
    assert_eq!(refused.err(), Some(Unavailable::Erased));
    assert_eq!(bench.replicas[0].pending_erasures(), 1);
    bench.cut(0, false);
    eventually("the erasure is done", async || {
        bench.replicas[0].pending_erasures() == 0
    })
    .await;
    assert!(bench.is_forgotten(&ada).await);
}

/// Whatever a flow has done when its visitor is erased, here or there, nothing of it is left in the end.
#[tokio::test(flavor = "multi_thread")]
async fn whenever_a_visitor_is_erased_nothing_is_left_of_the_flow_that_was_under_way() {
    let bench = Bench::new(2).await;
    for round in 0..120_u32 {
        let ada = visitor(&format!("ada-{round}"));
        let manager = bench.replicas[1].clone();
        let flow = tokio::spawn(async move { manager.ensure(&ada, true).await });
        // The flow has begun; how far it gets depends on the round.
        eventually("the flow has begun or landed", async || {
            let flows = bench.replicas[1].flows();
            flows > 0 || flow.is_finished()
        })
        .await;
        for _ in 0..round {
            tokio::task::yield_now().await;
        }
        let eraser = &bench.replicas[round as usize % 2];
        eraser.forget(&ada, Remember::ADay).await.unwrap();
        let _ = flow.await.unwrap();
        eventually("all is forgotten", async || bench.is_forgotten(&ada).await).await;
    }
}
