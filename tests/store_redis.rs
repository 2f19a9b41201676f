//! What the Redis store promises beyond the contract: bounds, failovers, restarts, TLS, and what an operator is told.

#![allow(
    clippy::unwrap_used,
    reason = "a test that panics is a test that fails"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use dressipi_sidecar::clock::Timestamp;
use dressipi_sidecar::secret::Secret;
use dressipi_sidecar::session::{
    Acquired, Entry, LeaseOwner, News, PutError, RedisLogin, RedisSettings, RedisStore, RedisTls,
    RedisWait, StateTag, Store, StoreError,
};
use dressipi_sidecar::tls::ClientIdentity;
use dressipi_sidecar::visitor::VisitorKey;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::support::redis::{Cluster, RedisServer, free_port};
use super::support::{Authority, eventually};

pub(super) const NOW: Timestamp = Timestamp::from_secs(4_000_000_000);
const HOUR: Duration = Duration::from_secs(3600);
/// How much longer than its bound a call may take on a machine that is busy.
pub(super) const SLACK: Duration = Duration::from_secs(2);

pub(super) fn key(id: u8) -> VisitorKey {
    VisitorKey::from_bytes([id; 32])
}

pub(super) fn entry(sealed: impl Into<Bytes>) -> Entry {
    Entry {
        sealed: sealed.into(),
        state: StateTag::Active,
        expires_at: NOW + HOUR,
    }
}

pub(super) fn with_timeout(settings: RedisSettings, timeout: Duration) -> RedisSettings {
    RedisSettings {
        timeout,
        ..settings
    }
}

pub(super) async fn open(settings: &RedisSettings) -> RedisStore {
    RedisStore::open(settings).await.unwrap()
}

/// Why a store does not open, without much patience.
async fn refused(settings: &RedisSettings) -> String {
    let outcome = RedisStore::open_within(settings, Duration::from_millis(500)).await;
    outcome.expect_err("the store opens").to_string()
}

#[tokio::test]
async fn every_call_on_a_visitor_is_one_round_trip() {
    let (server, cluster) = (RedisServer::start(), Cluster::start());
    for settings in [server.settings(), cluster.settings()] {
        let store = open(&settings).await;
        let shared = store.shared().unwrap();
        let owner = LeaseOwner::random().unwrap();
        let mut before = store.round_trips();
        let mut spent = || {
            let after = store.round_trips();
            after - std::mem::replace(&mut before, after)
        };
        for id in [0, 77, 255] {
            store.load(&key(id), NOW).await.unwrap();
            assert_eq!(spent(), 1);
            shared.acquire(&key(id), &owner, HOUR, NOW).await.unwrap();
            assert_eq!(spent(), 1);
            store.put(&key(id), None, entry("one"), NOW).await.unwrap();
            assert_eq!(spent(), 1);
            assert!(shared.renew(&key(id), &owner, HOUR).await.unwrap());
            assert_eq!(spent(), 1);
            shared.release(&key(id), &owner).await.unwrap();
            assert_eq!(spent(), 1);
            assert!(store.remove(&key(id)).await.unwrap());
            assert_eq!(spent(), 1);
        }
    }
}

#[tokio::test]
async fn a_server_that_forgot_the_scripts_learns_them_again() {
    let server = RedisServer::start();
    let store = open(&server.settings()).await;
    server.cli(&["script", "flush"]);
    let before = store.round_trips();
    let first = store.put(&key(1), None, entry("one"), NOW).await.unwrap();
    assert_eq!(store.round_trips() - before, 2);
    store
        .put(&key(1), Some(first), entry("two"), NOW)
        .await
        .unwrap();
    assert_eq!(store.round_trips() - before, 3);
}

