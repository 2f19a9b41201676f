//! What the sidecar takes of the machine, second by second: as the system tells it, and as the sidecar does.

use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::metrics::Metrics;
use crate::sidecar::Sidecar;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantity {
    Rss,
    Anonymous,
    Pss,
    Descriptors,
    Threads,
    ProxyTasks,
    OauthTasks,
    Connections,
    Flows,
    Cached,
    Unsaved,
    Sessions,
    Store,
    Series,
}

/// Everything at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Minutes since the load began.
    pub at: f64,
    values: [f64; Quantity::ALL.len()],
}

const INTERVAL: Duration = Duration::from_secs(1);
/// So many make up what there is at rest.
const AT_REST: usize = 4;

// === impl Quantity ===

impl Quantity {
    pub const ALL: [Self; 14] = [
        Self::Rss,
        Self::Anonymous,
        Self::Pss,
        Self::Descriptors,
        Self::Threads,
        Self::ProxyTasks,
        Self::OauthTasks,
        Self::Connections,
        Self::Flows,
        Self::Cached,
        Self::Unsaved,
        Self::Sessions,
        Self::Store,
        Self::Series,
    ];

    /// What the table calls it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Rss => "memory, KiB (VmRSS)",
            Self::Anonymous => "of it not from files (RssAnon)",
            Self::Pss => "memory, KiB (Pss)",
            Self::Descriptors => "file descriptors",
            Self::Threads => "threads",
            Self::ProxyTasks => "tasks, proxy and main",
            Self::OauthTasks => "tasks, oauth",
            Self::Connections => "connections of clients",
            Self::Flows => "flows",
            Self::Cached => "cached visitors",
            Self::Unsaved => "unsaved sessions",
            Self::Sessions => "stored sessions",
            Self::Store => "store's file, KiB",
            Self::Series => "series of metrics",
        }
    }
}

// === impl Sample ===

impl Sample {
    /// `begun`: when the load began, or will.
    pub async fn take(sidecar: &Sidecar, store: &Path, begun: Instant) -> Self {
        let metrics = Metrics::read(sidecar.admin).await;
        let process = format!("/proc/{}", sidecar.pid());
        let read = |name: &str| {
            std::fs::read_to_string(format!("{process}/{name}")).expect("the sidecar runs")
        };
        let (status, rollup) = (read("status"), read("smaps_rollup"));
        let number = |text: &str, name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let digits = line.unwrap_or_default().trim().trim_end_matches(" kB");
            digits.parse().expect("a number")
        };
        let gauge = |name: &str, labels: &[&str]| metrics.sum(name, labels) as f64;
        let descriptors = std::fs::read_dir(format!("{process}/fd"))
            .expect("our own child")
            .count();
        let stored = std::fs::metadata(store).map_or(0, |file| file.len());
        let value = |quantity| match quantity {
            Quantity::Rss => number(&status, "VmRSS:"),
            Quantity::Anonymous => number(&status, "RssAnon:"),
            Quantity::Pss => number(&rollup, "Pss:"),
            Quantity::Descriptors => descriptors as f64,
            Quantity::Threads => number(&status, "Threads:"),
            Quantity::ProxyTasks => {
                gauge("runtime_tasks", &["runtime=\"proxy\""])
                    + gauge("runtime_tasks", &["runtime=\"main\""])
            }
            Quantity::OauthTasks => gauge("runtime_tasks", &["runtime=\"oauth\""]),
            Quantity::Connections => gauge("open_connections", &[]),
            Quantity::Flows => gauge("flows_in_flight", &[]),
            Quantity::Cached => gauge("cached_visitors", &[]),
            Quantity::Unsaved => gauge("unsaved_sessions", &[]),
            Quantity::Sessions => gauge("sessions", &[]),
            Quantity::Store => stored as f64 / 1024.0,
            Quantity::Series => metrics.series() as f64,
        };
        Self {
            at: begun.elapsed().as_secs_f64() / 60.0,
            values: Quantity::ALL.map(value),
        }
    }

    pub fn of(&self, quantity: Quantity) -> f64 {
        self.values[quantity as usize]
    }
}

/// Takes samples for so long.
pub async fn watch(
    sidecar: &Sidecar,
    store: &Path,
    begun: Instant,
    duration: Duration,
) -> Vec<Sample> {
    let mut samples = Vec::new();
    let mut ticks = tokio::time::interval(INTERVAL);
    let end = Instant::now() + duration;
    while Instant::now() < end {
        ticks.tick().await;
        samples.push(Sample::take(sidecar, store, begun).await);
        tell(&samples);
    }
    samples
}

/// What there is while nothing happens.
pub async fn rest(sidecar: &Sidecar, store: &Path, begun: Instant) -> Vec<Sample> {
    let mut samples = Vec::new();
    for _ in 0..AT_REST {
        samples.push(Sample::take(sidecar, store, begun).await);
        tokio::time::sleep(INTERVAL / 2).await;
    }
    samples
}

/// Once a minute, how it goes.
fn tell(samples: &[Sample]) {
    let [.., before, now] = samples else { return };
    if before.at.floor() < now.at.floor() {
        let of = |quantity| now.of(quantity);
        println!(
            "{:>4.0} min  memory {:.1} MiB, {} descriptors, {} tasks, {} stored sessions",
            now.at,
            of(Quantity::Rss) / 1024.0,
            of(Quantity::Descriptors),
            of(Quantity::ProxyTasks) + of(Quantity::OauthTasks),
            of(Quantity::Sessions)
        );
    }
}

/// All of them, for whoever looks for a cause.
pub fn series(samples: &[Sample]) -> String {
    let titles = Quantity::ALL.map(|quantity| format!("{:?}", quantity.title()));
    let mut text = format!("minute,{}\n", titles.join(","));
    for sample in samples {
        let _ = write!(text, "{:.4}", sample.at);
        for quantity in Quantity::ALL {
            let _ = write!(text, ",{:.0}", sample.of(quantity));
        }
        text.push('\n');
    }
    text
}
