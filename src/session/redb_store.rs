//! The store in one file: for one replica, and the default.
//!
//! Decides how asynchronous callers meet a blocking database. Writes go to one thread that commits in groups; reads to threads of
//! their own, because a read that misses the page cache waits for the disk, and a proxy's worker must not. No lock is held across an
//! await, nothing is lost when a caller goes away, and a write that was begun is finished.

use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use redb::ReadTransaction;
use tokio::sync::{mpsc, oneshot, watch};

use super::redb_file::DatabaseFile;
use super::redb_file::OpenStoreError;
use super::redb_readers::Readers;
use super::redb_shared::{Failure, Shared};
use super::redb_tables;
use super::redb_writer::{Job, QUEUE, Reply, Writer};
use super::store::{
    Census, Cursor, Entry, Found, Page, PutError, Store, StoreError, Stored, Version,
};
use crate::clock::Timestamp;
use crate::scheduling;
use crate::visitor::VisitorKey;

/// How many records one transaction forgets, so that a sweep makes no write wait long.
const SWEEP_CHUNK: usize = 256;

/// A store in one redb database file.
#[derive(Debug)]
pub struct RedbStore {
    shared: Arc<Shared>,
    readers: Readers,
    /// `None` once the store is closed.
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    /// Closed when the writer has let go of the file.
    ended: watch::Receiver<()>,
}

// === impl RedbStore ===

impl RedbStore {
    /// Opens the database at `path`, or makes it (mode 0600, and the directories above it), with a page cache of
    /// `cache_bytes`. Blocks while it does; after a crash that includes recovering the file.
    ///
    /// Dropping the store without [`Store::close`] finishes what was begun too, but nobody can wait for it.
    pub fn open(path: &Path, cache_bytes: usize) -> Result<RedbStore, OpenStoreError> {
        Self::open_file(DatabaseFile::new(path, cache_bytes))
    }

    /// How many transactions were committed since the store was opened: fewer than writes, when they come together.
    pub fn commits(&self) -> u64 {
        self.shared.commits()
    }

    fn open_file(file: DatabaseFile) -> Result<RedbStore, OpenStoreError> {
        let shared = Arc::new(Shared::new(file.open_or_create()?));
        let (jobs, queue) = mpsc::channel(QUEUE);
        let (ending, ended) = watch::channel(());
        let writer = Writer::new(queue, shared.clone(), file, ending);
        std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || {
                scheduling::give_way();
                writer.run();
            })
            .map_err(|source| OpenStoreError::Thread { source })?;
        Ok(Self {
            shared,
            readers: Readers::new(),
            jobs: Mutex::new(Some(jobs)),
            ended,
        })
    }

    fn sender(&self) -> Result<mpsc::Sender<Job>, StoreError> {
        self.jobs.lock().clone().ok_or(StoreError::Closed)
    }

    /// Hands a job to the writer, waiting for a place in its queue, and waits for the answer.
    async fn submit<T, E: From<StoreError>>(
        &self,
        job: impl FnOnce(Reply<T, E>) -> Job + Send,
    ) -> Result<T, E> {
        let (to, answer) = oneshot::channel();
        let job = job(Reply::new(to));
        // The sender goes with this statement: one that waited for its answer would keep the writer from ending.
        let sent = self.sender()?.send(job).await;
        sent.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// Runs `read`, which is short, in a read transaction on one of the readers.
    async fn read<T: Send + 'static>(
        &self,
        operation: &'static str,
        read: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.sender()?;
        let (to, answer) = oneshot::channel();
        let read = Box::new(move |shared: &Shared| {
            // Nobody may wait any more.
            let _ = to.send(shared.read(read));
        });
        let started = self.readers.submit(&self.shared, read);
        match (started, answer.await) {
            (Ok(()), Ok(outcome)) => self.judged(operation, outcome),
            (Err(source), _) => Err(unavailable(operation, source)),
            // The thread that should have helped could not be started, for somebody else.
            (_, Err(gone)) => Err(unavailable(operation, gone)),
        }
    }

    /// The same for what reads many records: on a thread of its own, so that nobody's look waits for it.
    async fn read_at_length<T: Send + 'static>(
        &self,
        operation: &'static str,
        read: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.sender()?;
        let shared = self.shared.clone();
        let outcome = tokio::task::spawn_blocking(move || shared.read(read)).await;
        match outcome {
            Ok(outcome) => self.judged(operation, outcome),
            Err(ended) => Err(unavailable(operation, ended)),
        }
    }

    fn judged<T>(
        &self,
        operation: &'static str,
        outcome: Result<T, Failure>,
    ) -> Result<T, StoreError> {
        outcome.or_else(|failure| {
            // The writer mends the database. A full queue is no matter: then it is about to find out by itself.
            let _ = self.sender()?.try_send(Job::Heal);
            Err(unavailable(operation, failure))
        })
    }
}

