//! The gate on one connection's bytes. pingora reads through it and gets what the pure part lets pass: of HTTP/1.x one whole
//! head at a time, with what has arrived of its body, and nothing of the next request before this one is answered. So there is
//! nothing for pingora to find beyond a body, and no way for the two to differ about where a request ends.
//!
//! Nothing is copied where a request arrives in one piece.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io::{self, Cursor, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use pingora::http::ResponseHeader;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::{SslDigest, TlsRef};
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    Stream, TimingDigest, UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::census::Place;
use super::framing::Framing;
use super::head::HeadLimits;
use super::line::Line;
use super::refusal::Refusal;

/// What a client may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    pub(super) head: HeadLimits,
    /// For a whole head, from its first byte.
    pub(super) head_timeout: Duration,
    /// For the first byte of the next one.
    pub(super) idle_timeout: Duration,
    /// Bytes of a body for each second of waiting for it; 0: any.
    pub(super) body_rate: u64,
    /// A body has so long before its rate is looked at.
    pub(super) body_grace: Duration,
}

/// A client's connection, behind the gate.
#[derive(Debug)]
pub(super) struct Gate {
    stream: Stream,
    mode: Mode,
    framing: Framing,
    /// Read and not handed over. The first `ready` bytes may be.
    held: BytesMut,
    ready: usize,
    line: Arc<Line>,
    digest: Arc<ProxyDigest>,
    patience: Patience,
    head_deadline: Deadline,
    idle_deadline: Deadline,
    /// Whether there was a request since `idle_deadline` was set.
    served: bool,
    arriving: Arriving,
    refused: bool,
    place: Option<Place>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Every byte is judged.
    Http1,
    /// HTTP/2, or a tunnel: bytes are passed on.
    Through,
    /// A request was refused: there is nothing any more.
    Over,
}

/// How a body arrives. Only the time counts in which we wait for it.
#[derive(Debug, Default)]
struct Arriving {
    bytes: u64,
    waited: Duration,
    since: Option<Instant>,
}

const HTTP2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// What is read of the next request while one is answered, so that a client that hangs up is noticed.
const AHEAD: usize = 16 * 1024;
const PIECE: usize = 4096;
/// After a refusal: how long and how much is still read, so that the answer is not lost in a reset.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 1024 * 1024;

/// A time by which something must have happened, where that is nearly always so. pingora's timer keeps it and not the runtime's:
/// a worker that goes to sleep with a timer of its own set has the kernel set one too, each time.
#[derive(Default)]
struct Deadline(Option<Timer>);

type Timer = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;

// === impl Gate ===

impl Gate {
    pub(super) fn new(stream: Stream, patience: Patience, place: Place) -> io::Result<Self> {
        let line = Arc::new(Line::default());
        let answer = ResponseHeader::build(200, Some(0)).map_err(io::Error::other)?;
        let digest = ProxyDigest::new(Box::new(answer), Some(Box::new(line.clone())));
        Ok(Self {
            mode: match stream.selected_alpn_proto() {
                Some(ALPN::H2) => Mode::Through,
                _ => Mode::Http1,
            },
            stream,
            framing: Framing::new(patience.head),
            held: BytesMut::new(),
            ready: 0,
            line,
            digest: Arc::new(digest),
            patience,
            head_deadline: Deadline::default(),
            idle_deadline: Deadline::default(),
            served: false,
            arriving: Arriving::default(),
            refused: false,
            place: Some(place),
        })
    }

