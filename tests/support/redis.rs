//! Real Redis servers: alone, with replicas and a sentinel, or as a cluster. Loopback, ports that nobody has, a folder
//! of their own, ended with the value that stands for them, and with this process whatever ends it.
//!
//! `SIDECAR_TEST_REDIS_SERVER` names another server program, such as Valkey's.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, Mutex, Weak};
use std::time::{Duration, Instant};

use dressipi_sidecar::session::{RedisAddress, RedisServers, RedisSettings};

/// A server, or a sentinel.
pub struct RedisServer {
    port: u16,
    folder: tempfile::TempDir,
    arguments: Vec<String>,
    running: Mutex<Option<Running>>,
}

/// A sentinel that watches a master, called `main`.
pub struct Sentinel {
    server: RedisServer,
}

/// Servers that have the slots between them; replicas behind the masters, if there are any.
pub struct Cluster {
    pub masters: Vec<RedisServer>,
    pub replicas: Vec<RedisServer>,
}

/// The server is a child of a shell that ends it when our end of a pipe is closed, however that comes about.
struct Running {
    shell: Child,
    pid: u32,
}

const SHELL: &str = r#""$@" >/dev/null & echo $!; read -r _; kill -9 $! 2>/dev/null"#;
/// A sentinel that was held up by a busy machine for two seconds trusts its clock again after thirty (TILT).
const PATIENCE: Duration = Duration::from_secs(90);

