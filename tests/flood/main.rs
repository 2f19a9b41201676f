//! A flood, and known visitors in the middle of it: shows that it makes no more profiles than the limits allow, takes no more memory
//! than its bound, and that the known visitors hardly notice.
//!
//! ```text
//! cargo test --release --test flood               # 1,000,000 requests, 2,000 slow connections, 1,000 visitors: the README's figures
//! cargo test --release --test flood -- --quick    # less than a minute, as CI runs it
//! cargo test --release --test flood -- --help
//! ```
//! One real process of the real binary on a redb file, in front of the simulator as Dressipi and of the demo shop as the app. The
//! visitors are made by a first process without limits; a second one, on the same file, has limits as somebody sets them
//! who expects a flood (`configuration.rs`). Requests without a cookie come over the connections of one proxy that is
//! believed in its `X-Forwarded-For`: browsers from anywhere, from one address and from one IPv6 network, bots, probes,
//! prefetches, other methods (`requests.rs`). Slow connections send nothing, or a header or a body byte by byte, and come again
//! when they are closed (`slow.rs`). At the end somebody opens more connections than there may be.
//!
//! **What is measured.** Known visitors come by a timetable that does not wait for answers, in calm and flood alike, which take turns:
//! what else the machine does falls on both. All calms together are compared with all floods.
//!
//! **How fast the flood is.** Load, sidecar and simulator share the processors here, which those of a real flood do not, and on a
//! machine without a free processor everybody waits, whatever the sidecar does. So the flood comes by a timetable, too: 3,000 requests
//! a second, and no more than three tenths of what is answered when nothing holds it back, which is measured first. With the slow
//! connections and the visitors that keeps about a third of two processors busy, two fifths of it the load and the simulator; the table
//! shows how much it was. The load has three threads: visitors, flood, simulator. Where others keep the machine busy, a request waits for
//! a whole time slice of theirs now and then, in the flood more often than in the calm since then no processor is idle: if p99 is to
//! tell of the sidecar, keep the machine free, or run this before the others (`chrt -r 1`, as root).
//!
//! **What is not shown.** The limit of connections for one address: those of this host count for the whole only, since a
//! proxy may be on it; `src/gate/census.rs` tests it. And floods of TLS handshakes and of HTTP/2 streams.
//!
//! Loopback only. Everything that it starts ends with it, whatever ends it; everything that it writes is in a folder that
//! goes with it.

#![allow(
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    reason = "a test fails loudly"
)]

#[path = "../support/child.rs"]
mod child;
mod configuration;
mod demand;
mod flood;
mod http;
mod judge;
mod metrics;
mod options;
mod report;
mod requests;
mod sidecar;
mod slow;
mod stage;
#[path = "../support/table.rs"]
mod table;
mod visitors;

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use dressipi_sidecar::simulator::{Shop, Simulator, SimulatorConfig, system_clock};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::net::TcpSocket;
use tokio::runtime::{Handle, Runtime};

use configuration::{Bounds, Upstreams};
use flood::{Flood, Wave};
use judge::{Evidence, judge};
use metrics::Metrics;
use options::Options;
use report::report;
use sidecar::Sidecar;
use stage::Stage;
use visitors::Crowd;

/// A flood that takes so many times as long as its timetable is given up.
const PATIENCE: f64 = 2.0;
/// So many more connections than there may be.
const TOO_MANY: usize = 100;
/// What listens here and what is a file, in each of the two processes.
const OTHER_FILES: usize = 500;

