//! What this program is when it is started with the name of a part: a Dressipi, or the bare proxy.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use dressipi_sidecar::simulator::{Simulator, SimulatorConfig, system_clock};
use parking_lot::Mutex;
use pingora::apps::HttpServerOptions;
use pingora::listeners::{L4BufferSettings, ListenerConfig};
use pingora::proxy::{ProxyHttp, ProxyServiceBuilder, Session};
use pingora::server::configuration::ServerConf;
use pingora::services::Service as _;
use pingora::upstreams::peer::HttpPeer;

/// A Dressipi whose tokens outlive the benchmark.
pub(crate) fn simulator() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let config = SimulatorConfig {
            access_token_lifetime_s: 86_400,
            ..SimulatorConfig::default()
        };
        let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("{}", socket.local_addr().unwrap());
        Simulator::new(config, system_clock())
            .serve(socket, std::future::pending())
            .await
            .unwrap();
    });
}

// === the bare proxy: what the sidecar sets up, and none of what it does: the same time-outs, buffers and allocator ===

struct Bare(SocketAddr);

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();

    fn new_ctx(&self) {}

    fn init_downstream_modules(&self, _: &mut pingora::modules::http::HttpModules) {}

    async fn request_filter(&self, exchange: &mut Session, (): &mut ()) -> pingora::Result<bool> {
        exchange.set_read_timeout(Some(Duration::from_secs(60)));
        Ok(false)
    }

    #[allow(
        clippy::disallowed_methods,
        reason = "a socket address: nothing is resolved"
    )]
    async fn upstream_peer(&self, _: &mut Session, (): &mut ()) -> pingora::Result<Box<HttpPeer>> {
        let mut peer = HttpPeer::new(self.0, false, String::new());
        peer.options.connection_timeout = Some(Duration::from_secs(2));
        peer.options.total_connection_timeout = Some(Duration::from_secs(2));
        peer.options.read_timeout = Some(Duration::from_secs(60));
        peer.options.write_timeout = Some(Duration::from_secs(60));
        peer.options.idle_timeout = Some(Duration::from_secs(60));
        Ok(Box::new(peer))
    }
}

pub(crate) fn bare(upstream: SocketAddr) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let name = socket.local_addr().unwrap().to_string();
        println!("{name}");
        let conf = ServerConf {
            threads: 1,
            upstream_keepalive_pool_size: 128,
            ..ServerConf::default()
        };
        let mut options = HttpServerOptions::default();
        options.h2c = true;
        let mut service = ProxyServiceBuilder::new(&Arc::new(conf), Bare(upstream))
            .server_options(options)
            .build();
        let buffer = L4BufferSettings::new(8 * 1024, 16 * 1024);
        service.add_listener(ListenerConfig::tcp(&name).l4_buffer(buffer));
        let mut fds = pingora::server::Fds::new();
        fds.add(name, std::os::fd::IntoRawFd::into_raw_fd(socket));
        let (_stop, shutdown) = tokio::sync::watch::channel(false);
        service
            .start_service(Some(Arc::new(Mutex::new(fds))), shutdown, 1)
            .await;
    });
}
