//! The store in this process's memory, for demonstrations and tests.
//!
//! Bounded: when it is full, expired visitors make room, and after them a new visitor is refused. A live visitor is never
//! forgotten for a new one. Bookkeeping records ([`StateTag::Internal`]) are few and do not count towards the limit.

use std::collections::{BTreeSet, HashMap};
use std::ops::RangeInclusive;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use super::cas::{Seen, admit, has_expired};
use super::store::{
    Census, Cursor, Entry, Found, Page, PutError, StateTag, Store, StoreError, Stored, Version,
};
use crate::clock::Timestamp;
use crate::visitor::VisitorKey;

/// A bounded store that ends with the process.
#[derive(Debug)]
pub struct MemoryStore {
    max_visitors: u64,
    /// `None` once the store is closed.
    records: Mutex<Option<Records>>,
}

#[derive(Debug, Default)]
struct Records {
    by_key: HashMap<VisitorKey, Record>,
    by_expiry: BTreeSet<(Timestamp, VisitorKey)>,
    census: Census,
    /// The version last given, to any key: so that no key gets one twice.
    sequence: u64,
}

#[derive(Debug)]
struct Record {
    version: Version,
    sealed: Bytes,
    state: StateTag,
    expires_at: Timestamp,
}

// === impl MemoryStore ===

impl MemoryStore {
    /// An empty store with room for `max_visitors`.
    pub fn new(max_visitors: u64) -> Self {
        Self {
            max_visitors,
            records: Mutex::new(Some(Records::default())),
        }
    }

    fn with<T>(&self, operation: impl FnOnce(&mut Records) -> T) -> Result<T, StoreError> {
        match self.records.lock().as_mut() {
            Some(records) => Ok(operation(records)),
            None => Err(StoreError::Closed),
        }
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn load(&self, key: &VisitorKey, now: Timestamp) -> Result<Option<Stored>, StoreError> {
        self.with(|records| {
            let record = records.by_key.get(key)?;
            (!has_expired(record.expires_at, now)).then(|| Stored {
                version: record.version,
                sealed: record.sealed.clone(),
            })
        })
    }

    async fn put(
        &self,
        key: &VisitorKey,
        expected: Option<Version>,
        entry: Entry,
        now: Timestamp,
    ) -> Result<Version, PutError> {
        self.with(|records| {
            let stored = records.by_key.get(key);
            admit(expected, stored.map(Record::seen), now)
                .map_err(|current| PutError::Conflict { current })?;
            let counted = stored.is_some_and(|record| record.state != StateTag::Internal);
            if entry.state != StateTag::Internal
                && !counted
                && !records.make_room(self.max_visitors, now)
            {
                return Err(PutError::Store(StoreError::Full {
                    limit: self.max_visitors,
                }));
            }
            Ok(records.write(*key, entry))
        })?
    }

    async fn remove(&self, key: &VisitorKey) -> Result<bool, StoreError> {
        self.with(|records| records.remove(key))
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.with(|_| ())
    }

    async fn census(&self) -> Result<Census, StoreError> {
        self.with(|records| records.census)
    }

    async fn scan(
        &self,
        cursor: Option<Cursor>,
        limit: usize,
        now: Timestamp,
    ) -> Result<Page, StoreError> {
        let after = cursor.map(|cursor| cursor.after()).transpose()?;
        self.with(|records| records.page(after, limit.max(1), now))
    }

    async fn list(
        &self,
        keys: RangeInclusive<VisitorKey>,
        limit: usize,
        now: Timestamp,
    ) -> Result<Vec<Found>, StoreError> {
        self.with(|records| records.list(&keys, limit, now))
    }

    async fn sweep(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        self.with(|records| (0..limit).take_while(|_| records.forget_first(now)).count())
    }

    async fn close(&self) {
        *self.records.lock() = None;
    }
}

// === impl Records ===

impl Records {
    fn write(&mut self, key: VisitorKey, entry: Entry) -> Version {
        self.remove(&key);
        self.sequence += 1;
        let version = Version(self.sequence);
        if let Some(count) = self.census.count_mut(entry.state) {
            *count += 1;
        }
        self.by_expiry.insert((entry.expires_at, key));
        self.by_key.insert(
            key,
            Record {
                version,
                sealed: entry.sealed,
                state: entry.state,
                expires_at: entry.expires_at,
            },
        );
        version
    }

    fn remove(&mut self, key: &VisitorKey) -> bool {
        let Some(record) = self.by_key.remove(key) else {
            return false;
        };
        self.by_expiry.remove(&(record.expires_at, *key));
        if let Some(count) = self.census.count_mut(record.state) {
            *count -= 1;
        }
        true
    }

