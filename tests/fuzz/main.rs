//! Mutated bytes for everything that reads bytes of others: no panic, and the properties in `targets` hold.
//!
//! ```text
//! cargo test --test fuzz                                      # a few seconds, as among the plain tests
//! nice cargo test --release --test fuzz -- --seconds 3600     # an hour
//! cargo test --test fuzz -- --target gate --seed 7            # one target, the choices of an earlier run
//! ```
//! Everything in `corpus/<target>` and `crashes/<target>` is replayed first, by the plain tests too (`fuzz_corpus`). What
//! breaks a property is written to `crashes/<target>/<hash>`; mend it and commit the file, and it is a test from then on.
//! The same seed makes the same inputs in the same order; how many of them fit into the time depends on the machine.

#![allow(
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    reason = "a test fails loudly"
)]

mod engine;
mod targets;

use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use rand::SeedableRng;
use rand::rngs::StdRng;
use targets::{TARGETS, Target};

/// Mutated bytes for everything that reads bytes of others.
#[derive(Debug, Parser)]
#[command(name = "fuzz")]
struct Options {
    /// How long, all targets together.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Only this one.
    #[arg(long)]
    target: Option<String>,
    /// Which choices are made. Always the same ones by default, so that a change is not refused for what it did not cause.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// `cargo test NAME` gives every test binary the name: this one then runs only if it is meant.
    #[arg(hide = true)]
    filter: Vec<String>,
    /// Given by `cargo test` to every test binary; mean nothing here.
    #[arg(long, hide = true)]
    nocapture: bool,
    #[arg(long, hide = true)]
    no_capture: bool,
    #[arg(long, hide = true)]
    show_output: bool,
    #[arg(long, hide = true)]
    exact: bool,
    #[arg(short, long, hide = true)]
    quiet: bool,
    #[arg(long, hide = true)]
    test_threads: Option<usize>,
    #[arg(long, hide = true)]
    skip: Vec<String>,
    #[arg(long, hide = true)]
    format: Option<String>,
    /// These ask for other tests than this one.
    #[arg(long, hide = true)]
    list: bool,
    #[arg(long, hide = true)]
    ignored: bool,
    #[arg(long, hide = true)]
    include_ignored: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let meant = options.filter.is_empty() || options.filter.iter().any(|name| name == "fuzz");
    if !meant || options.list || options.ignored {
        return ExitCode::SUCCESS;
    }
    let name = options.target.as_deref();
    let chosen: Vec<_> = TARGETS
        .iter()
        .filter(|target| name.is_none_or(|name| name == target.name))
        .collect();
    if chosen.is_empty() {
        let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
        eprintln!("no such target; there are {}", names.join(", "));
        return ExitCode::from(2);
    }
    println!("seed {}", options.seed);
    let share = Duration::from_secs_f64(options.seconds / chosen.len() as f64);
    let mut held = true;
    for target in chosen {
        held &= run(target, options.seed, share);
    }
    match held {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Replays what is kept, then mutates it for `time`; whether everything held.
fn run(target: &Target, seed: u64, time: Duration) -> bool {
    let kept = targets::kept(target.name);
    for (path, input) in &kept {
        if !holds(target, input) {
            eprintln!("{}: {} breaks it", target.name, path.display());
            return false;
        }
    }
    let corpus: Vec<_> = kept.into_iter().map(|(_, input)| input).collect();
    let mut dice = StdRng::seed_from_u64(seed);
    let (begin, mut inputs) = (Instant::now(), 0_u64);
    while begin.elapsed() < time {
        let input = engine::mutate(&corpus, target.words, &mut dice);
        inputs += 1;
        if !holds(target, &input) {
            let path = targets::folder("crashes", target.name).join(engine::name(&input));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &input).unwrap();
            eprintln!(
                "{}: input {inputs} is kept at {}",
                target.name,
                path.display()
            );
            return false;
        }
    }
    println!(
        "{}: {} files, then {inputs} inputs",
        target.name,
        corpus.len()
    );
    true
}

fn holds(target: &Target, input: &[u8]) -> bool {
    panic::catch_unwind(AssertUnwindSafe(|| (target.check)(input))).is_ok()
}
