//! What is read from files while the configuration is parsed: secrets, and whether certificates are there.

use std::path::PathBuf;

use super::report::{Report, key};
use crate::secret::Secret;
use crate::session::loose_mode;

/// A secret that is given in the configuration or, as `…_file`, beside it. `None`: not given, or reported.
pub(super) fn secret(
    report: &mut Report<'_>,
    section: &str,
    name: &str,
    inline: Option<Secret>,
    file: Option<String>,
) -> Option<Secret> {
    let file_key = key(section, &format!("{name}_file"));
    let (key, of_file, secret) = match (inline, file) {
        (Some(_), Some(_)) => {
            let message = format!("is given together with `{name}`");
            report.problem_hint(
                &file_key,
                message,
                "keep one of the two; the file is the safer place",
            );
            return None;
        }
        (Some(secret), None) => (key(section, name), String::new(), secret),
        (None, Some(file)) => {
            let text = read_secret(report, &file_key, &file)?;
            let text = text.strip_suffix('\n').unwrap_or(&text);
            let secret = Secret::new(text.strip_suffix('\r').unwrap_or(text));
            (file_key, format!("{file} "), secret)
        }
        (None, None) => return None,
    };
    // What is sent in a header or a form cannot hold anything else; a value is never shown.
    if secret.is_empty() {
        report.problem(&key, format!("{of_file}is empty"));
    } else if !secret.expose().chars().all(|c| c.is_ascii_graphic()) {
        report.problem_hint(
            &key,
            format!("{of_file}has a character that cannot be sent"),
            "look for spaces, line breaks and letters that are not ASCII",
        );
    }
    Some(secret)
}

/// The same for a file with a secret in it, which is not for everybody to read.
pub(super) fn read_secret(report: &mut Report<'_>, path: &str, file: &str) -> Option<String> {
    let text = read(report, path, file)?;
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
        report.problem_hint(
            path,
            format!("{file} holds no certificate"),
            "a PEM file is needed, with -----BEGIN CERTIFICATE----- in it",
        );
    }
    report.file_path(file)
}

/// A file that must be readable and not empty.
pub(super) fn read(report: &mut Report<'_>, path: &str, file: &str) -> Option<String> {
    if file.trim().is_empty() {
        report.problem(path, "is empty");
        return None;
    }
    let full = report.file_to_read(file);
    match std::fs::read(&full).map(String::from_utf8) {
        Ok(Ok(text)) if text.is_empty() => report.problem(path, format!("{file} is empty")),
        Ok(Ok(text)) => return Some(text),
        Ok(Err(_)) => report.problem(path, format!("{file} is not a text file (UTF-8)")),
        Err(error) => report.problem(path, format!("{} cannot be read: {error}", full.display())),
    }
    None
}
