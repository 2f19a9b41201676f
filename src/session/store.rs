//! The contract of a store: a durable map from visitor to sealed record, with compare-and-set.
//!
//! A store sees only keyed hashes and sealed bytes. `tests/store_contract.rs` holds every rule written here against every
//! store. An error is never "not found": whoever cannot tell must say [`StoreError`].

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::clock::Timestamp;
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
#[derive(Clone, Debug)]
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
    /// A bounded store has no room for one more visitor; those it has stay.
    #[error("the store is full: it holds its limit of {limit} visitors")]
    Full {
        /// The configured limit.
        limit: u64,
    },
    /// The store took longer than it may.
    #[error("the store did not answer within {0:?}")]
    TimedOut(Duration),
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

    /// Forgets at most `limit` records that expired before `now`; returns how many it forgot.
    async fn sweep(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError>;

    /// Finishes what was begun and lets go of files and connections. Calls after it fail with [`StoreError::Closed`].
    async fn close(&self);
}

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
