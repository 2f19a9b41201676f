//! What lies in the database file.
//!
//! | table | key | value |
//! | --- | --- | --- |
//! | `records` | visitor key | version (8) ‖ state (1) ‖ expiry (8) ‖ sealed record |
//! | `expiries` | hour of expiry (8) ‖ visitor key | nothing |
//! | `meta` | name | number: file format, last version, census |
//!
//! Integers are big-endian. `expiries` makes a sweep cost what it forgets and not what the store holds. It goes by the
//! *hour*, because an exact index would move with every write (the idle time-out begins anew): by the hour, the writes of
//! one flow, and all those that follow within the hour, leave it alone. The exact expiry is in the record.
//!
//! Decides the format and reads it; [`super::redb_batch`] writes it. Works inside a transaction of the caller's; knows
//! nothing of threads or files.

use std::ops::{Bound, RangeInclusive};

use redb::{ReadTransaction, ReadableTable, Table, TableDefinition, TableError, WriteTransaction};

use super::cas::{Seen, has_expired};
use super::store::{Census, Cursor, Entry, Found, Page, StateTag, Stored, Version};
use crate::clock::Timestamp;
use crate::visitor::VisitorKey;

pub(super) type RecordKey = &'static [u8; KEY_LEN];
pub(super) type ExpiryKey = &'static [u8; HOUR_LEN + KEY_LEN];

pub(super) const RECORDS: TableDefinition<RecordKey, &[u8]> = TableDefinition::new("records");
pub(super) const EXPIRIES: TableDefinition<ExpiryKey, ()> = TableDefinition::new("expiries");
pub(super) const META: TableDefinition<&str, u64> = TableDefinition::new("meta");

/// The format that this module reads and writes.
pub(super) const FORMAT: u64 = 1;

const META_FORMAT: &str = "format";
const META_SEQUENCE: &str = "sequence";
const META_CENSUS: [(&str, StateTag); 4] = [
    ("census.unconfirmed", StateTag::Unconfirmed),
    ("census.granted", StateTag::Granted),
    ("census.active", StateTag::Active),
    ("census.lost", StateTag::Lost),
];

const KEY_LEN: usize = 32;
const HOUR_LEN: usize = 8;
const HEADER_LEN: usize = 17;
const MILLIS_PER_HOUR: u64 = 3_600_000;

/// What the store counts: written back once a transaction, so that opening a store never counts records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ledger {
    /// The version last given, to any key: so that no key gets one twice, not even after its record is gone.
    pub(super) sequence: u64,
    pub(super) census: Census,
}

/// What stands in front of the sealed record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) version: Version,
    /// A [`StateTag`]; one that this version does not know is kept and not counted.
    pub(super) state: u8,
    pub(super) expires_at: Timestamp,
}

/// What a database file turns out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contents {
    /// Nothing is in it yet.
    Nothing,
    /// A store, in this format.
    Store(u64),
    /// Tables of another program.
    Foreign,
}

// === reading ===

/// The record of `key`, if there is one that has not expired.
pub(super) fn load(
    txn: &ReadTransaction,
    key: &VisitorKey,
    now: Timestamp,
) -> Result<Option<Stored>, redb::Error> {
    let Some(value) = txn.open_table(RECORDS)?.get(key.as_bytes())? else {
        return Ok(None);
    };
    let (header, sealed) = Header::decode(value.value())?;
    Ok((!has_expired(header.expires_at, now)).then(|| Stored {
        version: header.version,
        sealed: bytes::Bytes::copy_from_slice(sealed),
    }))
}

/// How many records there are of each state.
pub(super) fn census(txn: &ReadTransaction) -> Result<Census, redb::Error> {
    Ok(Ledger::read(&txn.open_table(META)?)?.census)
}

