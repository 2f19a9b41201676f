//! Visitors who are to be forgotten, and those who were a while ago.
//!
//! As long as an erasure is not done, nothing of the visitor is used or made: the store may be down, or a flow be under way that writes
//! once more. Once it is done it is remembered for a while, for the sake of recovery cookies: what a visitor carries from before must
//! not bring them back.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::clock::Timestamp;
use crate::visitor::VisitorKey;

/// The erasures that this process knows of.
pub(super) struct Erasures {
    pending: Mutex<HashMap<VisitorKey, Remember>>,
    /// Their number, for those who only want to know that there is none.
    count: AtomicUsize,
    postponed: Notify,
    /// When each visitor was erased, here or at another replica.
    done: moka::sync::Cache<VisitorKey, Timestamp>,
}

/// For how long an erasure is remembered, for the sake of what the visitor may carry from before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Remember {
    /// A day, in the memory of those who hear of it.
    ADay,
    /// As long as a cookie from before may be around, in the store.
    WhileCookiesLast,
}

/// How long an erasure is remembered in memory.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);
/// More than that cannot wait for the store: whoever comes with one more is told so.
const MOST_PENDING: usize = 100_000;

// === impl Erasures ===

impl Erasures {
    pub(super) fn new(capacity: u64) -> Self {
        Self {
            pending: Mutex::default(),
            count: AtomicUsize::new(0),
            postponed: Notify::new(),
            done: moka::sync::Cache::builder()
                .max_capacity(capacity)
                .time_to_live(REMEMBERED)
                .build(),
        }
    }

    /// From here on nothing of the visitor is used or made.
    pub(super) fn begin(&self, key: &VisitorKey, remember: Remember, now: Timestamp) {
        self.note(key, now);
        let mut pending = self.pending.lock();
        if let Some(already) = pending.get_mut(key) {
            *already = remember.max(*already);
        } else if pending.len() < MOST_PENDING {
            pending.insert(*key, remember);
            self.count.store(pending.len(), Ordering::Release);
        }
    }

    /// Another replica has erased the visitor.
    pub(super) fn note(&self, key: &VisitorKey, now: Timestamp) {
        self.done.insert(*key, now);
    }

    /// The store has forgotten the visitor.
    pub(super) fn end(&self, key: &VisitorKey) {
        let mut pending = self.pending.lock();
        pending.remove(key);
        self.count.store(pending.len(), Ordering::Release);
    }

    /// The store could not: it is asked again later.
    pub(super) fn postpone(&self) {
        self.postponed.notify_one();
    }

    /// Waits until an erasure was postponed.
    pub(super) async fn postponed(&self) {
        self.postponed.notified().await;
    }

    pub(super) fn is_pending(&self, key: &VisitorKey) -> bool {
        self.count.load(Ordering::Acquire) > 0 && self.pending.lock().contains_key(key)
    }

    pub(super) fn pending(&self) -> Vec<(VisitorKey, Remember)> {
        let pending = self.pending.lock();
        pending.iter().map(|(key, how)| (*key, *how)).collect()
    }

    /// Whether the visitor was erased after `since`.
    pub(super) fn came_after(&self, key: &VisitorKey, since: Timestamp) -> bool {
        self.done.get(key).is_some_and(|erased| erased > since)
    }

    /// Whether what the visitor had from `since` on may come back: it was not erased after that.
    pub(super) fn spare(&self, key: &VisitorKey, since: Timestamp) -> bool {
        self.done.get(key).is_none_or(|erased| since > erased)
    }
}
