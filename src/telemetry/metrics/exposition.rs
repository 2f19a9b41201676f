//! What a scraper gets: Prometheus' text format, or OpenMetrics for whoever prefers that, with the gauges as they are at that moment.

use prometheus::{Encoder, TextEncoder};

use super::super::openmetrics;
use super::{Metrics, clamp};
use crate::clock::Timestamp;
use crate::session::Census;

/// What the gauges show.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reading {
    /// The time by the clock that counts.
    pub now: Timestamp,
    /// Connections of clients.
    pub connections: usize,
    /// Profiles that were made in the present day of UTC.
    pub created_today: u64,
    /// How many may be made in a day; `None`: as many as come.
    pub daily_limit: Option<u64>,
    /// Exchanges in flight.
    pub in_flight: usize,
    /// Flows under way.
    pub flows: usize,
    /// Visitors in the in-process cache.
    pub cached: u64,
    /// Sessions that could not be written yet.
    pub unsaved: u64,
    /// Tasks that are alive, by runtime.
    pub tasks: [(&'static str, usize); 3],
    /// Stored visitor sessions by state; `None` if the store does not say.
    pub census: Option<Census>,
}

/// What a scraper gets.
pub struct Exposition {
    /// Its media type.
    pub content_type: &'static str,
    /// The metrics.
    pub text: String,
}

impl Metrics {
    /// All metrics in the format that fits `accept`, with the gauges showing `reading`: Prometheus' text format, or OpenMetrics, which
    /// has exemplars.
    pub fn expose(&self, accept: &str, reading: Reading) -> Exposition {
        if !openmetrics::is_wanted(accept) {
            return Exposition {
                content_type: "text/plain; version=0.0.4; charset=utf-8",
                text: self.render(reading),
            };
        }
        self.show(reading);
        let find = |name: &str, metric: &prometheus::proto::Metric, bucket| {
            let labels = metric.get_label();
            let value = |wanted| labels.iter().find(|label| label.name() == wanted);
            let (route, upstream) = (value("route")?, value("upstream")?);
            let found = self
                .requests
                .exemplar(route.value(), upstream.value(), bucket);
            found.filter(|_| name.ends_with("_request_duration_seconds"))
        };
        Exposition {
            content_type: openmetrics::CONTENT_TYPE,
            text: openmetrics::render(&self.registry.gather(), &find),
        }
    }

    /// All metrics in Prometheus' text format, with the gauges showing `reading`.
    pub fn render(&self, reading: Reading) -> String {
        self.show(reading);
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "metrics cannot be rendered");
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Has the gauges show `reading`.
    fn show(&self, reading: Reading) {
        let gauges = &self.gauges;
        gauges.in_flight.set(clamp(reading.in_flight as u64));
        gauges.flows.set(clamp(reading.flows as u64));
        gauges.cached.set(clamp(reading.cached));
        gauges.unsaved.set(clamp(reading.unsaved));
        gauges.connections.set(clamp(reading.connections as u64));
        gauges.created_today.set(clamp(reading.created_today));
        gauges
            .daily_limit
            .set(clamp(reading.daily_limit.unwrap_or(0)));
        gauges.time.set(clamp(reading.now.as_secs()));
        for (runtime, alive) in reading.tasks {
            let gauge = self.runtime_tasks.with_label_values(&[runtime]);
            gauge.set(clamp(alive as u64));
        }
        if let Some(census) = reading.census {
            for (state, count) in [
                ("unconfirmed", census.unconfirmed),
                ("granted", census.granted),
                ("active", census.active),
                ("lost", census.lost),
            ] {
                self.sessions.with_label_values(&[state]).set(clamp(count));
            }
        }
    }
}