/// The next records in the order of their keys.
pub(super) fn page(
    txn: &ReadTransaction,
    after: Option<VisitorKey>,
    limit: usize,
    now: Timestamp,
) -> Result<Page, redb::Error> {
    let records = txn.open_table(RECORDS)?;
    let start = match &after {
        Some(key) => Bound::Excluded(key.as_bytes()),
        None => Bound::Unbounded,
    };
    let mut page = Page::default();
    let range = records.range::<&[u8; KEY_LEN]>((start, Bound::Unbounded))?;
    let mut last = None;
    for (number, entry) in range.enumerate() {
        if number >= limit.max(1) {
            page.next = last.as_ref().map(Cursor::behind);
            break;
        }
        let (key, value) = entry?;
        let key = VisitorKey::from_bytes(*key.value());
        last = Some(key);
        let (header, sealed) = Header::decode(value.value())?;
        if has_expired(header.expires_at, now) {
            continue;
        }
        page.found.push(found(key, &header, sealed));
    }
    Ok(page)
}

/// The first records of a range of keys.
pub(super) fn list(
    txn: &ReadTransaction,
    keys: &RangeInclusive<VisitorKey>,
    limit: usize,
    now: Timestamp,
) -> Result<Vec<Found>, redb::Error> {
    let records = txn.open_table(RECORDS)?;
    let range = records.range::<&[u8; KEY_LEN]>(keys.start().as_bytes()..=keys.end().as_bytes())?;
    let mut list = Vec::new();
    for entry in range {
        if list.len() >= limit {
            break;
        }
        let (key, value) = entry?;
        let (header, sealed) = Header::decode(value.value())?;
        let is_internal = header.state == StateTag::Internal as u8;
        if !is_internal && !has_expired(header.expires_at, now) {
            list.push(found(VisitorKey::from_bytes(*key.value()), &header, sealed));
        }
    }
    Ok(list)
}

fn found(key: VisitorKey, header: &Header, sealed: &[u8]) -> Found {
    Found {
        key,
        version: header.version,
        entry: Entry {
            sealed: bytes::Bytes::copy_from_slice(sealed),
            // What this version does not count, it counts nowhere else either.
            state: StateTag::from_byte(header.state).unwrap_or(StateTag::Internal),
            expires_at: header.expires_at,
        },
    }
}

