//! What was found, as a table, as JSON, and as a verdict.

use std::process::ExitCode;

use serde_json::json;

use crate::Extent;
use crate::stage::{Phase, Rush, Storm};
use crate::timetable::latencies::{Latencies, median};
use crate::timetable::options::Options;

/// So many times its calm value may the p99 of the visitors who browse be in a storm.
const MOST: f64 = 2.0;

pub(crate) fn report(options: &Options, extent: Extent, phases: &[Phase], rush: &Rush) -> ExitCode {
    println!(
        "| phase | browsing: p50, p99, p99.9, most ms | clients late: p99 ms | without token | sidecar, of a processor | refreshes a second | storm's visitors: p50, p99, most ms | with a token |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    for phase in phases {
        row(phase);
    }
    let ratios = ratios(phases);
    let ratio = median(ratios.iter().copied());
    println!(
        "browsing p99 in a storm ÷ in the calms around it: {ratio:.2} (median of {}); {} tokens expire within {:.0} s, {:.0} of their visitors come in a second, {:.0} requests a second browse",
        ratios
            .iter()
            .map(|ratio| format!("{ratio:.2}"))
            .collect::<Vec<_>>()
            .join(", "),
        extent.visitors,
        extent.within.as_secs_f64(),
        extent.pace(),
        extent.per_second,
    );
    println!(
        "as fast as they are answered: {:.0} refreshes a second, with {:.2} of a processor",
        rush.rate, rush.cpu
    );
    let mut missed = Vec::new();
    if ratio > MOST {
        missed.push(format!(
            "browsing visitors: p99 is {ratio:.2} times that of the calm, not {MOST:.1}"
        ));
    }
    let lost: usize = phases
        .iter()
        .map(|phase| phase.browsing.without_token() + phase.browsing.failed)
        .sum();
    if lost > 0 {
        missed.push(format!("{lost} requests of browsing visitors had no token"));
    }
    options.write_json(&json!({
        "bench": "storm",
        "visitors": extent.visitors,
        "within_seconds": extent.within.as_secs_f64(),
        "come_per_second": extent.pace(),
        "browsing_per_second": extent.per_second,
        "most_refreshes_per_second": rush.rate,
        "most_refreshes_sidecar_processors": rush.cpu,
        "most_refreshes_without_token": rush.seen.without_token(),
        "phases": phases.iter().map(Phase::json).collect::<Vec<_>>(),
        "ratios": ratios,
        "ratio": ratio,
        "ratio_target": MOST,
        "missed": missed,
    }));
    for what in &missed {
        eprintln!("missed: {what}");
    }
    match options.has("--check") && !missed.is_empty() {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}

fn row(phase: &Phase) {
    let browsing = Latencies::of(&phase.browsing.took);
    print!(
        "| {} | {:.2}, {:.2}, {:.2}, {:.1} | {:.2} | {} | {:.2} |",
        phase.name(),
        browsing.p50,
        browsing.p99,
        browsing.p999,
        browsing.most,
        Latencies::of(&phase.browsing.late).p99,
        phase.browsing.without_token() + phase.browsing.failed,
        phase.cpu,
    );
    match &phase.storm {
        None => println!(" | | |"),
        Some(storm) => {
            let waited = Latencies::of(&storm.seen.took);
            println!(
                " {:.0} | {:.1}, {:.1}, {:.0} | {:.1} %; {} of {} refreshed {:?} |",
                storm.rate(),
                waited.p50,
                waited.p99,
                waited.most,
                storm.served() * 100.0,
                storm.in_the_end,
                storm.seen.took.len(),
                storm.seen.anonymous,
            );
        }
    }
}

/// The p99 of each storm by the mean of those of its neighbours.
fn ratios(phases: &[Phase]) -> Vec<f64> {
    let p99 = |phase: &Phase| Latencies::of(&phase.browsing.took).p99;
    let around = phases.windows(3).filter(|three| three[1].storm.is_some());
    around
        .map(|three| p99(&three[1]) / f64::midpoint(p99(&three[0]), p99(&three[2])))
        .collect()
}

// === impl Phase ===

impl Phase {
    fn name(&self) -> &'static str {
        match self.storm {
            Some(_) => "storm",
            None => "calm",
        }
    }

    fn json(&self) -> serde_json::Value {
        let storm = self.storm.as_ref().map(|storm| {
            json!({
                "visitors": storm.seen.took.len(),
                "waited_ms": Latencies::of(&storm.seen.took),
                "anonymous": storm.seen.anonymous,
                "failed": storm.seen.failed,
                "refreshes_per_second": storm.rate(),
                "refreshed": storm.refreshed,
                "refreshed_in_the_end": storm.in_the_end,
            })
        });
        json!({
            "phase": self.name(),
            "browsing_ms": Latencies::of(&self.browsing.took),
            "clients_late_ms": Latencies::of(&self.browsing.late),
            "browsing_without_token": self.browsing.without_token(),
            "browsing_failed": self.browsing.failed,
            "sidecar_processors": self.cpu,
            "storm": storm,
        })
    }
}

// === impl Storm ===

impl Storm {
    fn rate(&self) -> f64 {
        self.refreshed as f64 / self.took.as_secs_f64()
    }

    /// The part of its visitors whose request had a token.
    fn served(&self) -> f64 {
        let without = self.seen.without_token() + self.seen.failed;
        1.0 - without as f64 / self.seen.took.len() as f64
    }
}
