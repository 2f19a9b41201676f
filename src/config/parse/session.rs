//! `[session]`: how visitor sessions live, and where they are stored.

use std::path::PathBuf;
use std::time::Duration;

use super::report::{Report, duration, key};
use super::{files, redis};
use crate::config::file;
use crate::config::values::{Bytes, OnLost as RawOnLost, StoreKind};
use crate::session::{OnLost, Policy, Replicas, Settings, StoreSettings};
use crate::visitor::CookieSettings;

/// How many visitors the memory store holds if nothing else is said: some 100 MB at most.
const MEMORY_VISITORS: u64 = 100_000;
/// The page cache of redb if nothing else is said.
const PAGE_CACHE: u64 = 64 << 20;
/// A lease is longer than the longest OAuth call by this.
const LEASE_RESERVE: Duration = Duration::from_secs(5);
/// More of anything than this is a slip of the finger.
const MANY: u64 = 1_000_000_000;

/// The settings of the sessions and of their store. `None` for a store that makes no sense.
pub(super) fn parse(
    report: &mut Report<'_>,
    mut raw: file::Session,
    cookie: &CookieSettings,
    oauth_timeout: Option<Duration>,
) -> (Settings, Option<StoreSettings>) {
    let store = store(report, &mut raw);
    let at = |name| key("session", name);
    let default = Settings::default();
    let policy = Policy {
        replicas: Some(replicas(report, &raw, oauth_timeout)),
        ..policy(report, &raw, default.policy)
    };

    let min_backoff = report.positive(&at("min_backoff"), raw.min_backoff, default.min_backoff);
    // A default that does not fit with what was typed is not a problem: it gives way.
    let longest = default.max_backoff.max(min_backoff);
    let max_backoff = report.positive(&at("max_backoff"), raw.max_backoff, longest);
    if max_backoff < min_backoff {
        let message = format!(
            "is shorter than min_backoff ({})",
            humantime::format_duration(min_backoff)
        );
        report.problem(
            &at("max_backoff"),
            message,
            "make it as long at least, or leave it out",
        );
    }
    let idle_timeout = report.positive(&at("idle_timeout"), raw.idle_timeout, default.idle_timeout);
    if idle_timeout < cookie.max_age {
        report.warning(
            &at("idle_timeout"),
            "is shorter than cookie.max_age: whoever comes back in between costs a second profile",
            "make it as long as the cookie's life",
        );
    }
    let max_flows = report.count(
        &at("max_flows"),
        raw.max_flows,
        default.max_flows as u64,
        100_000,
    );
    // One at least, and of several flows not all: known visitors need theirs.
    let most_creations = max_flows.saturating_sub(1).max(1);
    let max_creations = report.count(
        &at("max_creations"),
        raw.max_creations,
        (max_flows / 2).max(1),
        most_creations,
    );
    let settings = Settings {
        policy,
        max_wait: duration(raw.max_wait, default.max_wait),
        max_flows: usize::try_from(max_flows).unwrap_or(usize::MAX),
        max_creations: usize::try_from(max_creations).unwrap_or(usize::MAX),
        cache_capacity: report.count(
            &at("cache_capacity"),
            raw.cache_capacity,
            default.cache_capacity,
            MANY,
        ),
        idle_timeout,
        min_backoff,
        max_backoff,
        rejection_pause: report.positive(
            &at("rejection_pause"),
            raw.rejection_pause,
            default.rejection_pause,
        ),
    };
    (settings, store)
}

fn policy(report: &mut Report<'_>, raw: &file::Session, default: Policy) -> Policy {
    let at = |name| key("session", name);
    Policy {
        expiry_margin: duration(raw.expiry_margin, default.expiry_margin),
        refresh_ahead: duration(raw.refresh_ahead, default.refresh_ahead),
        max_code_age: report.positive(&at("max_code_age"), raw.max_code_age, default.max_code_age),
        on_lost: match raw.on_lost {
            None => default.on_lost,
            Some(RawOnLost::Recreate) => OnLost::Recreate,
            Some(RawOnLost::Anonymous) => OnLost::Anonymous,
        },
        max_unconfirmed: report.count(
            &at("max_unconfirmed"),
            raw.max_unconfirmed,
            default.max_unconfirmed,
            1000,
        ),
        unconfirmed_pause: report.positive(
            &at("unconfirmed_pause"),
            raw.unconfirmed_pause,
            default.unconfirmed_pause,
        ),
        replicas: default.replicas,
    }
}

