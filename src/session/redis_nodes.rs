//! Which server has a bucket: always the same one, the sentinels' master, or what a cluster says.
//!
//! The cluster's map is our own and not the redis crate's: with 256 buckets it is a table of 256 entries, and this way all
//! three modes have the same retries within the same bound, and a write's `WAIT` goes behind it on the same connection.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::{BoxFuture, Shared};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use parking_lot::Mutex;
use redis::aio::ConnectionLike;
use redis::{ErrorKind, RedisError, RedisResult, Value};
use tokio::time::Instant;

use super::redis_connect::{Connector, Login};
use super::redis_keys::{self, Bucket, Keys};
use super::redis_line::{Line, Sentinels, Target};
use super::redis_settings::{RedisAddress, RedisServers};

/// How many connections of a server wait for replicas: a `WAIT` holds up whatever is behind it on its connection.
const CONFIRMING: usize = 8;
/// A cluster is not asked for its map more often.
const BETWEEN_REFRESHES: Duration = Duration::from_millis(50);

/// A master, and the connections to it.
pub(super) struct Node {
    plain: Line,
    confirming: Vec<Line>,
    turn: AtomicUsize,
}

/// All masters.
pub(super) enum Nodes {
    /// There is one.
    One {
        node: Arc<Node>,
        connector: Arc<Connector>,
        target: Target,
    },
    /// Each has some of the buckets.
    Cluster(Arc<Map>),
}

/// Who has which bucket.
pub(super) struct Map {
    connector: Arc<Connector>,
    seeds: Vec<RedisAddress>,
    confirm: bool,
    state: Mutex<State>,
}

type Refreshing = Shared<BoxFuture<'static, RedisResult<()>>>;

#[derive(Default)]
struct State {
    nodes: HashMap<RedisAddress, Arc<Node>>,
    owners: HashMap<Bucket, RedisAddress>,
    stale: bool,
    refreshed: Option<Instant>,
    refreshing: Option<Refreshing>,
}

// === impl Node ===

impl Node {
    fn new(connector: &Arc<Connector>, target: Target, confirm: bool) -> Arc<Self> {
        let line = || Line::new(connector.clone(), target.clone());
        let confirming = if confirm { CONFIRMING } else { 0 };
        Arc::new(Self {
            plain: line(),
            confirming: (0..confirming).map(|_| line()).collect(),
            turn: AtomicUsize::new(0),
        })
    }

    /// The line for a request; for one that waits for replicas a line where it holds up its own kind only.
    pub(super) fn line(&self, confirm: bool) -> &Line {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        match self.confirming.get(turn % CONFIRMING) {
            Some(line) if confirm => line,
            _ => &self.plain,
        }
    }

    fn hang_up(&self) {
        self.plain.hang_up();
        self.confirming.iter().for_each(Line::hang_up);
    }
}

// === impl Nodes ===

impl Nodes {
    /// Makes no connection yet. `confirm`: whether some writes wait for replicas.
    pub(super) fn new(servers: &RedisServers, connector: Arc<Connector>, confirm: bool) -> Self {
        let target = match servers {
            RedisServers::Standalone(address) => Target::Address(address.clone()),
            RedisServers::Sentinel {
                sentinels,
                master_name,
                ..
            } => Target::Master(Arc::new(Sentinels {
                addresses: sentinels.clone(),
                master_name: master_name.clone(),
            })),
            RedisServers::Cluster { seeds } => {
                return Self::Cluster(Arc::new(Map {
                    connector,
                    seeds: seeds.clone(),
                    confirm,
                    state: Mutex::default(),
                }));
            }
        };
        Self::One {
            node: Node::new(&connector, target.clone(), confirm),
            connector,
            target,
        }
    }

    /// The master of `bucket`.
    pub(super) async fn of(&self, bucket: Bucket) -> RedisResult<Arc<Node>> {
        match self {
            Self::One { node, .. } => Ok(node.clone()),
            Self::Cluster(map) => map.of(bucket).await,
        }
    }

