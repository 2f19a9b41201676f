//! What our logic costs: the sidecar with a known visitor beside the same pingora proxy with none of our logic, in one run.
//!
//! ```text
//! cargo bench --bench proxy_cpu                            # CPU time, 41 rounds of 8,000 requests for each system
//! cargo bench --bench proxy_cpu -- --quick                 # 15 of 2,000, as CI runs it
//! cargo bench --bench proxy_cpu -- --instructions          # user instructions, counted by valgrind
//! cargo bench --bench proxy_cpu -- --misses                # the same, and what misses the first cache or is predicted wrongly
//! cargo bench --bench proxy_cpu -- --check                 # either way: fails if our logic takes more than 10 %
//! ```
//! Each system runs as a process of its own with one proxy thread; the bare proxy has the same time-outs, buffers and
//! allocator, the same upstream, gets the same bytes and answers with them. It is the same pingora with none of our logic: it keeps
//! header names as they are spelled, as pingora does by itself, and what it forwards is smaller by what we add (token,
//! `X-Forwarded-*`), since adding that is our logic. The sidecar runs as a shop would run it: visitor cookie, token injected,
//! redb, metrics on.
//!
//! **CPU time** is user and system time of all the process's threads, by the process's own clock. The proxies have one
//! core, clients and upstream the other, where they never sleep (see `support/load.rs`): else a third of what is measured would be the
//! proxies' work to wake them, which a slower proxy has more of. Rounds are short and interleaved, each round in the opposite order
//! of the one before, so that what disturbs one system disturbs its neighbours too. Disturbance (other tenants, cold caches,
//! interrupts) only ever adds time, and never the same twice: the least of many rounds is what a request costs, the median is what
//! it cost today. So `--check` compares the least of each system; the median of the rounds' own ratios stands beside it, and where
//! the two disagree widely, the machine was too busy to tell.
//!
//! **Instructions** are the same on any day. They are those in user mode; both proxies make the same system calls. valgrind
//! knows no SHA extensions: cryptography counts for more than it costs. What a request costs in time is decided less by them than by
//! how much code it runs through: it is more than the first cache holds, so nearly every line of it is fetched anew for each
//! request. `--misses` has valgrind simulate that cache and the prediction of branches, too.

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark fails loudly")]

mod instructions;
#[path = "../support/mod.rs"]
mod support;

use std::process::ExitCode;
use std::sync::Arc;

use self::support::load::{Pace, Surrounding, Who, Work};
use self::support::numbers::{least, median, ratios};
use self::support::processes::Process;
use self::support::requests::{Requests, visitor_cookie};
use self::support::surroundings::{Surroundings, Wanted};
use self::support::{BODY, parts};

/// As the sidecar's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CONNECTIONS: usize = 8;
const LIMIT: f64 = 1.10;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["simulator"] => parts::simulator(),
        ["bare", upstream] => parts::bare(upstream.parse().unwrap()),
        ref flags => {
            let check = flags.contains(&"--check");
            let misses = flags.contains(&"--misses");
            return match misses || flags.contains(&"--instructions") {
                true => instructions::compare(misses, check),
                false => compare(flags.contains(&"--quick"), check),
            };
        }
    }
    ExitCode::SUCCESS
}

/// Fails, if that is asked for, where the ratio is beyond the limit.
fn verdict(ratio: f64, check: bool) -> ExitCode {
    if check && ratio > LIMIT {
        eprintln!(
            "the sidecar's logic takes {:.1} % over the bare proxy; the limit is 10 %",
            (ratio - 1.0) * 100.0
        );
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

// === CPU time ===

struct System {
    name: &'static str,
    process: Process,
    cookie: Option<String>,
    micros: Vec<f64>,
    /// User and system ticks before the first round.
    ticks: [u64; 2],
}

fn compare(quick: bool, check: bool) -> ExitCode {
    let (rounds, requests) = if quick { (15, 2_000) } else { (41, 8_000) };
    let surroundings = Surroundings::start();
    let mut systems = [
        System::new("pingora, passing through", surroundings.bare(&[])),
        System::new(
            "sidecar, access log off",
            surroundings.sidecar(&[], "quiet", &sidecar(false)),
        ),
        System::new(
            "sidecar, access log on",
            surroundings.sidecar(&[], "logging", &sidecar(true)),
        ),
    ];
    // The bare proxy sets no cookie and gets the same request nonetheless.
    systems[0].cookie = systems[1].cookie.clone();
    for system in &mut systems {
        system.load(&surroundings.load, requests);
        system.ticks = system.process.ticks();
    }
    for round in 0..rounds {
        for index in 0..systems.len() {
            let index = if round % 2 == 0 {
                index
            } else {
                systems.len() - 1 - index
            };
            systems[index].measure(&surroundings.load, requests);
        }
    }
    println!(
        "| system | CPU µs a request: least, median | in the kernel | ÷ passing through: least, median of the rounds |"
    );
    println!("| --- | --- | --- | --- |");
    let [base, ..] = &systems;
    for system in &systems {
        println!(
            "| {} | {:.1}, {:.1} | {:.0} % | {:.3}, {:.3} |",
            system.name,
            least(&system.micros),
            median(&system.micros),
            system.kernel_share() * 100.0,
            least(&system.micros) / least(&base.micros),
            system.median_ratio(base),
        );
    }
    println!(
        "{rounds} interleaved rounds of {requests} requests over {CONNECTIONS} connections, {BODY}-byte answers"
    );
    verdict(least(&systems[1].micros) / least(&base.micros), check)
}

/// As a shop runs it, with one proxy thread.
fn sidecar(access: bool) -> Wanted {
    Wanted { access, threads: 1 }
}

/// Has the process answer that many requests of one visitor.
fn load(
    load: &Surrounding,
    process: &Process,
    cookie: Option<&str>,
    number: usize,
    connections: usize,
) {
    let work = Work {
        requests: Arc::new(Requests::of_one(cookie)),
        number,
        connections,
        who: Who::InTurn,
        pace: Pace::AsAnswered,
    };
    load.load(process.address, work);
}

impl System {
    fn new(name: &'static str, process: Process) -> Self {
        Self {
            name,
            cookie: visitor_cookie(process.address),
            process,
            micros: Vec::new(),
            ticks: [0; 2],
        }
    }

    fn load(&self, surrounding: &Surrounding, requests: usize) {
        let cookie = self.cookie.as_deref();
        load(surrounding, &self.process, cookie, requests, CONNECTIONS);
    }

    fn measure(&mut self, load: &Surrounding, requests: usize) {
        let before = self.process.cpu_nanos();
        self.load(load, requests);
        let nanos = self.process.cpu_nanos() - before;
        self.micros.push(nanos as f64 / 1000.0 / requests as f64);
    }

    fn kernel_share(&self) -> f64 {
        let now = self.process.ticks();
        let [user, system] = [0, 1].map(|index| (now[index] - self.ticks[index]) as f64);
        system / (user + system)
    }

    fn median_ratio(&self, base: &Self) -> f64 {
        median(&ratios(&self.micros, &base.micros))
    }
}
