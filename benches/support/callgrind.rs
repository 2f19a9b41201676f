//! User instructions, counted by valgrind's callgrind: the same figure on a quiet machine and on a busy one.
//!
//! For what is larger than 2 KB, glibc copies with `rep movsb`: one instruction to a processor's own counter, and one for each byte to
//! valgrind. pingora moves 13 KB for each request in that way. So glibc is told to copy with vectors, in every system.

use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::PATIENCE;
use super::processes::Process;

/// callgrind's names of what is missed.
pub(crate) const MISSES: [&str; 5] = ["I1mr", "D1mr", "D1mw", "Bcm", "Bim"];
/// A first cache of 32 KiB each for code and data, as most processors have, and one behind it.
const SIMULATED: [&str; 5] = [
    "--cache-sim=yes",
    "--branch-sim=yes",
    "--I1=32768,8,64",
    "--D1=32768,8,64",
    "--LL=1048576,16,64",
];

/// Whether valgrind is here; says how to get it.
pub(crate) fn is_installed() -> bool {
    for tool in ["valgrind", "callgrind_control"] {
        let found = Command::new(tool)
            .arg("--version")
            .stdout(Stdio::null())
            .status();
        if !found.is_ok_and(|status| status.success()) {
            eprintln!("`{tool}` is not here: install valgrind (Debian: apt-get install valgrind)");
            return false;
        }
    }
    true
}

/// The command under which a program is to run that [`count`] counts; `out` is for that program alone.
pub(crate) fn tool(out: &Path, misses: bool) -> Vec<String> {
    let always = [
        "env",
        "GLIBC_TUNABLES=glibc.cpu.x86_rep_movsb_threshold=0x40000000:glibc.cpu.x86_rep_stosb_threshold=0x40000000",
        "valgrind",
        "-q",
        "--tool=callgrind",
        "--instr-atstart=no",
    ];
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

/// Counts what the process does while `load` has it answer so many requests, and at no other time; for each request, by callgrind's names.
pub(crate) fn count(
    process: &Process,
    out: &Path,
    requests: usize,
    load: impl FnOnce(),
) -> HashMap<String, f64> {
    control(&["-i", "on"], process, out);
    load();
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
    let totals = values("totals:").map(|total| total.parse::<f64>().unwrap() / requests as f64);
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
