//! A storm of refreshes: 100,000 token sets that expire within ten seconds, while known visitors browse who have good tokens.
//!
//! ```text
//! cargo bench --bench storm                          # 2 storms of 100,000 visitors, four minutes
//! cargo bench --bench storm -- --visitors 20000      # of so many
//! cargo bench --bench storm -- --come 5000           # of whom so many come in a second, in place of 2,000
//! cargo bench --bench storm -- --quick               # 2 of 5,000, less than 45 seconds
//! cargo bench --bench storm -- --check               # fails where the browsing visitors' p99 is more than doubled
//! cargo bench --bench storm -- --json FILE           # the figures once more
//! SIDECAR_BINARY=$(deploy/profiled/build) cargo bench --bench storm      # the sidecar built by its profile
//! ```
//! The store, a redb file, is filled before the real binary starts on it. Known visitors browse by a timetable all the while; calm and
//! storm take turns, so that what else the machine does falls on both. In a storm each of its visitors comes once, just after the token
//! has expired, and is in nobody's cache: the worst case, since the request must wait for a look into the store, a refresh and its write,
//! and none of the refreshes could be done ahead. Dressipi is a mock that answers at once.
//!
//! What is judged is the p99 of the visitors who browse, in the storm against the calms before and after it. How long the storm's
//! own visitors wait is told, and how many went on without a token since theirs did not come within `max_wait`; their refresh goes on
//! all the same. At the end some more of them come as fast as they are answered: that is how many refreshes the machine can do. The
//! sidecar has the first processor and one proxy thread, clients and mock have the second; with `--anywhere` the system decides.
//!
//! At the end no profile has been made, and nobody was refreshed twice.

#![allow(
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    reason = "a benchmark fails loudly"
)]

mod report;
mod stage;
#[path = "../timetable/mod.rs"]
mod timetable;
mod visitors;

// Where the modules of other tests, which `timetable` includes, look for it.
use timetable::child;

use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use dressipi_sidecar::clock::{Clock, SystemClock};

use report::report;
use stage::Stage;
use timetable::configuration::Configuration;
use timetable::mock::Mock;
use timetable::options::Options;
use timetable::place::Place;
use timetable::sidecar::Sidecar;
use visitors::Register;

/// As the sidecar's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How much is done.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    pub storms: usize,
    /// Visitors in each storm.
    pub visitors: usize,
    /// Their tokens expire within that time.
    pub within: Duration,
    /// So many of them come in a second, at most.
    pub come: f64,
    /// So many more come at the end, as fast as they are answered.
    pub rush: usize,
    /// How long a calm is.
    pub calm: Duration,
    /// How long nothing is measured after a storm.
    pub rest: Duration,
    /// Visitors who browse, and how many requests they send in a second.
    pub browsing: usize,
    pub per_second: f64,
}

const FULL: Extent = Extent {
    storms: 2,
    visitors: 100_000,
    within: Duration::from_secs(10),
    come: 2000.0,
    rush: 20_000,
    calm: Duration::from_secs(20),
    rest: Duration::from_secs(5),
    browsing: 1000,
    per_second: 1000.0,
};
const QUICK: Extent = Extent {
    storms: 2,
    visitors: 5000,
    within: Duration::from_secs(5),
    come: 1000.0,
    rush: 2000,
    calm: Duration::from_secs(5),
    rest: Duration::from_secs(2),
    ..FULL
};
/// So many visitors can be written in a second, on the slowest machine; and so long may the sidecar take to start.
const FILLED_PER_SECOND: f64 = 8000.0;
const START: Duration = Duration::from_secs(4);
/// Their tokens are good throughout.
const GOOD: Duration = Duration::from_secs(24 * 3600);

impl Extent {
    /// How many of a storm's visitors come in a second: none before the token has expired.
    pub fn pace(&self) -> f64 {
        self.come
            .min(self.visitors as f64 / self.within.as_secs_f64())
    }