fn main() -> ExitCode {
    let options = Options::read();
    if let Err(what) = allow_files(&options) {
        eprintln!("{what}");
        return ExitCode::FAILURE;
    }
    let folder = tempfile::Builder::new().prefix("flood-").tempdir();
    let mut folder = folder.expect("a folder of its own");
    folder.disable_cleanup(options.keep);
    let result = runtime().block_on(async {
        tokio::select! {
            passed = run(&options, folder.path()) => Ok(passed),
            _ = tokio::signal::ctrl_c() => Err("interrupted"),
            () = tokio::time::sleep(options.longest()) => Err("FAILED: it took too long"),
        }
    });
    if options.keep {
        println!(
            "configurations, logs and store are in {}",
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
    println!("seed {}", options.seed);
    let mut dice = StdRng::seed_from_u64(options.seed);
    let bounds = Bounds::of(options);
    let _ = rustls::crypto::ring::default_provider().install_default();
    let simulator = Simulator::new(
        SimulatorConfig {
            access_token_lifetime_s: bounds.token_lifetime.as_secs(),
            ..SimulatorConfig::default()
        },
        system_clock(),
    );
    let upstreams = serve(&simulator).await;
    let (config, log) = (folder.join("sidecar.toml"), folder.join("sidecar.log"));

    println!("{} visitors come for the first time", options.visitors);
    configuration::write(&config, folder, upstreams, &bounds, false);
    let sidecar = Sidecar::start(&config, &log).await;
    let crowd = Crowd::introduce(options.visitors, sidecar.address, thread("visitors")).await;
    let stopped_before = sidecar.stop().await;
    let known = simulator.totals();

    configuration::write(&config, folder, upstreams, &bounds, true);
    let begun_at_s = system_clock()() / 1000;
    let sidecar = Sidecar::start(&config, &log).await;
    crowd.go_to(sidecar.address).await;
    let mut seen = crowd.roll_call().await;
    let at_rest = sidecar.memory().0;
    sidecar.forget_peak();

    let load = thread("flood");
    let mut flood = Flood::new(
        sidecar.address,
        options.connections,
        load.clone(),
        dice.random(),
    );
    let capacity = flood
        .send(Wave {
            requests: options.requests / 4,
            rate: None,
            until: Instant::now() + options.trial(),
        })
        .await;
    // A flood is long enough for each slow connection to meet its end.
    let shortest = bounds.client_timeout.mul_f64(1.5).as_secs_f64();
    let each = options.requests as f64 / options.rounds() as f64;
    let rate = options.rate.min(capacity * options.share);
    let rate = rate.min(each / shortest);
    println!(
        "{capacity:.0} requests of the flood are answered in a second; it comes with {rate:.0}"
    );

    let mut stage = Stage {
        sidecar: &sidecar,
        crowd: &crowd,
        browse: options.browse,
        dice,
        rows: Vec::new(),
    };
    let mut slow = Vec::new();
    let rounds = options.rounds();
    for round in 0..rounds {
        stage.calm(options.calm()).await;
        let left = options.requests - flood.tally.lock().answered().min(options.requests);
        let requests = left / (rounds - round);
        let timetable = Duration::from_secs_f64(requests as f64 / rate);
        let wave = Wave {
            requests,
            rate: Some(rate),
            until: Instant::now() + timetable.mul_f64(PATIENCE),
        };
        let ended = stage.flood(&mut flood, wave, options.slow, &load).await;
        slow.push(ended);
    }
    stage.calm(options.calm()).await;
    let crowded = stage.crowd(bounds.connections + TOO_MANY).await;
    let rows = stage.rows;

    let last = crowd.roll_call().await;
    seen.add(&last);
    for row in &rows {
        seen.add(&row.seen);
    }
    let metrics = Metrics::read(sidecar.admin).await;
    let peak = sidecar.memory().1;
    let evidence = Evidence {
        bounds,
        known,
        totals: simulator.totals(),
        flood: flood.tally.into_inner(),
        slow,
        crowded,
        seen,
        metrics,
        at_rest,
        peak,
        days: system_clock()() / 1000 / 86_400 - begun_at_s / 86_400 + 1,
        stopped: sidecar.stop().await && stopped_before,
    };
    let demands = judge(options, &evidence, &rows);
    report(options, &evidence, &rows, &demands)
}

/// Dressipi and the shop.
async fn serve(simulator: &Simulator) -> Upstreams {
    let thread = thread("simulator");
    let bind = || {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        socket
    };
    let (dressipi, shop) = (bind(), bind());
    let upstreams = Upstreams {
        dressipi: dressipi.local_addr().unwrap(),
        shop: shop.local_addr().unwrap(),
    };
    let simulator = simulator.clone();
    let serving = thread.spawn(async move {
        let (dressipi, shop) = (dressipi.listen(4096).unwrap(), shop.listen(4096).unwrap());
        let router = Shop::new(simulator.clone()).router();
        tokio::spawn(async move { axum::serve(shop, router).await });
        tokio::spawn(simulator.serve(dressipi, std::future::pending()));
    });
    serving.await.unwrap();
    upstreams
}

/// A runtime on a thread of its own, which ends with the process.
fn thread(name: &str) -> Handle {
    let runtime = runtime();
    let handle = runtime.handle().clone();
    let thread = std::thread::Builder::new().name(name.to_owned());
    let forever = move || runtime.block_on(std::future::pending::<()>());
    thread.spawn(forever).expect("one thread more");
    handle
}

fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().expect("a runtime")
}

/// Has the system allow as many connections as are needed, here and in the sidecar, which inherits it.
fn allow_files(options: &Options) -> Result<(), String> {
    let bounds = Bounds::of(options);
    // Each may have another one to an upstream, whose other end is here.
    let needed = 2 * (bounds.connections + TOO_MANY) + OTHER_FILES;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(|error| error.to_string())?;
    let needed = needed as u64;
    if soft >= needed {
        return Ok(());
    }
    if hard < needed {
        return Err(format!(
            "{needed} files must be open at once, and the system allows {hard} (`ulimit -H -n`)"
        ));
    }
    setrlimit(Resource::RLIMIT_NOFILE, needed, hard).map_err(|error| error.to_string())
}
