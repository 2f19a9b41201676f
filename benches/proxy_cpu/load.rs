//! The requests and the upstream that answers them: the same bytes for every system, over connections that stay open.
//!
//! Clients and upstream are tasks of one thread, which never sleeps while requests are under way. A thread that sleeps must be
//! woken by whoever sends to it, and that is the proxy: on a virtual machine, where it takes an interrupt to another core, nearly a
//! third of the CPU time of a proxied request was that, more or less of it by how fast the proxy was.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

use super::BODY;

/// A system that answers nothing for so long has failed.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// The thread of the clients and the upstream.
pub(super) struct Surrounding {
    /// Where the upstream listens: an app that answers everything with the same bytes.
    pub(super) upstream: SocketAddr,
    orders: UnboundedSender<Order>,
}

struct Order {
    address: SocketAddr,
    /// What each connection asks for.
    connections: Vec<Arc<Vec<u8>>>,
    /// On each of them.
    requests: usize,
    done: mpsc::Sender<()>,
}

// === impl Surrounding ===

impl Surrounding {
    pub(super) fn start() -> Self {
        let (orders, receiver) = unbounded_channel();
        let (listening, address) = mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                listening.send(listener.local_addr().unwrap()).unwrap();
                tokio::spawn(upstream(listener));
                obey(receiver).await;
            });
        });
        let upstream = address.recv().unwrap();
        Self { upstream, orders }
    }

    /// Sends `requests` over `connections` and waits for all answers.
    pub(super) fn load(
        &self,
        address: SocketAddr,
        cookie: Option<&str>,
        requests: usize,
        connections: usize,
    ) {
        let request = Arc::new(request(cookie));
        let all = vec![request; connections];
        let finished = self.begin(address, all, requests / connections);
        finished.recv_timeout(PATIENCE * 2).expect("all answers");
    }

    /// Sends `requests` over each of `connections`, which send what is said of them. Told when all is answered.
    pub(super) fn begin(
        &self,
        address: SocketAddr,
        connections: Vec<Arc<Vec<u8>>>,
        requests: usize,
    ) -> mpsc::Receiver<()> {
        let (done, finished) = mpsc::channel();
        let order = Order {
            address,
            connections,
            requests,
            done,
        };
        assert!(self.orders.send(order).is_ok(), "the load has ended");
        finished
    }
}

async fn obey(mut orders: UnboundedReceiver<Order>) {
    while let Some(order) = orders.recv().await {
        let mut clients = JoinSet::new();
        for request in order.connections {
            clients.spawn(client(order.address, request, order.requests));
        }
        // As long as a task yields, the thread looks for what is new and does not wait for it.
        let awake = tokio::spawn(async {
            loop {
                tokio::task::yield_now().await;
            }
        });
        while let Some(ended) = clients.join_next().await {
            ended.unwrap();
        }
        awake.abort();
        let _ = order.done.send(());
    }
}

async fn client(address: SocketAddr, request: Arc<Vec<u8>>, requests: usize) {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut buffer = vec![0; 16 * 1024];
    for _ in 0..requests {
        stream.write_all(&request).await.unwrap();
        let mut filled = 0;
        let head = loop {
            let read = stream.read(&mut buffer[filled..]).await.unwrap();
            assert!(read > 0, "the connection was closed");
            filled += read;
            if let Some(end) = memchr::memmem::find(&buffer[..filled], b"\r\n\r\n") {
                break end + 4;
            }
        };
        let text = &buffer[..head];
        assert!(
            text.starts_with(b"HTTP/1.1 200") && length(text) == Some(BODY),
            "{}",
            String::from_utf8_lossy(text)
        );
        while filled < head + BODY {
            let read = stream.read(&mut buffer[filled..]).await.unwrap();
            assert!(read > 0, "the connection was closed");
            filled += read;
        }
        assert_eq!(filled, head + BODY);
    }
}

/// The `Content-Length` of an answer's head.
fn length(head: &[u8]) -> Option<usize> {
    let mut lines = head.split(|byte| *byte == b'\n');
    let value = lines.find_map(|line| {
        let (name, value) = line.split_at_checked(b"content-length:".len())?;
        name.eq_ignore_ascii_case(b"content-length:")
            .then_some(value)
    })?;
    std::str::from_utf8(value).ok()?.trim().parse().ok()
}

async fn upstream(listener: tokio::net::TcpListener) {
    let mut answer =
        format!("HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {BODY}\r\n\r\n")
            .into_bytes();
    answer.extend(std::iter::repeat_n(b'x', BODY));
    let answer = Arc::new(answer);
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let answer = answer.clone();
        tokio::spawn(async move {
            stream.set_nodelay(true).unwrap();
            let mut buffer = [0; 8192];
            let mut filled = 0;
            while let Ok(read @ 1..) = stream.read(&mut buffer[filled..]).await {
                filled += read;
                // One request at a time comes over a connection.
                if buffer[..filled].ends_with(b"\r\n\r\n") {
                    filled = 0;
                    if stream.write_all(&answer).await.is_err() {
                        return;
                    }
                }
            }
        });
    }
}

// === requests ===

/// The request of somebody with that cookie.
pub(super) fn request(cookie: Option<&str>) -> Vec<u8> {
    let cookie = cookie
        .map(|cookie| format!("cookie: locale=en; {cookie}; cart=7\r\n"))
        .unwrap_or_default();
    format!(
        "GET /women/dresses?page=2 HTTP/1.1\r\nhost: shop.example\r\n\
         user-agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
         accept: text/html,application/xhtml+xml\r\naccept-language: en-GB,en\r\naccept-encoding: gzip, br\r\n{cookie}\r\n"
    )
    .into_bytes()
}

/// The visitor cookie that a system sets, as `name=value`.
pub(super) fn visitor_cookie(address: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&request(None)).unwrap();
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        let read = reader.read_line(&mut head).unwrap();
        assert!(read > 0, "the connection was closed: {head}");
    }
    let mut body = [0; BODY];
    reader.read_exact(&mut body).unwrap();
    let line = head.lines().find(|line| {
        line.to_ascii_lowercase()
            .starts_with("set-cookie: visitor=")
    })?;
    let pair = line["set-cookie: ".len()..].split(';').next()?;
    Some(pair.to_owned())
}
