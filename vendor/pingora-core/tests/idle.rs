//! What holds of connections between two uses (src/connectors/idle.rs)

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::Duration;

use pingora_core::connectors::{ConnectorOptions, L4Connect, TransportConnector};
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_core::protocols::Stream;
use pingora_core::upstreams::peer::HttpPeer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;

const SOON: Duration = Duration::from_millis(60);
const LATE: Duration = Duration::from_secs(600);

struct Site {
    listener: TcpListener,
    peer: HttpPeer,
    connector: TransportConnector,
}

impl Site {
    async fn new(pool: usize) -> Self {
        Self::with(ConnectorOptions::new(pool)).await
    }

    async fn with(options: ConnectorOptions) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Site {
            listener,
            peer: HttpPeer::new(address, false, String::new()),
            connector: TransportConnector::new(Some(options)),
        }
    }

    /// A connection, and the server's end of it
    async fn connect(&self) -> (Stream, TcpStream) {
        let connected = self.connector.new_stream(&self.peer);
        let (connected, accepted) = tokio::join!(connected, self.listener.accept());
        (connected.unwrap(), accepted.unwrap().0)
    }

    fn key(&self) -> u64 {
        use pingora_core::upstreams::peer::Peer;
        self.peer.reuse_hash()
    }

    fn release(&self, stream: Stream, timeout: Option<Duration>) {
        self.connector.release_stream(stream, self.key(), timeout);
    }

    async fn reused(&self) -> Option<Stream> {
        self.connector.reused_stream(&self.peer).await
    }
}

/// The other end sees that the connection has been closed
async fn is_closed(server: &mut TcpStream) {
    let read = tokio::time::timeout(Duration::from_secs(20), server.read(&mut [0; 8])).await;
    // An end that had something unread is reset.
    assert!(matches!(read.expect("it is closed"), Ok(0) | Err(_)));
}

async fn is_open(stream: &mut Stream, server: &mut TcpStream) {
    stream.write_all(b"ping").await.unwrap();
    stream.flush().await.unwrap();
    let mut said = [0; 4];
    server.read_exact(&mut said).await.unwrap();
    server.write_all(&said).await.unwrap();
    stream.read_exact(&mut said).await.unwrap();
    assert_eq!(&said, b"ping");
}

fn tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

/// Every task that can go on has gone on
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_connection_comes_and_goes_with_one_task_for_all_its_life() {
    let site = Site::new(8).await;
    let before = tasks();
    let (mut stream, mut server) = site.connect().await;
    for _ in 0..200 {
        site.release(stream, Some(LATE));
        stream = site.reused().await.expect("it was put in");
        assert!(site.reused().await.is_none(), "it is handed out once");
        is_open(&mut stream, &mut server).await;
    }
    assert_eq!(tasks(), before + 1);
}

#[tokio::test]
async fn what_its_peer_closes_leaves_the_pool_after_every_use() {
    let site = Site::new(8).await;
    for uses in [0, 1, 5] {
        let (mut stream, mut server) = site.connect().await;
        for _ in 0..uses {
            site.release(stream, None);
            settle().await;
            stream = site.reused().await.expect("it was put in");
            is_open(&mut stream, &mut server).await;
        }
        site.release(stream, None);
        settle().await;
        server.shutdown().await.unwrap();
        is_closed(&mut server).await;
        assert!(site.reused().await.is_none());
    }
}

#[tokio::test]
async fn what_is_closed_when_it_is_released_is_not_kept() {
    let site = Site::new(8).await;
    let (stream, mut server) = site.connect().await;
    // A watcher that has been polled is there for the next one.
    site.release(stream, None);
    settle().await;
    let mut stream = site.reused().await.unwrap();
    server.shutdown().await.unwrap();
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
    site.release(stream, None);
    is_closed(&mut server).await;
    assert!(site.reused().await.is_none());
    let (other, _server) = site.connect().await;
    site.release(other, None);
    assert!(site.reused().await.is_some(), "its watcher has not gone");
}

#[tokio::test]
async fn data_that_nobody_has_asked_for_closes_it_and_is_counted() {
    let site = Site::new(8).await;
    let (stream, mut server) = site.connect().await;
    site.release(stream, None);
    settle().await;
    server.write_all(b"surprise").await.unwrap();
    is_closed(&mut server).await;
    assert!(site.reused().await.is_none());
    assert_eq!(site.connector.unexpected_data_connection_count(), 1);
}

#[tokio::test]
async fn it_is_closed_when_it_has_been_idle_for_too_long() {
    let site = Site::new(8).await;
    // For the first time.
    let (stream, mut server) = site.connect().await;
    site.release(stream, Some(SOON));
    is_closed(&mut server).await;
    assert!(site.reused().await.is_none());
    // A shorter time than the one before; then a longer one.
    let (stream, mut server) = site.connect().await;
    site.release(stream, Some(LATE));
    settle().await;
    let stream = site.reused().await.unwrap();
    site.release(stream, Some(SOON));
    is_closed(&mut server).await;
    let (stream, mut server) = site.connect().await;
    site.release(stream, Some(SOON));
    settle().await;
    let stream = site.reused().await.unwrap();
    site.release(stream, Some(LATE));
    tokio::time::sleep(SOON * 3).await;
    let mut stream = site.reused().await.expect("its time is not over");
    is_open(&mut stream, &mut server).await;
}

#[tokio::test]
async fn its_time_does_not_run_while_it_is_in_use() {
    let site = Site::new(8).await;
    let (stream, mut server) = site.connect().await;
    site.release(stream, Some(SOON));
    settle().await;
    let mut stream = site.reused().await.unwrap();
    tokio::time::sleep(SOON * 3).await;
    is_open(&mut stream, &mut server).await;
    site.release(stream, Some(SOON));
    // The timer of before has ended meanwhile.
    is_closed(&mut server).await;
}

