//! `client_certificate_file` and `client_key_file`, wherever we may be asked who we are. The files are judged here already.

use super::files;
use super::report::{Report, key};
use crate::tls::{ClientIdentity, File};

const CERTIFICATE: &str = "client_certificate_file";
const KEY: &str = "client_key_file";

/// The two keys, as they are typed in one section.
#[derive(Clone, Copy)]
pub(super) struct Typed<'a> {
    pub(super) certificate: Option<&'a str>,
    pub(super) key: Option<&'a str>,
}

// === impl Typed ===

impl Typed<'_> {
    /// Which of them are given.
    pub(super) fn given(self) -> [(&'static str, bool); 2] {
        [
            (CERTIFICATE, self.certificate.is_some()),
            (KEY, self.key.is_some()),
        ]
    }
}

/// The certificate of `section`, with its key. `None`: none is given, or it is reported.
pub(super) fn parse(
    report: &mut Report<'_>,
    section: &str,
    typed: Typed<'_>,
) -> Option<ClientIdentity> {
    let at = |name| key(section, name);
    match (typed.certificate, typed.key) {
        (None, None) => None,
        (Some(_), None) => {
            report.missing(&at(KEY), "the key of the certificate");
            None
        }
        (None, Some(_)) => {
            let hint = "the certificate that belongs to the key";
            report.missing(&at(CERTIFICATE), hint);
            None
        }
        (Some(certificate), Some(secret)) => {
            files::warn_if_loose(report, &at(KEY), secret);
            let identity = ClientIdentity {
                certificate_file: report.file_to_read(certificate),
                key_file: report.file_to_read(secret),
            };
            judge(report, section, &identity);
            Some(identity)
        }
    }
}

fn judge(report: &mut Report<'_>, section: &str, identity: &ClientIdentity) {
    match identity.load() {
        Ok(certificate) => files::warn_of_end(
            report,
            &key(section, CERTIFICATE),
            &identity.certificate_file,
            certificate.expires,
            "the server refuses one that has expired",
            "renew it",
        ),
        Err(error) => {
            let name = match error.file {
                File::Key => KEY,
                File::Certificate | File::ClientCa => CERTIFICATE,
            };
            report.problem(&key(section, name), error.to_string(), files::PEM);
        }
    }
}
