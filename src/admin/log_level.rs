//! `GET` and `PUT /log-level`: what is logged, and what shall be from here on, until the next change of `log.level` or the end of the
//! process. What the filter forbids libraries to say stays forbidden.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use axum::{Json, body::Bytes};
use serde::{Deserialize, Serialize};

use super::problem::Problem;
use super::{Admin, bearer};
use crate::config::check_log_level;
use crate::telemetry::{log_level, set_log_level};

/// What is logged.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Level {
    level: String,
}

const FORM: &str = "send a level, off, error, warn, info, debug or trace, or levels of modules: info,dressipi_sidecar::session=debug";
/// No filter that makes sense is longer.
const LONGEST: usize = 1024;

pub(super) async fn show() -> Response {
    match log_level() {
        Some(level) => Json(Level { level }).into_response(),
        None => Problem::no_log().into_response(),
    }
}

pub(super) async fn change(
    State(admin): State<Admin>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Err(problem) = bearer::admit_change(&headers, peer, &admin) {
        return bearer::challenge(problem);
    }
    match set(&body) {
        Ok(level) => {
            tracing::warn!(%peer, level.level, "told to log at another level");
            Json(level).into_response()
        }
        Err(problem) => problem.into_response(),
    }
}

fn set(body: &[u8]) -> Result<Level, Problem> {
    let wrong = |detail: String| Problem::bad_request("This is no log level", detail);
    let read = serde_json::from_slice(body);
    let Level { level } = read.map_err(|_| wrong("send {\"level\": \"debug\"}".to_owned()))?;
    let level = level.trim().to_owned();
    if level.len() > LONGEST {
        return Err(wrong(format!("it has more than {LONGEST} bytes")));
    }
    if !level.split(',').all(is_directive) {
        return Err(wrong(FORM.to_owned()));
    }
    check_log_level(&level).map_err(|(message, hint)| wrong(format!("{message}; {hint}")))?;
    // Not set up: there is nothing that could be changed. Else the filter has judged what the check let pass.
    log_level().ok_or_else(Problem::no_log)?;
    set_log_level(&level).map_err(|error| wrong(error.to_string()))?;
    Ok(Level { level })
}

/// Whether it is a level, or a module and its level.
fn is_directive(text: &str) -> bool {
    let (module, level) = match text.rsplit_once('=') {
        Some((module, level)) => (Some(module), level),
        None => (None, text),
    };
    let is_word = |word: &str| {
        let mut letters = word.bytes();
        letters
            .next()
            .is_some_and(|first| first.is_ascii_lowercase())
            && letters.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    matches!(level, "off" | "error" | "warn" | "info" | "debug" | "trace")
        && module.is_none_or(|module| module.split("::").all(is_word))
}
