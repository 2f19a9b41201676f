//! Invariants 2 and 3 at every point: a process that is killed before or after any of its writes, and before or after any
//! of its OAuth calls, leaves a store in which the next one finds its way.
//!
//! Somebody stands between the sidecar and Redis, and between the sidecar and the simulator, and numbers everything that
//! passes: see [`Gate`]. The first run only lists the points; then each of them is the last of a process's life, once
//! before it takes effect and once after it did and nobody was told. What is allowed is worked out from the list: a second
//! profile only where a code, or the tokens for it, had been given and were not stored yet.

mod redb;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use dressipi_sidecar::session::generate_key_line;
use dressipi_sidecar::simulator::{
    ExpiredAs, RefreshReuse, Simulator, SimulatorConfig, Totals, system_clock,
};
use futures::StreamExt;
use tokio::net::TcpListener;

use crate::support::link::{Ear, Gate, Link, Moment};
use crate::support::redis::RedisServer;
use crate::support::{Dressipi, Process, Sidecar, client, eventually, json};

const TOP: &str = "/api/items/top?client_id=demo";
/// How many of them run at the same time.
const TOGETHER: usize = 3;

/// What the visitor does while the gate counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scene {
    /// Comes for the first time.
    First,
    /// Comes with a token that Dressipi rejects, so that it is refreshed.
    Refresh,
}

type Stop = Option<(usize, Moment)>;

/// What came of a life and of the one after it.
struct Outcome {
    points: Vec<String>,
    /// The profile before the gate began to count.
    before: Option<String>,
    /// The profile at the end.
    after: String,
    totals: Totals,
}

/// One case: a store's part of its own, and a simulator behind the gate.
struct Stage {
    simulator: Simulator,
    folder: tempfile::TempDir,
    gate: Arc<Gate>,
    _link: Link,
}

impl Stage {
    async fn build(redis: &RedisServer, stop: Stop) -> (Self, PathBuf) {
        let gate = Gate::new(stop);
        let simulator = simulator();
        let address = serve(&simulator, gate.clone()).await;
        let dressipi = Dressipi {
            simulator: simulator.clone(),
            address,
        };
        let target = SocketAddr::from(([127, 0, 0, 1], redis.port()));
        let link = Link::to(target, Ear::Commands(gate.clone()));
        let folder = tempfile::tempdir().unwrap();
        let keys = folder.path().join("keys");
        std::fs::write(&keys, generate_key_line()).unwrap();
        let prefix = folder.path().file_name().unwrap().to_str().unwrap();
        let session = format!(
            "store = \"redis\"\nkeys_file = {keys:?}\nredis.timeout = \"5s\"\nredis.url = \"redis://{}\"\n\
             redis.key_prefix = \"{prefix}:\"\nlease_term = \"1s\"\nlost_grace = \"1s\"\n\
             unconfirmed_pause = \"50ms\"\nmin_backoff = \"50ms\"",
            link.address,
        );
        let config = Sidecar::behind(&dressipi)
            .session(&session)
            .write(folder.path());
        let stage = Self {
            simulator,
            folder,
            gate,
            _link: link,
        };
        (stage, config)
    }
}

/// One that lets a refresh token be used again until its successor was: a lost answer need not cost it.
fn simulator() -> Simulator {
    let config = SimulatorConfig {
        refresh_reuse: RefreshReuse::UntilSuccessorUsed,
        ..SimulatorConfig::default()
    };
    Simulator::new(config, system_clock())
}

