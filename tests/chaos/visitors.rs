//! Visitors: clients that keep their cookie, or whom an app names in a header; each request goes to a replica at random.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use crate::replica::Replica;
use crate::witness::{WHO, Witness};

/// Everybody, and what they were answered.
pub struct Crowd {
    replicas: Arc<Vec<Replica>>,
    witness: Arc<Witness>,
    http: reqwest::Client,
    /// Nobody comes any more.
    pub closed: AtomicBool,
    names: AtomicU64,
    /// Those who are somewhere else at present.
    away: Mutex<VecDeque<Visitor>>,
    tallies: Mutex<HashMap<usize, Tally>>,
}

/// What was answered in one phase.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Requests that should have a token.
    pub requests: u64,
    /// Those of them that got no answer at all: the replica was killed, or is not there.
    pub unanswered: u64,
    /// Answers without a token, by reason.
    pub anonymous: BTreeMap<String, u64>,
    /// Answers with a status of 500 and above.
    pub errors: u64,
    /// The slowest answer.
    pub longest: Duration,
    /// Who came.
    pub visitors: std::collections::HashSet<String>,
}

/// Somebody.
#[derive(Clone, Debug)]
struct Visitor {
    name: String,
    identity: Identity,
}

#[derive(Clone, Debug)]
enum Identity {
    /// An app vouches for the name.
    Named,
    /// A browser; the cookie, once there is one.
    Cookie(Option<String>),
}

/// What came of a request.
enum Answer {
    None,
    Token,
    Anonymous,
}

const BROWSER: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
const TOP: &str = "/api/items/top?client_id=demo";
/// Visitors who are away; the oldest stay away for ever, so that memory is bounded.
const AWAY: usize = 20_000;

