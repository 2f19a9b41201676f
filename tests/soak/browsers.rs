//! Visitors with browsers: new ones all the time, known ones who come back, who go away for good, who withdraw their consent.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::configuration::PROXY;
use crate::ground::{BROWSER, Ground, anybody, ask, chance, draw, member, pause, profile};
use crate::http::Client;

/// Those who are away and will come back, by the time when they will.
type Away = Arc<Mutex<VecDeque<(Instant, Visitor)>>>;

struct Visitor {
    address: String,
    cookie: Option<String>,
    has_asked: bool,
    /// As whom Dressipi knows them, once it does.
    profile: Option<String>,
    /// When they were answered with their own token last.
    served: Instant,
    /// The profile that they had before they withdrew their consent.
    forgotten: Option<String>,
}

/// What a visitor asks for.
enum Wish {
    Recommendations,
    Facetted,
    Page(&'static str),
    /// A body of so many bytes, from the app or to it.
    Large(usize),
    Upload(usize),
}

/// Pages at each visit.
const PAGES: std::ops::Range<u32> = 3..10;
const READING: std::ops::Range<u64> = 20..180;
/// An erasure is done by then, or told to be under way.
const ERASURE: std::ops::Range<u64> = 400..600;

/// So many browsers, each with one visitor after the other. Ends when it is dropped.
pub async fn browse(ground: Arc<Ground>, count: usize) {
    let away = Away::default();
    let mut browsers = tokio::task::JoinSet::new();
    for _ in 0..count {
        browsers.spawn(browser(ground.clone(), away.clone()));
    }
    while let Some(ended) = browsers.join_next().await {
        ended.expect("a browser does not panic");
    }
}

async fn browser(ground: Arc<Ground>, away: Away) {
    loop {
        let mut visitor = come_back(&ground, &away).unwrap_or_else(|| Visitor::new(&ground));
        visitor.visit(&ground).await;
        match draw(0..10) {
            0 => visitor.withdraw(&ground).await,
            // For good.
            1..4 => {}
            _ => {
                let longest = ground.memory().as_millis() as u64;
                let gone = Duration::from_millis(draw(longest / 8..longest));
                away.lock().push_back((Instant::now() + gone, visitor));
            }
        }
    }
}

/// Somebody whose time it is. Whom the sidecar may have forgotten meanwhile stays away.
fn come_back(ground: &Ground, away: &Away) -> Option<Visitor> {
    let mut away = away.lock();
    away.retain(|(_, visitor)| visitor.served.elapsed() < ground.memory());
    // Half of all visits are those of new visitors.
    let due = chance(0.5).then(|| away.iter().position(|(due, _)| *due <= Instant::now()));
    let (_, visitor) = away.remove(due??)?;
    ground.seen.lock().came_back += 1;
    Some(visitor)
}

// === impl Visitor ===

impl Visitor {
    fn new(ground: &Ground) -> Self {
        ground.seen.lock().lives += 1;
        Self {
            address: anybody().to_string(),
            cookie: None,
            has_asked: false,
            profile: None,
            served: Instant::now(),
            forgotten: None,
        }
    }

    async fn visit(&mut self, ground: &Ground) {
        let mut client = Client::new(PROXY, ground.to);
        // Some keep their connection, some open one for each request.
        let keeps = chance(0.7);
        for _ in 0..draw(PAGES) {
            self.ask(ground, &mut client, Wish::draw()).await;
            if !keeps || self.cookie.is_none() {
                client = Client::new(PROXY, ground.to);
            }
            pause(READING).await;
        }
    }

