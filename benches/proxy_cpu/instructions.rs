//! User instructions a request, counted by valgrind's callgrind: the same figure on a quiet machine and on a busy one.

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use super::load::{load, visitor_cookie};
use super::processes::Process;
use super::{Surroundings, verdict};

const WARM_UP: usize = 500;
const REQUESTS: usize = 4_000;
/// One connection: how requests of several come together would make the count vary.
const CONNECTIONS: usize = 1;
/// How long callgrind may take to obey.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn compare(check: bool) -> ExitCode {
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
        let tool = callgrind(&out);
        let process = match access {
            Some(access) => surroundings.sidecar(&tool, &format!("{access}"), access),
            None => surroundings.bare(&tool),
        };
        // The bare proxy sets no cookie and gets the same request nonetheless.
        cookie = visitor_cookie(process.address).or(cookie);
        counts.push((name, count(&process, cookie.as_deref(), &out)));
    }
    let base = counts[2].1;
    println!("| system | user instructions a request | ÷ passing through |");
    println!("| --- | --- | --- |");
    for (name, count) in counts.iter().rev() {
        println!("| {name} | {count:.0} | {:.3} |", count / base);
    }
    println!("{REQUESTS} requests over {CONNECTIONS} connection, all threads of the process");
    verdict(counts[0].1 / base, check)
}

fn callgrind(out: &Path) -> Vec<String> {
    let always = ["valgrind", "-q", "--tool=callgrind", "--instr-atstart=no"];
    let mut tool = Vec::from(always.map(str::to_owned));
    tool.push(format!("--callgrind-out-file={}", out.display()));
    tool.push(pipes(out));
    tool
}

/// Where valgrind is to be spoken to: in the temporary folder, so that nothing is left of it.
fn pipes(out: &Path) -> String {
    format!("--vgdb-prefix={}-pipe", out.display())
}

/// Counts while requests are answered, and at no other time.
fn count(process: &Process, cookie: Option<&str>, out: &Path) -> f64 {
    load(process.address, cookie, WARM_UP, CONNECTIONS);
    control(&["-i", "on"], process, out);
    load(process.address, cookie, REQUESTS, CONNECTIONS);
    control(&["-i", "off"], process, out);
    control(&["-d"], process, out);
    // The first dump; the file without a number is written at the end.
    let mut dump = out.as_os_str().to_owned();
    dump.push(".1");
    let text = std::fs::read_to_string(&dump).expect("callgrind wrote its dump");
    let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
    let total: f64 = total.unwrap().trim().parse().unwrap();
    assert!(total > 0.0, "callgrind counted nothing");
    total / REQUESTS as f64
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