impl Crowd {
    pub fn new(replicas: Arc<Vec<Replica>>, witness: Arc<Witness>) -> Arc<Self> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .user_agent(BROWSER)
            .redirect(reqwest::redirect::Policy::none())
            .pool_max_idle_per_host(64)
            .timeout(Duration::from_secs(60))
            .build()
            .expect("a client without TLS");
        Arc::new(Self {
            replicas,
            witness,
            http,
            closed: AtomicBool::new(false),
            names: AtomicU64::new(0),
            away: Mutex::default(),
            tallies: Mutex::default(),
        })
    }

    /// What was answered in a phase.
    pub fn tally(&self, phase: usize) -> Tally {
        self.tallies.lock().get(&phase).cloned().unwrap_or_default()
    }

    /// One place in the shop: somebody is there until another one comes, perhaps for the first time. Ends when the shop
    /// closes; then whoever was there is away.
    pub async fn occupy(self: Arc<Self>, seed: u64) {
        let mut dice = StdRng::seed_from_u64(seed);
        // Not everybody at once.
        tokio::time::sleep(Duration::from_millis(dice.random_range(0..4000))).await;
        let mut visitor = self.newcomer(&mut dice);
        while !self.closed.load(Ordering::Relaxed) {
            self.visit(&mut visitor, &mut dice).await;
            tokio::time::sleep(Duration::from_millis(dice.random_range(300..2500))).await;
            if dice.random_bool(0.05) {
                let next = match dice.random_bool(0.4) {
                    true => self.newcomer(&mut dice),
                    false => self.returning(&mut dice),
                };
                let mut away = self.away.lock();
                away.push_back(std::mem::replace(&mut visitor, next));
                if away.len() > AWAY {
                    away.pop_front();
                }
            }
        }
        self.away.lock().push_back(visitor);
    }

    /// Everybody who ever was here comes once more, until they have a token or `patience` is over; the names of those who
    /// have none.
    pub async fn reunion(self: &Arc<Self>, patience: Duration, seed: u64) -> Vec<String> {
        let everybody = std::mem::take(&mut *self.away.lock());
        let (queue, failed) = (
            Arc::new(Mutex::new(everybody)),
            Arc::new(Mutex::new(Vec::new())),
        );
        let deadline = Instant::now() + patience;
        let guides = (0..32).map(|guide| {
            let (crowd, queue, failed) = (self.clone(), queue.clone(), failed.clone());
            tokio::spawn(async move {
                let mut dice = StdRng::seed_from_u64(seed ^ guide);
                loop {
                    let Some(mut visitor) = queue.lock().pop_front() else {
                        return;
                    };
                    // Who never got a cookie never was here.
                    if matches!(visitor.identity, Identity::Cookie(None)) {
                        continue;
                    }
                    while !matches!(crowd.request(&mut visitor, &mut dice).await, Answer::Token) {
                        if Instant::now() > deadline {
                            failed.lock().push(visitor.name);
                            break;
                        }
                        tokio::time::sleep(Duration::from_millis(200)).await;
                    }
                }
            })
        });
        for guide in futures::future::join_all(guides).await {
            guide.expect("a visitor does not panic");
        }
        std::mem::take(&mut *failed.lock())
    }

    fn newcomer(&self, dice: &mut StdRng) -> Visitor {
        let number = self.names.fetch_add(1, Ordering::Relaxed);
        Visitor {
            name: format!("v{number}"),
            identity: match dice.random_bool(0.5) {
                true => Identity::Named,
                false => Identity::Cookie(None),
            },
        }
    }

    fn returning(&self, dice: &mut StdRng) -> Visitor {
        let mut away = self.away.lock();
        if away.is_empty() {
            drop(away);
            return self.newcomer(dice);
        }
        let place = dice.random_range(0..away.len());
        away.swap_remove_back(place).expect("the place is there")
    }

    /// A look at a page: one call, or several at once.
    async fn visit(self: &Arc<Self>, visitor: &mut Visitor, dice: &mut StdRng) {
        if let Identity::Cookie(cookie @ None) = &mut visitor.identity {
            // The first answer brings the cookie, and no profile: only who brings it back costs one.
            *cookie = self.introduce(dice).await;
            if cookie.is_none() {
                return;
            }
        }
        let calls = if dice.random_bool(0.3) {
            dice.random_range(2..=5)
        } else {
            1
        };
        let calls = (0..calls).map(|_| {
            let (crowd, mut visitor) = (self.clone(), visitor.clone());
            let mut dice = StdRng::seed_from_u64(dice.random());
            async move { crowd.request(&mut visitor, &mut dice).await }
        });
        futures::future::join_all(calls).await;
    }

    async fn introduce(&self, dice: &mut StdRng) -> Option<String> {
        let address = self.somewhere(dice)?.cookies;
        let answer = self
            .http
            .get(format!("http://{address}{TOP}"))
            .send()
            .await
            .ok()?;
        let mut cookies = answer.headers().get_all("set-cookie").iter();
        let cookie = cookies.find_map(|value| {
            let value = value.to_str().ok()?;
            value
                .starts_with("visitor=")
                .then(|| value.split(';').next().map(str::to_owned))?
        });
        let _ = answer.bytes().await;
        cookie
    }

    async fn request(&self, visitor: &mut Visitor, dice: &mut StdRng) -> Answer {
        let Some(at) = self.somewhere(dice) else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            return Answer::None;
        };
        let request = match &visitor.identity {
            Identity::Named => self
                .http
                .get(format!("http://{}{TOP}", at.headers))
                .header("x-visitor-id", &visitor.name),
            Identity::Cookie(cookie) => self
                .http
                .get(format!("http://{}{TOP}", at.cookies))
                .header("cookie", cookie.clone().unwrap_or_default()),
        };
        let begun = Instant::now();
        let answer = request.header(WHO, &visitor.name).send().await;
        let answer = match answer {
            Ok(answer) => {
                let status = answer.status();
                let reason = answer.headers().get("dressipi-sidecar").and_then(|value| {
                    let (_, reason) = value.to_str().ok()?.split_once("reason=")?;
                    Some(reason.to_owned())
                });
                answer.bytes().await.ok().map(|_| (status, reason))
            }
            Err(_) => None,
        };
        let phase = self.witness.phase.load(Ordering::Relaxed);
        let mut tallies = self.tallies.lock();
        let tally = tallies.entry(phase).or_default();
        tally.requests += 1;
        if !tally.visitors.contains(&visitor.name) {
            tally.visitors.insert(visitor.name.clone());
        }
        let Some((status, reason)) = answer else {
            tally.unanswered += 1;
            return Answer::None;
        };
        tally.longest = tally.longest.max(begun.elapsed());
        tally.errors += u64::from(status.is_server_error());
        match reason {
            Some(reason) => {
                *tally.anonymous.entry(reason).or_default() += 1;
                Answer::Anonymous
            }
            None if status.is_success() => Answer::Token,
            None => Answer::None,
        }
    }

    /// A replica that is there, at random.
    fn somewhere(&self, dice: &mut StdRng) -> Option<crate::replica::Addresses> {
        let there: Vec<_> = self
            .replicas
            .iter()
            .filter_map(Replica::addresses)
            .collect();
        there.choose(dice).copied()
    }
}
