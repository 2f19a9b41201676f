//! Where spans wait for the collector: so many and no more. Whoever brings one never waits.

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::span::Span;

/// Spans that wait.
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    bound: usize,
    /// Somebody has brought the first one or the last one of a batch, or there will be no more.
    wake: Notify,
}

#[derive(Default)]
struct Waiting {
    spans: Vec<Span>,
    closed: bool,
}

// === impl Queue ===

impl Queue {
    pub(super) fn new(bound: usize) -> Self {
        Self {
            waiting: Mutex::default(),
            bound,
            wake: Notify::new(),
        }
    }

    /// Leaves spans here; says for how many there was no room.
    pub(super) fn push(&self, spans: impl IntoIterator<Item = Span>, batch: usize) -> usize {
        let mut waiting = self.waiting.lock();
        let before = waiting.spans.len();
        let room = if waiting.closed {
            0
        } else {
            self.bound - before
        };
        let mut spans = spans.into_iter();
        waiting.spans.extend(spans.by_ref().take(room));
        let after = waiting.spans.len();
        drop(waiting);
        // Once at the beginning and once at the end of a batch: handing over wakes nobody.
        if (before == 0 && after > 0) || (before < batch && after >= batch) {
            self.wake.notify_one();
        }
        spans.count()
    }

    /// No more come.
    pub(super) fn close(&self) {
        self.waiting.lock().closed = true;
        self.wake.notify_one();
    }

    /// Takes the oldest ones.
    pub(super) fn take(&self, most: usize) -> Vec<Span> {
        let mut waiting = self.waiting.lock();
        let count = waiting.spans.len().min(most);
        waiting.spans.drain(..count).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.lock().spans.len()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.waiting.lock().closed
    }

    /// Waits until something of note has happened; it may have happened before.
    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }
}
