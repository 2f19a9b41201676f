//! The figures as a table, as JSON, and beside their targets.

use std::process::ExitCode;

use serde_json::json;

use crate::arguments::{Judged, Plan};
use crate::contest::{CONNECTIONS, Contestant, RATE, Round};
use crate::instructions::VISITORS;
use crate::support::BODY;
use crate::support::numbers::{least, median, quartiles, ratios};
use crate::systems::System;

/// All that was measured of one system.
pub(crate) struct Figures {
    pub(crate) system: System,
    pub(crate) rounds: Vec<Round>,
    pub(crate) instructions: Option<f64>,
    /// Resident bytes with so many visitors.
    resident: Vec<(usize, Option<f64>)>,
}

pub(crate) struct Report {
    pub(crate) plan: Plan,
    pub(crate) figures: Vec<Figures>,
}

/// What the sidecar is to reach beside another system.
struct Target {
    what: &'static str,
    beside: System,
    limit: f64,
    measure: Measure,
    /// What the quick form holds us to, where it can tell: what there is, with room for a busy machine, so that nothing gets worse
    /// unnoticed while a target is not reached.
    held: Option<f64>,
}

/// One figure of each round: of a system, and of the way without a proxy in the same round.
type Measure = fn(&Round, &Round) -> f64;

const TARGETS: [Target; 4] = [
    Target {
        what: "CPU time a request",
        beside: System::NginxLua,
        limit: 0.95,
        measure: |round, _| round.micros,
        held: Some(3.5),
    },
    Target {
        what: "CPU time a request",
        beside: System::Envoy,
        limit: 0.45,
        measure: |round, _| round.micros,
        held: Some(0.9),
    },
    Target {
        what: "added latency, p50",
        beside: System::NginxLua,
        limit: 1.0,
        measure: |round, direct| round.latency[0] - direct.latency[0],
        held: None,
    },
    Target {
        what: "added latency, p99",
        beside: System::Envoy,
        limit: 0.5,
        measure: |round, direct| round.latency[1] - direct.latency[1],
        held: None,
    },
];

// === impl Figures ===

impl Figures {
    pub(crate) fn of(system: System) -> Self {
        Self {
            system,
            rounds: Vec::new(),
            instructions: None,
            resident: Vec::new(),
        }
    }

    /// Notes what a system that knows so many visitors has resident.
    pub(crate) fn weigh(&mut self, visitors: usize, contestant: Option<&Contestant>) {
        let resident = contestant.and_then(Contestant::resident);
        self.resident.push((visitors, resident));
    }

    /// Notes what was measured.
    pub(crate) fn take(&mut self, visitors: usize, contestant: &Contestant) {
        self.rounds.clone_from(&contestant.rounds);
        self.weigh(visitors, Some(contestant));
    }

    fn each(&self, direct: &Self, measure: Measure) -> Vec<f64> {
        let rounds = self.rounds.iter().zip(&direct.rounds);
        rounds
            .map(|(round, direct)| measure(round, direct))
            .collect()
    }

    fn row(&self, direct: &Self) -> String {
        let proxied = self.system != System::Direct;
        let cell = |measure: Measure, digits| match proxied {
            true => spread(&self.each(direct, measure), digits),
            false => "–".to_owned(),
        };
        let instructions = self.instructions.map(|count| format!("{:.1}", count / 1e3));
        let resident = self.resident.iter().map(|(_, bytes)| match bytes {
            Some(bytes) => format!("{:.0}", bytes / 1e6),
            None => "–".to_owned(),
        });
        let cells = [
            self.system.title().to_owned(),
            spread(
                &self.each(direct, |round, direct| {
                    round.requests_per_second / direct.requests_per_second
                }),
                2,
            ),
            cell(|round, _| round.micros, 1),
            instructions.unwrap_or_else(|| "–".to_owned()),
            cell(|round, direct| round.latency[0] - direct.latency[0], 0),
            cell(|round, direct| round.latency[1] - direct.latency[1], 0),
            cell(|round, direct| round.latency[2] - direct.latency[2], 0),
            resident.collect::<Vec<_>>().join(", "),
        ];
        format!("| {} |", cells.join(" | "))
    }

    fn json(&self) -> serde_json::Value {
        let rounds = self.rounds.iter().map(|round| {
            json!({
                "requests_per_second": round.requests_per_second,
                "cpu_micros_per_request": round.micros,
                "latency_micros": { "p50": round.latency[0], "p99": round.latency[1], "p999": round.latency[2] },
            })
        });
        let resident = self.resident.iter();
        let resident =
            resident.map(|(visitors, bytes)| json!({ "visitors": visitors, "bytes": bytes }));
        json!({
            "system": self.system.name(),
            "rounds": rounds.collect::<Vec<_>>(),
            "user_instructions_per_request": self.instructions,
            "resident": resident.collect::<Vec<_>>(),
        })
    }
}

