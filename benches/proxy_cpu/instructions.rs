//! User instructions a request, counted by valgrind's callgrind: the same figure on a quiet machine and on a busy one.

use std::process::ExitCode;

use super::support::callgrind::{self, MISSES};
use super::support::requests::visitor_cookie;
use super::support::surroundings::Surroundings;
use super::{load, sidecar, verdict};

const WARM_UP: usize = 500;
const REQUESTS: usize = 4_000;
/// One connection: how requests of several come together would make the count vary.
const CONNECTIONS: usize = 1;

pub(super) fn compare(misses: bool, check: bool) -> ExitCode {
    if !callgrind::is_installed() {
        return ExitCode::FAILURE;
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
        let tool = callgrind::tool(&out, misses);
        let process = match access {
            Some(access) => surroundings.sidecar(&tool, &format!("{access}"), &sidecar(access)),
            None => surroundings.bare(&tool),
        };
        // The bare proxy sets no cookie and gets the same request nonetheless.
        cookie = visitor_cookie(process.address).or(cookie);
        let ask = |requests| {
            let load_thread = &surroundings.load;
            load(
                load_thread,
                &process,
                cookie.as_deref(),
                requests,
                CONNECTIONS,
            );
        };
        ask(WARM_UP);
        let count = callgrind::count(&process, &out, REQUESTS, || ask(REQUESTS));
        counts.push((name, count));
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