    /// How long it takes until all of them have come.
    pub fn lasts(&self) -> Duration {
        Duration::from_secs_f64(self.visitors as f64 / self.pace())
    }
}

fn main() -> ExitCode {
    let options = Options::read();
    if options.has("--anywhere") {
        Place::anywhere();
    }
    Place::Load.put(&std::process::id().to_string());
    let longest = Duration::from_secs(if options.has("--quick") { 180 } else { 900 });
    timetable::runtime().block_on(async {
        let run = tokio::time::timeout(longest, run(&options)).await;
        run.unwrap_or_else(|_| {
            eprintln!("it took too long: this machine is too busy");
            ExitCode::FAILURE
        })
    })
}

async fn run(options: &Options) -> ExitCode {
    let mut extent = if options.has("--quick") { QUICK } else { FULL };
    extent.storms = options.number("--storms").unwrap_or(extent.storms);
    extent.visitors = options.number("--visitors").unwrap_or(extent.visitors);
    if let Some(rate) = options.number("--browse") {
        extent.per_second = rate as f64;
    }
    if let Some(come) = options.number("--come") {
        extent.come = come as f64;
    }
    let folder = tempfile::Builder::new().prefix("storm-").tempdir();
    let folder = folder.expect("a folder of its own");
    // In a folder of its own: that of the configuration is watched.
    let store = folder.path().join("store/sessions.redb");
    let mock = timetable::thread("mock").spawn(Mock::start()).await;
    let mock = mock.expect("it starts");

    // When each storm begins is decided now, since the tokens say it.
    let (wall, now) = (SystemClock.now(), Instant::now());
    let filling = extent.visitors as f64 * extent.storms as f64 / FILLED_PER_SECOND;
    let ready = START + Duration::from_secs_f64(filling);
    let round = extent.calm + extent.lasts() + extent.rest;
    let mut register = Register::open(&store).await;
    let browsing = register.add(extent.browsing, |_| wall + GOOD).await;
    let mut storms = Vec::new();
    for number in 0..extent.storms {
        let begin = ready + round * number as u32 + extent.calm;
        let step = extent.within / extent.visitors as u32;
        let expired_from = |place: usize| wall + begin + step * place as u32;
        let cookies = register.add(extent.visitors, expired_from).await;
        storms.push((now + begin, cookies));
    }
    let rushing = register.add(extent.rush, |_| wall).await;
    register.close().await;
    println!(
        "{} visitors stored in {:.1} s",
        extent.visitors * extent.storms + extent.browsing + extent.rush,
        now.elapsed().as_secs_f64()
    );

    let configuration = Configuration {
        upstream: mock.address,
        session: format!("path = {store:?}\ncache_capacity = 1000000"),
        threads: Place::threads(),
        folder: folder.path(),
    };
    let path = configuration.write("sidecar");
    let sidecar = Sidecar::start(&path, &folder.path().join("log")).await;
    Place::Measured.put(sidecar.pid());
    let mut stage = Stage::new(&sidecar, &mock, extent, browsing).await;
    assert!(
        now.elapsed() < ready,
        "the store was not filled in time: this machine is too busy"
    );
    for (begin, cookies) in storms {
        stage.calm(begin - extent.calm).await;
        stage.storm(begin, cookies).await;
    }
    stage.calm(Instant::now() + extent.rest).await;

    let rush = stage.rush(rushing).await;
    let phases = stage.phases;
    let refreshed = mock.counts.refreshes();
    assert_eq!(mock.counts.profiles(), 0, "nobody needs a new profile");
    assert_eq!(
        mock.counts.refused.load(Ordering::Relaxed),
        0,
        "no refresh token is lost"
    );
    assert!(
        refreshed <= (extent.visitors * extent.storms + extent.rush) as u64,
        "nobody is refreshed twice: {refreshed}"
    );
    assert!(sidecar.stop().await, "it ends when it is told to");
    report(options, extent, &phases, &rush)
}
