//! What must hold.

use crate::demand::{Demand, at_least, at_most, is};
use crate::fit::{Slope, fit, median};
use crate::gauge::{Quantity, Sample};
use crate::ground::Seen;
use crate::metrics::Metrics;
use crate::options::{Options, Scale};
use dressipi_sidecar::simulator::Totals;

/// What was found.
pub struct Evidence {
    pub scale: Scale,
    /// At rest before the load, under it, and at rest again.
    pub before: Vec<Sample>,
    pub load: Vec<Sample>,
    pub after: Vec<Sample>,
    pub seen: Seen,
    pub metrics: Metrics,
    pub totals: Totals,
    /// Lines of the log that tell of a panic.
    pub panics: u64,
    /// Whether the sidecar ended in time when it was told to.
    pub stopped: bool,
}

/// One quantity, as the table tells of it.
pub struct Line {
    pub quantity: Quantity,
    pub before: f64,
    /// The medians of the first and of the last fifth after the warm-up.
    pub first: f64,
    pub last: f64,
    pub after: f64,
    /// For a minute; for memory only.
    pub slope: Option<Slope>,
    pub bound: String,
    /// `None`: it is told and not judged.
    pub holds: Option<bool>,
}

/// Under the same load a count may differ by so much between two times.
const SWAY: f64 = 1.25;
const SWAY_LEAST: f64 = 12.0;
/// At rest there may be a few more: the connection of whoever asks, a thread that waits for work.
const REST: f64 = 6.0;

impl Evidence {
    /// The samples after the warm-up.
    pub fn steady(&self) -> &[Sample] {
        let warm = self.scale.warm_up.as_secs_f64() / 60.0;
        let first = self.load.partition_point(|sample| sample.at < warm);
        &self.load[first..]
    }

    pub fn lines(&self, options: &Options) -> Vec<Line> {
        Quantity::ALL
            .map(|quantity| self.line(options, quantity))
            .into()
    }

    fn line(&self, options: &Options, quantity: Quantity) -> Line {
        let middle = |samples: &[Sample]| median(samples.iter().map(|sample| sample.of(quantity)));
        let steady = self.steady();
        let fifth = steady.len().div_ceil(5);
        let (before, after) = (middle(&self.before), middle(&self.after));
        let (first, last) = (
            middle(&steady[..fifth]),
            middle(&steady[steady.len() - fifth..]),
        );
        let points = || {
            steady
                .iter()
                .map(|sample| (sample.at, sample.of(quantity)))
                .collect::<Vec<_>>()
        };
        let mut slope = None;
        let sways = first * SWAY + SWAY_LEAST;
        let (bound, holds) = match quantity {
            Quantity::Rss => {
                slope = fit(&points());
                let bound = self.scale.bound;
                let holds = slope.is_some_and(|slope| slope.least <= bound);
                (format!("no growth beyond {bound} KiB/min"), Some(holds))
            }
            Quantity::Anonymous | Quantity::Pss => {
                slope = fit(&points());
                (String::new(), None)
            }
            Quantity::Descriptors
            | Quantity::Threads
            | Quantity::ProxyTasks
            | Quantity::OauthTasks => (
                format!("at most {sways:.0}, at rest {:.0}", before + REST),
                Some(last <= sways && after <= before + REST),
            ),
            Quantity::Connections | Quantity::Flows | Quantity::Unsaved => (
                format!("at most {sways:.0}, at rest 0"),
                Some(last <= sways && after == 0.0),
            ),
            Quantity::Cached => {
                let most = steady
                    .iter()
                    .map(|sample| sample.of(quantity))
                    .fold(0.0, f64::max);
                let capacity = self.scale.cache as f64;
                // A newcomer is there before its place is: more at once than there are threads cannot be.
                let holds = most <= capacity + 4.0 && first >= capacity * 0.9;
                (
                    format!("full from the beginning, never above {capacity}"),
                    Some(holds),
                )
            }
            // What has expired is swept once a minute.
            Quantity::Sessions if !options.quick => {
                (format!("at most {sways:.0}"), Some(last <= sways))
            }
            // Every form of the configuration was in use by then.
            Quantity::Series if !options.quick => {
                (format!("at most {first:.0}"), Some(last <= first))
            }
            Quantity::Sessions | Quantity::Series | Quantity::Store => (String::new(), None),
        };
        Line {
            quantity,
            before,
            first,
            last,
            after,
            slope,
            bound,
            holds,
        }
    }