    fn poll_http1(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if self.ready > 0 {
                let length = self.ready.min(buffer.remaining());
                buffer.put_slice(&self.held[..length]);
                self.held.advance(length);
                self.ready -= length;
                return Poll::Ready(Ok(()));
            }
            match self.mode {
                Mode::Over => return Poll::Ready(Ok(())),
                Mode::Through if self.held.is_empty() => {
                    return Pin::new(&mut self.stream).poll_read(cx, buffer);
                }
                Mode::Through => {
                    self.ready = self.held.len();
                    continue;
                }
                Mode::Http1 => {}
            }
            if self.framing.in_body() {
                if self.held.is_empty() {
                    return self.poll_body(cx, buffer);
                }
                match self.framing.body(&self.held) {
                    Ok(length) => self.ready = length,
                    Err(refusal) => return self.break_off(refusal),
                }
            } else if self.line.is_taken() {
                return self.poll_ahead(cx, buffer);
            } else if self.line.is_tunnel() {
                self.mode = Mode::Through;
            } else if self.framing.is_last() {
                return Poll::Ready(Ok(()));
            } else if self.held.is_empty() {
                let before = buffer.filled().len();
                if Pin::new(&mut self.stream)
                    .poll_read(cx, buffer)?
                    .is_pending()
                {
                    return self.poll_idle(cx);
                }
                let read = &buffer.filled()[before..];
                if read.is_empty() {
                    return Poll::Ready(Ok(()));
                }
                match self.framing.head(read) {
                    Ok(Some(length)) => {
                        if length < read.len() {
                            self.held.extend_from_slice(&read[length..]);
                            buffer.set_filled(before + length);
                        }
                        self.hand_over(length);
                        return Poll::Ready(Ok(()));
                    }
                    Ok(None) => {
                        self.held.extend_from_slice(read);
                        buffer.set_filled(before);
                    }
                    Err(refusal) => {
                        buffer.set_filled(before);
                        self.refuse(refusal);
                    }
                }
            } else {
                match self.framing.head(&self.held) {
                    Ok(Some(length)) => {
                        self.hand_over(length);
                        self.ready = length;
                    }
                    Ok(None) => match self.poll_fill(cx)? {
                        Poll::Ready(0) => {
                            self.held.clear();
                            return Poll::Ready(Ok(()));
                        }
                        Poll::Ready(_) => {}
                        Poll::Pending => {
                            ready!(self.poll_head_deadline(cx));
                            self.refuse(Refusal::HeaderTimeout);
                        }
                    },
                    Err(refusal) => self.refuse(refusal),
                }
            }
        }
    }

    /// A request goes to pingora.
    fn hand_over(&mut self, length: usize) {
        self.line.take();
        self.head_deadline.lift();
        self.served = true;
        if self.framing.in_body() {
            self.arriving = Arriving {
                bytes: length as u64,
                ..Arriving::default()
            };
        }
    }

    /// In place of the request, pingora gets one that says why; and nothing after that.
    fn refuse(&mut self, refusal: Refusal) {
        self.line.take();
        self.head_deadline.lift();
        self.held.clear();
        self.held.extend_from_slice(&refusal.marker());
        self.ready = self.held.len();
        self.mode = Mode::Over;
        self.refused = true;
    }

    /// The request has been handed over already: its body ends in an error.
    fn break_off(&mut self, refusal: Refusal) -> Poll<io::Result<()>> {
        self.held.clear();
        self.mode = Mode::Over;
        self.refused = true;
        Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, refusal)))
    }

    fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if Pin::new(&mut self.stream)
            .poll_read(cx, buffer)?
            .is_pending()
        {
            self.arriving.since.get_or_insert_with(Instant::now);
            return Poll::Pending;
        }
        let read = &buffer.filled()[before..];
        if read.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let judged = match self.arriving.is_too_slow(read.len(), &self.patience) {
            true => Err(Refusal::BodyRate),
            false => self.framing.body(read),
        };
        match judged {
            Ok(length) => {
                if length < read.len() {
                    self.held.extend_from_slice(&read[length..]);
                    buffer.set_filled(before + length);
                }
                Poll::Ready(Ok(()))
            }
            Err(refusal) => {
                buffer.set_filled(before);
                self.break_off(refusal)
            }
        }
    }

    /// While a request is answered: notices that the client hangs up, and keeps what it sends meanwhile.
    fn poll_ahead(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if self.held.is_empty() {
            ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
            let read = &buffer.filled()[before..];
            if read.is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.held.extend_from_slice(read);
            buffer.set_filled(before);
        }
        while self.held.len() < AHEAD {
            if ready!(self.poll_fill(cx))? == 0 {
                return Poll::Ready(Ok(()));
            }
        }
        // Asked again for the next request.
        Poll::Pending
    }

    /// Reads more into `held`; 0: the client sends no more.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut piece = [0; PIECE];
        let mut piece = ReadBuf::new(&mut piece);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut piece))?;
        self.held.extend_from_slice(piece.filled());
        Poll::Ready(Ok(piece.filled().len()))
    }

    fn poll_head_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.head_deadline.poll(self.patience.head_timeout, cx)
    }

    /// Between requests. The deadline is not moved by every request, which costs too much, but when it has passed: a connection is
    /// closed that was idle for at least the time-out and at most twice that.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let timeout = self.patience.idle_timeout;
        if !self.idle_deadline.is_set() {
            self.served = false;
        }
        while self.idle_deadline.poll(timeout, cx).is_ready() {
            if !std::mem::take(&mut self.served) {
                return Poll::Ready(Ok(()));
            }
        }
        Poll::Pending
    }

    /// Tells HTTP/2 by prior knowledge from HTTP/1.x, as soon as that can be told.
    fn poll_preface(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        loop {
            let length = self.held.len().min(HTTP2_PREFACE.len());
            if self.held[..length] != HTTP2_PREFACE[..length] {
                return Poll::Ready(Ok(false));
            }
            if length == HTTP2_PREFACE.len() {
                self.head_deadline.lift();
                self.mode = Mode::Through;
                return Poll::Ready(Ok(true));
            }
            match self.poll_fill(cx)? {
                Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Poll::Ready(_) => {}
                Poll::Pending => {
                    ready!(self.poll_head_deadline(cx));
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
            }
        }
    }
}

