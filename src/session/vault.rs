//! A store whose records are visitor sessions: encoded, sealed, and bound to the visitor whose they are.
//!
//! A record that cannot be opened or read is an error, never "not found".

use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use rand::TryRng;
use rand::rngs::SysRng;
use zeroize::Zeroizing;

use super::codec;
use super::keyring::{Keyring, OpenError};
use super::lease::{Asked, Lease};
use super::record::{State, VisitorSession};
use super::recovery::{self, Recovery};
use super::store::{Census, Entry, PutError, StateTag, Store, StoreError, Stored, Version};
use crate::clock::Timestamp;
use crate::visitor::{IdentityKey, VisitorId, VisitorKey};

/// A store with the keyring that seals what it holds. Clones are handles to the same store.
#[derive(Clone)]
pub struct Vault {
    store: Arc<dyn Store>,
    keyring: Arc<ArcSwap<Keyring>>,
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

/// Whether it can be a visitor's key, and is not the place of something else.
pub(super) fn is_visitor(key: &VisitorKey) -> bool {
    *key != IDENTITY_SLOT
}

/// Records without tokens are worth nothing for long.
const TOKENLESS_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

impl Vault {
    /// A vault over `store`.
    pub fn new(store: Arc<dyn Store>, keyring: Keyring, idle_timeout: Duration) -> Self {
        Self {
            store,
            keyring: Arc::new(ArcSwap::from_pointee(keyring)),
            idle_timeout,
        }
    }

    /// The store below, for readiness and sweeping.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    pub(super) fn idle_timeout(&self) -> Duration {
        self.idle_timeout
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
        Ok((stored.version, self.open(key, &stored.sealed)?))
    }

    /// The session in a sealed record of the visitor.
    pub(super) fn open(
        &self,
        key: &VisitorKey,
        sealed: &[u8],
    ) -> Result<VisitorSession, VaultError> {
        let plain = self.keyring.load().open(key.as_bytes(), sealed)?;
        Ok(codec::decode(&plain)?)
    }

    /// The visitor's session as it is written at `now`.
    pub(super) fn seal(&self, key: &VisitorKey, session: &VisitorSession, now: Timestamp) -> Entry {
        let timeout = match session.state {
            State::Active(_) | State::Lost { .. } => self.idle_timeout,
            State::Unconfirmed { .. } | State::Granted { .. } => {
                TOKENLESS_TIMEOUT.min(self.idle_timeout)
            }
        };
        Entry {
            sealed: self
                .keyring
                .load()
                .seal(key.as_bytes(), &codec::encode(session)),
            state: session.tag(),
            expires_at: now + timeout,
        }
    }

    /// The recovery cookie's value for a session, as far as one is worth carrying.
    pub(super) fn seal_recovery(&self, id: &VisitorId, session: &VisitorSession) -> Option<String> {
        recovery::seal(&self.keyring.load(), id, session)
    }

    /// The session in a recovery cookie of that very visitor.
    pub(super) fn open_recovery(&self, recovery: Recovery<'_>) -> Option<VisitorSession> {
        recovery::open(&self.keyring.load(), recovery)
    }

    /// What seals and opens at present.
    pub fn keyring(&self) -> Guard<Arc<Keyring>> {
        self.keyring.load()
    }

    /// Writes the visitor's session if the stored version is `expected`.
    pub async fn save(
        &self,
        key: &VisitorKey,
        expected: Option<Version>,
        session: &VisitorSession,
        now: Timestamp,
    ) -> Result<Version, SaveError> {
        let entry = self.seal(key, session, now);
        match self.store.put(key, expected, entry, now).await {
            Ok(version) => Ok(version),
            Err(PutError::Conflict { .. }) => Err(SaveError::Conflict),
            Err(PutError::Store(error)) => Err(SaveError::Failed(error.into())),
        }
    }

    /// Removes the visitor's session.
    pub async fn remove(&self, key: &VisitorKey) -> Result<bool, VaultError> {
        // What an operator names may be anything.
        if !is_visitor(key) {
            return Ok(false);
        }
        Ok(self.store.remove(key).await?)
    }

    /// Counts by state.
    pub async fn census(&self) -> Result<Census, StoreError> {
        self.store.census().await
    }

    /// The key that turns identities into visitor keys: made once for a store and kept in it, sealed, so that rotating
    /// the keyring moves no visitor.
    pub async fn identity_key(&self, now: Timestamp) -> Result<IdentityKey, VaultError> {
        if let Some((_, bytes)) = self.stored_identity(now).await? {
            return Ok(IdentityKey::new(&bytes));
        }
        let mut bytes = Zeroizing::new([0; 32]);
        SysRng
            .try_fill_bytes(&mut *bytes)
            .map_err(|_| VaultError::Random)?;
        match self.put_identity(None, &bytes, now).await {
            Ok(()) => Ok(IdentityKey::new(&bytes)),
            // Another replica was quicker.
            Err(SaveError::Conflict) => match self.stored_identity(now).await? {
                Some((_, bytes)) => Ok(IdentityKey::new(&bytes)),
                None => Err(VaultError::Store(StoreError::Closed)),
            },
            Err(SaveError::Failed(error)) => Err(error),
        }
    }

    /// Whether another keyring opens the identity key, and so what was sealed before: one that does not belongs to another store.
    pub async fn admits(&self, keyring: &Keyring, now: Timestamp) -> Result<(), VaultError> {
        if let Some(stored) = self.store.load(&IDENTITY_SLOT, now).await? {
            keyring.open(IDENTITY_SLOT.as_bytes(), &stored.sealed)?;
        }
        Ok(())
    }

    /// From here on another keyring seals and opens, in all handles.
    pub fn replace_keyring(&self, keyring: Keyring) {
        self.keyring.store(Arc::new(keyring));
    }

    /// The identity key's record and what is in it, if there is one.
    pub(super) async fn stored_identity(
        &self,
        now: Timestamp,
    ) -> Result<Option<(Stored, Zeroizing<[u8; 32]>)>, VaultError> {
        let Some(stored) = self.store.load(&IDENTITY_SLOT, now).await? else {
            return Ok(None);
        };
        let bytes = self.open_identity(&stored.sealed)?;
        Ok(Some((stored, bytes)))
    }

    /// What is in a sealed identity key.
    pub(super) fn open_identity(&self, sealed: &[u8]) -> Result<Zeroizing<[u8; 32]>, OpenError> {
        let plain = self.keyring.load().open(IDENTITY_SLOT.as_bytes(), sealed)?;
        let bytes = plain
            .as_slice()
            .try_into()
            .map_err(|_| OpenError::Truncated)?;
        Ok(Zeroizing::new(bytes))
    }

    /// Writes the identity key if the stored version is `expected`, sealed with the first key.
    pub(super) async fn put_identity(
        &self,
        expected: Option<Version>,
        bytes: &[u8; 32],
        now: Timestamp,
    ) -> Result<(), SaveError> {
        let entry = Entry {
            sealed: self.keyring.load().seal(IDENTITY_SLOT.as_bytes(), bytes),
            state: StateTag::Internal,
            expires_at: Timestamp::from_millis(u64::MAX),
        };
        match self.store.put(&IDENTITY_SLOT, expected, entry, now).await {
            Ok(_) => Ok(()),
            Err(PutError::Conflict { .. }) => Err(SaveError::Conflict),
            Err(PutError::Store(error)) => Err(SaveError::Failed(error.into())),
        }
    }
}
