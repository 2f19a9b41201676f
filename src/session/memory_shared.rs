//! The memory store for several replicas in one process, for demonstrations and tests: one table of records, with the leases, the
//! news and the clock that replicas need beside it.
//!
//! Each replica has a handle of its own, and hears what the others do, not what it does itself. A handle that is closed leaves
//! the others open.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::broadcast;

use super::memory::MemoryStore;
use super::store::{
    Acquired, Census, Cursor, Entry, LeaseOwner, News, Page, PutError, SharedStore, Store,
    StoreError, Stored, Version,
};
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::oauth::TokenFingerprint;
use crate::visitor::VisitorKey;

/// One replica's handle to a memory store that several of them share.
#[derive(Debug)]
pub struct SharedMemoryStore {
    common: Arc<Common>,
    number: usize,
    closed: AtomicBool,
}

#[derive(Debug)]
struct Common {
    records: MemoryStore,
    leases: Mutex<HashMap<VisitorKey, (LeaseOwner, Instant)>>,
    /// What each handle hears, in the order of their numbers.
    hearing: Mutex<Vec<broadcast::Sender<News>>>,
}

/// Whoever is behind by more has missed some.
const BEHIND: usize = 1024;

// === impl SharedMemoryStore ===

impl SharedMemoryStore {
    /// The first handle to an empty store with room for `max_visitors`.
    pub fn new(max_visitors: u64) -> Self {
        Self::of(Arc::new(Common {
            records: MemoryStore::new(max_visitors),
            leases: Mutex::default(),
            hearing: Mutex::default(),
        }))
    }

    /// A handle for another replica.
    pub fn another(&self) -> Self {
        Self::of(self.common.clone())
    }

    fn of(common: Arc<Common>) -> Self {
        let mut hearing = common.hearing.lock();
        let number = hearing.len();
        hearing.push(broadcast::channel(BEHIND).0);
        drop(hearing);
        Self {
            common,
            number,
            closed: AtomicBool::new(false),
        }
    }

    fn open(&self) -> Result<&Common, StoreError> {
        match self.closed.load(Ordering::Acquire) {
            false => Ok(&self.common),
            true => Err(StoreError::Closed),
        }
    }

    /// Tells all others.
    fn tell(&self, news: News) {
        for (number, hearing) in self.common.hearing.lock().iter().enumerate() {
            if number != self.number {
                // Nobody may be listening yet.
                let _ = hearing.send(news);
            }
        }
    }
}

#[async_trait]
impl Store for SharedMemoryStore {
    async fn load(&self, key: &VisitorKey, now: Timestamp) -> Result<Option<Stored>, StoreError> {
        self.open()?.records.load(key, now).await
    }

    async fn put(
        &self,
        key: &VisitorKey,
        expected: Option<Version>,
        entry: Entry,
        now: Timestamp,
    ) -> Result<Version, PutError> {
        let version = self.open()?.records.put(key, expected, entry, now).await?;
        self.tell(News::Changed(*key));
        Ok(version)
    }

    async fn remove(&self, key: &VisitorKey) -> Result<bool, StoreError> {
        let removed = self.open()?.records.remove(key).await?;
        self.tell(News::Erased(*key));
        Ok(removed)
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.open()?.records.check().await
    }

    async fn census(&self) -> Result<Census, StoreError> {
        self.open()?.records.census().await
    }

    async fn scan(
        &self,
        cursor: Option<Cursor>,
        limit: usize,
        now: Timestamp,
    ) -> Result<Page, StoreError> {
        self.open()?.records.scan(cursor, limit, now).await
    }

    async fn sweep(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        let common = self.open()?;
        let present = Instant::now();
        common.leases.lock().retain(|_, (_, end)| present < *end);
        common.records.sweep(now, limit).await
    }

    async fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    fn shared(&self) -> Option<&dyn SharedStore> {
        Some(self)
    }
}

#[async_trait]
impl SharedStore for SharedMemoryStore {
    async fn acquire(
        &self,
        key: &VisitorKey,
        owner: &LeaseOwner,
        term: Duration,
        now: Timestamp,
    ) -> Result<Acquired, StoreError> {
        let common = self.open()?;
        {
            let mut leases = common.leases.lock();
            let present = Instant::now();
            if let Some((holder, end)) = leases.get(key)
                && holder != owner
                && present < *end
            {
                return Ok(Acquired::Theirs(*end - present));
            }
            leases.insert(*key, (*owner, present + term));
        }
        Ok(Acquired::Ours(common.records.load(key, now).await?))
    }

    async fn renew(
        &self,
        key: &VisitorKey,
        owner: &LeaseOwner,
        term: Duration,
    ) -> Result<bool, StoreError> {
        let present = Instant::now();
        Ok(match self.open()?.leases.lock().get_mut(key) {
            Some((holder, end)) if holder == owner && present < *end => {
                *end = present + term;
                true
            }
            _ => false,
        })
    }

    async fn release(&self, key: &VisitorKey, owner: &LeaseOwner) -> Result<(), StoreError> {
        let released = {
            let mut leases = self.open()?.leases.lock();
            let ours = leases.get(key).is_some_and(|(holder, _)| holder == owner);
            ours && leases.remove(key).is_some()
        };
        if released {
            self.tell(News::Released(*key));
        }
        Ok(())
    }

    async fn announce_rejection(
        &self,
        key: &VisitorKey,
        token: TokenFingerprint,
    ) -> Result<(), StoreError> {
        self.open()?;
        self.tell(News::Rejected(*key, token));
        Ok(())
    }

    fn news(&self) -> broadcast::Receiver<News> {
        match self.common.hearing.lock().get(self.number) {
            Some(hearing) => hearing.subscribe(),
            // There is one for each handle; without it there is nothing to hear.
            None => broadcast::channel(1).1,
        }
    }

    async fn time(&self) -> Result<Timestamp, StoreError> {
        self.open()?;
        Ok(SystemClock.now())
    }
}
