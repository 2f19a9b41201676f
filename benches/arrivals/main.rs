//! New visitors: how many a second the sidecar takes in, beside the same two OAuth calls made with no sidecar between.
//!
//! ```text
//! cargo bench --bench arrivals                       # 7 rounds of 20,000 visitors for each store
//! cargo bench --bench arrivals -- --quick            # 3 of 3,000, less than 45 seconds
//! cargo bench --bench arrivals -- --check            # fails where a target is missed
//! cargo bench --bench arrivals -- --json FILE        # the figures once more
//! SIDECAR_BINARY=$(deploy/profiled/build) cargo bench --bench arrivals   # the sidecar built by its profile; the direct calls are not
//! ```
//! Every request comes without a cookie, as a browser's, to the real binary in front of a shop; Dressipi is a mock that answers at once
//! (`../timetable/mock.rs`). So a visitor takes the sidecar a proxied request with a new cookie, an authorize call, a stored code, an
//! exchange and stored tokens. **Direct** are the two calls alone, in a process of their own: the sidecar's own OAuth client on the
//! sidecar's own runtime, with as many pairs at once. Sidecar and direct calls have the first processor, the mock, the clients and Redis
//! the second; with `--anywhere` the system decides. With a Dressipi that takes its time all of them would be equally fast; with this one what is compared is work.
//!
//! **Rate.** So many visitors are under way at any time; rounds take turns, direct calls and each store, and what is told is the median
//! of the rounds' ratios. **Added.** Then visitors come by a timetable, half as many a second as the store took in, and the direct
//! calls by the same timetable: the p99 of the first less the p99 of the second is what the sidecar adds, storing and proxying included.
//!
//! At the end there must be as many authorize calls as there were visitors: one visitor, one profile.

#![allow(
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    reason = "a benchmark fails loudly"
)]

mod direct;
mod report;
mod stores;
#[path = "../timetable/mod.rs"]
mod timetable;

// Where the modules of other tests, which `timetable` includes, look for it.
use timetable::child;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use direct::{Found, Order};
use report::Results;
use stores::Served;
use timetable::clients::{self, Seen, Timetable};
use timetable::latencies::{Latencies, median};
use timetable::mock::Mock;
use timetable::options::Options;
use timetable::place::Place;

/// As the sidecar's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How much is done.
#[derive(Clone, Copy)]
struct Extent {
    rounds: usize,
    /// Visitors in a round.
    visitors: usize,
    /// Visitors, or pairs of calls, under way at once.
    at_once: usize,
    /// How long a timetable is.
    timetable: Duration,
}

const FULL: Extent = Extent {
    rounds: 7,
    visitors: 20_000,
    at_once: 256,
    timetable: Duration::from_secs(5),
};
const QUICK: Extent = Extent {
    rounds: 3,
    visitors: 3_000,
    at_once: 256,
    timetable: Duration::from_secs(1),
};

/// One store's rounds.
#[derive(Default)]
struct Measured {
    rates: Vec<f64>,
    added: Vec<Added>,
    /// Processor time of the sidecar for one visitor, in microseconds.
    micros: Vec<f64>,
}

/// What came of one timetable, in milliseconds.
struct Added {
    per_second: f64,
    direct: Latencies,
    sidecar: Latencies,
    /// Of known visitors, for the same page by the same timetable.
    known: Latencies,
}

