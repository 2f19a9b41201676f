//! What everybody here has in common: where the sidecar is, what the weather is like, and what was seen.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rand::RngExt;
use rand::distr::uniform::{SampleRange, SampleUniform};

use crate::http::{Answer, Client};
use crate::options::Scale;

/// Where the load happens.
pub struct Ground {
    /// Where visitors connect.
    pub to: SocketAddr,
    pub admin: SocketAddr,
    pub scale: Scale,
    pub seen: Mutex<Seen>,
    begun: Instant,
    /// When the last trouble ended, or will, in milliseconds since the beginning.
    trouble_until: AtomicU64,
}

/// What was answered.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Requests of browsers, and of them those with the visitor's own token.
    pub requests: u64,
    pub personal: u64,
    /// Without one, by the reason that was told.
    pub anonymous: BTreeMap<String, u64>,
    /// Those of them long after any trouble, of visitors who had come with a token before.
    pub anonymous_in_peace: u64,
    /// Without one, and no reason was told.
    pub silent: u64,
    /// With the token of somebody else, or another one of the same visitor's.
    pub changed: u64,
    /// The profile of somebody whom the sidecar had been told to forget.
    pub unforgotten: u64,
    /// Bodies that did not arrive as they were sent.
    pub damaged: u64,
    /// Answers with neither a token's worth nor a reason: errors of upstreams, by status; 0: none at all.
    pub failed: BTreeMap<u16, u64>,
    /// Those of them long after any trouble.
    pub failed_in_peace: u64,
    /// Bots, probes and forged cookies that were treated as people.
    pub mistaken: u64,
    /// How often somebody came who may cost a profile.
    pub lives: u64,
    pub came_back: u64,
    pub withdrew: u64,
    /// Requests of others: bots, those that were aborted, those that were read slowly, streams of HTTP/2.
    pub bots: u64,
    pub aborted: u64,
    pub slow: u64,
    pub streams: u64,
    pub scrapes: u64,
    pub reloads: BTreeMap<&'static str, u64>,
}

pub const BROWSER: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
/// What a visitor can be told, who may have a token: each is a fault of others that this run has made.
const EXPLAINED: [&str; 6] = [
    "dressipi",
    "timeout",
    "unconfirmed",
    "rejected",
    "busy",
    "creations-busy",
];
/// Pauses after failures are over by then.
const AFTERMATH: Duration = Duration::from_secs(4);
/// A request that takes so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

// === impl Ground ===

impl Ground {
    pub fn new(to: SocketAddr, admin: SocketAddr, scale: Scale) -> Self {
        Self {
            to,
            admin,
            scale,
            seen: Mutex::default(),
            begun: Instant::now(),
            trouble_until: AtomicU64::new(0),
        }
    }

    /// Something goes wrong from now on for so long.
    pub fn trouble(&self, lasts: Duration) {
        let until = self.begun.elapsed() + lasts + AFTERMATH;
        self.trouble_until
            .fetch_max(until.as_millis() as u64, Ordering::Relaxed);
    }

    /// Whether nothing has gone wrong since `when`.
    pub fn is_peaceful_since(&self, when: Instant) -> bool {
        let until = self.begun + Duration::from_millis(self.trouble_until.load(Ordering::Relaxed));
        until < when
    }

    /// How long after a visitor's last answer the sidecar still knows them: a record lives from when it was last written, which
    /// is when the token was got.
    pub fn memory(&self) -> Duration {
        self.scale.idle_timeout - self.scale.token_lifetime - Duration::from_secs(2)
    }
}

// === impl Seen ===

impl Seen {
    /// A visitor was known as `before` and is now known as `now`. Where they were served so long ago that the sidecar may have come to
    /// forget them while they waited for this answer, they are somebody new.
    pub fn compare(&mut self, before: &str, now: &str, served: Instant, memory: Duration) {
        if before == now {
            return;
        }
        let gone = served.elapsed();
        if gone > memory {
            self.lives += 1;
        } else {
            self.changed += 1;
            eprintln!(
                "a visitor who was {before} is now {now}, {gone:?} after they were served last"
            );
        }
    }

    /// A visitor is told that there is no token for them.
    pub fn told(&mut self, reason: &str, peaceful: bool) {
        *self.anonymous.entry(reason.to_owned()).or_default() += 1;
        self.anonymous_in_peace += u64::from(peaceful);
    }

    pub fn fail(&mut self, status: u16, peaceful: bool) {
        *self.failed.entry(status).or_default() += 1;
        self.failed_in_peace += u64::from(peaceful);
    }

    /// Reasons that nothing which happens here explains.
    pub fn unexplained(&self) -> BTreeMap<&str, u64> {
        let reasons = self.anonymous.iter();
        let odd = reasons.filter(|(reason, _)| !EXPLAINED.contains(&reason.as_str()));
        odd.map(|(reason, count)| (reason.as_str(), *count))
            .collect()
    }
}

/// An answer, unless it takes too long.
pub async fn ask<'a>(client: &'a mut Client, request: &[u8]) -> Option<Answer<'a>> {
    tokio::time::timeout(PATIENCE, client.ask(request, false))
        .await
        .ok()?
        .ok()
}

/// The text after `name` in a flat JSON object.
pub fn member<'a>(body: &'a [u8], name: &str) -> Option<&'a str> {
    let start = memchr::memmem::find(body, name.as_bytes())? + name.len();
    let length = body[start..]
        .iter()
        .position(|byte| matches!(byte, b'"' | b',' | b'}'))?;
    std::str::from_utf8(&body[start..start + length]).ok()
}

/// For whom an answer was made.
pub fn profile(body: &[u8]) -> Option<&str> {
    member(body, "\"profile\":\"")
}

/// An address of IPv4 that hardly ever comes twice.
pub fn anybody() -> Ipv4Addr {
    Ipv4Addr::from_bits(draw(0x0100_0000..0x7f00_0000))
}

/// Any of these numbers.
pub fn draw<T: SampleUniform, R: SampleRange<T>>(numbers: R) -> T {
    rand::rng().random_range(numbers)
}

/// What happens so often, from 0 to 1.
pub fn chance(often: f64) -> bool {
    rand::rng().random_bool(often)
}

/// A pause of somebody who reads.
pub async fn pause(milliseconds: std::ops::Range<u64>) {
    tokio::time::sleep(Duration::from_millis(draw(milliseconds))).await;
}
