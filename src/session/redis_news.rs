//! News of the other replicas: one subscription for each store, made anew whenever it breaks, for ever.
//!
//! Publishing promises nothing, so a gap is told after each new subscription; whoever hears of one looks at the store again.
//! Silence is no sign of health: the connection is pinged, and where the servers have changed parts meanwhile it moves.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use redis::RedisResult;
use redis::aio::PubSub;
use tokio::sync::{broadcast, oneshot};
use tokio::task::JoinHandle;

use super::redis_connect::Connector;
use super::redis_keys::{self, Sender};
use super::redis_line::pause;
use super::redis_link::Link;
use super::redis_settings::RedisAddress;
use super::store::News;

/// How many news a receiver may be behind before it has missed some.
const BEHIND: usize = 4096;
/// How often a subscription is looked after.
const LOOK: Duration = Duration::from_secs(5);

/// The subscription of one store.
pub(super) struct Subscription {
    news: broadcast::Sender<News>,
    task: JoinHandle<()>,
}

struct Subscriber {
    link: Arc<Link>,
    connector: Arc<Connector>,
    channel: String,
    own: Sender,
    news: broadcast::Sender<News>,
    /// Told once, when the first subscription is there or why there is none.
    first: Option<oneshot::Sender<RedisResult<()>>>,
}

// === impl Subscription ===

impl Subscription {
    /// Subscribes; what comes of the first attempt is told, and whatever it is, there will be more.
    pub(super) async fn begin(
        link: Arc<Link>,
        connector: Arc<Connector>,
        channel: String,
        own: Sender,
    ) -> (Self, RedisResult<()>) {
        let (news, _) = broadcast::channel(BEHIND);
        let (first, told) = oneshot::channel();
        let subscriber = Subscriber {
            link,
            connector,
            channel,
            own,
            news: news.clone(),
            first: Some(first),
        };
        let task = tokio::spawn(subscriber.run());
        let subscription = Self { news, task };
        // The task tells before it can end.
        (subscription, told.await.unwrap_or(Ok(())))
    }

    pub(super) fn receiver(&self) -> broadcast::Receiver<News> {
        self.news.subscribe()
    }

    pub(super) fn end(&self) {
        self.task.abort();
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.end();
    }
}

// === impl Subscriber ===

impl Subscriber {
    async fn run(mut self) {
        let mut failures = 0;
        loop {
            // In a cluster, replicas spread over the masters, and whoever fails tries the next.
            let turn = u32::from(self.own[0]) + failures;
            match self.subscribe(turn).await {
                Ok((address, subscriber)) => {
                    failures = 0;
                    self.tell_first(Ok(()));
                    // Nobody may be listening.
                    let _ = self.news.send(News::Gap);
                    self.hear(&address, subscriber).await;
                    tracing::debug!(%address, "the subscription to news has ended");
                }
                Err(error) => {
                    failures += 1;
                    // It may be down, and another one the master.
                    self.link.nodes.suspect();
                    if failures == 1 {
                        tracing::warn!(%error, "no news of other replicas; trying again");
                    }
                    self.tell_first(Err(error));
                }
            }
            tokio::time::sleep(pause(failures.max(1))).await;
        }
    }

    fn tell_first(&mut self, outcome: RedisResult<()>) {
        if let Some(first) = self.first.take() {
            let _ = first.send(outcome);
        }
    }

    async fn subscribe(&self, turn: u32) -> RedisResult<(RedisAddress, PubSub)> {
        let nowhere = || {
            let error = (redis::ErrorKind::Io, "no server is known");
            redis::RedisError::from(error)
        };
        let address = self.link.nodes.hearing(turn).await.ok_or_else(nowhere)?;
        let subscriber = self.connector.subscriber(&address, &self.channel).await?;
        Ok((address, subscriber))
    }

    /// Passes news on until the connection breaks or leads to the wrong place.
    async fn hear(&self, address: &RedisAddress, subscriber: PubSub) {
        let (mut pinger, mut messages) = subscriber.split();
        let mut look = tokio::time::interval_at(tokio::time::Instant::now() + LOOK, LOOK);
        loop {
            tokio::select! {
                message = messages.next() => {
                    let Some(message) = message else { return };
                    if let Some(news) = redis_keys::heard(message.get_payload_bytes(), &self.own) {
                        let _ = self.news.send(news);
                    }
                }
                _ = look.tick() => {
                    let ping = self.connector.within(pinger.ping::<redis::Value>());
                    // What comes while we look waits in its channel.
                    if ping.await.is_err() || !self.link.nodes.still_hearing(address).await {
                        return;
                    }
                }
            }
        }
    }
}
