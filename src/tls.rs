//! TLS: what is said about that of listeners, and about our own certificate towards upstreams; and what the files hold, judged as a
//! whole before anything is served or sent with it.

mod client;

pub use client::{ClientCertificate, ClientIdentity};

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use zeroize::Zeroizing;

/// TLS of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTls {
    /// The certificate and its intermediates, in PEM.
    pub cert_file: PathBuf,
    /// The certificate's key, in PEM.
    pub key_file: PathBuf,
    /// Whether clients show a certificate.
    pub client_auth: ClientAuth,
    /// The oldest version that is spoken.
    pub min_version: MinVersion,
    /// Whether HTTP/2 is offered (ALPN).
    pub http2: bool,
}

/// Whether clients show a certificate, and the authorities in PEM of which it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// They are not asked for one.
    None,
    /// They may; one of another authority is refused.
    Optional(PathBuf),
    /// They must.
    Required(PathBuf),
}

/// The oldest version of TLS that is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MinVersion {
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

/// What the files of a listener held at one moment.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerFiles {
    certificate: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
    client_ca: Option<Vec<u8>>,
}

/// What can be served with.
pub struct Server {
    /// For the TLS library.
    pub config: ServerConfig,
    /// When the certificate ends.
    pub expires: SystemTime,
}

/// Which of the files an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum File {
    /// The certificate.
    Certificate,
    /// Its key.
    Key,
    /// The authorities of clients.
    ClientCa,
}

/// Why files cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path} {reason}", path = path.display())]
pub struct FilesError {
    /// Which file.
    pub file: File,
    /// Its path.
    pub path: PathBuf,
    /// What is wrong with it, as the rest of a sentence that begins with the path.
    pub reason: String,
}

// === impl ServerTls ===

impl ServerTls {
    /// Reads the files.
    pub fn read(&self) -> Result<ServerFiles, FilesError> {
        let client_ca = match &self.client_auth {
            ClientAuth::None => None,
            ClientAuth::Optional(path) | ClientAuth::Required(path) => Some(path),
        };
        Ok(ServerFiles {
            certificate: read(File::Certificate, &self.cert_file)?,
            key: Zeroizing::new(read(File::Key, &self.key_file)?),
            client_ca: client_ca
                .map(|path| read(File::ClientCa, path))
                .transpose()?,
        })
    }

    /// Judges what the files held.
    pub fn server(&self, files: &ServerFiles) -> Result<Server, FilesError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let chain = certificates(File::Certificate, &self.cert_file, &files.certificate)?;
        let expires = expiry(&chain[0])
            .ok_or_else(|| File::Certificate.at(&self.cert_file, "holds no X.509 certificate"))?;
        let key = private_key(&self.key_file, &files.key)?;
        let versions: &[&SupportedProtocolVersion] = match self.min_version {
            MinVersion::Tls12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
            MinVersion::Tls13 => &[&rustls::version::TLS13],
        };
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions)
            .map_err(|error| File::Key.at(&self.key_file, error))?;
        let builder = match (&self.client_auth, &files.client_ca) {
            (ClientAuth::Optional(path) | ClientAuth::Required(path), Some(pem)) => {
                let bad = |error: &dyn std::fmt::Display| {
                    File::ClientCa.at(path, format!("holds no usable authority: {error}"))
                };
                let mut roots = RootCertStore::empty();
                for certificate in certificates(File::ClientCa, path, pem)? {
                    roots.add(certificate).map_err(|error| bad(&error))?;
                }
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                let verifier = match self.client_auth {
                    ClientAuth::Optional(_) => verifier.allow_unauthenticated(),
                    _ => verifier,
                };
                builder.with_client_cert_verifier(verifier.build().map_err(|error| bad(&error))?)
            }
            _ => builder.with_no_client_auth(),
        };
        // The library holds key and certificate against each other.
        let mut config = builder
            .with_single_cert(chain, key)
            .map_err(|error| unfit_key(&self.key_file, &self.cert_file, error))?;
        if self.http2 {
            config.alpn_protocols.push(b"h2".to_vec());
        }
        config.alpn_protocols.push(b"http/1.1".to_vec());
        Ok(Server { config, expires })
    }
}

// === impl File ===

impl File {
    fn at(self, path: &Path, reason: impl ToString) -> FilesError {
        FilesError {
            file: self,
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }
}

/// Whether a certificate that ends at `expires` has ended, by the calendar.
#[allow(
    clippy::disallowed_methods,
    reason = "whoever checks a certificate goes by the calendar too, and nothing is decided by it here"
)]
pub fn has_expired(expires: SystemTime) -> bool {
    expires <= SystemTime::now()
}

fn read(file: File, path: &Path) -> Result<Vec<u8>, FilesError> {
    std::fs::read(path).map_err(|error| file.at(path, format!("cannot be read: {error}")))
}

/// At least one.
fn certificates(
    file: File,
    path: &Path,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, FilesError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|error| file.at(path, format!("is no PEM file: {error}")))?;
    if found.is_empty() {
        let reason = "holds no certificate in PEM (-----BEGIN CERTIFICATE-----)";
        return Err(file.at(path, reason));
    }
    Ok(found)
}

fn private_key(path: &Path, pem: &[u8]) -> Result<PrivateKeyDer<'static>, FilesError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| {
        let text = String::from_utf8_lossy(pem);
        let reason = match text.contains("ENCRYPTED") {
            true => "is encrypted, and nobody is there to type a passphrase: decrypt it, such as with `openssl pkey`",
            false => "holds no private key in PEM (-----BEGIN PRIVATE KEY-----)",
        };
        File::Key.at(path, reason)
    })
}

/// What the library says of a key beside its certificate.
fn unfit_key(key: &Path, certificate: &Path, error: rustls::Error) -> FilesError {
    let certificate = certificate.display();
    let reason = match error {
        rustls::Error::InconsistentKeys(_) => {
            format!("is not the key of the certificate in {certificate}")
        }
        error => format!("cannot be used with {certificate}: {error}"),
    };
    File::Key.at(key, reason)
}

fn expiry(certificate: &CertificateDer<'_>) -> Option<SystemTime> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let seconds = parsed.validity().not_after.timestamp();
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}