impl Deadline {
    fn is_set(&self) -> bool {
        self.0.is_some()
    }

    fn lift(&mut self) {
        self.0 = None;
    }

    /// Whether it has passed; set to be after `timeout`, unless it is set. One that has passed is not set any more.
    fn poll(&mut self, timeout: Duration, cx: &mut Context<'_>) -> Poll<()> {
        let timer = || Box::pin(pingora::time::sleep(timeout)) as Timer;
        ready!(self.0.get_or_insert_with(timer).as_mut().poll(cx));
        self.lift();
        Poll::Ready(())
    }
}

impl fmt::Debug for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Deadline").field(&self.is_set()).finish()
    }
}

impl Arriving {
    /// Counts `bytes` that have arrived.
    fn is_too_slow(&mut self, bytes: usize, patience: &Patience) -> bool {
        let rate = patience.body_rate;
        self.bytes = self.bytes.saturating_add(bytes as u64);
        let Some(since) = self.since.take() else {
            return false;
        };
        self.waited += since.elapsed();
        rate > 0
            && self.waited > patience.body_grace
            && u128::from(self.bytes) * 1000 < u128::from(rate) * self.waited.as_millis()
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        if self.refused
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let stream = std::mem::replace(&mut self.stream, Box::new(Cursor::new(Vec::new())));
            runtime.spawn(linger(stream, self.place.take()));
        }
    }
}

/// Closes a connection on which more may be on its way, so that the answer arrives first: the kernel answers bytes that nobody
/// reads with a reset, and a reset throws away what the client has not read.
async fn linger(mut stream: Stream, place: Option<Place>) {
    let _ = AsyncWriteExt::shutdown(&mut stream).await;
    let drained = async {
        let mut piece = [0; PIECE];
        let mut left = LINGER_BYTES;
        while left > 0 {
            match stream.read(&mut piece).await {
                Ok(0) | Err(_) => return,
                Ok(read) => left = left.saturating_sub(read),
            }
        }
    };
    let _ = tokio::time::timeout(LINGER, drained).await;
    drop((stream, place));
}

impl AsyncRead for Gate {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let gate = self.get_mut();
        match gate.mode == Mode::Through && gate.held.is_empty() {
            true => Pin::new(&mut gate.stream).poll_read(cx, buffer),
            false => gate.poll_http1(cx, buffer),
        }
    }
}

impl AsyncWrite for Gate {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[async_trait]
impl Shutdown for Gate {
    async fn shutdown(&mut self) {
        Shutdown::shutdown(self.stream.as_mut()).await;
    }
}

#[async_trait]
impl Peek for Gate {
    async fn try_peek(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        if poll_fn(|cx| self.poll_preface(cx)).await? && buffer.len() == HTTP2_PREFACE.len() {
            buffer.copy_from_slice(HTTP2_PREFACE);
        }
        Ok(true)
    }
}

impl UniqueID for Gate {
    fn id(&self) -> UniqueIDType {
        self.stream.id()
    }
}

impl Ssl for Gate {
    fn get_ssl(&self) -> Option<&TlsRef> {
        self.stream.get_ssl()
    }

    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.stream.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.stream.selected_alpn_proto()
    }
}

impl GetTimingDigest for Gate {
    /// None: pingora asks for each request when the connection was made, and nobody wants to know.
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }

    fn get_read_pending_time(&self) -> Duration {
        self.stream.get_read_pending_time()
    }

    fn get_write_pending_time(&self) -> Duration {
        self.stream.get_write_pending_time()
    }
}

impl GetProxyDigest for Gate {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        Some(self.digest.clone())
    }
}

impl GetSocketDigest for Gate {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.stream.get_socket_digest()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_time_spent_waiting_counts_against_a_body() {
        let waited = |seconds: u64, bytes: u64| Arriving {
            bytes,
            waited: Duration::from_secs(seconds),
            since: Some(Instant::now()),
        };
        let patience = |rate| Patience {
            head: HeadLimits { bytes: 0, count: 0 },
            head_timeout: Duration::ZERO,
            idle_timeout: Duration::ZERO,
            body_rate: rate,
            body_grace: Duration::from_secs(10),
        };
        assert!(waited(20, 1999).is_too_slow(0, &patience(100)));
        assert!(!waited(20, 2000).is_too_slow(100, &patience(100)));
        assert!(
            !waited(20, 0).is_too_slow(1, &patience(0)),
            "no rate is asked for"
        );
        assert!(
            !waited(9, 0).is_too_slow(1, &patience(100)),
            "there is a grace"
        );
        let mut at_once = Arriving {
            since: None,
            ..waited(20, 0)
        };
        assert!(
            !at_once.is_too_slow(1, &patience(100)),
            "it was not waited for"
        );
    }
}
