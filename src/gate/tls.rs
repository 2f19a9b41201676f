//! TLS of one listener: which certificate it shows, whom it lets in, and the handshake.
//!
//! What the files hold is worked out into one `rustls` configuration as a whole. New files replace it as a whole or not at
//! all; connections that are there keep the one they began with.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use pingora::listeners::tls::Acceptor;
use pingora::protocols::Stream;

use super::client::Client;
use crate::telemetry::Metrics;
use crate::tls::{FilesError, ServerFiles, ServerTls, has_expired};

/// The TLS of one listener, which changes with its files.
pub struct Tls {
    settings: ServerTls,
    /// The listener, for logs and metrics.
    name: String,
    present: ArcSwap<Acceptor>,
    metrics: Arc<Metrics>,
}

/// How a handshake came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failed {
    /// It took too long.
    TimedOut,
    /// One side refused the other.
    Refused,
}

/// How often the files are looked at. Looking, and not being told, works for every way in which files are replaced: written
/// over, renamed, or behind Kubernetes' symbolic link.
const INTERVAL: Duration = Duration::from_secs(2);

// === impl Tls ===

impl Tls {
    /// Reads the files; the second value is what was read.
    pub fn new(
        settings: ServerTls,
        name: String,
        metrics: Arc<Metrics>,
    ) -> Result<(Self, ServerFiles), FilesError> {
        let files = settings.read()?;
        let server = settings.server(&files)?;
        metrics.certificate_expires(&name, server.expires);
        let present = Acceptor::from_server_config(Arc::new(server.config));
        let tls = Self {
            present: ArcSwap::from_pointee(present),
            settings,
            name,
            metrics,
        };
        Ok((tls, files))
    }

    /// Takes a client's handshake, which may last for `bound`.
    pub(super) async fn accept(&self, client: Client, bound: Duration) -> Result<Stream, Failed> {
        let acceptor = self.present.load_full();
        match pingora::time::timeout(bound, acceptor.tls_handshake(client)).await {
            Ok(Ok(stream)) => Ok(Box::new(stream)),
            Ok(Err(error)) => {
                tracing::debug!(listener = %self.name, %error, "a TLS handshake failed");
                Err(Failed::Refused)
            }
            Err(_) => Err(Failed::TimedOut),
        }
    }

    /// Uses new files when they come; until it is dropped. `used` is what was read at first.
    pub async fn follow(self: Arc<Self>, used: ServerFiles) {
        let mut judged = Ok(used);
        let mut before = None;
        loop {
            pingora::time::sleep(INTERVAL).await;
            let settings = self.settings.clone();
            let Ok(read) = tokio::task::spawn_blocking(move || settings.read()).await else {
                return;
            };
            if read == judged {
                before = None;
            } else if before.as_ref() == Some(&read) {
                self.replace(&read);
                // Bad files are judged once, too: until they change there is nothing new to say.
                judged = read;
                before = None;
            } else {
                // Files that are written one after the other do not fit together meanwhile: what is the same twice is meant.
                before = Some(read);
            }
        }
    }

    fn replace(&self, files: &Result<ServerFiles, FilesError>) {
        let files = files.as_ref().map_err(Clone::clone);
        match files.and_then(|files| self.settings.server(files)) {
            Ok(server) => {
                let next = Acceptor::from_server_config(Arc::new(server.config));
                self.present.store(Arc::new(next));
                self.metrics.certificate_expires(&self.name, server.expires);
                self.metrics.certificate_reloaded("ok");
                tracing::info!(listener = %self.name, "new certificate files are in use");
                if has_expired(server.expires) {
                    tracing::warn!(
                        listener = %self.name,
                        "the new certificate has expired: clients will refuse it until another one takes its place"
                    );
                }
            }
            Err(error) => {
                self.metrics.certificate_reloaded("error");
                tracing::error!(
                    listener = %self.name, %error,
                    "the new certificate files cannot be used; the ones before stay in use"
                );
            }
        }
    }
}

impl Failed {
    /// The word for metrics.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::TimedOut => "tls_timeout",
            Self::Refused => "tls_handshake",
        }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("listener", &self.name).finish()
    }
}
