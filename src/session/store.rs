//! The contract of a store: a durable map from visitor to sealed record, with compare-and-set.
//!
//! A store sees only keyed hashes and sealed bytes. `tests/store_contract.rs` holds every rule written here against every
//! store. An error is never "not found": whoever cannot tell must say [`StoreError`].

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use rand::TryRng;
use rand::rngs::SysRng;
use tokio::sync::broadcast;

use crate::clock::Timestamp;
use crate::oauth::TokenFingerprint;
use crate::visitor::VisitorKey;

/// The version of a stored record. Grows with each write of a key, and no version is ever used twice for one key, not
/// even after the record was removed: a writer who slept through a removal cannot overwrite what came after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

/// A record as it lies in a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its version, to be named in the next [`Store::put`].
    pub version: Version,
    /// The sealed record.
    pub sealed: Bytes,
}

/// What to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The sealed record.
    pub sealed: Bytes,
    /// The state that it holds, in clear: for counting only.
    pub state: StateTag,
    /// When the record may be forgotten if nobody writes it again (the idle time-out).
    pub expires_at: Timestamp,
}

/// The state of a record, as the census counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum StateTag {
    /// Bookkeeping of the sidecar itself; no visitor.
    Internal = 0,
    /// An authorize call was made whose answer was lost.
    Unconfirmed = 1,
    /// A code that is not yet exchanged.
    Granted = 2,
    /// A token set.
    Active = 3,
    /// A token set that the server has declared dead.
    Lost = 4,
}

/// How many records there are of each state. `Internal` ones are not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Records in [`StateTag::Unconfirmed`].
    pub unconfirmed: u64,
    /// Records in [`StateTag::Granted`].
    pub granted: u64,
    /// Records in [`StateTag::Active`].
    pub active: u64,
    /// Records in [`StateTag::Lost`].
    pub lost: u64,
}

/// Why a store could not answer. Nothing follows from it about what is stored.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store cannot be reached or its medium fails.
    #[error("the store cannot {operation}: {source}")]
    Unavailable {
        /// What was asked: "read", "write", …
        operation: &'static str,
        /// What the library said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It was done, and fewer servers have it than were asked for: a failover may undo it. The store works.
    #[error(
        "the store cannot {operation}: {confirmed} of {wanted} replicas have confirmed it in time"
    )]
    Unconfirmed {
        /// What was asked.
        operation: &'static str,
        /// How many have it.
        confirmed: i64,
        /// How many should.
        wanted: u32,
    },
    /// A bounded store has no room for one more visitor; those it has stay.
    #[error("the store is full: it holds its limit of {limit} visitors")]
    Full {
        /// The configured limit.
        limit: u64,
    },
    /// The store took longer than it may.
    #[error("the store did not answer within {0:?}")]
    TimedOut(Duration),
    /// The store has failed several times in a row and was not asked; it is tried again in a moment.
    #[error("the store is down; it is tried again in a moment")]
    Suspended,
    /// The store is closed: the process is ending.
    #[error("the store is closed")]
    Closed,
}

/// Why a record was not written.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// Another version is stored than the one expected; nothing was written.
    #[error("another version of the record is stored")]
    Conflict {
        /// What is there instead, if anything.
        current: Option<Version>,
    },
    /// Nothing can be said of whether it was written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A durable map from visitor to sealed record.
///
/// A record has expired when its `expires_at` lies before `now`; then it is as good as none, except to a writer who names its
/// exact version: that one may hold the only copy of a rotated refresh token.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The record of `key`, or `None` if there truly is none (or it expired before `now`).
    async fn load(&self, key: &VisitorKey, now: Timestamp) -> Result<Option<Stored>, StoreError>;

    /// Writes `entry` if the stored version is `expected` (`None`: if there is no record, or one that expired before
    /// `now`). When this returns `Ok`, the write survives a crash of the process and of the machine (as far as the store
    /// can promise that at all).
    async fn put(
        &self,
        key: &VisitorKey,
        expected: Option<Version>,
        entry: Entry,
        now: Timestamp,
    ) -> Result<Version, PutError>;

    /// Removes the record of `key`, whatever its version; says whether there was one.
    async fn remove(&self, key: &VisitorKey) -> Result<bool, StoreError>;

    /// Whether reads and writes work at present: what readiness asks.
    async fn check(&self) -> Result<(), StoreError>;

    /// Counts by state, without reading every record; expired records count until they are swept.
    async fn census(&self) -> Result<Census, StoreError>;

    /// A part of the store's records, the expired ones left out: at most about `limit`, from `cursor` on. Records that are there
    /// all the while come at least once; those written or removed meanwhile may.
    async fn scan(
        &self,
        cursor: Option<Cursor>,
        limit: usize,
        now: Timestamp,
    ) -> Result<Page, StoreError>;

    /// The visitors' records whose keys lie within `keys`, in the order of their keys: the first `limit` of them, the expired and
    /// [`StateTag::Internal`] ones left out. For operators: it may read much more than it gives. This way goes through the whole store;
    /// stores that have a shorter one take it.
    async fn list(
        &self,
        keys: RangeInclusive<VisitorKey>,
        limit: usize,
        now: Timestamp,
    ) -> Result<Vec<Found>, StoreError> {
        let mut first = BTreeMap::new();
        let mut cursor = None;
        loop {
            let page = self.scan(cursor, SCANNED_AT_ONCE, now).await?;
            for found in page.found {
                if keys.contains(&found.key) && found.entry.state != StateTag::Internal {
                    first.insert(found.key, found);
                }
            }
            while first.len() > limit {
                first.pop_last();
            }
            match page.next {
                Some(next) => cursor = Some(next),
                None => return Ok(first.into_values().collect()),
            }
        }
    }

    /// Forgets at most `limit` records that expired before `now`; returns how many it forgot.
    async fn sweep(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError>;

    /// Finishes what was begun and lets go of files and connections. Calls after it fail with [`StoreError::Closed`].
    async fn close(&self);

    /// What this store can do for several replicas on it; `None`: it is this process's alone.
    fn shared(&self) -> Option<&dyn SharedStore> {
        None
    }
}