fn main() -> ExitCode {
    let options = Options::read();
    if let [direct::NAME, words @ ..] = &options.words()[..] {
        Order::parse(words).obey();
        return ExitCode::SUCCESS;
    }
    if options.has("--anywhere") {
        Place::anywhere();
    }
    Place::Load.put(&std::process::id().to_string());
    let longest = Duration::from_secs(if options.has("--quick") { 180 } else { 1200 });
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
    extent.rounds = options.number("--rounds").unwrap_or(extent.rounds);
    extent.visitors = options.number("--visitors").unwrap_or(extent.visitors);
    extent.at_once = options.number("--at-once").unwrap_or(extent.at_once);
    let bench = Bench {
        mock: Mock::start().await,
        extent,
    };
    let served = Served::all(&bench.mock, extent.at_once).await;
    let mut results = Results::new(&served);
    // Who is known, one for each store, came while the sidecars started.
    let mut visitors = served.len() as u64;
    for store in &served {
        visitors += bench.warm(store).await;
    }
    for round in 0..extent.rounds {
        let direct = bench.direct(extent.visitors, None).await;
        visitors += direct.authorized;
        results.direct.push(direct.rate);
        results.direct_micros.push(direct.micros);
        for turn in 0..served.len() {
            let at = (turn + round) % served.len();
            visitors += bench.rate(&served[at], &mut results.stores[at]).await;
        }
    }
    for _ in 0..extent.rounds {
        for (store, measured) in served.iter().zip(&mut results.stores) {
            visitors += bench.added(store, measured).await;
        }
    }
    let counts = &bench.mock.counts;
    assert_eq!(counts.profiles(), visitors, "one visitor, one profile");
    results.visitors = visitors;
    for store in served {
        store.stop().await;
    }
    results.report(options)
}

struct Bench {
    mock: Mock,
    extent: Extent,
}

impl Bench {
    /// The direct calls, in a process of their own.
    async fn direct(&self, count: usize, per_second: Option<f64>) -> Found {
        let order = Order {
            dressipi: self.mock.address,
            at_once: self.extent.at_once,
            count,
            per_second,
        };
        let found = tokio::task::spawn_blocking(move || order.run()).await;
        found.expect("it does not panic")
    }

    async fn warm(&self, store: &Served) -> u64 {
        let (seen, _) = self.closed(store, self.extent.at_once * 4).await;
        arrived(&seen)
    }

    async fn closed(&self, store: &Served, count: usize) -> (Seen, Duration) {
        let requests = clients::always(timetable::page(None));
        clients::closed(store.address(), self.extent.at_once, count, &requests).await
    }

    /// A round without a timetable; says how many came.
    async fn rate(&self, store: &Served, measured: &mut Measured) -> u64 {
        let before = store.cpu();
        let (seen, took) = self.closed(store, self.extent.visitors).await;
        let micros = (store.cpu() - before).as_secs_f64() * 1e6;
        let visitors = seen.took.len() as f64;
        measured.rates.push(visitors / took.as_secs_f64());
        measured.micros.push(micros / visitors);
        arrived(&seen)
    }

    /// A round by the timetable; says how many came.
    async fn added(&self, store: &Served, measured: &mut Measured) -> u64 {
        let per_second = median(measured.rates.iter().copied()) / 2.0;
        let count = (per_second * self.extent.timetable.as_secs_f64()) as usize;
        let direct = self.direct(count, Some(per_second)).await;
        // As the direct calls begin: in working order, not after a second's sleep, from which this machine's memory wakes slowly.
        let warmed = self.warm(store).await;
        let by_timetable = async |request| {
            let timetable = Timetable {
                begin: Instant::now(),
                count,
                per_second,
            };
            clients::open(store.address(), timetable, clients::always(request)).await
        };
        let seen = by_timetable(timetable::page(None)).await;
        let known = by_timetable(timetable::page(Some(&store.cookie))).await;
        assert_eq!(
            (known.failed, known.without_token()),
            (0, 0),
            "{:?}",
            known.anonymous
        );
        measured.added.push(Added {
            per_second,
            direct: direct.latencies,
            sidecar: Latencies::of(&seen.took),
            known: Latencies::of(&known.took),
        });
        direct.authorized + warmed + arrived(&seen)
    }
}

/// How many visitors there were. Each has been given a cookie, and nobody went on without a token.
fn arrived(seen: &Seen) -> u64 {
    assert_eq!(seen.failed, 0, "every request is answered");
    assert_eq!(seen.without_token(), 0, "{:?}", seen.anonymous);
    assert_eq!(seen.cookies, seen.took.len(), "everybody is given a cookie");
    seen.took.len() as u64
}
