//! Which master of a cluster has which bucket.
//!
//! The map is our own and not the redis crate's: with 256 buckets it is a table of 256 entries, and this way all three modes
//! have the same retries within the same bound, and a write's `WAIT` goes behind it on the same connection.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
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
use super::redis_line::Target;
use super::redis_nodes::Node;
use super::redis_settings::RedisAddress;

/// A cluster is not asked for its map more often.
const BETWEEN_REFRESHES: Duration = Duration::from_millis(50);

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

// === impl Map ===

impl Map {
    pub(super) fn new(connector: Arc<Connector>, seeds: Vec<RedisAddress>, confirm: bool) -> Self {
        Self {
            connector,
            seeds,
            confirm,
            state: Mutex::default(),
        }
    }

    /// `bucket` is at `address` now.
    pub(super) fn moved(&self, bucket: Bucket, address: RedisAddress) {
        let mut state = self.state.lock();
        state.owners.insert(bucket, address);
        // Where one bucket has moved, others have.
        state.stale = true;
    }

    /// Something does not fit.
    pub(super) fn suspect(&self) {
        self.state.lock().stale = true;
    }

    /// One bucket of each master, and those that nobody has: asking for one of these fails.
    pub(super) fn representatives(&self) -> Vec<Bucket> {
        let state = self.state.lock();
        let mut seen = HashSet::new();
        let mut is_new = |bucket: &Bucket| {
            let owner = state.owners.get(bucket);
            owner.is_none_or(|owner| seen.insert(owner))
        };
        (0..=Bucket::MAX).filter(|bucket| is_new(bucket)).collect()
    }

    /// One of the masters: another one each turn.
    pub(super) fn some_master(&self, turn: u32) -> Option<RedisAddress> {
        let state = self.state.lock();
        let distinct: HashSet<_> = state.owners.values().collect();
        let mut masters: Vec<_> = distinct.into_iter().collect();
        masters.sort_by_key(|address| address.to_string());
        let index = (turn as usize).checked_rem(masters.len())?;
        masters.get(index).copied().cloned()
    }

    pub(super) fn is_master(&self, address: &RedisAddress) -> bool {
        let state = self.state.lock();
        state.owners.values().any(|owner| owner == address)
    }

    pub(super) fn hang_up(&self) {
        let nodes = std::mem::take(&mut self.state.lock().nodes);
        nodes.values().for_each(|node| node.hang_up());
    }

    /// The master of `bucket`.
    pub(super) async fn of(self: &Arc<Self>, bucket: Bucket) -> RedisResult<Arc<Node>> {
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

    /// The server at `address`.
    pub(super) fn at(&self, address: &RedisAddress) -> Arc<Node> {
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
