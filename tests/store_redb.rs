//! What the redb store promises beyond the contract: that it survives, that it groups, and that it says what is wrong.

#![allow(
    clippy::unwrap_used,
    reason = "a test that panics is a test that fails"
)]

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dressipi_sidecar::clock::Timestamp;
use dressipi_sidecar::session::{Census, Entry, PutError, StateTag, Store};
use dressipi_sidecar::session::{OpenStoreError, RedbStore};
use dressipi_sidecar::visitor::VisitorKey;
use redb::{ReadableDatabase, ReadableTableMetadata, TableDefinition};

const NOW: Timestamp = Timestamp::from_secs(4_000_000_000);
const HOUR: Duration = Duration::from_secs(3600);
const CACHE: usize = 1 << 20;
/// Where the writing child finds its store; without it, the child's test is none.
const CHILD: &str = "STORE_REDB_CHILD";

fn key(id: u8) -> VisitorKey {
    VisitorKey::from_bytes([id; 32])
}

fn entry(sealed: impl Into<Bytes>, state: StateTag) -> Entry {
    Entry {
        sealed: sealed.into(),
        state,
        expires_at: NOW + HOUR,
    }
}

#[tokio::test]
async fn reopening_keeps_records_versions_and_census() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sessions.redb");
    let store = RedbStore::open(&path, CACHE).unwrap();
    let one = store
        .put(&key(1), None, entry("one", StateTag::Active), NOW)
        .await
        .unwrap();
    store
        .put(&key(2), None, entry("two", StateTag::Granted), NOW)
        .await
        .unwrap();
    let removed = store
        .put(&key(3), None, entry("three", StateTag::Lost), NOW)
        .await
        .unwrap();
    store.remove(&key(3)).await.unwrap();
    store.close().await;

    let store = RedbStore::open(&path, CACHE).unwrap();
    let stored = store.load(&key(1), NOW).await.unwrap().unwrap();
    assert_eq!((stored.version, stored.sealed), (one, Bytes::from("one")));
    assert_eq!(
        store.load(&key(2), NOW).await.unwrap().unwrap().sealed,
        "two"
    );
    assert_eq!(store.load(&key(3), NOW).await.unwrap(), None);
    let census = Census {
        granted: 1,
        active: 1,
        ..Census::default()
    };
    assert_eq!(store.census().await.unwrap(), census);
    let again = store
        .put(&key(3), None, entry("three", StateTag::Lost), NOW)
        .await
        .unwrap();
    assert!(again > removed);
    assert_eq!(store.sweep(NOW + 2 * HOUR, 10).await.unwrap(), 3);
}

#[tokio::test]
async fn a_dropped_store_lets_go_of_its_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sessions.redb");
    let store = RedbStore::open(&path, CACHE).unwrap();
    store
        .put(&key(1), None, entry("one", StateTag::Active), NOW)
        .await
        .unwrap();
    drop(store);
    let store = loop {
        match RedbStore::open(&path, CACHE) {
            Ok(store) => break store,
            Err(OpenStoreError::InUse { .. }) => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    };
    assert!(store.load(&key(1), NOW).await.unwrap().is_some());
}

