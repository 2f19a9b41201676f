//! The threads on which exchanges live.
//!
//! Each worker is a thread with a runtime, upstream connections and everything else of its own: workers have nothing to wait for from each
//! other, and a request never changes its thread. Instead each *connection* is given to the worker that has the fewest. That is decided
//! for one connection after another and not by the kernel (`SO_REUSEPORT`), which would spread the few long-lived connections of an app
//! at random: with eight of them one worker of two would often have six.
//!
//! What else the process does (the admin listener, timers, signals) is on the caller's runtime and never in an exchange's way.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pingora::apps::ServerApp;
use rustix::io::Errno;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{oneshot, watch};

use super::socket::Socket;
use crate::gate::Gated;

/// All workers. When they are dropped, what is still under way on them is cut off.
#[derive(Debug)]
pub(super) struct Workers(Vec<Worker>);

#[derive(Debug)]
struct Worker {
    place: Workplace,
    /// The thread ends when this is dropped.
    _stop: oneshot::Sender<()>,
}

/// Where connections can be served.
#[derive(Clone, Debug)]
pub(super) struct Workplace {
    runtime: Handle,
    connections: Arc<AtomicUsize>,
}

/// What serves the connections of one listener on one worker.
pub(super) type Seat<A> = (Workplace, Arc<Gated<A>>);

/// A connection that a worker has.
struct Served(Arc<AtomicUsize>);

/// How long nothing is accepted after an error that is no client's: where the process may not have more descriptors, say.
const PAUSE: Duration = Duration::from_millis(100);

// === impl Workers ===

impl Workers {
    /// Starts so many. Fails where the system gives no thread.
    pub(super) fn start(count: usize) -> io::Result<Self> {
        let workers = (0..count.max(1)).map(Worker::start);
        workers.collect::<io::Result<_>>().map(Self)
    }

    pub(super) fn places(&self) -> impl Iterator<Item = &Workplace> {
        self.0.iter().map(|worker| &worker.place)
    }

    /// One of them; the same for the same number.
    pub(super) fn place(&self, number: usize) -> &Workplace {
        &self.0[number % self.0.len()].place
    }

    pub(super) fn handles(&self) -> impl Iterator<Item = Handle> {
        self.places().map(|place| place.runtime.clone())
    }
}

impl Worker {
    fn start(number: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let place = Workplace {
            runtime: runtime.handle().clone(),
            connections: Arc::default(),
        };
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name(format!("proxy-{number}"));
        thread.spawn(move || {
            // An error: that is how it hears of its end.
            let _ = runtime.block_on(stopped);
        })?;
        Ok(Self { place, _stop: stop })
    }
}

impl Workplace {
    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    fn enter(&self) -> Served {
        self.connections.fetch_add(1, Ordering::Relaxed);
        Served(self.connections.clone())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Accepts the connections of one listener until `shutdown`, and has each served on the worker with the fewest. Connections between two
/// requests go on until `closing`. Runs on one of the workers.
pub(super) async fn accept<A: ServerApp + Send + Sync + 'static>(
    socket: Socket,
    seats: Vec<Seat<A>>,
    mut shutdown: watch::Receiver<bool>,
    mut closing: watch::Receiver<bool>,
) {
    let socket = match socket.moved_here() {
        Ok(socket) => socket,
        Err(error) => return tracing::error!(%error, "a socket cannot be listened on"),
    };
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            _ = shutdown.wait_for(|stop| *stop) => break,
        };
        let accepted = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if !is_of_one_connection(&error) {
                    tracing::error!(%error, "no connection can be accepted for the moment");
                    pingora::time::sleep(PAUSE).await;
                }
                continue;
            }
        };
        let Some((place, app)) = least_busy(&seats) else {
            break;
        };
        let (served, app) = (place.enter(), app.clone());
        place.runtime.spawn(async move {
            let _served = served;
            app.serve(accepted).await;
        });
    }
    drop(socket);
    // Whoever was accepted last has the time to ask: `close` ends what waits for a request. An error: whoever would say so is gone.
    let _ = closing.wait_for(|close| *close).await;
    for (_, app) in &seats {
        app.close().await;
    }
}

fn least_busy<T>(seats: &[(Workplace, T)]) -> Option<&(Workplace, T)> {
    let connections = |(place, _): &&(Workplace, T)| place.connections.load(Ordering::Relaxed);
    seats.iter().min_by_key(connections)
}

