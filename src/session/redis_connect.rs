//! One connection: TCP, TLS, login, and a look at who answers.
//!
//! The stream is made here and handed to the redis crate, so that certificates are read once, names are verified by the
//! same rustls as everywhere else, and connecting has one bound.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection, PubSub};
use redis::{
    AsyncConnectionConfig, ErrorKind, Pipeline, RedisConnectionInfo, RedisError, RedisResult,
    ServerErrorKind, Value,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::redis_scripts::SCRIPTS;
use super::redis_settings::{RedisAddress, RedisLogin, RedisServers, RedisSettings, RedisTls};

/// Opens connections.
pub(super) struct Connector {
    tls: Option<TlsConnector>,
    server: RedisConnectionInfo,
    sentinel: RedisConnectionInfo,
    /// Within this a connection is open, or it failed.
    bound: Duration,
}

/// Which login a connection takes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Login {
    Server,
    Sentinel,
}

/// TCP, or TLS over it.
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Why TLS cannot be spoken as configured.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {reason}")]
pub struct TlsFileError {
    what: String,
    reason: String,
}

// === impl Connector ===

impl Connector {
    /// Reads the certificates.
    pub(super) fn new(settings: &RedisSettings) -> Result<Self, TlsFileError> {
        let tls = settings.tls.as_ref().map(client_config).transpose()?;
        let sentinel = match &settings.servers {
            RedisServers::Sentinel { login, .. } => info(login),
            _ => RedisConnectionInfo::default(),
        };
        Ok(Self {
            tls: tls.map(|config| TlsConnector::from(Arc::new(config))),
            server: info(&settings.login).set_db(settings.database.into()),
            sentinel,
            bound: settings.connect_timeout,
        })
    }

    /// A connection to a master that knows our scripts.
    pub(super) async fn master(
        &self,
        address: &RedisAddress,
    ) -> RedisResult<MultiplexedConnection> {
        self.bounded(address, async {
            let mut connection = self.multiplexed(address, &self.server).await?;
            let mut setup = Pipeline::new();
            setup.cmd("ROLE");
            for script in SCRIPTS {
                setup.add_command(script.load());
            }
            let answers = connection
                .req_packed_commands(&setup, 0, setup.len())
                .await?;
            // Both are for speed and safety; a user who may do neither can still do our work.
            match answers.into_iter().next() {
                Some(Value::Array(role)) if !is_master(&role) => Err(RedisError::from((
                    ErrorKind::Server(ServerErrorKind::ReadOnly),
                    "the server is a replica",
                ))),
                Some(Value::ServerError(error))
                    if error.kind() == Some(ServerErrorKind::BusyLoading) =>
                {
                    Err(error.into())
                }
                _ => Ok(connection),
            }
        })
        .await
    }

    /// A connection for a question, to whoever listens there.
    pub(super) async fn plain(
        &self,
        address: &RedisAddress,
        login: Login,
    ) -> RedisResult<MultiplexedConnection> {
        let login = match login {
            Login::Server => &self.server,
            Login::Sentinel => &self.sentinel,
        };
        self.bounded(address, self.multiplexed(address, login))
            .await
    }

    /// A connection that hears `channel`.
    pub(super) async fn subscriber(
        &self,
        address: &RedisAddress,
        channel: &str,
    ) -> RedisResult<PubSub> {
        self.bounded(address, async {
            let stream = self.stream(address).await?;
            let mut subscriber = PubSub::new(&self.server, stream).await?;
            subscriber.subscribe(channel).await?;
            Ok(subscriber)
        })
        .await
    }

    /// An answer that must come within the bound for connecting.
    pub(super) async fn within<T>(
        &self,
        asking: impl Future<Output = RedisResult<T>>,
    ) -> RedisResult<T> {
        match tokio::time::timeout(self.bound, asking).await {
            Ok(answer) => answer,
            Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
        }
    }

    async fn multiplexed(
        &self,
        address: &RedisAddress,
        login: &RedisConnectionInfo,
    ) -> RedisResult<MultiplexedConnection> {
        let stream = self.stream(address).await?;
        // Every call has a bound of its own; the connection's would end calls that wait for replicas.
        let config = AsyncConnectionConfig::new()
            .set_response_timeout(None)
            .set_connection_timeout(None);
        let (connection, driver) =
            MultiplexedConnection::new_with_config(login, stream, config).await?;
        // Ends when the last clone of the connection is dropped.
        tokio::spawn(driver);
        Ok(connection)
    }

    async fn stream(&self, address: &RedisAddress) -> RedisResult<Stream> {
        let socket = TcpStream::connect((address.host.as_str(), address.port)).await?;
        socket.set_nodelay(true)?;
        let Some(tls) = &self.tls else {
            return Ok(Stream::Plain(socket));
        };
        let name = ServerName::try_from(address.host.clone()).map_err(io::Error::other)?;
        let stream = tls.connect(name, socket).await?;
        Ok(Stream::Tls(Box::new(stream)))
    }

    async fn bounded<T>(
        &self,
        address: &RedisAddress,
        connecting: impl Future<Output = RedisResult<T>>,
    ) -> RedisResult<T> {
        self.within(connecting).await.inspect_err(|error| {
            tracing::debug!(%address, %error, "no connection to Redis");
        })
    }
}

fn info(login: &RedisLogin) -> RedisConnectionInfo {
    let mut info = RedisConnectionInfo::default();
    if let Some(username) = &login.username {
        info = info.set_username(username);
    }
    if let Some(password) = &login.password {
        info = info.set_password(password.expose());
    }
    info
}

fn is_master(role: &[Value]) -> bool {
    matches!(role.first(), Some(Value::BulkString(role)) if role == b"master")
}

/// One TLS configuration for all connections.
fn client_config(tls: &RedisTls) -> Result<ClientConfig, TlsFileError> {
    // Fails only where one is installed already, and then that one will do.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = ClientConfig::builder();
    let builder = match &tls.ca_file {
        Some(file) => {
            let what = || file.display().to_string();
            let mut roots = RootCertStore::empty();
            for certificate in CertificateDer::pem_file_iter(file).map_err(failed(what()))? {
                let certificate = certificate.map_err(failed(what()))?;
                roots.add(certificate).map_err(failed(what()))?;
            }
            builder.with_root_certificates(roots)
        }
        None => builder
            .with_platform_verifier()
            .map_err(failed("the system's certificate authorities".to_owned()))?,
    };
    let Some(identity) = &tls.client else {
        return Ok(builder.with_no_client_auth());
    };
    let ours = identity.load().map_err(|error| TlsFileError {
        what: error.path.display().to_string(),
        reason: error.reason,
    })?;
    builder
        .with_client_auth_cert(ours.chain, ours.key)
        .map_err(failed(identity.certificate_file.display().to_string()))
}

fn failed<E: std::fmt::Display>(what: String) -> impl FnOnce(E) -> TlsFileError {
    move |error| TlsFileError {
        what,
        reason: error.to_string(),
    }
}

// === impl Stream ===

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, into),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, into),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, from),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, from),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
