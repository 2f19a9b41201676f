//! Everything that happens to a sidecar, over and over: shows that it takes no more of the machine at the end than at the beginning,
//! and that nobody got a wrong token meanwhile.
//!
//! ```text
//! cargo test --release --test soak                    # five minutes
//! cargo test --release --test soak -- --minutes 60    # an hour: the README's figures
//! cargo test --release --test soak -- --quick         # forty seconds, as CI runs it
//! cargo test --release --test soak -- --keep          # leaves all measurements (series.csv), the log and the store
//! cargo test --release --test soak -- --help
//! ```
//! One real process of the real binary on a redb file, in front of the simulator, whose tokens live for seconds, and of an app.
//! Between them stands somebody who resets, refuses and holds up. All of this goes on all the time:
//!
//! - visitors come for the first time, come back, go away for good, withdraw their consent; bots, forged cookies (`browsers.rs`, `rude.rs`);
//! - bodies of nothing to megabytes, both ways; connections that are kept, or opened for each request; HTTP/2 with streams that are
//!   reset; requests that are aborted anywhere, slow readers (`multiplexed.rs`, `rude.rs`);
//! - another configuration every few seconds, by SIGHUP or by the file alone, some bad, some that need a restart; log levels; scrapes,
//!   status page, sessions (`keeper.rs`);
//! - an upstream that is gone, resets or hangs; OAuth errors and time-outs, answers that are lost, tokens that are rejected (`trouble.rs`).
//!
//! **A steady state.** More visitors come in the warm-up than the cache holds, sessions that are not used expire and are swept, and the
//! configuration goes round: whatever is bounded is full when measuring begins. The warm-up is a third of the time, a quarter of an hour at most.
//!
//! **What is judged.** Each second the memory, descriptors and threads as the system tells them, and tasks, connections, sessions and
//! so on as the sidecar does. Memory is judged by its slope (`fit.rs`): the run fails where even the lower end of what is likely is
//! above a bound (`options.rs` says which and why). Descriptors and tasks are compared between the first and the last fifth of the
//! time, and between before the load and after it. And each answer is judged by what came with it: the simulator and the app tell whose
//! token reached them. A visitor without a token must be told one of the reasons that this run gives cause for.
//!
//! **What is not shown.** Restarts and replicas (`tests/chaos`), floods (`tests/flood`), TLS.
//!
//! Loopback only. Everything that it starts ends with it, whatever ends it; everything that it writes is in a folder that
//! goes with it.

#![allow(
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    reason = "a test fails loudly"
)]

mod app;
mod browsers;
#[path = "../support/child.rs"]
mod child;
mod configuration;
#[allow(dead_code, reason = "shared with the flood")]
#[path = "../flood/demand.rs"]
mod demand;
mod fit;
mod gauge;
mod ground;
#[allow(dead_code, reason = "shared with the flood")]
#[path = "../flood/http.rs"]
mod http;
mod judge;
mod keeper;
#[allow(
    dead_code,
    unused_imports,
    reason = "shared with the integration tests"
)]
#[path = "../support/link.rs"]
mod link;
#[allow(dead_code, reason = "shared with the flood")]
#[path = "../flood/metrics.rs"]
mod metrics;
mod multiplexed;
mod options;
mod report;
#[allow(
    dead_code,
    unused_imports,
    reason = "shared with the integration tests"
)]
#[path = "../support/resp.rs"]
mod resp;
mod rude;
#[allow(dead_code, reason = "shared with the flood")]
#[path = "../flood/sidecar.rs"]
mod sidecar;
#[path = "../support/table.rs"]
mod table;
mod trouble;

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use dressipi_sidecar::simulator::{RefreshReuse, Simulator, SimulatorConfig, system_clock};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use configuration::Configuration;
use gauge::{Quantity, Sample};
use ground::Ground;
use judge::Evidence;
use link::{Ear, Link};
use options::Options;
use report::report;
use sidecar::Sidecar;
use trouble::Upstreams;