/// Whether an error is that of the connection that would have been accepted, and says nothing of the next one (accept(2)).
fn is_of_one_connection(error: &io::Error) -> bool {
    let theirs = [
        Errno::CONNABORTED,
        Errno::PROTO,
        Errno::INTR,
        Errno::AGAIN,
        Errno::PERM,
        Errno::NETDOWN,
        Errno::NOPROTOOPT,
        Errno::HOSTDOWN,
        Errno::NONET,
        Errno::HOSTUNREACH,
        Errno::OPNOTSUPP,
        Errno::NETUNREACH,
    ];
    Errno::from_io_error(error).is_some_and(|error| theirs.contains(&error))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::net::SocketAddr;

    use arc_swap::ArcSwap;
    use async_trait::async_trait;
    use pingora::protocols::Stream;
    use pingora::server::ShutdownWatch;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::time::timeout;

    use super::*;
    use crate::config::{Limits, ListenAddress, TrustedProxies};
    use crate::gate::{Census, GateRules, GatedParts};
    use crate::telemetry::Metrics;

    /// Says which thread serves a connection, and ends with it.
    struct NamesItsThread;

    #[async_trait]
    impl ServerApp for NamesItsThread {
        async fn process_new(
            self: &Arc<Self>,
            mut stream: Stream,
            _: &ShutdownWatch,
        ) -> Option<Stream> {
            let name = std::thread::current().name().unwrap().to_owned();
            stream.write_all(name.as_bytes()).await.unwrap();
            stream.write_all(b"\n").await.unwrap();
            stream.flush().await.unwrap();
            let _ = stream.read(&mut [0; 64]).await;
            None
        }
    }

    struct Fixture {
        workers: Workers,
        address: SocketAddr,
        stop: watch::Sender<bool>,
        _close: watch::Sender<bool>,
    }

    fn limits() -> Limits {
        let text = "[dressipi]\nbase_url = \"https://dressipi.example\"\nclient_id = \"demo\"\n\
            [[listeners]]\naddress = \"127.0.0.1:0\"\n[session]\nstore = \"memory\"\n\
            [[routes]]\npath = \"/\"\nupstream = \"dressipi\"\n";
        let format = crate::config::Format::Toml;
        let loaded = crate::config::load_text("a.toml", text, format, ".".as_ref(), []);
        loaded.unwrap().config.limits
    }

    async fn fixture(count: usize) -> Fixture {
        let workers = Workers::start(count).unwrap();
        let kept = Arc::default();
        let any = ListenAddress::Tcp("127.0.0.1:0".parse().unwrap());
        let socket = Socket::open(&any, None, &kept).unwrap();
        let Socket::Tcp(_, address) = &socket else {
            panic!("another kind of socket");
        };
        let address = *address;
        let (close, closing) = watch::channel(false);
        let seats = workers.places().map(|place| {
            let parts = GatedParts {
                rules: Arc::new(ArcSwap::from_pointee(GateRules {
                    limits: limits(),
                    trusted_proxies: TrustedProxies::default(),
                    tls: None,
                })),
                census: Census::new(1000, 1000),
                closing: closing.clone(),
                metrics: Arc::new(Metrics::new()),
            };
            (place.clone(), Arc::new(Gated::new(NamesItsThread, parts)))
        });
        let (stop, stopped) = watch::channel(false);
        let accept = accept(socket, seats.collect(), stopped, closing);
        workers.place(0).runtime().spawn(accept);
        Fixture {
            workers,
            address,
            stop,
            _close: close,
        }
    }

    impl Fixture {
        /// A connection, with the name of the thread that has it.
        async fn connect(&self) -> (String, TcpStream) {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            let mut name = Vec::new();
            while name.last() != Some(&b'\n') {
                name.push(stream.read_u8().await.unwrap());
            }
            (String::from_utf8(name).unwrap().trim().to_owned(), stream)
        }

        async fn settled(&self, connections: usize) {
            let count = || {
                let each = self.workers.places();
                each.map(|place| place.connections.load(Ordering::Relaxed))
                    .sum::<usize>()
            };
            while count() != connections {
                tokio::task::yield_now().await;
            }
        }
    }

    fn counted(connections: &[(String, TcpStream)]) -> HashMap<&str, usize> {
        let mut counts = HashMap::new();
        for (name, _) in connections {
            *counts.entry(name.as_str()).or_default() += 1;
        }
        counts
    }

    #[tokio::test]
    async fn each_worker_has_as_many_connections_as_the_others() {
        let fixture = fixture(4).await;
        let mut connections = Vec::new();
        for _ in 0..32 {
            connections.push(fixture.connect().await);
        }
        let counts = counted(&connections);
        assert_eq!(counts.len(), 4);
        assert!(counts.values().all(|count| *count == 8), "{counts:?}");

        // One worker's clients go: the next ones are its.
        connections.retain(|(name, _)| name != "proxy-2");
        fixture.settled(24).await;
        for _ in 0..8 {
            let new = fixture.connect().await;
            assert_eq!(new.0, "proxy-2");
            connections.push(new);
        }
    }

    #[tokio::test]
    async fn connections_that_come_together_are_spread_as_well() {
        let fixture = fixture(2).await;
        let together = (0..20).map(|_| fixture.connect());
        let connections = futures::future::join_all(together).await;
        let counts = counted(&connections);
        assert_eq!(counts, HashMap::from([("proxy-0", 10), ("proxy-1", 10)]));
    }

    #[tokio::test]
    async fn nothing_is_accepted_after_the_end_and_what_is_there_goes_on() {
        let fixture = fixture(2).await;
        let (_, mut before) = fixture.connect().await;
        fixture.stop.send(true).unwrap();
        while TcpStream::connect(fixture.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        let mut one = [0];
        let read = timeout(Duration::from_millis(20), before.read(&mut one)).await;
        assert!(read.is_err(), "it is open");
        drop(fixture);
        let read = before.read(&mut one).await;
        assert!(
            read.is_ok_and(|length| length == 0),
            "cut off with the workers"
        );
    }

    #[test]
    fn it_pauses_unless_the_error_is_a_clients() {
        let of = |errno: Errno| is_of_one_connection(&io::Error::from(errno));
        assert!(of(Errno::CONNABORTED) && of(Errno::PERM));
        assert!(!of(Errno::MFILE) && !of(Errno::NOMEM) && !of(Errno::ACCESS));
        assert!(!is_of_one_connection(&io::Error::other("not the system's")));
    }
}