/// A port that nobody has, each one once: below those that the system gives to whoever asks for any, so that nobody gets it in between.
pub fn free_port() -> u16 {
    const FIRST: u32 = 10_240;
    const COUNT: u32 = 32_768 - FIRST;
    static NEXT: LazyLock<AtomicU32> = LazyLock::new(|| AtomicU32::new(std::process::id() * 101));
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
        let port = u16::try_from(FIRST + number).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

fn program() -> String {
    std::env::var("SIDECAR_TEST_REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned())
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The one that is running already, or a new one; it ends with the last who holds it.
pub fn shared<T>(slot: &Mutex<Weak<T>>, start: impl FnOnce() -> T) -> Arc<T> {
    let mut slot = slot.lock().unwrap_or_else(|broken| broken.into_inner());
    slot.upgrade().unwrap_or_else(|| {
        let started = Arc::new(start());
        *slot = Arc::downgrade(&started);
        started
    })
}

// === impl RedisServer ===

impl RedisServer {
    /// A server without persistence.
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// One with these settings, as `["--appendonly", "yes"]`.
    pub fn with(settings: &[&str]) -> Self {
        let port = free_port();
        let folder = tempfile::tempdir().unwrap();
        let mut arguments = strings(&["--port", &port.to_string()]);
        arguments.extend(strings(&["--save", "", "--bind", "127.0.0.1"]));
        arguments.extend(strings(&["--enable-debug-command", "yes"]));
        arguments.extend(strings(settings));
        Self::run(port, folder, arguments)
    }

    /// One on TLS alone, at `port`.
    pub fn with_tls(port: u16, settings: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut arguments = strings(&["--port", "0", "--tls-port", &port.to_string()]);
        arguments.extend(strings(&["--save", "", "--bind", "127.0.0.1"]));
        arguments.extend(strings(settings));
        Self::run(port, folder, arguments)
    }

    /// A replica of `master`, up to date with it.
    pub fn replica_of(master: &RedisServer) -> Self {
        let port = master.port.to_string();
        let settings = ["--replicaof", "127.0.0.1", &port];
        let replica = Self::with(&[&settings[..], &["--repl-diskless-sync-delay", "0"]].concat());
        replica.follows();
        replica
    }

    /// Waits until a replica is up to date with its master.
    pub fn follows(&self) {
        wait_until("the replica follows", || {
            self.cli(&["info", "replication"])
                .contains("master_link_status:up")
        });
    }

    fn run(port: u16, folder: tempfile::TempDir, mut arguments: Vec<String>) -> Self {
        let socket = folder.path().join("socket");
        arguments.extend(strings(&["--dir", folder.path().to_str().unwrap()]));
        arguments.extend(strings(&["--unixsocket", socket.to_str().unwrap()]));
        arguments.extend(strings(&["--repl-diskless-sync-delay", "0"]));
        let server = Self {
            port,
            folder,
            arguments,
            running: Mutex::new(None),
        };
        server.restart();
        server
    }

    /// Starts it again, with what it has in its folder.
    pub fn restart(&self) {
        self.kill();
        let mut shell = Command::new("sh")
            .args(["-c", SHELL, "sh", &program()])
            .args(&self.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("redis-server is installed: see .ci/setup");
        let mut line = String::new();
        let mut stdout = BufReader::new(shell.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        let pid = line.trim().parse().unwrap();
        *self.running.lock().unwrap() = Some(Running { shell, pid });
        wait_until("the server answers", || {
            let answer = self.cli(&["ping"]);
            answer.contains("PONG") || answer.contains("NOAUTH")
        });
    }

    /// `kill -9`.
    pub fn kill(&self) {
        drop(self.running.lock().unwrap().take());
    }

    /// Stops it where it is: connections stay, nothing is answered.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let running = self.running.lock().unwrap();
        let running = running.as_ref().expect("the server is running");
        send_signal(signal, running.pid);
    }

    /// Asks it something over its Unix socket, as an administrator.
    pub fn cli(&self, command: &[&str]) -> String {
        let output = Command::new("redis-cli")
            .arg("-s")
            .arg(self.folder.path().join("socket"))
            .args(command)
            .stderr(Stdio::null())
            .output()
            .expect("redis-cli is installed: see .ci/setup");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn address(&self) -> RedisAddress {
        RedisAddress::new("127.0.0.1", self.port)
    }

    /// How a store reaches it.
    pub fn settings(&self) -> RedisSettings {
        settings(RedisServers::Standalone(self.address()))
    }
}

/// Settings for tests: patient, since the machine may be busy.
fn settings(servers: RedisServers) -> RedisSettings {
    RedisSettings {
        connect_timeout: Duration::from_secs(5),
        timeout: Duration::from_secs(10),
        ..RedisSettings::new(servers)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        send_signal("-KILL", self.pid);
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

fn send_signal(signal: &str, pid: u32) {
    let pid = pid.to_string();
    let _ = Command::new("kill").args([signal, &pid]).status();
}

fn strings(arguments: &[&str]) -> Vec<String> {
    arguments.iter().map(|text| (*text).to_owned()).collect()
}

// === impl Sentinel ===

impl Sentinel {
    /// Watches `master`, and has seen `replicas` of it.
    pub fn start(master: &RedisServer, replicas: usize) -> Self {
        let port = free_port();
        let folder = tempfile::tempdir().unwrap();
        let file: PathBuf = folder.path().join("sentinel.conf");
        let watched = master.port;
        let text = format!(
            "sentinel monitor main 127.0.0.1 {watched} 1\n\
             sentinel down-after-milliseconds main 1000\n\
             sentinel failover-timeout main 3000\n\
             bind 127.0.0.1\nport {port}\n"
        );
        std::fs::write(&file, text).unwrap();
        let arguments = strings(&[file.to_str().unwrap(), "--sentinel"]);
        let sentinel = Self {
            server: RedisServer::run(port, folder, arguments),
        };
        wait_until("the sentinel has found the replicas", || {
            let found = sentinel.server.cli(&["sentinel", "replicas", "main"]);
            let lines: Vec<_> = found.lines().collect();
            let healthy = |pair: &&[&str]| pair == &["flags", "slave"];
            lines.windows(2).filter(healthy).count() == replicas
        });
        sentinel
    }

    /// Has it make a replica the master, and waits until it has.
    pub fn fail_over(&self) {
        let before = self.master();
        wait_until("a failover begins", || {
            self.server
                .cli(&["sentinel", "failover", "main"])
                .contains("OK")
        });
        wait_until("there is a new master", || self.master() != before);
    }

    /// The port of the master.
    pub fn master(&self) -> String {
        self.server
            .cli(&["sentinel", "get-master-addr-by-name", "main"])
    }

    pub fn address(&self) -> RedisAddress {
        self.server.address()
    }

    pub fn url(&self) -> String {
        self.server.url()
    }

    pub fn settings(&self) -> RedisSettings {
        settings(RedisServers::Sentinel {
            sentinels: vec![self.address()],
            master_name: "main".to_owned(),
            login: Default::default(),
        })
    }
}

// === impl Cluster ===

impl Cluster {
    /// Three masters.
    pub fn start() -> Self {
        Self::form(0)
    }

    /// Three masters, each with a replica.
    pub fn with_replicas() -> Self {
        Self::form(3)
    }

    fn form(replicas: usize) -> Self {
        let node = || {
            let bus = free_port().to_string();
            let enabled = ["--cluster-enabled", "yes", "--cluster-port", &bus];
            let timeout = ["--cluster-node-timeout", "2000"];
            let server = RedisServer::with(&[&enabled[..], &timeout].concat());
            (server, bus)
        };
        let nodes: Vec<_> = (0..3 + replicas).map(|_| node()).collect();
        let (first, _) = &nodes[0];
        let ranges = [("0", "5460"), ("5461", "10922"), ("10923", "16383")];
        for ((server, _), (from, to)) in nodes.iter().zip(ranges) {
            server.cli(&["cluster", "addslotsrange", from, to]);
        }
        for (epoch, (server, bus)) in nodes.iter().enumerate() {
            server.cli(&["cluster", "set-config-epoch", &(epoch + 1).to_string()]);
            first.cli(&[
                "cluster",
                "meet",
                "127.0.0.1",
                &server.port.to_string(),
                bus,
            ]);
        }
        let everybody = nodes.len();
        let knows =
            |server: &RedisServer, what: &str| server.cli(&["cluster", "info"]).contains(what);
        wait_until("the cluster knows its servers", || {
            let all = format!("cluster_known_nodes:{everybody}\r");
            nodes.iter().all(|(server, _)| knows(server, &all))
        });
        let mut masters: Vec<_> = nodes.into_iter().map(|(server, _)| server).collect();
        let replicas = masters.split_off(3);
        for (replica, master) in replicas.iter().zip(&masters) {
            let id = master.cli(&["cluster", "myid"]);
            wait_until("the replica is told", || {
                replica
                    .cli(&["cluster", "replicate", id.trim()])
                    .contains("OK")
            });
        }
        let cluster = Self { masters, replicas };
        wait_until("the cluster is up", || {
            let servers = cluster.masters.iter().chain(&cluster.replicas);
            servers
                .into_iter()
                .all(|server| knows(server, "cluster_state:ok"))
        });
        cluster.replicas.iter().for_each(RedisServer::follows);
        cluster
    }

    pub fn settings(&self) -> RedisSettings {
        let seeds = self.masters.iter().map(RedisServer::address).collect();
        settings(RedisServers::Cluster { seeds })
    }

    pub fn urls(&self) -> Vec<String> {
        self.masters.iter().map(RedisServer::url).collect()
    }
}