/// How many of each there are at the same time.
const BOTS: usize = 3;
const ABORTERS: usize = 3;
const SLOW_READERS: usize = 4;
const MULTIPLEXED: usize = 2;
/// What start and end may take beside the load and what comes after it.
const RESERVE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let folder = tempfile::Builder::new().prefix("soak-").tempdir();
    let mut folder = folder.expect("a folder of its own");
    folder.disable_cleanup(options.keep);
    let scale = options.scale();
    let result = runtime.block_on(async {
        tokio::select! {
            passed = run(&options, folder.path()) => Ok(passed),
            _ = tokio::signal::ctrl_c() => Err("interrupted"),
            () = tokio::time::sleep(scale.load + scale.settle + RESERVE) => Err("FAILED: it took too long"),
        }
    });
    // Whatever still runs ends with its runtime, and with it the sidecar; then the folder goes.
    runtime.shutdown_timeout(Duration::from_secs(5));
    if options.keep {
        println!(
            "configuration, log, store and series.csv are in {}",
            folder.path().display()
        );
    }
    drop(folder);
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// The whole story; whether everything held.
async fn run(options: &Options, folder: &Path) -> bool {
    let scale = options.scale();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let simulator = Simulator::new(
        SimulatorConfig {
            access_token_lifetime_s: scale.token_lifetime.as_secs(),
            // A server that is strict would end a visitor's tokens whose refresh it answered in vain.
            refresh_reuse: RefreshReuse::UntilSuccessorUsed,
            ..SimulatorConfig::default()
        },
        system_clock(),
    );
    let upstreams = Arc::new(serve(&simulator).await);
    let configuration = Arc::new(Configuration {
        path: folder.join("sidecar.toml"),
        folder: folder.to_owned(),
        dressipi: upstreams.dressipi.address,
        app: upstreams.app.address,
        scale,
    });
    configuration.write(0);
    let (log, store) = (folder.join("sidecar.log"), configuration::store(folder));
    let sidecar = Arc::new(Sidecar::start(&configuration.path, &log).await);
    let ground = Arc::new(Ground::new(sidecar.address, sidecar.admin, scale));

    // Everything has happened once before it is measured what there is at rest.
    let trial = Duration::from_secs(2);
    let _ = tokio::time::timeout(trial, browsers::browse(ground.clone(), 2)).await;
    keeper::settle(&sidecar, &configuration).await;
    trouble::hang_up(&upstreams).await;
    tokio::time::sleep(trial).await;
    let before = gauge::rest(&sidecar, &store, Instant::now()).await;

    println!(
        "load for {} s, of which the first {} s are warm-up",
        scale.load.as_secs(),
        scale.warm_up.as_secs()
    );
    let begun = Instant::now();
    let mut load = all_of_it(options, &ground, &sidecar, &configuration, &upstreams);
    let samples = tokio::select! {
        samples = gauge::watch(&sidecar, &store, begun, scale.load) => samples,
        Some(ended) = load.join_next() => panic!("nobody goes before the end: {ended:?}"),
    };
    load.shutdown().await;
    drop(load);
    trouble::end(&upstreams);
    keeper::settle(&sidecar, &configuration).await;
    if scale.hang_up {
        trouble::hang_up(&upstreams).await;
    }
    settled(&sidecar, &store, &before, scale.settle).await;
    let after = gauge::rest(&sidecar, &store, begun).await;

    let metrics = metrics::Metrics::read(sidecar.admin).await;
    let sidecar = Arc::into_inner(sidecar).expect("whoever had it has ended");
    let stopped = sidecar.stop().await;
    let all: Vec<Sample> = samples.iter().chain(&after).copied().collect();
    std::fs::write(folder.join("series.csv"), gauge::series(&all))
        .expect("the folder can be written");
    let log = std::fs::read_to_string(&log).unwrap_or_default();
    let seen = ground.seen.lock().clone();
    let evidence = Evidence {
        scale,
        before,
        load: samples,
        after,
        seen,
        metrics,
        totals: simulator.totals(),
        panics: log.lines().filter(|line| line.contains("panicked")).count() as u64,
        stopped,
    };
    report(options, &evidence)
}

/// Everything that goes on at the same time; ends when it is dropped.
fn all_of_it(
    options: &Options,
    ground: &Arc<Ground>,
    sidecar: &Arc<Sidecar>,
    configuration: &Arc<Configuration>,
    upstreams: &Arc<Upstreams>,
) -> JoinSet<()> {
    let mut load = JoinSet::new();
    load.spawn(browsers::browse(ground.clone(), options.browsers));
    (0..BOTS).for_each(|_| drop(load.spawn(rude::bots(ground.clone()))));
    (0..ABORTERS).for_each(|_| drop(load.spawn(rude::aborters(ground.clone()))));
    (0..SLOW_READERS).for_each(|_| drop(load.spawn(rude::slow_readers(ground.clone()))));
    (0..MULTIPLEXED).for_each(|_| drop(load.spawn(multiplexed::connections(ground.clone()))));
    load.spawn(keeper::scrape(ground.clone()));
    load.spawn(keeper::reload(
        ground.clone(),
        sidecar.clone(),
        configuration.clone(),
    ));
    load.spawn(trouble::happen(ground.clone(), upstreams.clone()));
    load
}

/// Waits until there is hardly more than before, or for so long.
async fn settled(sidecar: &Sidecar, store: &Path, before: &[Sample], longest: Duration) {
    let rest = &before[before.len() - 1];
    let begun = Instant::now();
    while begun.elapsed() < longest {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = Sample::take(sidecar, store, begun).await;
        let counts = [
            Quantity::Descriptors,
            Quantity::Threads,
            Quantity::ProxyTasks,
            Quantity::OauthTasks,
        ];
        let rests = counts
            .iter()
            .all(|count| now.of(*count) <= rest.of(*count) + 2.0);
        if rests
            && now.of(Quantity::Flows) + now.of(Quantity::Connections) + now.of(Quantity::Unsaved)
                == 0.0
        {
            break;
        }
    }
    println!("at rest again after {} s", begun.elapsed().as_secs());
}

/// Dressipi and the app, each behind somebody in the middle.
async fn serve(simulator: &Simulator) -> Upstreams {
    let bind = async || {
        TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))
            .await
            .unwrap()
    };
    let (dressipi, app) = (bind().await, bind().await);
    let [at_dressipi, at_app] = [&dressipi, &app].map(|socket| socket.local_addr().unwrap());
    let router = app::router(simulator.clone());
    tokio::spawn(async move { axum::serve(app, router).await });
    tokio::spawn(simulator.clone().serve(dressipi, std::future::pending()));
    Upstreams {
        app: Link::to(at_app, Ear::Bytes),
        dressipi: Link::to(at_dressipi, Ear::Bytes),
        simulator: simulator.clone(),
    }
}