    /// The server at `address`, whatever it has.
    pub(super) fn at(&self, address: &RedisAddress) -> Arc<Node> {
        match self {
            Self::One { node, .. } => node.clone(),
            Self::Cluster(map) => map.at(address),
        }
    }

    /// `bucket` is at `address` now.
    pub(super) fn moved(&self, bucket: Bucket, address: RedisAddress) {
        if let Self::Cluster(map) = self {
            map.at(&address);
            let mut state = map.state.lock();
            state.owners.insert(bucket, address);
            // Where one bucket has moved, others have.
            state.stale = true;
        }
    }

    /// Something does not fit: a server is gone, or no master any more.
    pub(super) fn suspect(&self) {
        if let Self::Cluster(map) = self {
            map.state.lock().stale = true;
        }
    }

    /// One bucket of each master: whoever asks those has asked all servers.
    pub(super) async fn representatives(&self) -> RedisResult<Vec<Bucket>> {
        match self {
            Self::One { .. } => Ok(vec![0]),
            Self::Cluster(map) => {
                map.of(0).await?;
                let state = map.state.lock();
                let mut seen = HashSet::new();
                let buckets = (0..=Bucket::MAX).filter(|bucket| {
                    // A bucket that nobody has is asked for too, and fails.
                    state
                        .owners
                        .get(bucket)
                        .is_none_or(|owner| seen.insert(owner))
                });
                Ok(buckets.collect())
            }
        }
    }

    /// Where news can be heard: at the master, or anywhere in a cluster.
    pub(super) async fn hearing(&self) -> Option<RedisAddress> {
        match self {
            Self::One {
                connector, target, ..
            } => match target {
                Target::Address(address) => Some(address.clone()),
                Target::Master(sentinels) => sentinels.master(connector).await,
            },
            Self::Cluster(map) => {
                let _ = map.of(0).await;
                let state = map.state.lock();
                let mut masters: Vec<_> = state.owners.values().collect();
                masters.sort_by_key(|address| address.to_string());
                masters.first().copied().cloned()
            }
        }
    }

    /// Whether `address` is still a place to hear news at. Lets go of connections to what is no master any more.
    pub(super) async fn still_hearing(&self, address: &RedisAddress) -> bool {
        match self {
            Self::One { node, .. } => match self.hearing().await {
                Some(now) if now != *address => {
                    node.hang_up();
                    false
                }
                _ => true,
            },
            Self::Cluster(map) => {
                let state = map.state.lock();
                state.owners.values().any(|owner| owner == address)
            }
        }
    }

    /// Lets go of all connections.
    pub(super) fn hang_up(&self) {
        match self {
            Self::One { node, .. } => node.hang_up(),
            Self::Cluster(map) => {
                let nodes = std::mem::take(&mut map.state.lock().nodes);
                nodes.values().for_each(|node| node.hang_up());
            }
        }
    }
}

// === impl Map ===

impl Map {
    async fn of(self: &Arc<Self>, bucket: Bucket) -> RedisResult<Arc<Node>> {
        let owner = self.owner(bucket);
        // A stale map is mended on the side as long as it has an answer.
        let refreshing = self.refresh();
        let owner = match (owner, refreshing) {
            (Some(owner), _) => Some(owner),
            (None, Some(refreshing)) => {
                refreshing.await?;
                self.owner(bucket)
            }
            (None, None) => None,
        };
        let unknown = (
            ErrorKind::ClusterConnectionNotFound,
            "no server has the slot",
        );
        owner
            .map(|owner| self.at(&owner))
            .ok_or_else(|| unknown.into())
    }

    fn owner(&self, bucket: Bucket) -> Option<RedisAddress> {
        self.state.lock().owners.get(&bucket).cloned()
    }

    fn at(&self, address: &RedisAddress) -> Arc<Node> {
        let mut state = self.state.lock();
        let new = || {
            let target = Target::Address(address.clone());
            Node::new(&self.connector, target, self.confirm)
        };
        let node = state.nodes.entry(address.clone()).or_insert_with(new);
        node.clone()
    }

