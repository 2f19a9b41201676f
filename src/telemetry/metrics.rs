//! The catalogue of metrics. Label values come from fixed lists or the configuration, never from requests. Where the
//! values are known at the start, their series are there from the start, as zeros: what appears with its first event has no increase.

mod exposition;
mod presets;

pub use exposition::{Exposition, Reading};

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::StatusCode;
use prometheus::{
    HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use super::requests::{Requests, Route};
use super::totals::Totals;
use crate::clock::Timestamp;
use crate::session::{Call, LeaseEvent, Note, Observer, StoreCall, Unavailable};
use crate::trace::TraceId;

/// All metrics of the process.
pub struct Metrics {
    registry: Registry,
    start: IntGauge,
    requests: Requests,
    unrouted: IntCounter,
    refused: IntCounterVec,
    connections_refused: IntCounterVec,
    config_reloads: IntCounterVec,
    config_good: IntGauge,
    config_since: IntGauge,
    certificate_reloads: IntCounterVec,
    certificate_expiry: IntGaugeVec,
    client_certificate_expiry: IntGaugeVec,
    unpersonalised: IntCounterVec,
    replays: IntCounter,
    adopted: IntCounter,
    access_lines_dropped: IntCounter,
    trace_spans: IntCounterVec,
    trace_retries: IntCounter,
    rejections: IntCounterVec,
    oauth_calls: IntCounterVec,
    oauth_duration: HistogramVec,
    token_lifetime: IntGauge,
    store_calls: IntCounterVec,
    store_duration: HistogramVec,
    visitor_events: IntCounterVec,
    flow_failures: IntCounterVec,
    leases: IntCounterVec,
    news_gaps: IntCounter,
    sessions: IntGaugeVec,
    runtime_tasks: IntGaugeVec,
    gauges: Gauges,
}

/// Values that are read when they are asked for.
struct Gauges {
    in_flight: IntGauge,
    flows: IntGauge,
    cached: IntGauge,
    unsaved: IntGauge,
    connections: IntGauge,
    created_today: IntGauge,
    daily_limit: IntGauge,
    time: IntGauge,
}

/// The counters of one route, looked up once.
pub struct RouteMetrics(Arc<Route>);

const CALL_BUCKETS: [f64; 10] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
const STORE_BUCKETS: [f64; 9] = [
    0.000_05, 0.000_25, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0,
];

/// Registers what it makes, under the product's prefix.
struct Registrar<'a>(&'a Registry);

impl Registrar<'_> {
    fn keep<C: prometheus::core::Collector + Clone + 'static>(
        &self,
        collector: prometheus::Result<C>,
    ) -> C {
        let collector = collector.expect("the names and labels in this file are well-formed");
        self.0
            .register(Box::new(collector.clone()))
            .expect("each name in this file is there once");
        collector
    }

    fn named<'a>(name: &str, help: &'a str) -> (String, &'a str) {
        (format!("dressipi_sidecar_{name}"), help)
    }

    fn opts(name: &str, help: &str) -> Opts {
        let (name, help) = Self::named(name, help);
        Opts::new(name, help)
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.keep(IntCounter::with_opts(Self::opts(name, help)))
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.keep(IntCounterVec::new(Self::opts(name, help), labels))
    }

    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.keep(IntGauge::with_opts(Self::opts(name, help)))
    }

    fn histograms(&self, name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> HistogramVec {
        let opts = HistogramOpts::from(Self::opts(name, help)).buckets(buckets.to_vec());
        self.keep(HistogramVec::new(opts, labels))
    }
}

// === impl Metrics ===

