//! What is counted of every request: how it was answered, and how long it took. The registry's own counters and histograms are one number
//! each, for which all workers would contend; these are read off their shards when somebody scrapes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::StatusCode;
use parking_lot::Mutex;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, Counter, Histogram, LabelPair, Metric, MetricFamily, MetricType};

use super::exemplars::RouteExemplars;
use super::openmetrics::Exemplar;
use super::shards::{Shard, Sharded};
use crate::trace::TraceId;

/// The requests of all routes. Clones are the same.
#[derive(Clone)]
pub(super) struct Requests(Arc<Shared>);

struct Shared {
    total: Desc,
    duration: Desc,
    /// By route and upstream, which a reload does not forget.
    routes: Mutex<BTreeMap<(String, String), Arc<Route>>>,
}

/// The requests of one route and upstream.
pub(super) struct Route {
    numbers: Sharded<NUMBERS>,
    exemplars: RouteExemplars,
}

/// By hundreds of the status; the first: the client was gone.
const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];
/// Upper bounds, in seconds.
const BUCKETS: [f64; 12] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
];
/// The classes; then the buckets, the last of which has no bound; then the sum of the durations, in nanoseconds.
const NUMBERS: usize = CLASSES.len() + BUCKETS.len() + 2;
const SUM: usize = NUMBERS - 1;

const LABELS: [&str; 2] = ["route", "upstream"];

// === impl Requests ===

impl Requests {
    /// `total` and `duration`: names with their help.
    pub(super) fn new(total: (String, &str), duration: (String, &str)) -> Self {
        let desc = |(name, help): (String, &str), labels: &[&str]| {
            let labels = labels.iter().map(|label| (*label).to_owned());
            Desc::new(name, help.to_owned(), labels.collect(), HashMap::new())
                .expect("the names and labels in this file are well-formed")
        };
        Self(Arc::new(Shared {
            total: desc(total, &[LABELS[0], LABELS[1], "class"]),
            duration: desc(duration, &LABELS),
            routes: Mutex::default(),
        }))
    }

    /// Those of a route.
    pub(super) fn of(&self, route: &str, upstream: &str) -> Arc<Route> {
        let mut routes = self.0.routes.lock();
        let found = routes.entry((route.to_owned(), upstream.to_owned()));
        found.or_insert_with(|| Arc::new(Route::new())).clone()
    }

    /// The exemplar of a bucket of a route's durations.
    pub(super) fn exemplar(&self, route: &str, upstream: &str, bucket: usize) -> Option<Exemplar> {
        let routes = self.0.routes.lock();
        let found = routes.get(&(route.to_owned(), upstream.to_owned()))?;
        found.exemplars.find(bucket)
    }
}

impl Collector for Requests {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.0.total, &self.0.duration]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let (mut totals, mut durations) = (Vec::new(), Vec::new());
        for ((route, upstream), numbers) in &*self.0.routes.lock() {
            let numbers = numbers.numbers.sums();
            let (classes, durations_of) = numbers.split_at(CLASSES.len());
            for (class, count) in CLASSES.into_iter().zip(classes) {
                let mut counter = Counter::default();
                counter.set_value(*count as f64);
                // In the order of the alphabet, as the registry's own are.
                let mut metric = Metric::from_label(vec![
                    pair("class", class),
                    pair(LABELS[0], route),
                    pair(LABELS[1], upstream),
                ]);
                metric.set_counter(counter);
                totals.push(metric);
            }
            let mut metric =
                Metric::from_label(vec![pair(LABELS[0], route), pair(LABELS[1], upstream)]);
            metric.set_histogram(histogram(durations_of));
            durations.push(metric);
        }
        vec![
            family(&self.0.total, MetricType::COUNTER, totals),
            family(&self.0.duration, MetricType::HISTOGRAM, durations),
        ]
    }
}

/// Of the counts of buckets, and the sum.
fn histogram(numbers: &[u64]) -> Histogram {
    let mut cumulative = 0;
    let mut buckets = Vec::with_capacity(BUCKETS.len());
    for (bound, count) in BUCKETS.into_iter().zip(numbers) {
        cumulative += count;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(bound);
        bucket.set_cumulative_count(cumulative);
        buckets.push(bucket);
    }
    let mut histogram = Histogram::default();
    histogram.set_sample_count(cumulative + numbers[BUCKETS.len()]);
    histogram.set_sample_sum(Duration::from_nanos(numbers[BUCKETS.len() + 1]).as_secs_f64());
    histogram.set_bucket(buckets);
    histogram
}

