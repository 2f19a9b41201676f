//! PURE: what has been counted since the start, as far as people want to see it at a glance; and what of that came in between two
//! looks.

use std::collections::BTreeMap;
use std::time::Duration;

use prometheus::proto::MetricFamily;

/// What has been counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
    /// Requests that took a route, by route.
    pub routes: BTreeMap<String, u64>,
    /// The same by upstream, with those that failed: answered 5xx, or not at all.
    pub upstreams: BTreeMap<String, Answered>,
    /// Requests that went without a visitor's token, by reason.
    pub anonymous: BTreeMap<String, u64>,
    /// Requests that were malformed, ambiguous, too large or too slow.
    pub refused: u64,
    /// OAuth calls.
    pub oauth: BTreeMap<String, Answered>,
    /// Calls to the session store.
    pub store: Answered,
    /// What happened to visitors, by event.
    pub events: BTreeMap<String, u64>,
    /// How long requests took: how many took at most so many seconds, in ascending order; the last is infinite.
    pub durations: Vec<(f64, u64)>,
    /// How long the access token lives that came last; zero: none came yet.
    pub token_lifetime: Duration,
}

/// How many there were, and how many of them failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answered {
    /// All.
    pub all: u64,
    /// Those that failed.
    pub failed: u64,
}

const PREFIX: &str = "dressipi_sidecar_";

// === impl Totals ===

impl Totals {
    /// Reads them off the metrics.
    pub(super) fn of(families: &[MetricFamily]) -> Self {
        let mut totals = Self::default();
        for family in families {
            let name = family.name().strip_prefix(PREFIX).unwrap_or_default();
            for metric in family.get_metric() {
                let label = |wanted: &str| {
                    let labels = metric.get_label().iter();
                    let mut found = labels.filter(|label| label.name() == wanted);
                    found.next().map_or("", |label| label.value()).to_owned()
                };
                let count = || metric.get_counter().get_value() as u64;
                match name {
                    "requests_total" => {
                        let class = label("class");
                        let failed = class == "5xx" || class == "none";
                        *totals.routes.entry(label("route")).or_default() += count();
                        let upstream = totals.upstreams.entry(label("upstream")).or_default();
                        upstream.add(count(), failed);
                    }
                    "unpersonalised_requests_total" => {
                        *totals.anonymous.entry(label("reason")).or_default() += count();
                    }
                    "refused_requests_total" => totals.refused += count(),
                    "oauth_calls_total" => {
                        let call = totals.oauth.entry(label("call")).or_default();
                        call.add(count(), label("result") != "ok");
                    }
                    "store_calls_total" => totals.store.add(count(), label("result") != "ok"),
                    "visitor_events_total" => {
                        *totals.events.entry(label("event")).or_default() += count();
                    }
                    "request_duration_seconds" => {
                        let histogram = metric.get_histogram();
                        let bounds = histogram.get_bucket().iter();
                        let bounds =
                            bounds.map(|bucket| (bucket.upper_bound(), bucket.cumulative_count()));
                        totals.add_durations(bounds, histogram.get_sample_count());
                    }
                    "token_lifetime_seconds" => {
                        let seconds = metric.get_gauge().get_value().max(0.0);
                        totals.token_lifetime = Duration::from_secs(seconds as u64);
                    }
                    _ => {}
                }
            }
        }
        totals
    }

    fn add_durations(&mut self, bounds: impl Iterator<Item = (f64, u64)>, all: u64) {
        let buckets: Vec<_> = bounds
            .filter(|(bound, _)| bound.is_finite())
            .chain([(f64::INFINITY, all)])
            .collect();
        if self.durations.is_empty() {
            self.durations = buckets;
        } else {
            for (sum, (_, count)) in self.durations.iter_mut().zip(buckets) {
                sum.1 += count;
            }
        }
    }

