//! The flood of requests: some connections of one proxy, over which they come by a timetable or as fast as they are answered.
//!
//! By a timetable (open loop) it does not slow down where the sidecar does: what is late is sent at once.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use crate::configuration::PROXY;
use crate::http::Client;
use crate::requests::Kind;

/// The flood, on a thread of its own.
pub struct Flood {
    to: SocketAddr,
    connections: usize,
    thread: Handle,
    dice: StdRng,
    pub tally: Mutex<Tally>,
}

/// What was sent and what came back.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Answers by kind and by the reason why they are anonymous; an empty one for those that are not.
    pub answers: BTreeMap<Kind, BTreeMap<String, u64>>,
    /// Requests that got no answer.
    pub unanswered: u64,
    /// Answers with a status of 500 and above.
    pub errors: u64,
    /// From the first request to the last answer.
    pub span: Option<(Instant, Instant)>,
}

/// How many requests, how fast, and until when at the latest.
#[derive(Clone, Copy, Debug)]
pub struct Wave {
    pub requests: u64,
    /// In a second; as fast as they are answered, without one.
    pub rate: Option<f64>,
    pub until: Instant,
}

impl Flood {
    /// Not yet begun.
    pub fn new(to: SocketAddr, connections: usize, thread: Handle, seed: u64) -> Self {
        Self {
            to,
            connections,
            thread,
            dice: StdRng::seed_from_u64(seed),
            tally: Mutex::default(),
        }
    }

    /// Sends a wave; says how many were answered in a second.
    pub async fn send(&mut self, wave: Wave) -> f64 {
        let begin = Instant::now();
        let mut senders = JoinSet::new();
        for number in 0..self.connections {
            let client = Client::new(PROXY, self.to);
            let dice = StdRng::seed_from_u64(self.dice.random());
            let numbers = (number as u64..wave.requests).step_by(self.connections);
            senders.spawn_on(connection(client, numbers, wave, begin, dice), &self.thread);
        }
        let mut answered = 0;
        while let Some(tally) = senders.join_next().await {
            let tally = tally.expect("a sender does not panic");
            answered += tally.answered();
            self.tally.lock().add(tally);
        }
        answered as f64 / begin.elapsed().as_secs_f64()
    }
}

async fn connection(
    mut client: Client,
    numbers: impl Iterator<Item = u64>,
    wave: Wave,
    begin: Instant,
    mut dice: StdRng,
) -> Tally {
    let (mut tally, mut text) = (Tally::default(), String::new());
    for number in numbers {
        if let Some(rate) = wave.rate {
            let due = begin + Duration::from_secs_f64(number as f64 / rate);
            tokio::time::sleep_until(due.into()).await;
        }
        if Instant::now() > wave.until {
            break;
        }
        let kind = Kind::draw(&mut dice);
        let bodiless = kind.write(&mut dice, &mut text);
        tally.sent_at(Instant::now());
        match client.ask(text.as_bytes(), bodiless).await {
            Ok(answer) => {
                tally.errors += u64::from(answer.status >= 500);
                tally.count(kind, answer.reason);
            }
            Err(_) => tally.unanswered += 1,
        }
        tally.sent_at(Instant::now());
    }
    tally
}

impl Tally {
    pub fn answered(&self) -> u64 {
        self.answers.values().flat_map(BTreeMap::values).sum()
    }

    /// Answers of these kinds with this reason.
    pub fn of(&self, kinds: impl IntoIterator<Item = Kind>, reason: &str) -> u64 {
        let kinds = kinds.into_iter().filter_map(|kind| self.answers.get(&kind));
        kinds.filter_map(|reasons| reasons.get(reason)).sum()
    }

    /// Answers by reason.
    pub fn reasons(&self) -> BTreeMap<String, u64> {
        let mut all = BTreeMap::new();
        for (reason, count) in self.answers.values().flatten() {
            *all.entry(reason.clone()).or_default() += count;
        }
        all
    }

    /// How long it took.
    pub fn elapsed(&self) -> Duration {
        self.span
            .map_or(Duration::ZERO, |(first, last)| last - first)
    }

    fn count(&mut self, kind: Kind, reason: &str) {
        let reasons = self.answers.entry(kind).or_default();
        match reasons.get_mut(reason) {
            Some(count) => *count += 1,
            None => {
                reasons.insert(reason.to_owned(), 1);
            }
        }
    }

    fn sent_at(&mut self, now: Instant) {
        let (first, _) = self.span.unwrap_or((now, now));
        self.span = Some((first, now));
    }

    fn add(&mut self, other: Self) {
        for (kind, reasons) in other.answers {
            for (reason, count) in reasons {
                let ours = self.answers.entry(kind).or_default();
                *ours.entry(reason).or_default() += count;
            }
        }
        self.unanswered += other.unanswered;
        self.errors += other.errors;
        self.span = match (self.span, other.span) {
            (Some((first, last)), Some((earlier, later))) => {
                Some((first.min(earlier), last.max(later)))
            }
            (ours, theirs) => ours.or(theirs),
        };
    }
}
