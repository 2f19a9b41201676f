//! Opening a store in Redis: a few tries, then a clear end; and a look at what would make Redis forget.
//!
//! A process does not start on a Redis that cannot be reached. The key that tells visitors apart lies in it: without it nothing
//! can be served but anonymous calls, and an orchestrator should see that at once.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rand::TryRng;
use rand::rngs::SysRng;
use redis::{ErrorKind, ServerErrorKind};
use tokio::time::Instant;

use super::redis_connect::{Connector, TlsFileError};
use super::redis_keys::{Keys, Sender};
use super::redis_line::pause;
use super::redis_link::{Confirm, Link};
use super::redis_news::Subscription;
use super::redis_nodes::Nodes;
use super::redis_outcome::Failure;
use super::redis_scripts::Request;
use super::redis_settings::RedisSettings;
use super::redis_store::RedisStore;
use super::store::{Store, StoreError};

/// How long a start tries to reach Redis.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a store in Redis cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenRedisError {
    /// Certificates or keys.
    #[error("TLS to Redis cannot be set up: {0}")]
    Tls(#[from] TlsFileError),
    /// It cannot be reached, or it refuses.
    #[error("{servers} cannot be used: {source}")]
    Unusable {
        /// Which.
        servers: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl RedisStore {
    /// Connects, and finds out whether reads, writes and news work. Tries for ten seconds, unless it is refused.
    pub async fn open(settings: &RedisSettings) -> Result<Self, OpenRedisError> {
        Self::open_within(settings, PATIENCE).await
    }

    /// The same with another patience.
    pub async fn open_within(
        settings: &RedisSettings,
        patience: Duration,
    ) -> Result<Self, OpenRedisError> {
        let unusable = |source| OpenRedisError::Unusable {
            servers: settings.servers.to_string(),
            source,
        };
        let deadline = Instant::now() + patience;
        let connector = Arc::new(Connector::new(settings)?);
        let mut sender = Sender::default();
        SysRng
            .try_fill_bytes(&mut sender)
            .map_err(|error| unusable(Box::new(error)))?;
        let nodes = Nodes::new(
            &settings.servers,
            connector.clone(),
            settings.wait.is_some(),
        );
        let link = Arc::new(Link::new(nodes, settings.timeout, settings.wait));
        let keys = Keys::new(&settings.key_prefix);
        let mut failures = 0;
        loop {
            let begun =
                Subscription::begin(link.clone(), connector.clone(), keys.channel(), sender);
            let (subscription, heard) = begun.await;
            let store = Self {
                link: link.clone(),
                keys: keys.clone(),
                sender,
                subscription,
            };
            let checked = match heard {
                Ok(()) => store.check().await.map_err(failure),
                Err(error) => Err(Failure::Redis(error)),
            };
            let error = match checked {
                Ok(()) => {
                    store.warn_of_forgetting().await;
                    return Ok(store);
                }
                Err(error) => error,
            };
            failures += 1;
            let next = Instant::now() + pause(failures);
            if next >= deadline || is_refusal(&error) {
                return Err(unusable(Box::new(error)));
            }
            tracing::info!(%error, "waiting for {}", settings.servers);
            tokio::time::sleep_until(next).await;
        }
    }

    /// Warns of settings with which Redis forgets visitors. Says nothing where it may not look.
    async fn warn_of_forgetting(&self) {
        let Ok(buckets) = self.link.representatives().await else {
            return;
        };
        for bucket in buckets {
            let ask = async |name: &str, args: &[&str]| {
                let request = Request::command(bucket, name, args);
                let answer = self.link.one("look", request, Confirm::No).await.ok()?;
                redis::from_redis_value::<String>(answer.value).ok()
            };
            let memory = ask("INFO", &["memory"]).await.unwrap_or_default();
            if let Some(policy) = field(&memory, "maxmemory_policy")
                && policy != "noeviction"
            {
                tracing::warn!(
                    policy,
                    "Redis may evict visitors when its memory is full, and each of them costs a second profile: set maxmemory-policy noeviction"
                );
            }
            let persistence = ask("INFO", &["persistence"]).await.unwrap_or_default();
            if field(&persistence, "aof_enabled") == Some("0") {
                tracing::warn!(
                    "Redis keeps no append-only file: a restart loses at least what was written last; set appendonly yes"
                );
            }
        }
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("keys", &self.keys)
            .field("round_trips", &self.round_trips())
            .finish_non_exhaustive()
    }
}

/// What Redis said, without what the store would say about it.
fn failure(error: StoreError) -> Failure {
    match error {
        StoreError::Unavailable { source, .. } => match source.downcast() {
            Ok(failure) => *failure,
            Err(_) => Failure::Nonsense("an error was expected"),
        },
        StoreError::Unconfirmed {
            confirmed, wanted, ..
        } => Failure::Unconfirmed { confirmed, wanted },
        _ => Failure::Silent,
    }
}

/// Whether trying again would only be refused again.
fn is_refusal(failure: &Failure) -> bool {
    let Failure::Redis(error) = failure else {
        return false;
    };
    matches!(
        error.kind(),
        ErrorKind::AuthenticationFailed | ErrorKind::Server(ServerErrorKind::NoPerm)
    ) || matches!(error.code(), Some("NOAUTH" | "WRONGPASS"))
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    let fields = info
        .lines()
        .filter_map(|line| line.trim_end().split_once(':'));
    fields
        .filter(|(field, _)| *field == name)
        .map(|(_, value)| value)
        .next()
}
