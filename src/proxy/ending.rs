//! What is written down of an exchange at its end: its access line, and its trace.

use std::time::Duration;

use http::StatusCode;
use pingora::Error;
use pingora::http::RequestHeader;
use rand::RngExt;

use super::context::Exchange;
use super::route;
use super::service::Proxy;
use crate::telemetry::AccessLine;

/// What is known of an exchange at its end, beside its context.
pub(super) struct End<'a> {
    pub(super) request: &'a RequestHeader,
    /// The status that the client got, if it got one.
    pub(super) status: Option<StatusCode>,
    pub(super) error: Option<&'a Error>,
    pub(super) took: Duration,
    /// Bytes of the answer's body.
    pub(super) sent: usize,
}

/// Whether one of the requests is among those of which so many are.
fn is_in(sample: Option<f64>) -> bool {
    sample.is_none_or(|part| rand::rng().random::<f64>() < part)
}

impl Proxy {
    /// Writes the access line, if it is to have one: all that failed are, whatever the sample.
    pub(super) fn write_access_line(&self, ctx: &Exchange, end: &End<'_>) {
        if !ctx.snapshot.access_log {
            return;
        }
        let refusal = ctx.rescue.and_then(|rescue| rescue.refusal);
        let no_answer = end.status.is_none_or(|status| status.is_server_error());
        let failed = end.error.is_some() || no_answer || refusal.is_some();
        if !failed && !is_in(ctx.snapshot.access_sample) {
            return;
        }
        let path = route::path(end.request.raw_path());
        self.0.access_log.write(AccessLine {
            at: self.0.clock.now(),
            method: end.request.method.clone(),
            path: String::from_utf8_lossy(path).into_owned(),
            status: end.status.map(|status| status.as_u16()),
            route: ctx.route().map(|(_, rules)| rules.name.clone()),
            visitor: ctx.visitor.key().copied(),
            token: ctx.visitor.label(),
            took: end.took,
            upstream: ctx.upstream_took,
            trace: ctx.traced.sampled(),
            sent: end.sent,
            error: end
                .error
                .filter(|_| ctx.rescue.is_none())
                .map(|error| error.etype().as_str().to_owned())
                .or_else(|| refusal.map(|refusal| format!("refused: {refusal}"))),
        });
    }

    /// Hands the trace over, if it is recorded, and shows it beside the latency.
    pub(super) fn end_trace(&self, ctx: &mut Exchange, end: &End<'_>) {
        let Some(trace) = ctx.traced.sampled() else {
            return;
        };
        if let Some((_, rules)) = ctx.route() {
            rules.metrics.exemplar(trace, end.took);
        }
        let listener = ctx.snapshot.listeners.get(self.0.listener);
        let scheme = listener.map_or("http", |listener| listener.scheme_name());
        ctx.end_trace(end, scheme);
    }
}
