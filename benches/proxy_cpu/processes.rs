//! The systems, each a process of its own that ends with its handle, and what they have used.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// Where there are two cores, the proxies have the first and everything else the second.
#[derive(Clone, Copy)]
pub(super) enum Core {
    Proxy,
    Load,
}

/// A part of the benchmark that listens.
pub(super) struct Process {
    child: Child,
    pub(super) address: SocketAddr,
}

/// How long a process may take to listen; under valgrind that is a few seconds.
const START: Duration = Duration::from_secs(90);

impl Process {
    /// Starts a part of this program, which prints its address.
    pub(super) fn start(command: &mut Command, core: Core) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        pin(&child, core);
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self::listening(child, lines, |line| line.trim().parse().ok())
    }

    /// Starts the sidecar, which logs its address.
    pub(super) fn serve(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        pin(&child, Core::Proxy);
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        Self::listening(child, lines, |line| {
            let event: serde_json::Value = serde_json::from_str(line).ok()?;
            let address = event["address"].as_str()?;
            (event["message"] == "listening").then(|| address.parse().unwrap())
        })
    }

    fn listening<R: BufRead + Send + 'static>(
        child: Child,
        lines: std::io::Lines<R>,
        find: impl Fn(&str) -> Option<SocketAddr> + Send + 'static,
    ) -> Self {
        let (sender, found) = mpsc::channel();
        // Someone reads the log to its end, as in a container.
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some(address) = find(&line) {
                    let _ = sender.send(address);
                }
            }
        });
        let mut process = Self {
            child,
            address: SocketAddr::from(([0; 4], 0)),
        };
        process.address = found
            .recv_timeout(START)
            .expect("the process did not start");
        process
    }

    pub(super) fn id(&self) -> String {
        self.child.id().to_string()
    }

    /// CPU time of all its threads, user and system together, exact to the nanosecond.
    pub(super) fn cpu_nanos(&self) -> u64 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let nanos = tasks.flatten().map(|task| {
            let text = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            text.split(' ').next().unwrap().parse().unwrap_or(0_u64)
        });
        nanos.sum()
    }

    /// User and system time so far, in clock ticks: coarse, good for their proportion only.
    pub(super) fn ticks(&self) -> [u64; 2] {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields = stat.rsplit(')').next().unwrap().split_whitespace();
        let fields: Vec<_> = fields.skip(11).take(2).collect();
        [0, 1].map(|index| fields[index].parse().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn pin(child: &Child, core: Core) {
    if std::thread::available_parallelism().is_ok_and(|cores| cores.get() >= 2) {
        let proxy = match core {
            Core::Proxy => "0",
            Core::Load => "1",
        };
        for (core, id) in [(proxy, child.id()), ("1", std::process::id())] {
            taskset(core, id);
        }
    }
}

/// All threads of a process run on these cores (`0`, `0-1`) from now on.
pub(super) fn taskset(cores: &str, process: u32) {
    let _ = Command::new("taskset")
        .args(["-a", "-cp", cores, &process.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}