fn pair(name: &str, value: &str) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}

fn family(desc: &Desc, kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(desc.fq_name.clone());
    family.set_help(desc.help.clone());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

// === impl Route ===

impl Route {
    fn new() -> Self {
        Self {
            numbers: Sharded::new(),
            exemplars: RouteExemplars::new(&BUCKETS),
        }
    }

    /// A request that ended with `status`, or whose client was gone.
    pub(super) fn exchange(&self, status: Option<StatusCode>, took: Duration) {
        let numbers = self.numbers.at(Shard::here());
        let class = status.map_or(0, |status| usize::from(status.as_u16() / 100));
        if class < CLASSES.len() {
            numbers[class].fetch_add(1, Ordering::Relaxed);
        }
        let bucket = CLASSES.len() + bucket(took);
        numbers[bucket].fetch_add(1, Ordering::Relaxed);
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        numbers[SUM].fetch_add(nanos, Ordering::Relaxed);
    }

    pub(super) fn exemplar(&self, trace: TraceId, took: Duration) {
        self.exemplars.note(trace, took, bucket(took));
    }
}

/// The first bucket whose bound is not below `took`.
fn bucket(took: Duration) -> usize {
    let seconds = took.as_secs_f64();
    BUCKETS.partition_point(|bound| *bound < seconds)
}

#[cfg(test)]
mod tests {
    use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry, TextEncoder};
    use proptest::prelude::*;

    use super::*;

    fn text(registry: &Registry) -> String {
        TextEncoder::new()
            .encode_to_string(&registry.gather())
            .unwrap()
    }

    proptest! {
        /// Whoever scrapes sees what the library's own metrics would show.
        #[test]
        fn they_are_told_as_the_registrys_own_are(
            requests in prop::collection::vec((0..3_usize, prop::option::of(100..600_u16), 0..8_000_000_u64), 0..60),
        ) {
            let (ours, theirs) = (Registry::new(), Registry::new());
            let mine = Requests::new(("a_total".into(), "How many."), ("b_seconds".into(), "How long."));
            ours.register(Box::new(mine.clone())).unwrap();
            let total = IntCounterVec::new(Opts::new("a_total", "How many."), &["route", "upstream", "class"]).unwrap();
            let opts = HistogramOpts::new("b_seconds", "How long.").buckets(BUCKETS.to_vec());
            let duration = HistogramVec::new(opts, &LABELS).unwrap();
            theirs.register(Box::new(total.clone())).unwrap();
            theirs.register(Box::new(duration.clone())).unwrap();
            for (place, status, micros) in requests {
                let (route, upstream) = [("/", "shop"), ("/api/", "dressipi"), ("/\"x\"", "shop")][place];
                // Powers of two, so that sums of floating-point numbers do not depend on the order.
                let took = Duration::from_micros(micros / 15_625 * 15_625);
                let status = status.map(|status| StatusCode::from_u16(status).unwrap());
                mine.of(route, upstream).exchange(status, took);
                for class in CLASSES {
                    total.with_label_values(&[route, upstream, class]);
                }
                let class = CLASSES[status.map_or(0, |status| usize::from(status.as_u16() / 100))];
                total.with_label_values(&[route, upstream, class]).inc();
                duration.with_label_values(&[route, upstream]).observe(took.as_secs_f64());
            }
            prop_assert_eq!(text(&ours), text(&theirs));
        }
    }

    #[test]
    fn a_status_that_no_class_has_is_counted_by_its_duration_only() {
        let requests = Requests::new(("a_total".into(), "a"), ("b_seconds".into(), "b"));
        let route = requests.of("/", "shop");
        route.exchange(StatusCode::from_u16(999).ok(), Duration::from_secs(9));
        let [total, duration] = &requests.collect()[..] else {
            panic!("two families");
        };
        let counted = total.get_metric().iter();
        assert!(
            counted
                .map(|one| one.get_counter().get_value())
                .all(|count| count == 0.0)
        );
        assert_eq!(
            duration.get_metric()[0].get_histogram().get_sample_count(),
            1
        );
    }
}
