//! Which server has a bucket: always the same one, the sentinels' master, or what a cluster says.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use redis::RedisResult;

use super::redis_connect::Connector;
use super::redis_keys::Bucket;
use super::redis_line::{Line, Sentinels, Target};
use super::redis_map::Map;
use super::redis_settings::{RedisAddress, RedisServers};

/// How many connections of a server wait for replicas: a `WAIT` holds up whatever is behind it on its connection.
const CONFIRMING: usize = 8;

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

// === impl Node ===

impl Node {
    pub(super) fn new(connector: &Arc<Connector>, target: Target, confirm: bool) -> Arc<Self> {
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

    pub(super) fn hang_up(&self) {
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
                return Self::Cluster(Arc::new(Map::new(connector, seeds.clone(), confirm)));
            }
        };
        Self::One {
            node: Node::new(&connector, target.clone(), confirm),
            connector,
            target,
        }
    }

    /// Whether one server has everything.
    pub(super) fn is_one(&self) -> bool {
        matches!(self, Self::One { .. })
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
            map.moved(bucket, address);
        }
    }

    /// Something does not fit: a server is gone, or no master any more.
    pub(super) fn suspect(&self) {
        if let Self::Cluster(map) = self {
            map.suspect();
        }
    }

    /// One bucket of each master: whoever asks those has asked all servers.
    pub(super) async fn representatives(&self) -> RedisResult<Vec<Bucket>> {
        match self {
            Self::One { .. } => Ok(vec![0]),
            Self::Cluster(map) => {
                map.of(0).await?;
                Ok(map.representatives())
            }
        }
    }

    /// Where news can be heard: at the master, or anywhere in a cluster, elsewhere each turn.
    pub(super) async fn hearing(&self, turn: u32) -> Option<RedisAddress> {
        match self {
            Self::One {
                connector, target, ..
            } => match target {
                Target::Address(address) => Some(address.clone()),
                Target::Master(sentinels) => sentinels.master(connector).await,
            },
            Self::Cluster(map) => {
                let _ = map.of(0).await;
                map.some_master(turn)
            }
        }
    }

    /// Whether `address` is still a place to hear news at. Lets go of connections to what is no master any more.
    pub(super) async fn still_hearing(&self, address: &RedisAddress) -> bool {
        match self {
            Self::One { node, .. } => match self.hearing(0).await {
                Some(now) if now != *address => {
                    node.hang_up();
                    false
                }
                _ => true,
            },
            Self::Cluster(map) => map.is_master(address),
        }
    }

    /// Lets go of all connections.
    pub(super) fn hang_up(&self) {
        match self {
            Self::One { node, .. } => node.hang_up(),
            Self::Cluster(map) => map.hang_up(),
        }
    }
}
