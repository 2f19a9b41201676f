//! The one place that reads the wall clock.
//!
//! Everything that decides by time takes a [`Timestamp`] as a value; only the edges ask a [`Clock`]. Times count from the
//! epoch, because expiries are stored and must mean the same after a restart; but they pass as monotonic time does, because
//! wall clocks jump.

use std::fmt;
use std::ops::{Add, Sub};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

/// A source of the current time: one method to implement, so that tests can hold time still.
pub trait Clock: Send + Sync + 'static {
    /// The current time.
    fn now(&self) -> Timestamp;

    /// The time at `instant`, which was now a moment ago: for those who need both, and look at the system's clock once.
    fn at(&self, _instant: Instant) -> Timestamp {
        self.now()
    }
}

/// The operating system's wall clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

/// A clock that runs evenly: the operating system's monotonic clock, on a base that is set now and then. A wall clock that
/// is put back would make ended tokens look alive; this one is not put back with it.
#[derive(Debug)]
pub struct SteadyClock {
    origin: Instant,
    /// The time at `origin`, in milliseconds since the Unix epoch.
    base: AtomicU64,
}

/// A clock that moves only when told to.
#[derive(Debug)]
pub struct ManualClock(AtomicU64);

// === impl Timestamp ===

impl Timestamp {
    /// A time from milliseconds since the Unix epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// A time from whole seconds since the Unix epoch, as JWT claims give it (RFC 7519 §2, NumericDate).
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1000))
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down.
    pub const fn as_secs(self) -> u64 {
        self.0 / 1000
    }

    /// How long ago `earlier` was; zero if it lies in the future.
    pub const fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Timestamp;
    fn add(self, duration: Duration) -> Timestamp {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Timestamp(self.0.saturating_add(millis))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Timestamp;
    fn sub(self, duration: Duration) -> Timestamp {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Timestamp(self.0.saturating_sub(millis))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}s", self.0 / 1000, self.0 % 1000)
    }
}

// === impl SystemClock ===

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is the clock")]
    fn now(&self) -> Timestamp {
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
    }
}

/// The time on the wall clock since 1970, to the nanosecond: for what other machines compare with theirs, and nobody decides by.
#[allow(clippy::disallowed_methods, reason = "this is the clock")]
pub fn unix_time() -> Duration {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    since_epoch.unwrap_or_default()
}

// === impl SteadyClock ===

impl SteadyClock {
    /// A clock that shows `now`, now.
    pub fn new(now: Timestamp) -> Self {
        Self {
            origin: Instant::now(),
            base: AtomicU64::new(now.0),
        }
    }

    /// Sets the clock, forward or back: for a source that all who share a store go by.
    pub fn set(&self, now: Timestamp) {
        self.base.store(self.base_for(now), Ordering::Relaxed);
    }

    /// Sets the clock if that puts it forward: a token then ends too early, which costs a refresh and nothing else.
    pub fn advance_to(&self, now: Timestamp) {
        self.base.fetch_max(self.base_for(now), Ordering::Relaxed);
    }

    fn base_for(&self, now: Timestamp) -> u64 {
        now.0.saturating_sub(self.elapsed())
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Clock for SteadyClock {
    fn now(&self) -> Timestamp {
        self.at(Instant::now())
    }

    fn at(&self, instant: Instant) -> Timestamp {
        let elapsed = instant.saturating_duration_since(self.origin).as_millis();
        let elapsed = u64::try_from(elapsed).unwrap_or(u64::MAX);
        Timestamp(self.base.load(Ordering::Relaxed).saturating_add(elapsed))
    }
}

// === impl ManualClock ===

impl ManualClock {
    /// A clock that shows `now`.
    pub fn new(now: Timestamp) -> Self {
        Self(AtomicU64::new(now.0))
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        let millis = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.0.fetch_add(millis, Ordering::SeqCst);
    }

    /// Sets the clock, forward or back.
    pub fn set(&self, now: Timestamp) {
        self.0.store(now.0, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

impl<C: Clock> Clock for std::sync::Arc<C> {
    fn now(&self) -> Timestamp {
        (**self).now()
    }

    fn at(&self, instant: Instant) -> Timestamp {
        (**self).at(instant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_clock_goes_forward_with_the_wall_clock_and_not_back() {
        let start = Timestamp::from_secs(1_800_000_000);
        let clock = SteadyClock::new(start);
        clock.advance_to(start - Duration::from_secs(300));
        assert!(clock.now() >= start);
        clock.advance_to(start + Duration::from_secs(300));
        assert!(clock.now() >= start + Duration::from_secs(300));
    }

    #[test]
    fn a_steady_clock_tells_the_time_at_an_instant() {
        let clock = SteadyClock::new(Timestamp::from_secs(1_800_000_000));
        let instant = Instant::now();
        let later = clock.at(instant + Duration::from_secs(7));
        assert_eq!(later.since(clock.at(instant)), Duration::from_secs(7));
        assert!(clock.at(instant) <= clock.now());
    }

    #[test]
    fn a_steady_clock_can_be_set_by_a_common_source() {
        let start = Timestamp::from_secs(1_800_000_000);
        let clock = SteadyClock::new(start);
        clock.set(start - Duration::from_secs(300));
        assert!(clock.now() < start - Duration::from_secs(200));
    }
}
