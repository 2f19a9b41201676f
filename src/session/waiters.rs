//! Flows that wait for another replica's flow of the same visitor, and who wakes them.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::visitor::VisitorKey;

/// Who waits for news of whom.
#[derive(Clone, Default)]
pub(super) struct Waiters(Arc<Mutex<HashMap<VisitorKey, watch::Sender<()>>>>);

/// News of one visitor, from the moment this was made: nothing is missed between asking for a lease and waiting for it.
pub(super) struct Waiter {
    all: Waiters,
    key: VisitorKey,
    news: watch::Receiver<()>,
}

// === impl Waiters ===

impl Waiters {
    /// Begins to listen for news of `key`.
    pub(super) fn listen(&self, key: &VisitorKey) -> Waiter {
        let news = self
            .0
            .lock()
            .entry(*key)
            .or_insert_with(|| watch::Sender::new(()))
            .subscribe();
        Waiter {
            all: self.clone(),
            key: *key,
            news,
        }
    }

    /// There is news of `key`.
    pub(super) fn wake(&self, key: &VisitorKey) {
        if let Some(sender) = self.0.lock().get(key) {
            sender.send_replace(());
        }
    }

    /// News may have been missed: whoever waits had better look.
    pub(super) fn wake_all(&self) {
        for sender in self.0.lock().values() {
            sender.send_replace(());
        }
    }
}

// === impl Waiter ===

impl Waiter {
    /// Waits for news, or for news that came since the last call.
    pub(super) async fn news(&mut self) {
        // The sender lives as long as this does: no error comes of it.
        let _ = self.news.changed().await;
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut all = self.all.0.lock();
        // Ours is still counted.
        if all
            .get(&self.key)
            .is_some_and(|sender| sender.receiver_count() <= 1)
        {
            all.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: VisitorKey = VisitorKey::from_bytes([1; 32]);

    #[tokio::test]
    async fn news_between_listening_and_waiting_is_not_missed() {
        let waiters = Waiters::default();
        let mut waiter = waiters.listen(&KEY);
        waiters.wake(&KEY);
        waiter.news().await;
    }

    #[tokio::test]
    async fn all_who_wait_are_woken_and_none_is_kept() {
        let waiters = Waiters::default();
        let mut both = [waiters.listen(&KEY), waiters.listen(&KEY)];
        waiters.wake_all();
        for waiter in &mut both {
            waiter.news().await;
        }
        let [first, second] = both;
        drop(first);
        assert_eq!(waiters.0.lock().len(), 1);
        drop(second);
        assert!(waiters.0.lock().is_empty());
    }
}
