//! What the sidecar says of itself: logs and metrics. Both take only what cannot hold a secret.

mod logs;
mod metrics;

pub use logs::{AccessLine, LogError, init_logs};
pub use metrics::{Metrics, Reading, RouteMetrics};
