//! A store whose records are visitor sessions: encoded, sealed, and bound to the visitor whose they are.
//!
//! A record that cannot be opened or read is an error, never "not found".

use std::sync::Arc;
use std::time::Duration;

use rand::TryRng;
use rand::rngs::SysRng;

use super::codec;
use super::keyring::{Keyring, OpenError};
use super::lease::{Asked, Lease};
use super::record::{State, VisitorSession};
use super::store::{Census, Entry, PutError, StateTag, Store, StoreError, Stored, Version};
use crate::clock::Timestamp;
use crate::visitor::{IdentityKey, VisitorKey};

/// A store with the keyring that seals what it holds.
pub struct Vault {
    store: Arc<dyn Store>,
    keyring: Keyring,
    idle_timeout: Duration,
}

/// What came of asking for a lease.
pub(super) enum Leased {
    /// It is ours; and the session as of then.
    Ours(Lease, Option<(Version, VisitorSession)>),
    /// Somebody else's, for so long at least if they do not prolong it.
    Theirs(Duration),
}

/// Why the vault could not answer.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The store could not.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The record is sealed with another key, or was tampered with.
    #[error("a record cannot be opened: {0}")]
    Open(#[from] OpenError),
    /// The record was opened and is not understood.
    #[error(transparent)]
    Decode(#[from] codec::DecodeError),
    /// The system's random generator failed.
    #[error("the system's random generator failed")]
    Random,
}

/// Why a session was not written.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// Another version is stored.
    #[error("another version of the record is stored")]
    Conflict,
    /// Nothing can be said of whether it was written.
    #[error(transparent)]
    Failed(#[from] VaultError),
}

/// Where the identity key lies. No visitor has this key: it would take a preimage of HMAC-SHA-256.
const IDENTITY_SLOT: VisitorKey = VisitorKey::from_bytes([0; 32]);

/// Records without tokens are worth nothing for long.
const TOKENLESS_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

impl Vault {
    /// A vault over `store`.
    pub fn new(store: Arc<dyn Store>, keyring: Keyring, idle_timeout: Duration) -> Self {
        Self {
            store,
            keyring,
            idle_timeout,
        }
    }

    /// The store below, for readiness and sweeping.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The visitor's session.
    pub async fn load(
        &self,
        key: &VisitorKey,
        now: Timestamp,
    ) -> Result<Option<(Version, VisitorSession)>, VaultError> {
        let stored = self.store.load(key, now).await?;
        stored.map(|stored| self.read(key, &stored)).transpose()
    }

    /// Asks for the visitor's lease, and reads the session as of then.
    pub(super) async fn acquire(
        &self,
        key: &VisitorKey,
        term: Duration,
        now: Timestamp,
    ) -> Result<Leased, VaultError> {
        match Lease::ask(&self.store, key, term, now).await? {
            Asked::Theirs(remaining) => Ok(Leased::Theirs(remaining)),
            Asked::Ours(lease, stored) => {
                match stored.map(|stored| self.read(key, &stored)).transpose() {
                    Ok(record) => Ok(Leased::Ours(lease, record)),
                    Err(error) => {
                        lease.release().await;
                        Err(error)
                    }
                }
            }
        }
    }

    fn read(
        &self,
        key: &VisitorKey,
        stored: &Stored,
    ) -> Result<(Version, VisitorSession), VaultError> {
        let plain = self.keyring.open(key.as_bytes(), &stored.sealed)?;
        Ok((stored.version, codec::decode(&plain)?))
    }

    /// Writes the visitor's session if the stored version is `expected`.
    pub async fn save(
        &self,
        key: &VisitorKey,
        expected: Option<Version>,
        session: &VisitorSession,
        now: Timestamp,
    ) -> Result<Version, SaveError> {
        let timeout = match session.state {
            State::Active(_) | State::Lost { .. } => self.idle_timeout,
            State::Unconfirmed { .. } | State::Granted { .. } => {
                TOKENLESS_TIMEOUT.min(self.idle_timeout)
            }
        };
        let entry = Entry {
            sealed: self.keyring.seal(key.as_bytes(), &codec::encode(session)),
            state: session.tag(),
            expires_at: now + timeout,
        };
        match self.store.put(key, expected, entry, now).await {
            Ok(version) => Ok(version),
            Err(PutError::Conflict { .. }) => Err(SaveError::Conflict),
            Err(PutError::Store(error)) => Err(SaveError::Failed(error.into())),
        }
    }

    /// Removes the visitor's session.
    pub async fn remove(&self, key: &VisitorKey) -> Result<bool, VaultError> {
        Ok(self.store.remove(key).await?)
    }

    /// Counts by state.
    pub async fn census(&self) -> Result<Census, StoreError> {
        self.store.census().await
    }

    /// The key that turns identities into visitor keys: made once for a store and kept in it, sealed, so that rotating
    /// the keyring moves no visitor.
    pub async fn identity_key(&self, now: Timestamp) -> Result<IdentityKey, VaultError> {
        if let Some(stored) = self.store.load(&IDENTITY_SLOT, now).await? {
            return self.open_identity(&stored);
        }
        let mut bytes = [0; 32];
        SysRng
            .try_fill_bytes(&mut bytes)
            .map_err(|_| VaultError::Random)?;
        let entry = Entry {
            sealed: self.keyring.seal(IDENTITY_SLOT.as_bytes(), &bytes),
            state: StateTag::Internal,
            expires_at: Timestamp::from_millis(u64::MAX),
        };
        match self.store.put(&IDENTITY_SLOT, None, entry, now).await {
            Ok(_) => Ok(IdentityKey::new(&bytes)),
            // Another replica was quicker.
            Err(PutError::Conflict { .. }) => match self.store.load(&IDENTITY_SLOT, now).await? {
                Some(stored) => self.open_identity(&stored),
                None => Err(VaultError::Store(StoreError::Closed)),
            },
            Err(PutError::Store(error)) => Err(error.into()),
        }
    }

    fn open_identity(&self, stored: &Stored) -> Result<IdentityKey, VaultError> {
        let plain = self
            .keyring
            .open(IDENTITY_SLOT.as_bytes(), &stored.sealed)?;
        let bytes: &[u8; 32] = plain
            .as_slice()
            .try_into()
            .map_err(|_| OpenError::Truncated)?;
        Ok(IdentityKey::new(bytes))
    }
}
