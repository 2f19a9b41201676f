//! The one thread that writes to the database.
//!
//! Decides what goes into one transaction, and what happens after one failed. Everything that waits is written in one
//! transaction with one fsync, and nobody hears of their write before that fsync: a thousand visitors cost what one costs. While many
//! write, the writer rests after each transaction for as long as it took (`rest`): more of them then share the next.
//!
//! After an I/O error redb refuses everything until the file is opened anew, so the writer does that: at once, for the
//! sake of readers, and before each later attempt. While attempts keep failing they are spaced out, and whoever asks in
//! between is told so without touching the disk. A full disk that is cleared thus heals without a restart.
//!
//! It never says that a write of a failed transaction was *not* done: redb may have made it durable all the same.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redb::{Database, Durability};
use tokio::sync::{mpsc, oneshot, watch};

use super::redb_batch::Batch;
use super::redb_file::DatabaseFile;
use super::redb_shared::{Failure, Shared};
use super::store::{Entry, PutError, StoreError, Version};
use crate::clock::Timestamp;
use crate::visitor::VisitorKey;

/// How many jobs may wait; whoever comes then waits for a place.
pub(super) const QUEUE: usize = 4096;
/// How many jobs one transaction takes: enough that the fsync is shared by all who can reasonably wait for it, few enough
/// that the first of them does not wait long for the last.
const MAX_BATCH: usize = 1024;
/// The longest rest after a transaction. Where a disk takes longer than that, those who come meanwhile are company enough.
const MAX_REST: Duration = Duration::from_millis(5);
/// The pause after the second failed attempt in a row; doubled by each further one. The first is followed at once.
const MIN_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// One thing to do, and whom to tell.
pub(super) enum Job {
    Put {
        key: VisitorKey,
        expected: Option<Version>,
        entry: Entry,
        now: Timestamp,
        reply: Reply<Version, PutError>,
    },
    Remove {
        key: VisitorKey,
        reply: Reply<bool, StoreError>,
    },
    Forget {
        keys: Vec<VisitorKey>,
        now: Timestamp,
        reply: Reply<usize, StoreError>,
    },
    /// Says whether writing works: from what is known, or by a write if the last one failed.
    Probe { reply: Reply<(), StoreError> },
    /// A reader met a failure.
    Heal,
}

/// An answer that is held back until the transaction it belongs to is committed.
pub(super) struct Reply<T, E> {
    to: oneshot::Sender<Result<T, E>>,
    outcome: Option<Result<T, E>>,
}

pub(super) struct Writer {
    jobs: mpsc::Receiver<Job>,
    shared: Arc<Shared>,
    file: DatabaseFile,
    outage: Option<Outage>,
    /// Dropped when the writer has ended, which is how whoever closes the store hears of it.
    _ended: watch::Sender<()>,
}

/// Attempts that have failed since one last succeeded.
struct Outage {
    failures: u32,
    retry_at: Instant,
    cause: Failure,
}

// === impl Writer ===

impl Writer {
    pub(super) fn new(
        jobs: mpsc::Receiver<Job>,
        shared: Arc<Shared>,
        file: DatabaseFile,
        ended: watch::Sender<()>,
    ) -> Self {
        Self {
            jobs,
            shared,
            file,
            outage: None,
            _ended: ended,
        }
    }

    /// Writes until every sender is gone and the queue is empty; then closes the database.
    pub(super) fn run(mut self) {
        let mut batch = Vec::with_capacity(MAX_BATCH);
        loop {
            let jobs = self.jobs.blocking_recv_many(&mut batch, MAX_BATCH);
            if jobs == 0 {
                break;
            }
            let begun = Instant::now();
            self.write(&mut batch);
            std::thread::sleep(rest(jobs, begun.elapsed()));
        }
        if let Err(error) = self.shared.close() {
            tracing::warn!(%error, "the store did not close cleanly; it recovers when it is next opened");
        }
    }

    fn write(&mut self, batch: &mut Vec<Job>) {
        match self.attempt(batch) {
            Ok(()) => batch.drain(..).for_each(Job::answer),
            Err(failure) => batch.drain(..).for_each(|job| job.fail(&failure)),
        }
    }

    fn attempt(&mut self, batch: &mut [Job]) -> Result<(), Failure> {
        if let Some(outage) = &self.outage
            && Instant::now() < outage.retry_at
        {
            return Err(outage.cause.clone());
        }
        let attempt = self.reopen_if_suspect().and_then(|()| self.commit(batch));
        match &attempt {
            Ok(()) => {
                if self.outage.take().is_some() {
                    tracing::info!("the store works again");
                }
            }
            Err(cause) => {
                self.note_failure(cause);
                // For the readers: they need not wait for the next write.
                if let Err(error) = self.reopen_if_suspect() {
                    tracing::warn!(%error, "the store cannot be opened again yet");
                }
            }
        }
        attempt
    }

