//! `demo`: simulator, shop and sidecar in one process, with the configuration of `config/demo.toml`.

use std::path::Path;

use anyhow::Context;
use tokio::net::TcpListener;

use crate::config::Format;
use crate::simulator::{Shop, Simulator, SimulatorConfig, system_clock};
use crate::{config, server, telemetry};

const CONFIG: &str = include_str!("../../config/demo.toml");

pub(super) fn run() -> anyhow::Result<()> {
    let loaded = config::load_text(
        "demo.toml",
        CONFIG,
        Format::Toml,
        Path::new("."),
        std::env::vars(),
    )?;
    telemetry::init_logs(&loaded.config.log)?;
    super::runtime(loaded.config.server.threads)?.block_on(demo(&loaded.config))
}

async fn demo(config: &config::Config) -> anyhow::Result<()> {
    let simulator = Simulator::new(SimulatorConfig::default(), system_clock());
    let base_url = &config.dressipi.base_url;
    let at_dressipi = bind(base_url.host(), base_url.port()).await?;
    let shop = config
        .upstreams
        .first()
        .context("the demo's configuration needs an upstream for the shop")?;
    let at_shop = bind(&shop.host, shop.port).await?;
    let running = server::start(config).await?;

    tokio::spawn(simulator.clone().serve(at_dressipi, std::future::pending()));
    tokio::spawn(async move { axum::serve(at_shop, Shop::new(simulator).router()).await });

    println!(
        "\n  Open http://{}/ in a browser.\n",
        running.addresses()[0]
    );
    println!(
        "  The shop behind the sidecar   http://{}:{}",
        shop.host, shop.port
    );
    println!(
        "  A stand-in for Dressipi       {base_url}  (what it has seen: {base_url}/__sim/ledger)"
    );
    if let Some(admin) = running.admin() {
        println!("  How the sidecar is            http://{admin}/status");
    }
    println!("\n  Ctrl-C ends it.\n");
    super::stop_signal().await?;
    running.stop().await;
    Ok(())
}

async fn bind(host: &str, port: u16) -> anyhow::Result<TcpListener> {
    TcpListener::bind((host, port)).await.with_context(|| {
        format!(
            "{host}:{port} cannot be listened on; if another program has that port, move the demo with \
             SIDECAR__LISTENERS__0__ADDRESS, SIDECAR__DRESSIPI__BASE_URL, SIDECAR__UPSTREAMS__0__ADDRESS, SIDECAR__ADMIN__ADDRESS"
        )
    })
}
