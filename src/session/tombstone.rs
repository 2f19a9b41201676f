//! Tombstones: that a visitor was erased, and when. They are kept in the store, for as long as a browser may carry a recovery cookie from
//! before, so that neither a restart nor another replica brings back who was erased.
//!
//! A tombstone says nothing of the visitor: its place is a hash of the visitor's key, which is a keyed hash itself, and its sealed content a
//! time.

use sha2::{Digest, Sha256};

use super::store::{Entry, PutError, StateTag, StoreError};
use super::vault::{Vault, VaultError};
use crate::clock::Timestamp;
use crate::visitor::VisitorKey;

/// How often it is tried again where another replica was quicker.
const MAX_CONFLICTS: usize = 16;

// === impl Vault ===

impl Vault {
    /// Remembers that the visitor was erased at `now`.
    pub(super) async fn bury(&self, key: &VisitorKey, now: Timestamp) -> Result<(), VaultError> {
        let place = place(key);
        let erased_at = now.as_millis().to_be_bytes();
        let mut expected = None;
        for _ in 0..MAX_CONFLICTS {
            let entry = Entry {
                sealed: self.keyring().seal(place.as_bytes(), &erased_at),
                state: StateTag::Internal,
                expires_at: now + self.idle_timeout(),
            };
            match self.store().put(&place, expected, entry, now).await {
                Ok(_) => return Ok(()),
                Err(PutError::Conflict { current }) => expected = current,
                Err(PutError::Store(error)) => return Err(error.into()),
            }
        }
        Err(StoreError::Suspended.into())
    }

    /// When the visitor was erased last, as far as that is remembered.
    pub(super) async fn buried_at(
        &self,
        key: &VisitorKey,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, VaultError> {
        let place = place(key);
        let Some(stored) = self.store().load(&place, now).await? else {
            return Ok(None);
        };
        let plain = self.keyring().open(place.as_bytes(), &stored.sealed)?;
        let millis = plain.as_slice().try_into().map(u64::from_be_bytes);
        // What cannot be read is no leave to bring anybody back.
        Ok(Some(millis.map_or(now, Timestamp::from_millis)))
    }
}

fn place(key: &VisitorKey) -> VisitorKey {
    let hash = Sha256::new()
        .chain_update(b"tombstone\0")
        .chain_update(key.as_bytes())
        .finalize();
    VisitorKey::from_bytes(hash.into())
}
