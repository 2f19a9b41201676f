//! `healthcheck`: asks a running sidecar how it is, for images without a shell or `curl`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;

use crate::config;

/// Where to ask, and what.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The configuration of the sidecar: its admin listener is asked.
    #[arg(
        short,
        long,
        value_name = "FILE",
        env = "SIDECAR_CONFIG",
        required_unless_present = "admin"
    )]
    config: Option<PathBuf>,
    /// The admin listener, in place of the configuration's.
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<SocketAddr>,
    /// Ask whether it lives, and not whether it is ready.
    #[arg(long)]
    live: bool,
    /// How long it may take, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 3)]
    timeout: u64,
}

pub(super) fn run(options: &Options) -> anyhow::Result<()> {
    let address = match (options.admin, &options.config) {
        (Some(address), _) => address,
        (None, Some(config)) => of_config(config)?,
        (None, None) => bail!("give --config or --admin"),
    };
    let path = if options.live { "/livez" } else { "/readyz" };
    let url = format!("http://{}{path}", super::reachable(address)?);
    let said = super::runtime(1)?.block_on(ask(&url, Duration::from_secs(options.timeout)))?;
    println!("{}", said.trim_end());
    Ok(())
}

fn of_config(path: &Path) -> anyhow::Result<SocketAddr> {
    let loaded = config::load(path, std::env::vars())?;
    let admin = loaded.config.admin.context(
        "the configuration has no [admin], so there is nobody to ask: add it, or name the address with --admin",
    )?;
    Ok(admin.address)
}

async fn ask(url: &str, timeout: Duration) -> anyhow::Result<String> {
    // Plain HTTP needs none, but the library wants one before it makes a client.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(timeout)
        .build()?;
    let answer = client.get(url).send().await.with_context(|| {
        format!("{url} does not answer; is the sidecar running, with this admin address?")
    })?;
    let status = answer.status();
    let said = answer.text().await.unwrap_or_default();
    if !status.is_success() {
        bail!("{url} says {status}: {}", said.trim_end());
    }
    Ok(said)
}
