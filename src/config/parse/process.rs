//! `[admin]`, `[log]` and `[server]`: the process and those who look after it.

use std::time::Duration;

use super::files;
use super::listeners::{address, overlap};
use super::report::{Report, duration, key};
use crate::config::suggest;
use crate::config::values::{self, Bytes, Ratio};
use crate::config::{Admin, Limits, Listener, Log, LogFormat, Server, file};

/// The words that a log directive may end in.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// A token that can be guessed would give every visitor's session away.
const SHORTEST_TOKEN: usize = 16;

/// The admin listener.
pub(super) fn admin(
    report: &mut Report<'_>,
    raw: Option<file::Admin>,
    listeners: &[Listener],
) -> Option<Admin> {
    let raw = raw?;
    let file = raw.token_file.as_ref().map(|file| report.file_path(file));
    let named = match file {
        Some(_) => "token_file",
        None => "token",
    };
    let token = files::secret(report, "admin", "token", raw.token, raw.token_file);
    if let Some(token) = &token
        && !token.is_empty()
        && token.expose().len() < SHORTEST_TOKEN
    {
        let message = format!("has fewer than {SHORTEST_TOKEN} characters, which can be guessed");
        let hint = "make one with `openssl rand -hex 32`";
        files::wrong(
            report,
            file.as_deref(),
            &key("admin", named),
            &message,
            hint,
        );
    }
    let address = address(report, "admin.address", raw.address.as_deref())?;
    if let Some(listener) = listeners
        .iter()
        .find(|listener| overlap(&listener.address, address))
    {
        let message = format!("{address} is taken by a listener ({})", listener.address);
        report.problem(
            &key("admin", "address"),
            message,
            "give one of the two another port",
        );
    }
    Some(Admin { address, token })
}

/// Logging.
pub(super) fn log(report: &mut Report<'_>, raw: file::Log) -> Log {
    let level = raw.level.unwrap_or_else(|| "info".to_owned());
    if let Err((message, hint)) = check_level(&level) {
        report.problem("log.level", message, hint);
    }
    Log {
        level: level.trim().to_owned(),
        format: match raw.format {
            Some(values::LogFormat::Auto) | None => LogFormat::Auto,
            Some(values::LogFormat::Text) => LogFormat::Text,
            Some(values::LogFormat::Json) => LogFormat::Json,
        },
        access: raw.access.unwrap_or(true),
        access_sample: raw.access_sample.unwrap_or(Ratio::ALL),
    }
}

