//! The sidecar process: the real binary, and what the system says about it.

use std::io::{BufRead, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::child::Child;

/// A sidecar that runs; killed when it is dropped.
pub struct Sidecar {
    child: Child,
    /// Where visitors connect.
    pub address: SocketAddr,
    /// Health and metrics.
    pub admin: SocketAddr,
    ended: oneshot::Receiver<()>,
}

const START: Duration = Duration::from_secs(30);
/// A drain may take twenty seconds, and the store five.
const END: Duration = Duration::from_secs(30);

/// The program: `SIDECAR_BINARY`, or what cargo has just built.
fn binary() -> String {
    let built = env!("CARGO_BIN_EXE_dressipi-sidecar");
    std::env::var("SIDECAR_BINARY").unwrap_or_else(|_| built.to_owned())
}

impl Sidecar {
    /// Starts it and waits until it listens.
    pub async fn start(config: &Path, log: &Path) -> Self {
        let config = config.display().to_string();
        let words = [binary(), "serve".into(), "--config".into(), config];
        let (child, stderr) = Child::start(&words);
        let (found, listening) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(log);
        let file = file.expect("the folder can be written");
        std::thread::spawn(move || {
            follow(stderr, file, found);
            let _ = end.send(());
        });
        match tokio::time::timeout(START, listening).await {
            Ok(Ok([address, admin])) => Self {
                child,
                address,
                admin,
                ended,
            },
            _ => panic!(
                "the sidecar did not start:\n{}",
                std::fs::read_to_string(log).unwrap_or_default()
            ),
        }
    }

    /// Its process id.
    pub fn pid(&self) -> &str {
        self.child.pid()
    }

    /// SIGTERM; whether it ended in time.
    pub async fn stop(self) -> bool {
        self.signal("-TERM");
        tokio::time::timeout(END, self.ended).await.is_ok()
    }

    /// Sends it a signal, such as `-HUP`.
    pub fn signal(&self, signal: &str) {
        self.child.signal(signal);
    }

    /// Its memory that is resident, and the most that was since [`Self::forget_peak`], in bytes.
    pub fn memory(&self) -> (u64, u64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let status = status.expect("the sidecar runs");
        let bytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kib = line.unwrap_or_default().trim().trim_end_matches(" kB");
            kib.parse::<u64>().expect("a number of kB") * 1024
        };
        (bytes("VmRSS:"), bytes("VmHWM:"))
    }

    /// The most begins anew with what is resident now.
    pub fn forget_peak(&self) {
        let file = format!("/proc/{}/clear_refs", self.pid());
        std::fs::write(file, "5").expect("our own child");
    }

    /// The processor time that it has taken.
    pub fn cpu(&self) -> Duration {
        cpu(self.pid())
    }
}

/// The processor time that a process has taken; `self` is this one.
pub fn cpu(pid: &str) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process runs");
    // The name stands in brackets and may have spaces.
    let (_, rest) = stat.rsplit_once(") ").expect("a name");
    let fields: Vec<&str> = rest.split(' ').collect();
    ticks(fields[11]) + ticks(fields[12])
}

/// The processor time of all processes together.
pub fn machine_cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/stat").expect("Linux");
    let fields: Vec<&str> = stat.lines().next().unwrap().split_whitespace().collect();
    // user, nice, system, irq, softirq, steal: all but idle and iowait.
    [1, 2, 3, 6, 7, 8]
        .map(|field| ticks(fields[field]))
        .iter()
        .sum()
}

/// The kernel tells these in hundredths of a second, whatever its own ticks are.
fn ticks(text: &str) -> Duration {
    Duration::from_millis(10 * text.parse::<u64>().expect("a number"))
}

/// Writes the log to a file, and tells the addresses when they are known. Ends with the process.
fn follow(stderr: impl BufRead, mut file: std::fs::File, found: oneshot::Sender<[SocketAddr; 2]>) {
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
        if let [address, admin] = listening[..] {
            let _ = found.take().map(|found| found.send([address, admin]));
        }
    }
}
