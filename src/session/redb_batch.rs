//! How one operation changes the database: compare-and-set, the expiry index, the census, the versions.
//!
//! Several operations share a transaction and see each other. Works inside a transaction of the caller's, who commits;
//! knows nothing of threads or files.

use redb::{ReadableTable, Table, WriteTransaction};

use super::cas::{admit, has_expired};
use super::redb_tables::{
    EXPIRIES, ExpiryKey, Header, Ledger, META, RECORDS, RecordKey, expiry_key,
};
use super::store::{Entry, StateTag, Version};
use crate::clock::Timestamp;
use crate::visitor::VisitorKey;

/// The tables, open for the writes of one transaction.
pub(super) struct Batch<'txn> {
    records: Table<'txn, RecordKey, &'static [u8]>,
    expiries: Table<'txn, ExpiryKey, ()>,
    meta: Table<'txn, &'static str, u64>,
    ledger: Ledger,
    changed: bool,
}

// === impl Batch ===

impl<'txn> Batch<'txn> {
    pub(super) fn open(txn: &'txn WriteTransaction) -> Result<Self, redb::Error> {
        let meta = txn.open_table(META)?;
        Ok(Self {
            records: txn.open_table(RECORDS)?,
            expiries: txn.open_table(EXPIRIES)?,
            ledger: Ledger::read(&meta)?,
            meta,
            changed: false,
        })
    }

    /// Writes `entry` if that is admitted; if not, the inner error has the version that is there instead.
    pub(super) fn put(
        &mut self,
        key: &VisitorKey,
        expected: Option<Version>,
        entry: &Entry,
        now: Timestamp,
    ) -> Result<Result<Version, Option<Version>>, redb::Error> {
        let old = self.header(key)?;
        if let Err(current) = admit(expected, old.map(Header::seen), now) {
            return Ok(Err(current));
        }
        self.ledger.sequence += 1;
        let header = Header {
            version: Version(self.ledger.sequence),
            state: entry.state as u8,
            expires_at: entry.expires_at,
        };
        self.records
            .insert(key.as_bytes(), header.encode(&entry.sealed).as_slice())?;
        let moved_from = old.map(|old| expiry_key(old.expires_at, key));
        let moved_to = expiry_key(entry.expires_at, key);
        if moved_from != Some(moved_to) {
            if let Some(moved_from) = moved_from {
                self.expiries.remove(&moved_from)?;
            }
            self.expiries.insert(&moved_to, ())?;
        }
        self.count(old, Some(entry.state));
        Ok(Ok(header.version))
    }

    /// Removes the record of `key`; says whether there was one.
    pub(super) fn remove(&mut self, key: &VisitorKey) -> Result<bool, redb::Error> {
        let Some(old) = self.header(key)? else {
            return Ok(false);
        };
        self.records.remove(key.as_bytes())?;
        self.expiries.remove(&expiry_key(old.expires_at, key))?;
        self.count(Some(old), None);
        Ok(true)
    }

    /// Removes those of `keys` whose records have expired by `now`; returns how many.
    pub(super) fn forget(
        &mut self,
        keys: &[VisitorKey],
        now: Timestamp,
    ) -> Result<usize, redb::Error> {
        let mut forgotten = 0;
        for key in keys {
            // Looked at again: it may have been written since it was found.
            if self
                .header(key)?
                .is_some_and(|old| has_expired(old.expires_at, now))
            {
                self.remove(key)?;
                forgotten += 1;
            }
        }
        Ok(forgotten)
    }

    /// Makes this a transaction that writes, whatever is in it.
    pub(super) fn touch(&mut self) {
        self.changed = true;
    }

    /// Writes the ledger back; says whether there is anything to commit.
    pub(super) fn finish(mut self) -> Result<bool, redb::Error> {
        if self.changed {
            self.ledger.write(&mut self.meta)?;
        }
        Ok(self.changed)
    }

    fn header(&self, key: &VisitorKey) -> Result<Option<Header>, redb::Error> {
        match self.records.get(key.as_bytes())? {
            Some(value) => Ok(Some(Header::decode(value.value())?.0)),
            None => Ok(None),
        }
    }

    fn count(&mut self, old: Option<Header>, new: Option<StateTag>) {
        self.changed = true;
        let census = &mut self.ledger.census;
        if let Some(count) = old
            .and_then(|old| StateTag::from_byte(old.state))
            .and_then(|state| census.count_mut(state))
        {
            *count = count.saturating_sub(1);
        }
        if let Some(count) = new.and_then(|state| census.count_mut(state)) {
            *count += 1;
        }
    }
}
