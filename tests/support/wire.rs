use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use futures::Stream;
use futures::channel::mpsc;
use http::{Request, Response};
use http_body_util::StreamBody;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Any request body.
pub type AnyBody = BoxBody<Bytes, Infallible>;

pub fn empty() -> AnyBody {
    Empty::new().boxed()
}

pub fn full(body: impl Into<Bytes>) -> AnyBody {
    Full::new(body.into()).boxed()
}

/// A body of frames that the test sends one by one; without a length, so it is chunked.
pub fn fed() -> (mpsc::Sender<Frame<Bytes>>, AnyBody) {
    let (sender, frames) = mpsc::channel(0);
    (sender, streamed(frames))
}

pub fn streamed(frames: impl Stream<Item = Frame<Bytes>> + Send + Sync + 'static) -> AnyBody {
    use futures::StreamExt;
    BodyExt::boxed(StreamBody::new(frames.map(Ok)))
}

/// One HTTP/1.1 connection.
pub async fn http1(address: SocketAddr) -> http1::SendRequest<AnyBody> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// One HTTP/2 connection without TLS, by prior knowledge.
pub async fn http2(address: SocketAddr) -> http2::SendRequest<AnyBody> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    sender
}

/// Sends a request when the connection can take one.
pub async fn send(
    client: &mut http1::SendRequest<AnyBody>,
    request: Request<AnyBody>,
) -> Response<Incoming> {
    client.ready().await.unwrap();
    client.send_request(request).await.unwrap()
}

/// An upstream, or a client, that speaks in bytes.
pub struct Raw {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// Where [`Raw`] connections come from.
pub struct RawUpstream {
    socket: TcpListener,
    pub address: SocketAddr,
}

impl RawUpstream {
    pub async fn bind() -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        Self { socket, address }
    }

    pub async fn accept(&self) -> Raw {
        Raw::new(self.socket.accept().await.unwrap().0)
    }
}

impl Raw {
    fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    pub async fn connect(address: SocketAddr) -> Self {
        Self::new(TcpStream::connect(address).await.unwrap())
    }

    /// What it speaks over.
    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// A request or answer head, in small letters, up to the empty line.
    pub async fn head(&mut self) -> String {
        let head = self.until(b"\r\n\r\n").await;
        String::from_utf8(head).unwrap().to_ascii_lowercase()
    }

    /// Everything up to and with `end`.
    pub async fn until(&mut self, end: &[u8]) -> Vec<u8> {
        loop {
            let found = self.buffer.windows(end.len()).position(|part| part == end);
            if let Some(start) = found {
                return self.buffer.drain(..start + end.len()).collect();
            }
            let read = self.stream.read_buf(&mut self.buffer).await.unwrap();
            assert!(
                read > 0,
                "closed after {:?}",
                String::from_utf8_lossy(&self.buffer)
            );
        }
    }

    pub async fn exactly(&mut self, length: usize) -> Vec<u8> {
        while self.buffer.len() < length {
            assert!(self.stream.read_buf(&mut self.buffer).await.unwrap() > 0);
        }
        self.buffer.drain(..length).collect()
    }

    /// What comes next; nothing at the end.
    pub async fn some(&mut self) -> Vec<u8> {
        if self.buffer.is_empty() {
            self.buffer.reserve(64 * 1024);
            self.stream.read_buf(&mut self.buffer).await.unwrap();
        }
        std::mem::take(&mut self.buffer)
    }

    /// Everything up to the end of the connection.
    pub async fn rest(mut self) -> Vec<u8> {
        let _ = self.stream.read_to_end(&mut self.buffer).await;
        self.buffer
    }
}
