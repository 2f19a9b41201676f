//! What a second worker thread is worth: the sidecar with one thread (`[server] threads = 1`) beside the same with two.
//!
//! ```text
//! cargo bench --bench workers                # 41 rounds of each
//! cargo bench --bench workers -- --quick     # 11 short ones
//! cargo bench --bench workers -- --check     # fails where two threads would give less than 1.8 times what one does
//! ```
//! As many visitors as connections, each known and with a token; more requests are under way than two threads can work on, so that no
//! worker ever has nothing to do. Rounds are interleaved, in the opposite order each time, and compared by their medians.
//!
//! **CPU time a request** can be measured on two cores, where two workers cannot have one each and leave one for clients and upstream.
//! It is what workers cost each other: waiting for locks, lines of the cache that they take from each other, work that is stolen. If a
//! request takes no more than 1/0.9 of the time with two threads, then two whole cores answer at least 1.8 times what one does.
//!
//! **Throughput** is measured where there are four cores at least: the workers have the first ones, one each, and the load the others.

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark fails loudly")]

#[path = "../support/mod.rs"]
mod support;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::support::load::{Pace, Surrounding, Who, Work};
use self::support::numbers::{ratios, share};
use self::support::processes::{Process, pin_to};
use self::support::requests::{Requests, visitor_cookie};
use self::support::surroundings::{Surroundings, Wanted};
use self::support::{BODY, parts};

/// As the sidecar's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CONNECTIONS: usize = 48;
/// Of two whole cores in comparison with one.
const TARGET: f64 = 1.8;
/// So many cores: two for workers, two for the load.
const ENOUGH: usize = 4;

struct System {
    threads: usize,
    process: Process,
    requests: Arc<Requests>,
    rounds: Vec<Round>,
}

#[derive(Clone, Copy)]
struct Round {
    /// CPU time a request, in microseconds.
    micros: f64,
    /// Requests a second.
    rate: f64,
    /// Of the time that so many threads have, how much they worked.
    busy: f64,
    /// How often a thread went to sleep, and how often it was made to wait, a thousand requests.
    slept: f64,
    pushed: f64,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let given = |flag: &str| arguments.iter().any(|argument| argument == flag);
    if given("simulator") {
        parts::simulator();
        return ExitCode::SUCCESS;
    }
    compare(given("--quick"), given("--check"))
}

fn compare(quick: bool, check: bool) -> ExitCode {
    let (rounds, requests) = if quick { (11, 60) } else { (41, 250) };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let enough = cores >= ENOUGH;
    let surroundings = Surroundings::start();
    let second = Surrounding::start();
    // The clients come from one thread, or from two where there is a core for each.
    let loads = if enough {
        vec![&surroundings.load, &second]
    } else {
        vec![&surroundings.load]
    };
    let mut systems = [1, 2].map(|threads| {
        let wanted = Wanted {
            access: false,
            threads,
        };
        let process = surroundings.sidecar(&[], &format!("threads-{threads}"), &wanted);
        System::new(threads, process)
    });
    if enough {
        pin_to(&format!("2-{}", cores - 1), std::process::id());
    }
    for system in &mut systems {
        system.measure(&loads, requests);
        system.rounds.clear();
    }
    for round in 0..rounds {
        let order = if round % 2 == 0 { [0, 1] } else { [1, 0] };
        for index in order {
            systems[index].measure(&loads, requests);
        }
    }
    report(&systems, enough, cores, check)
}

