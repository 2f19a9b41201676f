//! Asks Redis: sends requests to the servers that have their buckets, and again where that helps, within one bound.
//!
//! What helps is decided in `redis_outcome.rs`. Silence is an error at once: whoever was silent for the whole bound has used it
//! up. Requests that go to one server go together.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::join_all;
use parking_lot::Mutex;
use redis::aio::ConnectionLike;
use redis::{Pipeline, ServerErrorKind, Value};
use tokio::sync::RwLock;
use tokio::time::Instant;

use super::redis_line::pause;
use super::redis_nodes::{Node, Nodes};
use super::redis_outcome::{Answer, Failure, Outcome, judge_answer, judge_connection};
use super::redis_scripts::{Naming, Request};
use super::redis_settings::{RedisAddress, RedisWait};
use super::store::StoreError;

/// How often a request follows a redirection at once; after that it pauses before each further one.
const REDIRECTIONS: u32 = 4;
/// What is left to the answer when replicas have been waited for.
const ANSWER_TIME: Duration = Duration::from_millis(20);
/// After replicas were waited for in vain, nobody waits for them again so soon, but with a write.
const UNCONFIRMED_PAUSE: Duration = Duration::from_millis(500);

/// The way to Redis.
pub(super) struct Link {
    pub(super) nodes: Nodes,
    timeout: Duration,
    wait: Option<RedisWait>,
    round_trips: AtomicU64,
    /// When replicas were waited for in vain the last time, and how many there were.
    unconfirmed: Mutex<Option<(Instant, i64)>>,
    /// Read by every call, written by [`Link::close`], which so waits for all that was begun.
    open: RwLock<bool>,
}

/// Whether a request's effect must have reached replicas before it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Confirm {
    No,
    /// As far as the settings ask for it.
    Yes,
}

/// Where a request stands.
#[derive(Default)]
struct Progress {
    naming: Naming,
    asking: Option<RedisAddress>,
    answer: Option<Answer>,
}

// === impl Link ===

impl Link {
    pub(super) fn new(nodes: Nodes, timeout: Duration, wait: Option<RedisWait>) -> Self {
        Self {
            nodes,
            timeout,
            wait,
            round_trips: AtomicU64::new(0),
            unconfirmed: Mutex::new(None),
            open: RwLock::new(true),
        }
    }

    /// Exchanges of requests and answers so far, the repeated ones included; what goes to a server together counts once.
    pub(super) fn round_trips(&self) -> u64 {
        self.round_trips.load(Ordering::Relaxed)
    }

    /// Lets what was begun come to its end, and lets go of the connections.
    pub(super) async fn close(&self) {
        *self.open.write().await = false;
        self.nodes.hang_up();
    }

    /// One request.
    pub(super) async fn one(
        &self,
        operation: &'static str,
        request: Request,
        confirm: Confirm,
    ) -> Result<Answer, StoreError> {
        let answers = self.all(operation, vec![request], confirm).await?;
        let answer = answers.into_iter().next();
        answer.ok_or_else(|| self.error(operation, Failure::Nonsense("there is none")))
    }

    /// Several requests, in one round trip to each server that has some of them. Answers in their order.
    pub(super) async fn all(
        &self,
        operation: &'static str,
        requests: Vec<Request>,
        confirm: Confirm,
    ) -> Result<Vec<Answer>, StoreError> {
        let open = self.open.read().await;
        if !*open {
            return Err(StoreError::Closed);
        }
        let deadline = Instant::now() + self.timeout;
        let answers = self.ask(&requests, confirm, deadline).await;
        answers.map_err(|failure| self.error(operation, failure))
    }

    /// One bucket of each master.
    pub(super) async fn representatives(&self) -> Result<Vec<u8>, StoreError> {
        if !*self.open.read().await {
            return Err(StoreError::Closed);
        }
        let buckets = tokio::time::timeout(self.timeout, self.nodes.representatives()).await;
        let buckets = buckets.map_err(|_| StoreError::TimedOut(self.timeout))?;
        buckets.map_err(|error| self.error("check", error.into()))
    }

