//! Reads a store, part by part, and makes an export file of it.

use std::sync::Arc;

use bytes::Bytes;

use super::format;
use crate::clock::Clock;
use crate::session::record::VisitorSession;
use crate::session::store::{Cursor, StateTag, StoreError};
use crate::session::vault::{Vault, VaultError};
use crate::visitor::VisitorKey;

/// An export under way: gives the file piece by piece.
pub struct Exporter {
    vault: Vault,
    clock: Arc<dyn Clock>,
    newer: Option<Newer>,
    stage: Stage,
    records: u64,
}

/// Sessions that are newer than the store's, because the store could not be written: asked for when the store has been read.
pub(in crate::session) type Newer = Box<dyn FnOnce() -> Vec<(VisitorKey, VisitorSession)> + Send>;

/// Why an export came to nothing. What was written of it is not whole, and an import refuses it.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The store could not be read.
    #[error("the store cannot be exported: {0}")]
    Store(#[from] StoreError),
    /// The store's identity key cannot be opened.
    #[error("the store cannot be exported with this keyring: {0}")]
    Vault(#[from] VaultError),
    /// No sidecar has ever run on the store.
    #[error("the store is empty: no sidecar has ever run on it")]
    Empty,
    /// Nobody could open the export.
    #[error(
        "the store is sealed with a key that exists in this process only, so that nobody could open the export; give the memory \
         store a keyring with session.keys_file"
    )]
    Ephemeral,
}

enum Stage {
    Begin(Bytes),
    Scan(Option<Cursor>),
    Newer,
    End,
}

/// So many records are read at once.
const PART: usize = 512;

impl Exporter {
    /// Begins an export of a store that nobody else writes.
    pub async fn of(vault: Vault, clock: Arc<dyn Clock>) -> Result<Self, ExportError> {
        Self::with(vault, clock, None).await
    }

    pub(in crate::session) async fn with(
        vault: Vault,
        clock: Arc<dyn Clock>,
        newer: Option<Newer>,
    ) -> Result<Self, ExportError> {
        if vault.keyring().is_ephemeral() {
            return Err(ExportError::Ephemeral);
        }
        // Opened, too: a store that this keyring does not fit is found before anything is written.
        let identity = vault.stored_identity(clock.now()).await?;
        let (identity, _) = identity.ok_or(ExportError::Empty)?;
        Ok(Self {
            vault,
            clock,
            newer,
            stage: Stage::Begin(identity.sealed),
            records: 0,
        })
    }

    /// How many records there were so far.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// The next piece of the file; `None` after the last one.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ExportError> {
        let mut out = Vec::new();
        self.stage = match std::mem::replace(&mut self.stage, Stage::End) {
            Stage::Begin(identity) => {
                format::write_header(self.clock.now(), &identity, &mut out);
                Stage::Scan(None)
            }
            Stage::Scan(cursor) => {
                let now = self.clock.now();
                let page = self.vault.store().scan(cursor, PART, now).await?;
                for found in page.found {
                    let entry = &found.entry;
                    if entry.state != StateTag::Internal {
                        let (state, expires_at) = (entry.state.label(), entry.expires_at);
                        format::write_record(
                            &found.key,
                            state,
                            expires_at,
                            &entry.sealed,
                            &mut out,
                        );
                        self.records += 1;
                    }
                }
                match page.next {
                    Some(cursor) => Stage::Scan(Some(cursor)),
                    None => Stage::Newer,
                }
            }
            Stage::Newer => {
                let newer = self.newer.take().map(|newer| newer()).unwrap_or_default();
                for (key, session) in newer {
                    let entry = self.vault.seal(&key, &session, self.clock.now());
                    let (state, expires_at) = (entry.state.label(), entry.expires_at);
                    format::write_record(&key, state, expires_at, &entry.sealed, &mut out);
                    self.records += 1;
                }
                format::write_end(self.records, &mut out);
                Stage::End
            }
            Stage::End => return Ok(None),
        };
        Ok(Some(Bytes::from(out)))
    }
}
