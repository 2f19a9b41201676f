//! Those who are no visitors, or do not behave: bots and forged cookies, requests that are aborted half-way, slow readers,
//! connections on which nothing is asked, requests that are no HTTP.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::configuration::PROXY;
use crate::ground::{BROWSER, Ground, anybody, ask, chance, draw, pause, profile};
use crate::http::Client;

const BOTS: [&str; 4] = [
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "python-requests/2.32.3",
    "kube-probe/1.31",
    "curl/8.5.0",
];
/// Of as large a body as a slow reader asks for, it takes so much at once.
const SIP: usize = 32 * 1024;
const LARGE: usize = 3_000_000;
/// What is read of an answer before its connection is closed.
const TASTE: usize = 5_000;

/// Clients that keep no cookies, and some whose cookies nobody has given them. None has a profile.
pub async fn bots(ground: Arc<Ground>) {
    loop {
        let mut client = Client::new(PROXY, ground.to);
        for _ in 0..draw(1..6) {
            let forged = chance(0.3);
            let agent = BOTS[draw(0..BOTS.len())];
            let cookie = match forged {
                true => format!(
                    "cookie: visitor={:032x}{:032x}\r\n",
                    rand::random::<u128>(),
                    rand::random::<u128>()
                ),
                false => String::new(),
            };
            let target = if chance(0.5) {
                "/api/items/top?client_id=demo"
            } else {
                "/robots.txt"
            };
            let request = format!(
                "GET {target} HTTP/1.1\r\nhost: shop.example\r\nuser-agent: {agent}\r\nx-forwarded-for: {}\r\n{cookie}\r\n",
                anybody()
            );
            let treated = ask(&mut client, request.as_bytes()).await;
            let personal = treated.is_some_and(|answer| profile(answer.body).is_some());
            {
                let mut seen = ground.seen.lock();
                seen.bots += 1;
                seen.mistaken += u64::from(personal);
            }
            pause(10..120).await;
        }
    }
}

/// Requests of new visitors that end at any point: in the header, in the body, before the answer, in it; and silent connections.
pub async fn aborters(ground: Arc<Ground>) {
    loop {
        let _ = abort(&ground).await;
        ground.seen.lock().aborted += 1;
        pause(20..100).await;
    }
}

async fn abort(ground: &Ground) -> std::io::Result<()> {
    let mut stream = connect(ground).await?;
    let way = draw(0..7);
    if way < 5 {
        ground.seen.lock().lives += 1;
    }
    match way {
        // In the middle of an answer.
        0 | 1 => {
            stream.write_all(&head("GET", "/bytes/1000000", "")).await?;
            let mut taste = vec![0; TASTE];
            stream.read_exact(&mut taste).await?;
        }
        // Before it: a profile may be under way.
        2 | 3 => {
            stream
                .write_all(&head("GET", "/api/items/top?client_id=demo", ""))
                .await?;
            pause(0..10).await;
        }
        // In the middle of a body.
        4 => {
            stream
                .write_all(&head("POST", "/upload", "content-length: 500000\r\n"))
                .await?;
            stream.write_all(&[b'u'; 100_000]).await?;
            pause(0..50).await;
        }
        // In the middle of a header; no HTTP at all.
        5 => {
            let whole = head("GET", "/", "");
            stream.write_all(&whole[..draw(0..whole.len() - 4)]).await?;
            pause(0..200).await;
        }
        _ => {
            stream
                .write_all(b"GET / HTTP/1.1\r\ncontent-length: 5, 5\r\n\r\n")
                .await?;
            let mut answer = Vec::new();
            let reading = stream.read_to_end(&mut answer);
            let _ = tokio::time::timeout(Duration::from_secs(2), reading).await;
        }
    }
    // With a reset or in order.
    let socket = socket2::SockRef::from(&stream);
    if chance(0.5) {
        socket.set_linger(Some(Duration::ZERO))?;
    }
    Ok(())
}

/// Bots that take an answer sip by sip, for some seconds.
pub async fn slow_readers(ground: Arc<Ground>) {
    loop {
        let _ = sip(&ground).await;
        ground.seen.lock().slow += 1;
        pause(0..500).await;
    }
}

async fn sip(ground: &Ground) -> std::io::Result<()> {
    let mut stream = connect(ground).await?;
    let target = format!(
        "GET /bytes/{LARGE} HTTP/1.1\r\nhost: shop.example\r\nuser-agent: Googlebot/2.1\r\n\r\n"
    );
    stream.write_all(target.as_bytes()).await?;
    let (mut sip, mut taken) = (vec![0; SIP], 0);
    while taken < LARGE {
        match stream.read(&mut sip).await? {
            0 => break,
            read => taken += read,
        }
        pause(20..60).await;
    }
    Ok(())
}

async fn connect(ground: &Ground) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind((PROXY, 0).into())?;
    socket.connect(ground.to).await
}

fn head(method: &str, target: &str, more: &str) -> Vec<u8> {
    format!(
        "{method} {target} HTTP/1.1\r\nhost: shop.example\r\nuser-agent: {BROWSER}\r\nx-forwarded-for: {}\r\n{more}\r\n",
        anybody()
    )
    .into_bytes()
}
