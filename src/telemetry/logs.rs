//! Structured logs: text for people, JSON for machines. Secrets cannot get in, since their types print nothing; query
//! strings and headers are never logged.

use std::io::IsTerminal;
use std::sync::OnceLock;

use parking_lot::Mutex;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{Directive, ParseError};
use tracing_subscriber::fmt::SubscriberBuilder;
use tracing_subscriber::fmt::format::{DefaultFields, Format, Full, Json, JsonFields};
use tracing_subscriber::reload;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use super::lines::{LineTime, LineWriter};
use crate::config::{Log, LogFormat};

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is none.
    #[error(
        "log.level: `{level}` is no filter: {source}; write a level such as `info`, or `info,dressipi_sidecar::session=debug`"
    )]
    Filter {
        /// What was configured.
        level: String,
        /// What is wrong.
        source: ParseError,
    },
    /// Set up already.
    #[error("logging has been set up already")]
    Twice(#[from] TryInitError),
    /// The process logs in another way, or not at all.
    #[error("the log's level cannot be changed: logging is not set up")]
    Elsewhere,
}

/// Puts another filter in the place of the present one.
type SetFilter = Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>;

/// How this process logs.
struct Logging {
    /// Lines are JSON, not text.
    json: bool,
    set_filter: SetFilter,
}

/// There is one log in a process.
static LOGGING: OnceLock<Logging> = OnceLock::new();
/// What is logged now, as it was written.
static LEVEL: Mutex<Option<String>> = Mutex::new(None);

/// Libraries that print requests, headers or addresses of clients when they are asked to be talkative. They may warn.
const TALKATIVE: [&str; 10] = [
    "pingora_core=warn",
    "pingora_proxy=warn",
    "pingora_pool=warn",
    "pingora_http=warn",
    "pingora_cache=warn",
    "h2=warn",
    "hyper=warn",
    "hyper_util=warn",
    "reqwest=warn",
    "rustls=warn",
];

/// What is logged at `level`, a `tracing` filter: of talkative libraries warnings, whatever it says.
pub fn log_filter(level: &str) -> Result<EnvFilter, LogError> {
    let mut filter = EnvFilter::try_new(level).map_err(|source| LogError::Filter {
        level: level.to_owned(),
        source,
    })?;
    // Added last, they outrank what was configured for the same target.
    for directive in TALKATIVE
        .iter()
        .filter_map(|directive| directive.parse::<Directive>().ok())
    {
        filter = filter.add_directive(directive);
    }
    Ok(filter)
}

/// Sends logs to standard error, as `log` says.
pub fn init_logs(log: &Log) -> Result<(), LogError> {
    let filter = log_filter(&log.level)?;
    let json = match log.format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !std::io::stderr().is_terminal(),
    };
    let set_filter: SetFilter;
    if json {
        let builder = json_lines(filter).with_filter_reloading();
        let handle = builder.reload_handle();
        set_filter = Box::new(move |filter| handle.reload(filter));
        builder.finish().try_init()?;
    } else {
        let builder = text_lines(filter)
            .with_ansi(std::io::stderr().is_terminal())
            .with_filter_reloading();
        let handle = builder.reload_handle();
        set_filter = Box::new(move |filter| handle.reload(filter));
        builder.finish().try_init()?;
    }
    let _ = LOGGING.set(Logging { json, set_filter });
    *LEVEL.lock() = Some(log.level.clone());
    Ok(())
}

/// What writes lines as text.
fn text_lines(
    filter: EnvFilter,
) -> SubscriberBuilder<DefaultFields, Format<Full, LineTime>, EnvFilter, LineWriter> {
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_timer(LineTime)
        .with_writer(LineWriter)
}

/// What writes lines as JSON.
pub(super) fn json_lines(
    filter: EnvFilter,
) -> SubscriberBuilder<JsonFields, Format<Json, LineTime>, EnvFilter, LineWriter> {
    text_lines(filter)
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
}

/// Whether this process logs as [`json_lines`] does.
pub(super) fn logs_json() -> bool {
    LOGGING.get().is_some_and(|logging| logging.json)
}

/// What is logged now; `None`: logging is not set up.
pub fn log_level() -> Option<String> {
    LEVEL.lock().clone()
}

/// What is logged from here on.
pub fn set_log_level(level: &str) -> Result<(), LogError> {
    let filter = log_filter(level)?;
    let logging = LOGGING.get().ok_or(LogError::Elsewhere)?;
    let mut present = LEVEL.lock();
    (logging.set_filter)(filter).map_err(|_| LogError::Elsewhere)?;
    *present = Some(level.to_owned());
    Ok(())
}