fn report([one, two]: &[System; 2], enough: bool, cores: usize, check: bool) -> ExitCode {
    println!(
        "| worker threads | CPU µs a request: median, quartiles | requests a second | threads busy | a thousand requests: put to sleep, made to wait |"
    );
    println!("| --- | --- | --- | --- | --- |");
    for system in [one, two] {
        let all = |value: fn(&Round) -> f64| system.rounds.iter().map(value).collect::<Vec<_>>();
        let at = |part, value: fn(&Round) -> f64| share(&all(value), part);
        println!(
            "| {} | {:.1}, {:.1} to {:.1} | {:.0} | {:.0} % | {:.0}, {:.0} |",
            system.threads,
            at(0.5, |round| round.micros),
            at(0.25, |round| round.micros),
            at(0.75, |round| round.micros),
            at(0.5, |round| round.rate),
            at(0.5, |round| round.busy) * 100.0,
            at(0.5, |round| round.slept),
            at(0.5, |round| round.pushed),
        );
    }
    let compared = |value: fn(&Round) -> f64| {
        let [one, two] =
            [one, two].map(|system| system.rounds.iter().map(value).collect::<Vec<_>>());
        share(&ratios(&two, &one), 0.5)
    };
    let cpu = compared(|round| round.micros);
    let worth = 2.0 / cpu;
    println!(
        "CPU time a request, two threads ÷ one (median of the rounds): {cpu:.3}; two whole cores: {worth:.2} × one"
    );
    let mut holds = worth >= TARGET;
    if enough {
        let rate = compared(|round| round.rate);
        println!("requests a second, two threads ÷ one (median of the rounds): {rate:.2}");
        holds &= rate >= TARGET;
    } else {
        println!(
            "this machine has {cores} cores: two workers, clients and upstream share them, so requests a second tell nothing of the workers \
             and are not compared; it takes {ENOUGH}"
        );
    }
    println!(
        "{} interleaved rounds over {CONNECTIONS} connections, {BODY}-byte answers",
        one.rounds.len()
    );
    if check && !holds {
        eprintln!("two worker threads are worth less than {TARGET} times one");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

// === impl System ===

impl System {
    fn new(threads: usize, process: Process) -> Self {
        let visitors = (0..CONNECTIONS).map(|_| visitor_cookie(process.address).expect("a cookie"));
        let cookies: Vec<String> = visitors.collect();
        let requests = Requests::of_many(cookies.concat().into_bytes(), cookies[0].len());
        // One core for each worker. Of two cores the second is the load's, too.
        let cores = if threads == 1 { "0" } else { "0-1" };
        pin_to(cores, process.id().parse().unwrap());
        Self {
            threads,
            process,
            requests: Arc::new(requests),
            rounds: Vec::new(),
        }
    }

    fn measure(&mut self, loads: &[&Surrounding], requests: usize) {
        let (cpu, switches, begun) = (self.process.cpu_nanos(), self.switches(), Instant::now());
        let work = Work {
            requests: self.requests.clone(),
            number: CONNECTIONS * requests / loads.len(),
            connections: CONNECTIONS / loads.len(),
            who: Who::InTurn,
            pace: Pace::AsAnswered,
        };
        std::thread::scope(|scope| {
            for load in loads {
                scope.spawn(|| load.load(self.process.address, work.clone()));
            }
        });
        let took = begun.elapsed();
        let cpu = Duration::from_nanos(self.process.cpu_nanos() - cpu);
        let [slept, pushed] = [0, 1].map(|index| (self.switches()[index] - switches[index]) as f64);
        let all = (CONNECTIONS * requests) as f64;
        self.rounds.push(Round {
            micros: cpu.as_secs_f64() * 1e6 / all,
            rate: all / took.as_secs_f64(),
            busy: cpu.as_secs_f64() / took.as_secs_f64() / self.threads as f64,
            slept: slept / all * 1000.0,
            pushed: pushed / all * 1000.0,
        });
    }

    /// How often its threads gave a core up, and how often one was taken from them.
    fn switches(&self) -> [u64; 2] {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.process.id())).unwrap();
        let mut sums = [0, 0];
        for task in tasks.flatten() {
            let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
            for (sum, name) in sums
                .iter_mut()
                .zip(["voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:"])
            {
                let line = status.lines().find_map(|line| line.strip_prefix(name));
                *sum += line
                    .and_then(|count| count.trim().parse::<u64>().ok())
                    .unwrap_or_default();
            }
        }
        sums
    }
}