/// The keys of at most `limit` expired records. Looks at those and at what expires within the hour, at nothing else.
pub(super) fn expired(
    txn: &ReadTransaction,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<VisitorKey>, redb::Error> {
    let records = txn.open_table(RECORDS)?;
    let expiries = txn.open_table(EXPIRIES)?;
    let last = expiry_key(now, &VisitorKey::from_bytes([u8::MAX; KEY_LEN]));
    let mut keys = Vec::new();
    for entry in expiries.range::<&[u8; HOUR_LEN + KEY_LEN]>(..=&last)? {
        if keys.len() >= limit {
            break;
        }
        let (indexed, ()) = entry.map(|(key, value)| (visitor_key(key.value()), value.value()))?;
        if let Some(value) = records.get(indexed.as_bytes())?
            && has_expired(Header::decode(value.value())?.0.expires_at, now)
        {
            keys.push(indexed);
        }
    }
    Ok(keys)
}

/// What is in the file.
pub(super) fn contents(txn: &ReadTransaction) -> Result<Contents, redb::Error> {
    let format = match txn.open_table(META) {
        Ok(meta) => meta.get(META_FORMAT)?.map(|format| format.value()),
        Err(TableError::TableDoesNotExist(_)) => None,
        Err(TableError::Storage(error)) => return Err(error.into()),
        Err(_) => return Ok(Contents::Foreign),
    };
    Ok(match format {
        Some(format) => Contents::Store(format),
        None if txn.list_tables()?.next().is_none() => Contents::Nothing,
        None => Contents::Foreign,
    })
}

// === writing ===

/// Makes the tables of an empty store.
pub(super) fn initialise(txn: &WriteTransaction) -> Result<(), redb::Error> {
    txn.open_table(RECORDS)?;
    txn.open_table(EXPIRIES)?;
    txn.open_table(META)?.insert(META_FORMAT, FORMAT)?;
    Ok(())
}

// === impl Ledger ===

impl Ledger {
    pub(super) fn read(meta: &impl ReadableTable<&'static str, u64>) -> Result<Self, redb::Error> {
        let number =
            |name| Ok::<_, redb::Error>(meta.get(name)?.map_or(0, |number| number.value()));
        let mut ledger = Self {
            sequence: number(META_SEQUENCE)?,
            census: Census::default(),
        };
        for (name, state) in META_CENSUS {
            if let Some(count) = ledger.census.count_mut(state) {
                *count = number(name)?;
            }
        }
        Ok(ledger)
    }

    pub(super) fn write(
        mut self,
        meta: &mut Table<'_, &'static str, u64>,
    ) -> Result<(), redb::Error> {
        meta.insert(META_SEQUENCE, self.sequence)?;
        for (name, state) in META_CENSUS {
            if let Some(count) = self.census.count_mut(state) {
                meta.insert(name, *count)?;
            }
        }
        Ok(())
    }
}

// === impl Header ===

impl Header {
    pub(super) fn seen(self) -> Seen {
        Seen {
            version: self.version,
            expires_at: self.expires_at,
        }
    }

    pub(super) fn encode(self, sealed: &[u8]) -> Vec<u8> {
        let mut value = Vec::with_capacity(HEADER_LEN + sealed.len());
        value.extend_from_slice(&self.version.0.to_be_bytes());
        value.push(self.state);
        value.extend_from_slice(&self.expires_at.as_millis().to_be_bytes());
        value.extend_from_slice(sealed);
        value
    }

    pub(super) fn decode(value: &[u8]) -> Result<(Self, &[u8]), redb::Error> {
        let decode = || {
            let (version, rest) = value.split_first_chunk()?;
            let (state, rest) = rest.split_first()?;
            let (expires_at, sealed) = rest.split_first_chunk()?;
            let header = Self {
                version: Version(u64::from_be_bytes(*version)),
                state: *state,
                expires_at: Timestamp::from_millis(u64::from_be_bytes(*expires_at)),
            };
            Some((header, sealed))
        };
        decode().ok_or_else(|| redb::Error::Corrupted("a record has no valid header".to_owned()))
    }
}

pub(super) fn expiry_key(expires_at: Timestamp, key: &VisitorKey) -> [u8; HOUR_LEN + KEY_LEN] {
    let hour = expires_at.as_millis() / MILLIS_PER_HOUR;
    let mut indexed = [0; HOUR_LEN + KEY_LEN];
    indexed[..HOUR_LEN].copy_from_slice(&hour.to_be_bytes());
    indexed[HOUR_LEN..].copy_from_slice(key.as_bytes());
    indexed
}

fn visitor_key(indexed: &[u8; HOUR_LEN + KEY_LEN]) -> VisitorKey {
    let mut key = [0; KEY_LEN];
    key.copy_from_slice(&indexed[HOUR_LEN..]);
    VisitorKey::from_bytes(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_comes_back_from_its_bytes() {
        let header = Header {
            version: Version(258),
            state: StateTag::Lost as u8,
            expires_at: Timestamp::from_millis(u64::MAX - 1),
        };
        let value = header.encode(b"sealed");
        assert_eq!(
            value[..HEADER_LEN],
            [
                0, 0, 0, 0, 0, 0, 1, 2, 4, 255, 255, 255, 255, 255, 255, 255, 254
            ]
        );
        assert_eq!(Header::decode(&value).unwrap(), (header, &b"sealed"[..]));
    }

    #[test]
    fn a_short_record_is_an_error_and_not_an_absence() {
        let header = Header {
            version: Version(1),
            state: StateTag::Active as u8,
            expires_at: Timestamp::from_secs(1),
        };
        let value = header.encode(b"");
        for length in 0..value.len() {
            Header::decode(&value[..length]).unwrap_err();
        }
    }

    #[test]
    fn expiries_sort_by_hour_and_name_their_visitor() {
        let (one, two) = (
            VisitorKey::from_bytes([1; 32]),
            VisitorKey::from_bytes([2; 32]),
        );
        let hour = |hours: u64| Timestamp::from_secs(hours * 3600);
        assert!(expiry_key(hour(255), &two) < expiry_key(hour(256), &one));
        assert_eq!(
            expiry_key(hour(3), &one),
            expiry_key(Timestamp::from_secs(4 * 3600 - 1), &one)
        );
        assert_eq!(visitor_key(&expiry_key(hour(3), &two)), two);
    }
}