/// The median, and between which the middle half is.
fn spread(values: &[f64], digits: usize) -> String {
    let [first, median, third] = quartiles(values);
    format!("{median:.digits$} ({first:.digits$}–{third:.digits$})")
}

// === impl Report ===

impl Report {
    /// Prints everything, writes the JSON, and says whether what is judged holds.
    pub(crate) fn tell(&self) -> ExitCode {
        let direct = self.of(System::Direct).unwrap();
        let visitors: Vec<_> = direct
            .resident
            .iter()
            .map(|(number, _)| thousands(*number))
            .collect();
        println!(
            "| system | requests/s ÷ direct | CPU µs a request | thousand user instructions a request | added µs: p50 | p99 | p99.9 | resident MB with {} visitors |",
            visitors.join(", ")
        );
        println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
        for figures in &self.figures {
            println!("{}", figures.row(direct));
        }
        let latency = [0, 1, 2].map(|at| {
            median(
                &direct
                    .rounds
                    .iter()
                    .map(|round| round.latency[at])
                    .collect::<Vec<_>>(),
            )
        });
        let rates = direct.each(direct, |round, _| round.requests_per_second);
        println!(
            "\n{} visitors; {} interleaved rounds; median and quartiles of the rounds. Closed loop: {} requests over {CONNECTIONS} connections a round, {BODY}-byte answers, \
             {:.0}/s without a proxy. Open loop: {} requests at {RATE}/s, latency without a proxy {:.0} µs p50, {:.0} p99, {:.0} p99.9. Instructions: {} visitors, one connection.",
            thousands(self.plan.visitors),
            direct.rounds.len(),
            thousands(self.plan.closed),
            median(&rates),
            thousands(self.plan.open),
            latency[0],
            latency[1],
            latency[2],
            thousands(VISITORS),
        );
        self.write_json();
        self.judge(direct)
    }

    fn of(&self, system: System) -> Option<&Figures> {
        self.figures.iter().find(|figures| figures.system == system)
    }

    fn write_json(&self) {
        let path = &self.plan.json;
        let all = json!({
            "visitors": self.plan.visitors,
            "connections": CONNECTIONS,
            "open_loop_per_second": RATE,
            "systems": self.figures.iter().map(Figures::json).collect::<Vec<_>>(),
        });
        let written = std::fs::write(path, format!("{all:#}\n"));
        match written {
            Ok(()) => println!("\nAll figures: {}", path.display()),
            Err(error) => eprintln!("{} cannot be written: {error}", path.display()),
        }
    }

    fn judge(&self, direct: &Figures) -> ExitCode {
        let Some(sidecar) = self.of(System::Sidecar) else {
            return ExitCode::SUCCESS;
        };
        println!(
            "\n| sidecar ÷ | of | target | least of the rounds | median of the rounds' ratios | |"
        );
        println!("| --- | --- | --- | --- | --- | --- |");
        let mut missed = Vec::new();
        for target in TARGETS {
            let limit = target.limit;
            let (what, whom) = (target.what, target.beside.title());
            let Some(other) = self.of(target.beside) else {
                println!("| {whom} | {what} | ≤ {limit:.2} | – | – | not measured |");
                continue;
            };
            let [ours, theirs] =
                [sidecar, other].map(|figures| figures.each(direct, target.measure));
            let ratio = least(&ours) / least(&theirs);
            let median = median(&ratios(&ours, &theirs));
            // On a busy machine the way without a proxy may have been the slower one.
            let told = least(&ours) > 0.0 && least(&theirs) > 0.0;
            let met = ratio <= limit || !told;
            let word = match (told, met) {
                (false, _) => "too busy to tell",
                (true, true) => "met",
                (true, false) => "**missed**",
            };
            println!("| {whom} | {what} | ≤ {limit:.2} | {ratio:.3} | {median:.3} | {word} |");
            let most = match self.plan.judged {
                Judged::Nothing => None,
                Judged::CpuTime => target.held,
                Judged::All => Some(limit),
            };
            // Where only one of the two is beyond it, the machine was too busy to tell.
            if let Some(most) = most.filter(|most| told && ratio.min(median) > *most) {
                missed.push(format!(
                    "missed: {what} is {ratio:.3} of {}'s; it must be {most:.2} at most",
                    target.beside.name()
                ));
            }
        }
        for line in &missed {
            eprintln!("{line}");
        }
        ExitCode::from(u8::from(!missed.is_empty()))
    }
}

/// A number as it is read.
fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev();
    let groups = groups.map(|group| String::from_utf8_lossy(group).into_owned());
    groups.collect::<Vec<_>>().join(",")
}
