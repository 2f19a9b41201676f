//! What is told at the end, and whether everything held.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Instant;

use dressipi_sidecar::simulator::system_clock;

use crate::judge::{Judgement, Made, judge};
use crate::options::Options;
use crate::table::{self, Row};
use crate::visitors::Crowd;
use crate::witness::Witness;

/// When the phases began, and how many expired tokens had come by then.
#[derive(Default)]
pub struct Timeline {
    begins: Vec<Moment>,
}

struct Moment {
    at: Instant,
    /// By the simulator's clock.
    at_ms: u64,
    expired: u64,
}

// === impl Timeline ===

impl Timeline {
    /// A phase begins.
    pub fn begin(&mut self, number: usize, witness: &Witness) {
        self.end(witness);
        witness.phase.store(number, Ordering::Relaxed);
    }

    /// The last phase has ended.
    pub fn end(&mut self, witness: &Witness) {
        self.begins.push(Moment {
            at: Instant::now(),
            at_ms: system_clock()(),
            expired: witness.simulator.totals().expired_tokens_received,
        });
    }

    fn seconds(&self, phase: usize) -> u64 {
        let length = self.begins[phase + 1].at - self.begins[phase].at;
        length.as_secs_f64().round() as u64
    }

    fn expired(&self, phase: usize) -> u64 {
        self.begins[phase + 1].expired - self.begins[phase].expired
    }

    fn phase_of(&self, at_ms: u64) -> usize {
        let begun = self.begins.iter().rposition(|begin| begin.at_ms <= at_ms);
        begun.unwrap_or(0)
    }
}

/// Prints the table and what must hold; says whether all of it did.
pub fn report(
    options: &Options,
    titles: &[&str],
    timeline: &Timeline,
    witness: &Witness,
    crowd: &Crowd,
    left_out: &[String],
) -> bool {
    let profiles = witness.simulator.ledger().profiles.into_iter();
    let made: Vec<Made> = profiles
        .map(|profile| Made {
            phase: timeline.phase_of(profile.created_at_ms),
            id: profile.id,
        })
        .collect();
    let (judgement, mut rows, known) = witness.look(|seen| {
        let judgement = judge(seen, &made);
        let row = |(phase, title): (usize, &&str)| {
            let of = |counts: &HashMap<usize, u64>| counts.get(&phase).copied().unwrap_or(0);
            let tally = crowd.tally(phase);
            Row {
                title: (*title).to_owned(),
                seconds: timeline.seconds(phase),
                visitors: tally.visitors.len() as u64,
                tally,
                profiles: made.iter().filter(|made| made.phase == phase).count() as u64,
                nobodys: of(&judgement.nobodys),
                lost_answers: of(&judgement.lost_answers),
                changes: seen.changes.iter().filter(|at| **at == phase).count() as u64,
                refreshes: of(&seen.refreshes),
                lost_refreshes: of(&judgement.lost_refreshes),
                expired: timeline.expired(phase),
            }
        };
        let rows: Vec<Row> = titles.iter().enumerate().map(row).collect();
        (judgement, rows, seen.visitors.len() as u64)
    });
    let mut total = Row {
        title: "total".to_owned(),
        visitors: known,
        ..Row::default()
    };
    rows.iter().for_each(|row| total.add(row));
    rows.push(total.clone());
    println!("\n{}", table::render(&rows, options.markdown));

    let totals = witness.simulator.totals();
    println!(
        "{} profiles for {known} visitors; refresh tokens: {} lost, {} refused, {} taken once more, {} answers lost; foreign \
         tokens sent: {}",
        totals.profiles,
        judgement.lost_tokens,
        totals.token_calls_of("refresh_token", "invalid_grant"),
        totals.refresh_again,
        total.lost_refreshes,
        totals.foreign_tokens_received,
    );
    let foreign = totals.foreign_tokens_received;
    let passed = demand(options, &total, foreign, &judgement, known, left_out);
    println!("{}", if passed { "everything held" } else { "FAILED" });
    passed
}

/// What must be nought.
fn demand(
    options: &Options,
    total: &Row,
    foreign: u64,
    judgement: &Judgement,
    known: u64,
    left_out: &[String],
) -> bool {
    // Where a lost answer costs a refresh token whatever a client does, there may be as many as that.
    let excused = options.strict && judgement.lost_tokens <= total.lost_refreshes;
    let too_many = total.profiles.saturating_sub(known + total.lost_answers);
    let unexplained = judgement.unexplained.len() as u64;
    let demands = [
        ("profile changes", total.changes, excused),
        ("refresh tokens lost", judgement.lost_tokens, excused),
        (
            "profiles less visitors, beyond answers lost",
            too_many,
            excused,
        ),
        (
            "profiles of nobody, without a lost answer",
            unexplained,
            false,
        ),
        ("expired tokens sent", total.expired, false),
        ("foreign tokens sent", foreign, false),
        (
            "visitors without a profile at the end",
            left_out.len() as u64,
            false,
        ),
    ];
    let mut passed = true;
    for (what, count, excused) in demands {
        let verdict = match (count, excused) {
            (0, _) => continue,
            (_, true) => "no more than answers lost",
            (_, false) => "must be 0",
        };
        passed &= excused;
        println!("{what}: {count} ({verdict})");
    }
    for line in judgement.unexplained.iter().chain(left_out).take(20) {
        println!("  {line}");
    }
    passed
}
