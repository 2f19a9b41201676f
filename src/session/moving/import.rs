//! Writes an export file into a store: the newer of two records stays.

use std::fmt;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{FuturesUnordered, Stream, StreamExt};

use super::format::{FormatError, Header, Item, Reader, Record};
use super::summary::{Merged, Summary};
use crate::clock::{Clock, Timestamp};
use crate::session::keyring::OpenError;
use crate::session::store::{PutError, StateTag, StoreError, Stored};
use crate::session::vault::{SaveError, Vault, VaultError};

/// Whether an import may give the store its identity key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adoption {
    /// If the store has no visitors yet: nobody goes by its own key.
    IfEmpty,
    /// A process runs on the store and goes by its key.
    Never,
}

/// Why an import stopped.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file is no export, or not a whole one.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The file could not be read.
    #[error("the export cannot be read: {0}")]
    Read(#[from] io::Error),
    /// The export's identity key cannot be opened.
    #[error(
        "the export's identity key cannot be opened: {0}; `session.keys_file` must hold the keys of the store that was exported"
    )]
    Identity(#[from] OpenError),
    /// The store goes by another identity key.
    #[error(
        "the store goes by another identity key than the export: its visitors would not be recognised; {hint}",
        hint = match adoption {
            Adoption::IfEmpty => "import into a store that has no visitors yet (another `session.path`), and serve from that one",
            Adoption::Never => "stop the sidecar, and import into a store on which none has served yet (another `session.path`)",
        }
    )]
    OtherIdentity {
        /// Whether the store could have adopted the export's.
        adoption: Adoption,
    },
    /// The store could not be read or written.
    #[error("the store failed: {0}")]
    Store(#[from] VaultError),
    /// Another process writes the same records all the time.
    #[error("a record changed more often than it could be compared")]
    Contended,
}

/// An import that stopped, with what was done before it did.
#[derive(Debug)]
pub struct ImportFailed {
    /// Why.
    pub reason: ImportError,
    /// What was done before: nothing of it is lost by importing the file again.
    pub done: Summary,
}

/// So many records are compared and written at the same time: stores commit them in groups.
const AT_ONCE: usize = 256;
/// More conflicts for one record than that mean that something is wrong.
const MAX_CONFLICTS: usize = 64;

/// Imports the file that comes in `pieces`; tells `progress` after each piece.
pub async fn import(
    vault: &Vault,
    clock: &Arc<dyn Clock>,
    adoption: Adoption,
    pieces: impl Stream<Item = io::Result<Bytes>>,
    mut progress: impl FnMut(&Summary),
) -> Result<Summary, ImportFailed> {
    let mut done = Summary::default();
    let importer = Importer {
        vault,
        clock: &**clock,
        adoption,
    };
    match importer.run(pieces, &mut done, &mut progress).await {
        Ok(()) => Ok(done),
        Err(reason) => Err(ImportFailed { reason, done }),
    }
}

struct Importer<'a> {
    vault: &'a Vault,
    clock: &'a dyn Clock,
    adoption: Adoption,
}

