//! The command line: what users type, and the exit codes they get. 0: done; 1: it failed; 2: the command line is wrong;
//! 78: the configuration is wrong (`EX_CONFIG` of sysexits.h).

mod check;
mod completions;
mod config;
mod confine;
mod demo;
mod healthcheck;
mod live;
mod man;
pub mod report;
mod schema;
mod serve;
mod sessions;
mod simulator;
mod systemd;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::signal::unix::{Signal, SignalKind, signal};

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
        /// Take the place of the process that runs: with its sockets, and without refusing anybody. It drains and exits.
        #[arg(long)]
        upgrade: bool,
    },
    /// Read a configuration and report every problem in it, beside its line, and what is risky.
    Check {
        /// The configuration file.
        #[arg(short, long, value_name = "FILE", env = "SIDECAR_CONFIG")]
        config: PathBuf,
        /// Print one JSON object in place of text.
        #[arg(long, conflicts_with = "live")]
        json: bool,
        /// Ask store, Dressipi and upstreams, too, whether they are there and let the sidecar in. Writes nothing.
        #[arg(long)]
        live: bool,
        /// With --live: make the authorize and token calls without asking. They make one profile in the Dressipi account.
        #[arg(long, requires = "live")]
        yes: bool,
    },
    /// Look at a configuration.
    Config {
        #[command(subcommand)]
        command: config::Command,
    },
    /// Ask a running sidecar whether it is ready: exit code 0 or 1. For images without a shell.
    Healthcheck(healthcheck::Options),
    /// Run a stand-in for Dressipi, with faults on demand at /__sim/.
    Simulator {
        /// Where it listens.
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8090")]
        listen: SocketAddr,
        /// Where the demo's shop listens, an app that shows what the simulator saw. Default: nowhere.
        #[arg(long, value_name = "ADDRESS")]
        shop: Option<SocketAddr>,
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
    /// Print the JSON Schema of the configuration, by which editors complete and check it.
    Schema,
    /// Print completions for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page, in roff.
    Man {
        /// Write one page for each command into this folder instead.
        #[arg(long, value_name = "DIR")]
        directory: Option<PathBuf>,
    },
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
        Command::Serve { config, upgrade } => serve::run(&config, upgrade),
        Command::Check {
            config,
            json,
            live,
            yes,
        } => return check::run(&config, json, live.then_some(yes)),
        Command::Config { command } => config::run(command),
        Command::Healthcheck(options) => healthcheck::run(&options),
        Command::Simulator {
            listen,
            shop,
            token_lifetime,
            no_rotation,
        } => simulator::run(listen, shop, token_lifetime, !no_rotation),
        Command::Demo => demo::run(),
        Command::Keygen => keygen(),
        Command::Schema => schema::run(),
        Command::Completions { shell } => completions::run(shell),
        Command::Man { directory } => man::run(directory.as_deref()),
        Command::Sessions { command } => sessions::run(command),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match error.downcast_ref::<Problems>() {
            Some(problems) if !problems.is_unreadable() => {
                eprint!("{}", report::problems(problems, report::Look::present()));
                ExitCode::from(EX_CONFIG)
            }
            _ => {
                eprintln!("dressipi-sidecar: {error:#}");
                ExitCode::FAILURE
            }
        },
    }
}

/// Prints the answer. Whoever closes the pipe has read enough.
fn print(text: &str) {
    use std::io::Write;
    let _ = std::io::stdout().write_all(text.as_bytes());
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

/// SIGTERM and SIGINT, which are heard while this is there.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for one and says which.
    async fn recv(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Where a listener on `address` is reached from this machine.
fn reachable(mut address: SocketAddr) -> anyhow::Result<SocketAddr> {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    if address.port() == 0 {
        anyhow::bail!("admin.address leaves its port to the system; name it with --admin");
    }
    Ok(address)
}
