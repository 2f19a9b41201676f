//! A line: one multiplexed connection that is made when it is needed and made anew when it breaks.
//!
//! Connecting runs detached and is shared by all who wait for it, each within a bound of their own. After a failed attempt
//! the next one waits, longer each time up to a second; who cannot wait so long is told at once why it failed. A connection that
//! left an answer out is dropped: it may be one whose other end is gone without a word.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, Shared};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use parking_lot::Mutex;
use rand::TryRng;
use rand::rngs::SysRng;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{ErrorKind, RedisError, RedisResult};
use tokio::time::Instant;

use super::redis_connect::{Connector, Login};
use super::redis_settings::RedisAddress;

/// The pauses between attempts to connect.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Where a line leads.
#[derive(Clone, Debug)]
pub(super) enum Target {
    /// Always there.
    Address(RedisAddress),
    /// Wherever the sentinels say that the master is.
    Master(Arc<Sentinels>),
}

/// Those who know the master.
#[derive(Debug)]
pub(super) struct Sentinels {
    pub(super) addresses: Vec<RedisAddress>,
    pub(super) master_name: String,
}

/// One connection, made anew when it breaks.
pub(super) struct Line {
    connector: Arc<Connector>,
    target: Target,
    state: Mutex<State>,
}

/// An open connection, and which of the line's it is.
#[derive(Clone)]
pub(super) struct Open {
    pub(super) connection: MultiplexedConnection,
    /// Where it leads.
    pub(super) address: RedisAddress,
    generation: u64,
}

/// Why there is no connection.
#[derive(Clone, Debug)]
pub(super) struct NotOpen {
    pub(super) error: RedisError,
    /// When the next attempt may be made.
    pub(super) next: Instant,
}

type Connecting = Shared<BoxFuture<'static, RedisResult<(MultiplexedConnection, RedisAddress)>>>;

#[derive(Default)]
struct State {
    generation: u64,
    connecting: Option<Connecting>,
    failures: u32,
    paused: Option<NotOpen>,
}

// === impl Line ===

impl Line {
    pub(super) fn new(connector: Arc<Connector>, target: Target) -> Self {
        Self {
            connector,
            target,
            state: Mutex::default(),
        }
    }

    /// The connection, made if need be.
    pub(super) async fn open(&self) -> Result<Open, NotOpen> {
        let (generation, connecting) = self.begin()?;
        match connecting.await {
            Ok((connection, address)) => {
                let mut state = self.state.lock();
                if state.generation == generation {
                    state.failures = 0;
                }
                Ok(Open {
                    connection,
                    address,
                    generation,
                })
            }
            Err(error) => Err(self.failed(generation, error)),
        }
    }

    /// Lets go of a connection that cannot be relied on any more; the next call makes another one.
    pub(super) fn discard(&self, open: &Open) {
        let mut state = self.state.lock();
        if state.generation == open.generation {
            state.generation += 1;
            state.connecting = None;
        }
    }

    /// Lets go of whatever connection there is.
    pub(super) fn hang_up(&self) {
        let mut state = self.state.lock();
        state.generation += 1;
        state.connecting = None;
    }

    fn begin(&self) -> Result<(u64, Connecting), NotOpen> {
        let mut state = self.state.lock();
        if let Some(connecting) = &state.connecting {
            return Ok((state.generation, connecting.clone()));
        }
        if let Some(paused) = &state.paused
            && Instant::now() < paused.next
        {
            return Err(paused.clone());
        }
        state.paused = None;
        let (connector, target) = (self.connector.clone(), self.target.clone());
        let task = tokio::spawn(async move { target.connect(&connector).await });
        let ended = |_| RedisError::from((ErrorKind::Io, "the runtime is ending"));
        let connecting = async move { task.await.map_err(ended)? }.boxed().shared();
        state.connecting = Some(connecting.clone());
        Ok((state.generation, connecting))
    }

    /// Notes a failed attempt, once for all who waited for it.
    fn failed(&self, generation: u64, error: RedisError) -> NotOpen {
        let mut state = self.state.lock();
        if state.generation != generation {
            let paused = state.paused.as_ref();
            let next = paused.map_or_else(Instant::now, |paused| paused.next);
            return NotOpen { error, next };
        }
        state.generation += 1;
        state.connecting = None;
        state.failures += 1;
        let next = Instant::now() + pause(state.failures);
        let not_open = NotOpen { error, next };
        state.paused = Some(not_open.clone());
        not_open
    }
}

/// The pause after so many failures: doubled each time, and of random length from a half of that on, so that replicas do
/// not come all at once.
pub(super) fn pause(failures: u32) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(10));
    let longest = doubled.min(LONGEST_PAUSE);
    let random = SysRng.try_next_u32().unwrap_or(u32::MAX);
    longest.mul_f64(0.5 + 0.5 * f64::from(random) / f64::from(u32::MAX))
}

// === impl Target ===

impl Target {
    /// A connection to the master, and where it is.
    async fn connect(
        &self,
        connector: &Connector,
    ) -> RedisResult<(MultiplexedConnection, RedisAddress)> {
        match self {
            Self::Address(address) => Ok((connector.master(address).await?, address.clone())),
            Self::Master(sentinels) => sentinels.connect(connector).await,
        }
    }
}

// === impl Sentinels ===

impl Sentinels {
    /// Asks all sentinels at once, and tries what they name as the answers come: one that is dead, or knows of no failover
    /// yet, holds nobody up.
    async fn connect(
        &self,
        connector: &Connector,
    ) -> RedisResult<(MultiplexedConnection, RedisAddress)> {
        let mut failure = None;
        let mut tried = HashSet::new();
        let mut answers: FuturesUnordered<_> = self
            .addresses
            .iter()
            .map(|sentinel| self.ask(connector, sentinel))
            .collect();
        while let Some(answer) = answers.next().await {
            let attempt = match answer {
                Ok(address) if tried.insert(address.clone()) => connector
                    .master(&address)
                    .await
                    .map(|connection| (connection, address)),
                Ok(_) => continue,
                Err(error) => Err(error),
            };
            match attempt {
                Ok(found) => return Ok(found),
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.unwrap_or_else(|| (ErrorKind::EmptySentinelList, "no sentinel").into()))
    }

    /// Where one of the sentinels says that the master is; of those that answer, the first.
    pub(super) async fn master(&self, connector: &Connector) -> Option<RedisAddress> {
        let mut answers: FuturesUnordered<_> = self
            .addresses
            .iter()
            .map(|sentinel| self.ask(connector, sentinel))
            .collect();
        while let Some(answer) = answers.next().await {
            if let Ok(address) = answer {
                return Some(address);
            }
        }
        None
    }

    async fn ask(
        &self,
        connector: &Connector,
        sentinel: &RedisAddress,
    ) -> RedisResult<RedisAddress> {
        let mut connection = connector.plain(sentinel, Login::Sentinel).await?;
        let mut question = redis::cmd("SENTINEL");
        question
            .arg("GET-MASTER-ADDR-BY-NAME")
            .arg(&self.master_name);
        let asking = connection.req_packed_command(&question);
        let answer = connector.within(asking).await?;
        match redis::from_redis_value::<Option<(String, u16)>>(answer)? {
            Some((host, port)) => Ok(RedisAddress::new(host, port)),
            None => Err(RedisError::from((
                ErrorKind::MasterNameNotFoundBySentinel,
                "the sentinel knows no master of this name",
                self.master_name.clone(),
            ))),
        }
    }
}
