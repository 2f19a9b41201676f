//! A circuit breaker in front of a store that is reached over a network: no request waits longer than the bound for a
//! store that is down, and once that is known, none waits at all.
//!
//! Closed, every call goes through. After several failures in a row it opens, and calls fail at once with
//! [`StoreError::Suspended`]. After a pause one call at a time goes through to see; the first that works closes it.
//! A full store, a conflict and a closed store are answers and not failures.

use std::future::Future;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::broadcast;

use super::store::{
    Acquired, Census, Cursor, Entry, Found, LeaseOwner, News, Page, PutError, SharedStore, Store,
    StoreError, Stored, Version,
};
use crate::clock::Timestamp;
use crate::oauth::TokenFingerprint;
use crate::visitor::VisitorKey;

/// A store with a breaker in front of it.
pub struct GuardedStore {
    inner: Arc<dyn Store>,
    bound: Duration,
    breaker: Mutex<Breaker>,
}

/// PURE: the breaker itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Breaker {
    Closed {
        failures: u32,
    },
    /// Nothing goes through before `until`.
    Open {
        until: Instant,
    },
    /// One call is on its way to see; if nothing is heard of it by then, the next one may.
    Probing {
        until: Instant,
    },
}

/// So many failures in a row open the breaker.
const FAILURES: u32 = 5;
/// How long it stays open before the next try.
const PAUSE: Duration = Duration::from_secs(1);

// === impl GuardedStore ===

impl GuardedStore {
    /// Guards `inner`, none of whose calls may take longer than `bound`.
    pub fn new(inner: Arc<dyn Store>, bound: Duration) -> Self {
        Self {
            inner,
            bound,
            breaker: Mutex::new(Breaker::Closed { failures: 0 }),
        }
    }

    async fn call<T, E: From<StoreError> + AsFailure>(
        &self,
        call: impl Future<Output = Result<T, E>> + Send,
    ) -> Result<T, E> {
        if !self.breaker.lock().admits(Instant::now(), self.bound) {
            return Err(StoreError::Suspended.into());
        }
        self.observe(call).await
    }

    /// Makes the call, whether the breaker is open or not, and tells the breaker what came of it.
    async fn observe<T, E: From<StoreError> + AsFailure>(
        &self,
        call: impl Future<Output = Result<T, E>> + Send,
    ) -> Result<T, E> {
        let result = match tokio::time::timeout(self.bound, call).await {
            Ok(result) => result,
            Err(_) => Err(StoreError::TimedOut(self.bound).into()),
        };
        let failed = result.as_ref().is_err_and(AsFailure::is_failure);
        let mut breaker = self.breaker.lock();
        let before = *breaker;
        match failed {
            true => breaker.failed(Instant::now()),
            false => *breaker = Breaker::Closed { failures: 0 },
        }
        match (before, *breaker) {
            (Breaker::Closed { .. }, Breaker::Open { .. }) => tracing::error!(
                "the session store has failed {FAILURES} times in a row: until it answers again, visitors in the cache are \
                 served, others are anonymous, and no profile is made"
            ),
            (Breaker::Open { .. } | Breaker::Probing { .. }, Breaker::Closed { .. }) => {
                tracing::info!("the session store answers again");
            }
            _ => {}
        }
        drop(breaker);
        result
    }
}

#[async_trait]
impl Store for GuardedStore {
    async fn load(&self, key: &VisitorKey, now: Timestamp) -> Result<Option<Stored>, StoreError> {
        self.call(self.inner.load(key, now)).await
    }

    async fn put(
        &self,
        key: &VisitorKey,
        expected: Option<Version>,
        entry: Entry,
        now: Timestamp,
    ) -> Result<Version, PutError> {
        self.call(self.inner.put(key, expected, entry, now)).await
    }

    async fn remove(&self, key: &VisitorKey) -> Result<bool, StoreError> {
        self.call(self.inner.remove(key)).await
    }

    /// Goes through even when the breaker is open: whoever asks wants to know, and closes it if all is well again.
    async fn check(&self) -> Result<(), StoreError> {
        self.observe(self.inner.check()).await
    }

    async fn census(&self) -> Result<Census, StoreError> {
        self.call(self.inner.census()).await
    }

    async fn scan(
        &self,
        cursor: Option<Cursor>,
        limit: usize,
        now: Timestamp,
    ) -> Result<Page, StoreError> {
        self.inner.scan(cursor, limit, now).await
    }

    /// A whole page may take longer than a request may wait, and says nothing about the store.
    async fn list(
        &self,
        keys: RangeInclusive<VisitorKey>,
        limit: usize,
        now: Timestamp,
    ) -> Result<Vec<Found>, StoreError> {
        let is_one = keys.start() == keys.end();
        let listing = self.inner.list(keys, limit, now);
        match is_one {
            true => self.call(listing).await,
            false => listing.await,
        }
    }

    async fn sweep(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        self.inner.sweep(now, limit).await
    }

    async fn close(&self) {
        self.inner.close().await;
    }

    fn shared(&self) -> Option<&dyn SharedStore> {
        self.inner.shared().map(|_| self as &dyn SharedStore)
    }
}

impl GuardedStore {
    fn inner_shared(&self) -> Result<&dyn SharedStore, StoreError> {
        self.inner.shared().ok_or(StoreError::Closed)
    }
}

