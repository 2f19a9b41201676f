//! Invariants 2, 3 and 5 with the real binary: `kill -9` at random moments, and a token that lives for two seconds.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dressipi_sidecar::simulator::{Endpoint, Fault, FaultKind, SimulatorConfig};
use parking_lot::Mutex;

use crate::support::redis::free_port;
use crate::support::{Dressipi, Process, Sidecar, client, eventually, json};

const TOP: &str = "/api/items/top?client_id=demo";

/// Writes a configuration for the real binary, with addresses that stay the same through restarts.
fn write_config(folder: &Path, dressipi: &Dressipi, extra: &str) -> PathBuf {
    let free = || format!("127.0.0.1:{}", free_port());
    let text = Sidecar::behind(dressipi)
        .redb(folder)
        .extra(extra)
        .text()
        .replacen("127.0.0.1:0", &free(), 1)
        .replacen("127.0.0.1:0", &free(), 1)
        .replacen("127.0.0.1:0", &free(), 1)
        .replace("[log]", "[log]\nformat = \"json\"");
    let path = folder.join("sidecar.toml");
    std::fs::write(&path, text).unwrap();
    path
}

/// What each visitor has seen of its profile.
#[derive(Default)]
struct Sightings(Mutex<HashMap<usize, Vec<String>>>);

impl Sightings {
    fn add(&self, visitor: usize, profile: &str) {
        let mut sightings = self.0.lock();
        let seen = sightings.entry(visitor).or_default();
        if seen.last().is_none_or(|last| last != profile) {
            seen.push(profile.to_owned());
        }
    }

    /// Visitors that were seen with more than one profile.
    fn changes(&self) -> Vec<(usize, Vec<String>)> {
        let sightings = self.0.lock();
        sightings
            .iter()
            .filter(|(_, seen)| seen.len() > 1)
            .map(|(visitor, seen)| (*visitor, seen.clone()))
            .collect()
    }

    fn visitors(&self) -> u64 {
        self.0.lock().len() as u64
    }
}

