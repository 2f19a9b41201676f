//! The command line: what users type, and the exit codes they get. 0: done; 1: it failed; 2: the command line is wrong;
//! 78: the configuration is wrong (`EX_CONFIG` of sysexits.h).

mod check;
mod confine;
mod demo;
mod serve;
mod sessions;
mod simulator;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::Problems;

/// Keeps each visitor's Dressipi tokens, so that your app never deals with OAuth: one visitor, one profile.
#[derive(Debug, Parser)]
#[command(
    name = "dressipi-sidecar",
    version,
    about,
    after_help = "First steps:\n  dressipi-sidecar demo                        see it work, with no account\n  \
                  dressipi-sidecar check --config sidecar.toml find every problem of a configuration\n  \
                  dressipi-sidecar serve --config sidecar.toml run it\n\n\
                  Exit codes: 0 done, 1 failed, 2 wrong command line, 78 wrong configuration."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the sidecar until SIGTERM or SIGINT.
    Serve {
        /// The configuration file: TOML, or YAML or JSON by its ending.
        #[arg(short, long, value_name = "FILE", env = "SIDECAR_CONFIG")]
        config: PathBuf,
    },
    /// Read a configuration and report every problem in it, with file, line and key.
    Check {
        /// The configuration file.
        #[arg(short, long, value_name = "FILE", env = "SIDECAR_CONFIG")]
        config: PathBuf,
    },
    /// Run a stand-in for Dressipi, with faults on demand at /__sim/.
    Simulator {
        /// Where it listens.
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8090")]
        listen: SocketAddr,
        /// The lifetime of access tokens.
        #[arg(long, value_name = "SECONDS", default_value_t = 900)]
        token_lifetime: u64,
        /// Leave refresh tokens as they are instead of giving a new one with each refresh.
        #[arg(long)]
        no_rotation: bool,
    },
    /// Run simulator, demo shop and sidecar in one process: no account, no configuration.
    Demo,
    /// Print a new sealing key, for session.keys_file.
    Keygen,
    /// Move visitor sessions between stores; list, show, revoke and erase them.
    Sessions {
        #[command(subcommand)]
        command: sessions::Command,
    },
}

/// The configuration is wrong.
const EX_CONFIG: u8 = 78;

/// Runs the command line.
pub fn main() -> ExitCode {
    confine::confine();
    let result = match Arguments::parse().command {
        Command::Serve { config } => serve::run(&config),
        Command::Check { config } => check::run(&config),
        Command::Simulator {
            listen,
            token_lifetime,
            no_rotation,
        } => simulator::run(listen, token_lifetime, !no_rotation),
        Command::Demo => demo::run(),
        Command::Keygen => keygen(),
        Command::Sessions { command } => sessions::run(command),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dressipi-sidecar: {error:#}");
            match error.downcast_ref::<Problems>() {
                Some(_) => ExitCode::from(EX_CONFIG),
                None => ExitCode::FAILURE,
            }
        }
    }
}

fn keygen() -> anyhow::Result<()> {
    println!("{}", crate::session::generate_key_line());
    eprintln!(
        "Put this line into the file that session.keys_file names (mode 0600). The first key seals, all open:\n\
         to rotate, put the new key first and keep the old one until every record has been written again."
    );
    Ok(())
}

/// The runtime that everything runs on.
fn runtime(threads: usize) -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads.max(1))
        .enable_all()
        .build()
}

/// Waits for SIGTERM or SIGINT and says which.
async fn stop_signal() -> std::io::Result<&'static str> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    })
}
