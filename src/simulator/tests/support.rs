#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::simulator::{Clock, Shop, Simulator, SimulatorConfig};

pub(super) const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
pub(super) const AUTHORIZE: &str = "/api/oauth/authorize?redirect_uri=urn:ietf:wg:oauth:2.0:oob:auto&response_type=code\
    &client_id=demo&state=xyz&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256";
pub(super) const FORM: &str = "content-type: application/x-www-form-urlencoded\r\n";
pub(super) const TOP: &str = "/api/items/top?client_id=demo";

/// A simulator that listens, with a clock that stands still.
pub(super) struct Fixture {
    pub(super) simulator: Simulator,
    pub(super) address: SocketAddr,
    now_ms: Arc<AtomicU64>,
}

pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

pub(super) struct TokenSet {
    pub(super) access_token: String,
    pub(super) refresh_token: String,
}

impl Fixture {
    pub(super) async fn start() -> Self {
        Self::with(SimulatorConfig::default()).await
    }

    pub(super) async fn with(config: SimulatorConfig) -> Self {
        let now_ms = Arc::new(AtomicU64::new(1_700_000_000_000));
        let clock: Clock = Arc::new({
            let now_ms = Arc::clone(&now_ms);
            move || now_ms.load(Ordering::SeqCst)
        });
        let simulator = Simulator::new(config, clock);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(simulator.clone().serve(listener, std::future::pending()));
        Self {
            simulator,
            address,
            now_ms,
        }
    }

    /// A demo shop of this simulator, on its own listener.
    pub(super) async fn shop(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shop = Shop::new(self.simulator.clone()).router();
        tokio::spawn(async move { axum::serve(listener, shop).await });
        address
    }

    pub(super) fn advance(&self, seconds: u64) {
        self.now_ms.fetch_add(seconds * 1000, Ordering::SeqCst);
    }

    pub(super) async fn get(&self, target: &str, headers: &str) -> Answer {
        Answer::read(self.address, "GET", target, headers, "")
            .await
            .unwrap()
    }

    pub(super) async fn post(&self, target: &str, headers: &str, body: &str) -> Answer {
        Answer::read(self.address, "POST", target, headers, body)
            .await
            .unwrap()
    }

    pub(super) async fn exchange(&self, code: &str) -> Answer {
        self.post("/api/oauth/token", FORM, &exchange_form(code))
            .await
    }

    pub(super) async fn refresh(&self, refresh_token: &str) -> Answer {
        self.post("/api/oauth/token", FORM, &refresh_form(refresh_token))
            .await
    }

    pub(super) async fn code(&self) -> String {
        self.get(AUTHORIZE, "").await.text("code")
    }

    /// Goes through the whole flow.
    pub(super) async fn token_set(&self) -> TokenSet {
        let answer = self.exchange(&self.code().await).await;
        TokenSet {
            access_token: answer.text("access_token"),
            refresh_token: answer.text("refresh_token"),
        }
    }
}

impl Answer {
    /// The whole answer, or `None` if the connection ended without a byte.
    pub(super) async fn read(
        at: SocketAddr,
        method: &str,
        target: &str,
        headers: &str,
        body: &str,
    ) -> Option<Self> {
        let bytes = raw(at, method, target, headers, body).await;
        let split = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        let head = String::from_utf8(bytes[..split].to_vec())
            .unwrap()
            .to_ascii_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let chunked = head.contains("transfer-encoding: chunked");
        let body = if chunked {
            dechunk(&bytes[split..])
        } else {
            bytes[split..].to_vec()
        };
        Some(Self { status, head, body })
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(super) fn text(&self, member: &str) -> String {
        self.json()[member]
            .as_str()
            .unwrap_or_else(|| panic!("no {member} in {}", self.json()))
            .to_owned()
    }

    pub(super) fn error(&self) -> (u16, String) {
        (self.status, self.text("error"))
    }
}

pub(super) fn exchange_form(code: &str) -> String {
    format!(
        "grant_type=authorization_code&client_id=demo&redirect_uri=urn:ietf:wg:oauth:2.0:oob:auto\
         &code={code}&code_verifier={VERIFIER}"
    )
}

pub(super) fn refresh_form(refresh_token: &str) -> String {
    format!(
        "grant_type=refresh_token&client_id=demo&redirect_uri=urn:ietf:wg:oauth:2.0:oob:auto&refresh_token={refresh_token}"
    )
}

/// Every byte that the server sends until it closes the connection.
pub(super) async fn raw(
    at: SocketAddr,
    method: &str,
    target: &str,
    headers: &str,
    body: &str,
) -> Vec<u8> {
    let mut stream = TcpStream::connect(at).await.unwrap();
    let length = body.len();
    let request = format!(
        "{method} {target} HTTP/1.1\r\nhost: {at}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    // A reset instead of an orderly end is an end, too.
    let _ = stream.read_to_end(&mut bytes).await;
    bytes
}

fn dechunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|window| window == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        body.extend_from_slice(&rest[end + 2..end + 2 + size]);
        rest = &rest[end + 2 + size + 2..];
        if size == 0 {
            break;
        }
    }
    body
}
