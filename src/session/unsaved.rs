//! Sessions that are newer than the store's, because the store could not be written: kept until it can.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;
use zeroize::Zeroizing;

use super::codec;
use super::record::VisitorSession;
use crate::visitor::VisitorKey;

/// The unsaved sessions. Encoded, since a session is not for copying.
#[derive(Default)]
pub(super) struct Unsaved {
    sessions: Mutex<HashMap<VisitorKey, Zeroizing<Vec<u8>>>>,
    /// Their number, for those who only want to know that there is none.
    count: AtomicU64,
    added: Notify,
}

impl Unsaved {
    pub(super) fn len(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The visitor's session, if it is unsaved.
    pub(super) fn session(&self, key: &VisitorKey) -> Option<VisitorSession> {
        if self.is_empty() {
            return None;
        }
        codec::decode(self.sessions.lock().get(key)?).ok()
    }

    pub(super) fn contains(&self, key: &VisitorKey) -> bool {
        !self.is_empty() && self.sessions.lock().contains_key(key)
    }

    pub(super) fn keys(&self) -> Vec<VisitorKey> {
        self.sessions.lock().keys().copied().collect()
    }

    /// Those of the visitors among `keys`.
    pub(super) fn within(
        &self,
        keys: &RangeInclusive<VisitorKey>,
    ) -> Vec<(VisitorKey, VisitorSession)> {
        if self.is_empty() {
            return Vec::new();
        }
        let mut sessions = self.all();
        sessions.retain(|(key, _)| keys.contains(key));
        sessions
    }

    /// All of them, for an export.
    pub(super) fn all(&self) -> Vec<(VisitorKey, VisitorSession)> {
        let sessions = self.sessions.lock();
        let sessions = sessions.iter();
        sessions
            .filter_map(|(key, bytes)| Some((*key, codec::decode(bytes).ok()?)))
            .collect()
    }

    pub(super) fn keep(&self, key: &VisitorKey, session: &VisitorSession) {
        let mut sessions = self.sessions.lock();
        sessions.insert(*key, codec::encode(session));
        self.count.store(sessions.len() as u64, Ordering::Relaxed);
        drop(sessions);
        self.added.notify_one();
    }

    /// It has been written, or overtaken, or is to be forgotten.
    pub(super) fn remove(&self, key: &VisitorKey) {
        if !self.is_empty() {
            let mut sessions = self.sessions.lock();
            sessions.remove(key);
            self.count.store(sessions.len() as u64, Ordering::Relaxed);
        }
    }

    /// Waits until there is one more.
    pub(super) async fn added(&self) {
        self.added.notified().await;
    }
}
