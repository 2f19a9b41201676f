//! Clients of the sidecar: so many at once that each wait for their answers, or a timetable that waits for nobody.
//!
//! By a timetable what counts is the time from when a request was due to the end of its answer: who is held up counts as waiting.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::JoinSet;

use super::client::Client;

/// What clients saw.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// How long each answer took.
    pub took: Vec<Duration>,
    /// How late the clients themselves were: on a busy machine they wait for a processor, too, and what they say of others tells little.
    pub late: Vec<Duration>,
    /// Visitor cookies that were set.
    pub cookies: usize,
    /// Answers for nobody, by reason.
    pub anonymous: BTreeMap<String, usize>,
    /// No answer, or one that is no 200.
    pub failed: usize,
}

/// When requests are due.
#[derive(Clone, Copy, Debug)]
pub struct Timetable {
    pub begin: Instant,
    pub count: usize,
    pub per_second: f64,
}

/// What is asked: request `number` of all.
pub type Requests = Arc<dyn Fn(usize) -> Vec<u8> + Send + Sync>;

const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// The same request again and again.
pub fn always(request: Vec<u8>) -> Requests {
    Arc::new(move |_| request.clone())
}

/// `count` requests over `connections`, each with one under way at any time. Says how long all of it took.
pub async fn closed(
    to: SocketAddr,
    connections: usize,
    count: usize,
    requests: &Requests,
) -> (Seen, Duration) {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let next = Arc::new(AtomicUsize::new(0));
    let begin = Instant::now();
    let mut clients = JoinSet::new();
    for _ in 0..connections {
        let (seen, next, requests) = (seen.clone(), next.clone(), requests.clone());
        clients.spawn(async move {
            let mut client = Client::new(HERE, to);
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return;
                }
                ask(&mut client, &requests(number), Instant::now(), &seen).await;
            }
        });
    }
    while let Some(ended) = clients.join_next().await {
        ended.expect("a client does not panic");
    }
    let took = begin.elapsed();
    (std::mem::take(&mut *seen.lock()), took)
}

/// Requests by a timetable, over as many connections as it takes.
pub async fn open(to: SocketAddr, timetable: Timetable, requests: Requests) -> Seen {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let idle = Arc::new(Mutex::new(Vec::<Client>::new()));
    // A thread keeps the timetable: the runtime's timer knows whole milliseconds only.
    let (due, mut dues) = unbounded_channel();
    std::thread::spawn(move || {
        for number in 0..timetable.count {
            let at =
                timetable.begin + Duration::from_secs_f64(number as f64 / timetable.per_second);
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
            if due.send((number, at)).is_err() {
                return;
            }
        }
    });
    let mut asked = JoinSet::new();
    while let Some((number, at)) = dues.recv().await {
        let (seen, idle, requests) = (seen.clone(), idle.clone(), requests.clone());
        asked.spawn(async move {
            let client = idle.lock().pop();
            let mut client = client.unwrap_or_else(|| Client::new(HERE, to));
            ask(&mut client, &requests(number), at, &seen).await;
            idle.lock().push(client);
        });
        while asked.try_join_next().is_some() {}
    }
    while asked.join_next().await.is_some() {}
    std::mem::take(&mut *seen.lock())
}

async fn ask(client: &mut Client, request: &[u8], since: Instant, seen: &Mutex<Seen>) {
    let late = since.elapsed();
    let answer = client.ask(request, false).await;
    let took = since.elapsed();
    let mut seen = seen.lock();
    seen.took.push(took);
    seen.late.push(late);
    match answer {
        Ok(answer) if answer.status == 200 => {
            seen.cookies += usize::from(answer.cookie.is_some());
            if !answer.reason.is_empty() {
                *seen.anonymous.entry(answer.reason.to_owned()).or_default() += 1;
            }
        }
        _ => seen.failed += 1,
    }
}

// === impl Seen ===

impl Seen {
    /// The same and what somebody else saw.
    pub fn add(&mut self, other: Self) {
        self.took.extend(other.took);
        self.late.extend(other.late);
        self.cookies += other.cookies;
        self.failed += other.failed;
        for (reason, count) in other.anonymous {
            *self.anonymous.entry(reason).or_default() += count;
        }
    }

    /// Answers without a token.
    pub fn without_token(&self) -> usize {
        self.anonymous.values().sum()
    }
}