    /// Asks once, and judges the answer.
    async fn ask(&mut self, ground: &Ground, client: &mut Client, wish: Wish) {
        let asked = Instant::now();
        if self.profile.is_some() && self.served.elapsed() > ground.memory() {
            // In a long trouble the sidecar may have come to forget them.
            self.profile = None;
            ground.seen.lock().lives += 1;
        } else if self.cookie.is_none() && std::mem::replace(&mut self.has_asked, true) {
            // Whoever was not answered the first time may have cost a profile then, and may again.
            ground.seen.lock().lives += 1;
        }
        let request = self.request(&wish, "");
        let answer = ask(client, &request).await;
        let peaceful = ground.is_peaceful_since(asked);
        let known = self.profile.is_some();
        let mut seen = ground.seen.lock();
        seen.requests += 1;
        let Some(answer) = answer else {
            return seen.fail(0, peaceful);
        };
        if let Some(cookie) = answer
            .cookie
            .filter(|cookie| cookie.starts_with("visitor="))
        {
            self.cookie = Some(cookie.to_owned());
        }
        if !answer.reason.is_empty() {
            let pending = answer.reason == "erased" && self.forgotten.is_some();
            if !pending {
                seen.told(answer.reason, peaceful && known);
            }
            return;
        }
        if answer.status != 200 {
            return seen.fail(answer.status, peaceful);
        }
        let Some(now) = profile(answer.body) else {
            seen.silent += 1;
            return;
        };
        seen.personal += 1;
        seen.unforgotten += u64::from(self.forgotten.as_deref() == Some(now));
        if let Some(before) = &self.profile {
            seen.compare(before, now, self.served, ground.memory());
        }
        self.profile = Some(now.to_owned());
        self.served = Instant::now();
        seen.damaged += u64::from(!wish.is_fulfilled(answer.body));
    }

    /// Opts out, and after a while comes once more without: as somebody else, to whom Dressipi knows nothing.
    async fn withdraw(&mut self, ground: &Ground) {
        let mut client = Client::new(PROXY, ground.to);
        let request = self.request(&Wish::Page("/"), "; dressipi_dnt=1");
        let reason = ask(&mut client, &request)
            .await
            .map(|answer| answer.reason.to_owned());
        // Without an answer nobody knows what the sidecar has heard.
        let Some(reason) = reason else { return };
        {
            let mut seen = ground.seen.lock();
            seen.withdrew += 1;
            seen.mistaken += u64::from(reason != "opt-out");
            seen.lives += 1;
        }
        self.forgotten = self.profile.take();
        pause(ERASURE).await;
        self.ask(ground, &mut client, Wish::Recommendations).await;
    }

    fn request(&self, wish: &Wish, consent: &str) -> Vec<u8> {
        let (method, target, body) = wish.parts();
        let cookie = match (&self.cookie, consent) {
            (Some(cookie), consent) => format!("cookie: {cookie}{consent}\r\n"),
            (None, "") => String::new(),
            (None, consent) => format!("cookie: {}\r\n", consent.trim_start_matches("; ")),
        };
        let mut request = format!(
            "{method} {target} HTTP/1.1\r\nhost: shop.example\r\nuser-agent: {BROWSER}\r\naccept: text/html,*/*\r\n\
             x-forwarded-for: {}\r\n{cookie}",
            self.address
        );
        if method == "POST" {
            request.push_str(&format!(
                "content-type: application/json\r\ncontent-length: {}\r\n",
                body.len()
            ));
        }
        request.push_str("\r\n");
        let mut request = request.into_bytes();
        request.extend(body);
        request
    }
}

// === impl Wish ===

impl Wish {
    fn draw() -> Self {
        match draw(0..100) {
            0..35 => Self::Recommendations,
            35..45 => Self::Facetted,
            45..60 => Self::Page("/"),
            60..70 => Self::Page("/section-0/dresses"),
            70..88 => Self::Large(draw(0..40_000)),
            88..90 => Self::Large(draw(500_000..2_000_000)),
            90..98 => Self::Upload(draw(0..20_000)),
            _ => Self::Upload(draw(200_000..1_000_000)),
        }
    }

    fn parts(&self) -> (&'static str, String, Vec<u8>) {
        match self {
            Self::Recommendations => (
                "GET",
                "/api/items/top?client_id=demo".to_owned(),
                Vec::new(),
            ),
            Self::Facetted => (
                "POST",
                "/api/recommendations/facetted".to_owned(),
                b"{\"facets\":[]}".to_vec(),
            ),
            Self::Page(path) => ("GET", (*path).to_owned(), Vec::new()),
            Self::Large(bytes) => ("GET", format!("/bytes/{bytes}"), Vec::new()),
            Self::Upload(bytes) => ("POST", "/upload".to_owned(), vec![b'u'; *bytes]),
        }
    }

    fn is_fulfilled(&self, body: &[u8]) -> bool {
        match self {
            Self::Large(bytes) => {
                body.len() > *bytes && body[body.len() - bytes..].iter().all(|byte| *byte == b'.')
            }
            Self::Upload(bytes) => member(body, "\"received\":") == Some(&bytes.to_string()),
            _ => true,
        }
    }
}
