//! What the sidecar says of itself: logs, metrics and traces. All take only what cannot hold a secret.

mod access;
mod access_line;
mod exemplars;
mod history;
mod in_flight;
mod lines;
mod logs;
mod metrics;
mod openmetrics;
mod requests;
mod shards;
mod totals;
mod traces;
mod witness;

pub use access::{AccessLog, AccessLogGuard};
pub use access_line::AccessLine;
pub use history::{History, LOOK_INTERVAL, SPAN, Step};
pub use in_flight::{InFlight, Lane, Ticket};
pub use logs::{LogError, init_logs, log_filter, log_level, set_log_level};
pub use metrics::{Exposition, Metrics, Reading, RouteMetrics};
pub use totals::{Answered, Totals};
pub use traces::{Kind, Span, Tracer, Traces, TracesError, Value, child_of, method, name};
pub use witness::Witness;
