//! The lease of a flow on a store that several replicas share: taken, kept while the flow runs, given back.
//!
//! Whether it is still ours is decided by this process's own monotonic clock, counted from *before* the store was asked: a
//! process that was stopped in between finds out before it makes a call, and not after.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::task::JoinHandle;

use super::store::{Acquired, LeaseOwner, Store, StoreError, Stored};
use crate::clock::Timestamp;
use crate::visitor::VisitorKey;

/// A lease that was taken. Dropped without [`Lease::release`], it ends by itself.
pub(super) struct Lease {
    store: Arc<dyn Store>,
    key: VisitorKey,
    owner: LeaseOwner,
    good_until: Arc<Mutex<Instant>>,
    renewal: JoinHandle<()>,
}

/// What came of asking for one.
pub(super) enum Asked {
    /// It is ours; the record as of then.
    Ours(Lease, Option<Stored>),
    /// Somebody else's, for so long at least if they do not prolong it.
    Theirs(Duration),
}

/// Of a term, the part in which the lease is relied on. The rest is for clocks that do not run at the same speed.
const RELIED_ON: f64 = 0.9;
/// A renewal that fails is tried again after this part of the term.
const AGAIN: u32 = 10;

// === impl Lease ===

impl Lease {
    /// Asks for the lease of `key`, and keeps it for as long as it is not dropped. The store must be a shared one.
    pub(super) async fn ask(
        store: &Arc<dyn Store>,
        key: &VisitorKey,
        term: Duration,
        now: Timestamp,
    ) -> Result<Asked, StoreError> {
        let unavailable = |why: &'static str| StoreError::Unavailable {
            operation: "lease",
            source: why.into(),
        };
        let Some(shared) = store.shared() else {
            return Err(unavailable("it is not a shared one"));
        };
        let owner =
            LeaseOwner::random().ok_or_else(|| unavailable("the random generator failed"))?;
        let begun = Instant::now();
        let record = match shared.acquire(key, &owner, term, now).await? {
            Acquired::Ours(record) => record,
            Acquired::Theirs(remaining) => return Ok(Asked::Theirs(remaining)),
        };
        let good_until = Arc::new(Mutex::new(begun + term.mul_f64(RELIED_ON)));
        let renewal = tokio::spawn(renew(store.clone(), *key, owner, term, good_until.clone()));
        let lease = Self {
            store: store.clone(),
            key: *key,
            owner,
            good_until,
            renewal,
        };
        Ok(Asked::Ours(lease, record))
    }

    /// Whether it can be relied on still.
    pub(super) fn holds(&self) -> bool {
        Instant::now() < *self.good_until.lock()
    }

    /// Gives it back, so that nobody waits for its end.
    pub(super) async fn release(self) {
        self.renewal.abort();
        if let Some(shared) = self.store.shared()
            && let Err(error) = shared.release(&self.key, &self.owner).await
        {
            tracing::debug!(visitor = %self.key, %error, "a lease was not given back; it ends by itself");
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

async fn renew(
    store: Arc<dyn Store>,
    key: VisitorKey,
    owner: LeaseOwner,
    term: Duration,
    good_until: Arc<Mutex<Instant>>,
) {
    let Some(shared) = store.shared() else { return };
    let mut pause = term / 3;
    loop {
        tokio::time::sleep(pause).await;
        let begun = Instant::now();
        match shared.renew(&key, &owner, term).await {
            Ok(true) => {
                *good_until.lock() = begun + term.mul_f64(RELIED_ON);
                pause = term / 3;
            }
            Ok(false) => {
                *good_until.lock() = begun;
                tracing::warn!(visitor = %key, "a lease ended while its flow was at work");
                return;
            }
            Err(error) => {
                tracing::debug!(visitor = %key, %error, "a lease was not prolonged");
                pause = term / AGAIN;
            }
        }
    }
}
