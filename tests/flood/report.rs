//! What is told at the end.

use std::time::Duration;

use crate::demand::Demand;
use crate::judge::Evidence;
use crate::options::Options;
use crate::requests::Kind;
use crate::table::table;
use crate::visitors::Seen;

/// A stretch of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Only the known visitors.
    Calm,
    /// The flood.
    Flood,
    /// More connections than there may be.
    Crowd,
}

/// What happened in it.
#[derive(Clone, Debug)]
pub struct Row {
    pub phase: Phase,
    pub took: Duration,
    /// Of the flood.
    pub requests: u64,
    pub seen: Seen,
    /// Processor time: of the sidecar, of this process, and of everything on the machine.
    pub cpu: [Duration; 3],
    /// The most memory that the sidecar has had until its end, in bytes.
    pub memory: u64,
}

impl Row {
    /// All phases of one sort together.
    pub fn sum(rows: &[Self], phase: Phase) -> Self {
        let mut sum = Self {
            phase,
            took: Duration::ZERO,
            requests: 0,
            seen: Seen::default(),
            cpu: [Duration::ZERO; 3],
            memory: 0,
        };
        for row in rows.iter().filter(|row| row.phase == phase) {
            sum.took += row.took;
            sum.requests += row.requests;
            sum.seen.add(&row.seen);
            sum.memory = sum.memory.max(row.memory);
            for (sum, row) in sum.cpu.iter_mut().zip(row.cpu) {
                *sum += row;
            }
        }
        sum
    }

    /// As it is told when it is over.
    pub fn line(&self) -> String {
        let cells = self.cells();
        format!(
            "{:>5} s  {:5}  {:>6}/s  p50 {}, p99 {}, longest {}  processors: {}, {}, {}  memory {}",
            cells[1],
            cells[0],
            cells[2],
            cells[4],
            cells[5],
            cells[6],
            cells[7],
            cells[8],
            cells[9],
            cells[10]
        )
    }

    fn cells(&self) -> [String; 11] {
        let seconds = self.took.as_secs_f64();
        let milliseconds = |part| format!("{:.2} ms", self.seen.quantile(part).as_secs_f64() * 1e3);
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let share = |cpu: Duration| {
            let share = cpu.as_secs_f64() / seconds.max(0.01) / processors as f64;
            format!("{:.0} %", share * 100.0)
        };
        let phase = match self.phase {
            Phase::Calm => "calm",
            Phase::Flood => "flood",
            Phase::Crowd => "crowd",
        };
        [
            phase.to_owned(),
            format!("{seconds:.0}"),
            format!("{:.0}", self.requests as f64 / seconds.max(0.01)),
            self.seen.took.len().to_string(),
            milliseconds(0.5),
            milliseconds(0.99),
            milliseconds(1.0),
            share(self.cpu[0]),
            share(self.cpu[1]),
            share(self.cpu[2]),
            mebibytes(self.memory),
        ]
    }
}

/// As people read it.
pub fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1024 * 1024))
}

/// Tells everything; whether everything held.
pub fn report(options: &Options, evidence: &Evidence, rows: &[Row], demands: &[Demand]) -> bool {
    let mut phases = vec![
        [
            "",
            "s",
            "flood's requests a second",
            "visits of known visitors",
            "p50",
            "p99",
            "longest",
            "processors: sidecar",
            "load and simulator",
            "whole machine",
            "the sidecar's memory at its peak",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    let all = [Phase::Calm, Phase::Flood, Phase::Crowd];
    phases.extend(all.map(|phase| Row::sum(rows, phase).cells().to_vec()));
    println!("\n{}", table(&phases, options.markdown));

    let mut flood = vec![
        [
            "the flood",
            "requests",
            "with a profile",
            "anonymous, by reason",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    for kind in Kind::all() {
        let reasons = evidence
            .flood
            .answers
            .get(&kind)
            .cloned()
            .unwrap_or_default();
        let anonymous = reasons.iter().filter(|(reason, _)| !reason.is_empty());
        let anonymous: Vec<_> = anonymous
            .map(|(reason, count)| format!("{reason} {count}"))
            .collect();
        flood.push(vec![
            kind.title().to_owned(),
            reasons.values().sum::<u64>().to_string(),
            reasons.get("").copied().unwrap_or_default().to_string(),
            anonymous.join(", "),
        ]);
    }
    println!("{}", table(&flood, options.markdown));

    let mut judged = vec![["what", "found", "must be", ""].map(str::to_owned).to_vec()];
    for demand in demands {
        let verdict = match demand.holds {
            Some(true) => "held",
            Some(false) => "FAILED",
            None => "not judged",
        };
        judged.push(vec![
            demand.what.clone(),
            demand.found.clone(),
            demand.bound.clone(),
            verdict.to_owned(),
        ]);
    }
    println!("{}", table(&judged, options.markdown));
    let failed = demands.iter().filter(|demand| demand.holds == Some(false));
    let failed: Vec<_> = failed.map(|demand| demand.what.as_str()).collect();
    match failed[..] {
        [] => println!("everything held"),
        _ => println!("FAILED: {}", failed.join("; ")),
    }
    failed.is_empty()
}