#[tokio::test]
async fn redis_drops_a_record_a_day_after_its_expiry_and_the_identity_key_never() {
    let server = RedisServer::start();
    let store = open(&server.settings()).await;
    store.put(&key(1), None, entry("one"), NOW).await.unwrap();
    let forever = Entry {
        state: StateTag::Internal,
        expires_at: Timestamp::from_millis(u64::MAX),
        ..entry("key")
    };
    store.put(&key(2), None, forever, NOW).await.unwrap();
    let left = |id: u8| {
        let hex = format!("{id:02x}");
        let name = format!("dressipi-sidecar:{{{hex}}}:r:{}", hex.repeat(32));
        let answer = server.cli(&["pttl", &name]);
        answer.trim().parse::<i64>().unwrap()
    };
    let day_and_hour = 25 * 3600 * 1000;
    assert!((day_and_hour - 60_000..=day_and_hour).contains(&left(1)));
    assert_eq!(left(2), -1);
    // What Redis has dropped is still in an index; neither a new record nor the sweep is confused by it.
    server.cli(&[
        "del",
        &format!("dressipi-sidecar:{{01}}:r:{}", "01".repeat(32)),
    ]);
    assert_eq!(store.load(&key(1), NOW).await.unwrap(), None);
    let granted = Entry {
        state: StateTag::Granted,
        ..entry("new")
    };
    store.put(&key(1), None, granted, NOW).await.unwrap();
    let census = store.census().await.unwrap();
    assert_eq!((census.granted, census.total()), (1, 1));
    server.cli(&[
        "del",
        &format!("dressipi-sidecar:{{01}}:r:{}", "01".repeat(32)),
    ]);
    assert_eq!(store.sweep(NOW + 2 * HOUR, 10).await.unwrap(), 1);
    assert_eq!(store.census().await.unwrap().total(), 0);
}

#[tokio::test]
async fn a_restart_with_an_append_only_file_loses_nothing() {
    let server = RedisServer::with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let store = open(&server.settings()).await;
    let one = store.put(&key(1), None, entry("one"), NOW).await.unwrap();
    let removed = store.put(&key(2), None, entry("two"), NOW).await.unwrap();
    store.remove(&key(2)).await.unwrap();
    server.restart();
    // The same store, on a new connection.
    let stored = store.load(&key(1), NOW).await.unwrap().unwrap();
    assert_eq!((stored.version, stored.sealed), (one, Bytes::from("one")));
    assert_eq!(store.load(&key(2), NOW).await.unwrap(), None);
    let again = store.put(&key(2), None, entry("new"), NOW).await.unwrap();
    assert!(again > removed);
    assert_eq!(store.census().await.unwrap().total(), 2);
}

#[tokio::test]
async fn a_server_that_is_silent_holds_no_call_up_for_longer_than_its_bound() {
    let server = RedisServer::start();
    let bound = Duration::from_millis(300);
    let store = open(&with_timeout(server.settings(), bound)).await;
    let version = store.put(&key(1), None, entry("one"), NOW).await.unwrap();
    let shared = store.shared().unwrap();
    let owner = LeaseOwner::random().unwrap();
    server.pause();
    // Twice: on the connection that was there, and on none.
    for _ in 0..2 {
        let start = Instant::now();
        let timed_out = |error: StoreError| {
            let bounded = matches!(error, StoreError::TimedOut(after) if after == bound);
            assert!(
                bounded || matches!(error, StoreError::Unavailable { .. }),
                "{error}"
            );
        };
        timed_out(store.load(&key(1), NOW).await.unwrap_err());
        match store.put(&key(1), Some(version), entry("two"), NOW).await {
            Err(PutError::Store(error)) => timed_out(error),
            other => panic!("{other:?}"),
        }
        timed_out(store.remove(&key(2)).await.unwrap_err());
        timed_out(store.check().await.unwrap_err());
        timed_out(store.census().await.unwrap_err());
        timed_out(store.sweep(NOW, 1).await.unwrap_err());
        timed_out(store.scan(None, 1, NOW).await.unwrap_err());
        timed_out(
            shared
                .acquire(&key(3), &owner, HOUR, NOW)
                .await
                .unwrap_err(),
        );
        timed_out(shared.time().await.unwrap_err());
        assert!(start.elapsed() < 9 * bound + SLACK, "{:?}", start.elapsed());
    }
    server.resume();
    eventually("the store works again", async || {
        store.check().await.is_ok()
    })
    .await;
    assert!(store.load(&key(1), NOW).await.unwrap().is_some());
}

#[tokio::test]
async fn a_server_that_is_down_is_an_error_and_back_it_is_used_again() {
    let server = RedisServer::start();
    let bound = Duration::from_millis(300);
    let store = open(&with_timeout(server.settings(), bound)).await;
    let mut news = store.shared().unwrap().news();
    server.kill();
    let start = Instant::now();
    for _ in 0..10 {
        let error = store.load(&key(1), NOW).await.unwrap_err();
        // On a busy machine the bound may be over before anything is refused.
        assert!(
            matches!(
                error,
                StoreError::Unavailable { .. } | StoreError::TimedOut(_)
            ),
            "{error}"
        );
    }
    assert!(start.elapsed() < 10 * bound + SLACK);
    server.restart();
    eventually("the store works again", async || {
        store.check().await.is_ok()
    })
    .await;
    // Whatever was told meanwhile was missed.
    assert_eq!(news.recv().await.unwrap(), News::Gap);
}