    /// The error for an answer that was not good enough: too few replicas have what was written.
    pub(super) fn confirmed(
        &self,
        operation: &'static str,
        answer: &Answer,
    ) -> Result<(), StoreError> {
        match (self.wait, answer.replicas) {
            (Some(RedisWait { replicas, .. }), Some(confirmed)) if confirmed < replicas.into() => {
                *self.unconfirmed.lock() = Some((Instant::now(), confirmed));
                Err(StoreError::Unconfirmed {
                    operation,
                    confirmed,
                    wanted: replicas,
                })
            }
            _ => Ok(()),
        }
    }

    /// Whether it is worth the wait to ask for a confirmation of what can be done later as well: not when there was none a moment ago.
    pub(super) fn may_be_confirmed(&self, operation: &'static str) -> Result<(), StoreError> {
        let unconfirmed = *self.unconfirmed.lock();
        match (self.wait, unconfirmed) {
            (Some(RedisWait { replicas, .. }), Some((at, confirmed)))
                if at.elapsed() < UNCONFIRMED_PAUSE =>
            {
                Err(StoreError::Unconfirmed {
                    operation,
                    confirmed,
                    wanted: replicas,
                })
            }
            _ => Ok(()),
        }
    }

    pub(super) fn error(&self, operation: &'static str, failure: Failure) -> StoreError {
        match failure {
            Failure::Silent => StoreError::TimedOut(self.timeout),
            failure => StoreError::Unavailable {
                operation,
                source: Box::new(failure),
            },
        }
    }

    async fn ask(
        &self,
        requests: &[Request],
        confirm: Confirm,
        deadline: Instant,
    ) -> Result<Vec<Answer>, Failure> {
        let mut progress: Vec<_> = requests.iter().map(|_| Progress::default()).collect();
        let mut attempt = 0;
        loop {
            attempt += 1;
            let (mut failure, mut at_once) = (None, attempt <= REDIRECTIONS);
            for (index, outcome) in self.attempt(requests, &progress, confirm, deadline).await {
                let progress = &mut progress[index];
                progress.asking = None;
                failure = match outcome {
                    Outcome::Answered(answer) => {
                        progress.answer = Some(answer);
                        continue;
                    }
                    Outcome::Text(error) => {
                        progress.naming = Naming::Text;
                        Some(error)
                    }
                    Outcome::Moved(address, error) => {
                        self.nodes.moved(requests[index].bucket, address);
                        Some(error)
                    }
                    Outcome::Ask(address, error) => {
                        progress.asking = Some(address);
                        Some(error)
                    }
                    Outcome::Again(error) => {
                        at_once = false;
                        Some(error)
                    }
                    Outcome::Failed(failure) => return Err(failure),
                };
            }
            let Some(failure) = failure else {
                let answers: Option<_> = progress.into_iter().map(|done| done.answer).collect();
                return answers.ok_or(Failure::Nonsense("some are missing"));
            };
            if at_once {
                continue;
            }
            let next = Instant::now() + pause(attempt).min(Duration::from_millis(100));
            if next >= deadline {
                return Err(failure.into());
            }
            tracing::debug!(error = %failure, attempt, "Redis is asked again");
            tokio::time::sleep_until(next).await;
        }
    }

