//! What the sidecar says of itself: logs and metrics. Both take only what cannot hold a secret.

mod access;
mod history;
mod in_flight;
mod logs;
mod metrics;
mod totals;

pub use access::{AccessLine, AccessLog, AccessLogGuard};
pub use history::{History, LOOK_INTERVAL, SPAN, Step};
pub use in_flight::{InFlight, Ticket};
pub use logs::{LogError, init_logs, log_filter, set_log_level};
pub use metrics::{Metrics, Reading, RouteMetrics};
pub use totals::{Answered, Totals};