#[tokio::test]
async fn a_subscription_that_was_cut_tells_of_a_gap_and_goes_on() {
    let server = RedisServer::start();
    let (one, other) = (
        open(&server.settings()).await,
        open(&server.settings()).await,
    );
    let mut news = one.shared().unwrap().news();
    server.cli(&["client", "kill", "type", "pubsub"]);
    assert_eq!(news.recv().await.unwrap(), News::Gap);
    other.put(&key(1), None, entry("one"), NOW).await.unwrap();
    assert_eq!(news.recv().await.unwrap(), News::Changed(key(1)));
}

#[tokio::test]
async fn a_write_counts_when_enough_replicas_have_it() {
    let master = RedisServer::start();
    let replica = RedisServer::replica_of(&master);
    let wait = |replicas| RedisSettings {
        wait: Some(RedisWait {
            replicas,
            timeout: Duration::from_millis(300),
        }),
        ..master.settings()
    };
    let store = open(&with_timeout(wait(1), Duration::from_secs(5))).await;
    let before = store.round_trips();
    let version = store.put(&key(1), None, entry("one"), NOW).await.unwrap();
    assert_eq!(store.round_trips() - before, 1);
    assert!(refused(&wait(2)).await.contains("1 of 2 replicas"));

    replica.kill();
    // A lease that is not confirmed is none, and keeps nobody out.
    let term = Duration::from_secs(60);
    let owners = [0, 1].map(|_| LeaseOwner::random().unwrap());
    let shared = store.shared().unwrap();
    let refused = shared.acquire(&key(1), &owners[0], term, NOW).await;
    let text = refused.unwrap_err().to_string();
    assert!(text.contains("0 of 1 replicas"), "{text}");
    let too_few = store.put(&key(1), Some(version), entry("two"), NOW).await;
    match too_few {
        Err(PutError::Store(error)) => {
            let text = error.to_string();
            assert!(text.contains("0 of 1 replicas"), "{text}");
        }
        other => panic!("{other:?}"),
    }
    assert!(store.check().await.is_err());
    // It may have landed, and here it has. Nobody waits to read it.
    let stored = store.load(&key(1), NOW).await.unwrap().unwrap();
    assert_eq!(stored.sealed, "two");
    // Nobody builds on it.
    let before = store.round_trips();
    for owner in &owners {
        let refused = shared.acquire(&key(1), owner, term, NOW).await;
        let text = refused.unwrap_err().to_string();
        assert!(text.contains("0 of 1 replicas"), "{text}");
    }
    assert_eq!(store.round_trips(), before, "nobody waits again so soon");
    // A conflict is one, whatever the replicas say.
    let refused = store.put(&key(1), None, entry("three"), NOW).await;
    assert!(matches!(refused, Err(PutError::Conflict { .. })));

    replica.restart();
    replica.follows();
    eventually("a lease is given", async || {
        let leased = shared.acquire(&key(1), &owners[1], term, NOW).await;
        matches!(leased, Ok(Acquired::Ours(Some(_))))
    })
    .await;
    store
        .put(&key(1), Some(stored.version), entry("four"), NOW)
        .await
        .unwrap();
}

