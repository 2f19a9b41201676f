//! The simulator's only view of time: a function that tells Unix milliseconds.
//!
//! Everything else receives `now_ms` as a value, so tests can hold time still or make it leap.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Tells the time as milliseconds since the Unix epoch.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The machine's own clock.
#[allow(
    clippy::disallowed_methods,
    reason = "the one place where the simulator reads the time"
)]
pub fn system_clock() -> Clock {
    Arc::new(|| {
        // A machine whose clock stands before 1970 is at the epoch, as far as the simulator is concerned.
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
