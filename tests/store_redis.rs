//! What the Redis store promises beyond the contract: bounds, failovers, restarts, TLS, and what an operator is told.

#![allow(
    clippy::unwrap_used,
    reason = "a test that panics is a test that fails"
)]

use std::time::Duration;

use bytes::Bytes;
use dressipi_sidecar::clock::Timestamp;
use dressipi_sidecar::session::{Entry, LeaseOwner, RedisStore, StateTag, Store};
use dressipi_sidecar::visitor::VisitorKey;

use super::support::redis::{Cluster, RedisServer};

const NOW: Timestamp = Timestamp::from_secs(4_000_000_000);
const HOUR: Duration = Duration::from_secs(3600);

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

#[tokio::test]
async fn every_call_on_a_visitor_is_one_round_trip() {
    let (server, cluster) = (RedisServer::start(), Cluster::start());
    for settings in [server.settings(), cluster.settings()] {
        let store = RedisStore::open(&settings).await.unwrap();
        let shared = store.shared().unwrap();
        let owner = LeaseOwner::random().unwrap();
        let mut before = store.round_trips();
        let mut spent = || before_and_after(&mut before, store.round_trips());
        for id in 0..100 {
            store.load(&key(id), NOW).await.unwrap();
            assert_eq!(spent(), 1);
            shared.acquire(&key(id), &owner, HOUR, NOW).await.unwrap();
            assert_eq!(spent(), 1);
            store.put(&key(id), None, entry("one"), NOW).await.unwrap();
            assert_eq!(spent(), 1);
            shared.release(&key(id), &owner).await.unwrap();
            assert_eq!(spent(), 1);
        }
    }
}

fn before_and_after(before: &mut u64, after: u64) -> u64 {
    let spent = after - *before;
    *before = after;
    spent
}
