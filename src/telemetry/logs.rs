//! Structured logs: text for people, JSON for machines. Secrets cannot get in, since their types print nothing; query
//! strings and headers are never logged.

use std::cell::RefCell;
use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;
use std::time::{Duration, UNIX_EPOCH};

use parking_lot::Mutex;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{Directive, ParseError};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::reload;
use tracing_subscriber::util::TryInitError;

use crate::clock::{Clock, SystemClock, Timestamp};
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

/// There is one log in a process.
static SET_FILTER: OnceLock<SetFilter> = OnceLock::new();
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
    use tracing_subscriber::util::SubscriberInitExt;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_timer(LineTime)
        .with_writer(|| LineWriter);
    let set: SetFilter;
    if json {
        let builder = builder
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .with_filter_reloading();
        let handle = builder.reload_handle();
        set = Box::new(move |filter| handle.reload(filter));
        builder.finish().try_init()?;
    } else {
        let builder = builder
            .with_ansi(std::io::stderr().is_terminal())
            .with_filter_reloading();
        let handle = builder.reload_handle();
        set = Box::new(move |filter| handle.reload(filter));
        builder.finish().try_init()?;
    }
    let _ = SET_FILTER.set(set);
    *LEVEL.lock() = Some(log.level.clone());
    Ok(())
}

/// What is logged now; `None`: logging is not set up.
pub fn log_level() -> Option<String> {
    LEVEL.lock().clone()
}

/// What is logged from here on.
pub fn set_log_level(level: &str) -> Result<(), LogError> {
    let filter = log_filter(level)?;
    let set = SET_FILTER.get().ok_or(LogError::Elsewhere)?;
    let mut present = LEVEL.lock();
    set(filter).map_err(|_| LogError::Elsewhere)?;
    *present = Some(level.to_owned());
    Ok(())
}

/// Lines that one thread gathers to write them together, each with a time of its own.
#[derive(Default)]
struct Batch {
    text: Vec<u8>,
    at: Option<Timestamp>,
}

thread_local! {
    static BATCH: RefCell<Option<Batch>> = const { RefCell::new(None) };
}

/// Runs `emit`; what it logs is written at its end in one piece. It is given what sets the time of the lines that follow.
pub(super) fn batch(emit: impl FnOnce(&dyn Fn(Timestamp))) {
    BATCH.set(Some(Batch::default()));
    emit(&|at| {
        BATCH.with_borrow_mut(|batch| {
            if let Some(batch) = batch {
                batch.at = Some(at);
            }
        });
    });
    if let Some(batch) = BATCH.take() {
        let _ = io::stderr().write_all(&batch.text);
    }
}

/// Writes a line to standard error, or to the batch of the thread.
struct LineWriter;

impl Write for LineWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        BATCH.with_borrow_mut(|batch| match batch {
            Some(batch) => batch.text.write(line),
            None => io::stderr().write(line),
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The time of a line: now, or what the batch says.
struct LineTime;

impl FormatTime for LineTime {
    fn format_time(&self, writer: &mut Writer<'_>) -> std::fmt::Result {
        let at = BATCH.with_borrow(|batch| batch.as_ref().and_then(|batch| batch.at));
        let at = at.unwrap_or_else(|| SystemClock.now());
        let at = UNIX_EPOCH + Duration::from_millis(at.as_millis());
        write!(writer, "{}", humantime::format_rfc3339_millis(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown() -> String {
        let mut text = String::new();
        LineTime.format_time(&mut Writer::new(&mut text)).unwrap();
        text
    }

    #[test]
    fn lines_of_a_batch_are_gathered_with_their_own_time() {
        batch(|set_time| {
            set_time(Timestamp::from_millis(1_700_000_000_123));
            assert_eq!(shown(), "2023-11-14T22:13:20.123Z");
            set_time(Timestamp::from_millis(1_700_000_001_000));
            assert_eq!(shown(), "2023-11-14T22:13:21.000Z");
            LineWriter.write_all(b"").unwrap();
            BATCH.with_borrow_mut(|batch| {
                let batch = batch.as_mut().unwrap();
                assert!(batch.text.is_empty());
            });
        });
        assert_ne!(shown(), "2023-11-14T22:13:21.000Z");
    }
}
