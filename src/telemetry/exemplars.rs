//! The last traced request of each bucket of a route's latency. The registry's histograms have no place for them, so they lie beside it:
//! as many as there are routes and buckets. Whoever is not traced never comes here.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::openmetrics::Exemplar;
use crate::clock::unix_time;
use crate::trace::TraceId;

/// Exemplars by route and upstream.
#[derive(Default)]
pub(super) struct Exemplars(Mutex<HashMap<(String, String), Arc<RouteExemplars>>>);

/// One for each bucket, the last without a bound.
pub(super) struct RouteExemplars {
    bounds: &'static [f64],
    last: Mutex<Vec<Option<Exemplar>>>,
}

// === impl Exemplars ===

impl Exemplars {
    /// Those of a route, which a reload does not forget.
    pub(super) fn of(
        &self,
        route: &str,
        upstream: &str,
        bounds: &'static [f64],
    ) -> Arc<RouteExemplars> {
        let mut all = self.0.lock();
        let found = all.entry((route.to_owned(), upstream.to_owned()));
        found
            .or_insert_with(|| {
                Arc::new(RouteExemplars {
                    bounds,
                    last: Mutex::new(vec![None; bounds.len() + 1]),
                })
            })
            .clone()
    }

    /// That of a bucket.
    pub(super) fn find(&self, route: &str, upstream: &str, bucket: usize) -> Option<Exemplar> {
        let all = self.0.lock();
        let found = all.get(&(route.to_owned(), upstream.to_owned()))?;
        *found.last.lock().get(bucket)?
    }
}

// === impl RouteExemplars ===

impl RouteExemplars {
    pub(super) fn note(&self, trace: TraceId, took: Duration) {
        let value = took.as_secs_f64();
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.last.lock()[bucket] = Some(Exemplar {
            trace,
            value,
            at: unix_time(),
        });
    }
}
