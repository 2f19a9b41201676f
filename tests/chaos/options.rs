//! What can be chosen on the command line.

use std::time::Duration;

use clap::Parser;

use crate::faults::Kind;

/// Many sidecars on one store, under everything that can go wrong at once: shows that no visitor changes or loses its
/// profile.
#[derive(Clone, Debug, Parser)]
#[command(name = "chaos")]
pub struct Options {
    /// How long, without the start and the end.
    #[arg(long, default_value_t = 10.0)]
    pub minutes: f64,
    /// A minute in all, for CI.
    #[arg(long)]
    pub quick: bool,
    /// Repeats the choices of an earlier run.
    #[arg(long, default_value_t = rand::random())]
    pub seed: u64,
    /// Sidecar processes.
    #[arg(long, default_value_t = 4)]
    pub replicas: usize,
    /// Visitors at the shop at any time.
    #[arg(long, default_value_t = 500)]
    pub visitors: usize,
    /// The store: with redb there is one replica, and nothing goes wrong with Redis.
    #[arg(long, value_enum, default_value_t = StoreChoice::Redis)]
    pub store: StoreChoice,
    /// Dressipi refuses each refresh token that it has replaced, so that answers lost on the way cost refresh tokens,
    /// whatever a client does: they are reported side by side.
    #[arg(long)]
    pub strict: bool,
    /// Only these faults, one after the other.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub only: Vec<Kind>,
    /// Prints the table as Markdown.
    #[arg(long)]
    pub markdown: bool,
    /// Keeps the folder with configurations and logs, and logs everything.
    #[arg(long)]
    pub keep: bool,
    /// Given by `cargo bench` and `cargo test`; means nothing.
    #[arg(long, hide = true)]
    pub bench: bool,
}

/// Where visitor sessions are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum StoreChoice {
    /// A master, a replica, and three sentinels.
    Redis,
    /// One file.
    Redb,
}

impl Options {
    /// As typed, with what follows from it.
    pub fn read() -> Self {
        let mut options = Self::parse();
        if options.quick {
            options.minutes = 50.0 / 60.0;
            options.visitors = options.visitors.min(200);
        }
        if options.store == StoreChoice::Redb {
            options.replicas = 1;
        }
        options
    }

    /// The phases and how long each takes. The last one, everything together, counts double.
    pub fn phases(&self) -> Vec<(Phase, Duration)> {
        let mut phases: Vec<Phase> = match self.only.is_empty() {
            true => std::iter::once(Phase::Calm)
                .chain(Kind::all(self.store).map(Phase::One))
                .chain([Phase::Together])
                .collect(),
            false => self.only.iter().copied().map(Phase::One).collect(),
        };
        phases.dedup();
        let shares: f64 = phases.iter().map(|phase| phase.share()).sum();
        let whole = self.minutes * 60.0;
        let slice = |phase: Phase| Duration::from_secs_f64(whole * phase.share() / shares);
        phases
            .into_iter()
            .map(|phase| (phase, slice(phase)))
            .collect()
    }
}

/// A stretch of time, and what goes wrong in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing.
    Calm,
    /// One thing.
    One(Kind),
    /// Everything at once.
    Together,
}

impl Phase {
    fn share(self) -> f64 {
        match self {
            Self::Together => 2.0,
            Self::Calm | Self::One(_) => 1.0,
        }
    }

    /// What the table calls it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Calm => "no fault",
            Self::One(kind) => kind.title(),
            Self::Together => "all of these at once",
        }
    }
}
