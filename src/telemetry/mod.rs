//! What the sidecar says of itself: logs and metrics. Both take only what cannot hold a secret.

mod in_flight;
mod logs;
mod metrics;

pub use in_flight::{InFlight, Ticket};
pub use logs::{AccessLine, LogError, init_logs};
pub use metrics::{Metrics, Reading, RouteMetrics};
