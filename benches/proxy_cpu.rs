//! CPU per proxied request of a known visitor, beside the same pingora proxy with none of our logic, in one run.
//!
//! ```text
//! cargo bench --bench proxy_cpu                 # nine rounds of 40,000 requests each
//! cargo bench --bench proxy_cpu -- --quick      # five of 8,000, as CI runs it
//! cargo bench --bench proxy_cpu -- --check      # fails if our logic takes more than 10 % over the bare proxy
//! ```
//! Each system runs as a process of its own with one proxy thread, pinned to one core where there are two; load and
//! upstream have the other. Rounds are interleaved (A B C A B C …) and each round's figures compared with each other, since
//! the machine is noisy. CPU time is user and system time of all the process's threads, from
//! `/proc/<pid>/task/*/schedstat`. The bare proxy has the same time-outs, buffers and allocator, and gets the same requests.

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark fails loudly")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, ExitCode, Stdio};
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

/// As the sidecar's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CONNECTIONS: usize = 8;
const BODY: usize = 2048;
const LIMIT: f64 = 1.10;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["upstream"] => upstream(),
        ["simulator"] => simulator(),
        ["bare", upstream] => bare(upstream.parse().unwrap()),
        ref flags => return compare(flags.contains(&"--quick"), flags.contains(&"--check")),
    }
    ExitCode::SUCCESS
}

// === the comparison ===

struct System {
    name: &'static str,
    process: Process,
    cookie: Option<String>,
    micros: Vec<f64>,
}

