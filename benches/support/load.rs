//! The clients and the upstream that answers them.
//!
//! Both are tasks of one thread, which never sleeps while requests are under way. A thread that sleeps must be
//! woken by whoever sends to it, and that is the proxy: on a virtual machine, where it takes an interrupt to another core, nearly a
//! third of the CPU time of a proxied request was that, more or less of it by how fast the proxy was.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

use super::requests::{Requests, header};
use super::{BODY, PATIENCE, upstream};

/// The thread of the clients and the upstream.
pub(crate) struct Surrounding {
    /// Where the upstream listens: an app that answers everything with the same bytes.
    pub(crate) upstream: SocketAddr,
    orders: UnboundedSender<Order>,
}

/// What the clients are to do.
#[derive(Clone)]
pub(crate) struct Work {
    pub(crate) requests: Arc<Requests>,
    /// How many requests, over all connections.
    pub(crate) number: usize,
    pub(crate) connections: usize,
    pub(crate) who: Who,
    pub(crate) pace: Pace,
}

/// Whose request is the next.
#[derive(Clone, Copy)]
pub(crate) enum Who {
    /// One visitor after the other.
    InTurn,
    /// Anybody, the same with the same seed.
    Anybody { seed: u64 },
}

#[derive(Clone, Copy)]
pub(crate) enum Pace {
    /// A closed loop: each connection asks again as soon as it has its answer.
    AsAnswered,
    /// An open loop: so many requests a second over all connections, whenever the answers come. Each connection has its places in the
    /// schedule; a request whose connection still waits for an answer is late, and counts from the time it was meant to be sent.
    PerSecond(u32),
}

/// What came of it.
pub(crate) struct Done {
    pub(crate) took: Duration,
    /// From the intended time of sending to the last byte of the answer, in µs; of an open loop only.
    pub(crate) latencies: Vec<f64>,
    /// How many bytes of requests the upstream got.
    pub(crate) received: u64,
}

struct Order {
    address: SocketAddr,
    work: Work,
    done: mpsc::Sender<Done>,
}

/// Until an open loop begins, its connections are made and have each been used once.
const SETTLE: Duration = Duration::from_millis(50);

// === impl Surrounding ===

impl Surrounding {
    pub(crate) fn start() -> Self {
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
                let received = Arc::new(AtomicU64::new(0));
                tokio::spawn(upstream::serve(listener, received.clone()));
                obey(receiver, &received).await;
            });
        });
        let upstream = address.recv().unwrap();
        Self { upstream, orders }
    }

    /// Does the work and waits for all answers.
    pub(crate) fn load(&self, address: SocketAddr, work: Work) -> Done {
        let patience = PATIENCE * 2 + Duration::from_millis(work.number as u64);
        let (done, finished) = mpsc::channel();
        let order = Order {
            address,
            work,
            done,
        };
        assert!(self.orders.send(order).is_ok(), "the load has ended");
        finished.recv_timeout(patience).expect("all answers")
    }
}

async fn obey(mut orders: UnboundedReceiver<Order>, received: &AtomicU64) {
    while let Some(Order {
        address,
        work,
        done,
    }) = orders.recv().await
    {
        let before = received.load(Ordering::Relaxed);
        let begun = match work.pace {
            Pace::AsAnswered => Instant::now(),
            Pace::PerSecond(_) => Instant::now() + SETTLE,
        };
        let mut clients = JoinSet::new();
        for index in 0..work.connections {
            clients.spawn(client(address, work.clone(), index, begun));
        }
        // As long as a task yields, the thread looks for what is new and does not wait for it.
        let awake = tokio::spawn(async {
            loop {
                tokio::task::yield_now().await;
            }
        });
        let mut latencies = Vec::new();
        while let Some(ended) = clients.join_next().await {
            latencies.extend(ended.unwrap());
        }
        awake.abort();
        let _ = done.send(Done {
            took: begun.elapsed(),
            latencies,
            received: received.load(Ordering::Relaxed) - before,
        });
    }
}

async fn client(address: SocketAddr, work: Work, index: usize, begun: Instant) -> Vec<f64> {
    let visitors = work.requests.visitors();
    let mut random = match work.who {
        Who::InTurn => 0,
        Who::Anybody { seed } => seed ^ (index as u64) << 32,
    };
    let mut visitor = |number: usize| match work.who {
        Who::InTurn => number % visitors,
        Who::Anybody { .. } => (next_random(&mut random) % visitors as u64) as usize,
    };
    let mut request = work.requests.buffer();
    let mut answer = vec![0; 16 * 1024];
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let numbers = (index..work.number).step_by(work.connections);
    match work.pace {
        Pace::AsAnswered => {
            for number in numbers {
                work.requests.write(&mut request, visitor(number));
                exchange(&mut stream, &request, &mut answer).await;
            }
            Vec::new()
        }
        Pace::PerSecond(rate) => {
            // What a new connection costs is not the matter.
            exchange(&mut stream, &request, &mut answer).await;
            let mut latencies = Vec::with_capacity(work.number / work.connections + 1);
            for number in numbers {
                work.requests.write(&mut request, visitor(number));
                let due = begun + Duration::from_secs(number as u64) / rate;
                while Instant::now() < due {
                    tokio::task::yield_now().await;
                }
                exchange(&mut stream, &request, &mut answer).await;
                latencies.push(due.elapsed().as_secs_f64() * 1e6);
            }
            latencies
        }
    }
}

/// Sends one request and reads its whole answer.
async fn exchange(stream: &mut TcpStream, request: &[u8], buffer: &mut [u8]) {
    stream.write_all(request).await.unwrap();
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

/// The `Content-Length` of an answer's head.
fn length(head: &[u8]) -> Option<usize> {
    let value = header(head, "content-length")?;
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// SplitMix64: a few instructions for a number that has nothing to do with the one before.
pub(crate) fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}
