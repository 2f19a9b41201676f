//! `sessions …`: visitor sessions. Moved from the store itself or, where a running sidecar has it, through its admin listener; looked at,
//! revoked and erased through the admin listener only.

mod admin;
mod export;
mod import;
mod place;
mod remote;
mod table;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use crate::config::{self, Config, LogFormat};
use crate::telemetry;

/// What can be done.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Write all visitor sessions, sealed as they are, to a file.
    Export {
        #[command(flatten)]
        of: Of,
        /// The file to make (mode 0600); it may not exist yet. Default: standard output.
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Read an export and keep the newer of two records of one visitor.
    Import {
        #[command(flatten)]
        of: Of,
        /// The export. Default: standard input.
        #[arg(short, long, value_name = "FILE")]
        input: Option<PathBuf>,
    },
    /// List visitor sessions, without secrets, in the order of their keys.
    List {
        #[command(flatten)]
        at: admin::At,
        /// So many at most. Default: all of them.
        #[arg(long, value_name = "NUMBER")]
        limit: Option<usize>,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Show one visitor's session, without secrets.
    Show {
        #[command(flatten)]
        who: admin::Who,
        #[command(flatten)]
        at: admin::At,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Give everything that is kept about a visitor, as JSON, for them to have: the right of access.
    Access {
        #[command(flatten)]
        who: admin::Who,
        #[command(flatten)]
        at: admin::At,
        /// The file to make (mode 0600); it may not exist yet. Default: standard output.
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Reject a visitor's token set, as if Dressipi had answered 401: the next request refreshes it.
    Revoke {
        #[command(flatten)]
        who: admin::Who,
        #[command(flatten)]
        at: admin::At,
        /// Say it in JSON.
        #[arg(long)]
        json: bool,
    },
    /// Forget a visitor at every replica. Asks first.
    Erase {
        #[command(flatten)]
        who: admin::Who,
        #[command(flatten)]
        at: admin::At,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
        /// Say it in JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Which store.
#[derive(Debug, Args)]
pub(super) struct Of {
    /// The configuration file that names the store.
    #[arg(short, long, value_name = "FILE", env = "SIDECAR_CONFIG")]
    config: PathBuf,
    /// The admin listener of the sidecar that has the store. Default: the configuration's, if the store is in use.
    #[arg(long, value_name = "URL")]
    admin: Option<String>,
}

/// A line on standard error after so many records.
const PROGRESS: u64 = 100_000;

/// Runs one of them.
pub(super) fn run(command: Command) -> anyhow::Result<()> {
    let runtime = super::runtime(2)?;
    let result = runtime.block_on(async {
        match &command {
            Command::Export { of, output } => {
                let config = load(&of.config)?;
                export::run(&config, of.admin.as_deref(), output.as_deref()).await
            }
            Command::Import { of, input } => {
                let config = load(&of.config)?;
                import::run(&config, of.admin.as_deref(), input.as_deref()).await
            }
            Command::List { at, limit, json } => admin::list(at, *limit, *json).await,
            Command::Show { who, at, json } => admin::show(at, who, *json).await,
            Command::Access { who, at, output } => admin::access(at, who, output.as_deref()).await,
            Command::Revoke { who, at, json } => admin::revoke(at, who, *json).await,
            Command::Erase { who, at, yes, json } => admin::erase(at, who, *yes, *json).await,
        }
    });
    // A read of standard input cannot be called off, and must not hold up the end.
    runtime.shutdown_background();
    result
}

fn load(path: &Path) -> anyhow::Result<Config> {
    let mut config = config::load(path, std::env::vars())?.config;
    // For a person, who did not ask how it is done.
    config.log.format = LogFormat::Text;
    config.log.level = "warn".to_owned();
    telemetry::init_logs(&config.log)?;
    Ok(config)
}

/// Says how far it is, now and then.
#[derive(Debug, Default)]
struct Progress(u64);

impl Progress {
    fn at(&mut self, records: u64, done: &str) {
        if records / PROGRESS > self.0 {
            self.0 = records / PROGRESS;
            eprintln!("{done} {records} records so far");
        }
    }
}