/// The simulator, whose OAuth endpoints stand behind the gate.
async fn serve(simulator: &Simulator, gate: Arc<Gate>) -> SocketAddr {
    async fn pass(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
        let path = request.uri().path().to_owned();
        if !path.starts_with("/api/oauth/") {
            return next.run(request).await;
        }
        let number = gate.before(&format!("oauth {path}")).await;
        let answer = next.run(request).await;
        if let Some(number) = number {
            gate.after(number).await;
        }
        answer
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = simulator.router().layer(from_fn_with_state(gate, pass));
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

async fn start(config: &Path) -> Process {
    let config = config.to_owned();
    let starting = tokio::task::spawn_blocking(move || Process::serve(&config, 2));
    starting.await.unwrap()
}

/// The profile that a visitor is answered for; `None`: none, or no answer.
async fn visit(process: &Process, visitor: &str) -> Option<String> {
    let url = format!("http://{}{TOP}", process.addresses[1]);
    let request = client().get(url).header("x-visitor-id", visitor);
    let answer = request.send().await.ok()?;
    json(answer).await["profile"].as_str().map(str::to_owned)
}

async fn profile_in_the_end(process: &Process, visitor: &str) -> String {
    let mut profile = None;
    eventually("the visitor has a token", async || {
        profile = visit(process, visitor).await;
        profile.is_some()
    })
    .await;
    profile.unwrap()
}

/// Waits until nothing has passed the gate for a moment: what a flow leaves behind is done.
async fn quiet(gate: &Gate) {
    let mut before = usize::MAX;
    eventually("nothing passes any more", async || {
        tokio::time::sleep(std::time::Duration::from_millis(60)).await;
        let now = gate.passed();
        std::mem::replace(&mut before, now) == now
    })
    .await;
}

/// Plays a scene up to `stop`, kills the process there, and has the visitor come to the next one.
async fn play(redis: &RedisServer, scene: Scene, stop: Stop) -> Outcome {
    let (stage, config) = Stage::build(redis, stop).await;
    let Stage {
        simulator, gate, ..
    } = &stage;
    let process = start(&config).await;
    // Somebody else has been here: connections are open, scripts are loaded.
    profile_in_the_end(&process, "somebody-else").await;
    let before = match scene {
        Scene::First => None,
        Scene::Refresh => Some(profile_in_the_end(&process, "ada").await),
    };
    quiet(gate).await;
    if scene == Scene::Refresh {
        simulator.expire_tokens(ExpiredAs::Unauthorized);
    }
    gate.arm();
    let visiting = visit(&process, "ada");
    match stop {
        None => {
            assert!(visiting.await.is_some());
            quiet(gate).await;
        }
        Some(_) => tokio::select! {
            () = gate.reached() => {}
            // What follows an answer can be the last point, too.
            _ = visiting => {
                let reached = tokio::time::timeout(std::time::Duration::from_secs(10), gate.reached());
                reached.await.expect("the point is reached");
            }
        },
    }
    let points = gate.points();
    tokio::task::spawn_blocking(move || process.kill())
        .await
        .unwrap();

    gate.open();
    let process = start(&config).await;
    let after = profile_in_the_end(&process, "ada").await;
    let totals = simulator.totals();
    tokio::task::spawn_blocking(move || process.terminate())
        .await
        .unwrap();
    drop(stage.folder);
    Outcome {
        points,
        before,
        after,
        totals,
    }
}

/// Where a second profile, or a refresh token used again, cannot be helped: from the answer of the OAuth call at `call`
/// until it is stored by the next `put`.
fn unavoidable(points: &[String], call: usize, put: &str, stop: (usize, Moment)) -> bool {
    let (at, moment) = stop;
    let stored = (call + 1..points.len()).find(|at| points[*at] == put);
    let stored = stored.expect("what the call gave is stored");
    let given = at > call || (at == call && moment == Moment::After);
    let not_stored = at < stored || (at == stored && moment == Moment::Before);
    given && not_stored
}

fn position(points: &[String], name: &str) -> usize {
    let found = points.iter().position(|point| point == name);
    found.unwrap_or_else(|| panic!("no {name} in {points:?}"))
}

/// What must hold after a life that ended at a point.
type Check = fn(&[String], (usize, Moment), &Outcome);

async fn at_every_point(scene: Scene, play: impl AsyncFn(Scene, Stop) -> Outcome, check: Check) {
    let list = play(scene, None).await.points;
    println!("{scene:?}: {list:?}");
    let stops = (0..list.len()).flat_map(|at| [(at, Moment::Before), (at, Moment::After)]);
    let (play, list) = (&play, &list);
    let cases = futures::stream::iter(stops).map(|stop| async move {
        let outcome = play(scene, Some(stop)).await;
        assert_eq!(
            outcome.points,
            list[..=stop.0],
            "the same way up to {stop:?}"
        );
        let totals = &outcome.totals;
        assert_eq!(
            (
                totals.expired_tokens_received,
                totals.foreign_tokens_received,
                totals.refresh_reuse,
            ),
            (0, 0, 0),
            "{stop:?}"
        );
        check(list, stop, &outcome);
    });
    cases.buffer_unordered(TOGETHER).collect::<Vec<()>>().await;
}

/// A visitor who comes for the first time.
fn first_visit(points: &[String], stop: (usize, Moment), outcome: &Outcome) {
    let authorize = position(points, "oauth /api/oauth/authorize");
    let exchange = position(points, "oauth /api/oauth/token");
    // The code is exchanged as soon as it is stored.
    let put = &points[exchange - 1];
    let on_the_way =
        unavoidable(points, authorize, put, stop) || unavoidable(points, exchange, put, stop);
    // And somebody else has one.
    let profiles = outcome.totals.profiles - 1;
    let expected = if on_the_way { 2 } else { 1 };
    assert_eq!(profiles, expected, "{stop:?} of {points:?}");
}

/// A visitor who has a profile.
fn refresh(points: &[String], stop: (usize, Moment), outcome: &Outcome) {
    assert_eq!(outcome.before.as_ref(), Some(&outcome.after), "{stop:?}");
    assert_eq!(outcome.totals.profiles, 2, "{stop:?}");
    let refresh = position(points, "oauth /api/oauth/token");
    let mut then = points[refresh + 1..].iter();
    let put = then.find(|point| !point.starts_with("oauth"));
    let put = put.expect("the new tokens are stored");
    // Wherever the successor had been stored, it is the one that is used.
    let again = u64::from(unavoidable(points, refresh, put, stop));
    assert_eq!(
        outcome.totals.refresh_again, again,
        "{stop:?} of {points:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_2_a_kill_at_any_point_of_the_first_visit_costs_at_most_what_was_on_its_way() {
    let redis = RedisServer::start();
    let play = async |scene, stop| play(&redis, scene, stop).await;
    at_every_point(Scene::First, play, first_visit).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_3_a_kill_at_any_point_of_a_refresh_loses_nothing() {
    let redis = RedisServer::start();
    let play = async |scene, stop| play(&redis, scene, stop).await;
    at_every_point(Scene::Refresh, play, refresh).await;
}

/// Round trips to Redis are what a request of a visitor waits for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cached_visitor_asks_nothing_of_redis_a_known_one_once_and_a_new_one_at_most_six_times() {
    let redis = RedisServer::start();
    let (stage, config) = Stage::build(&redis, None).await;
    let first = start(&config).await;
    let second = start(&config).await;
    for process in [&first, &second] {
        profile_in_the_end(process, "somebody-else").await;
    }
    quiet(&stage.gate).await;
    stage.gate.arm();
    let asked = async |process: &Process| {
        let commands = || {
            let points = stage.gate.points().into_iter();
            // The sweep of expired records comes a second after the start, and no request waits for it.
            let points = points.filter(|point| point != "redis ZRANGEBYSCORE");
            points.filter(|point| point.starts_with("redis")).count()
        };
        let before = commands();
        assert!(visit(process, "ada").await.is_some());
        quiet(&stage.gate).await;
        commands() - before
    };
    let new = asked(&first).await;
    assert!((1..=6).contains(&new), "{new}: {:?}", stage.gate.points());
    assert_eq!(asked(&first).await, 0);
    assert_eq!(asked(&second).await, 1, "known, but not to this replica");
    assert_eq!(asked(&second).await, 0);
}
