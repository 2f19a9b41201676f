//! The known visitors: each keeps a cookie and a connection, has a profile, and looks at pages by a timetable that does not
//! wait for answers. What is measured is the time from when a request was due to the end of its answer.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use tokio::runtime::Handle;

use crate::configuration::PROXY;
use crate::http::Client;
use crate::requests::{ADDRESS, BROWSER};

/// Everybody.
pub struct Crowd {
    visitors: Vec<Arc<Visitor>>,
    thread: Handle,
}

struct Visitor {
    profile: String,
    request: String,
    client: tokio::sync::Mutex<Client>,
}

/// What was answered to known visitors.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// How long each answer took.
    pub took: Vec<Duration>,
    /// Answers for another profile than before.
    pub changed: u64,
    /// Answers for nobody, by reason.
    pub anonymous: BTreeMap<String, u64>,
    /// No answer, or one with a status other than 200.
    pub failed: u64,
}

/// Visits under way.
pub struct Browsing {
    stop: Arc<AtomicBool>,
    timetable: std::thread::JoinHandle<Vec<tokio::task::JoinHandle<()>>>,
    seen: Arc<Mutex<Seen>>,
}

const TOP: &str = "/api/items/top?client_id=demo";
/// Visitors who come for the first time at once.
const AT_ONCE: usize = 32;
/// Of so many visitors one has the address from which the flood comes, too.
const NEIGHBOURS: usize = 10;

impl Crowd {
    /// So many visitors come for the first time, to a sidecar that lets each have a profile.
    pub async fn introduce(count: usize, to: SocketAddr, thread: Handle) -> Self {
        let visitors = futures::stream::iter(0..count).map(|number| async move {
            // As the flood does, or directly and from an address of their own.
            let (from, by) = match number % NEIGHBOURS {
                0 => (PROXY, format!("x-forwarded-for: {ADDRESS}\r\n")),
                _ => (
                    Ipv4Addr::new(127, 0, 1, 1 + (number % 250) as u8),
                    String::new(),
                ),
            };
            let head = format!(
                "GET {TOP} HTTP/1.1\r\nhost: shop.example\r\nuser-agent: {BROWSER}\r\n{by}"
            );
            let mut client = Client::new(from, to);
            let first = format!("{head}\r\n");
            let answer = client.ask(first.as_bytes(), false).await;
            let answer = answer.expect("a calm sidecar answers");
            let cookie = answer.cookie.expect("a new visitor is given a cookie");
            let profile = profile(answer.body).expect("and has a profile at once");
            Arc::new(Visitor {
                profile: profile.to_owned(),
                request: format!("{head}cookie: {cookie}\r\n\r\n"),
                client: tokio::sync::Mutex::new(Client::new(from, to)),
            })
        });
        Self {
            visitors: visitors.buffered(AT_ONCE).collect().await,
            thread,
        }
    }

    /// The sidecar is somewhere else from now on.
    pub async fn go_to(&self, to: SocketAddr) {
        for visitor in &self.visitors {
            visitor.client.lock().await.go_to(to);
        }
    }

    /// Everybody comes once, one after the other.
    pub async fn roll_call(&self) -> Seen {
        let seen = Arc::new(Mutex::new(Seen::default()));
        for visitor in &self.visitors {
            visitor.clone().visit(Instant::now(), seen.clone()).await;
        }
        std::mem::take(&mut *seen.lock())
    }

    /// Everybody browses, `rate` requests in a second by all of them.
    pub fn browse(&self, rate: f64, seed: u64) -> Browsing {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (until, results) = (stop.clone(), seen.clone());
        let (mut visitors, thread) = (self.visitors.clone(), self.thread.clone());
        // A thread keeps the timetable: the runtime's timer knows whole milliseconds only, and the flood goes by that, too.
        let timetable = std::thread::spawn(move || {
            let mut dice = StdRng::seed_from_u64(seed);
            visitors.shuffle(&mut dice);
            let (begin, mut visits) = (Instant::now(), Vec::new());
            for (number, visitor) in visitors.iter().cycle().enumerate() {
                let when = (number as f64 + dice.random_range(0.0..1.0)) / rate;
                let due = begin + Duration::from_secs_f64(when);
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                if until.load(Ordering::Relaxed) {
                    break;
                }
                let visit = visitor.clone().visit(due, results.clone());
                visits.push(thread.spawn(visit));
            }
            visits
        });
        Browsing {
            stop,
            timetable,
            seen,
        }
    }
}

impl Browsing {
    /// Nobody comes any more; when the last one is answered, what was seen.
    pub async fn end(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        let visits = tokio::task::spawn_blocking(|| self.timetable.join()).await;
        let visits = visits.expect("it is waited for");
        for visit in visits.expect("the timetable does not panic") {
            visit.await.expect("a visit does not panic");
        }
        std::mem::take(&mut *self.seen.lock())
    }
}

impl Visitor {
    async fn visit(self: Arc<Self>, due: Instant, seen: Arc<Mutex<Seen>>) {
        let mut client = self.client.lock().await;
        let answer = client.ask(self.request.as_bytes(), false).await;
        let took = due.elapsed();
        let mut seen = seen.lock();
        seen.took.push(took);
        match answer {
            Ok(answer) if answer.status == 200 && answer.reason.is_empty() => {
                seen.changed += u64::from(profile(answer.body) != Some(&self.profile));
            }
            Ok(answer) if answer.status == 200 => {
                *seen.anonymous.entry(answer.reason.to_owned()).or_default() += 1;
            }
            _ => seen.failed += 1,
        }
    }
}

impl Seen {
    pub fn add(&mut self, other: &Self) {
        self.took.extend(&other.took);
        self.changed += other.changed;
        self.failed += other.failed;
        for (reason, count) in &other.anonymous {
            *self.anonymous.entry(reason.clone()).or_default() += count;
        }
    }

    /// The time within which this part of the answers came.
    pub fn quantile(&self, part: f64) -> Duration {
        let mut took = self.took.clone();
        took.sort_unstable();
        let place = (took.len() as f64 * part).ceil() as usize;
        let place = place.clamp(1, took.len().max(1)) - 1;
        took.get(place).copied().unwrap_or_default()
    }
}

/// For whom an answer of the simulator's was made.
fn profile(body: &[u8]) -> Option<&str> {
    const MEMBER: &[u8] = b"\"profile\":\"";
    let start = memchr::memmem::find(body, MEMBER)? + MEMBER.len();
    let length = memchr::memchr(b'"', &body[start..])?;
    std::str::from_utf8(&body[start..start + length]).ok()
}