impl Importer<'_> {
    async fn run(
        &self,
        pieces: impl Stream<Item = io::Result<Bytes>>,
        done: &mut Summary,
        progress: &mut impl FnMut(&Summary),
    ) -> Result<(), ImportError> {
        let mut pieces = std::pin::pin!(pieces);
        let mut reader = Reader::default();
        let mut merging = FuturesUnordered::new();
        let mut failure = None;
        while failure.is_none() {
            let Some(piece) = pieces.next().await else {
                break;
            };
            match piece {
                Ok(piece) => reader.push(&piece),
                Err(error) => failure = Some(error.into()),
            }
            while failure.is_none() {
                match reader.next_item() {
                    Ok(Some(Item::Header(header))) => {
                        failure = self.settle_identity(&header).await.err();
                    }
                    Ok(Some(Item::Record(record))) => merging.push(self.merge(record)),
                    Ok(None) => break,
                    Err(error) => failure = Some(error.into()),
                }
                if merging.len() >= AT_ONCE
                    && let Some(merged) = merging.next().await
                {
                    count(merged, done, &mut failure);
                }
            }
            progress(done);
        }
        // What was begun is finished: each record by itself is good.
        while let Some(merged) = merging.next().await {
            count(merged, done, &mut failure);
        }
        match failure {
            Some(error) => Err(error),
            None => Ok(reader.finish().map(drop)?),
        }
    }

    /// Makes sure that the store goes by the export's identity key.
    async fn settle_identity(&self, header: &Header) -> Result<(), ImportError> {
        let theirs = self.vault.open_identity(&header.identity)?;
        for _ in 0..MAX_CONFLICTS {
            let now = self.clock.now();
            let ours = self.vault.stored_identity(now).await?;
            let expected = match ours {
                Some((stored, ours)) if ours == theirs => {
                    if self.vault.keyring().is_current(&stored.sealed) {
                        return Ok(());
                    }
                    Some(stored.version)
                }
                Some((stored, _)) if self.may_adopt(now).await? => Some(stored.version),
                None if self.adoption == Adoption::IfEmpty => None,
                _ => {
                    let adoption = self.adoption;
                    return Err(ImportError::OtherIdentity { adoption });
                }
            };
            match self.vault.put_identity(expected, &theirs, now).await {
                Ok(()) => return Ok(()),
                Err(SaveError::Conflict) => {}
                Err(SaveError::Failed(error)) => return Err(error.into()),
            }
        }
        Err(ImportError::Contended)
    }

    /// Whether another identity key may take the place of the store's.
    async fn may_adopt(&self, now: Timestamp) -> Result<bool, VaultError> {
        // Who runs on a store for several replicas cannot be seen from here.
        if self.adoption == Adoption::Never || self.vault.store().shared().is_some() {
            return Ok(false);
        }
        let mut cursor = None;
        loop {
            let page = self.vault.store().scan(cursor, AT_ONCE, now).await?;
            let mut states = page.found.iter().map(|found| found.entry.state);
            if states.any(|state| state != StateTag::Internal) {
                return Ok(false);
            }
            match page.next {
                Some(next) => cursor = Some(next),
                None => return Ok(true),
            }
        }
    }

    /// Writes the record if it is newer than what the store has.
    async fn merge(&self, record: Record) -> Result<Merged, ImportError> {
        let Record {
            visitor,
            expires_at,
            sealed,
        } = record;
        let session = match self.vault.open(&visitor, &sealed) {
            Ok(session) => session,
            Err(error) => return Ok(Merged::Unreadable(visitor, error.to_string())),
        };
        for _ in 0..MAX_CONFLICTS {
            let now = self.clock.now();
            if expires_at < now {
                return Ok(Merged::Expired);
            }
            let stored = self.vault.store().load(&visitor, now).await;
            let (expected, merged) = match stored.map_err(VaultError::from)? {
                None => (None, Merged::Added),
                Some(Stored { version, sealed }) => {
                    let stored = match self.vault.open(&visitor, &sealed) {
                        Ok(stored) => stored,
                        // What cannot be read may be the newer one.
                        Err(error) => {
                            let problem = format!("the store's own record: {error}");
                            return Ok(Merged::Unreadable(visitor, problem));
                        }
                    };
                    match session.age().cmp(&stored.age()) {
                        std::cmp::Ordering::Greater => (Some(version), Merged::Replaced),
                        std::cmp::Ordering::Equal
                            if stored == session && !self.vault.keyring().is_current(&sealed) =>
                        {
                            (Some(version), Merged::Resealed)
                        }
                        _ => return Ok(Merged::Kept),
                    }
                }
            };
            let mut entry = self.vault.seal(&visitor, &session, now);
            // It lives no longer for having been moved.
            entry.expires_at = entry.expires_at.min(expires_at);
            match self.vault.store().put(&visitor, expected, entry, now).await {
                Ok(_) => return Ok(merged),
                Err(PutError::Conflict { .. }) => {}
                Err(PutError::Store(error)) => return Err(VaultError::Store(error).into()),
            }
        }
        Err(ImportError::Contended)
    }
}

fn count(
    merged: Result<Merged, ImportError>,
    done: &mut Summary,
    failure: &mut Option<ImportError>,
) {
    match merged {
        Ok(merged) => done.count(merged),
        Err(error) => *failure = failure.take().or(Some(error)),
    }
}

impl From<StoreError> for ImportError {
    fn from(error: StoreError) -> Self {
        Self::Store(error.into())
    }
}

impl fmt::Display for ImportFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reason, done } = self;
        write!(f, "{reason}")?;
        match done.records() {
            0 => write!(f, " (nothing was imported)"),
            _ => write!(
                f,
                " (done before it stopped, and kept; importing the file again does no harm: {done})"
            ),
        }
    }
}

impl std::error::Error for ImportFailed {}