impl Metrics {
    /// A fresh set, with a registry of its own.
    pub fn new() -> Self {
        let registry = Registry::new();
        let new = Registrar(&registry);
        let build = new.keep(IntGaugeVec::new(
            Registrar::opts("build_info", "The version that runs; always 1."),
            &["version"],
        ));
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let metrics = Self {
            start: new.gauge("start_time_seconds", "When the process began, in seconds since 1970."),
            requests: new.keep(Ok(Requests::new(
                Registrar::named("requests_total", "Requests by route, upstream and status class."),
                Registrar::named("request_duration_seconds", "From a request's header to the end of its answer."),
            ))),
            unrouted: new.counter("unrouted_requests_total", "Requests that no route takes, answered 404."),
            refused: new.counters("refused_requests_total", "Requests that are malformed, ambiguous, too large or too slow, and were not forwarded, by reason.", &["reason"]),
            connections_refused: new.counters("refused_connections_total", "Connections that were closed before their first request: there were too many, or TLS was not agreed upon in time or at all.", &["limit"]),
            config_reloads: new.counters("config_reloads_total", "Times that the configuration was read anew: ok, error, or restart where it has changes that need one.", &["result"]),
            config_good: new.gauge("config_last_reload_successful", "Whether the configuration that is in the file is the one in use."),
            config_since: new.gauge("config_last_reload_success_timestamp_seconds", "Since when the configuration is in use, in seconds since 1970."),
            certificate_reloads: new.counters("certificate_reloads_total", "Times that a listener's certificate files were new, and whether they could be used.", &["result"]),
            certificate_expiry: new.keep(IntGaugeVec::new(Registrar::opts("certificate_expiry_seconds", "When the certificate in use ends, in seconds since 1970, by listener."), &["listener"])),
            client_certificate_expiry: new.keep(IntGaugeVec::new(Registrar::opts("client_certificate_expiry_seconds", "When the certificate ends that we show to an upstream, in seconds since 1970; `session.redis` is the store."), &["upstream"])),
            unpersonalised: new.counters("unpersonalised_requests_total", "Requests on routes with `credentials = \"visitor\"` that went without a token, by reason.", &["route", "reason"]),
            replays: new.counter("replayed_requests_total", "Requests that were sent once more with another token after a 401 or 403."),
            adopted: new.counter("adopted_token_requests_total", "Requests that went with the vendor's token that their visitor carries, in place of a profile of ours."),
            access_lines_dropped: new.counter("access_lines_dropped_total", "Access log lines that were dropped because standard error did not take them fast enough."),
            trace_spans: new.counters("trace_spans_total", "Spans: exported, rejected by the collector, failed because it did not answer, or dropped because too many waited.", &["result"]),
            trace_retries: new.counter("trace_export_retries_total", "Times that the same spans were sent once more, since the collector could not take them."),
            rejections: new.counters("token_rejections_total", "Answers 401 and 403 to a visitor's token, and whether another token was fetched for it.", &["action"]),
            oauth_calls: new.counters("oauth_calls_total", "OAuth calls to Dressipi by kind and result. Each `authorize` with result `ok` made a profile.", &["call", "result"]),
            oauth_duration: new.histograms("oauth_call_duration_seconds", "How long OAuth calls take.", &["call"], &CALL_BUCKETS),
            token_lifetime: new.gauge("token_lifetime_seconds", "How long the access token lives that Dressipi gave last; 0: none yet."),
            store_calls: new.counters("store_calls_total", "Calls to the session store by kind and result.", &["call", "result"]),
            store_duration: new.histograms("store_call_duration_seconds", "How long calls to the session store take.", &["call"], &STORE_BUCKETS),
            visitor_events: new.counters("visitor_events_total", "What happened to visitors: cookies minted, profiles created and wasted, authorize answers lost, token sets lost, refresh tokens salvaged, sessions recovered, erased.", &["event"]),
            flow_failures: new.counters("flow_failures_total", "Flows that ended without a token, by reason.", &["reason"]),
            leases: new.counters("leases_total", "Leases of visitors on a store that replicas share: taken, held by another flow, ended under a flow at work.", &["event"]),
            news_gaps: new.counter("news_gaps_total", "Times that news of other replicas may have been missed, and every cached token was looked up anew."),
            sessions: new.keep(IntGaugeVec::new(Registrar::opts("sessions", "Stored visitor sessions by state."), &["state"])),
            runtime_tasks: new.keep(IntGaugeVec::new(Registrar::opts("runtime_tasks", "Tasks that are alive, by runtime: `proxy` has connections of clients, `main` the admin listener and what is done every so often, `oauth` flows and connections to Dressipi."), &["runtime"])),
            gauges: Gauges {
                in_flight: new.gauge("requests_in_flight", "Requests that are being answered."),
                flows: new.gauge("flows_in_flight", "Visitors for whom OAuth or store work is under way."),
                cached: new.gauge("cached_visitors", "Visitors in the in-process cache."),
                unsaved: new.gauge("unsaved_sessions", "Visitor sessions that are newer than the store's because it could not be written."),
                connections: new.gauge("open_connections", "Connections of clients."),
                created_today: new.gauge("creations_today", "Profiles that this process has begun to make in the present day of UTC."),
                daily_limit: new.gauge("creation_daily_limit", "How many profiles this process may make in a day of UTC; 0: as many as come."),
                time: new.gauge("time_seconds", "The time by the clock that counts for tokens and cookies, in seconds since 1970."),
            },
            registry,
        };
        metrics.preset();
        metrics
    }

    /// The counters of a route.
    pub fn route(&self, route: &str, upstream: &str) -> RouteMetrics {
        RouteMetrics(self.requests.of(route, upstream))
    }

    /// The process began at `now`.
    pub fn started(&self, now: Timestamp) {
        self.start.set(clamp(now.as_secs()));
    }

