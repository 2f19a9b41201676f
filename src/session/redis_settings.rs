//! Where Redis is, and how it is spoken to: what the configuration comes to for [`RedisStore`](super::RedisStore).

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::secret::Secret;
use crate::tls::ClientIdentity;

/// Everything that the Redis store needs to know. Its `Debug` shows no password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisSettings {
    /// Which servers, and what they are to each other.
    pub servers: RedisServers,
    /// TLS, to every server and sentinel; `None`: plain TCP.
    pub tls: Option<RedisTls>,
    /// Who we are, to the servers.
    pub login: RedisLogin,
    /// The number of the database; 0 in a cluster.
    pub database: u32,
    /// What the name of every key and channel begins with. Holds neither `{` nor `}`.
    pub key_prefix: String,
    /// How long connecting may take, TLS and login included.
    pub connect_timeout: Duration,
    /// How long one call of the store may take in all, retries included.
    pub timeout: Duration,
    /// Whether a write must have reached replicas before it counts.
    pub wait: Option<RedisWait>,
}

/// The servers, and what they are to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisServers {
    /// One server.
    Standalone(RedisAddress),
    /// One master among replicas; sentinels know which it is.
    Sentinel {
        /// The sentinels. One that answers is enough.
        sentinels: Vec<RedisAddress>,
        /// What the sentinels call the master.
        master_name: String,
        /// Who we are, to the sentinels.
        login: RedisLogin,
    },
    /// Several masters, each with a part of the keys.
    Cluster {
        /// Some of the servers. One that answers is enough; it tells the others.
        seeds: Vec<RedisAddress>,
    },
}

/// Where a server or a sentinel listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RedisAddress {
    /// A name or an IP address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// A user and a password.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedisLogin {
    /// The ACL user; `None`: the one called `default`.
    pub username: Option<String>,
    /// The password; `None`: nobody logs in.
    pub password: Option<Secret>,
}

/// Whom we trust, and as whom we come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedisTls {
    /// A PEM bundle of certificate authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Our certificate, for servers that ask for one.
    pub client: Option<ClientIdentity>,
}

/// How far a write must have got before it counts: the `WAIT` command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RedisWait {
    /// How many replicas must have it.
    pub replicas: u32,
    /// How long they may take. Shorter than the time-out of a call.
    pub timeout: Duration,
}

// === impl RedisAddress ===

impl RedisAddress {
    /// An address.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        let host = host.into();
        Self { host, port }
    }

    /// Of `host:port`, as a cluster names its servers; an empty host is that of `asked`, as Redis has it.
    pub(super) fn of_answer(text: &str, asked: &RedisAddress) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let host = if host.is_empty() { &asked.host } else { host };
        Some(Self::new(host, port.parse().ok()?))
    }
}

impl fmt::Display for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

// === impl RedisServers ===

impl fmt::Display for RedisServers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |addresses: &[RedisAddress]| {
            let addresses = addresses.iter().map(RedisAddress::to_string);
            addresses.collect::<Vec<_>>().join(", ")
        };
        match self {
            Self::Standalone(address) => write!(f, "the Redis server {address}"),
            Self::Sentinel {
                sentinels,
                master_name,
                ..
            } => write!(
                f,
                "the Redis master {master_name:?} of the sentinels {}",
                list(sentinels)
            ),
            Self::Cluster { seeds } => write!(f, "the Redis cluster of {}", list(seeds)),
        }
    }
}

// === impl RedisSettings ===

impl RedisSettings {
    /// The defaults, for these servers.
    pub fn new(servers: RedisServers) -> Self {
        Self {
            servers,
            tls: None,
            login: RedisLogin::default(),
            database: 0,
            key_prefix: "dressipi-sidecar:".to_owned(),
            connect_timeout: Duration::from_secs(1),
            timeout: Duration::from_millis(500),
            wait: None,
        }
    }
}
