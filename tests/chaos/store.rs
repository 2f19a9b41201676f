//! The store below all replicas: a Redis master, its replica and three sentinels, or one file.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::child::Child;
use crate::link::{Ear, Link};
use crate::resp::message_length;

/// Two servers, one of which is the master at any time, and the sentinels that decide which.
pub struct Redis {
    nodes: Vec<Server>,
    sentinels: Vec<Server>,
    takeovers: AtomicU64,
}

/// A Redis process.
struct Server {
    address: SocketAddr,
    config: PathBuf,
    sentinel: bool,
    running: Mutex<Option<Child>>,
}

/// Nobody connects *from* this address, so no connection can take the port of a server that is away.
const HOST: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 1, 1));
const PATIENCE: Duration = Duration::from_secs(20);
/// After which the sentinels take a silent master for dead.
pub const DOWN_AFTER: Duration = Duration::from_millis(800);

/// Waits until the condition holds. Not a function: closures that borrow do not go into tasks.
macro_rules! wait {
    ($what:expr, $condition:expr) => {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !$condition {
            assert!(
                tokio::time::Instant::now() < deadline,
                "not in time: {}",
                $what
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
}

impl Redis {
    /// Whether the programs are there.
    pub fn installed() -> bool {
        let found = Command::new("redis-server")
            .arg("--version")
            .stdout(Stdio::null())
            .status();
        found.is_ok_and(|status| status.success())
    }

    /// A master with a replica, up to date, and sentinels who know them.
    pub async fn start(folder: &Path) -> Self {
        let free = || {
            let listener = TcpListener::bind((HOST, 0)).unwrap();
            listener.local_addr().unwrap()
        };
        let node = |name: &str, master: Option<SocketAddr>| {
            let (address, directory) = (free(), folder.join(name));
            std::fs::create_dir_all(&directory).unwrap();
            let replicates = master.map_or(String::new(), |master| {
                format!("replicaof {} {}\n", master.ip(), master.port())
            });
            let text = format!(
                "bind {HOST}\nport {}\ndir {}\nappendonly yes\nappendfsync always\nsave \"\"\n\
                 replica-announce-ip {HOST}\nrepl-diskless-sync-delay 0\nrepl-ping-replica-period 1\n{replicates}",
                address.port(),
                directory.display()
            );
            Server::start(directory.join("redis.conf"), &text, address, false)
        };
        let first = node("redis-a", None);
        let second = node("redis-b", Some(first.address));
        let watched = first.address;
        let sentinels = ["sentinel-a", "sentinel-b", "sentinel-c"].map(|name| {
            let (address, directory) = (free(), folder.join(name));
            std::fs::create_dir_all(&directory).unwrap();
            let text = format!(
                "bind {HOST}\nport {}\ndir {}\n\
                 sentinel announce-ip {HOST}\n\
                 sentinel monitor main {HOST} {} 2\n\
                 sentinel down-after-milliseconds main {}\n\
                 sentinel failover-timeout main 1000\n",
                address.port(),
                directory.display(),
                watched.port(),
                DOWN_AFTER.as_millis(),
            );
            Server::start(directory.join("sentinel.conf"), &text, address, true)
        });
        let redis = Self {
            nodes: vec![first, second],
            sentinels: sentinels.into(),
            takeovers: AtomicU64::new(0),
        };
        redis.in_step().await;
        for sentinel in &redis.sentinels {
            wait!(
                "the sentinels know everybody",
                sentinel.knows_everybody().await
            );
        }
        redis
    }

    /// What stands between one replica and all of it, and `[session]` for that replica.
    pub fn links(&self) -> (Vec<Link>, String) {
        let nodes: Vec<Link> = self
            .nodes
            .iter()
            .map(|node| Link::to(node.address, Ear::Bytes))
            .collect();
        let ports = self.nodes.iter().zip(&nodes);
        let ports: Vec<_> = ports
            .map(|(node, link)| {
                (
                    node.address.port().to_string(),
                    link.address.port().to_string(),
                )
            })
            .collect();
        assert!(
            ports
                .iter()
                .all(|(real, link)| real.len() == 5 && link.len() == 5),
            "ports that the kernel gives have five digits: {ports:?}"
        );
        let sentinels = self.sentinels.iter();
        let sentinels: Vec<Link> = sentinels
            .map(|sentinel| Link::to(sentinel.address, Ear::Ports(ports.clone())))
            .collect();
        let urls: Vec<String> = sentinels
            .iter()
            .map(|link| format!("\"redis://{}\"", link.address))
            .collect();
        let settings = format!(
            "store = \"redis\"\nredis.mode = \"sentinel\"\nredis.master_name = \"main\"\nredis.urls = [{}]\n\
             redis.wait_replicas = 1\n",
            urls.join(", ")
        );
        (nodes.into_iter().chain(sentinels).collect(), settings)
    }

    /// `kill -9` of the master, which comes back before the sentinels take it for dead.
    pub async fn bounce(&self, away: Duration) {
        let master = self.master().await;
        master.kill();
        tokio::time::sleep(away).await;
        master.restart();
        self.in_step().await;
    }

    /// `kill -9` of the master, which comes back when the other one has taken over.
    pub async fn fail_over(&self) {
        let master = self.master().await;
        master.kill();
        let other = self
            .nodes
            .iter()
            .find(|node| node.address != master.address);
        let other = other.expect("there are two");
        wait!("the other server takes over", other.is_master().await);
        self.takeovers.fetch_add(1, Ordering::Relaxed);
        master.restart();
        self.in_step().await;
    }

    /// How often the other server has taken over.
    pub fn takeovers(&self) -> u64 {
        self.takeovers.load(Ordering::Relaxed)
    }

    /// The master stands still and goes on where it was, perhaps as one who does not know yet that it was deposed.
    pub async fn pause(&self, duration: Duration) {
        let master = self.master().await;
        master.signal("-STOP");
        tokio::time::sleep(duration).await;
        master.signal("-CONT");
        self.in_step().await;
        let still = self.master().await.address == master.address;
        self.takeovers
            .fetch_add(u64::from(!still), Ordering::Relaxed);
    }

    /// Has everything run again, whatever was interrupted.
    pub async fn recover(&self) {
        for node in &self.nodes {
            node.signal("-CONT");
            if node.running.lock().is_none() {
                node.restart();
            }
        }
        self.in_step().await;
    }

    /// Waits until there is one master, known to the sentinels, and the other follows it.
    pub async fn in_step(&self) {
        wait!(
            "one master and one replica in step",
            self.is_in_step().await
        );
    }

    async fn is_in_step(&self) -> bool {
        let (mut masters, mut followers) = (0, 0);
        for node in &self.nodes {
            let text = node.ask("INFO replication").await;
            masters += usize::from(text.contains("role:master") && text.contains("state=online"));
            followers += usize::from(text.contains("master_link_status:up"));
        }
        (masters, followers) == (1, 1)
    }

    async fn master(&self) -> &Server {
        loop {
            for node in &self.nodes {
                if node.is_master().await {
                    return node;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Server {
    fn start(config: PathBuf, text: &str, address: SocketAddr, sentinel: bool) -> Self {
        std::fs::write(&config, text).unwrap();
        let server = Self {
            address,
            config,
            sentinel,
            running: Mutex::new(None),
        };
        server.restart();
        server
    }

    fn restart(&self) {
        self.kill();
        let mut words = vec!["redis-server".to_owned(), self.config.display().to_string()];
        words.extend(self.sentinel.then(|| "--sentinel".to_owned()));
        let (child, _) = Child::start(&words);
        *self.running.lock() = Some(child);
    }

    fn kill(&self) {
        drop(self.running.lock().take());
    }

    fn signal(&self, signal: &str) {
        if let Some(running) = &*self.running.lock() {
            running.signal(signal);
        }
    }

    async fn is_master(&self) -> bool {
        self.ask("INFO replication").await.contains("role:master")
    }

    /// Of a sentinel: whether it has found the master's replica and the other sentinels.
    async fn knows_everybody(&self) -> bool {
        let text = self.ask("SENTINEL MASTERS").await;
        let value = |name: &str| {
            let mut lines = text.lines().skip_while(|line| *line != name);
            lines.nth(2)
        };
        value("num-slaves") == Some("1") && value("num-other-sentinels") == Some("2")
    }

    /// The answer to an inline command; empty if there is none.
    async fn ask(&self, command: &str) -> String {
        let asking = async {
            let mut stream = TcpStream::connect(self.address).await.ok()?;
            stream
                .write_all(format!("{command}\r\n").as_bytes())
                .await
                .ok()?;
            let mut answer = Vec::new();
            while message_length(&answer).is_none() {
                if stream.read_buf(&mut answer).await.ok()? == 0 {
                    return None;
                }
            }
            Some(String::from_utf8_lossy(&answer).into_owned())
        };
        let answer = tokio::time::timeout(Duration::from_millis(300), asking).await;
        answer.ok().flatten().unwrap_or_default()
    }
}
