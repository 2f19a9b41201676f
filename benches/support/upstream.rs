//! The upstream: it answers everything with the same number of bytes, over connections that stay open.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::BODY;
use super::requests::{CHECK, header};

/// Answers whoever connects, and counts the bytes of their requests.
pub(crate) async fn serve(listener: tokio::net::TcpListener, received: Arc<AtomicU64>) {
    let answer = Arc::new(answer(&[]));
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let (usual, received) = (answer.clone(), received.clone());
        tokio::spawn(async move {
            stream.set_nodelay(true).unwrap();
            let mut buffer = [0; 8192];
            let mut filled = 0;
            while let Ok(read @ 1..) = stream.read(&mut buffer[filled..]).await {
                filled += read;
                // One request at a time comes over a connection.
                let request = &buffer[..filled];
                if !request.ends_with(b"\r\n\r\n") {
                    continue;
                }
                received.fetch_add(filled as u64, Ordering::Relaxed);
                filled = 0;
                let written = match is_check(request) {
                    false => stream.write_all(&usual).await,
                    true => stream.write_all(&answer_with_headers(request)).await,
                };
                if written.is_err() {
                    return;
                }
            }
        });
    }
}

fn answer(begin: &[u8]) -> Vec<u8> {
    let mut answer =
        format!("HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {BODY}\r\n\r\n")
            .into_bytes();
    answer.extend(begin);
    answer.extend(std::iter::repeat_n(b'x', BODY - begin.len()));
    answer
}

fn is_check(request: &[u8]) -> bool {
    let path = request.get(b"GET ".len()..).unwrap_or_default();
    path.starts_with(CHECK.as_bytes())
}

/// Tells what has been added on the way: a line for each of the two headers.
fn answer_with_headers(request: &[u8]) -> Vec<u8> {
    let lines = ["x-dressipi-jwt", "x-api-key"].map(|name| {
        let value = header(request, name).unwrap_or_default();
        [value, b"\n"].concat()
    });
    answer(&lines.concat())
}