#[tokio::test]
async fn concurrent_writes_share_their_commits() {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(RedbStore::open(&directory.path().join("sessions.redb"), CACHE).unwrap());
    let writers: Vec<_> = (0..500u64)
        .map(|id| {
            let store = store.clone();
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&id.to_be_bytes());
            let key = VisitorKey::from_bytes(bytes);
            tokio::spawn(async move {
                store
                    .put(&key, None, entry("x", StateTag::Active), NOW)
                    .await
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap().unwrap();
    }
    let commits = store.commits();
    assert!((1..125).contains(&commits), "{commits} commits");
}

#[tokio::test]
async fn a_check_and_a_conflict_commit_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = RedbStore::open(&directory.path().join("sessions.redb"), CACHE).unwrap();
    store
        .put(&key(1), None, entry("x", StateTag::Active), NOW)
        .await
        .unwrap();
    store.check().await.unwrap();
    let refused = store
        .put(&key(1), None, entry("x", StateTag::Active), NOW)
        .await;
    assert!(matches!(refused, Err(PutError::Conflict { .. })));
    assert!(!store.remove(&key(2)).await.unwrap());
    assert_eq!(store.commits(), 1);
}

#[tokio::test]
async fn the_expiry_index_holds_exactly_the_records() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sessions.redb");
    let store = RedbStore::open(&path, CACHE).unwrap();
    for id in 0..20 {
        let first = store
            .put(&key(id), None, entry("x", StateTag::Granted), NOW)
            .await
            .unwrap();
        let expires_at = NOW + u32::from(id) * HOUR;
        let moved = Entry {
            expires_at,
            ..entry("y", StateTag::Active)
        };
        store.put(&key(id), Some(first), moved, NOW).await.unwrap();
    }
    store.remove(&key(19)).await.unwrap();
    assert_eq!(store.sweep(NOW + 5 * HOUR, 100).await.unwrap(), 5);
    store.close().await;
    let database = redb::Database::open(&path).unwrap();
    let txn = database.begin_read().unwrap();
    let records = txn
        .open_table(TableDefinition::<&[u8; 32], &[u8]>::new("records"))
        .unwrap();
    let expiries = txn
        .open_table(TableDefinition::<&[u8; 40], ()>::new("expiries"))
        .unwrap();
    assert_eq!((records.len().unwrap(), expiries.len().unwrap()), (14, 14));
}

#[test]
fn a_new_file_is_its_owners_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("var/lib/sessions.redb");
    RedbStore::open(&path, CACHE).unwrap();
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().unwrap()), 0o700);
}

#[test]
fn a_file_in_use_is_refused_with_the_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sessions.redb");
    let _store = RedbStore::open(&path, CACHE).unwrap();
    let error = RedbStore::open(&path, CACHE).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "{} is in use by another process; one file serves one sidecar: give each its own `session.path`, or use the \
             redis store",
            path.display()
        )
    );
}

#[test]
fn what_is_not_our_file_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sessions.redb");
    std::fs::write(&path, "a shopping list").unwrap();
    let error = RedbStore::open(&path, CACHE).unwrap_err();
    assert!(
        matches!(error, OpenStoreError::NotADatabase { .. }),
        "{error}"
    );
    assert_eq!(std::fs::read(&path).unwrap(), b"a shopping list");

    let foreign = directory.path().join("foreign.redb");
    set_number(&foreign, "somebody's", "format", 1);
    let error = RedbStore::open(&foreign, CACHE).unwrap_err();
    assert!(matches!(error, OpenStoreError::Foreign { .. }), "{error}");

    let in_the_way = path.join("sessions.redb");
    let error = RedbStore::open(&in_the_way, CACHE).unwrap_err();
    assert!(
        matches!(error, OpenStoreError::CreateDirectory { .. }),
        "{error}"
    );
}

#[test]
fn a_later_format_is_refused_with_both_numbers() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sessions.redb");
    drop_and_wait(RedbStore::open(&path, CACHE).unwrap());
    set_number(&path, "meta", "format", 2);
    let error = RedbStore::open(&path, CACHE).unwrap_err();
    assert!(
        matches!(error, OpenStoreError::UnknownFormat { found: 2, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("is in format 2"), "{error}");
    assert!(error.to_string().contains("reads format 1"), "{error}");
}

#[test]
fn a_cut_off_file_is_damaged_and_no_panic() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sessions.redb");
    drop_and_wait(RedbStore::open(&path, CACHE).unwrap());
    let whole = std::fs::read(&path).unwrap();
    for length in [9, 100, 4096, whole.len() / 2, whole.len() - 4096] {
        let cut = directory.path().join(format!("cut-{length}.redb"));
        std::fs::write(&cut, &whole[..length]).unwrap();
        let error = RedbStore::open(&cut, CACHE).unwrap_err();
        assert!(
            matches!(error, OpenStoreError::Corrupt { .. }),
            "{length}: {error:?}"
        );
        assert_eq!(std::fs::read(&cut).unwrap().len(), length);
    }
}

