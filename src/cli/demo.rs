//! `demo`: simulator, shop and sidecar in one process, with the configuration of `config/demo.toml`; a second sidecar on the same
//! store when the page asks for one.

mod replicas;
mod window;

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use tokio::net::TcpListener;

use self::replicas::Replicas;
use crate::config::Format;
use crate::simulator::{SHOP_HOST, Shop, Simulator, SimulatorConfig, system_clock};
use crate::{config, telemetry};

const CONFIG: &str = include_str!("../../config/demo.toml");
/// So that nobody has to wait long to see a refresh.
const TOKEN_LIFETIME_S: u64 = 60;

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
    let settings = SimulatorConfig {
        access_token_lifetime_s: TOKEN_LIFETIME_S,
        ..SimulatorConfig::default()
    };
    let simulator = Simulator::new(settings, system_clock());
    let base_url = &config.dressipi.base_url;
    let at_dressipi = bind(base_url.host(), base_url.port()).await?;
    let shop = config
        .upstreams
        .first()
        .context("the demo's configuration needs an upstream for the shop")?;
    let at_shop = bind(&shop.host, shop.port).await?;
    let replicas = Arc::new(Replicas::start(config).await?);

    let pages = Shop::new(simulator.clone())
        .reached_at(shop.port)
        .with_visitor_cookie(&config.cookie.name);
    let window = window::router(simulator.clone(), replicas.clone());
    let router = pages.router().merge(window);
    tokio::spawn(simulator.serve(at_dressipi, std::future::pending()));
    tokio::spawn(async move { axum::serve(at_shop, router).await });

    let front = replicas.front();
    println!(
        "\n  Open http://{SHOP_HOST}:{}/ in a browser.\n",
        front.port()
    );
    println!("  The same, for one visitor     http://{front}/  (where that name is not known)");
    println!(
        "  The shop behind the sidecar   http://{}:{}",
        shop.host, shop.port
    );
    println!(
        "  A stand-in for Dressipi       {base_url}  (what it has seen: {base_url}/__sim/ledger)"
    );
    if let Some(admin) = replicas.admin() {
        println!("  How the sidecar is            http://{admin}/status");
    }
    println!("\n  Ctrl-C ends it.\n");
    super::StopSignals::listen()?.recv().await;
    replicas.stop().await;
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
