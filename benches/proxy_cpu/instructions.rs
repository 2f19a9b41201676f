//! User instructions a request, counted by valgrind's callgrind: the same figure on a quiet machine and on a busy one.

use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use super::load::{Surrounding, visitor_cookie};
use super::processes::Process;
use super::surroundings::Surroundings;
use super::verdict;

const WARM_UP: usize = 500;
const REQUESTS: usize = 4_000;
/// One connection: how requests of several come together would make the count vary.
const CONNECTIONS: usize = 1;
/// A first cache of 32 KiB each for code and data, as most processors have, and one behind it.
const SIMULATED: [&str; 5] = [
    "--cache-sim=yes",
    "--branch-sim=yes",
    "--I1=32768,8,64",
    "--D1=32768,8,64",
    "--LL=1048576,16,64",
];
/// callgrind's names of what is missed.
const MISSES: [&str; 5] = ["I1mr", "D1mr", "D1mw", "Bcm", "Bim"];
/// How long callgrind may take to obey.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn compare(misses: bool, check: bool) -> ExitCode {
    for tool in ["valgrind", "callgrind_control"] {
        let found = Command::new(tool)
            .arg("--version")
            .stdout(Stdio::null())
            .status();
        if !found.is_ok_and(|status| status.success()) {
            eprintln!("`{tool}` is not here: install valgrind (Debian: apt-get install valgrind)");
            return ExitCode::FAILURE;
        }
    }
    let surroundings = Surroundings::start();
    let folder = surroundings.folder.path();
    let mut cookie = None;
    let mut counts = Vec::new();
    for (name, access) in [
        ("sidecar, access log off", Some(false)),
        ("sidecar, access log on", Some(true)),
        ("pingora, passing through", None),
    ] {
        let out = folder.join(format!("callgrind-{}", counts.len()));
        let tool = callgrind(&out, misses);
        let process = match access {
            Some(access) => surroundings.sidecar(&tool, &format!("{access}"), access, 1),
            None => surroundings.bare(&tool),
        };
        // The bare proxy sets no cookie and gets the same request nonetheless.
        cookie = visitor_cookie(process.address).or(cookie);
        counts.push((
            name,
            count(&surroundings.load, &process, cookie.as_deref(), &out),
        ));
    }
    let (_, base) = &counts[2];
    println!("| system | user instructions a request | ÷ passing through |");
    println!("| --- | --- | --- |");
    for (name, count) in counts.iter().rev() {
        let instructions = count["Ir"];
        println!(
            "| {name} | {instructions:.0} | {:.3} |",
            instructions / base["Ir"]
        );
    }
    if misses {
        println!("\n| system | missed: code | data read | data written | branches | indirect |");
        println!("| --- | --- | --- | --- | --- | --- |");
        for (name, count) in counts.iter().rev() {
            let [code, read, written, branches, indirect] = MISSES.map(|event| count[event]);
            println!(
                "| {name} | {code:.0} | {read:.0} | {written:.0} | {branches:.0} | {indirect:.0} |"
            );
        }
    }
    println!("{REQUESTS} requests over {CONNECTIONS} connection, all threads of the process");
    verdict(counts[0].1["Ir"] / base["Ir"], check)
}

fn callgrind(out: &Path, misses: bool) -> Vec<String> {
    let always = ["valgrind", "-q", "--tool=callgrind", "--instr-atstart=no"];
    let mut tool = Vec::from(always.map(str::to_owned));
    if misses {
        tool.extend(SIMULATED.map(str::to_owned));
    }
    tool.push(format!("--callgrind-out-file={}", out.display()));
    tool.push(pipes(out));
    tool
}

/// Where valgrind is to be spoken to: in the temporary folder, so that nothing is left of it.
fn pipes(out: &Path) -> String {
    format!("--vgdb-prefix={}-pipe", out.display())
}

/// Counts while requests are answered, and at no other time.
fn count(
    load: &Surrounding,
    process: &Process,
    cookie: Option<&str>,
    out: &Path,
) -> HashMap<String, f64> {
    load.load(process.address, cookie, WARM_UP, CONNECTIONS);
    control(&["-i", "on"], process, out);
    load.load(process.address, cookie, REQUESTS, CONNECTIONS);
    control(&["-i", "off"], process, out);
    control(&["-d"], process, out);
    // The first dump; the file without a number is written at the end.
    let mut dump = out.as_os_str().to_owned();
    dump.push(".1");
    let text = std::fs::read_to_string(&dump).expect("callgrind wrote its dump");
    let values = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key));
        line.unwrap().split_whitespace().map(str::to_owned)
    };
    let totals = values("totals:").map(|total| total.parse::<f64>().unwrap() / REQUESTS as f64);
    let counts: HashMap<_, _> = values("events:").zip(totals).collect();
    assert!(counts["Ir"] > 0.0, "callgrind counted nothing");
    counts
}

/// Gives callgrind an order, and ends the benchmark where it does not obey.
fn control(order: &[&str], process: &Process, out: &Path) {
    let mut control = Command::new("callgrind_control")
        .arg(pipes(out))
        .args(order)
        .arg(process.id())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    let status = loop {
        match control.try_wait().unwrap() {
            Some(status) => break status,
            None if begun.elapsed() > PATIENCE => {
                let _ = control.kill();
                panic!("callgrind does not obey");
            }
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    assert!(status.success(), "callgrind_control {order:?}: {status}");
}