#[tokio::test]
async fn writes_that_wait_for_replicas_hold_up_no_reads() {
    let master = RedisServer::start();
    let replica = RedisServer::replica_of(&master);
    let settings = RedisSettings {
        wait: Some(RedisWait {
            replicas: 1,
            timeout: Duration::from_secs(8),
        }),
        ..master.settings()
    };
    let store = Arc::new(open(&settings).await);
    replica.pause();
    let writes: Vec<_> = (0..4)
        .map(|id| {
            let store = store.clone();
            tokio::spawn(async move { store.put(&key(id), None, entry("x"), NOW).await })
        })
        .collect();
    eventually("the writes have landed", async || {
        store.census().await.unwrap().active == 4
    })
    .await;
    assert!(!writes.iter().any(|write| write.is_finished()));
    replica.resume();
    for write in writes {
        write.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn full_memory_is_an_error_and_nothing_is_forgotten() {
    let server = RedisServer::start();
    let store = open(&server.settings()).await;
    let version = store.put(&key(1), None, entry("one"), NOW).await.unwrap();
    server.cli(&["config", "set", "maxmemory", "1"]);
    match store.put(&key(1), Some(version), entry("two"), NOW).await {
        Err(PutError::Store(error)) => assert!(error.to_string().contains("OOM"), "{error}"),
        other => panic!("{other:?}"),
    }
    assert!(store.check().await.is_err());
    let stored = store.load(&key(1), NOW).await.unwrap().unwrap();
    assert_eq!(stored.version, version);
    server.cli(&["config", "set", "maxmemory", "0"]);
    store
        .put(&key(1), Some(version), entry("two"), NOW)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_key_that_holds_something_else_is_an_error_and_not_overwritten() {
    let server = RedisServer::start();
    let store = open(&server.settings()).await;
    let name = format!("dressipi-sidecar:{{01}}:r:{}", "01".repeat(32));
    server.cli(&["set", &name, "something else"]);
    assert!(store.load(&key(1), NOW).await.is_err());
    let put = store.put(&key(1), None, entry("one"), NOW).await;
    assert!(matches!(put, Err(PutError::Store(_))), "{put:?}");
    assert_eq!(server.cli(&["get", &name]).trim(), "something else");
}

/// Passes everything on, until it is told to keep one answer to a script to itself and hang up.
async fn start_thief(server: &RedisServer) -> (u16, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (steal, target) = (Arc::new(AtomicBool::new(false)), server.port());
    let armed = steal.clone();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let armed = armed.clone();
            tokio::spawn(async move {
                let mut server = TcpStream::connect(("127.0.0.1", target)).await.unwrap();
                let (mut asked, mut answered) = ([0; 65536], [0; 65536]);
                let mut stealing = false;
                loop {
                    tokio::select! {
                        read = client.read(&mut asked) => {
                            let Ok(length @ 1..) = read else { return };
                            let request = &asked[..length];
                            let script = request.windows(7).any(|word| word == b"EVALSHA");
                            stealing |= script && armed.swap(false, Ordering::SeqCst);
                            server.write_all(request).await.unwrap();
                        }
                        read = server.read(&mut answered) => {
                            let Ok(length @ 1..) = read else { return };
                            if stealing { return }
                            client.write_all(&answered[..length]).await.unwrap();
                        }
                    }
                }
            });
        }
    });
    (port, steal)
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_is_tried_again_and_meets_itself() {
    let server = RedisServer::start();
    let (port, steal) = start_thief(&server).await;
    let mut settings = server.settings();
    let address = dressipi_sidecar::session::RedisAddress::new("127.0.0.1", port);
    settings.servers = dressipi_sidecar::session::RedisServers::Standalone(address);
    let store = open(&settings).await;
    let before = store.round_trips();
    steal.store(true, Ordering::SeqCst);
    let created = store.put(&key(1), None, entry("one"), NOW).await.unwrap();
    assert_eq!(
        store.round_trips() - before,
        2,
        "the first answer was stolen"
    );
    let stored = store.load(&key(1), NOW).await.unwrap().unwrap();
    assert_eq!((stored.version, stored.sealed), (created, "one".into()));
    steal.store(true, Ordering::SeqCst);
    let replaced = store
        .put(&key(1), Some(created), entry("two"), NOW)
        .await
        .unwrap();
    let stored = store.load(&key(1), NOW).await.unwrap().unwrap();
    assert_eq!((stored.version, stored.sealed), (replaced, "two".into()));
    assert!(!steal.load(Ordering::SeqCst));
    // The same bytes of somebody else are no write of ours.
    let refused = store.put(&key(1), Some(created), entry("two"), NOW).await;
    assert!(matches!(refused, Err(PutError::Conflict { current }) if current == Some(replaced)));
}

#[tokio::test]
async fn tls_needs_the_right_authority_and_our_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let ca_file = authority.write(folder.path());
    let (certificate, secret) = authority
        .certify("127.0.0.1")
        .write(folder.path(), "server");
    let path = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let server = RedisServer::with_tls(
        free_port(),
        &[
            "--tls-cert-file",
            &path(&certificate),
            "--tls-key-file",
            &path(&secret),
            "--tls-ca-cert-file",
            &path(&ca_file),
            "--tls-auth-clients",
            "yes",
        ],
    );
    let (certificate_file, key_file) = authority.certify("sidecar").write(folder.path(), "client");
    let client = ClientIdentity {
        certificate_file,
        key_file,
    };
    let with = |tls| RedisSettings {
        tls,
        ..server.settings()
    };
    let right = RedisTls {
        ca_file: Some(ca_file.clone()),
        client: Some(client.clone()),
    };
    let store = open(&with(Some(right.clone()))).await;
    store.put(&key(1), None, entry("one"), NOW).await.unwrap();
    assert!(store.load(&key(1), NOW).await.unwrap().is_some());

    let nobody = RedisTls {
        client: None,
        ..right.clone()
    };
    refused(&with(Some(nobody))).await;
    let elsewhere = tempfile::tempdir().unwrap();
    let stranger = RedisTls {
        ca_file: Some(Authority::new().write(elsewhere.path())),
        ..right.clone()
    };
    let error = refused(&with(Some(stranger))).await;
    assert!(error.contains("certificate"), "{error}");
    let system = RedisTls {
        ca_file: None,
        ..right.clone()
    };
    assert!(refused(&with(Some(system))).await.contains("certificate"));
    refused(&with(None)).await;
    let missing = RedisTls {
        ca_file: Some(folder.path().join("nowhere.pem")),
        ..right
    };
    assert!(refused(&with(Some(missing))).await.contains("nowhere.pem"));
}

