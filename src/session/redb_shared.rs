//! The open database, as its writer and its readers share it.
//!
//! Decides who notices that a database has failed, and how it is swapped for a new handle while readers come and go. Every
//! use goes through here, so that none can meet an error, or a panic of the library's, without it being noted.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::RwLock;
use redb::{Database, DatabaseError, ReadTransaction, ReadableDatabase};

use super::redb_file::OpenStoreError;

/// Why an operation failed, for everyone whom it concerns.
pub(super) type Failure = Arc<dyn std::error::Error + Send + Sync>;

#[derive(Debug)]
pub(super) struct Shared {
    /// `None` while the file cannot be opened, and once the store is closed. Locked for writing only to swap it.
    database: RwLock<Option<Database>>,
    /// Whether the database has failed since it was opened: it must be opened anew.
    suspect: AtomicBool,
    commits: AtomicU64,
}

// === impl Shared ===

impl Shared {
    pub(super) fn new(database: Database) -> Self {
        Self {
            database: RwLock::new(Some(database)),
            suspect: AtomicBool::new(false),
            commits: AtomicU64::new(0),
        }
    }

    /// How many transactions were committed.
    pub(super) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    pub(super) fn is_suspect(&self) -> bool {
        self.suspect.load(Ordering::Acquire)
    }

    /// Runs `read` in a read transaction of its own.
    pub(super) fn read<T>(
        &self,
        read: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, Failure> {
        self.with(|database| read(&database.begin_read()?))
    }

    /// Runs `write`, which says whether it committed anything.
    pub(super) fn write(
        &self,
        write: impl FnOnce(&Database) -> Result<bool, redb::Error>,
    ) -> Result<(), Failure> {
        let committed = self.with(write)?;
        self.commits.fetch_add(committed.into(), Ordering::Relaxed);
        Ok(())
    }

    /// Puts what `open` opens in the place of the database. The old one goes first, since it holds the file's lock;
    /// readers do not wait meanwhile, but hear that there is no database.
    pub(super) fn replace(
        &self,
        open: impl FnOnce() -> Result<Database, OpenStoreError>,
    ) -> Result<(), Failure> {
        // What it says is known: it failed.
        let _ = self.close();
        let database = open().map_err(|error| -> Failure { Arc::new(error) })?;
        let mut slot = self.database.write();
        self.suspect.store(false, Ordering::Release);
        *slot = Some(database);
        Ok(())
    }

    /// Waits for reads to end and closes the database.
    pub(super) fn close(&self) -> Result<(), DatabaseError> {
        let database = self.database.write().take();
        database.map_or(Ok(()), Database::close)
    }

    fn with<T>(
        &self,
        operation: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, Failure> {
        let slot = self.database.read();
        let database = slot.as_ref().ok_or_else(|| {
            Failure::from(Box::from(
                "the database could not be opened again after a failure",
            ))
        })?;
        let failure: Failure = match catch_unwind(AssertUnwindSafe(|| operation(database))) {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => Arc::new(error),
            Err(_) => Failure::from(Box::from("the database library panicked")),
        };
        // Noted before the lock is let go: a verdict on this handle must not fall on the next one.
        self.suspect.store(true, Ordering::Release);
        Err(failure)
    }
}
