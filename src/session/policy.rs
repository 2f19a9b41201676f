//! The numbers that the session state machine decides by.

use std::path::PathBuf;
use std::time::Duration;

use super::redis_settings::RedisSettings;

/// When a token is fresh, when a code is too old, how often a lost answer may be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How long before its expiry a token counts as expired. Capped at a tenth of the token's lifetime, and never below
    /// one second, since claims are whole seconds.
    pub expiry_margin: Duration,
    /// How long before that a token is refreshed in the background. Capped at a fifth of the token's lifetime.
    pub refresh_ahead: Duration,
    /// How long a code may wait for its exchange (RFC 6749 §4.1.2 recommends ten minutes at most).
    pub max_code_age: Duration,
    /// What happens to a visitor whose refresh token the server has declared dead.
    pub on_lost: OnLost,
    /// How many authorize calls with a lost answer a visitor may have cost before no more are made for it.
    pub max_unconfirmed: u32,
    /// The pause after the first lost authorize answer; doubled by each further one.
    pub unconfirmed_pause: Duration,
    /// What other replicas on the same store mean for a flow; `None`: there are none, as the manager knows for a store that
    /// is this process's alone.
    pub replicas: Option<Replicas>,
}

/// How replicas on one store get along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replicas {
    /// How long a flow owns its visitor without saying so again. Longer than an OAuth call may take, so that even a replica
    /// that loses sight of the store in the middle of one has its answer before anybody else begins.
    pub lease_term: Duration,
    /// How long `invalid_grant` is doubted: another replica may have the successor in memory and no way to the store.
    /// Until then the visitor is anonymous, and no new profile is made.
    pub lost_grace: Duration,
    /// How long a cached token is used without asking the store, at most.
    pub cache_validity: Duration,
}

/// What happens to a visitor whose token set is lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnLost {
    /// A new profile is made; the loss is counted.
    #[default]
    Recreate,
    /// The visitor stays anonymous.
    Anonymous,
}

/// What the session manager needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The numbers of the state machine.
    pub policy: Policy,
    /// How long a request waits for a token before it goes on without one.
    pub max_wait: Duration,
    /// How many OAuth flows may run at the same time.
    pub max_flows: usize,
    /// How many of them may make profiles; the others are there for known visitors.
    pub max_creations: usize,
    /// How many visitors the in-process cache holds.
    pub cache_capacity: u64,
    /// How long a visitor session is kept after it was last written.
    pub idle_timeout: Duration,
    /// The first pause after a failed OAuth call for a visitor; doubled by each further one up to [`Settings::max_backoff`].
    pub min_backoff: Duration,
    /// The longest pause after failed OAuth calls.
    pub max_backoff: Duration,
    /// How long a refresh that a 401 or 403 asked for keeps further such refreshes of the same visitor away.
    pub rejection_pause: Duration,
}

/// Which store, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreSettings {
    /// In this process's memory: for demonstrations and tests.
    Memory {
        /// How many visitors it holds; more are refused, none is forgotten.
        max_visitors: u64,
        /// The keyring; `None`: a key that ends with the process.
        keys_file: Option<PathBuf>,
    },
    /// One file.
    Redb {
        /// The database file.
        path: PathBuf,
        /// The keyring; `None`: a key is made once beside the database.
        keys_file: Option<PathBuf>,
        /// How much memory the database's page cache may take, in bytes.
        cache_bytes: usize,
    },
    /// Redis or Valkey.
    Redis {
        /// The servers.
        settings: Box<RedisSettings>,
        /// The keyring, which all replicas must have.
        keys_file: PathBuf,
    },
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            expiry_margin: Duration::from_secs(30),
            refresh_ahead: Duration::from_secs(60),
            max_code_age: Duration::from_secs(540),
            on_lost: OnLost::Recreate,
            max_unconfirmed: 3,
            unconfirmed_pause: Duration::from_secs(30),
            replicas: Some(Replicas::default()),
        }
    }
}

impl Default for Replicas {
    fn default() -> Self {
        Self {
            lease_term: Duration::from_secs(15),
            lost_grace: Duration::from_secs(120),
            cache_validity: Duration::from_secs(10),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            policy: Policy::default(),
            max_wait: Duration::from_secs(2),
            max_flows: 64,
            max_creations: 32,
            cache_capacity: 100_000,
            idle_timeout: Duration::from_secs(400 * 24 * 3600),
            min_backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(60),
            rejection_pause: Duration::from_secs(30),
        }
    }
}
