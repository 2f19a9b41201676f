//! The systems, each a process of its own that ends with its handle, and what they have used.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_getcpuclockid};

use super::requests::is_answered;

/// Where there are two cores, the proxies have the first and everything else the second.
#[derive(Clone, Copy)]
pub(crate) enum Core {
    Proxy,
    Load,
}

/// A part of the benchmark that listens.
pub(crate) struct Process {
    child: Child,
    /// The process that listens: the child, or what the child keeps.
    pid: u32,
    pub(crate) address: SocketAddr,
}

/// The sidecar that is measured: `SIDECAR_BINARY`, or what cargo has just built.
pub(crate) fn sidecar_binary() -> PathBuf {
    let built = env!("CARGO_BIN_EXE_dressipi-sidecar");
    std::env::var_os("SIDECAR_BINARY").map_or_else(|| built.into(), PathBuf::from)
}

/// How long a process may take to listen; under valgrind that is a few seconds, with a million visitors to read a minute.
const START: Duration = Duration::from_secs(180);
/// Runs a program that has children of its own, as its child, and ends it with the given signal when our end of a pipe is closed,
/// however that comes about. SIGINT comes to the whole group: the pipe's end follows it.
const KEEPER: &str = r#"trap '' INT; signal=$1 log=$2; shift 2
    "$@" </dev/null >"$log" 2>&1 & echo $!; exec >/dev/null
    read -r _; kill "-$signal" $! 2>/dev/null; wait"#;

