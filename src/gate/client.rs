//! A client's connection as the system gives it: the socket, with a buffer in which an answer's head and body come together.
//!
//! In place of pingora's own stream, which does more than is needed here: it takes the time of each wait, can give back what was read,
//! and copies.

use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    TimingDigest, UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufStream, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// A connection that has been accepted.
#[derive(Debug)]
pub(super) struct Client {
    socket: BufStream<Socket>,
    digest: Arc<SocketDigest>,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A connection that no runtime has yet.
#[derive(Debug)]
pub enum Accepted {
    /// Over TCP, with the client's address.
    Tcp(std::net::TcpStream, std::net::SocketAddr),
    /// Over a Unix-domain socket.
    Unix(std::os::unix::net::UnixStream),
}

/// An answer's head and a body below 15 KB leave in one write.
const WRITE_BUFFER: usize = 16 * 1024;
/// TLS asks for 4 KiB at a time.
const READ_BUFFER: usize = 8 * 1024;
/// Without TLS whoever reads has a buffer of their own. Who has room for as much as this buffer goes past it: so this is none.
const NO_BUFFER: usize = 1;

// === impl Accepted ===

impl Accepted {
    pub(super) fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp(_, peer) => Some(peer.ip()),
            Self::Unix(_) => None,
        }
    }
}

// === impl Client ===

impl Client {
    /// The connection on the present runtime.
    pub(super) fn new(accepted: Accepted, tls: bool) -> io::Result<Self> {
        let (socket, peer) = match accepted {
            Accepted::Tcp(stream, peer) => {
                let stream = TcpStream::from_std(stream)?;
                stream.set_nodelay(true)?;
                (Socket::Tcp(stream), Some(peer.into()))
            }
            // It has no address that says anything.
            Accepted::Unix(stream) => (Socket::Unix(UnixStream::from_std(stream)?), None),
        };
        let read_buffer = if tls { READ_BUFFER } else { NO_BUFFER };
        let digest = SocketDigest::from_raw_fd(socket.as_raw_fd());
        // The cell is new.
        let _ = digest.peer_addr.set(peer);
        Ok(Self {
            socket: BufStream::with_capacity(read_buffer, WRITE_BUFFER, socket),
            digest: Arc::new(digest),
        })
    }

    fn socket(self: Pin<&mut Self>) -> Pin<&mut BufStream<Socket>> {
        Pin::new(&mut self.get_mut().socket)
    }
}

/// An answer that is broken off goes as far as it was received.
impl Drop for Client {
    fn drop(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        // What the socket does not take at once is not waited for.
        let _ = Pin::new(&mut self.socket).poll_flush(&mut cx);
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        match self {
            Self::Tcp(stream) => stream.as_raw_fd(),
            Self::Unix(stream) => stream.as_raw_fd(),
        }
    }
}

impl AsyncRead for Socket {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Socket {
    #[inline]
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    /// A socket keeps nothing back.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

impl AsyncRead for Client {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.socket().poll_read(cx, buffer)
    }
}

impl AsyncWrite for Client {
    #[inline]
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.socket().poll_write(cx, bytes)
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket().poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.socket().poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}

#[async_trait]
impl Shutdown for Client {
    async fn shutdown(&mut self) {
        if let Err(error) = AsyncWriteExt::shutdown(self).await {
            tracing::debug!(%error, "a connection was not closed as it should be");
        }
    }
}

impl UniqueID for Client {
    fn id(&self) -> UniqueIDType {
        self.socket.get_ref().as_raw_fd()
    }
}

/// TLS is spoken over it, if at all.
impl Ssl for Client {}

/// The gate looks ahead by itself.
#[async_trait]
impl Peek for Client {}

/// None: pingora asks for each request, and nobody wants to know.
impl GetTimingDigest for Client {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }

    fn get_read_pending_time(&self) -> Duration {
        Duration::ZERO
    }

    fn get_write_pending_time(&self) -> Duration {
        Duration::ZERO
    }
}

impl GetProxyDigest for Client {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for Client {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(self.digest.clone())
    }
}