/// Checks a `tracing` filter: directives between commas, each a level, a module, or `module=level`. The filter itself
/// takes any word for a module, so `inof` would switch logging off in silence; here a word without `::` must be a level
/// or be far from one.
pub(in crate::config) fn check_level(text: &str) -> Result<(), (String, String)> {
    let example = || "such as \"info\" or \"info,dressipi_sidecar::session=debug\"".to_owned();
    for directive in text.split(',').map(str::trim) {
        let (module, level) = match directive.rsplit_once('=') {
            Some((module, level)) => (module, Some(level)),
            None => (directive, None),
        };
        let module_fits = |c: char| c.is_ascii_alphanumeric() || "_:-[]{}=.\"".contains(c);
        if module.is_empty() || !module.chars().all(module_fits) {
            return Err((format!("{directive:?} is not a log level"), example()));
        }
        let near = |word: &str| {
            suggest::nearest(word, LEVELS).map(|near| format!("did you mean {near:?}?"))
        };
        match level {
            Some(level) if !is_level(level) => {
                return Err((
                    format!("{level:?} is not a log level"),
                    near(level).unwrap_or_else(example),
                ));
            }
            None if !is_level(module) && !module.contains(':') => {
                if let Some(hint) = near(module) {
                    return Err((format!("{module:?} is not a log level"), hint));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn is_level(word: &str) -> bool {
    LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word))
}

/// pingora reads no more header lines than this.
const MOST_HEADERS: u64 = 256;
/// pingora reads no longer header than this.
const LONGEST_HEADER: u64 = 1024 * 1024 - 1;
/// A request of a browser must fit.
const SHORTEST_HEADER: u64 = 1024;

/// What clients may take.
pub(super) fn limits(report: &mut Report<'_>, raw: file::Limits) -> Limits {
    let at = |name| key("limits", name);
    let size = |count| usize::try_from(count).unwrap_or(usize::MAX);
    let connections = report.count(&at("connections"), raw.connections, 10_000, 1_000_000);
    let per_address = raw.connections_per_address;
    let per_address = report.count(&at("connections_per_address"), per_address, 2000, 1_000_000);
    let requests = raw.requests_per_connection;
    let requests = report.count(
        &at("requests_per_connection"),
        requests,
        10_000,
        u64::from(u32::MAX),
    );
    let header_bytes = raw.header_bytes.map_or(64 * 1024, |Bytes(bytes)| bytes);
    if !(SHORTEST_HEADER..=LONGEST_HEADER).contains(&header_bytes) {
        let message = format!("must be from {SHORTEST_HEADER} to {LONGEST_HEADER} bytes");
        report.problem(&at("header_bytes"), message, "leave it out for 64 KiB");
    }
    let seconds = Duration::from_secs;
    Limits {
        connections: size(connections),
        connections_per_address: size(per_address),
        requests_per_connection: u32::try_from(requests).unwrap_or(u32::MAX),
        idle_timeout: report.positive(&at("idle_timeout"), raw.idle_timeout, seconds(75)),
        header_timeout: report.positive(&at("header_timeout"), raw.header_timeout, seconds(30)),
        header_bytes: size(header_bytes),
        header_count: size(report.count(&at("header_count"), raw.header_count, 100, MOST_HEADERS)),
        body_rate: raw.body_rate.unwrap_or(100),
        body_grace: duration(raw.body_grace, Duration::from_secs(10)),
    }
}

/// The process.
pub(super) fn server(report: &mut Report<'_>, raw: file::Server) -> Server {
    let at = |name| key("server", name);
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = report.count_or(
        &at("threads"),
        raw.threads,
        processors as u64,
        1024,
        "leave it out for as many as there are processors",
    );
    let keepalive_pool = report.count(&at("keepalive_pool"), raw.keepalive_pool, 128, 1_000_000);
    let upgrade_socket = raw.upgrade_socket.as_deref();
    let upgrade_socket = upgrade_socket.and_then(|path| {
        // The kernel's bound, with room for the name under which it is made.
        if path.trim().is_empty() || path.len() > 90 {
            let message =
                format!("{path:?} cannot be the path of a socket: it must have 1 to 90 bytes");
            let hint = "such as \"/run/dressipi-sidecar/upgrade.sock\"";
            report.problem(&at("upgrade_socket"), message, hint);
            return None;
        }
        Some(report.file_path(path))
    });
    Server {
        threads: usize::try_from(threads).unwrap_or(usize::MAX),
        drain_delay: duration(raw.drain_delay, Duration::from_secs(2)),
        drain_timeout: duration(raw.drain_timeout, Duration::from_secs(20)),
        client_timeout: report.positive(
            &at("client_timeout"),
            raw.client_timeout,
            Duration::from_secs(60),
        ),
        keepalive_pool: usize::try_from(keepalive_pool).unwrap_or(usize::MAX),
        core_dumps: raw.core_dumps.unwrap_or(false),
        huge_pages: raw.huge_pages.unwrap_or(false),
        upgrade_socket,
        server_timing: raw.server_timing.unwrap_or(false),
        token_state_header: raw.token_state_header.unwrap_or(false),
        resolve_interval: report.positive(
            &at("resolve_interval"),
            raw.resolve_interval,
            Duration::from_secs(30),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_levels_are_levels_or_modules_with_one() {
        for good in [
            "info",
            "WARN",
            "info,dressipi_sidecar::session=debug",
            "pingora=off",
            "hyper",
            "a::b[span{x=1}]=info",
        ] {
            assert_eq!(check_level(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "inof",
            "debgu",
            "info,",
            "a=verbose",
            "=info",
            "in fo",
            "info;debug",
        ] {
            assert!(check_level(bad).is_err(), "{bad}");
        }
    }
}