#[tokio::test]
async fn what_is_evicted_is_closed_and_told() {
    let evicted = Arc::new(AtomicUsize::new(0));
    let mut options = ConnectorOptions::new(1);
    let counted = evicted.clone();
    options.keepalive_pool_callback = Some(Arc::new(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
    }));
    let site = Site::with(options).await;
    let (one, mut server_of_one) = site.connect().await;
    let (two, mut server_of_two) = site.connect().await;
    site.release(one, None);
    settle().await;
    site.release(two, None);
    is_closed(&mut server_of_one).await;
    assert_eq!(evicted.load(Ordering::Relaxed), 1);
    let mut two = site.reused().await.expect("the later one is kept");
    is_open(&mut two, &mut server_of_two).await;
    assert_eq!(evicted.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_connection_to_somebody_else_is_not_used_whatever_it_is_filed_under() {
    let site = Site::new(8).await;
    let other = Site::new(8).await;
    let (stream, mut server) = other.connect().await;
    site.release(stream, None);
    assert!(site.reused().await.is_none());
    is_closed(&mut server).await;
}

/// Connects to somewhere else than it is asked to
#[derive(Debug)]
struct Elsewhere(std::net::SocketAddr);

#[async_trait::async_trait]
impl L4Connect for Elsewhere {
    async fn connect(
        &self,
        _: &SocketAddr,
    ) -> pingora_core::Result<pingora_core::protocols::l4::stream::Stream> {
        Ok(TcpStream::connect(self.0).await.unwrap().into())
    }
}

#[tokio::test]
async fn what_a_custom_connector_has_connected_elsewhere_is_not_taken_for_a_connection_to_the_peer()
{
    let site = Site::new(8).await;
    let other = Site::new(8).await;
    let mut elsewhere = site.peer.clone();
    elsewhere.options.custom_l4 = Some(Arc::new(Elsewhere(other.listener.local_addr().unwrap())));
    let connected = site.connector.new_stream(&elsewhere);
    let (stream, accepted) = tokio::join!(connected, other.listener.accept());
    site.release(stream.unwrap(), None);
    assert!(site.reused().await.is_none());
    is_closed(&mut accepted.unwrap().0).await;
}

#[tokio::test]
async fn with_the_connector_its_connections_and_tasks_go() {
    let site = Site::new(8).await;
    let before = tasks();
    let (idle, mut server) = site.connect().await;
    let (used, mut other_server) = site.connect().await;
    site.release(used, Some(LATE));
    settle().await;
    let mut used = site.reused().await.unwrap();
    site.release(idle, Some(LATE));
    settle().await;
    drop(site.connector);
    is_closed(&mut server).await;
    settle().await;
    assert_eq!(tasks(), before);
    is_open(&mut used, &mut other_server).await;
}

#[test]
fn no_watcher_of_a_runtime_that_has_ended_is_used() {
    for polled in [false, true] {
        no_watcher_of_an_ended_runtime_is_used(polled);
    }
}

fn no_watcher_of_an_ended_runtime_is_used(polled: bool) {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let first = runtime();
    let connector = first.block_on(async {
        let site = Site::new(8).await;
        let (stream, _server) = site.connect().await;
        site.release(stream, None);
        if polled {
            settle().await;
        }
        let _stream = site.reused().await.unwrap();
        site.connector
    });
    drop(first);
    runtime().block_on(async {
        let site = Site {
            connector,
            ..Site::new(8).await
        };
        let (stream, mut server) = site.connect().await;
        site.release(stream, None);
        settle().await;
        server.shutdown().await.unwrap();
        is_closed(&mut server).await;
    });
}

/// Many threads put in and take out, servers close when they like: nobody shares a connection, and nothing is left behind.
#[test]
fn no_connection_has_two_users_whatever_the_threads_do() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let Site {
            listener,
            peer,
            connector,
        } = Site::new(6).await;
        let open = Arc::new(AtomicUsize::new(0));
        let counted = open.clone();
        let server = tokio::spawn(async move {
            for number in 0_usize.. {
                let (mut stream, _) = listener.accept().await.unwrap();
                let open = counted.clone();
                open.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    // Each ends after another number of answers.
                    for _ in 0..3 + number % 17 {
                        let mut said = [0; 8];
                        if stream.read_exact(&mut said).await.is_err()
                            || stream.write_all(&said).await.is_err()
                        {
                            break;
                        }
                    }
                    drop(stream);
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        let connector = Arc::new(connector);
        let users = (0..16_u64).map(|user| {
            let (connector, peer) = (connector.clone(), peer.clone());
            tokio::spawn(async move {
                use pingora_core::upstreams::peer::Peer;
                let (mut answered, mut said) = (0, 0_u64);
                while answered < 400 {
                    let (mut stream, _) = connector.get_stream(&peer).await.unwrap();
                    said += 1;
                    let word = (user << 32 | said).to_be_bytes();
                    let mut heard = [0; 8];
                    // A server may close it just then.
                    if stream.write_all(&word).await.is_err()
                        || stream.flush().await.is_err()
                        || stream.read_exact(&mut heard).await.is_err()
                    {
                        continue;
                    }
                    assert_eq!(heard, word);
                    answered += 1;
                    let timeout = (said % 3 == 0).then_some(Duration::from_millis(20));
                    connector.release_stream(stream, peer.reuse_hash(), timeout);
                }
            })
        });
        for user in users.collect::<Vec<_>>() {
            user.await.unwrap();
        }
        drop(connector);
        while open.load(Ordering::SeqCst) > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        server.abort();
    });
}
