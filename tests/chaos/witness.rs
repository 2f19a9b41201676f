//! What Dressipi saw: who came as which profile, and what became of each OAuth answer.
//!
//! Every replica has a listener of the simulator for itself, so that its calls can be told from the others'. A call is
//! finished even if the replica hangs up: servers do not notice in time either.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use dressipi_sidecar::simulator::Simulator;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::net::TcpSocket;

/// The header in which clients say who they are, for the witness only.
pub const WHO: &str = "x-chaos-visitor";

/// Everything seen so far.
pub struct Witness {
    pub simulator: Simulator,
    /// The number of the present phase.
    pub phase: AtomicUsize,
    seen: Mutex<Seen>,
}

/// What was seen.
#[derive(Default)]
pub struct Seen {
    /// Authorize and token calls, but for refreshes that went well.
    pub calls: Vec<Call>,
    /// By the visitor's name: the profiles that it came as, one after the other.
    pub visitors: HashMap<String, Vec<String>>,
    /// Profiles that somebody came as.
    pub used: HashSet<String>,
    /// The phase of each change of a visitor's profile.
    pub changes: Vec<usize>,
    /// When replicas were killed, by number and life.
    pub killed: HashMap<(usize, u64), Instant>,
    /// Refreshes answered well, by phase.
    pub refreshes: HashMap<usize, u64>,
    lives: HashMap<usize, u64>,
}

/// An OAuth call.
#[derive(Clone, Debug)]
pub struct Call {
    pub kind: Kind,
    /// Which replica made it, and in which of its lives.
    pub by: (usize, u64),
    pub phase: usize,
    /// Whose it was, where that can be told.
    pub profile: Option<String>,
    pub end: End,
}

/// Which OAuth call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Authorize,
    Exchange,
    Refresh,
}

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It is under way; at the end: the replica hung up before it was answered.
    InFlight,
    /// An OAuth error was answered, such as `invalid_grant`.
    Refused,
    /// Another error was answered.
    Failed,
    /// It was answered well, then.
    Answered(Instant),
    /// It was answered well, and a fault swallowed the answer.
    Swallowed,
}

impl Witness {
    pub fn new(simulator: Simulator) -> Arc<Self> {
        Arc::new(Self {
            simulator,
            phase: AtomicUsize::new(0),
            seen: Mutex::default(),
        })
    }

    /// Serves the simulator to one replica.
    pub fn serve(self: &Arc<Self>, replica: usize) -> SocketAddr {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let socket = socket.listen(4096).unwrap();
        let address = socket.local_addr().unwrap();
        let layer = from_fn_with_state((self.clone(), replica), watch);
        let router = self.simulator.router().layer(layer);
        tokio::spawn(async move { axum::serve(socket, router).await });
        address
    }

    /// A replica begins a new life.
    pub fn born(&self, replica: usize) {
        *self.seen.lock().lives.entry(replica).or_default() += 1;
    }

    /// A replica was killed.
    pub fn killed(&self, replica: usize) {
        let mut seen = self.seen.lock();
        let life = seen.life(replica);
        seen.killed.insert((replica, life), Instant::now());
    }

    /// Looks at what was seen.
    pub fn look<T>(&self, at: impl FnOnce(&Seen) -> T) -> T {
        at(&self.seen.lock())
    }

    fn begin(&self, kind: Kind, replica: usize, profile: Option<String>) -> usize {
        let phase = self.phase.load(Ordering::Relaxed);
        let mut seen = self.seen.lock();
        let by = (replica, seen.life(replica));
        seen.calls.push(Call {
            kind,
            by,
            phase,
            profile,
            end: End::InFlight,
        });
        seen.calls.len() - 1
    }

    /// What a token call asks for, and whose profile it concerns.
    fn token_call(&self, body: &[u8]) -> (Kind, Option<String>) {
        let form = |name: &str| {
            let mut pairs = url::form_urlencoded::parse(body);
            let found = pairs.find(|(key, _)| key == name);
            found.map(|(_, value)| value.into_owned())
        };
        match form("refresh_token") {
            Some(token) => (
                Kind::Refresh,
                self.simulator.profile_of_refresh_token(&token),
            ),
            None => (
                Kind::Exchange,
                form("code").and_then(|code| self.simulator.profile_of_code(&code)),
            ),
        }
    }

    /// A resource call.
    fn resource(&self, headers: &HeaderMap) {
        let header = |name| headers.get(name)?.to_str().ok();
        let (Some(visitor), Some(token)) = (header(WHO), header("x-dressipi-jwt")) else {
            return;
        };
        let Some(profile) = self.simulator.profile_of_token(token) else {
            return;
        };
        let phase = self.phase.load(Ordering::Relaxed);
        let mut seen = self.seen.lock();
        let profiles = seen.visitors.entry(visitor.to_owned()).or_default();
        match profiles.last() {
            Some(last) if *last == profile => return,
            None => profiles.push(profile.clone()),
            Some(last) => {
                eprintln!("visitor {visitor} came as {last} and now comes as {profile}");
                profiles.push(profile.clone());
                seen.changes.push(phase);
            }
        }
        seen.used.insert(profile);
    }
}

impl Seen {
    fn life(&self, replica: usize) -> u64 {
        self.lives.get(&replica).copied().unwrap_or_default()
    }
}

async fn watch(
    State((witness, replica)): State<(Arc<Witness>, usize)>,
    request: Request,
    next: Next,
) -> Response {
    match request.uri().path() {
        "/api/oauth/authorize" => {
            let call = witness.begin(Kind::Authorize, replica, None);
            oauth(witness, call, request, next).await
        }
        "/api/oauth/token" => {
            let (parts, body) = request.into_parts();
            let body = to_bytes(body, 64 * 1024).await.unwrap_or_default();
            let (kind, profile) = witness.token_call(&body);
            let call = witness.begin(kind, replica, profile);
            let request = Request::from_parts(parts, Body::from(body));
            oauth(witness, call, request, next).await
        }
        _ => {
            witness.resource(request.headers());
            next.run(request).await
        }
    }
}

/// Has the call answered, whatever the replica does meanwhile, and notes what came of it.
async fn oauth(witness: Arc<Witness>, call: usize, request: Request, next: Next) -> Response {
    let answering = tokio::spawn(async move {
        let (parts, body) = next.run(request).await.into_parts();
        (parts, to_bytes(body, 1024 * 1024).await)
    });
    let (parts, body) = answering.await.expect("the simulator does not panic");
    let phase = witness.phase.load(Ordering::Relaxed);
    let mut seen = witness.seen.lock();
    let noted = &mut seen.calls[call];
    match &body {
        Ok(body) if parts.status.is_success() => {
            noted.end = End::Answered(Instant::now());
            if noted.kind == Kind::Authorize {
                noted.profile =
                    code(body).and_then(|code| witness.simulator.profile_of_code(&code));
            }
            if noted.kind == Kind::Refresh {
                *seen.refreshes.entry(phase).or_default() += 1;
            }
        }
        Ok(_) if parts.status == StatusCode::BAD_REQUEST => noted.end = End::Refused,
        Ok(_) => noted.end = End::Failed,
        Err(_) => noted.end = End::Swallowed,
    }
    drop(seen);
    let body = match body {
        Ok(body) => Body::from(body),
        // As the simulator did it: the connection ends before the first byte of the answer.
        Err(_) => Body::from_stream(futures::stream::once(async {
            Err::<Bytes, _>(io::Error::other("dropped by a fault"))
        })),
    };
    Response::from_parts(parts, body)
}

fn code(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    body["code"].as_str().map(str::to_owned)
}