#[async_trait]
impl SharedStore for GuardedStore {
    async fn acquire(
        &self,
        key: &VisitorKey,
        owner: &LeaseOwner,
        term: Duration,
        now: Timestamp,
    ) -> Result<Acquired, StoreError> {
        self.call(self.inner_shared()?.acquire(key, owner, term, now))
            .await
    }

    async fn renew(
        &self,
        key: &VisitorKey,
        owner: &LeaseOwner,
        term: Duration,
    ) -> Result<bool, StoreError> {
        self.call(self.inner_shared()?.renew(key, owner, term))
            .await
    }

    async fn release(&self, key: &VisitorKey, owner: &LeaseOwner) -> Result<(), StoreError> {
        self.call(self.inner_shared()?.release(key, owner)).await
    }

    async fn announce_rejection(
        &self,
        key: &VisitorKey,
        token: TokenFingerprint,
    ) -> Result<(), StoreError> {
        self.call(self.inner_shared()?.announce_rejection(key, token))
            .await
    }

    fn news(&self) -> broadcast::Receiver<News> {
        match self.inner.shared() {
            Some(shared) => shared.news(),
            // Never asked: `shared` says that there is none.
            None => broadcast::channel(1).1,
        }
    }

    async fn time(&self) -> Result<Timestamp, StoreError> {
        self.call(async { self.inner_shared()?.time().await }).await
    }
}

// === impl Breaker ===

impl Breaker {
    /// Whether a call may be made at `now`.
    fn admits(&mut self, now: Instant, bound: Duration) -> bool {
        match *self {
            Self::Closed { .. } => true,
            Self::Open { until } | Self::Probing { until } if now < until => false,
            Self::Open { .. } | Self::Probing { .. } => {
                *self = Self::Probing { until: now + bound };
                true
            }
        }
    }

    fn failed(&mut self, now: Instant) {
        *self = match *self {
            Self::Closed { failures } if failures + 1 < FAILURES => Self::Closed {
                failures: failures + 1,
            },
            _ => Self::Open { until: now + PAUSE },
        };
    }
}

/// Which errors mean that the store does not work.
trait AsFailure {
    fn is_failure(&self) -> bool;
}

impl AsFailure for StoreError {
    fn is_failure(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::TimedOut(_))
    }
}

impl AsFailure for PutError {
    fn is_failure(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_failure())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::session::MemoryStore;

    const BOUND: Duration = Duration::from_millis(500);

    #[test]
    fn it_opens_after_failures_in_a_row_and_lets_one_call_through_after_a_pause() {
        let now = Instant::now();
        let mut breaker = Breaker::Closed { failures: 0 };
        for _ in 0..FAILURES {
            assert!(breaker.admits(now, BOUND));
            breaker.failed(now);
        }
        assert!(!breaker.admits(now, BOUND));
        let later = now + PAUSE;
        assert!(breaker.admits(later, BOUND), "one to see");
        assert!(!breaker.admits(later, BOUND), "and not another one");
        breaker.failed(later);
        assert!(!breaker.admits(later, BOUND));
        // A probe that nothing is heard of, such as one whose caller went away, is not waited for.
        assert!(breaker.admits(later + PAUSE, BOUND));
        assert!(breaker.admits(later + PAUSE + BOUND, BOUND));
    }

    /// A store that hangs, or works, and counts who asks.
    struct Hanging {
        inner: MemoryStore,
        hangs: Mutex<bool>,
        asked: AtomicU64,
    }

    #[async_trait]
    impl Store for Hanging {
        async fn load(
            &self,
            key: &VisitorKey,
            now: Timestamp,
        ) -> Result<Option<Stored>, StoreError> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            if *self.hangs.lock() {
                std::future::pending::<()>().await;
            }
            self.inner.load(key, now).await
        }
        async fn put(
            &self,
            key: &VisitorKey,
            expected: Option<Version>,
            entry: Entry,
            now: Timestamp,
        ) -> Result<Version, PutError> {
            self.inner.put(key, expected, entry, now).await
        }
        async fn remove(&self, key: &VisitorKey) -> Result<bool, StoreError> {
            self.inner.remove(key).await
        }
        async fn check(&self) -> Result<(), StoreError> {
            self.inner.check().await
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
            self.inner.scan(cursor, limit, now).await
        }
        async fn sweep(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
            self.inner.sweep(now, limit).await
        }
        async fn close(&self) {
            self.inner.close().await;
        }
    }

    #[tokio::test]
    async fn no_call_waits_longer_than_the_bound_and_then_none_waits_at_all() {
        let hanging = Arc::new(Hanging {
            inner: MemoryStore::new(10),
            hangs: Mutex::new(true),
            asked: AtomicU64::new(0),
        });
        let store = GuardedStore::new(hanging.clone(), Duration::from_millis(10));
        let key = VisitorKey::from_bytes([1; 32]);
        let now = Timestamp::from_secs(1);
        let mut timed_out = 0;
        for _ in 0..20 {
            match store.load(&key, now).await {
                Err(StoreError::TimedOut(_)) => timed_out += 1,
                Err(StoreError::Suspended) => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((timed_out, hanging.asked.load(Ordering::SeqCst)), (5, 5));

        // Readiness asks in any case, and what it finds is believed.
        *hanging.hangs.lock() = false;
        store.check().await.unwrap();
        assert_eq!(store.load(&key, now).await.unwrap(), None);
    }
}