    /// A request that no route takes.
    pub fn unrouted(&self) {
        self.unrouted.inc();
    }

    /// A request that goes no further.
    pub fn request_refused(&self, reason: &'static str) {
        self.refused.with_label_values(&[reason]).inc();
    }

    /// A connection that was closed at once.
    pub fn connection_refused(&self, limit: &'static str) {
        self.connections_refused.with_label_values(&[limit]).inc();
    }

    /// The configuration was read anew.
    pub fn config_reloaded(&self, result: &'static str) {
        self.config_reloads.with_label_values(&[result]).inc();
        self.config_good.set(0);
    }

    /// The configuration that is in use from `now` on.
    pub fn config_in_use(&self, now: Timestamp) {
        self.config_good.set(1);
        self.config_since.set(clamp(now.as_secs()));
    }

    /// New certificate files were judged.
    pub fn certificate_reloaded(&self, result: &'static str) {
        self.certificate_reloads.with_label_values(&[result]).inc();
    }

    /// The certificate that a listener shows, and when it ends.
    pub fn certificate_expires(&self, listener: &str, expires: SystemTime) {
        self.certificate_expiry
            .with_label_values(&[listener])
            .set(since_1970(expires));
    }

    /// A certificate that we show to `upstream`, and when it ends; `None`: none any more.
    pub fn client_certificate(&self, upstream: &str, expires: Option<SystemTime>) {
        let gauge = &self.client_certificate_expiry;
        match expires {
            Some(expires) => gauge
                .with_label_values(&[upstream])
                .set(since_1970(expires)),
            // An error says that there was none.
            None => drop(gauge.remove_label_values(&[upstream])),
        }
    }

    /// A request that went without the token that its route would add.
    pub fn unpersonalised(&self, route: &str, reason: &'static str) {
        self.unpersonalised
            .with_label_values(&[route, reason])
            .inc();
    }

    /// A client without a visitor cookie was given one.
    pub fn visitor_minted(&self) {
        self.visitor_events
            .with_label_values(&[presets::MINTED])
            .inc();
    }

    /// A request that was sent twice.
    pub fn replayed(&self) {
        self.replays.inc();
    }

    /// A request that goes with the token that its visitor brought along.
    pub fn adopted(&self) {
        self.adopted.inc();
    }

    /// A line of the access log for which there was no room.
    pub fn access_line_dropped(&self) {
        self.access_lines_dropped.inc();
    }

    /// What became of spans.
    pub fn spans(&self, result: &'static str, count: u64) {
        self.trace_spans.with_label_values(&[result]).inc_by(count);
    }

    /// Spans are sent once more.
    pub fn export_retried(&self) {
        self.trace_retries.inc();
    }

    /// What has been counted so far, as far as the status page tells of it.
    pub fn totals(&self) -> Totals {
        Totals::of(&self.registry.gather())
    }
}

fn clamp(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn since_1970(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    clamp(since.unwrap_or_default().as_secs())
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Observer for Metrics {
    fn oauth_call(&self, call: Call, result: &'static str, took: Duration) {
        self.oauth_calls
            .with_label_values(&[call.label(), result])
            .inc();
        self.oauth_duration
            .with_label_values(&[call.label()])
            .observe(took.as_secs_f64());
    }

    fn token_obtained(&self, lifetime: Duration) {
        self.token_lifetime.set(clamp(lifetime.as_secs()));
    }

    fn store_call(&self, call: StoreCall, ok: bool, took: Duration) {
        let result = if ok { "ok" } else { "error" };
        self.store_calls
            .with_label_values(&[call.label(), result])
            .inc();
        self.store_duration
            .with_label_values(&[call.label()])
            .observe(took.as_secs_f64());
    }

    fn note(&self, note: Note) {
        let event = note.label();
        self.visitor_events.with_label_values(&[event]).inc();
    }

    fn flow_failed(&self, reason: Unavailable) {
        self.flow_failures
            .with_label_values(&[reason.label()])
            .inc();
    }

    fn lease(&self, event: LeaseEvent) {
        self.leases.with_label_values(&[event.label()]).inc();
    }

    fn news_missed(&self) {
        self.news_gaps.inc();
    }

    fn token_rejected(&self, refreshed: bool) {
        let action = if refreshed { "refreshed" } else { "ignored" };
        self.rejections.with_label_values(&[action]).inc();
    }
}

// === impl RouteMetrics ===

impl RouteMetrics {
    /// A request that ended with `status`, or whose client was gone.
    pub fn exchange(&self, status: Option<StatusCode>, took: Duration) {
        self.0.exchange(status, took);
    }

    /// The trace of such a request, if it has one.
    pub fn exemplar(&self, trace: TraceId, took: Duration) {
        self.0.exemplar(trace, took);
    }
}
