//! A Dressipi that answers its two OAuth calls at once, and a shop that answers everything else with one page.
//!
//! The simulator of this repository is strict and keeps a ledger; this one is for measuring: it keeps counts only. It gives answers of
//! the right shape with tokens as long as Dressipi's, and refuses a code or a refresh token that it never gave. PKCE's challenge is not
//! worked out again: the sidecar does that work, and the mock is to take as little of the machine as it can.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use dressipi_sidecar::clock::{Clock, SystemClock};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What the mock has answered, as long as it runs.
#[derive(Default)]
pub struct Counts {
    /// Authorize calls: each is a profile.
    pub authorized: AtomicU64,
    /// Codes exchanged.
    pub exchanged: AtomicU64,
    /// Tokens refreshed.
    pub refreshed: AtomicU64,
    /// Calls that were refused.
    pub refused: AtomicU64,
    /// Pages of the shop, for a request with a visitor's token.
    pub pages: AtomicU64,
    /// Pages of the shop, for one without.
    pub anonymous: AtomicU64,
}

/// The mock, and where it listens.
pub struct Mock {
    pub address: SocketAddr,
    pub counts: Arc<Counts>,
}

/// Length of an access token's payload, which makes 600 characters of token.
const PAYLOAD: usize = 400;
const LIFETIME_SECS: u64 = 86_400;
const PAGE: usize = 2048;
const HEADER: &str = "eyJhbGciOiJSUzI1NiJ9";

// === impl Mock ===

impl Mock {
    /// Serves on the present runtime.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let counts = Arc::new(Counts::default());
        let shared = counts.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                tokio::spawn(serve(stream, shared.clone()));
            }
        });
        Self { address, counts }
    }
}

impl Counts {
    pub fn profiles(&self) -> u64 {
        self.authorized.load(Ordering::Relaxed)
    }

    pub fn refreshes(&self) -> u64 {
        self.refreshed.load(Ordering::Relaxed)
    }
}

async fn serve(mut stream: TcpStream, counts: Arc<Counts>) {
    let _ = stream.set_nodelay(true);
    let (mut buffer, mut answer) = (Vec::with_capacity(4096), Vec::with_capacity(4096));
    loop {
        while let Some(length) = reply(&buffer, &counts, &mut answer) {
            buffer.drain(..length);
            if stream.write_all(&answer).await.is_err() {
                return;
            }
        }
        match stream.read_buf(&mut buffer).await {
            Ok(1..) => {}
            _ => return,
        }
    }
}

/// The answer to the request at the front of `bytes`, and the length of that; `None` if it is not all there yet.
fn reply(bytes: &[u8], counts: &Counts, answer: &mut Vec<u8>) -> Option<usize> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Request::new(&mut headers);
    let length = match head.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return None,
        Err(error) => panic!("the sidecar sends no malformed requests: {error}"),
    };
    let header = |name: &str| {
        let mut headers = head.headers.iter();
        let found = headers.find(|header| header.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(found.value).ok()
    };
    let body = header("content-length").map_or(0, |text| text.parse().expect("a length"));
    if bytes.len() < length + body {
        return None;
    }
    let (path, query) = {
        let target = head.path.unwrap_or_default();
        target.split_once('?').unwrap_or((target, ""))
    };
    answer.clear();
    match path {
        "/api/oauth/authorize" => authorize(query, counts, answer),
        "/api/oauth/token" => {
            let form = std::str::from_utf8(&bytes[length..length + body]).unwrap_or_default();
            token(form, counts, answer);
        }
        _ => {
            let count = match header("x-dressipi-jwt") {
                Some(_) => &counts.pages,
                None => &counts.anonymous,
            };
            count.fetch_add(1, Ordering::Relaxed);
            write(answer, "200 OK", "text/html", &[b'x'; PAGE]);
        }
    }
    Some(length + body)
}

fn authorize(query: &str, counts: &Counts, answer: &mut Vec<u8>) {
    // Our own client percent-encodes nothing of it: a state is base64url.
    let complete = parameter(query, "code_challenge_method") == Some("S256")
        && parameter(query, "code_challenge").is_some_and(|challenge| challenge.len() == 43);
    match parameter(query, "state").filter(|_| complete) {
        Some(state) => {
            let number = counts.authorized.fetch_add(1, Ordering::Relaxed);
            let body = format!(r#"{{"code":"code-{number}","state":"{state}"}}"#);
            write(answer, "200 OK", "application/json", body.as_bytes());
        }
        None => refuse("invalid_request", counts, answer),
    }
}

fn token(form: &str, counts: &Counts, answer: &mut Vec<u8>) {
    let number = |name, prefix| {
        parameter(form, name)?
            .strip_prefix(prefix)?
            .parse::<u64>()
            .ok()
    };
    let (visitor, generation) = match parameter(form, "grant_type") {
        Some("authorization_code") => {
            let known = |number: &u64| *number < counts.profiles();
            let Some(number) = number("code", "code-").filter(known) else {
                return refuse("invalid_grant", counts, answer);
            };
            counts.exchanged.fetch_add(1, Ordering::Relaxed);
            (number, 0)
        }
        Some("refresh_token") => {
            let Some(number) = number("refresh_token", REFRESH) else {
                return refuse("invalid_grant", counts, answer);
            };
            (number, 1 + counts.refreshed.fetch_add(1, Ordering::Relaxed))
        }
        _ => return refuse("unsupported_grant_type", counts, answer),
    };
    let access = access_token(visitor, generation);
    let refresh = refresh_token(visitor);
    let body = format!(
        r#"{{"access_token":"{access}","refresh_token":"{refresh}","expires_in":{LIFETIME_SECS},"token_type":"Bearer"}}"#
    );
    write(answer, "200 OK", "application/json", body.as_bytes());
}

fn refuse(error: &str, counts: &Counts, answer: &mut Vec<u8>) {
    counts.refused.fetch_add(1, Ordering::Relaxed);
    let body = format!(r#"{{"error":"{error}"}}"#);
    write(
        answer,
        "400 Bad Request",
        "application/json",
        body.as_bytes(),
    );
}

fn write(answer: &mut Vec<u8>, status: &str, kind: &str, body: &[u8]) {
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n");
    answer.extend_from_slice(head.as_bytes());
    answer.extend_from_slice(body);
}

fn parameter<'a>(pairs: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = pairs.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

// === tokens ===

const REFRESH: &str = "refresh-";

/// The access token of a visitor, another one for each `generation`.
pub fn access_token(visitor: u64, generation: u64) -> String {
    let now = SystemClock.now().as_secs();
    let end = now + LIFETIME_SECS;
    let mut payload = format!(
        r#"{{"iss":"dressipi","sub":"{visitor}","jti":"{generation}","iat":{now},"exp":{end},"pad":""#
    );
    while payload.len() < PAYLOAD - 2 {
        payload.push('0');
    }
    payload.push_str("\"}");
    format!("{HEADER}.{}.c2lnbmF0dXJl", URL_SAFE_NO_PAD.encode(payload))
}

/// The refresh token of a visitor.
pub fn refresh_token(visitor: u64) -> String {
    format!("{REFRESH}{visitor:056}")
}