#[tokio::test]
async fn a_login_that_is_refused_is_told_at_once_and_without_the_password() {
    let server = RedisServer::with(&["--requirepass", "hunter2"]);
    let login = |username: Option<&str>, password: &str| RedisSettings {
        login: RedisLogin {
            username: username.map(str::to_owned),
            password: Some(Secret::new(password)),
        },
        ..server.settings()
    };
    let start = Instant::now();
    for (settings, expected) in [
        (server.settings(), "NOAUTH"),
        (login(None, "hunter3"), "authentication failed"),
        (login(Some("nobody"), "hunter2"), "authentication failed"),
    ] {
        let error = RedisStore::open(&settings).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(error.contains(&server.port().to_string()), "{error}");
        assert!(!error.contains("hunter"), "{error}");
    }
    assert!(start.elapsed() < Duration::from_secs(5));
    open(&login(None, "hunter2")).await.check().await.unwrap();
}

#[tokio::test]
async fn a_user_with_rights_on_our_keys_alone_can_do_our_work() {
    let server = RedisServer::start();
    server.cli(&[
        "acl",
        "setuser",
        "sidecar",
        "on",
        ">hunter2",
        "~dressipi-sidecar:*",
        "&dressipi-sidecar:*",
        "+@read",
        "+@write",
        "+@scripting",
        "+@pubsub",
        "+@connection",
        "+time",
        "+wait",
        "-@dangerous",
    ]);
    let settings = RedisSettings {
        login: RedisLogin {
            username: Some("sidecar".to_owned()),
            password: Some(Secret::new("hunter2")),
        },
        ..server.settings()
    };
    let store = open(&settings).await;
    store.put(&key(1), None, entry("one"), NOW).await.unwrap();
    store.check().await.unwrap();
    assert_eq!(store.census().await.unwrap().active, 1);
    assert_eq!(store.scan(None, 10, NOW).await.unwrap().found.len(), 1);
    store.shared().unwrap().time().await.unwrap();
    assert_eq!(store.sweep(NOW + 2 * HOUR, 10).await.unwrap(), 1);
}

#[tokio::test]
async fn a_store_is_waited_for_and_then_given_up() {
    let server = RedisServer::start();
    server.kill();
    let error = refused(&server.settings()).await;
    assert!(error.contains("refused"), "{error}");
    let settings = server.settings();
    let opening = tokio::spawn(async move { RedisStore::open(&settings).await });
    server.restart();
    opening.await.unwrap().unwrap().check().await.unwrap();
}

#[tokio::test]
async fn a_replica_is_no_store() {
    let master = RedisServer::start();
    let replica = RedisServer::replica_of(&master);
    assert!(refused(&replica.settings()).await.contains("is a replica"));
}

/// Collects what is logged, at every level.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn an_operator_is_warned_of_forgetting_and_no_password_is_shown() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let server = RedisServer::with(&[
        "--requirepass",
        "hunter2",
        "--maxmemory-policy",
        "allkeys-lru",
    ]);
    let settings = RedisSettings {
        login: RedisLogin {
            username: None,
            password: Some(Secret::new("hunter2")),
        },
        timeout: Duration::from_secs(2),
        ..server.settings()
    };
    let store = open(&settings).await;
    server.kill();
    let error = store.check().await.unwrap_err();
    let debug = format!("{settings:?} {store:?} {error:?} {error}");
    store.close().await;
    let log = String::from_utf8(log.0.lock().clone()).unwrap();
    assert!(log.contains("maxmemory-policy noeviction"), "{log}");
    assert!(log.contains("appendonly yes"), "{log}");
    assert!(!format!("{log} {debug}").contains("hunter2"));
}
