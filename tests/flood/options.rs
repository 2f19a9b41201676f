//! What can be chosen on the command line.

use std::time::Duration;

use clap::Parser;

/// A flood of requests without a cookie and of slow connections, while known visitors browse: shows that it makes no more profiles
/// than the limits allow, and that the known visitors hardly notice.
#[derive(Clone, Debug, Parser)]
#[command(name = "flood")]
pub struct Options {
    /// Less than a minute in all, for CI: 40,000 requests, 300 slow connections, 100 visitors.
    #[arg(long)]
    pub quick: bool,
    /// Requests without a cookie.
    #[arg(long, default_value_t = 1_000_000)]
    pub requests: u64,
    /// Slow connections at any time.
    #[arg(long, default_value_t = 2000)]
    pub slow: usize,
    /// Known visitors.
    #[arg(long, default_value_t = 1000)]
    pub visitors: usize,
    /// Requests of known visitors in a second, all of them together.
    #[arg(long, default_value_t = 200.0)]
    pub browse: f64,
    /// Requests of the flood in a second.
    #[arg(long, default_value_t = 3000.0)]
    pub rate: f64,
    /// But no more than this part of what is answered in a second when nothing holds the flood back.
    #[arg(long, default_value_t = 0.3)]
    pub share: f64,
    /// The connections over which the requests come.
    #[arg(long, default_value_t = 64)]
    pub connections: usize,
    /// Repeats the choices of an earlier run.
    #[arg(long, default_value_t = rand::random())]
    pub seed: u64,
    /// Prints the tables as Markdown.
    #[arg(long)]
    pub markdown: bool,
    /// Keeps the folder with configurations, logs and the store.
    #[arg(long)]
    pub keep: bool,
    /// Given by `cargo bench` and `cargo test`; means nothing.
    #[arg(long, hide = true)]
    pub bench: bool,
}

impl Options {
    /// As typed, with what follows from it.
    pub fn read() -> Self {
        let mut options = Self::parse();
        if options.quick {
            options.requests = options.requests.min(40_000);
            options.slow = options.slow.min(300);
            options.visitors = options.visitors.min(100);
        }
        options
    }

    /// Calm and flood take turns, so that what else the machine does falls on both: so many floods, a calm before each and one
    /// after the last.
    pub fn rounds(&self) -> u64 {
        if self.quick { 2 } else { 5 }
    }

    /// One calm.
    pub fn calm(&self) -> Duration {
        Duration::from_secs(if self.quick { 3 } else { 15 })
    }

    /// How long is measured what the machine can do.
    pub fn trial(&self) -> Duration {
        Duration::from_secs(if self.quick { 2 } else { 5 })
    }

    /// After that, all ends.
    pub fn longest(&self) -> Duration {
        Duration::from_secs(60 * if self.quick { 3 } else { 25 })
    }
}
