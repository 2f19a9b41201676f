//! Connections for upgrade requests (WebSocket).
//!
//! pingora 0.9.1 takes the end of the request's empty body for the end of the tunnel if the upstream's 101 was read before
//! (<https://github.com/cloudflare/pingora/issues/946>): a fast upstream, a busy processor, and the client sees its tunnel
//! close as soon as it is open. Until that is mended, such a connection has nothing to read at the first polls after a
//! write. What pingora has queued is taken in the meantime.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use async_trait::async_trait;
use pingora::connectors::L4Connect;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::protocols::l4::stream::Stream;
use pingora::protocols::l4::virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream};
use pingora::{Error, ErrorType, Result};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Makes connections that let the writer go first. The peer's `total_connection_timeout` bounds it.
#[derive(Clone, Copy, Debug)]
pub(super) struct WriterFirst;

/// Such a connection.
#[derive(Debug)]
struct Held<S> {
    stream: S,
    /// How many polls are still to find nothing.
    polls: u8,
}

/// One poll would do; a second one is for a task whose cooperative budget ran out during the first.
const HELD_POLLS: u8 = 2;

#[async_trait]
impl L4Connect for WriterFirst {
    async fn connect(&self, address: &SocketAddr) -> Result<Stream> {
        let address = address.as_inet().ok_or_else(|| {
            Error::explain(ErrorType::InternalError, "an upstream is an IP address")
        })?;
        let stream = TcpStream::connect(address).await.map_err(|error| {
            let kind = match error.kind() {
                io::ErrorKind::ConnectionRefused => ErrorType::ConnectRefused,
                io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                    ErrorType::ConnectNoRoute
                }
                _ => ErrorType::ConnectError,
            };
            Error::because(kind, "connecting for an upgrade", error)
        })?;
        Ok(VirtualSocketStream::new(Box::new(Held { stream, polls: 0 })).into())
    }
}

impl VirtualSocket for Held<TcpStream> {
    fn set_socket_option(&self, option: VirtualSockOpt) -> io::Result<()> {
        match option {
            VirtualSockOpt::NoDelay => self.stream.set_nodelay(true),
            // No peer asks for keep-alive or anything else.
            _ => Ok(()),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Held<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.polls > 0 {
            self.polls -= 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Held<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.polls = HELD_POLLS;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn after_a_write_what_is_queued_beside_it_comes_before_what_is_read() {
        let (near, mut far) = tokio::io::duplex(64);
        let mut held = Held {
            stream: near,
            polls: 0,
        };
        for _ in 0..100 {
            held.write_all(b"question").await.unwrap();
            far.write_all(b"!").await.unwrap();
            let (sender, mut queue) = tokio::sync::mpsc::channel(1);
            sender.try_send(()).unwrap();
            // Both are ready, and the order in which they are polled is random.
            tokio::select! {
                _ = held.read_u8() => panic!("read first"),
                _ = queue.recv() => {}
            }
            assert_eq!(held.read_u8().await.unwrap(), b'!');
            far.read_exact(&mut [0; 8]).await.unwrap();
        }
    }
}
