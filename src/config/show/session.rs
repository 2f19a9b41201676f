//! The keys of `[session]`. What has no meaning for the store is not there.

use std::path::PathBuf;

use super::value::{list, size};
use super::{Rows, Shown, keys};
use crate::config::Config;
use crate::session::{
    OnLost, RedisAddress, RedisLogin, RedisServers, RedisSettings, StoreSettings,
};

pub(super) fn keys(rows: &mut Rows<'_>, config: &Config) {
    let at = "session";
    let (mut path, mut page_cache, mut visitors, mut redis) = (None, None, None, None);
    let keys_file: Option<&PathBuf>;
    let store = match &config.store {
        StoreSettings::Memory {
            max_visitors,
            keys_file: file,
        } => {
            (visitors, keys_file) = (Some(*max_visitors), file.as_ref());
            "memory"
        }
        StoreSettings::Redb {
            path: database,
            keys_file: file,
            cache_bytes,
        } => {
            (path, keys_file) = (Some(database), file.as_ref());
            page_cache = Some(size(*cache_bytes));
            "redb"
        }
        StoreSettings::Redis {
            settings,
            keys_file: file,
        } => {
            (redis, keys_file) = (Some(&**settings), Some(file));
            "redis"
        }
    };
    rows.put(at, "store", store);
    rows.put(at, "path", path);
    rows.put(at, "keys_file", keys_file);
    rows.put(at, "page_cache", page_cache);
    rows.put(at, "max_visitors", visitors);
    let session = &config.session;
    let policy = &session.policy;
    rows.put(at, "cache_capacity", session.cache_capacity);
    rows.put(at, "expiry_margin", policy.expiry_margin);
    rows.put(at, "refresh_ahead", policy.refresh_ahead);
    rows.put(at, "max_wait", session.max_wait);
    rows.put(at, "max_flows", session.max_flows);
    rows.put(at, "max_creations", session.max_creations);
    rows.put(at, "idle_timeout", session.idle_timeout);
    let on_lost = match policy.on_lost {
        OnLost::Recreate => "recreate",
        OnLost::Anonymous => "anonymous",
    };
    rows.put(at, "on_lost", on_lost);
    rows.put(at, "max_code_age", policy.max_code_age);
    rows.put(at, "max_unconfirmed", policy.max_unconfirmed);
    rows.put(at, "unconfirmed_pause", policy.unconfirmed_pause);
    rows.put(at, "min_backoff", session.min_backoff);
    rows.put(at, "max_backoff", session.max_backoff);
    rows.put(at, "rejection_pause", session.rejection_pause);
    let replicas = policy.replicas.filter(|_| redis.is_some());
    rows.put(
        at,
        "lease_term",
        replicas.map(|replicas| replicas.lease_term),
    );
    rows.put(
        at,
        "lost_grace",
        replicas.map(|replicas| replicas.lost_grace),
    );
    let validity = replicas.map(|replicas| replicas.cache_validity);
    rows.put(at, "cache_validity", validity);
    self::redis(rows, redis);
}

fn redis(rows: &mut Rows<'_>, redis: Option<&RedisSettings>) {
    let at = "session.redis";
    let nobody = RedisLogin::default();
    let scheme = match redis.map(|redis| redis.tls.is_some()) {
        Some(true) => "rediss",
        _ => "redis",
    };
    let url = |address: &RedisAddress| format!("{scheme}://{address}");
    let all = |addresses: &[RedisAddress]| list(addresses.iter().map(url));
    let (mut one, mut several, mut master, mut sentinel) = (None, Shown::Nothing, None, &nobody);
    let mode = redis.map(|redis| match &redis.servers {
        RedisServers::Standalone(address) => {
            one = Some(url(address));
            "standalone"
        }
        RedisServers::Sentinel {
            sentinels,
            master_name,
            login,
        } => {
            (several, master, sentinel) = (all(sentinels), Some(master_name), login);
            "sentinel"
        }
        RedisServers::Cluster { seeds } => {
            several = all(seeds);
            "cluster"
        }
    });
    rows.put(at, "url", one);
    rows.put(at, "urls", several);
    rows.put(at, "mode", mode);
    rows.put(at, "master_name", master);
    let login = redis.map_or(&nobody, |redis| &redis.login);
    rows.put(at, "username", login.username.as_ref());
    rows.put_secret(at, "password", login.password.as_ref());
    rows.put(at, "sentinel_username", sentinel.username.as_ref());
    rows.put_secret(at, "sentinel_password", sentinel.password.as_ref());
    rows.put(at, "database", redis.map(|redis| redis.database));
    rows.put(at, "key_prefix", redis.map(|redis| &redis.key_prefix));
    let connect_timeout = redis.map(|redis| redis.connect_timeout);
    rows.put(at, "connect_timeout", connect_timeout);
    rows.put(at, "timeout", redis.map(|redis| redis.timeout));
    let tls = redis.and_then(|redis| redis.tls.as_ref());
    rows.put(at, "ca_file", tls.and_then(|tls| tls.ca_file.as_ref()));
    keys::client_identity(rows, at, tls.and_then(|tls| tls.client.as_ref()));
    let wait = redis.and_then(|redis| redis.wait.as_ref());
    let replicas = redis.map(|_| wait.map_or(0, |wait| wait.replicas));
    rows.put(at, "wait_replicas", replicas);
    rows.put(at, "wait_timeout", wait.map(|wait| wait.timeout));
}
