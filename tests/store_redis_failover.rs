//! Other servers take over while a store is in use: by sentinels, in a cluster, and a slot at a time.

#![allow(
    clippy::unwrap_used,
    reason = "a test that panics is a test that fails"
)]

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dressipi_sidecar::session::{PutError, RedisSettings, RedisStore, Store, StoreError, Version};
use dressipi_sidecar::visitor::VisitorKey;
use parking_lot::Mutex;

use super::store_redis::{NOW, SLACK, entry, key, open, with_timeout};
use super::support::eventually;
use super::support::redis::{Cluster, RedisServer, Sentinel};

/// Writes one visitor's record again and again until told to end: the versions it was given, and the longest call.
async fn write_on(
    store: &RedisStore,
    visitor: VisitorKey,
    end: &AtomicBool,
    written: &Mutex<Vec<Version>>,
) -> (u64, Duration) {
    let mut expected = None;
    let (mut errors, mut longest) = (0, Duration::ZERO);
    let mut number = 0;
    while !end.load(Ordering::SeqCst) {
        number += 1;
        let start = Instant::now();
        let put = store.put(&visitor, expected, entry(format!("{number}")), NOW);
        match put.await {
            Ok(version) => {
                written.lock().push(version);
                expected = Some(version);
            }
            Err(PutError::Conflict { current }) => expected = current,
            Err(PutError::Store(_)) => errors += 1,
        }
        longest = longest.max(start.elapsed());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    (errors, longest)
}

/// Writes while `fail` makes another server the master; then writes go on, no version was given twice, and no call took
/// longer than its bound.
async fn survives(
    settings: RedisSettings,
    visitor: VisitorKey,
    fail: impl FnOnce() + Send + 'static,
) {
    let bound = Duration::from_millis(500);
    let store = Arc::new(open(&with_timeout(settings, bound)).await);
    let (end, written) = (Arc::new(AtomicBool::new(false)), Arc::default());
    let writer = {
        let (store, end, written) = (store.clone(), end.clone(), Arc::clone(&written));
        tokio::spawn(async move { write_on(&store, visitor, &end, &written).await })
    };
    let count = || Mutex::lock(&written).len();
    eventually("writes land", async || count() >= 20).await;
    tokio::task::spawn_blocking(fail).await.unwrap();
    let at_failover = count();
    let resumed = async {
        while count() < at_failover + 20 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    // As long as a sentinel may be out of its mind (TILT) on a busy machine, and more.
    let patience = Duration::from_secs(90);
    let resumed = tokio::time::timeout(patience, resumed).await;
    end.store(true, Ordering::SeqCst);
    let (errors, longest) = writer.await.unwrap();
    assert!(resumed.is_ok(), "writes resume; {errors} errors");
    let written = Mutex::lock(&written);
    let distinct: HashSet<_> = written.iter().collect();
    assert_eq!(distinct.len(), written.len(), "no version is given twice");
    assert!(longest < bound + SLACK, "{longest:?}");
    println!(
        "{} writes, {errors} errors, longest call {longest:?}",
        written.len()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_resume_after_sentinel_has_failed_over() {
    let master = RedisServer::start();
    let _replica = RedisServer::replica_of(&master);
    let sentinel = Arc::new(Sentinel::start(&master, 1));
    let failing = sentinel.clone();
    // The old master lives on as a replica; connections to it must not be used any more.
    survives(sentinel.settings(), key(1), move || failing.fail_over()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_resume_after_a_master_watched_by_sentinel_has_died() {
    let master = Arc::new(RedisServer::start());
    let _replica = RedisServer::replica_of(&master);
    let sentinel = Sentinel::start(&master, 1);
    survives(sentinel.settings(), key(1), move || master.kill()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_resume_after_a_master_of_a_cluster_has_died() {
    let cluster = Arc::new(Cluster::with_replicas());
    let failing = cluster.clone();
    // A visitor of the first master.
    let of_first = |id: &u8| {
        let slot = cluster.masters[0].cli(&["cluster", "keyslot", &format!("{id:02x}")]);
        slot.trim().parse::<u16>().unwrap() <= 5460
    };
    let visitor = key((0..=255).find(of_first).unwrap());
    survives(cluster.settings(), visitor, move || {
        failing.masters[0].kill()
    })
    .await;
    // All the others, too.
    let store = open(&cluster.settings()).await;
    for id in (0..=255).step_by(5) {
        store.put(&key(id), None, entry("x"), NOW).await.ok();
        assert!(store.load(&key(id), NOW).await.unwrap().is_some());
    }
    store.check().await.unwrap();
}

#[tokio::test]
async fn a_slot_that_moves_is_followed() {
    let cluster = Cluster::start();
    let store = Arc::new(open(&cluster.settings()).await);
    let first = store.put(&key(1), None, entry("one"), NOW).await.unwrap();
    let slot = cluster.masters[0].cli(&["cluster", "keyslot", "01"]);
    let slot = slot.trim();
    let id = |server: &RedisServer| server.cli(&["cluster", "myid"]).trim().to_owned();
    let holds =
        |server: &&RedisServer| server.cli(&["cluster", "countkeysinslot", slot]).trim() != "0";
    let from = cluster.masters.iter().find(holds).unwrap();
    let to = cluster
        .masters
        .iter()
        .find(|server| !holds(server))
        .unwrap();
    let (from_id, to_id) = (id(from), id(to));
    to.cli(&["cluster", "setslot", slot, "importing", &from_id]);
    from.cli(&["cluster", "setslot", slot, "migrating", &to_id]);
    // Keys that are not there any more, or never were, are asked for where the slot goes (ASK).
    let keys = from.cli(&["cluster", "getkeysinslot", slot, "100"]);
    let port = to.port().to_string();
    let mut migrate = vec!["migrate", "127.0.0.1", &port, "", "0", "5000", "keys"];
    migrate.extend(keys.lines());
    assert!(from.cli(&migrate).contains("OK"));
    let stored = store.load(&key(1), NOW).await.unwrap().unwrap();
    assert_eq!(stored.version, first);
    // Redis runs no script on a slot that is on its way; the call waits for it within its bound.
    let writing = tokio::spawn({
        let store = store.clone();
        async move { store.put(&key(1), Some(first), entry("two"), NOW).await }
    });
    let impatient = with_timeout(cluster.settings(), Duration::from_millis(300));
    let impatient = RedisStore::open(&impatient).await.unwrap();
    let error = impatient.remove(&key(1)).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
    for server in [to, from] {
        server.cli(&["cluster", "setslot", slot, "node", &to_id]);
    }
    let second = writing.await.unwrap().unwrap();
    // And at last it is there (MOVED).
    let stored = store.load(&key(1), NOW).await.unwrap().unwrap();
    assert_eq!(stored.version, second);
    let before = store.round_trips();
    store.load(&key(1), NOW).await.unwrap();
    assert_eq!(store.round_trips() - before, 1);
}