fn replicas(
    report: &mut Report<'_>,
    raw: &file::Session,
    oauth_timeout: Option<Duration>,
) -> Replicas {
    let at = |name| key("session", name);
    let default = Replicas::default();
    let longest_call = oauth_timeout.unwrap_or(default.lease_term - LEASE_RESERVE);
    let lease_term = report.positive(
        &at("lease_term"),
        raw.lease_term,
        longest_call + LEASE_RESERVE,
    );
    if raw.lease_term.is_some() && lease_term < longest_call {
        report.warning(
            &at("lease_term"),
            "is shorter than dressipi.timeout: a replica that loses sight of the store during an OAuth call may be overtaken by another one",
            "make it longer than dressipi.timeout, or leave it out",
        );
    }
    Replicas {
        lease_term,
        lost_grace: duration(raw.lost_grace, default.lost_grace),
        cache_validity: report.positive(
            &at("cache_validity"),
            raw.cache_validity,
            default.cache_validity,
        ),
    }
}

fn store(report: &mut Report<'_>, raw: &mut file::Session) -> Option<StoreSettings> {
    if report.broken("session.store") {
        return None;
    }
    let kind = raw.store.unwrap_or(StoreKind::Redb);
    if !matches!(kind, StoreKind::Redis) {
        not_shared(report, raw);
    }
    match kind {
        StoreKind::Memory => Some(memory(report, raw)),
        StoreKind::Redb => redb(report, raw),
        StoreKind::Redis => redis::parse(report, raw),
    }
}

/// What is said of replicas where there can be none.
fn not_shared(report: &mut Report<'_>, raw: &file::Session) {
    let given = [
        ("lease_term", raw.lease_term.is_some()),
        ("lost_grace", raw.lost_grace.is_some()),
        ("cache_validity", raw.cache_validity.is_some()),
    ];
    for (name, _) in given.into_iter().filter(|(_, given)| *given) {
        report.problem(
            &key("session", name),
            "has no meaning for a store that no other replica uses",
            "leave it out, or set store = \"redis\"",
        );
    }
}

fn memory(report: &mut Report<'_>, raw: &mut file::Session) -> StoreSettings {
    let foreign = [
        ("path", raw.path.is_some(), "redb"),
        ("page_cache", raw.page_cache.is_some(), "redb"),
        ("redis", raw.redis.is_some(), "redis"),
    ];
    for (name, _, store) in foreign.into_iter().filter(|(_, given, _)| *given) {
        report.problem(
            &key("session", name),
            "has no meaning for the memory store",
            format!("leave it out, or set store = \"{store}\""),
        );
    }
    let path = key("session", "max_visitors");
    StoreSettings::Memory {
        max_visitors: report.count(&path, raw.max_visitors, MEMORY_VISITORS, MANY),
        keys_file: keys_file(report, raw),
    }
}

fn redb(report: &mut Report<'_>, raw: &mut file::Session) -> Option<StoreSettings> {
    let at = |name| key("session", name);
    if raw.max_visitors.is_some() {
        let hint = "leave it out: the file holds as many as the disk does";
        report.problem(
            &at("max_visitors"),
            "has no meaning for the redb store",
            hint,
        );
    }
    if raw.redis.is_some() {
        let hint = "set store = \"redis\", or leave it out";
        report.problem(&at("redis"), "has no meaning for the redb store", hint);
    }
    let Bytes(page_cache) = raw.page_cache.unwrap_or(Bytes(PAGE_CACHE));
    let cache_bytes = usize::try_from(page_cache).unwrap_or(usize::MAX);
    if page_cache == 0 {
        report.problem(
            &at("page_cache"),
            "must be more than zero",
            "leave it out for 64 MiB",
        );
    }
    let keys_file = keys_file(report, raw);
    if keys_file.is_none() && !report.broken(&at("keys_file")) {
        report.warning(
            &at("keys_file"),
            "is not given: a key is made beside the database, where whoever has one has the other",
            "keep the key apart: `dressipi-sidecar keygen` makes one",
        );
    }
    let Some(path) = raw.path.take() else {
        let hint = "where the redb store keeps its file, such as \"/var/lib/dressipi-sidecar/sessions.redb\"";
        report.missing(&at("path"), hint);
        return None;
    };
    if path.trim().is_empty() {
        report.problem(
            &at("path"),
            "is empty",
            "such as \"/var/lib/dressipi-sidecar/sessions.redb\"",
        );
    }
    let path = report.file_path(&path);
    if keys_file.as_ref() == Some(&path) {
        report.problem(
            &at("path"),
            "is the same file as keys_file",
            "give the keys a file of their own",
        );
    }
    Some(StoreSettings::Redb {
        path,
        keys_file,
        cache_bytes,
    })
}

fn keys_file(report: &mut Report<'_>, raw: &mut file::Session) -> Option<PathBuf> {
    let file = raw.keys_file.take()?;
    // Only whether it is there: the keyring judges what is in it.
    files::read_secret(report, &key("session", "keys_file"), &file);
    Some(report.file_path(&file))
}
