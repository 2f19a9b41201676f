use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use base64::Engine;
use http::Version;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// A private certificate authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate with its key.
pub struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

/// An upstream that speaks TLS and writes down what it was told.
pub struct TlsUpstream {
    pub address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
}

/// What an upstream was told.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// TCP connections.
    pub connections: usize,
    /// Handshakes that came to nothing.
    pub refused: usize,
    /// The server names of the handshakes that succeeded, with the protocol agreed upon.
    pub handshakes: Vec<(Option<String>, Option<String>)>,
    /// The certificates that clients showed, one for each handshake that succeeded, if they had to show one.
    pub clients: Vec<CertificateDer<'static>>,
    /// The requests: HTTP version, host, path.
    pub requests: Vec<(Version, String, String)>,
}

// === impl Authority ===

impl Authority {
    pub fn new() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // OpenSSL takes a certificate for self-signed that has its issuer's name.
        params
            .distinguished_name
            .push(DnType::CommonName, "Test authority");
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Self { issuer, pem }
    }

    /// Writes the bundle that trusts this authority.
    pub fn write(&self, folder: &Path) -> PathBuf {
        let path = folder.join("ca.pem");
        std::fs::write(&path, &self.pem).unwrap();
        path
    }

    /// A certificate for `name`.
    pub fn certify(&self, name: &str) -> Identity {
        self.sign(CertificateParams::new([name.to_owned()]).unwrap())
    }

    /// The pool that trusts this authority.
    pub fn roots(&self) -> rustls::RootCertStore {
        use rustls::pki_types::pem::PemObject;
        let mut roots = rustls::RootCertStore::empty();
        let certificate = CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap();
        roots.add(certificate).unwrap();
        roots
    }

    /// One for `name` that has expired.
    pub fn certify_expired(&self, name: &str) -> Identity {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
        self.sign(params)
    }

    fn sign(&self, params: CertificateParams) -> Identity {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity {
            certificate: certificate.der().clone(),
            key: key.into(),
        }
    }
}

// === impl Identity ===

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self {
            certificate: self.certificate.clone(),
            key: self.key.clone_key(),
        }
    }
}

impl Identity {
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    pub fn key(&self) -> PrivateKeyDer<'static> {
        self.key.clone_key()
    }

    /// Writes the certificate and its key as PEM files, called after `name`.
    pub fn write(&self, folder: &Path, name: &str) -> (PathBuf, PathBuf) {
        let pem = |kind: &str, der: &[u8]| {
            let body = base64::engine::general_purpose::STANDARD.encode(der);
            format!("-----BEGIN {kind}-----\n{body}\n-----END {kind}-----\n")
        };
        let certificate = folder.join(format!("{name}.pem"));
        let key = folder.join(format!("{name}.key"));
        std::fs::write(&certificate, pem("CERTIFICATE", &self.certificate)).unwrap();
        std::fs::write(&key, pem("PRIVATE KEY", self.key.secret_der())).unwrap();
        (certificate, key)
    }

    /// A certificate for `name` that no authority vouches for.
    pub fn self_signed(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        Self {
            certificate: params.self_signed(&key).unwrap().der().clone(),
            key: key.into(),
        }
    }
}

// === impl TlsUpstream ===

impl TlsUpstream {
    /// Serves `router` with HTTP/2 and HTTP/1.1.
    pub async fn start(identity: Identity, router: Router) -> Self {
        Self::with(identity, &["h2", "http/1.1"], router).await
    }

    /// Serves `router` with the `protocols` only.
    pub async fn with(identity: Identity, protocols: &[&str], router: Router) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        Self::accept(
            plain(identity, protocols),
            seen.clone(),
            served(router, seen),
        )
        .await
    }

    /// Serves `router` to those who show a certificate of `clients`.
    pub async fn demanding(identity: Identity, clients: &Authority, router: Router) -> Self {
        let verifier = WebPkiClientVerifier::builder(Arc::new(clients.roots()));
        let mut config = ServerConfig::builder()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(vec![identity.certificate], identity.key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".into(), b"http/1.1".into()];
        let seen = Arc::new(Mutex::new(Seen::default()));
        Self::accept(config, seen.clone(), served(router, seen)).await
    }

    /// Hands each connection to `serve`.
    pub async fn handled<F: Future<Output = ()> + Send + 'static>(
        identity: Identity,
        serve: impl Fn(TlsStream<TcpStream>) -> F + Send + 'static,
    ) -> Self {
        let config = plain(identity, &["h2", "http/1.1"]);
        Self::accept(config, Arc::default(), serve).await
    }

    async fn accept<F: Future<Output = ()> + Send + 'static>(
        config: ServerConfig,
        seen: Arc<Mutex<Seen>>,
        serve: impl Fn(TlsStream<TcpStream>) -> F + Send + 'static,
    ) -> Self {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let log = seen.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = socket.accept().await {
                log.lock().connections += 1;
                let Ok(stream) = acceptor.accept(stream).await else {
                    log.lock().refused += 1;
                    continue;
                };
                let connection = stream.get_ref().1;
                let name = connection.server_name().map(str::to_owned);
                let protocol = connection.alpn_protocol();
                let protocol = protocol.map(|name| String::from_utf8_lossy(name).into_owned());
                let mut seen = log.lock();
                seen.handshakes.push((name, protocol));
                let shown = connection.peer_certificates().and_then(<[_]>::first);
                seen.clients
                    .extend(shown.map(|shown| shown.clone().into_owned()));
                drop(seen);
                tokio::spawn(serve(stream));
            }
        });
        Self { address, seen }
    }

    pub fn seen(&self) -> Seen {
        self.seen.lock().clone()
    }
}

fn plain(identity: Identity, protocols: &[&str]) -> ServerConfig {
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![identity.certificate], identity.key)
        .unwrap();
    config.alpn_protocols = protocols
        .iter()
        .map(|name| name.as_bytes().into())
        .collect();
    config
}

/// How a connection is served with `router`.
fn served(
    router: Router,
    seen: Arc<Mutex<Seen>>,
) -> impl Fn(TlsStream<TcpStream>) -> futures::future::BoxFuture<'static, ()> + Send + 'static {
    let router = router.layer(middleware::from_fn_with_state(seen, note));
    move |stream| {
        let service = TowerToHyperService::new(router.clone());
        Box::pin(async move {
            let _ = auto::Builder::new(TokioExecutor::new())
                .serve_connection_with_upgrades(TokioIo::new(stream), service)
                .await;
        })
    }
}

async fn note(State(seen): State<Arc<Mutex<Seen>>>, request: Request, next: Next) -> Response {
    let host = match request.headers().get("host") {
        Some(host) => host.to_str().unwrap().to_owned(),
        None => request.uri().authority().unwrap().to_string(),
    };
    let path = request.uri().path().to_owned();
    seen.lock().requests.push((request.version(), host, path));
    next.run(request).await
}
