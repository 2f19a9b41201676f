//! Profiles in the making: bounded, so that known visitors never wait behind new ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::visitor::Limit;

/// Whether a request may make a profile.
#[derive(Clone, Copy)]
pub enum Creation<'a> {
    /// It may not.
    Never,
    /// It may, and nobody counts.
    Freely,
    /// It may if `spend` says so, which is asked once for each flow that is about to make one.
    Limited {
        /// Nobody can know this visitor: the store need not be asked first.
        is_new: bool,
        /// Spends one profile.
        spend: &'a (dyn Fn() -> Result<(), Limit> + Send + Sync),
    },
}

/// The profiles in the making.
pub(super) struct Creations {
    slots: Arc<Semaphore>,
    under_way: AtomicUsize,
    most: usize,
}

/// One of them, which may have to wait for its turn.
pub(super) struct Creating {
    creations: Arc<Creations>,
    absence: Absence,
}

/// What is known of the visitor's record before a profile is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Absence {
    /// Nothing.
    Unknown,
    /// The store had none a moment ago.
    LookedFor,
    /// There can be none: the visitor's id was made for the request that wants the profile, and nobody else has heard of it.
    Minted,
}

impl Creations {
    /// `at_once` may run, and `waiting` may wait for each of them.
    pub(super) fn new(at_once: usize, waiting: usize) -> Arc<Self> {
        Arc::new(Self {
            slots: Arc::new(Semaphore::new(at_once.min(Semaphore::MAX_PERMITS))),
            under_way: AtomicUsize::new(0),
            most: at_once.saturating_mul(waiting),
        })
    }

    /// One more, unless there are too many.
    pub(super) fn enter(self: &Arc<Self>, absence: Absence) -> Option<Creating> {
        // Counted down again by its end, whichever way it is dropped.
        let creating = Creating {
            creations: self.clone(),
            absence,
        };
        let before = self.under_way.fetch_add(1, Ordering::Relaxed);
        (before < self.most).then_some(creating)
    }
}

impl Creating {
    pub(super) fn absence(&self) -> Absence {
        self.absence
    }

    /// Waits for its turn, which ends with what is returned.
    pub(super) async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        self.creations.slots.clone().acquire_owned().await.ok()
    }
}

impl Drop for Creating {
    fn drop(&mut self) {
        self.creations.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn invariant_10_so_many_run_and_so_many_wait_and_the_rest_is_refused() {
        let creations = Creations::new(1, 2);
        let first = creations.enter(Absence::Unknown).unwrap();
        let second = creations.enter(Absence::Unknown).unwrap();
        assert!(creations.enter(Absence::Unknown).is_none());
        assert!(
            creations.enter(Absence::Unknown).is_none(),
            "a refusal takes no room"
        );
        let turn = first.turn().await.unwrap();
        assert_eq!(creations.slots.available_permits(), 0);
        drop((first, turn));
        assert!(second.turn().await.is_some());
        assert!(creations.enter(Absence::Unknown).is_some());
    }
}