/// What replicas on one store need beside its records: leases, news of each other, and one clock.
///
/// A lease keeps work from being done twice; it protects no data. That is the version's part: an owner who slept through the
/// end of its lease still meets a [`PutError::Conflict`].
#[async_trait]
pub trait SharedStore: Send + Sync {
    /// Takes the lease of `key` for `owner` for `term`, unless another owner's has not ended; reads the record in the same
    /// round trip. Whoever holds it already takes it anew.
    async fn acquire(
        &self,
        key: &VisitorKey,
        owner: &LeaseOwner,
        term: Duration,
        now: Timestamp,
    ) -> Result<Acquired, StoreError>;

    /// Prolongs the lease to `term` from now; `false`: `owner` does not hold it any more.
    async fn renew(
        &self,
        key: &VisitorKey,
        owner: &LeaseOwner,
        term: Duration,
    ) -> Result<bool, StoreError>;

    /// Ends the lease if `owner` holds it, and tells the other replicas.
    async fn release(&self, key: &VisitorKey, owner: &LeaseOwner) -> Result<(), StoreError>;

    /// Tells the other replicas that a resource endpoint rejected this token of the visitor.
    async fn announce_rejection(
        &self,
        key: &VisitorKey,
        token: TokenFingerprint,
    ) -> Result<(), StoreError>;

    /// What the other replicas tell from here on. A receiver that falls behind sees the lag as an error, which means the
    /// same as [`News::Gap`]. Puts and removals tell it by themselves, a removal even of nothing.
    fn news(&self) -> broadcast::Receiver<News>;

    /// The store's own time, which all replicas go by.
    async fn time(&self) -> Result<Timestamp, StoreError>;
}

/// Who holds a lease: 128 random bits, made anew for each flow.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LeaseOwner([u8; 16]);

/// What came of asking for a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acquired {
    /// It is ours; and this is the record now.
    Ours(Option<Stored>),
    /// Another owner has it, for so long if they do not prolong it.
    Theirs(Duration),
}

/// What another replica has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// The visitor's record was written.
    Changed(VisitorKey),
    /// The visitor was erased, whether there was a record or not.
    Erased(VisitorKey),
    /// The visitor's lease has ended.
    Released(VisitorKey),
    /// A resource endpoint rejected this token of the visitor.
    Rejected(VisitorKey, TokenFingerprint),
    /// Some news may have been missed.
    Gap,
}

/// Where [`Store::scan`] goes on: opaque, and good for the store that made it only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(pub Bytes);

/// One record, as [`Store::scan`] finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Whose it is; the internal ones come too.
    pub key: VisitorKey,
    /// Its version.
    pub version: Version,
    /// What was put.
    pub entry: Entry,
}

/// A part of a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The records, in no order.
    pub found: Vec<Found>,
    /// Where the next part begins; `None` at the end.
    pub next: Option<Cursor>,
}

/// So many records [`Store::list`] reads at once.
const SCANNED_AT_ONCE: usize = 512;

// === impl StateTag ===

impl StateTag {
    /// The tag of its byte, as stored.
    pub fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Internal),
            1 => Some(Self::Unconfirmed),
            2 => Some(Self::Granted),
            3 => Some(Self::Active),
            4 => Some(Self::Lost),
            _ => None,
        }
    }

    /// Its word, for exports and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::Unconfirmed => "unconfirmed",
            Self::Granted => "granted",
            Self::Active => "active",
            Self::Lost => "lost",
        }
    }
}

// === impl Census ===

impl Census {
    /// The counter of `state`; `None` for internal records.
    pub fn count_mut(&mut self, state: StateTag) -> Option<&mut u64> {
        match state {
            StateTag::Internal => None,
            StateTag::Unconfirmed => Some(&mut self.unconfirmed),
            StateTag::Granted => Some(&mut self.granted),
            StateTag::Active => Some(&mut self.active),
            StateTag::Lost => Some(&mut self.lost),
        }
    }

    /// All visitors.
    pub fn total(&self) -> u64 {
        self.unconfirmed + self.granted + self.active + self.lost
    }
}

// === impl LeaseOwner ===

impl LeaseOwner {
    /// A new one; `None` if the system's generator fails.
    pub fn random() -> Option<Self> {
        let mut bytes = [0; 16];
        SysRng.try_fill_bytes(&mut bytes).ok()?;
        Some(Self(bytes))
    }

    /// As a store keeps it.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for LeaseOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LeaseOwner(..)")
    }
}

// === impl Cursor ===

impl Cursor {
    /// For stores that scan in the order of keys: behind `key`.
    pub(super) fn behind(key: &VisitorKey) -> Self {
        Self(Bytes::copy_from_slice(key.as_bytes()))
    }

    /// What [`Cursor::behind`] was made of.
    pub(super) fn after(&self) -> Result<VisitorKey, StoreError> {
        let bytes = self.0.as_ref().try_into();
        bytes
            .map(VisitorKey::from_bytes)
            .map_err(|_| StoreError::Unavailable {
                operation: "scan",
                source: "the cursor is not one of this store's".into(),
            })
    }
}
