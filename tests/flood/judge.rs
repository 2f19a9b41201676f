//! What must hold, and whether it did.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dressipi_sidecar::simulator::Totals;

use crate::configuration::Bounds;
use crate::demand::{Demand, at_least, at_most, is, within};
use crate::flood::Tally;
use crate::metrics::Metrics;
use crate::options::Options;
use crate::report::{Phase, Row, mebibytes};
use crate::requests::Kind;
use crate::slow::{Ended, Outcome, Sort};
use crate::visitors::Seen;

/// Everything that is known at the end.
pub struct Evidence {
    pub bounds: Bounds,
    /// The simulator's counts when only the known visitors had been there, and at the end.
    pub known: Totals,
    pub totals: Totals,
    pub flood: Tally,
    pub slow: Vec<Outcome>,
    /// Of the connections beyond the limit: closed at once, and not.
    pub crowded: (u64, u64),
    /// What all known visitors saw, in all phases.
    pub seen: Seen,
    pub metrics: Metrics,
    /// The sidecar's memory when everybody had come once, and the most after that, in bytes.
    pub at_rest: u64,
    pub peak: u64,
    /// UTC days that it fell on.
    pub days: u64,
    /// The sidecars ended when they were told to.
    pub stopped: bool,
}

/// Times the known visitors' calm p99.
const SLOWER: f64 = 2.0;
/// Deadlines are kept by timers, and the client sees the end when it is its turn.
const LATE: Duration = Duration::from_secs(2);
/// What a connection takes whose request is being answered or was: buffers of 8, 16 and 4 KiB, and the state of an exchange, most
/// of it pingora's. One that has said nothing yet takes 50 KiB.
const CONNECTION: u64 = 75 * 1024;
/// What pingora's buffer for an upstream's answers takes: there is one for each body under way.
const UPSTREAM: u64 = 64 * 1024;
/// What is filled once and stays: the store's page cache (64 MiB) and the table of addresses (1 MiB).
const ONCE: u64 = 65 * 1024 * 1024;

/// All that must hold.
pub fn judge(options: &Options, evidence: &Evidence, rows: &[Row]) -> Vec<Demand> {
    let mut demands = Vec::new();
    creation(options, evidence, &mut demands);
    counters(options, evidence, &mut demands);
    visitors(options, evidence, rows, &mut demands);
    slow(options, evidence, &mut demands);
    memory(options, evidence, &mut demands);
    demands.push(is(
        "the sidecar ends when it is told to",
        evidence.stopped,
        true,
    ));
    demands
}

fn creation(options: &Options, evidence: &Evidence, demands: &mut Vec<Demand>) {
    let Evidence {
        bounds,
        known,
        totals,
        flood,
        days,
        ..
    } = evidence;
    demands.push(is(
        "profiles of the known visitors",
        known.profiles,
        options.visitors as u64,
    ));
    let made = totals.profiles - known.profiles;
    let allowed = bounds.profiles(flood.elapsed(), *days);
    demands.push(at_most("profiles that the flood made", made, allowed));
    demands.push(at_least(
        "the flood used its room (half of it)",
        made,
        allowed / 2,
    ));
    // Who waited too long may have cost one.
    let spent = |kinds: &[Kind]| {
        ["", "timeout"]
            .map(|reason| flood.of(kinds.iter().copied(), reason))
            .iter()
            .sum::<u64>()
    };
    for kind in Kind::all().filter(|kind| kind.is_one_client()) {
        let what = format!("of them by {}", kind.title());
        let allowed = bounds.per_client.within(flood.elapsed());
        demands.push(at_most(&what, spent(&[kind]), allowed));
    }
    let (withheld, others): (Vec<Kind>, Vec<Kind>) =
        Kind::all().partition(|kind| kind.withheld().is_some());
    let as_withheld: u64 = withheld
        .iter()
        .map(|kind| flood.of([*kind], kind.withheld().unwrap()))
        .sum();
    let of_withheld: u64 = withheld
        .iter()
        .filter_map(|kind| flood.answers.get(kind))
        .flat_map(BTreeMap::values)
        .sum();
    demands.push(is("answers to bots, probes, prefetches, HEAD and OPTIONS with a profile, or another reason than that", of_withheld - as_withheld, 0));
    demands.push(within(
        "profiles accounted for by answers with one (or too late) to others",
        made,
        flood.of(others.iter().copied(), ""),
        spent(&others),
    ));
    demands.push(at_most(
        "authorize calls at once",
        totals.max_concurrent.authorize,
        bounds.creations as u64,
    ));
    let met = |reason| flood.of(Kind::all(), reason);
    for reason in ["rate-limited", "rate-limited-overall", "budget"] {
        demands.push(at_least(&format!("refusals: {reason}"), met(reason), 1));
    }
}