    /// Whether everything happened, and whether it happened rightly.
    pub fn demands(&self) -> Vec<Demand> {
        let Self {
            seen,
            totals,
            metrics,
            ..
        } = self;
        let event =
            |name: &str| metrics.sum("visitor_events_total", &[&format!("event=\"{name}\"")]);
        let (made, lost) = (event("profile_created"), event("authorize_unconfirmed"));
        let told = |what: &str, found: String| Demand {
            what: what.to_owned(),
            found,
            bound: String::new(),
            holds: None,
        };
        let list = |map: Vec<String>| {
            if map.is_empty() {
                "none".to_owned()
            } else {
                map.join(", ")
            }
        };
        let odd = seen.unexplained();
        let reloads =
            |result: &str| metrics.sum("config_reloads_total", &[&format!("result=\"{result}\"")]);
        let ordered = |fate: &str| seen.reloads.get(fate).copied().unwrap_or_default();
        vec![
            is(
                "another visitor's token, or another one's profile than before",
                seen.changed,
                0,
            ),
            is("neither a token nor a reason", seen.silent, 0),
            is(
                "a reason that nothing here explains",
                list(
                    odd.iter()
                        .map(|(why, count)| format!("{why} {count}"))
                        .collect(),
                ),
                "none".to_owned(),
            ),
            is(
                "the profile of somebody whom the sidecar was told to forget",
                seen.unforgotten,
                0,
            ),
            is(
                "bodies that did not arrive as they were sent",
                seen.damaged,
                0,
            ),
            is(
                "bots, probes and forged cookies with a profile; opt-outs that were not heard",
                seen.mistaken,
                0,
            ),
            at_most(
                "profiles made, beside answers to authorize calls that were lost",
                made,
                seen.lives + event("profile_wasted") + lost,
            ),
            at_most("profiles that Dressipi has", totals.profiles, made + lost),
            is("token sets lost", event("token_set_lost"), 0),
            is(
                "tokens of nobody's at Dressipi",
                totals.foreign_tokens_received,
                0,
            ),
            is("panics", self.panics, 0),
            is("the sidecar ended when it was told to", self.stopped, true),
            at_least("requests with a token", seen.personal, seen.requests / 2),
            at_least("visitors who came back", seen.came_back, 10),
            at_least("consents withdrawn", seen.withdrew, 3),
            at_least("bots' requests", seen.bots, 10),
            at_least("requests aborted", seen.aborted, 10),
            at_least("streams of HTTP/2", seen.streams, 10),
            // Two that come one upon the other may be taken together.
            at_least(
                "new configurations taken into use",
                reloads("ok"),
                ordered("used") / 2,
            ),
            at_least("bad ones refused", reloads("error"), ordered("refused") / 2),
            told("requests of visitors", seen.requests.to_string()),
            told(
                "without a token, by reason",
                list(
                    seen.anonymous
                        .iter()
                        .map(|(why, count)| format!("{why} {count}"))
                        .collect(),
                ),
            ),
            told(
                "of them in peace, of visitors who had one before",
                seen.anonymous_in_peace.to_string(),
            ),
            told(
                "errors of upstreams, by status (0: no answer)",
                list(
                    seen.failed
                        .iter()
                        .map(|(status, count)| format!("{status}: {count}"))
                        .collect(),
                ),
            ),
            told("of them in peace", seen.failed_in_peace.to_string()),
            told(
                "visitors who may cost a profile; profiles made; answers lost",
                format!("{}; {made}; {lost}", seen.lives),
            ),
            told(
                "slow readers, scrapes",
                format!("{}, {}", seen.slow, seen.scrapes),
            ),
            told(
                "tokens that expired on a way that was held up",
                totals.expired_tokens_received.to_string(),
            ),
            told(
                "faults of Dressipi's that met a request",
                list(
                    totals
                        .faults
                        .iter()
                        .map(|(name, count)| format!("{name} {count}"))
                        .collect(),
                ),
            ),
        ]
    }
}