    /// Does everything in `batch`, in one transaction, and returns when it is durable.
    fn commit(&self, batch: &mut [Job]) -> Result<(), Failure> {
        // With nothing known to be wrong, a probe needs no write of its own.
        let must_write = self.outage.is_some();
        self.shared
            .write(|database| transact(database, batch, must_write))
    }

    fn reopen_if_suspect(&self) -> Result<(), Failure> {
        match self.shared.is_suspect() {
            true => self.shared.replace(|| self.file.reopen()),
            false => Ok(()),
        }
    }

    fn note_failure(&mut self, cause: &Failure) {
        let failures = self.outage.as_ref().map_or(0, |outage| outage.failures) + 1;
        let pause = match failures {
            1 => Duration::ZERO,
            _ => MIN_PAUSE
                .saturating_mul(1 << (failures - 2).min(10))
                .min(MAX_PAUSE),
        };
        tracing::error!(error = %cause, failures, "the store cannot write");
        self.outage = Some(Outage {
            failures,
            retry_at: Instant::now() + pause,
            cause: cause.clone(),
        });
    }
}

/// How long to wait for company after a transaction with `jobs` that took so long: as long again, where there was company already. The
/// writer is then at work for half of the time at most; without a rest a busy disk gets one small transaction after another, and they
/// cost what large ones do. Who writes alone, and not just after others, is not held up. (PostgreSQL's `commit_delay` and
/// `commit_siblings` do the same, with numbers that somebody has to find.)
fn rest(jobs: usize, took: Duration) -> Duration {
    match jobs {
        2..MAX_BATCH => took.min(MAX_REST),
        // Alone; or so many that others wait already.
        _ => Duration::ZERO,
    }
}

/// Runs `batch`; says whether there was anything to commit.
fn transact(database: &Database, batch: &mut [Job], must_write: bool) -> Result<bool, redb::Error> {
    let mut txn = database.begin_write()?;
    txn.set_durability(Durability::Immediate)?;
    // A second fsync a commit, for a file that opens at once after a crash. Without it redb reads the whole file first:
    // 12 s for 500,000 visitors, during which nobody is served.
    txn.set_quick_repair(true);
    let mut tables = Batch::open(&txn)?;
    for job in batch {
        job.apply(&mut tables)?;
    }
    if must_write {
        tables.touch();
    }
    if tables.finish()? {
        txn.commit()?;
        Ok(true)
    } else {
        txn.abort()?;
        Ok(false)
    }
}

// === impl Job ===

impl Job {
    fn apply(&mut self, tables: &mut Batch<'_>) -> Result<(), redb::Error> {
        match self {
            Job::Put {
                key,
                expected,
                entry,
                now,
                reply,
            } => {
                let written = tables.put(key, *expected, entry, *now)?;
                reply.outcome = Some(written.map_err(|current| PutError::Conflict { current }));
            }
            Job::Remove { key, reply } => reply.outcome = Some(Ok(tables.remove(key)?)),
            Job::Forget { keys, now, reply } => {
                reply.outcome = Some(Ok(tables.forget(keys, *now)?))
            }
            Job::Probe { reply } => reply.outcome = Some(Ok(())),
            Job::Heal => {}
        }
        Ok(())
    }

    fn answer(self) {
        match self {
            Job::Put { reply, .. } => reply.send(),
            Job::Remove { reply, .. } => reply.send(),
            Job::Forget { reply, .. } => reply.send(),
            Job::Probe { reply } => reply.send(),
            Job::Heal => {}
        }
    }

    fn fail(self, failure: &Failure) {
        match self {
            Job::Put { reply, .. } => reply.fail("write", failure),
            Job::Remove { reply, .. } => reply.fail("remove", failure),
            Job::Forget { reply, .. } => reply.fail("sweep", failure),
            Job::Probe { reply } => reply.fail("write", failure),
            Job::Heal => {}
        }
    }
}

// === impl Reply ===

impl<T, E: From<StoreError>> Reply<T, E> {
    pub(super) fn new(to: oneshot::Sender<Result<T, E>>) -> Self {
        Self { to, outcome: None }
    }

    fn send(self) {
        if let Some(outcome) = self.outcome {
            // Whoever asked may have gone; what they asked for is done all the same.
            let _ = self.to.send(outcome);
        }
    }

    fn fail(self, operation: &'static str, failure: &Failure) {
        let _ = self.to.send(Err(E::from(StoreError::Unavailable {
            operation,
            source: Box::new(failure.clone()),
        })));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_writes_alone_is_not_held_up() {
        assert_eq!(rest(1, Duration::from_millis(2)), Duration::ZERO);
    }

    #[test]
    fn in_company_the_writer_rests_as_long_as_it_worked() {
        let (quick, slow) = (Duration::from_micros(700), Duration::from_secs(1));
        assert_eq!(rest(2, quick), quick);
        assert_eq!(rest(MAX_BATCH - 1, quick), quick);
        assert_eq!(rest(2, slow), MAX_REST);
    }

    #[test]
    fn a_queue_that_fills_a_transaction_is_not_kept_waiting() {
        assert_eq!(rest(MAX_BATCH, Duration::from_millis(2)), Duration::ZERO);
    }
}
