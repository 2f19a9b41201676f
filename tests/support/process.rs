use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use super::canary;

/// The real binary, as a process of its own.
pub struct Process {
    child: Child,
    pub addresses: Vec<SocketAddr>,
    log: mpsc::Receiver<String>,
    seen: Vec<String>,
}

impl Process {
    pub fn command() -> Command {
        Command::new(env!("CARGO_BIN_EXE_dressipi-sidecar"))
    }

    /// Starts `serve` and waits until all its `listeners` and the admin listener say that they listen.
    pub fn serve(config: &Path, listeners: usize) -> Self {
        Self::serve_with(Self::command(), config, listeners, &[])
    }

    /// The same, by a `command` that has been prepared and with further arguments.
    pub fn serve_with(
        mut command: Command,
        config: &Path,
        listeners: usize,
        arguments: &[&str],
    ) -> Self {
        let mut child = command
            .args(["serve", "--config"])
            .arg(config)
            .args(arguments)
            .env("SIDECAR__LOG__LEVEL", "trace")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, log) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                canary::search("the log of the binary", &line);
                let _ = sender.send(line);
            }
        });
        let mut process = Self {
            child,
            addresses: Vec::new(),
            log,
            seen: Vec::new(),
        };
        let mut sockets = 0;
        while process.addresses.len() + sockets < listeners + 1 {
            let line = process.log.recv_timeout(Duration::from_secs(20));
            let line = line.unwrap_or_else(|_| {
                panic!("the sidecar did not start:\n{}", process.seen.join("\n"))
            });
            if let Ok(event) = serde_json::from_str::<serde_json::Value>(&line)
                && event["message"]
                    .as_str()
                    .is_some_and(|message| message.ends_with("listening"))
            {
                match event["address"].as_str().unwrap() {
                    unix if unix.starts_with("unix:") => sockets += 1,
                    address => process.addresses.push(address.parse().unwrap()),
                }
            }
            process.seen.push(line);
        }
        process
    }

    /// What the system calls it.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The most memory that it has had resident, in bytes.
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.unwrap().trim().trim_end_matches(" kB");
        kib.parse::<u64>().unwrap() * 1024
    }

    /// The soft and the hard limit of a core dump's size.
    pub fn core_limits(&self) -> [String; 2] {
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", self.child.id())).unwrap();
        let line = limits
            .lines()
            .find_map(|line| line.strip_prefix("Max core file size"));
        let mut words = line.unwrap().split_whitespace().map(str::to_owned);
        [words.next().unwrap(), words.next().unwrap()]
    }

    /// Whether the system may put its memory into huge pages; none if it says nothing of that.
    pub fn huge_pages(&self) -> Option<bool> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let mut lines = status.lines();
        let may = lines.find_map(|line| line.strip_prefix("THP_enabled:"))?;
        Some(may.trim() == "1")
    }

    pub fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &id])
                .status()
                .unwrap()
                .success()
        );
    }

    /// `kill -9`.
    pub fn kill(mut self) -> Vec<String> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.rest()
    }

    /// SIGTERM; the exit status and the whole log.
    pub fn terminate(mut self) -> (ExitStatus, Vec<String>) {
        self.signal("-TERM");
        let status = self.child.wait().unwrap();
        (status, self.rest())
    }

    /// Its end, which somebody else has brought about.
    pub fn wait(mut self) -> (ExitStatus, Vec<String>) {
        let status = self.child.wait().unwrap();
        (status, self.rest())
    }

    /// What has been logged so far.
    pub fn log(&mut self) -> &[String] {
        self.seen.extend(self.log.try_iter());
        &self.seen
    }

    fn rest(mut self) -> Vec<String> {
        let mut seen = std::mem::take(&mut self.seen);
        seen.extend(self.log.iter());
        seen
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