impl Process {
    /// Starts a part of this program, which prints its address.
    pub(crate) fn start(command: &mut Command, core: Core) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        pin(&child, core);
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self::listening(child, lines, |line| line.trim().parse().ok())
    }

    /// Starts the sidecar, which logs its address.
    pub(crate) fn serve(command: &mut Command) -> Self {
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
            pid: child.id(),
            child,
            address: SocketAddr::from(([0; 4], 0)),
        };
        process.address = found
            .recv_timeout(START)
            .expect("the process did not start");
        process
    }

    /// Starts somebody else's program, which listens at `address` when it is ready, on the core of the proxies; `signal` ends it and
    /// its children. An error is what it says where it does not start; its output goes to the file `log`.
    pub(crate) fn keep(
        command: &[String],
        signal: &str,
        address: SocketAddr,
        log: &Path,
    ) -> Result<Self, String> {
        let mut child = Command::new("sh")
            .args(["-c", KEEPER, "keeper", signal])
            .arg(log)
            // Pinned from its first moment, so that all its threads and children are.
            .args(["taskset", "-c", "0"].iter().filter(|_| two_cores()))
            .args(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        lines.read_line(&mut line).unwrap();
        let process = Self {
            pid: line.trim().parse().unwrap(),
            child,
            address,
        };
        let begun = Instant::now();
        while !is_answered(address) {
            let ended = !process.is_alive();
            if ended || begun.elapsed() > START {
                let said = std::fs::read_to_string(log).unwrap_or_default();
                let last: Vec<_> = said.lines().rev().take(5).collect();
                let last: Vec<_> = last.into_iter().rev().collect();
                return Err(format!("it does not answer; it says: {}", last.join("\n")));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(process)
    }

    /// Whether it runs, and has not merely not been waited for.
    fn is_alive(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid));
        stat.is_ok_and(|stat| !stat.rsplit(')').next().unwrap().starts_with(" Z"))
    }

    pub(crate) fn id(&self) -> String {
        self.pid.to_string()
    }

    /// The process and its children, and theirs.
    pub(crate) fn tree(&self) -> Vec<u32> {
        let numbers = std::fs::read_dir("/proc").unwrap().flatten();
        let processes = numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let parents: Vec<(u32, u32)> = processes
            .filter_map(|pid: u32| {
                let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
                let parent = stat.rsplit(')').next()?.split_whitespace().nth(1)?;
                Some((pid, parent.parse().ok()?))
            })
            .collect();
        let mut tree = vec![self.pid];
        let mut at = 0;
        while let Some(parent) = tree.get(at).copied() {
            let children = parents.iter().filter(|(_, of)| *of == parent);
            tree.extend(children.map(|(pid, _)| *pid));
            at += 1;
        }
        tree
    }

    /// CPU time of all processes of the tree, user and system together, exact to the nanosecond; that of threads that have ended, too.
    pub(crate) fn cpu_nanos(&self) -> u64 {
        let nanos = self.tree().into_iter().map(|pid| {
            let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
            let time = clock_getcpuclockid(pid).and_then(ClockId::now).unwrap();
            u64::try_from(Duration::from(time).as_nanos()).unwrap()
        });
        nanos.sum()
    }

    /// What the tree has resident, in bytes. Where there are several processes, what they share counts once (`Pss`).
    pub(crate) fn resident(&self) -> f64 {
        let (tree, mut bytes) = (self.tree(), 0.0);
        let [file, key] = match tree.len() {
            1 => ["status", "VmRSS:"],
            _ => ["smaps_rollup", "Pss:"],
        };
        for pid in tree {
            let text = std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
            let line = text.lines().find_map(|line| line.strip_prefix(key));
            let kibibytes = line.unwrap().split_whitespace().next().unwrap();
            bytes += kibibytes.parse::<f64>().unwrap() * 1024.0;
        }
        bytes
    }

    /// User and system time so far, in clock ticks: coarse, good for their proportion only.
    pub(crate) fn ticks(&self) -> [u64; 2] {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap();
        let fields = stat.rsplit(')').next().unwrap().split_whitespace();
        let fields: Vec<_> = fields.skip(11).take(2).collect();
        [0, 1].map(|index| fields[index].parse().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // What keeps another process ends it, and then itself, when its standard input is closed.
        match self.child.stdin.take() {
            Some(stdin) => drop(stdin),
            None => drop(self.child.kill()),
        }
        let _ = self.child.wait();
    }
}

/// An address that nobody has, each one once: below those that the system gives to whoever asks for any, so that nobody gets it in
/// between.
pub(crate) fn free_address() -> SocketAddr {
    const FIRST: u32 = 10_240;
    const COUNT: u32 = 32_768 - FIRST;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = std::process::id() * 101 + NEXT.fetch_add(1, Ordering::Relaxed);
        let port = u16::try_from(FIRST + number % COUNT).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// Whether a program can be run: its path, or its name where it is in the search path or among those for the system's services.
pub(crate) fn program(name: &str) -> Option<String> {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut folders = path.split(':').chain(["/usr/sbin", "/usr/local/sbin"]);
    let found = folders.find_map(|folder| {
        let path = Path::new(folder).join(name);
        File::open(&path).is_ok().then_some(path)
    })?;
    Some(found.to_str()?.to_owned())
}

/// The command that has `tool`, if there is one, run the program.
pub(crate) fn under(tool: &[String], binary: &Path) -> Command {
    match tool {
        [] => Command::new(binary),
        [tool, arguments @ ..] => {
            let mut command = Command::new(tool);
            command.args(arguments).arg(binary);
            command
        }
    }
}

/// Leaves the first core to the proxies: for who does not start any here.
pub(crate) fn keep_to_the_load_core() {
    if two_cores() {
        pin_to("1", std::process::id());
    }
}

fn two_cores() -> bool {
    static CORES: std::sync::LazyLock<bool> = std::sync::LazyLock::new(|| {
        // Before this process is pinned to one of them.
        std::thread::available_parallelism().is_ok_and(|cores| cores.get() >= 2)
            && program("taskset").is_some()
    });
    *CORES
}

fn pin(child: &Child, core: Core) {
    if two_cores() {
        let proxy = match core {
            Core::Proxy => "0",
            Core::Load => "1",
        };
        pin_to(proxy, child.id());
        pin_to("1", std::process::id());
    }
}

/// All threads of a process run on these cores (`0`, `0-1`) from now on.
pub(crate) fn pin_to(core: &str, process: u32) {
    let _ = Command::new("taskset")
        .args(["-a", "-cp", core, &process.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}