    /// Sends what has no answer yet, to each server what is its own.
    async fn attempt(
        &self,
        requests: &[Request],
        progress: &[Progress],
        confirm: Confirm,
        deadline: Instant,
    ) -> Vec<(usize, Outcome)> {
        let mut outcomes = Vec::new();
        let mut groups: HashMap<(usize, bool), (Arc<Node>, Vec<usize>)> = HashMap::new();
        let open = progress.iter().enumerate();
        for (index, progress) in open.filter(|(_, progress)| progress.answer.is_none()) {
            let node = match &progress.asking {
                Some(address) => Ok(self.nodes.at(address)),
                None => {
                    let finding = self.nodes.of(requests[index].bucket);
                    let found = tokio::time::timeout_at(deadline, finding).await;
                    found.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()))
                }
            };
            match node {
                Ok(node) => {
                    let group = (Arc::as_ptr(&node).addr(), progress.asking.is_some());
                    let (_, members) = groups.entry(group).or_insert((node, Vec::new()));
                    members.push(index);
                }
                Err(error) => outcomes.push((index, judge_connection(error))),
            }
        }
        let exchanges = groups
            .into_iter()
            .map(|((_, asking), (node, members))| async move {
                let mut pipeline = Pipeline::with_capacity(2 * members.len());
                for index in &members {
                    if asking {
                        pipeline.cmd("ASKING");
                    }
                    pipeline.add_command(requests[*index].to_command(progress[*index].naming));
                }
                let answers = self.exchange(&node, pipeline, confirm, deadline).await;
                self.distribute(members, asking, answers)
            });
        outcomes.extend(join_all(exchanges).await.into_iter().flatten());
        outcomes
    }

    /// One round trip.
    async fn exchange(
        &self,
        node: &Node,
        mut pipeline: Pipeline,
        confirm: Confirm,
        deadline: Instant,
    ) -> Result<Exchanged, Outcome> {
        let wait = self.wait.filter(|_| confirm == Confirm::Yes);
        let line = node.line(wait.is_some());
        let opening = tokio::time::timeout_at(deadline, line.open()).await;
        let mut open = match opening {
            Ok(Ok(open)) => open,
            Ok(Err(not_open)) => {
                self.nodes.suspect();
                // Not worth a pause if there will be no attempt in time, and nobody else to ask.
                let hopeless = not_open.next >= deadline && self.nodes.is_one();
                return Err(match judge_connection(not_open.error) {
                    Outcome::Again(error) if hopeless => Outcome::Failed(error.into()),
                    outcome => outcome,
                });
            }
            Err(_) => {
                self.nodes.suspect();
                return Err(Outcome::Failed(Failure::Silent));
            }
        };
        if let Some(wait) = wait {
            let left = deadline.saturating_duration_since(Instant::now() + ANSWER_TIME);
            let millis = wait.timeout.min(left).as_millis().max(1);
            let millis = u64::try_from(millis).unwrap_or(u64::MAX);
            pipeline.cmd("WAIT").arg(wait.replicas).arg(millis);
        }
        self.round_trips.fetch_add(1, Ordering::Relaxed);
        let asking = open
            .connection
            .req_packed_commands(&pipeline, 0, pipeline.len());
        let answers = tokio::time::timeout_at(deadline, asking).await;
        match answers {
            Ok(Ok(mut values)) => {
                let demoted = |value: &Value| matches!(value, Value::ServerError(error) if error.kind() == Some(ServerErrorKind::ReadOnly));
                if values.iter().any(demoted) {
                    line.discard(&open);
                    self.nodes.suspect();
                }
                let replicas = wait.map(|_| match values.pop() {
                    Some(Value::Int(replicas)) => replicas,
                    _ => 0,
                });
                let address = open.address;
                Ok(Exchanged {
                    values,
                    replicas,
                    address,
                })
            }
            Ok(Err(error)) => {
                line.discard(&open);
                self.nodes.suspect();
                Err(judge_connection(error))
            }
            Err(_) => {
                line.discard(&open);
                self.nodes.suspect();
                Err(Outcome::Failed(Failure::Silent))
            }
        }
    }

    fn distribute(
        &self,
        members: Vec<usize>,
        asking: bool,
        answers: Result<Exchanged, Outcome>,
    ) -> Vec<(usize, Outcome)> {
        let exchanged = match answers {
            Ok(exchanged) => exchanged,
            // What befell the connection befell them all; one word of it is enough where it is the end.
            Err(Outcome::Again(error)) => {
                let again = members.into_iter();
                return again
                    .map(|index| (index, Outcome::Again(error.clone())))
                    .collect();
            }
            Err(outcome) => {
                return members
                    .first()
                    .map(|index| (*index, outcome))
                    .into_iter()
                    .collect();
            }
        };
        let step = if asking { 2 } else { 1 };
        let values = exchanged.values.into_iter().skip(step - 1).step_by(step);
        let outcome = |value| match value {
            Value::ServerError(error) => judge_answer(error.into(), &exchanged.address),
            value => Outcome::Answered(Answer {
                value,
                replicas: exchanged.replicas,
            }),
        };
        members.into_iter().zip(values.map(outcome)).collect()
    }
}

/// What came of one round trip.
struct Exchanged {
    values: Vec<Value>,
    replicas: Option<i64>,
    address: RedisAddress,
}