/// One request for a visitor; what it showed of the profile is written down.
async fn visit(http: &reqwest::Client, port: u16, visitor: usize, sightings: &Sightings) -> bool {
    let url = format!("http://127.0.0.1:{port}{TOP}");
    let answer = http
        .get(url)
        .header("x-visitor-id", format!("visitor-{visitor}"))
        .send()
        .await;
    let Ok(answer) = answer else { return false };
    let Ok(body) = answer.bytes().await else {
        return false;
    };
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    match body["profile"].as_str() {
        Some(profile) => {
            sightings.add(visitor, profile);
            true
        }
        None => false,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_2_kill_9_at_random_moments_changes_no_profile() {
    let dressipi = Dressipi::start().await;
    // Slow enough that every stage of a flow is hit.
    dressipi
        .simulator
        .add_fault(Fault::always(Endpoint::Token, FaultKind::Delay { ms: 10 }));
    dressipi.simulator.add_fault(Fault::always(
        Endpoint::Authorize,
        FaultKind::Delay { ms: 10 },
    ));
    let folder = tempfile::tempdir().unwrap();
    // A visitor can be hit by two kills: the pause after that would be longer than the test.
    let patience = "unconfirmed_pause = \"50ms\"\nmax_unconfirmed = 12\nmin_backoff = \"10ms\"";
    let config = write_config(folder.path(), &dressipi, patience);
    let sightings = Arc::new(Sightings::default());
    let running = Arc::new(AtomicBool::new(true));
    let newcomers = Arc::new(AtomicU64::new(0));
    let http = client();

    let mut process = Process::serve(&config, 2);
    let port = process.addresses[1].port();
    let load: Vec<_> = (0..8)
        .map(|worker| {
            let (http, sightings) = (http.clone(), sightings.clone());
            let (running, newcomers) = (running.clone(), newcomers.clone());
            tokio::spawn(async move {
                let mut round = 0_usize;
                while running.load(Ordering::Relaxed) {
                    // Every other visit is somebody new, every other one somebody who has been here.
                    let total = usize::try_from(newcomers.load(Ordering::Relaxed)).unwrap();
                    let visitor = match round % 2 {
                        0 => usize::try_from(newcomers.fetch_add(1, Ordering::Relaxed)).unwrap(),
                        _ => (round * 7 + worker) % total.max(1),
                    };
                    if !visit(&http, port, visitor, &sightings).await {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    round += 1;
                }
            })
        })
        .collect();
    let mut in_flight_at_kills = 0;
    for kill in 0..12_u64 {
        // Moments that fall on every stage, the same in each run.
        tokio::time::sleep(Duration::from_millis(120 + (kill * 37) % 90)).await;
        process.kill();
        in_flight_at_kills += 8;
        process = tokio::task::block_in_place(|| Process::serve(&config, 2));
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    running.store(false, Ordering::Relaxed);
    for worker in load {
        worker.await.unwrap();
    }
    // Everybody comes once more.
    let everybody = usize::try_from(newcomers.load(Ordering::Relaxed)).unwrap();
    for visitor in 0..everybody {
        eventually("the visitor has a profile", async || {
            visit(&http, port, visitor, &sightings).await
        })
        .await;
    }
    let (status, _) = process.terminate();
    assert!(status.success());

    assert_eq!(sightings.changes(), [], "no visitor changes profile");
    let totals = dressipi.simulator.totals();
    let profiles = dressipi.simulator.ledger().profiles;
    let extra = totals.profiles - sightings.visitors();
    // A kill can hit an authorize call whose answer is on its way, or an exchange whose code is spent and whose tokens are
    // on their way: then nothing of the profile has arrived here, and nobody has seen it.
    let codes_lost = profiles
        .iter()
        .filter(|profile| profile.exchanges == 0)
        .count() as u64;
    let tokens_lost = profiles
        .iter()
        .filter(|profile| profile.exchanges > 0 && profile.visits == 0)
        .count() as u64;
    println!(
        "kill -9 ×12: {} visitors, {} profiles; {codes_lost} lost with an authorize call in flight, {tokens_lost} with an exchange in flight",
        sightings.visitors(),
        totals.profiles,
    );
    assert_eq!(
        extra,
        codes_lost + tokens_lost,
        "every profile that was ever used is one visitor's"
    );
    assert!(
        extra <= in_flight_at_kills,
        "{extra} profiles too many for {in_flight_at_kills} flows in flight"
    );
    assert!(everybody > 50, "the load was a load: {everybody}");
    assert_eq!(
        (
            totals.refresh_reuse,
            totals.foreign_tokens_received,
            totals.expired_tokens_received
        ),
        (0, 0, 0)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_2_a_crash_between_code_and_token_resumes_the_exchange() {
    let dressipi = Dressipi::start().await;
    dressipi
        .simulator
        .add_fault(Fault::always(Endpoint::Token, FaultKind::status(503)));
    let folder = tempfile::tempdir().unwrap();
    let config = write_config(folder.path(), &dressipi, "");
    let sightings = Sightings::default();
    let http = client();
    let process = Process::serve(&config, 2);
    for visitor in 0..10 {
        assert!(!visit(&http, process.addresses[1].port(), visitor, &sightings).await);
    }
    assert_eq!(dressipi.profiles(), 10, "every code has arrived");
    process.kill();
    dressipi.simulator.clear_faults();
    let process = Process::serve(&config, 2);
    for visitor in 0..10 {
        assert!(visit(&http, process.addresses[1].port(), visitor, &sightings).await);
    }
    assert_eq!(dressipi.profiles(), 10, "and none is asked for again");
}

/// How long the two-second token is kept under load: `SIDECAR_TEST_SECONDS`, or five seconds.
fn seconds() -> u64 {
    std::env::var("SIDECAR_TEST_SECONDS")
        .ok()
        .and_then(|secs| secs.parse().ok())
        .unwrap_or(5)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariants_3_and_5_a_two_second_token_with_rotation_under_load_loses_no_visitor_and_is_never_sent_expired()
 {
    const VISITORS: usize = 100;
    let config = SimulatorConfig {
        access_token_lifetime_s: 2,
        rotate: true,
        ..SimulatorConfig::default()
    };
    let dressipi = Dressipi::with(config).await;
    let folder = tempfile::tempdir().unwrap();
    let sidecar = Sidecar::behind(&dressipi).redb(folder.path()).start().await;
    let port = sidecar
        .visitor("x", "/")
        .build()
        .unwrap()
        .url()
        .port()
        .unwrap();
    let sightings = Arc::new(Sightings::default());
    let until = Instant::now() + Duration::from_secs(seconds());
    let (requests, anonymous) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let load = (0..16).map(|worker| {
        let (http, sightings) = (client(), sightings.clone());
        let (requests, anonymous) = (requests.clone(), anonymous.clone());
        tokio::spawn(async move {
            let mut round = worker;
            while Instant::now() < until {
                requests.fetch_add(1, Ordering::Relaxed);
                if !visit(&http, port, round % VISITORS, &sightings).await {
                    anonymous.fetch_add(1, Ordering::Relaxed);
                }
                round += 7;
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
    });
    futures::future::join_all(load).await;

    let totals = dressipi.simulator.totals();
    println!(
        "two-second tokens for {} s: {} requests, {} anonymous, {} refreshes, {} expired tokens sent, {} refresh tokens reused, {} profiles for {VISITORS} visitors",
        seconds(),
        requests.load(Ordering::Relaxed),
        anonymous.load(Ordering::Relaxed),
        totals.token_calls_of("refresh_token", "ok"),
        totals.expired_tokens_received,
        totals.refresh_reuse,
        totals.profiles,
    );
    assert_eq!(totals.expired_tokens_received, 0);
    assert_eq!(
        (
            totals.refresh_reuse,
            totals.foreign_tokens_received,
            totals.revoked_tokens_received
        ),
        (0, 0, 0)
    );
    assert_eq!(totals.profiles, VISITORS as u64, "no visitor lost");
    assert_eq!(sightings.changes(), []);
    assert!(totals.token_calls_of("refresh_token", "ok") > 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_drains_and_exits_0_within_seconds() {
    let dressipi = Dressipi::start().await;
    dressipi.simulator.add_fault(Fault::always(
        Endpoint::Resource,
        FaultKind::Delay { ms: 700 },
    ));
    let folder = tempfile::tempdir().unwrap();
    let config = write_config(folder.path(), &dressipi, "");
    let process = Process::serve(&config, 2);
    let (port, http) = (process.addresses[1].port(), client());
    let slow = tokio::spawn(async move {
        let url = format!("http://127.0.0.1:{port}{TOP}");
        http.get(url)
            .header("x-visitor-id", "ada")
            .send()
            .await
            .map(|answer| answer.status())
    });
    eventually("the request is at Dressipi", async || {
        dressipi.simulator.totals().max_concurrent.resource > 0
    })
    .await;
    let begun = Instant::now();
    let (status, log) = tokio::task::block_in_place(|| process.terminate());
    assert!(status.success(), "{log:?}");
    assert_eq!(
        slow.await.unwrap().unwrap(),
        200,
        "the request in flight was finished"
    );
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    assert!(
        log.iter()
            .any(|line| line.contains("\"stopped\"") && line.contains("\"cut_off\":0")),
        "{log:?}"
    );
}

/// A process with one more key of `[server]`, and its folder.
fn serve_with(dressipi: &Dressipi, key: &str) -> (tempfile::TempDir, Process) {
    let folder = tempfile::tempdir().unwrap();
    let config = write_config(folder.path(), dressipi, "");
    let text = std::fs::read_to_string(&config).unwrap();
    let more = format!("[server]\n{key}");
    std::fs::write(&config, text.replacen("[server]", &more, 1)).unwrap();
    let process = Process::serve(&config, 2);
    (folder, process)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_leaves_no_core_dump_unless_it_is_asked_for() {
    let dressipi = Dressipi::start().await;
    for asked_for in [false, true] {
        let (_folder, process) = serve_with(&dressipi, &format!("core_dumps = {asked_for}"));
        let [soft, hard] = process.core_limits();
        let expected = if asked_for { hard.as_str() } else { "0" };
        assert_eq!(soft, expected, "the limit of this machine is {hard}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_memory_lies_in_huge_pages_unless_they_are_asked_for() {
    let dressipi = Dressipi::start().await;
    for asked_for in [false, true] {
        let (_folder, process) = serve_with(&dressipi, &format!("huge_pages = {asked_for}"));
        let may = process.huge_pages();
        assert_eq!(may, Some(asked_for), "Linux says so since 5.0");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_on_the_same_store_is_refused_with_a_clear_message() {
    let dressipi = Dressipi::start().await;
    let folder = tempfile::tempdir().unwrap();
    let config = write_config(folder.path(), &dressipi, "");
    let _first = Process::serve(&config, 2);
    let second = Process::command()
        .args(["serve", "--config"])
        .arg(&config)
        .output()
        .unwrap();
    let message = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(
        message.contains("another process") && message.contains("sessions.redb"),
        "{message}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_7_no_secret_gets_into_the_log_at_any_level() {
    let dressipi = Dressipi::start().await;
    let folder = tempfile::tempdir().unwrap();
    let config = write_config(folder.path(), &dressipi, "");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(
        &config,
        text.replace("access = false", "access = true\nlevel = \"trace\""),
    )
    .unwrap();
    let process = Process::serve(&config, 2);
    let http = client();
    let url = format!(
        "http://{}/api/echo?secret=query-canary",
        process.addresses[1]
    );
    let request = http
        .get(url)
        .header("x-visitor-id", "id-canary")
        .header("cookie", "own=cookie-canary");
    let echo = json(
        request
            .header("authorization", "Bearer header-canary")
            .send()
            .await
            .unwrap(),
    )
    .await;
    let headers = echo["headers"].as_array().unwrap();
    let token = headers
        .iter()
        .find(|header| header[0] == "x-dressipi-jwt")
        .unwrap()[1]
        .as_str()
        .unwrap()
        .to_owned();
    // A malformed request, which pingora would print.
    let mut raw = std::net::TcpStream::connect(process.addresses[1]).unwrap();
    std::io::Write::write_all(
        &mut raw,
        b"GET / HTTP/1.1\r\nHost : raw-canary\r\nbad\x01 raw-canary\r\n\r\n",
    )
    .unwrap();
    let mut refused = String::new();
    let _ = std::io::Read::read_to_string(&mut raw, &mut refused);
    let (status, log) = tokio::task::block_in_place(|| process.terminate());
    assert!(status.success());
    let log = log.join("\n");
    assert!(
        log.contains("\"target\":\"access\"") && log.contains("/api/echo"),
        "the request was logged"
    );
    for secret in [
        "demo-api-key",
        "query-canary",
        "id-canary",
        "cookie-canary",
        "header-canary",
        "raw-canary",
        &token,
    ] {
        assert!(!log.contains(secret), "{secret} is in the log");
        assert!(!refused.contains(secret), "{secret} is in the refusal");
    }
}
