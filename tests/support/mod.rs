//! Builders for the integration tests: a simulator, an app, and a sidecar between them, all on loopback.

mod admin;
mod app;
mod blob;
pub mod canary;
pub mod collector;
pub mod link;
mod pattern;
mod process;
pub mod redis;
pub mod resp;
mod sidecar;
mod tls;
mod websocket;
mod wire;

pub use admin::{ADMIN_KEYS, ADMIN_TOKEN};
pub use app::App;
pub use blob::Blobs;
pub use pattern::Pattern;
pub use process::Process;
pub use sidecar::{Sidecar, SidecarBuilder};
pub use tls::{Authority, Identity, TlsUpstream};
pub use websocket::{EchoSocket, open_websocket};
pub use wire::{AnyBody, Raw, RawUpstream, empty, fed, full, http1, http2, send, streamed};

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dressipi_sidecar::simulator::{Simulator, SimulatorConfig, system_clock};
use tokio::net::TcpSocket;

/// A browser that the bot list lets pass.
pub const BROWSER: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";

/// A simulator that serves on a port of its own.
pub struct Dressipi {
    pub simulator: Simulator,
    pub address: SocketAddr,
}

impl Dressipi {
    pub async fn start() -> Self {
        Self::with(SimulatorConfig::default()).await
    }

    pub async fn with(config: SimulatorConfig) -> Self {
        Self::with_clock(config, system_clock()).await
    }

    pub async fn with_clock(
        config: SimulatorConfig,
        clock: Arc<dyn Fn() -> u64 + Send + Sync>,
    ) -> Self {
        canary::watch();
        let simulator = Simulator::new(config, clock);
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        // Thousands of connections at once must not wait for a second SYN.
        let socket = socket.listen(4096).unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(simulator.clone().serve(socket, std::future::pending()));
        Self { simulator, address }
    }

    pub fn profiles(&self) -> u64 {
        self.simulator.totals().profiles
    }
}

/// An HTTP client without cookies, redirects or proxies.
pub fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .user_agent(BROWSER)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .pool_max_idle_per_host(1024)
        .timeout(Duration::from_secs(60))
        .build()
        .unwrap()
}

/// The JSON body of an answer.
pub async fn json(answer: reqwest::Response) -> serde_json::Value {
    serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
}

/// The profile that Dressipi answered for; `None`: an unpersonalised answer.
pub async fn profile(answer: reqwest::Response) -> Option<String> {
    assert_eq!(answer.status(), 200);
    json(answer).await["profile"].as_str().map(str::to_owned)
}

/// Waits until `condition` holds; fails after ten seconds.
pub async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !condition().await {
        assert!(
            tokio::time::Instant::now() < deadline,
            "not within ten seconds: {what}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The value of the visitor cookie that an answer sets, as `name=value`.
pub fn visitor_cookie(answer: &reqwest::Response) -> Option<String> {
    let mut cookies = answer
        .headers()
        .get_all("set-cookie")
        .iter()
        .map(|value| value.to_str().unwrap());
    let cookie = cookies.find(|cookie| cookie.starts_with("visitor="))?;
    Some(cookie.split(';').next().unwrap().to_owned())
}

/// The values of a header that an upstream saw.
pub fn seen<'a>(echo: &'a serde_json::Value, name: &str) -> Vec<&'a str> {
    let headers = echo["headers"].as_array().unwrap().iter();
    headers
        .filter(|header| header[0] == name)
        .map(|header| header[1].as_str().unwrap())
        .collect()
}
