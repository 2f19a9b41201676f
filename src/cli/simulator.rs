//! `simulator`: a stand-in for Dressipi on an address of its own.

use std::net::SocketAddr;

use anyhow::Context;
use axum::Router;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::simulator::{Shop, Simulator, SimulatorConfig, system_clock};

pub(super) fn run(
    listen: SocketAddr,
    shop: Option<SocketAddr>,
    token_lifetime: u64,
    rotate: bool,
) -> anyhow::Result<()> {
    let config = SimulatorConfig {
        access_token_lifetime_s: token_lifetime,
        rotate,
        ..SimulatorConfig::default()
    };
    super::runtime(2)?.block_on(async {
        let simulator = Simulator::new(config, system_clock());
        let socket = TcpListener::bind(listen).await.with_context(|| format!("{listen} cannot be listened on"))?;
        let address = socket.local_addr()?;
        let config = simulator.config();
        println!("Dressipi simulator on http://{address}");
        println!("  client_id {}, api_key {}", config.client_id, config.api_key.as_deref().unwrap_or("none"));
        println!("  what it has seen: http://{address}/__sim/ledger");
        println!(
            "  a fault:          curl -d '[{{\"endpoint\":\"token\",\"kind\":{{\"delay\":{{\"ms\":500}}}},\"times\":2}}]' \
             -H content-type:application/json http://{address}/__sim/faults"
        );
        if let Some(address) = shop {
            let socket = TcpListener::bind(address).await.with_context(|| format!("{address} cannot be listened on"))?;
            println!("  the shop:         http://{}", socket.local_addr()?);
            let router = Shop::new(simulator.clone()).router().merge(health());
            tokio::spawn(async move { axum::serve(socket, router).await });
        }
        let mut signals = super::StopSignals::listen()?;
        simulator
            .serve(socket, async move {
                signals.recv().await;
            })
            .await?;
        Ok(())
    })
}

/// For `healthcheck --live`, where the shop is a container.
fn health() -> Router {
    Router::new().route("/livez", get(async || "ok\n"))
}
