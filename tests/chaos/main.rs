//! Many sidecars on one store, and everything that can go wrong: shows that nothing is lost.
//!
//! ```text
//! cargo test --release --test chaos                          # ten minutes: the table of the README
//! cargo test --release --test chaos -- --quick               # a minute, as CI runs it
//! cargo test --release --test chaos -- --only kill --seed 7  # one fault, the choices of an earlier run
//! cargo test --release --test chaos -- --help
//! ```
//! Real processes of the real binary on a real Redis (a master, its replica, three sentinels; `redis-server` must be
//! installed), in front of the simulator, which gives tokens of eight to twenty seconds and rotates refresh tokens. Each fault
//! has its slice of the time, then all of them come together. In the end everybody who ever was here comes once more.
//!
//! It fails unless: no visitor ever came as another profile than before; nobody who had tokens was created anew; no expired
//! token was sent; everybody has a profile at the end; and each profile that is nobody's is explained by an answer that was
//! lost on its way, or arrived at a replica that was killed before it could store it.
//!
//! Loopback only. Everything that it starts ends with it, whatever ends it; everything that it writes is in a folder that
//! goes with it.

#![allow(
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    reason = "a test fails loudly"
)]

#[allow(dead_code, reason = "shared with the flood")]
#[path = "../support/child.rs"]
mod child;
mod configuration;
mod faults;
mod judge;
#[allow(
    dead_code,
    unused_imports,
    reason = "shared with the integration tests"
)]
#[path = "../support/link.rs"]
mod link;
mod options;
mod replica;
mod report;
#[allow(
    dead_code,
    unused_imports,
    reason = "shared with the integration tests"
)]
#[path = "../support/resp.rs"]
mod resp;
mod store;
mod table;
mod visitors;
mod witness;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use dressipi_sidecar::simulator::{
    RefreshReuse, SettingsPatch, Simulator, SimulatorConfig, system_clock,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;

use configuration::replicas;
use faults::{Kind, World};
use options::{Options, Phase, StoreChoice};
use replica::Replica;
use report::{Timeline, report};
use store::Redis;
use visitors::Crowd;
use witness::Witness;

/// How long everybody has to get a token when nothing goes wrong any more.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let options = Options::read();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let folder = tempfile::Builder::new().prefix("chaos-").tempdir();
    let mut folder = folder.expect("a folder of its own");
    folder.disable_cleanup(options.keep);
    let result = runtime.block_on(async {
        tokio::select! {
            passed = run(&options, folder.path()) => Some(passed),
            _ = tokio::signal::ctrl_c() => None,
        }
    });
    // Whatever still runs ends with its runtime, and with it the processes; then the folder goes.
    runtime.shutdown_timeout(Duration::from_secs(5));
    drop(folder);
    match result {
        Some(true) => ExitCode::SUCCESS,
        Some(false) => ExitCode::FAILURE,
        None => {
            eprintln!("interrupted");
            ExitCode::from(130)
        }
    }
}

/// The whole story; whether everything held.
async fn run(options: &Options, folder: &Path) -> bool {
    if options.store == StoreChoice::Redis && !Redis::installed() {
        eprintln!(
            "redis-server is not installed: .ci/setup installs what is needed, or use --store redb"
        );
        return false;
    }
    if !Replica::clocks_move() {
        eprintln!(
            "libfaketime is not installed: clocks stay as they are (Debian: apt-get install faketime)"
        );
    }
    println!("seed {}", options.seed);
    let _ = rustls::crypto::ring::default_provider().install_default();

    let config = SimulatorConfig {
        access_token_lifetime_s: 15,
        refresh_reuse: match options.strict {
            true => RefreshReuse::Refused,
            false => RefreshReuse::UntilSuccessorUsed,
        },
        ..SimulatorConfig::default()
    };
    let simulator = Simulator::new(config, system_clock());
    let witness = Witness::new(simulator.clone());
    let redis = match options.store {
        StoreChoice::Redis => Some(Redis::start(folder).await),
        StoreChoice::Redb => None,
    };
    let replicas = replicas(options, folder, redis.as_ref(), &witness);
    let replicas = Arc::new(replicas);
    for replica in replicas.iter() {
        replica.start().await;
    }
    let world = Arc::new(World {
        simulator: simulator.clone(),
        replicas: replicas.clone(),
        redis: redis.map(|redis| Arc::new(tokio::sync::Mutex::new(redis))),
    });
    let crowd = Crowd::new(replicas, witness.clone());
    let mut dice = StdRng::seed_from_u64(options.seed);
    let mut guests = JoinSet::new();
    for _ in 0..options.visitors {
        guests.spawn(crowd.clone().occupy(dice.random()));
    }

    let began = Instant::now();
    let mut timeline = Timeline::default();
    let phases = options.phases();
    for (number, (phase, duration)) in phases.iter().enumerate() {
        timeline.begin(number, &witness);
        println!("{:>4} s  {}", began.elapsed().as_secs(), phase.title());
        let mut happening = JoinSet::new();
        let pace = if *phase == Phase::Together { 4 } else { 1 };
        for kind in kinds(*phase, options.store) {
            let dice = StdRng::seed_from_u64(dice.random());
            happening.spawn(kind.happen(world.clone(), dice, pace));
        }
        let over = tokio::time::sleep(*duration);
        tokio::pin!(over);
        loop {
            tokio::select! {
                () = &mut over => break,
                // Lifetimes differ, so that not everybody is refreshed at the same moment.
                () = tokio::time::sleep(Duration::from_millis(500)) => {
                    let patch = SettingsPatch {
                        access_token_lifetime_s: Some(dice.random_range(8..20)),
                        ..SettingsPatch::default()
                    };
                    simulator.update_settings(patch);
                }
                Some(ended) = happening.join_next() => ended.expect("a fault does not fail"),
                Some(left) = guests.join_next() => left.expect("a visitor does not fail"),
            }
        }
        happening.shutdown().await;
        faults::end(&world).await;
    }

    // The shop closes; then everybody comes once more.
    println!(
        "{:>4} s  everybody comes once more",
        began.elapsed().as_secs()
    );
    timeline.begin(phases.len(), &witness);
    crowd.closed.store(true, Ordering::Relaxed);
    while let Some(left) = guests.join_next().await {
        left.expect("a visitor does not fail");
    }
    let left_out = crowd.reunion(PATIENCE, dice.random()).await;
    timeline.end(&witness);
    let titles = phases.iter().map(|(phase, _)| phase.title());
    let titles: Vec<_> = titles.chain(["everybody once more"]).collect();
    if let Some(redis) = &world.redis {
        println!(
            "Redis was taken over {} times",
            redis.lock().await.takeovers()
        );
    }
    let passed = report(options, &titles, &timeline, &witness, &crowd, &left_out);
    if options.keep {
        println!("configurations and logs are in {}", folder.display());
    }
    passed
}

fn kinds(phase: Phase, store: StoreChoice) -> Vec<Kind> {
    match phase {
        Phase::Calm => Vec::new(),
        Phase::One(kind) => vec![kind],
        Phase::Together => Kind::all(store).collect(),
    }
}
