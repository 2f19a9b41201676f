//! `[listeners.tls]`: what a listener shows of itself, and whom it lets in. The files are judged here already.

use std::path::PathBuf;

use super::files;
use super::report::{Report, key};
use crate::config::{file, values};
use crate::tls::{ClientAuth, File, MinVersion, ServerTls};

/// The TLS of the listener at `path`. `None`: none is wanted, or it is reported.
pub(super) fn parse(
    report: &mut Report<'_>,
    path: &str,
    raw: Option<file::ListenerTls>,
) -> Option<ServerTls> {
    let raw = raw?;
    let at = |name| key(path, name);
    let cert_file = given(
        report,
        &at("cert_file"),
        raw.cert_file.as_deref(),
        "the certificate with its intermediates, a PEM file",
    );
    let key_file = given(
        report,
        &at("key_file"),
        raw.key_file.as_deref(),
        "the certificate's key, a PEM file",
    );
    if let Some(file) = &raw.key_file {
        // Warns where others may read it.
        files::warn_if_loose(report, &at("key_file"), file);
    }
    let wanted = raw.client_auth.unwrap_or(values::ClientAuth::None);
    let ca_path = at("client_ca_file");
    let client_auth = match (wanted, raw.client_ca_file.as_deref()) {
        (values::ClientAuth::None, None) => Some(ClientAuth::None),
        (values::ClientAuth::None, Some(_)) => {
            if !report.broken(&at("client_auth")) {
                let hint = "add client_auth = \"required\" (or \"optional\"), or leave it out";
                report.problem(
                    &ca_path,
                    "has no meaning, since no client is asked for a certificate",
                    hint,
                );
            }
            None
        }
        (wanted, ca_file) => {
            let hint = "the authorities of the clients' certificates, a PEM file";
            given(report, &ca_path, ca_file, hint).map(|ca_file| match wanted {
                values::ClientAuth::Optional => ClientAuth::Optional(ca_file),
                _ => ClientAuth::Required(ca_file),
            })
        }
    };
    let tls = ServerTls {
        cert_file: cert_file?,
        key_file: key_file?,
        client_auth: client_auth?,
        min_version: match raw.min_version {
            Some(values::TlsVersion::Tls13) => MinVersion::Tls13,
            Some(values::TlsVersion::Tls12) | None => MinVersion::Tls12,
        },
        http2: raw.http2.unwrap_or(true),
    };
    judge(report, path, &tls).then_some(tls)
}

fn given(report: &mut Report<'_>, path: &str, file: Option<&str>, hint: &str) -> Option<PathBuf> {
    match file {
        None => report.missing(path, hint),
        Some(file) if file.trim().is_empty() => report.problem(path, "is empty", "name a PEM file"),
        Some(file) => return Some(report.file_path(file)),
    }
    None
}

/// Whether the files can be served with; says what is wrong otherwise.
fn judge(report: &mut Report<'_>, path: &str, tls: &ServerTls) -> bool {
    match tls.read().and_then(|files| tls.server(&files)) {
        Ok(server) => {
            files::warn_of_end(
                report,
                &key(path, "cert_file"),
                &tls.cert_file,
                server.expires,
                "clients refuse one that has expired",
                "renew it; new files are used without a restart",
            );
            true
        }
        Err(error) => {
            let name = match error.file {
                File::Certificate => "cert_file",
                File::Key => "key_file",
                File::ClientCa => "client_ca_file",
            };
            report.problem(&key(path, name), error.to_string(), files::PEM);
            false
        }
    }
}