fn counters(options: &Options, evidence: &Evidence, demands: &mut Vec<Demand>) {
    let Evidence {
        flood,
        seen,
        metrics,
        known,
        totals,
        ..
    } = evidence;
    demands.push(is(
        "requests of the flood that were answered",
        flood.answered(),
        options.requests,
    ));
    demands.push(is("of them with 5xx", flood.errors, 0));
    demands.push(is(
        "requests of the flood without an answer",
        flood.unanswered,
        0,
    ));
    let mut expected = flood.reasons();
    expected.remove("");
    for (reason, count) in &seen.anonymous {
        *expected.entry(reason.clone()).or_default() += count;
    }
    let counted = metrics.by("unpersonalised_requests_total", "reason");
    let reasons: BTreeSet<_> = expected.keys().chain(counted.keys()).collect();
    let differ = reasons
        .iter()
        .filter(|reason| expected.get(**reason) != counted.get(**reason));
    demands.push(is(
        "reasons that clients and /metrics count differently",
        differ.count() as u64,
        0,
    ));
    let visits = seen.took.len() as u64 - seen.failed;
    let requests = |route: &str| metrics.sum("requests_total", &[&format!("route=\"{route}\"")]);
    demands.push(is(
        "requests in /metrics",
        requests("/") + requests("/api/"),
        flood.answered() + visits,
    ));
    demands.push(is(
        "profiles in /metrics",
        metrics.sum("visitor_events_total", &["event=\"profile_created\""]),
        totals.profiles - known.profiles,
    ));
    demands.push(is(
        "connections beyond the limit in /metrics",
        metrics.sum("refused_connections_total", &["limit=\"connections\""]),
        evidence.crowded.0,
    ));
}

fn visitors(options: &Options, evidence: &Evidence, rows: &[Row], demands: &mut Vec<Demand>) {
    let Evidence { seen, totals, .. } = evidence;
    let refreshes = totals.token_calls_of("refresh_token", "ok");
    demands.push(is(
        "known visitors: answers for another profile",
        seen.changed,
        0,
    ));
    demands.push(is(
        "known visitors: anonymous answers",
        seen.anonymous.values().sum(),
        0,
    ));
    demands.push(is("known visitors: no answer, or an error", seen.failed, 0));
    demands.push(at_least(
        "known visitors: tokens refreshed meanwhile",
        refreshes,
        options.visitors as u64,
    ));
    demands.push(is(
        "expired or foreign tokens sent",
        totals.expired_tokens_received + totals.foreign_tokens_received,
        0,
    ));
    let p99 = |phase| Row::sum(rows, phase).seen.quantile(0.99).as_secs_f64() * 1e3;
    let (calm, flood) = (p99(Phase::Calm), p99(Phase::Flood));
    let ratio = flood / calm;
    demands.push(Demand {
        what: "known visitors: p99 in the flood by p99 in the calm".to_owned(),
        found: format!("{flood:.2} ms / {calm:.2} ms = {ratio:.2}"),
        bound: format!("at most {SLOWER}"),
        holds: (!options.quick).then_some(ratio <= SLOWER),
    });
}

fn slow(options: &Options, evidence: &Evidence, demands: &mut Vec<Demand>) {
    let Evidence {
        bounds, metrics, ..
    } = evidence;
    let mut all: BTreeMap<Sort, Ended> = BTreeMap::new();
    for outcome in &evidence.slow {
        demands.push(is(
            "slow connections open at once",
            outcome.most as u64,
            options.slow as u64,
        ));
        for (sort, ended) in &outcome.ended {
            all.entry(*sort).or_default().add(ended);
        }
    }
    for (sort, ended) in &all {
        let title = sort.title();
        let deadline = sort.deadline(bounds);
        demands.push(Demand {
            what: format!(
                "slow connections, {title}: longest life ({} closed by the sidecar)",
                ended.closed
            ),
            found: format!("{:.1} s", ended.longest.as_secs_f64()),
            bound: format!(
                "{:.0} s, and {:.0} s",
                deadline.as_secs_f64(),
                LATE.as_secs_f64()
            ),
            holds: Some(
                ended.longest <= deadline + LATE && ended.closed >= options.slow as u64 / 4,
            ),
        });
        demands.push(is(
            &format!("slow connections, {title}: not accepted"),
            ended.failed,
            0,
        ));
    }
    let answered = |sort| {
        all.get(&sort)
            .map_or((0, 0), |ended| (ended.answered, ended.left))
    };
    for (sort, reason) in [(Sort::Header, "header_timeout"), (Sort::Body, "body_rate")] {
        let (answered, left) = answered(sort);
        let counted = metrics.sum("refused_requests_total", &[&format!("reason=\"{reason}\"")]);
        demands.push(within(
            &format!("{reason} in /metrics, beside answers 408"),
            counted,
            answered,
            answered + left,
        ));
    }
    let (closed, kept) = evidence.crowded;
    let room = (bounds.connections - options.visitors) as u64;
    demands.push(at_least(
        "connections beyond the limit, closed at once",
        closed,
        1,
    ));
    demands.push(at_most(
        "connections let in besides those of the visitors",
        kept,
        room,
    ));
}

fn memory(options: &Options, evidence: &Evidence, demands: &mut Vec<Demand>) {
    // The visitors' own connections are there already when nothing has happened yet.
    let connections = evidence.bounds.connections.saturating_sub(options.visitors) as u64;
    let bodies = options.slow.div_ceil(2) as u64;
    let bound = evidence.at_rest + ONCE + connections * CONNECTION + bodies * UPSTREAM;
    demands.push(Demand {
        what: format!(
            "memory at its peak ({} at rest)",
            mebibytes(evidence.at_rest)
        ),
        found: mebibytes(evidence.peak),
        bound: format!("at most {}", mebibytes(bound)),
        holds: Some(evidence.peak <= bound),
    });
}
