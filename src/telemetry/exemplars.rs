//! The last traced request of each bucket of a route's latency. The formats of metrics have a place for them beside the bucket: as many as
//! there are routes and buckets. Whoever is not traced never comes here.

use std::time::Duration;

use parking_lot::Mutex;

use super::openmetrics::Exemplar;
use crate::clock::unix_time;
use crate::trace::TraceId;

/// One for each bucket, the last without a bound.
pub(super) struct RouteExemplars(Mutex<Vec<Option<Exemplar>>>);

// === impl RouteExemplars ===

impl RouteExemplars {
    pub(super) fn new(bounds: &[f64]) -> Self {
        Self(Mutex::new(vec![None; bounds.len() + 1]))
    }

    /// That of a bucket.
    pub(super) fn find(&self, bucket: usize) -> Option<Exemplar> {
        *self.0.lock().get(bucket)?
    }

    pub(super) fn note(&self, trace: TraceId, took: Duration, bucket: usize) {
        if let Some(last) = self.0.lock().get_mut(bucket) {
            *last = Some(Exemplar {
                trace,
                value: took.as_secs_f64(),
                at: unix_time(),
            });
        }
    }
}