fn compare(quick: bool, check: bool) -> ExitCode {
    let (rounds, requests) = if quick { (5, 8_000) } else { (9, 40_000) };
    let me = std::env::current_exe().unwrap();
    let upstream = Process::start(Command::new(&me).arg("upstream"), Core::Load);
    let simulator = Process::start(Command::new(&me).arg("simulator"), Core::Load);
    let bare = Process::start(
        Command::new(&me).args(["bare", &upstream.address.to_string()]),
        Core::Proxy,
    );
    let folder = tempfile::tempdir().unwrap();
    let sidecar = |name: &str, access: bool| {
        let path = folder.path().join(format!("{name}.toml"));
        let store = folder.path().join(format!("{name}.redb"));
        let address = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let text = format!(
            r#"
            [[listeners]]
            address = "{address}"
            [dressipi]
            base_url = "http://{}"
            client_id = "demo"
            api_key = "demo-api-key"
            [session]
            path = {store:?}
            [cookie]
            name = "visitor"
            secure = false
            [[routes]]
            path = "/"
            upstream = "app"
            [[routes]]
            path = "/api/"
            upstream = "dressipi"
            [[upstreams]]
            name = "app"
            address = "{}"
            [log]
            access = {access}
            format = "json"
            [server]
            threads = 1
            drain_delay = "0s"
            "#,
            simulator.address, upstream.address
        );
        std::fs::write(&path, text).unwrap();
        let binary = env!("CARGO_BIN_EXE_dressipi-sidecar");
        Process::serve(Command::new(binary).args(["serve", "--config"]).arg(path))
    };
    let mut systems = [
        System::new("pingora, passing through", bare),
        System::new("sidecar, access log off", sidecar("quiet", false)),
        System::new("sidecar, access log on", sidecar("logging", true)),
    ];
    for system in &mut systems {
        system.cookie = visitor_cookie(system.process.address);
    }
    // The bare proxy sets no cookie and gets the same request nonetheless.
    systems[0].cookie = systems[1].cookie.clone();
    for system in &systems {
        load(system, requests / 4);
    }
    for _ in 0..rounds {
        for system in &mut systems {
            let before = system.process.cpu_nanos();
            load(system, requests);
            let nanos = system.process.cpu_nanos() - before;
            system.micros.push(nanos as f64 / 1000.0 / requests as f64);
        }
    }
    println!(
        "| system | CPU µs a request, median (min–max) | ÷ passing through, median of the rounds (min–max) |"
    );
    println!("| --- | --- | --- |");
    let base = systems[0].micros.clone();
    let ratios = |system: &System| -> Vec<f64> {
        let rounds = system.micros.iter().zip(&base);
        rounds.map(|(micros, base)| micros / base).collect()
    };
    for system in &systems {
        let (micros, ratios) = (spread(&system.micros), ratios(system));
        let (low, high) = spread(&ratios);
        println!(
            "| {} | {:.1} ({:.1}–{:.1}) | {:.3} ({low:.3}–{high:.3}) |",
            system.name,
            median(&system.micros),
            micros.0,
            micros.1,
            median(&ratios),
        );
    }
    println!(
        "{rounds} interleaved rounds of {requests} requests over {CONNECTIONS} connections, {BODY}-byte answers"
    );
    let ratio = median(&ratios(&systems[1]));
    if check && ratio > LIMIT {
        eprintln!(
            "the sidecar's logic takes {:.1} % over the bare proxy; the limit is 10 %",
            (ratio - 1.0) * 100.0
        );
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn spread(values: &[f64]) -> (f64, f64) {
    let fold = |(low, high): (f64, f64), value: &f64| (low.min(*value), high.max(*value));
    values.iter().fold((f64::MAX, 0.0), fold)
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

impl System {
    fn new(name: &'static str, process: Process) -> Self {
        Self {
            name,
            process,
            cookie: None,
            micros: Vec::new(),
        }
    }
}

// === the load ===

fn request(cookie: Option<&str>) -> Vec<u8> {
    let cookie = cookie
        .map(|cookie| format!("cookie: locale=en; {cookie}; cart=7\r\n"))
        .unwrap_or_default();
    format!(
        "GET /women/dresses?page=2 HTTP/1.1\r\nhost: shop.example\r\n\
         user-agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
         accept: text/html,application/xhtml+xml\r\naccept-language: en-GB,en\r\naccept-encoding: gzip, br\r\n{cookie}\r\n"
    )
    .into_bytes()
}

fn visitor_cookie(address: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(&request(None)).unwrap();
    let mut reader = BufReader::new(stream);
    let (head, _) = read_answer(&mut reader);
    let line = head.lines().find(|line| {
        line.to_ascii_lowercase()
            .starts_with("set-cookie: visitor=")
    })?;
    Some(
        line["set-cookie: ".len()..]
            .split(';')
            .next()
            .unwrap()
            .to_owned(),
    )
}

fn load(system: &System, requests: usize) {
    let request = Arc::new(request(system.cookie.as_deref()));
    let workers = (0..CONNECTIONS).map(|_| {
        let (request, address) = (request.clone(), system.process.address);
        std::thread::spawn(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_nodelay(true).unwrap();
            let mut reader = BufReader::with_capacity(16 * 1024, stream.try_clone().unwrap());
            for _ in 0..requests / CONNECTIONS {
                stream.write_all(&request).unwrap();
                let (head, body) = read_answer(&mut reader);
                assert!(head.starts_with("HTTP/1.1 200") && body == BODY, "{head}");
            }
        })
    });
    workers
        .collect::<Vec<_>>()
        .into_iter()
        .for_each(|worker| worker.join().unwrap());
}

fn read_answer(reader: &mut BufReader<TcpStream>) -> (String, usize) {
    let mut head = String::new();
    let mut length = 0;
    loop {
        let begin = head.len();
        assert!(
            reader.read_line(&mut head).unwrap() > 0,
            "the connection was closed: {head}"
        );
        let line = head[begin..].to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    (head, length)
}

// === processes ===

#[derive(Clone, Copy)]
enum Core {
    Proxy,
    Load,
}

struct Process {
    child: Child,
    address: SocketAddr,
}

impl Process {
    /// Starts a part of this program, which prints its address.
    fn start(command: &mut Command, core: Core) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        pin(&child, core);
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        Self {
            child,
            address: line.trim().parse().unwrap(),
        }
    }

    /// Starts the sidecar, which logs its address.
    fn serve(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        pin(&child, Core::Proxy);
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let address = loop {
            let mut line = String::new();
            assert!(
                log.read_line(&mut line).unwrap() > 0,
                "the sidecar did not start"
            );
            let event: serde_json::Value =
                serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"));
            if event["message"] == "listening" {
                break event["address"].as_str().unwrap().parse().unwrap();
            }
        };
        // Someone reads the log, as in a container.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Self { child, address }
    }

    fn cpu_nanos(&self) -> u64 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let task = |task: std::fs::DirEntry| {
            std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default()
        };
        let nanos = tasks.flatten().map(|entry| {
            task(entry)
                .split(' ')
                .next()
                .unwrap()
                .parse()
                .unwrap_or(0_u64)
        });
        nanos.sum()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where there are two cores, the proxies have the first and everything else the second.
fn pin(child: &Child, core: Core) {
    if std::thread::available_parallelism().is_ok_and(|cores| cores.get() >= 2) {
        let core = match core {
            Core::Proxy => "0",
            Core::Load => "1",
        };
        let id = child.id().to_string();
        let _ = Command::new("taskset")
            .args(["-a", "-cp", core, &id])
            .stdout(Stdio::null())
            .status();
        let _ = Command::new("taskset")
            .args(["-a", "-cp", "1", &std::process::id().to_string()])
            .stdout(Stdio::null())
            .status();
    }
}

/// An app that answers everything with the same bytes.
fn upstream() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("{}", listener.local_addr().unwrap());
    let mut answer =
        format!("HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {BODY}\r\n\r\n")
            .into_bytes();
    answer.extend(std::iter::repeat_n(b'x', BODY));
    let answer = Arc::new(answer);
    for stream in listener.incoming() {
        let (mut stream, answer) = (stream.unwrap(), answer.clone());
        std::thread::spawn(move || {
            stream.set_nodelay(true).unwrap();
            let mut buffer = [0; 8192];
            let mut filled = 0;
            while let Ok(read @ 1..) = stream.read(&mut buffer[filled..]) {
                filled += read;
                // One request at a time comes over a connection.
                if buffer[..filled].ends_with(b"\r\n\r\n") {
                    filled = 0;
                    if stream.write_all(&answer).is_err() {
                        return;
                    }
                }
            }
        });
    }
}

fn simulator() {
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

fn bare(upstream: SocketAddr) {
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
        let buffer = L4BufferSettings {
            write: Some(16 * 1024),
            ..L4BufferSettings::default()
        };
        service.add_listener(ListenerConfig::tcp(&name).l4_buffer(buffer));
        let mut fds = pingora::server::Fds::new();
        fds.add(name, std::os::fd::IntoRawFd::into_raw_fd(socket));
        let (_stop, shutdown) = tokio::sync::watch::channel(false);
        service
            .start_service(Some(Arc::new(Mutex::new(fds))), shutdown, 1)
            .await;
    });
}
