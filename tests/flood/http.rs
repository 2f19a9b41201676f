//! A client that takes little of the processors: one connection, one request at a time, bytes ready-made.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// A client at one address, with the connection that it keeps.
pub struct Client {
    from: Ipv4Addr,
    to: SocketAddr,
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
}

/// An answer, as long as the next one is not asked for.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    pub status: u16,
    /// Why it is anonymous; nothing if it is not.
    pub reason: &'a str,
    /// The first cookie that it sets, without its attributes.
    pub cookie: Option<&'a str>,
    pub body: &'a [u8],
}

/// Where things are in the buffer.
struct Parsed {
    status: u16,
    reason: Range<usize>,
    cookie: Option<Range<usize>>,
    body: Range<usize>,
    is_last: bool,
}

const MOST_HEADERS: usize = 64;

impl Client {
    /// Not yet connected.
    pub fn new(from: Ipv4Addr, to: SocketAddr) -> Self {
        Self {
            from,
            to,
            stream: None,
            buffer: Vec::new(),
        }
    }

    /// The server is somewhere else from now on.
    pub fn go_to(&mut self, to: SocketAddr) {
        self.to = to;
        self.stream = None;
    }

    /// Sends a request and reads its answer; `bodiless` as that of a HEAD. Where the connection was closed before a byte of the
    /// answer came, once more on another one, as every client does.
    pub async fn ask(&mut self, request: &[u8], bodiless: bool) -> io::Result<Answer<'_>> {
        let kept = self.stream.is_some();
        let parsed = match self.exchange(request, bodiless).await {
            Err(_) if kept && self.buffer.is_empty() => self.exchange(request, bodiless).await?,
            parsed => parsed?,
        };
        let text = |range: Range<usize>| std::str::from_utf8(&self.buffer[range]).ok();
        Ok(Answer {
            status: parsed.status,
            reason: text(parsed.reason).unwrap_or_default(),
            cookie: parsed.cookie.and_then(text),
            body: &self.buffer[parsed.body],
        })
    }

    async fn exchange(&mut self, request: &[u8], bodiless: bool) -> io::Result<Parsed> {
        self.buffer.clear();
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => connect(self.from, self.to).await?,
        };
        stream.write_all(request).await?;
        loop {
            if stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(parsed) = parse(&self.buffer, bodiless)? {
                if !parsed.is_last {
                    self.stream = Some(stream);
                }
                return Ok(parsed);
            }
        }
    }
}

/// A connection from one of this machine's addresses.
pub async fn connect(from: Ipv4Addr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    let stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The answer, if all of it is there. Bodies have a length here.
fn parse(bytes: &[u8], bodiless: bool) -> io::Result<Option<Parsed>> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut head = httparse::Response::new(&mut headers);
    let malformed = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let length = match head.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
    };
    let place = |value: &[u8]| {
        let start = value.as_ptr().addr() - bytes.as_ptr().addr();
        start..start + value.len()
    };
    let mut parsed = Parsed {
        status: head.code.unwrap_or_default(),
        reason: 0..0,
        cookie: None,
        body: length..length,
        is_last: false,
    };
    let mut body = None;
    for header in head.headers.iter() {
        let value = header.value;
        if header.name.eq_ignore_ascii_case("content-length") {
            body = std::str::from_utf8(value)
                .ok()
                .and_then(|text| text.parse::<usize>().ok());
        } else if header.name.eq_ignore_ascii_case("dressipi-sidecar") {
            let reason = value.strip_prefix(b"anonymous; reason=");
            parsed.reason = reason.map_or(0..0, place);
        } else if header.name.eq_ignore_ascii_case("set-cookie") && parsed.cookie.is_none() {
            let pair = value.split(|byte| *byte == b';').next();
            parsed.cookie = pair.map(place);
        } else if header.name.eq_ignore_ascii_case("connection") {
            parsed.is_last = value.eq_ignore_ascii_case(b"close");
        }
    }
    if !bodiless && !matches!(parsed.status, 204 | 304) {
        parsed.body.end += body.ok_or_else(|| malformed("a body without a length"))?;
    }
    Ok((bytes.len() >= parsed.body.end).then_some(parsed))
}
