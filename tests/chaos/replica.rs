//! A sidecar process: the real binary, with somebody in the middle between it and the store, and a clock that can be put
//! forward and back.

use std::io::{BufRead, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::child::Child;
use crate::link::{Link, Mode};
use crate::witness::Witness;

/// One of the sidecars.
pub struct Replica {
    number: usize,
    config: PathBuf,
    folder: PathBuf,
    witness: Arc<Witness>,
    links: Vec<Link>,
    child: tokio::sync::Mutex<Option<Child>>,
    addresses: Mutex<Option<Addresses>>,
}

/// Where a running sidecar listens; other ports after each start.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// Visitors by cookie.
    pub cookies: SocketAddr,
    /// Visitors by `x-visitor-id`.
    pub headers: SocketAddr,
}

/// Moves the wall clock of whatever it is loaded into, and leaves the monotonic one alone.
const LIBFAKETIME: [&str; 2] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
];
const START: Duration = Duration::from_secs(30);

impl Replica {
    /// Not yet started. `text` is the configuration.
    pub fn new(
        number: usize,
        folder: &Path,
        text: &str,
        links: Vec<Link>,
        witness: &Arc<Witness>,
    ) -> Self {
        let config = folder.join(format!("replica-{number}.toml"));
        std::fs::write(&config, text).unwrap();
        let replica = Self {
            number,
            config,
            folder: folder.to_owned(),
            witness: witness.clone(),
            links,
            child: tokio::sync::Mutex::new(None),
            addresses: Mutex::new(None),
        };
        replica.set_clock(0);
        replica
    }

    /// Where it listens, while it runs.
    pub fn addresses(&self) -> Option<Addresses> {
        *self.addresses.lock()
    }

    /// Its wall clock, in seconds from the true time, from now on and after the next start.
    pub fn set_clock(&self, seconds: i32) {
        let (file, new) = (
            self.clock_file(),
            self.folder.join(format!("clock-{}.new", self.number)),
        );
        // In one step: an empty file would be no time at all.
        std::fs::write(&new, format!("{seconds:+}\n")).unwrap();
        std::fs::rename(new, file).unwrap();
    }

    /// Whether clocks can be moved on this machine.
    pub fn clocks_move() -> bool {
        libfaketime().is_some()
    }

    /// What happens between it and the store.
    pub fn network(&self, mode: Mode) {
        self.links.iter().for_each(|link| link.set(mode));
    }

    /// Starts it and waits until it listens. A start that fails, since the store is away, is tried again: that is what an
    /// orchestrator does.
    pub async fn start(&self) {
        let mut running = self.child.lock().await;
        while running.is_none() {
            match self.try_start().await {
                Some(child) => *running = Some(child),
                None => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    }

    /// `kill -9`.
    pub async fn kill(&self) {
        let mut running = self.child.lock().await;
        if let Some(child) = running.take() {
            *self.addresses.lock() = None;
            drop(child);
            self.witness.killed(self.number);
        }
    }

    fn clock_file(&self) -> PathBuf {
        self.folder.join(format!("clock-{}", self.number))
    }

    async fn try_start(&self) -> Option<Child> {
        let mut words = Vec::new();
        if let Some(library) = libfaketime() {
            words.extend([
                "env".to_owned(),
                format!("LD_PRELOAD={library}"),
                format!("FAKETIME_TIMESTAMP_FILE={}", self.clock_file().display()),
                "FAKETIME_NO_CACHE=1".to_owned(),
                "DONT_FAKE_MONOTONIC=1".to_owned(),
            ]);
        }
        words.extend(
            [env!("CARGO_BIN_EXE_dressipi-sidecar"), "serve", "--config"].map(str::to_owned),
        );
        words.push(self.config.display().to_string());
        self.witness.born(self.number);
        let (child, stderr) = Child::start(&words);
        let (found, listening) = oneshot::channel();
        let file = self.folder.join(format!("replica-{}.log", self.number));
        std::thread::spawn(move || follow(stderr, &file, found));
        match tokio::time::timeout(START, listening).await {
            Ok(Ok(addresses)) => {
                *self.addresses.lock() = Some(addresses);
                Some(child)
            }
            // It has ended, or does not get anywhere.
            _ => None,
        }
    }
}

fn libfaketime() -> Option<&'static str> {
    LIBFAKETIME
        .into_iter()
        .find(|path| Path::new(path).exists())
}

/// Writes the log to a file, and tells the addresses when they are known. Ends with the process.
fn follow(stderr: impl BufRead, file: &Path, found: oneshot::Sender<Addresses>) {
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(file)
        .expect("the folder can be written");
    let (mut listening, mut found) = (Vec::new(), Some(found));
    for line in stderr.lines().map_while(Result::ok) {
        let _ = writeln!(file, "{line}");
        if found.is_none() {
            continue;
        }
        let event: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
        let says = event["message"].as_str().unwrap_or_default();
        if !says.ends_with("listening") {
            continue;
        }
        let address = event["address"].as_str();
        listening.extend(address.and_then(|text| text.parse::<SocketAddr>().ok()));
        // The admin listener comes last: then all is said.
        if let [cookies, headers, _] = listening[..] {
            let addresses = Addresses { cookies, headers };
            let _ = found.take().map(|found| found.send(addresses));
        }
    }
}
