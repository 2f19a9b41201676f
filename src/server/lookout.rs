//! A look at a running sidecar from within its process: how the visitor of a request stands, and what has been counted. Nothing
//! that is done here changes anything.

use std::sync::Arc;

use arc_swap::ArcSwap;
use http::HeaderMap;

use crate::clock::{Clock, Timestamp};
use crate::proxy::{Recognised, Snapshot, recognise};
use crate::session::{Life, Manager, VaultError};
use crate::telemetry::{Metrics, Totals};

/// Looks at a running sidecar. Clones look at the same one.
#[derive(Clone)]
pub struct Lookout {
    pub(super) snapshot: Arc<ArcSwap<Snapshot>>,
    pub(super) manager: Manager,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: Arc<dyn Clock>,
}

impl Lookout {
    /// The time that tokens go by.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// What has been counted.
    pub fn totals(&self) -> Totals {
        self.metrics.totals()
    }

    /// Whom a request with these headers would be taken for, and how their session stands if it is a visitor.
    pub async fn look(
        &self,
        headers: &HeaderMap,
    ) -> Result<(Recognised, Option<Life>), VaultError> {
        let recognised = recognise(&self.snapshot.load(), headers, self.now());
        let life = match recognised {
            Recognised::Visitor(key) => Some(self.manager.life(&key).await?),
            Recognised::New | Recognised::Nobody(_) => None,
        };
        Ok((recognised, life))
    }
}