    /// Reads the map anew, if there is reason to and it was not read just now.
    fn refresh(self: &Arc<Self>) -> Option<Refreshing> {
        let mut state = self.state.lock();
        if let Some(refreshing) = &state.refreshing {
            return Some(refreshing.clone());
        }
        let complete = state.owners.len() == usize::from(Bucket::MAX) + 1;
        let just_now = |at: Instant| at.elapsed() < BETWEEN_REFRESHES;
        if (complete && !state.stale) || state.refreshed.is_some_and(just_now) {
            return None;
        }
        let map = self.clone();
        let mut asked: HashSet<_> = state.nodes.keys().cloned().collect();
        asked.extend(self.seeds.iter().cloned());
        let task = tokio::spawn(async move {
            let read = map.read(&asked).await;
            map.learn(read)
        });
        let ended = |_| RedisError::from((ErrorKind::Io, "the runtime is ending"));
        let refreshing = async move { task.await.map_err(ended)? }.boxed().shared();
        state.refreshing = Some(refreshing.clone());
        Some(refreshing)
    }

    /// Asks all servers at once for the map, and takes the first that is complete, or else the last.
    async fn read(&self, asked: &HashSet<RedisAddress>) -> RedisResult<Owners> {
        let mut read = Err((ErrorKind::ClusterConnectionNotFound, "no server answers").into());
        let mut answers: FuturesUnordered<_> =
            asked.iter().map(|address| self.ask(address)).collect();
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(owners) if owners.len() == usize::from(Bucket::MAX) + 1 => return Ok(owners),
                Ok(owners) => read = Ok(owners),
                Err(error) if read.is_err() => read = Err(error),
                Err(_) => {}
            }
        }
        read
    }

    async fn ask(&self, address: &RedisAddress) -> RedisResult<Owners> {
        let mut connection = self.connector.plain(address, Login::Server).await?;
        let mut question = redis::cmd("CLUSTER");
        question.arg("SLOTS");
        let asking = connection.req_packed_command(&question);
        let answer = self.connector.within(asking).await?.extract_error()?;
        Ok(owners(&answer, address))
    }

    fn learn(&self, read: RedisResult<Owners>) -> RedisResult<()> {
        let mut state = self.state.lock();
        state.refreshing = None;
        state.refreshed = Some(Instant::now());
        let owners = read?;
        state.stale = false;
        let masters: HashSet<_> = owners.values().cloned().collect();
        state.nodes.retain(|address, _| masters.contains(address));
        state.owners = owners;
        Ok(())
    }
}

type Owners = HashMap<Bucket, RedisAddress>;

/// The owners of the buckets, by the answer of `asked` to `CLUSTER SLOTS`: ranges, each with its master first.
fn owners(answer: &Value, asked: &RedisAddress) -> Owners {
    let range = |range: &Value| -> Option<(u16, u16, RedisAddress)> {
        let Value::Array(range) = range else {
            return None;
        };
        let number = |value: &Value| match value {
            Value::Int(number) => u16::try_from(*number).ok(),
            _ => None,
        };
        let Value::Array(master) = range.get(2)? else {
            return None;
        };
        let host = match master.first()? {
            Value::BulkString(host) if host == b"?" => return None,
            Value::BulkString(host) if !host.is_empty() => String::from_utf8(host.clone()).ok()?,
            // It does not know its own name: it is where we have asked.
            _ => asked.host.clone(),
        };
        let address = RedisAddress::new(host, number(master.get(1)?)?);
        Some((number(range.first()?)?, number(range.get(1)?)?, address))
    };
    let Value::Array(ranges) = answer else {
        return Owners::new();
    };
    let ranges: Vec<_> = ranges.iter().filter_map(range).collect();
    let owner = |bucket: Bucket| {
        let slot = redis_keys::slot(&Keys::tag(bucket));
        let found = ranges
            .iter()
            .find(|(from, to, _)| (*from..=*to).contains(&slot));
        found.map(|(_, _, address)| (bucket, address.clone()))
    };
    (0..=Bucket::MAX).filter_map(owner).collect()
}