    /// What came since `before`.
    pub fn since(&self, before: &Self) -> Self {
        let counts = |now: &BTreeMap<String, u64>, then: &BTreeMap<String, u64>| {
            now.iter()
                .map(|(name, count)| {
                    let before = then.get(name).copied().unwrap_or_default();
                    (name.clone(), count.saturating_sub(before))
                })
                .collect()
        };
        let answers = |now: &BTreeMap<String, Answered>, then: &BTreeMap<String, Answered>| {
            now.iter()
                .map(|(name, answered)| {
                    let before = then.get(name).copied().unwrap_or_default();
                    (name.clone(), answered.since(before))
                })
                .collect()
        };
        Self {
            routes: counts(&self.routes, &before.routes),
            upstreams: answers(&self.upstreams, &before.upstreams),
            anonymous: counts(&self.anonymous, &before.anonymous),
            refused: self.refused.saturating_sub(before.refused),
            oauth: answers(&self.oauth, &before.oauth),
            store: self.store.since(before.store),
            events: counts(&self.events, &before.events),
            durations: self
                .durations
                .iter()
                .enumerate()
                .map(|(index, (bound, count))| {
                    let before = before.durations.get(index).map_or(0, |(_, before)| *before);
                    (*bound, count.saturating_sub(before))
                })
                .collect(),
            token_lifetime: self.token_lifetime,
        }
    }

    /// All requests that took a route.
    pub fn requests(&self) -> u64 {
        self.routes.values().sum()
    }

    /// How often an event happened.
    pub fn event(&self, name: &str) -> u64 {
        self.events.get(name).copied().unwrap_or_default()
    }

    /// How many seconds at most the given share of the requests took: the bound of a bucket. `None`: there were none.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let (_, all) = *self.durations.last()?;
        let wanted = (all as f64 * share).ceil() as u64;
        let found = self.durations.iter().find(|(_, count)| *count >= wanted);
        found.filter(|_| all > 0).map(|(bound, _)| *bound)
    }
}

// === impl Answered ===

impl Answered {
    fn add(&mut self, count: u64, failed: bool) {
        self.all += count;
        if failed {
            self.failed += count;
        }
    }

    fn since(self, before: Self) -> Self {
        Self {
            all: self.all.saturating_sub(before.all),
            failed: self.failed.saturating_sub(before.failed),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::session::{Call, Note, Observer};
    use crate::telemetry::Metrics;

    #[test]
    fn what_the_metrics_counted_is_summed_and_told_apart_by_time() {
        let metrics = Metrics::new();
        assert_eq!(metrics.totals().requests(), 0);
        assert_eq!(metrics.totals().quantile(0.99), None);
        let (shop, api) = (
            metrics.route("/", "shop"),
            metrics.route("/api/", "dressipi"),
        );
        let took = Duration::from_millis(3);
        shop.exchange(Some(StatusCode::OK), took);
        shop.exchange(Some(StatusCode::BAD_GATEWAY), took);
        shop.exchange(None, took);
        api.exchange(Some(StatusCode::NOT_FOUND), Duration::from_millis(700));
        metrics.unpersonalised("/", "bot");
        metrics.oauth_call(Call::Refresh, "ok", took);
        metrics.oauth_call(Call::Refresh, "timeout", took);
        metrics.note(Note::ProfileCreated);
        metrics.token_obtained(Duration::from_secs(900));
        let first = metrics.totals();
        assert_eq!(first.requests(), 4);
        let answered = |all, failed| Answered { all, failed };
        assert_eq!(first.upstreams["shop"], answered(3, 2));
        assert_eq!(first.upstreams["dressipi"], answered(1, 0));
        assert_eq!(first.oauth["refresh"], answered(2, 1));
        assert_eq!(first.anonymous["bot"], 1);
        assert_eq!(first.event("profile_created"), 1);
        assert_eq!(first.token_lifetime, Duration::from_secs(900));
        assert_eq!(
            (first.quantile(0.5), first.quantile(0.99)),
            (Some(0.005), Some(1.0))
        );

        shop.exchange(Some(StatusCode::OK), took);
        metrics.unpersonalised("/", "opt-out");
        let since = metrics.totals().since(&first);
        assert_eq!(
            (since.requests(), since.upstreams["shop"]),
            (1, answered(1, 0))
        );
        assert_eq!((since.anonymous["bot"], since.anonymous["opt-out"]), (0, 1));
        assert_eq!(since.quantile(0.99), Some(0.005));
    }
}
