//! What is read from files while the configuration is parsed: secrets, and whether certificates are there.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::report::{Report, key};
use crate::config::warnings;
use crate::secret::Secret;
use crate::session::loose_mode;

/// What to do about files of certificates and keys.
pub(super) const PEM: &str = "PEM files are needed, which the user who runs the sidecar can read; the key unencrypted, and of this certificate";

/// A secret that is given in the configuration or, as `…_file`, beside it. `None`: not given, or reported.
pub(super) fn secret(
    report: &mut Report<'_>,
    section: &str,
    name: &str,
    inline: Option<Secret>,
    file: Option<String>,
) -> Option<Secret> {
    let file_key = key(section, &format!("{name}_file"));
    let (key, path, secret) = match (inline, file) {
        (Some(_), Some(_)) => {
            let message = format!("is given together with `{name}`");
            report.problem(
                &file_key,
                message,
                "keep one of the two; the file is the safer place",
            );
            return None;
        }
        (Some(secret), None) => (key(section, name), None, secret),
        (None, Some(file)) => {
            let text = read_secret(report, &file_key, &file)?;
            let text = text.strip_suffix('\n').unwrap_or(&text);
            let secret = Secret::new(text.strip_suffix('\r').unwrap_or(text));
            (file_key, Some(report.file_path(&file)), secret)
        }
        (None, None) => return None,
    };
    // What is sent in a header or a form cannot hold anything else; a value is never shown.
    if secret.is_empty() {
        let hint = "leave it out if there is none";
        wrong(report, path.as_deref(), &key, "is empty", hint);
    } else if !secret.expose().chars().all(|c| c.is_ascii_graphic()) {
        let message = "has a character that cannot be sent";
        let hint = "look for spaces, line breaks and letters that are not ASCII";
        wrong(report, path.as_deref(), &key, message, hint);
    }
    Some(secret)
}

/// A secret is wrong: where it is written, or in the file that holds it.
pub(super) fn wrong(
    report: &mut Report<'_>,
    file: Option<&Path>,
    key: &str,
    message: &str,
    hint: &str,
) {
    match file {
        Some(file) => report.problem_in(file, key, message, hint),
        None => report.problem(key, message, hint),
    }
}

/// The text of a file with a secret in it, which is not for everybody to read.
pub(super) fn read_secret(report: &mut Report<'_>, path: &str, file: &str) -> Option<String> {
    let text = match content(report, path, file)? {
        Ok(text) => text,
        Err(reason) => {
            let file = report.file_path(file);
            report.problem_in(
                &file,
                path,
                reason,
                "the secret alone must be in it, as text",
            );
            return None;
        }
    };
    warn_if_loose(report, path, file);
    Some(text)
}

/// Warns where others may read a secret.
pub(super) fn warn_if_loose(report: &mut Report<'_>, path: &str, file: &str) {
    if let Some(mode) = loose_mode(&report.file_path(file)) {
        report.warning(
            path,
            format!("{file} is open to other users (mode {mode:04o})"),
            "run `chmod 600` on it, or set `defaultMode: 0400` if it is a Kubernetes secret",
        );
    }
}

/// A PEM bundle of certificate authorities that can be read and holds something. Each certificate is looked at when it is
/// used.
pub(super) fn ca_bundle(report: &mut Report<'_>, path: &str, file: &str) -> PathBuf {
    if let Some(text) = read(report, path, file)
        && !text.contains("-----BEGIN CERTIFICATE-----")
    {
        report.problem(
            path,
            format!("{file} holds no certificate"),
            "a PEM file is needed, with -----BEGIN CERTIFICATE----- in it",
        );
    }
    report.file_path(file)
}

/// Warns of a certificate that has ended or soon will; `then`: what comes of it.
pub(super) fn warn_of_end(
    report: &mut Report<'_>,
    path: &str,
    file: &Path,
    expires: SystemTime,
    then: &str,
    hint: &str,
) {
    #[allow(
        clippy::disallowed_methods,
        reason = "a certificate ends by the calendar, and nothing is decided by it"
    )]
    let now = SystemTime::now();
    if let Some(ends) = warnings::certificate(expires, now) {
        report.warning(path, format!("{} {ends}: {then}", file.display()), hint);
    }
}

/// A file that must be readable and not empty.
fn read(report: &mut Report<'_>, path: &str, file: &str) -> Option<String> {
    match content(report, path, file)? {
        Ok(text) => Some(text),
        Err(reason) => {
            report.problem(path, format!("{file} {reason}"), "a PEM file is needed");
            None
        }
    }
}

/// What a file holds, or why it cannot be that. `None`: it cannot be read, which is reported.
fn content(
    report: &mut Report<'_>,
    path: &str,
    file: &str,
) -> Option<Result<String, &'static str>> {
    if file.trim().is_empty() {
        report.problem(path, "is empty", "leave it out, or name a file");
        return None;
    }
    let full = report.file_to_read(file);
    match std::fs::read(&full).map(String::from_utf8) {
        Ok(Ok(text)) if text.is_empty() => Some(Err("is empty")),
        Ok(Ok(text)) => Some(Ok(text)),
        Ok(Err(_)) => Some(Err("is not a text file (UTF-8)")),
        Err(error) => {
            report.problem(
                path,
                format!("{} cannot be read: {error}", full.display()),
                unreadable_hint(file, &error),
            );
            None
        }
    }
}

/// What to do about a file that cannot be read.
fn unreadable_hint(file: &str, error: &std::io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::NotFound if Path::new(file).is_absolute() => "put it there, or name another one",
        ErrorKind::NotFound => {
            "paths that do not begin with / begin at the folder of the configuration file"
        }
        ErrorKind::PermissionDenied => "the user who runs the sidecar must be able to read it",
        _ => "name a file that can be read",
    }
}
