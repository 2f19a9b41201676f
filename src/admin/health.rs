//! Readiness: the store can be used and the process is not on its way out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::session::{Manager, StoreError};

/// The latch that readiness hangs on. Clones share it.
#[derive(Clone, Debug)]
pub struct Health(Arc<AtomicBool>);

/// Why the sidecar is not ready.
#[derive(Debug, thiserror::Error)]
pub enum NotReady {
    /// It was told to stop.
    #[error("draining")]
    Draining,
    /// The store cannot be used.
    #[error("{0}")]
    Store(#[from] StoreError),
}

/// A store that takes longer is as good as down.
const STORE_BOUND: Duration = Duration::from_secs(1);

impl Health {
    /// Ready until `draining` is set.
    pub fn new(draining: Arc<AtomicBool>) -> Self {
        Self(draining)
    }

    /// From here on the sidecar is not ready.
    pub fn drain(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the sidecar is ready.
    pub async fn check(&self, manager: &Manager) -> Result<(), NotReady> {
        if self.0.load(Ordering::Relaxed) {
            return Err(NotReady::Draining);
        }
        match tokio::time::timeout(STORE_BOUND, manager.check_store()).await {
            Ok(result) => Ok(result?),
            Err(_) => Err(NotReady::Store(StoreError::TimedOut(STORE_BOUND))),
        }
    }
}