fn unavailable(
    operation: &'static str,
    source: impl std::error::Error + Send + Sync + 'static,
) -> StoreError {
    StoreError::Unavailable {
        operation,
        source: Box::new(source),
    }
}

#[async_trait]
impl Store for RedbStore {
    async fn load(&self, key: &VisitorKey, now: Timestamp) -> Result<Option<Stored>, StoreError> {
        let key = *key;
        self.read("read", move |txn| redb_tables::load(txn, &key, now))
            .await
    }

    async fn put(
        &self,
        key: &VisitorKey,
        expected: Option<Version>,
        entry: Entry,
        now: Timestamp,
    ) -> Result<Version, PutError> {
        let key = *key;
        self.submit(|reply| Job::Put {
            key,
            expected,
            entry,
            now,
            reply,
        })
        .await
    }

    async fn remove(&self, key: &VisitorKey) -> Result<bool, StoreError> {
        let key = *key;
        self.submit(|reply| Job::Remove { key, reply }).await
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.submit(|reply| Job::Probe { reply }).await
    }

    async fn census(&self) -> Result<Census, StoreError> {
        self.read("count", redb_tables::census).await
    }

    async fn scan(
        &self,
        cursor: Option<Cursor>,
        limit: usize,
        now: Timestamp,
    ) -> Result<Page, StoreError> {
        let after = cursor.map(|cursor| cursor.after()).transpose()?;
        self.read_at_length("scan", move |txn| redb_tables::page(txn, after, limit, now))
            .await
    }

    async fn list(
        &self,
        keys: RangeInclusive<VisitorKey>,
        limit: usize,
        now: Timestamp,
    ) -> Result<Vec<Found>, StoreError> {
        self.read_at_length("list", move |txn| redb_tables::list(txn, &keys, limit, now))
            .await
    }

    async fn sweep(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        // Found by a reader, in the writer's way only to be removed.
        let expired = self
            .read_at_length("sweep", move |txn| redb_tables::expired(txn, now, limit))
            .await?;
        let mut forgotten = 0;
        for keys in expired.chunks(SWEEP_CHUNK) {
            let keys = keys.to_vec();
            forgotten += self
                .submit(|reply| Job::Forget { keys, now, reply })
                .await?;
        }
        Ok(forgotten)
    }

    async fn close(&self) {
        drop(self.jobs.lock().take());
        let mut ended = self.ended.clone();
        while ended.changed().await.is_ok() {}
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::ops::Bound;
    use std::sync::atomic::{AtomicBool, Ordering};

    use bytes::Bytes;
    use redb::backends::FileBackend;
    use redb::{BackendError, StorageBackend};

    use super::*;
    use crate::session::store::StateTag;

    const NOW: Timestamp = Timestamp::from_secs(1000);
    const KEY: VisitorKey = VisitorKey::from_bytes([1; 32]);

    /// Two switches on a disk.
    #[derive(Clone, Debug, Default)]
    struct Faults {
        full: Arc<AtomicBool>,
        unreadable: Arc<AtomicBool>,
    }

    #[derive(Debug)]
    struct FaultyDisk {
        file: FileBackend,
        faults: Faults,
    }

    impl FaultyDisk {
        fn writable(&self) -> io::Result<()> {
            match self.faults.full.load(Ordering::SeqCst) {
                true => Err(io::ErrorKind::StorageFull.into()),
                false => Ok(()),
            }
        }
    }

    impl StorageBackend for FaultyDisk {
        fn len(&self) -> io::Result<u64> {
            self.file.len()
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            match self.faults.unreadable.load(Ordering::SeqCst) {
                true => Err(io::Error::other("bad sector")),
                false => self.file.read(offset, out),
            }
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            self.writable()?;
            self.file.set_len(len)
        }

        fn sync_data(&self) -> io::Result<()> {
            self.file.sync_data()
        }

        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            self.writable()?;
            self.file.write(offset, data)
        }

        fn close(&self) -> io::Result<()> {
            self.file.close()
        }

        fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
            self.file.try_lock_range(start, end)
        }

        fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
            self.file.unlock_range(start, end)
        }
    }

    fn store_on(directory: &tempfile::TempDir, cache_bytes: usize, faults: &Faults) -> RedbStore {
        let path = directory.path().join("sessions.redb");
        let faults = faults.clone();
        let file = DatabaseFile::with_connect(&path, cache_bytes, move |builder, file| {
            builder.create_with_backend(FaultyDisk {
                file: FileBackend::new(file)?,
                faults: faults.clone(),
            })
        });
        RedbStore::open_file(file).unwrap()
    }

    fn entry(sealed: &'static [u8]) -> Entry {
        Entry {
            sealed: Bytes::from_static(sealed),
            state: StateTag::Active,
            expires_at: Timestamp::from_secs(2000),
        }
    }

    fn is_unavailable<T>(result: Result<T, impl Into<PutError>>) -> bool {
        let error = result.map(drop).map_err(Into::into);
        matches!(error, Err(PutError::Store(StoreError::Unavailable { .. })))
    }

    #[tokio::test]
    async fn a_disk_that_was_full_heals_without_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let faults = Faults::default();
        let store = store_on(&directory, 1 << 20, &faults);
        let first = store.put(&KEY, None, entry(b"first"), NOW).await.unwrap();

        faults.full.store(true, Ordering::SeqCst);
        assert!(is_unavailable(
            store.put(&KEY, Some(first), entry(b"lost"), NOW).await
        ));
        assert!(is_unavailable(store.check().await));
        assert!(is_unavailable(store.remove(&KEY).await));

        faults.full.store(false, Ordering::SeqCst);
        while store.check().await.is_err() {
            tokio::task::yield_now().await;
        }
        assert_eq!(
            store.load(&KEY, NOW).await.unwrap().unwrap().sealed,
            "first"
        );
        let second = store
            .put(&KEY, Some(first), entry(b"second"), NOW)
            .await
            .unwrap();
        assert!(second > first);
        assert_eq!(store.census().await.unwrap().active, 1);
    }

    #[tokio::test]
    async fn a_failed_commit_fails_every_write_in_it() {
        let directory = tempfile::tempdir().unwrap();
        let faults = Faults::default();
        let store = Arc::new(store_on(&directory, 1 << 20, &faults));
        faults.full.store(true, Ordering::SeqCst);
        let writes: Vec<_> = (0..32)
            .map(|id| {
                let store = store.clone();
                let key = VisitorKey::from_bytes([id; 32]);
                tokio::spawn(async move { store.put(&key, None, entry(b"lost"), NOW).await })
            })
            .collect();
        for write in writes {
            assert!(is_unavailable(write.await.unwrap()));
        }
        assert_eq!(store.commits(), 0);
    }

    #[tokio::test]
    async fn a_failed_read_heals_without_a_write() {
        let directory = tempfile::tempdir().unwrap();
        let faults = Faults::default();
        // Without a page cache every read goes to the disk.
        let store = store_on(&directory, 0, &faults);
        store.put(&KEY, None, entry(b"first"), NOW).await.unwrap();

        faults.unreadable.store(true, Ordering::SeqCst);
        assert!(is_unavailable(store.load(&KEY, NOW).await));

        faults.unreadable.store(false, Ordering::SeqCst);
        let stored = loop {
            match store.load(&KEY, NOW).await {
                Ok(stored) => break stored,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        assert_eq!(stored.unwrap().sealed, "first");
    }

    #[tokio::test]
    async fn a_file_that_vanished_is_not_an_empty_store() {
        let directory = tempfile::tempdir().unwrap();
        let faults = Faults::default();
        let store = store_on(&directory, 1 << 20, &faults);
        store.put(&KEY, None, entry(b"first"), NOW).await.unwrap();

        std::fs::remove_file(directory.path().join("sessions.redb")).unwrap();
        let failure = store.shared.write(|_| Err(redb::Error::PreviousIo));
        assert!(failure.is_err());
        assert!(is_unavailable(store.check().await));
        assert!(is_unavailable(store.load(&KEY, NOW).await));
        assert!(!directory.path().join("sessions.redb").exists());
    }
}
