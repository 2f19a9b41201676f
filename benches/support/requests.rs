//! What is asked: the same request for every visitor, but for the visitor's cookie.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::{BODY, PATIENCE};

/// What is asked of the upstream to learn what it has been sent.
pub(crate) const CHECK: &str = "/check";
const PAGE: &str = "/women/dresses?page=2";

/// The requests of many visitors.
pub(crate) struct Requests {
    before: Vec<u8>,
    /// `name=value` of each visitor, one after the other, all of the same length.
    cookies: Vec<u8>,
    length: usize,
    after: Vec<u8>,
}

// === impl Requests ===

impl Requests {
    /// The requests of one visitor, or of somebody without a cookie.
    pub(crate) fn of_one(cookie: Option<&str>) -> Self {
        match cookie {
            None => Self::new(PAGE, Vec::new(), 0),
            Some(cookie) => Self::new(PAGE, cookie.as_bytes().to_vec(), cookie.len()),
        }
    }

    /// The requests of visitors whose cookies, each `length` bytes, stand one after the other.
    pub(crate) fn of_many(cookies: Vec<u8>, length: usize) -> Self {
        assert!(length > 0 && cookies.len().is_multiple_of(length));
        Self::new(PAGE, cookies, length)
    }

    fn new(path: &str, cookies: Vec<u8>, length: usize) -> Self {
        let [cookie, end] = match length {
            0 => ["", "\r\n"],
            _ => ["cookie: locale=en; ", "; cart=7\r\n\r\n"],
        };
        let before = format!(
            "GET {path} HTTP/1.1\r\nhost: shop.example\r\n\
             user-agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
             accept: text/html,application/xhtml+xml\r\naccept-language: en-GB,en\r\naccept-encoding: gzip, br\r\n{cookie}"
        );
        Self {
            before: before.into_bytes(),
            cookies,
            length,
            after: end.into(),
        }
    }

    /// How many visitors there are; somebody without a cookie counts as one.
    pub(crate) fn visitors(&self) -> usize {
        self.cookies.len().checked_div(self.length).unwrap_or(1)
    }

    /// The visitor's cookie, as `name=value`.
    pub(crate) fn cookie(&self, visitor: usize) -> &[u8] {
        &self.cookies[visitor * self.length..][..self.length]
    }

    /// A buffer for [`Requests::write`].
    pub(crate) fn buffer(&self) -> Vec<u8> {
        [&self.before[..], self.cookie(0), &self.after].concat()
    }

    /// Makes what is in the buffer the visitor's request.
    pub(crate) fn write(&self, buffer: &mut [u8], visitor: usize) {
        buffer[self.before.len()..][..self.length].copy_from_slice(self.cookie(visitor));
    }

    /// How many bytes a request has.
    pub(crate) fn request_length(&self) -> usize {
        self.before.len() + self.length + self.after.len()
    }

    /// The two headers that reach the upstream when the visitor asks for something: the token and the key.
    pub(crate) fn check(&self, address: SocketAddr, visitor: usize) -> [String; 2] {
        let one = Self::new(CHECK, self.cookie(visitor).to_vec(), self.length);
        let (_, body) = ask(address, &one.buffer());
        let mut lines = body.split('\n').map(str::to_owned);
        [(); 2].map(|()| lines.next().unwrap())
    }
}

/// One request over a connection of its own; the answer's head and body.
fn ask(address: SocketAddr, request: &[u8]) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request).unwrap();
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        let read = reader.read_line(&mut head).unwrap();
        assert!(read > 0, "the connection was closed: {head}");
    }
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let mut body = vec![0; BODY];
    reader.read_exact(&mut body).unwrap();
    (head, String::from_utf8(body).unwrap())
}

/// Whether who listens there, if anybody does, passes requests on: some listen before they know their routes.
pub(crate) fn is_answered(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(address) else {
        return false;
    };
    let mut status = [0; b"HTTP/1.1 200".len()];
    let _ = stream.set_read_timeout(Some(PATIENCE));
    stream.write_all(&Requests::of_one(None).buffer()).is_ok()
        && stream.read_exact(&mut status).is_ok()
        && &status == b"HTTP/1.1 200"
}

/// The visitor cookie that a system sets, as `name=value`.
pub(crate) fn visitor_cookie(address: SocketAddr) -> Option<String> {
    let (head, _) = ask(address, &Requests::of_one(None).buffer());
    let line = head.lines().find(|line| {
        line.to_ascii_lowercase()
            .starts_with("set-cookie: visitor=")
    })?;
    let pair = line["set-cookie: ".len()..].split(';').next()?;
    Some(pair.to_owned())
}

/// The value of a header in a request's or an answer's head.
pub(crate) fn header<'a>(head: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut lines = head.split(|byte| *byte == b'\n');
    lines.find_map(|line| {
        let (found, value) = line.split_at_checked(name.len())?;
        let value = value.strip_prefix(b":")?;
        found
            .eq_ignore_ascii_case(name.as_bytes())
            .then_some(value.trim_ascii())
    })
}