    /// The next records in the order of their keys. Sorts what is left of them: this is for small stores.
    fn page(&self, after: Option<VisitorKey>, limit: usize, now: Timestamp) -> Page {
        let mut keys: Vec<_> = self
            .by_key
            .keys()
            .filter(|key| after.is_none_or(|after| after < **key))
            .collect();
        keys.sort_unstable();
        let next = keys.get(limit - 1).filter(|_| keys.len() > limit);
        let found = keys.iter().take(limit);
        let found = found.filter_map(|key| self.found(key, now));
        Page {
            found: found.collect(),
            next: next.map(|key| Cursor::behind(key)),
        }
    }

    /// The first records of a range of keys.
    fn list(&self, range: &RangeInclusive<VisitorKey>, limit: usize, now: Timestamp) -> Vec<Found> {
        if range.start() == range.end() {
            let found = self.found(range.start(), now);
            return found.into_iter().filter(is_visitors).take(limit).collect();
        }
        let mut keys: Vec<_> = self
            .by_key
            .keys()
            .filter(|key| range.contains(key))
            .collect();
        keys.sort_unstable();
        let found = keys.into_iter().filter_map(|key| self.found(key, now));
        found.filter(is_visitors).take(limit).collect()
    }

    fn found(&self, key: &VisitorKey, now: Timestamp) -> Option<Found> {
        let record = self.by_key.get(key)?;
        (!has_expired(record.expires_at, now)).then(|| Found {
            key: *key,
            version: record.version,
            entry: Entry {
                sealed: record.sealed.clone(),
                state: record.state,
                expires_at: record.expires_at,
            },
        })
    }

    /// Forgets expired records until one more visitor fits below `limit`; says whether one does.
    fn make_room(&mut self, limit: u64, now: Timestamp) -> bool {
        while self.census.total() >= limit {
            if !self.forget_first(now) {
                return false;
            }
        }
        true
    }

    /// Forgets the record that expires first, if it has; says whether it had.
    fn forget_first(&mut self, now: Timestamp) -> bool {
        match self.by_expiry.first() {
            Some(&(expires_at, key)) if has_expired(expires_at, now) => self.remove(&key),
            _ => false,
        }
    }
}

// === impl Record ===

impl Record {
    fn seen(&self) -> Seen {
        Seen {
            version: self.version,
            expires_at: self.expires_at,
        }
    }
}

fn is_visitors(found: &Found) -> bool {
    found.entry.state != StateTag::Internal
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1000);
    const SOON: Timestamp = Timestamp::from_secs(1001);
    const LATER: Timestamp = Timestamp::from_secs(2000);

    async fn create(
        store: &MemoryStore,
        id: u8,
        state: StateTag,
        expires_at: Timestamp,
        now: Timestamp,
    ) -> Result<Version, PutError> {
        let sealed = Bytes::from_static(b"sealed");
        let entry = Entry {
            sealed,
            state,
            expires_at,
        };
        store
            .put(&VisitorKey::from_bytes([id; 32]), None, entry, now)
            .await
    }

    #[tokio::test]
    async fn a_full_store_refuses_new_visitors_and_keeps_those_it_has() {
        let store = MemoryStore::new(2);
        let first = create(&store, 1, StateTag::Active, LATER, NOW)
            .await
            .unwrap();
        create(&store, 2, StateTag::Granted, LATER, NOW)
            .await
            .unwrap();
        let refused = create(&store, 3, StateTag::Granted, LATER, NOW).await;
        assert!(matches!(
            refused,
            Err(PutError::Store(StoreError::Full { limit: 2 }))
        ));
        // Those who are there still work.
        let entry = Entry {
            sealed: Bytes::from_static(b"new"),
            state: StateTag::Active,
            expires_at: LATER,
        };
        let key = VisitorKey::from_bytes([1; 32]);
        store.put(&key, Some(first), entry, NOW).await.unwrap();
        assert_eq!(store.census().await.unwrap().total(), 2);
    }

    #[tokio::test]
    async fn in_a_full_store_an_expired_visitor_makes_room() {
        let store = MemoryStore::new(2);
        create(&store, 1, StateTag::Active, LATER, NOW)
            .await
            .unwrap();
        create(&store, 2, StateTag::Active, SOON, NOW)
            .await
            .unwrap();
        let then = SOON + Duration::from_secs(1);
        create(&store, 3, StateTag::Active, LATER, then)
            .await
            .unwrap();
        let key = |id| VisitorKey::from_bytes([id; 32]);
        assert!(store.load(&key(1), then).await.unwrap().is_some());
        assert!(store.load(&key(2), NOW).await.unwrap().is_none());
        assert!(store.load(&key(3), then).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn bookkeeping_takes_no_visitors_room() {
        let store = MemoryStore::new(1);
        create(&store, 1, StateTag::Internal, LATER, NOW)
            .await
            .unwrap();
        create(&store, 2, StateTag::Active, LATER, NOW)
            .await
            .unwrap();
        create(&store, 3, StateTag::Internal, LATER, NOW)
            .await
            .unwrap();
        assert!(
            create(&store, 4, StateTag::Active, LATER, NOW)
                .await
                .is_err()
        );
    }
}
