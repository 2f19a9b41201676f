//! What listens to the session manager: counts, and records OAuth calls where there are traces.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::metrics::Metrics;
use super::traces::Traces;
use crate::session::{Call, LeaseEvent, Note, Observer, StoreCall, Unavailable};
use crate::trace::SpanContext;

/// Metrics and traces.
pub struct Witness {
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Traces.
    pub traces: Traces,
}

impl Observer for Witness {
    fn oauth_call(&self, call: Call, result: &'static str, took: Duration) {
        self.metrics.oauth_call(call, result, took);
    }

    fn oauth_span(
        &self,
        call: Call,
        result: &'static str,
        begun: Instant,
        waiter: Option<SpanContext>,
    ) {
        if let Some(tracer) = self.traces.tracer() {
            tracer.oauth_call(call, result, begun, waiter);
        }
    }

    fn token_obtained(&self, lifetime: Duration) {
        self.metrics.token_obtained(lifetime);
    }

    fn store_call(&self, call: StoreCall, ok: bool, took: Duration) {
        self.metrics.store_call(call, ok, took);
    }

    fn note(&self, note: Note) {
        self.metrics.note(note);
    }

    fn flow_failed(&self, reason: Unavailable) {
        self.metrics.flow_failed(reason);
    }

    fn lease(&self, event: LeaseEvent) {
        self.metrics.lease(event);
    }

    fn news_missed(&self) {
        self.metrics.news_missed();
    }

    fn token_rejected(&self, refreshed: bool) {
        self.metrics.token_rejected(refreshed);
    }
}
