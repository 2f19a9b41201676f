//! HTTP/2 without TLS, as the proxy of a mesh speaks it: one connection, many visitors at once, streams that are reset.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ::http::{Request, Response};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpSocket;
use tokio::task::JoinSet;

use crate::configuration::PROXY;
use crate::ground::{BROWSER, Ground, anybody, draw, pause, profile};

type Connection = SendRequest<Full<Bytes>>;

const VISITORS: usize = 6;
const VISITS: usize = 4;

/// One connection after the other.
pub async fn connections(ground: Arc<Ground>) {
    loop {
        let _ = connection(&ground).await;
        pause(50..300).await;
    }
}

async fn connection(ground: &Arc<Ground>) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind((PROXY, 0).into())?;
    let stream = socket.connect(ground.to).await?;
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    // Ends with this function, and the connection with it.
    let mut driving = JoinSet::new();
    driving.spawn(connection);
    let mut visitors = JoinSet::new();
    for _ in 0..VISITORS {
        visitors.spawn(visit(ground.clone(), sender.clone()));
    }
    while let Some(ended) = visitors.join_next().await {
        ended?;
    }
    Ok(())
}

/// A new visitor comes, then some pages at once.
async fn visit(ground: Arc<Ground>, mut connection: Connection) {
    ground.seen.lock().lives += 1;
    let address = anybody().to_string();
    let (mut cookie, mut known) = (None::<String>, None);
    for _ in 0..VISITS {
        let asked = Instant::now();
        let target = match draw(0..3) {
            0 => "/".to_owned(),
            1 => "/bytes/30000".to_owned(),
            _ => "/api/items/top?client_id=demo".to_owned(),
        };
        let answer = fetch(&mut connection, &address, &target, cookie.as_deref()).await;
        let peaceful = ground.is_peaceful_since(asked);
        let Some(answer) = answer else {
            ground.seen.lock().fail(0, peaceful);
            return;
        };
        judge(&ground, &answer, &mut known, peaceful);
        cookie = answer.cookie.or(cookie);
        if cookie.is_none() {
            return;
        }
        // A stream that is reset while its answer comes.
        let reset = fetch(
            &mut connection,
            &address,
            "/bytes/400000",
            cookie.as_deref(),
        );
        let _ = tokio::time::timeout(Duration::from_millis(draw(0..4)), reset).await;
        pause(10..60).await;
    }
}

/// As which profile somebody was served last, and when.
type Known = Option<(String, Instant)>;

/// Counts an answer.
fn judge(ground: &Ground, answer: &Answer, known: &mut Known, peaceful: bool) {
    let mut seen = ground.seen.lock();
    seen.streams += 1;
    seen.requests += 1;
    if !answer.reason.is_empty() {
        seen.told(&answer.reason, peaceful && known.is_some());
    } else if answer.status != 200 {
        seen.fail(answer.status, peaceful);
    } else if let Some(now) = profile(&answer.body) {
        seen.personal += 1;
        if let Some((before, served)) = known {
            seen.compare(before, now, *served, ground.memory());
        }
        *known = Some((now.to_owned(), Instant::now()));
    } else {
        seen.silent += 1;
    }
}

struct Answer {
    status: u16,
    reason: String,
    cookie: Option<String>,
    body: Bytes,
}

async fn fetch(
    connection: &mut Connection,
    address: &str,
    target: &str,
    cookie: Option<&str>,
) -> Option<Answer> {
    let mut request = Request::get(format!("http://shop.example{target}"))
        .header("user-agent", BROWSER)
        .header("x-forwarded-for", address);
    if let Some(cookie) = cookie {
        request = request.header("cookie", cookie);
    }
    let request = request
        .body(Full::default())
        .expect("a request without faults");
    let answering = async {
        connection.ready().await.ok()?;
        let response: Response<Incoming> = connection.send_request(request).await.ok()?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.ok()?.to_bytes();
        let text = |name: &str| head.headers.get(name)?.to_str().ok();
        let reason =
            text("dressipi-sidecar").and_then(|said| said.strip_prefix("anonymous; reason="));
        let set = text("set-cookie").and_then(|value| value.split(';').next());
        Some(Answer {
            status: head.status.as_u16(),
            reason: reason.unwrap_or_default().to_owned(),
            cookie: set
                .filter(|pair| pair.starts_with("visitor="))
                .map(str::to_owned),
            body,
        })
    };
    tokio::time::timeout(Duration::from_secs(20), answering)
        .await
        .ok()?
}
