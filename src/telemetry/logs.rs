//! Structured logs: text for people, JSON for machines. Secrets cannot get in, since their types print nothing; query
//! strings and headers are never logged.

use std::io::IsTerminal;
use std::time::Duration;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{Directive, ParseError};
use tracing_subscriber::util::TryInitError;

use crate::config::{Log, LogFormat};
use crate::visitor::VisitorKey;

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
}

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

/// Sends logs to standard error, as `log` says.
pub fn init_logs(log: &Log) -> Result<(), LogError> {
    let mut filter = EnvFilter::try_new(&log.level).map_err(|source| LogError::Filter {
        level: log.level.clone(),
        source,
    })?;
    // Added last, they outrank what was configured for the same target.
    for directive in TALKATIVE
        .iter()
        .filter_map(|directive| directive.parse::<Directive>().ok())
    {
        filter = filter.add_directive(directive);
    }
    let json = match log.format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !std::io::stderr().is_terminal(),
    };
    use tracing_subscriber::util::SubscriberInitExt;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    if json {
        builder
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .finish()
            .try_init()?;
    } else {
        builder
            .with_ansi(std::io::stderr().is_terminal())
            .finish()
            .try_init()?;
    }
    Ok(())
}

/// One line about one request.
#[derive(Debug)]
pub struct AccessLine<'a> {
    /// The method.
    pub method: &'a str,
    /// The path, without its query.
    pub path: &'a str,
    /// The status that the client got, if it got one.
    pub status: Option<u16>,
    /// The route.
    pub route: Option<&'a str>,
    /// The visitor.
    pub visitor: Option<&'a VisitorKey>,
    /// What token went along.
    pub token: &'static str,
    /// How long it took.
    pub took: Duration,
    /// Bytes of the answer's body.
    pub sent: usize,
    /// The kind of failure, if one ended it.
    pub error: Option<&'a str>,
}

impl AccessLine<'_> {
    /// Writes it.
    pub fn write(&self) {
        let micros = u64::try_from(self.took.as_micros()).unwrap_or(u64::MAX);
        tracing::info!(
            target: "access",
            method = self.method,
            path = self.path,
            status = self.status,
            route = self.route,
            visitor = self.visitor.map(tracing::field::display),
            token = self.token,
            took_us = micros,
            sent = self.sent,
            error = self.error,
        );
    }
}
