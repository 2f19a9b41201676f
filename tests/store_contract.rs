//! One contract, every store: each rule of `session::store` is a test of every store there is.
//!
//! A further store joins with one line at the end of this file. Times lie far in the future, so that a store with a clock
//! of its own does not expire by it what the tests have not.

#![allow(
    clippy::unwrap_used,
    reason = "a test that panics is a test that fails"
)]

use std::any::Any;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use bytes::Bytes;
use dressipi_sidecar::clock::Timestamp;
use dressipi_sidecar::session::MemoryStore;
use dressipi_sidecar::session::RedbStore;
use dressipi_sidecar::session::SharedMemoryStore;
use dressipi_sidecar::session::{
    Census, Entry, Found, PutError, StateTag, Store, StoreError, Stored, Version,
};
use dressipi_sidecar::session::{RedisSettings, RedisStore};
use dressipi_sidecar::visitor::VisitorKey;

use super::support::redis::{Cluster, RedisServer, Sentinel, shared};

mod model;
mod rules;
mod shared_rules;

const NOW: Timestamp = Timestamp::from_secs(4_000_000_000);
const HOUR: Duration = Duration::from_secs(3600);

/// An empty store, and what must live as long as it does.
struct Fixture {
    store: Arc<dyn Store>,
    /// How another replica reaches the same store, if it can.
    another: Option<Another>,
    _keep: Box<dyn Any + Send>,
}

enum Another {
    Redis(Box<RedisSettings>),
    Memory(Arc<SharedMemoryStore>),
}

impl Fixture {
    /// The same data, as another replica sees it.
    async fn another(&self) -> Arc<dyn Store> {
        match self.another.as_ref().expect("a store that can be shared") {
            Another::Redis(settings) => Arc::new(RedisStore::open(settings).await.unwrap()),
            Another::Memory(store) => Arc::new(store.another()),
        }
    }
}

async fn memory() -> Fixture {
    Fixture {
        store: Arc::new(MemoryStore::new(10_000)),
        another: None,
        _keep: Box::new(()),
    }
}

async fn memory_in_common() -> Fixture {
    let store = Arc::new(SharedMemoryStore::new(10_000));
    Fixture {
        store: store.clone(),
        another: Some(Another::Memory(store)),
        _keep: Box::new(()),
    }
}

async fn redb() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let store = RedbStore::open(&directory.path().join("sessions.redb"), 1 << 20).unwrap();
    Fixture {
        store: Arc::new(store),
        another: None,
        _keep: Box::new(directory),
    }
}

async fn redis() -> Fixture {
    static SERVER: Mutex<Weak<RedisServer>> = Mutex::new(Weak::new());
    let server = shared(&SERVER, RedisServer::start);
    redis_fixture(server.settings(), server).await
}

async fn redis_sentinel() -> Fixture {
    static SENTINEL: Mutex<Weak<(RedisServer, Sentinel)>> = Mutex::new(Weak::new());
    let servers = shared(&SENTINEL, || {
        let master = RedisServer::start();
        let sentinel = Sentinel::start(&master, 0);
        (master, sentinel)
    });
    redis_fixture(servers.1.settings(), servers).await
}

async fn redis_cluster() -> Fixture {
    static CLUSTER: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());
    let cluster = shared(&CLUSTER, Cluster::start);
    redis_fixture(cluster.settings(), cluster).await
}

/// A store with a prefix of its own, so that one server does for all tests.
async fn redis_fixture(settings: RedisSettings, servers: impl Any + Send) -> Fixture {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let settings = RedisSettings {
        key_prefix: format!("test-{number}:"),
        ..settings
    };
    let store = RedisStore::open(&settings).await.unwrap();
    let another = settings.clone();
    Fixture {
        store: Arc::new(store),
        another: Some(Another::Redis(Box::new(another))),
        _keep: Box::new(servers),
    }
}

fn key(id: u8) -> VisitorKey {
    VisitorKey::from_bytes([id; 32])
}

fn entry(sealed: impl Into<Bytes>) -> Entry {
    Entry {
        sealed: sealed.into(),
        state: StateTag::Active,
        expires_at: NOW + HOUR,
    }
}

fn conflict(result: Result<Version, PutError>) -> Option<Version> {
    match result {
        Err(PutError::Conflict { current }) => current,
        other => panic!("no conflict, but {other:?}"),
    }
}

macro_rules! store_contract {
    ($($store:ident),*) => {
        $(mod $store {
            each_rule! { $store:
                a_missing_record_is_none,
                what_was_put_is_loaded,
                a_create_never_overwrites,
                a_replacement_needs_the_stored_version,
                no_version_is_used_twice_after_a_removal,
                an_expired_record_is_none_and_blocks_no_create,
                the_census_follows_every_change,
                internal_records_are_no_visitors,
                a_sweep_forgets_what_expired_and_no_more_than_its_limit,
                a_record_that_was_written_again_is_not_swept,
                a_large_sweep_forgets_all_that_expired,
                of_64_writers_of_one_version_exactly_one_wins,
                concurrent_writes_to_different_keys_all_land,
                values_of_any_size_up_to_64_kib_come_back_whole,
                a_scan_finds_every_record_once_while_nothing_changes,
                a_list_has_the_first_records_of_a_range_in_order,
                an_open_store_checks_well,
                a_closed_store_says_that_it_is_closed,
                who_meets_a_closing_store_gets_an_answer,
            }

            #[test]
            fn any_sequence_of_operations_does_what_a_simple_model_does() {
                super::model::compare(super::$store);
            }
        })*
    };
}

macro_rules! each_rule {
    ($store:ident: $($rule:ident),* $(,)?) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $rule() {
            let fixture = super::$store().await;
            super::rules::$rule(fixture.store.clone()).await;
        })*
    };
}

macro_rules! shared_store_contract {
    ($($store:ident: $module:ident),*) => {
        $(mod $module {
            each_shared_rule! { $store:
                of_64_who_want_a_lease_exactly_one_gets_it,
                whoever_holds_a_lease_takes_it_anew,
                a_lease_is_released_by_its_owner_only,
                a_lease_is_renewed_by_its_owner_only,
                a_lease_ends_by_itself,
                leases_of_visitors_are_apart,
                who_gets_a_lease_gets_the_record,
                an_owner_who_slept_through_its_lease_meets_a_conflict,
                news_reach_the_others_and_not_their_sender,
                all_go_by_one_clock,
                a_closed_store_gives_no_lease,
            }
        })*
    };
}

macro_rules! each_shared_rule {
    ($store:ident: $($rule:ident),* $(,)?) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $rule() {
            let fixture = super::$store().await;
            super::shared_rules::$rule(fixture.store.clone(), fixture.another().await).await;
        })*
    };
}

store_contract!(
    memory,
    memory_in_common,
    redb,
    redis,
    redis_sentinel,
    redis_cluster
);
shared_store_contract!(
    memory_in_common: memory_shared,
    redis: redis_shared,
    redis_sentinel: redis_sentinel_shared,
    redis_cluster: redis_cluster_shared
);
