//! What can be chosen on the command line, and what follows from how long there is.

use std::time::Duration;

use clap::Parser;

/// Everything that happens to a sidecar, over and over: shows that it takes no more of the machine at the end than at the beginning.
#[derive(Clone, Debug, Parser)]
#[command(name = "soak")]
pub struct Options {
    /// Forty seconds in all, for CI.
    #[arg(long)]
    pub quick: bool,
    /// How long the load lasts.
    #[arg(long, default_value_t = 5.0)]
    pub minutes: f64,
    /// Visitors who browse at the same time.
    #[arg(long, default_value_t = 24)]
    pub browsers: usize,
    /// Prints the tables as Markdown.
    #[arg(long)]
    pub markdown: bool,
    /// Keeps the folder with configuration, log, store, and all measurements (`series.csv`).
    #[arg(long)]
    pub keep: bool,
    /// Given by `cargo bench` and `cargo test`; means nothing.
    #[arg(long, hide = true)]
    pub bench: bool,
}

/// What there is of everything. All that is bounded must be full when the warm-up is over, else it would be taken for a leak.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// How long the load lasts, warm-up included.
    pub load: Duration,
    /// How long after its start nothing is judged.
    pub warm_up: Duration,
    /// How long everything may take to end when the load has.
    pub settle: Duration,
    /// Whether upstreams hang up at the end; else it is waited until the sidecar does.
    pub hang_up: bool,
    /// Visitors in the cache.
    pub cache: u64,
    /// How long a visitor session lives that is not used.
    pub idle_timeout: Duration,
    pub token_lifetime: Duration,
    /// From the beginning of one trouble to that of the next, and how long each lasts.
    pub trouble_every: Duration,
    pub trouble: Duration,
    /// From one change of the configuration to the next.
    pub reload_every: Duration,
    /// What resident memory may grow by, in KiB a minute, after the warm-up.
    pub bound: f64,
}

/// The longest warm-up. What is in use is level after two minutes, but for ten more the allocator has more and more pages for each thread
/// and size that are only partly in use.
const WARM_UP: Duration = Duration::from_secs(900);
/// From so many minutes on the bound is that of a long run.
const LONG: f64 = 30.0;
/// Twenty-odd seconds are a look and no fit: this finds what loses a kibibyte with each request.
const QUICK_BOUND: f64 = 8192.0;
/// In the five-minute form memory is still being warmed: the history of the status page has one entry more every ten seconds for an
/// hour, the allocator keeps pages for each thread, redb's page cache fills. And it goes up and down by a tenth with what goes wrong, whose
/// round takes more than half of the time. So this finds what loses half a kibibyte with each request, and the hour finds the rest.
const SHORT_BOUND: f64 = 4096.0;
/// In an hour all of that has its bound behind it, but for the history. 64 KiB a minute would be 90 MiB a day: with 9,000 requests a
/// minute that is seven bytes a request, less than any value that could be forgotten.
const LONG_BOUND: f64 = 64.0;

impl Options {
    pub fn scale(&self) -> Scale {
        let seconds = Duration::from_secs;
        if self.quick {
            return Scale {
                load: seconds(28),
                warm_up: seconds(9),
                settle: seconds(10),
                hang_up: true,
                cache: 60,
                idle_timeout: seconds(9),
                token_lifetime: seconds(4),
                trouble_every: seconds(4),
                trouble: seconds(1),
                reload_every: seconds(2),
                bound: QUICK_BOUND,
            };
        }
        let load = Duration::from_secs_f64(self.minutes.max(1.0) * 60.0);
        Scale {
            load,
            warm_up: (load / 3).min(WARM_UP),
            // Idle connections to upstreams are kept for a minute.
            settle: seconds(80),
            hang_up: false,
            cache: 300,
            idle_timeout: seconds(30),
            token_lifetime: seconds(12),
            trouble_every: seconds(12),
            trouble: seconds(3),
            reload_every: seconds(4),
            bound: if self.minutes < LONG {
                SHORT_BOUND
            } else {
                LONG_BOUND
            },
        }
    }
}
