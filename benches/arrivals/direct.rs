//! The same two OAuth calls with no sidecar between: a process that makes them with the sidecar's own client, on the sidecar's own
//! runtime for flows, over connections that stay open. It is started for one order, prints what came of it, and ends.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dressipi_sidecar::dressipi::{BaseUrl, Client, Headers, REDIRECT_URI, Settings};
use dressipi_sidecar::oauth::AuthorizationServer;
use dressipi_sidecar::secret::Secret;
use dressipi_sidecar::session::FlowRuntime;
use parking_lot::Mutex;
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::JoinSet;

use crate::timetable::latencies::Latencies;
use crate::timetable::place::Place;
use crate::timetable::sidecar;

/// What such a process is called on its command line.
pub(crate) const NAME: &str = "direct";

/// What it found.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Found {
    /// Visitors in a second.
    pub(crate) rate: f64,
    pub(crate) latencies: Latencies,
    /// Processor time for one, in microseconds.
    pub(crate) micros: f64,
    /// Authorize calls, those of the warming up included.
    pub(crate) authorized: u64,
}

/// What it is to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order {
    pub(crate) dressipi: SocketAddr,
    /// Pairs of calls under way at once, and how many there are in all.
    pub(crate) at_once: usize,
    pub(crate) count: usize,
    /// By a timetable with so many in a second; without it the next begins when one ends.
    pub(crate) per_second: Option<f64>,
}

// === impl Order ===

impl Order {
    /// Has a process of its own do it.
    pub(crate) fn run(self) -> Found {
        let me = std::env::current_exe().expect("this program");
        let per_second = self.per_second.unwrap_or_default();
        let mut command: Command = Place::Measured.command(me);
        command.args([NAME, &self.dressipi.to_string()]);
        command.args([
            self.at_once.to_string(),
            self.count.to_string(),
            per_second.to_string(),
        ]);
        let output = command.output().expect("it can be started");
        assert!(
            output.status.success(),
            "the direct calls failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).expect("it prints what it found")
    }

    /// As it stands on the command line, after the name.
    pub(crate) fn parse(words: &[&str]) -> Self {
        let [dressipi, at_once, count, per_second] = words else {
            panic!("four words are expected: {words:?}");
        };
        let per_second = per_second.parse().expect("a number");
        Self {
            dressipi: dressipi.parse().expect("an address"),
            at_once: at_once.parse().expect("a number"),
            count: count.parse().expect("a number"),
            per_second: (per_second > 0.0).then_some(per_second),
        }
    }

    /// Does it in this process, and prints what it found.
    pub(crate) fn obey(self) {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let flows = FlowRuntime::start().expect("a thread");
        // The main thread only waits, on the way that the flows' thread ends.
        let (done, found) = std::sync::mpsc::channel();
        flows.handle().spawn(async move {
            let client = Arc::new(Client::new(&settings(self.dressipi)).expect("a client"));
            let warm = self.at_once * 2;
            closed(&client, self.at_once, warm).await;
            let before = sidecar::cpu("self");
            let begin = Instant::now();
            let took = match self.per_second {
                None => closed(&client, self.at_once, self.count).await,
                Some(rate) => open(&client, self.count, rate).await,
            };
            let micros = (sidecar::cpu("self") - before).as_secs_f64() * 1e6;
            let found = Found {
                micros: micros / took.len() as f64,
                rate: took.len() as f64 / begin.elapsed().as_secs_f64(),
                latencies: Latencies::of(&took),
                authorized: (warm + took.len()) as u64,
            };
            let _ = done.send(found);
        });
        let found = found.recv().expect("the calls are answered");
        println!("{}", serde_json::to_string(&found).expect("it is JSON"));
    }
}

async fn both_calls(client: &Client) {
    let grant = client.authorize().await.expect("a code");
    client.exchange(grant).await.expect("tokens");
}

async fn closed(client: &Arc<Client>, at_once: usize, count: usize) -> Vec<Duration> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut callers = JoinSet::new();
    for _ in 0..at_once {
        let (client, next) = (client.clone(), next.clone());
        callers.spawn(async move {
            let mut took = Vec::new();
            while next.fetch_add(1, Ordering::Relaxed) < count {
                let begin = Instant::now();
                both_calls(&client).await;
                took.push(begin.elapsed());
            }
            took
        });
    }
    callers.join_all().await.concat()
}

async fn open(client: &Arc<Client>, count: usize, per_second: f64) -> Vec<Duration> {
    let (due, mut dues) = unbounded_channel();
    std::thread::spawn(move || {
        let begin = Instant::now();
        for number in 0..count {
            let at = begin + Duration::from_secs_f64(number as f64 / per_second);
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
            if due.send(at).is_err() {
                return;
            }
        }
    });
    let took = Arc::new(Mutex::new(Vec::with_capacity(count)));
    let mut calls = JoinSet::new();
    while let Some(at) = dues.recv().await {
        let (client, took) = (client.clone(), took.clone());
        calls.spawn(async move {
            both_calls(&client).await;
            took.lock().push(at.elapsed());
        });
        while let Some(ended) = calls.try_join_next() {
            ended.expect("calls do not fail");
        }
    }
    while let Some(ended) = calls.join_next().await {
        ended.expect("calls do not fail");
    }
    std::mem::take(&mut *took.lock())
}

/// As a configuration has them that says nothing else.
fn settings(dressipi: SocketAddr) -> Settings {
    Settings {
        base_url: BaseUrl::parse(&format!("http://{dressipi}")).expect("a URL"),
        client_id: "demo".to_owned(),
        api_key: Some(Secret::new("demo-api-key")),
        redirect_uri: REDIRECT_URI.to_owned(),
        authorize_path: "/api/oauth/authorize".to_owned(),
        token_path: "/api/oauth/token".to_owned(),
        connect_timeout: Duration::from_secs(2),
        timeout: Duration::from_secs(10),
        ca_file: None,
        client_identity: None,
        headers: Headers::default(),
    }
}
