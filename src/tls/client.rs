//! Our certificate towards a server that asks for one.

use std::path::PathBuf;
use std::time::SystemTime;

use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

use super::{File, FilesError, certificates, expiry, private_key, read, unfit_key};

/// Where a certificate of ours and its key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientIdentity {
    /// The certificate and its intermediates, in PEM.
    pub certificate_file: PathBuf,
    /// The certificate's key, in PEM.
    pub key_file: PathBuf,
}

/// A certificate that belongs to its key.
pub struct ClientCertificate {
    /// The certificate and its intermediates; never empty, and each can be parsed.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key.
    pub key: PrivateKeyDer<'static>,
    /// Both as they stood in the files, one after the other.
    pub pem: Zeroizing<Vec<u8>>,
    /// When the certificate ends.
    pub expires: SystemTime,
}

// === impl ClientIdentity ===

impl ClientIdentity {
    /// Reads the files and judges them.
    pub fn load(&self) -> Result<ClientCertificate, FilesError> {
        let certificate = read(File::Certificate, &self.certificate_file)?;
        let key_pem = Zeroizing::new(read(File::Key, &self.key_file)?);
        let chain = certificates(File::Certificate, &self.certificate_file, &certificate)?;
        let ends: Option<Vec<_>> = chain.iter().map(expiry).collect();
        let expires = ends.and_then(|ends| ends.first().copied()).ok_or_else(|| {
            File::Certificate.at(&self.certificate_file, "holds no X.509 certificate")
        })?;
        let key = private_key(&self.key_file, &key_pem)?;
        CertifiedKey::from_der(chain.clone(), key.clone_key(), &default_provider())
            .map_err(|error| unfit_key(&self.key_file, &self.certificate_file, error))?;
        let mut pem = Zeroizing::new(Vec::with_capacity(certificate.len() + key_pem.len() + 1));
        pem.extend_from_slice(&certificate);
        pem.push(b'\n');
        pem.extend_from_slice(&key_pem);
        Ok(ClientCertificate {
            chain,
            key,
            pem,
            expires,
        })
    }
}
