//! What was found, as a table, as JSON, and as a verdict.

use std::process::ExitCode;

use serde_json::json;

use crate::stores::Served;
use crate::timetable::latencies::{median, spread};
use crate::timetable::options::Options;
use crate::{Added, Measured};

/// What the p99 of a new visitor may be above that of the direct calls, with redb, in milliseconds.
const MOST_ADDED: f64 = 15.0;

pub(crate) struct Results {
    /// Rates of the direct calls, a round each.
    pub(crate) direct: Vec<f64>,
    /// Processor time for one, in microseconds.
    pub(crate) direct_micros: Vec<f64>,
    /// In the order of the stores.
    pub(crate) stores: Vec<Measured>,
    /// Visitors that came in all, direct calls and warming up included.
    pub(crate) visitors: u64,
    names: Vec<(&'static str, f64)>,
}

// === impl Results ===

impl Results {
    pub(crate) fn new(served: &[Served]) -> Self {
        Self {
            direct: Vec::new(),
            direct_micros: Vec::new(),
            stores: served.iter().map(|_| Measured::default()).collect(),
            visitors: 0,
            names: served
                .iter()
                .map(|store| (store.name, store.target))
                .collect(),
        }
    }

    /// Tells everything; fails where a target is missed, if that is asked for.
    pub(crate) fn report(&self, options: &Options) -> ExitCode {
        self.table();
        options.write_json(&self.json());
        let missed = self.missed();
        for what in &missed {
            eprintln!("missed: {what}");
        }
        match options.has("--check") && !missed.is_empty() {
            true => ExitCode::FAILURE,
            false => ExitCode::SUCCESS,
        }
    }

    fn table(&self) {
        let direct = median(self.direct.iter().copied());
        let (least, most) = spread(self.direct.iter().copied());
        println!(
            "| new visitors | a second | ÷ direct (rounds) | CPU µs each | at a second | p50, p99 ms | known, p50, p99 | direct, p50, p99 | added p99 ms |"
        );
        println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
        println!(
            "| direct: the two OAuth calls | {direct:.0} ({least:.0}–{most:.0}) | 1 | {:.0} | | | | | |",
            median(self.direct_micros.iter().copied())
        );
        for ((name, _), store) in self.names.iter().zip(&self.stores) {
            let ratios = self.ratios(store);
            let (least, most) = spread(ratios.iter().copied());
            let of = |pick: fn(&Added) -> f64| median(store.added.iter().map(pick));
            println!(
                "| sidecar on {name} | {:.0} | {:.2} ({least:.2}–{most:.2}) | {:.0} | {:.0} | {:.1}, {:.1} | {:.1}, {:.1} | {:.1}, {:.1} | {:.1} |",
                median(store.rates.iter().copied()),
                median(ratios.iter().copied()),
                median(store.micros.iter().copied()),
                of(|added| added.per_second),
                of(|added| added.sidecar.p50),
                of(|added| added.sidecar.p99),
                of(|added| added.known.p50),
                of(|added| added.known.p99),
                of(|added| added.direct.p50),
                of(|added| added.direct.p99),
                of(Added::p99),
            );
        }
        println!(
            "{} visitors in all, and as many authorize calls",
            self.visitors
        );
    }

    /// Each round's rate by that of the direct calls in the same round.
    fn ratios(&self, store: &Measured) -> Vec<f64> {
        let rounds = store.rates.iter().zip(&self.direct);
        rounds.map(|(rate, direct)| rate / direct).collect()
    }

    fn missed(&self) -> Vec<String> {
        let mut missed = Vec::new();
        for ((name, target), store) in self.names.iter().zip(&self.stores) {
            let ratio = median(self.ratios(store));
            if ratio < *target {
                missed.push(format!(
                    "{name}: {ratio:.2} of the direct rate, not {target:.2}"
                ));
            }
            let added = median(store.added.iter().map(Added::p99));
            if *name == "redb" && added > MOST_ADDED {
                missed.push(format!(
                    "{name}: {added:.1} ms added to p99, not {MOST_ADDED:.0}"
                ));
            }
        }
        missed
    }

    fn json(&self) -> serde_json::Value {
        let stores = self.names.iter().zip(&self.stores);
        let stores = stores.map(|((name, target), store)| {
            let added = store.added.iter().map(|added| {
                json!({
                    "per_second": added.per_second,
                    "direct_ms": added.direct,
                    "sidecar_ms": added.sidecar,
                    "known_ms": added.known,
                    "added_p99_ms": added.p99(),
                })
            });
            json!({
                "store": name,
                "per_second": store.rates,
                "ratios": self.ratios(store),
                "ratio": median(self.ratios(store)),
                "ratio_target": target,
                "cpu_micros": store.micros,
                "timetables": added.collect::<Vec<_>>(),
                "added_p99_ms": median(store.added.iter().map(Added::p99)),
            })
        });
        json!({
            "bench": "arrivals",
            "visitors": self.visitors,
            "direct_per_second": self.direct,
            "direct_cpu_micros": self.direct_micros,
            "stores": stores.collect::<Vec<_>>(),
            "added_p99_ms_target": MOST_ADDED,
            "missed": self.missed(),
        })
    }
}

// === impl Added ===

impl Added {
    /// What the sidecar adds to the p99 of the direct calls.
    fn p99(&self) -> f64 {
        self.sidecar.p99 - self.direct.p99
    }
}
