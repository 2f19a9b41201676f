//! After a failed OAuth call a visitor waits before the next one: longer each time, never in step with others.

use std::time::Duration;

use rand::RngExt;

use super::policy::Settings;
use crate::clock::Timestamp;
use crate::visitor::VisitorKey;

/// Who has to wait, and until when. Bounded; whoever is forgotten merely waits no longer.
pub(super) struct BackOffs(moka::sync::Cache<VisitorKey, BackOff>);

#[derive(Clone, Copy)]
struct BackOff {
    failures: u32,
    until: Timestamp,
}

impl BackOffs {
    pub(super) fn new(settings: &Settings) -> Self {
        let cache = moka::sync::Cache::builder()
            .max_capacity(settings.cache_capacity)
            .time_to_live(
                settings
                    .max_backoff
                    .saturating_mul(4)
                    .max(Duration::from_secs(60)),
            )
            .build();
        Self(cache)
    }

    /// Whether the visitor has to wait still.
    pub(super) fn holds(&self, key: &VisitorKey, now: Timestamp) -> bool {
        self.until(key, now).is_some()
    }

    /// Until when the visitor has to wait, if it does.
    pub(super) fn until(&self, key: &VisitorKey, now: Timestamp) -> Option<Timestamp> {
        let until = self.0.get(key)?.until;
        (now < until).then_some(until)
    }

    /// Another failure, and what the server asked for.
    pub(super) fn failed(
        &self,
        key: &VisitorKey,
        retry_after: Option<Duration>,
        now: Timestamp,
        settings: &Settings,
    ) {
        let failures = self.0.get(key).map_or(0, |back_off| back_off.failures);
        let pause = pause(
            failures,
            retry_after,
            rand::rng().random_range(0.5..1.0),
            settings,
        );
        let next = BackOff {
            failures: failures.saturating_add(1),
            until: now + pause,
        };
        self.0.insert(*key, next);
    }

    pub(super) fn clear(&self, key: &VisitorKey) {
        if self.0.contains_key(key) {
            self.0.invalidate(key);
        }
    }
}

/// Doubles with each failure up to the limit, times `jitter`; never less than the server asked for, as far as that is
/// within the limit.
fn pause(
    failures: u32,
    retry_after: Option<Duration>,
    jitter: f64,
    settings: &Settings,
) -> Duration {
    let doubled = settings.min_backoff.saturating_mul(1 << failures.min(20));
    let jittered = doubled.min(settings.max_backoff).mul_f64(jitter);
    jittered.max(retry_after.unwrap_or_default().min(settings.max_backoff))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_limit_and_heed_retry_after() {
        let settings = Settings::default();
        let seconds = |failures, retry_after: Option<u64>| {
            pause(
                failures,
                retry_after.map(Duration::from_secs),
                1.0,
                &settings,
            )
            .as_secs()
        };
        assert_eq!([0, 1, 2, 3, 30].map(|n| seconds(n, None)), [1, 2, 4, 8, 60]);
        assert_eq!(seconds(0, Some(7)), 7);
        assert_eq!(seconds(0, Some(86400)), 60);
    }
}
