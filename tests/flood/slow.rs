//! Slow connections: each begins something, and takes its time. When the sidecar ends one, the next one comes in its place.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::configuration::Bounds;
use crate::http::connect;
use crate::requests::BROWSER;

/// What is slow about a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Sort {
    /// Nothing comes.
    Silent,
    /// The header comes byte by byte.
    Header,
    /// The body comes byte by byte.
    Body,
    /// The header is there, and no body follows.
    Bodiless,
}

/// How connections of one sort ended.
#[derive(Clone, Debug, Default)]
pub struct Ended {
    /// Closed by the sidecar.
    pub closed: u64,
    /// Of them, with an answer 408.
    pub answered: u64,
    /// Still open when the flood was over.
    pub left: u64,
    /// Not accepted, or broken off at once.
    pub failed: u64,
    /// The longest life, of those that were left, too.
    pub longest: Duration,
}

/// What came of one flood's.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    pub ended: BTreeMap<Sort, Ended>,
    /// The most that were open at once.
    pub most: usize,
}

/// All of them, while they come.
pub struct Slow {
    tasks: JoinSet<()>,
    over: watch::Sender<bool>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    ended: Mutex<BTreeMap<Sort, Ended>>,
    crowd: Mutex<Crowd>,
}

#[derive(Default)]
struct Crowd {
    open: usize,
    most: usize,
}

const SORTS: [Sort; 4] = [Sort::Silent, Sort::Header, Sort::Body, Sort::Bodiless];
/// A byte in so much time.
const DRIP: Duration = Duration::from_secs(1);
/// They come from so many addresses.
const ADDRESSES: usize = 64;

impl Sort {
    /// What the table calls it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Silent => "nothing sent",
            Self::Header => "header byte by byte",
            Self::Body => "body byte by byte",
            Self::Bodiless => "no body",
        }
    }

    /// When the sidecar ends it, at the latest: a slow body is judged when the next byte comes.
    pub fn deadline(self, bounds: &Bounds) -> Duration {
        match self {
            Self::Silent | Self::Header => bounds.header_timeout,
            Self::Body => bounds.body_grace + DRIP,
            Self::Bodiless => bounds.client_timeout,
        }
    }

    fn beginning(self) -> String {
        let post = |length: &str| {
            format!("POST /t/t HTTP/1.1\r\nhost: shop.example\r\nuser-agent: {BROWSER}\r\n{length}")
        };
        match self {
            Self::Silent => String::new(),
            Self::Header => "GET / HTTP/1.1\r\nhost: shop.example\r\nx-slow: ".to_owned(),
            Self::Body | Self::Bodiless => post("content-length: 100000\r\n\r\n"),
        }
    }
}

impl Slow {
    /// `count` connections begin within a second, and end within a second, on `thread`.
    pub fn start(to: SocketAddr, count: usize, thread: &Handle) -> Self {
        let (over, _) = watch::channel(false);
        let shared = Arc::new(Shared::default());
        let mut tasks = JoinSet::new();
        for number in 0..count {
            let (shared, over) = (shared.clone(), over.subscribe());
            let from = Ipv4Addr::new(127, 0, 2, 1 + (number % ADDRESSES) as u8);
            let sort = SORTS[number % SORTS.len()];
            let pause = Duration::from_secs_f64(number as f64 / count as f64);
            let come = async move {
                tokio::time::sleep(pause).await;
                while !*over.borrow() {
                    one(sort, from, to, over.clone(), pause, &shared).await;
                }
            };
            tasks.spawn_on(come, thread);
        }
        Self {
            tasks,
            over,
            shared,
        }
    }

    /// They are all closed; how they ended.
    pub async fn end(mut self) -> Outcome {
        self.over.send_replace(true);
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("a slow connection does not panic");
        }
        let ended = std::mem::take(&mut *self.shared.ended.lock());
        let most = self.shared.crowd.lock().most;
        Outcome { ended, most }
    }
}

impl Ended {
    /// Adds another flood's.
    pub fn add(&mut self, other: &Self) {
        self.closed += other.closed;
        self.answered += other.answered;
        self.left += other.left;
        self.failed += other.failed;
        self.longest = self.longest.max(other.longest);
    }
}

impl Shared {
    fn came(&self) {
        let mut crowd = self.crowd.lock();
        crowd.open += 1;
        crowd.most = crowd.most.max(crowd.open);
    }

    fn went(&self) {
        self.crowd.lock().open -= 1;
    }
}

async fn one(
    sort: Sort,
    from: Ipv4Addr,
    to: SocketAddr,
    mut over: watch::Receiver<bool>,
    pause: Duration,
    shared: &Shared,
) {
    let Ok(mut stream) = connect(from, to).await else {
        shared.ended.lock().entry(sort).or_default().failed += 1;
        tokio::time::sleep(DRIP).await;
        return;
    };
    shared.came();
    let begun = Instant::now();
    let end = async {
        let _ = over.wait_for(|over| *over).await;
        tokio::time::sleep(pause).await;
    };
    let closed = tokio::select! {
        answer = drip(&mut stream, sort) => Some(answer),
        () = end => None,
    };
    shared.went();
    let mut ended = shared.ended.lock();
    let ended = ended.entry(sort).or_default();
    ended.longest = ended.longest.max(begun.elapsed());
    match closed {
        Some(answer) => {
            ended.closed += 1;
            ended.answered += u64::from(answer.starts_with(b"HTTP/1.1 408 "));
        }
        None => ended.left += 1,
    }
}

/// Sends as slowly as may be until the other side has had enough; what it said.
async fn drip(stream: &mut TcpStream, sort: Sort) -> Vec<u8> {
    let mut answer = Vec::new();
    if stream.write_all(sort.beginning().as_bytes()).await.is_err() {
        return answer;
    }
    loop {
        tokio::select! {
            read = stream.read_buf(&mut answer) => match read {
                Ok(1..) => {}
                Ok(0) | Err(_) => return answer,
            },
            () = tokio::time::sleep(DRIP), if matches!(sort, Sort::Header | Sort::Body) => {
                if stream.write_all(b"x").await.is_err() {
                    return answer;
                }
            }
        }
    }
}

/// More connections than there may be, all of them silent: how many were closed at once, and how many were not.
pub async fn crowd(to: SocketAddr, count: usize) -> (u64, u64) {
    let mut streams = Vec::new();
    for number in 0..count {
        let from = Ipv4Addr::new(127, 0, 3, 1 + (number % ADDRESSES) as u8);
        streams.extend(connect(from, to).await.ok());
    }
    // They are closed as soon as they are accepted, which takes no longer than this.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let is_closed = |stream: &TcpStream| match stream.try_read(&mut [0]) {
        Ok(_) => true,
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
    };
    let closed = streams.iter().filter(|stream| is_closed(stream)).count();
    (closed as u64, (streams.len() - closed) as u64)
}