/// Invariant 2 rests on this: what was confirmed is there after `kill -9`, whenever it comes.
#[test]
fn every_confirmed_write_outlives_kill_minus_9() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sessions.redb");
    let mut confirmed: HashMap<u8, (u64, u64)> = HashMap::new();
    for round in 0..6 {
        let name = concat!(module_path!(), "::the_writing_child");
        let name = name.split_once("::").map_or(name, |(_, name)| name);
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(CHILD, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut left = 1 + RandomState::new().build_hasher().finish() % 400;
        let mut first = true;
        let mut line = String::new();
        while lines.read_line(&mut line).unwrap() > 0 {
            // The last line may be cut off: then its write was not confirmed.
            if let Some([id, count, version]) = line.strip_suffix('\n').and_then(numbers) {
                confirmed.insert(id as u8, (count, version));
                if std::mem::take(&mut first) {
                    let error = RedbStore::open(&path, CACHE).unwrap_err();
                    assert!(matches!(error, OpenStoreError::InUse { .. }), "{error}");
                }
                left = left.saturating_sub(1);
                if left == 0 {
                    child.kill().unwrap();
                }
            }
            line.clear();
        }
        child.wait().unwrap();
        assert_eq!(left, 0, "the child ended by itself");
        let highest = confirmed
            .values()
            .map(|(_, version)| *version)
            .max()
            .unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let store = RedbStore::open(&path, CACHE).unwrap();
            for (id, (count, version)) in &confirmed {
                let stored = store.load(&key(*id), NOW).await.unwrap().unwrap();
                let found = u64::from_be_bytes(stored.sealed[..8].try_into().unwrap());
                assert!(
                    found >= *count && stored.version.0 >= *version,
                    "round {round}"
                );
            }
            let census = store.census().await.unwrap();
            let mut there = 0;
            for id in 0..16 {
                there += u64::from(store.load(&key(id), NOW).await.unwrap().is_some());
            }
            assert_eq!(census.active, there);
            let probe = store
                .put(&key(200), None, entry("x", StateTag::Internal), NOW)
                .await
                .unwrap();
            assert!(probe.0 > highest);
            store.remove(&key(200)).await.unwrap();
            store.close().await;
        });
    }
}

/// Not a test of its own: what the one above runs and kills. Sixteen visitors, each counting up; each line is a write
/// that was confirmed.
#[test]
fn the_writing_child() {
    let Some(path) = std::env::var_os(CHILD) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    runtime.block_on(async {
        let store = Arc::new(RedbStore::open(Path::new(&path), CACHE).unwrap());
        let visitors: Vec<_> = (0..16u8)
            .map(|id| {
                let store = store.clone();
                tokio::spawn(async move {
                    let stored = store.load(&key(id), NOW).await.unwrap();
                    let (mut expected, mut count) = match &stored {
                        Some(stored) => {
                            let count = u64::from_be_bytes(stored.sealed[..8].try_into().unwrap());
                            (Some(stored.version), count)
                        }
                        None => (None, 0),
                    };
                    loop {
                        count += 1;
                        let mut sealed = count.to_be_bytes().to_vec();
                        sealed.resize(900, id);
                        let entry = entry(sealed, StateTag::Active);
                        let version = store.put(&key(id), expected, entry, NOW).await.unwrap();
                        println!("{id} {count} {}", version.0);
                        expected = Some(version);
                    }
                })
            })
            .collect();
        for visitor in visitors {
            let _: () = visitor.await.unwrap();
        }
    });
}

fn numbers(line: &str) -> Option<[u64; 3]> {
    let numbers: Result<Vec<u64>, _> = line.split(' ').map(str::parse).collect();
    numbers.ok()?.try_into().ok()
}

fn set_number(path: &Path, table: &str, name: &str, number: u64) {
    let database = redb::Database::create(path).unwrap();
    let txn = database.begin_write().unwrap();
    let table = TableDefinition::<&str, u64>::new(table);
    txn.open_table(table).unwrap().insert(name, number).unwrap();
    txn.commit().unwrap();
}

fn drop_and_wait(store: RedbStore) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(store.close());
}
