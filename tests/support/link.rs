//! A TCP connection with somebody in the middle, who can cut it, hold it up, and stop at any command.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::resp::{command_words, is_push, is_subscription, message_length};

/// What the one in the middle does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Passes everything on.
    Pass,
    /// Connections are reset, and new ones refused: nobody listens.
    Refuse,
    /// Connections are reset, and new ones right after they were accepted.
    Reset,
    /// Connections stay and new ones are accepted, but no byte goes on until the mode changes.
    Blackhole,
}

/// What the one in the middle understands of what passes.
#[derive(Clone)]
pub enum Ear {
    /// Nothing.
    Bytes,
    /// In answers, these port numbers (five digits each) stand for other ones: for Sentinels, which tell addresses.
    #[allow(dead_code, reason = "the chaos run alone has sentinels behind links")]
    Ports(Vec<(String, String)>),
    /// Redis commands and their replies, which pass a gate one by one.
    Commands(Arc<Gate>),
}

/// Somebody in the middle, on an address of its own. Ends when it is dropped.
pub struct Link {
    pub address: SocketAddr,
    mode: watch::Sender<Mode>,
    task: JoinHandle<()>,
}

const BACKLOG: i32 = 1024;

// === impl Link ===

impl Link {
    /// In front of `target`, on the same IP address.
    pub fn to(target: SocketAddr, ear: Ear) -> Self {
        // Somebody else may be quicker to take the port.
        let bound = (0..100).find_map(|_| bind(target.ip()).ok());
        let (listener, address) = bound.expect("there is a free port");
        let (mode, modes) = watch::channel(Mode::Pass);
        let task = tokio::spawn(accept(listener, target, ear, modes));
        Self {
            address,
            mode,
            task,
        }
    }

    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Bound by number: a port that the kernel chose would be lost as soon as the socket listens no more.
fn bind(ip: IpAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let free = std::net::TcpListener::bind((ip, 0))?;
    let address = free.local_addr()?;
    drop(free);
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let listener = socket.listen(u32::try_from(BACKLOG).unwrap())?;
    Ok((listener, address))
}

async fn accept(
    mut listener: TcpListener,
    target: SocketAddr,
    ear: Ear,
    mut modes: watch::Receiver<Mode>,
) {
    // Connections end with the link.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        if *modes.borrow_and_update() == Mode::Refuse {
            let Ok(deaf) = deafen(listener) else { return };
            let gone = modes.wait_for(|mode| *mode != Mode::Refuse).await.is_err();
            // Listens before it is back in the runtime, which would take it for closed otherwise.
            let hears = SockRef::from(&deaf).listen(BACKLOG);
            listener = match hears.and_then(|()| TcpListener::from_std(deaf)) {
                Ok(listener) if !gone => listener,
                _ => return,
            };
        }
        tokio::select! {
            changed = modes.changed() => if changed.is_err() { return },
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => {
                    connections.spawn(connection(client, target, ear.clone(), modes.clone()));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// The socket stays bound, so that nobody else gets the port, and listens no more: the kernel refuses. Taken out of the
/// runtime, which would believe for ever that it has been shut down.
fn deafen(listener: TcpListener) -> io::Result<std::net::TcpListener> {
    let listener = listener.into_std()?;
    SockRef::from(&listener).shutdown(std::net::Shutdown::Both)?;
    Ok(listener)
}

/// One connection, until an end closes it or the mode resets it.
async fn connection(
    mut client: TcpStream,
    target: SocketAddr,
    ear: Ear,
    mut modes: watch::Receiver<Mode>,
) {
    let mut passing = modes.clone();
    let through = async {
        let _ = passing.wait_for(|mode| *mode == Mode::Pass).await;
        let Ok(mut server) = TcpStream::connect(target).await else {
            return;
        };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let pending = Pending::default();
        let there = pump(
            from_client,
            to_server,
            &ear,
            Side::Client,
            &pending,
            passing.clone(),
        );
        let back = pump(
            from_server,
            to_client,
            &ear,
            Side::Server,
            &pending,
            passing.clone(),
        );
        tokio::select! { _ = there => {}, _ = back => {} }
    };
    let reset = modes.wait_for(|mode| matches!(mode, Mode::Reset | Mode::Refuse));
    let cut = tokio::select! { () = through => false, _ = reset => true };
    if cut {
        // A reset instead of an orderly end.
        let _ = SockRef::from(&client).set_linger(Some(Duration::ZERO));
    }
}

/// From which end bytes come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Client,
    Server,
}

/// Commands of a connection whose replies have not come yet, by their number at the gate.
type Pending = Mutex<std::collections::VecDeque<Option<usize>>>;

async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    ear: &Ear,
    side: Side,
    pending: &Pending,
    mut modes: watch::Receiver<Mode>,
) -> io::Result<()> {
    let mut buffer = Vec::new();
    loop {
        if from.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
        match ear {
            Ear::Ports(ports) if side == Side::Server => translate(&mut buffer, ports),
            Ear::Commands(gate) => {
                while let Some(length) = message_length(&buffer) {
                    let message: Vec<u8> = buffer.drain(..length).collect();
                    match side {
                        Side::Client => {
                            let number = gate.command(&message).await;
                            if !is_subscription(&message) {
                                pending.lock().push_back(number);
                            }
                        }
                        Side::Server if is_push(&message) => {}
                        Side::Server => {
                            let number = pending.lock().pop_front().flatten();
                            if let Some(number) = number {
                                gate.after(number).await;
                            }
                        }
                    }
                    to.write_all(&message).await?;
                }
                continue;
            }
            Ear::Bytes | Ear::Ports(_) => {}
        }
        let _ = modes.wait_for(|mode| *mode == Mode::Pass).await;
        to.write_all(&buffer).await?;
        buffer.clear();
    }
}

/// Puts other ports in the place of those in `ports`, where they stand alone. Lengths stay the same.
fn translate(bytes: &mut [u8], ports: &[(String, String)]) {
    for (real, other) in ports {
        let (real, other) = (real.as_bytes(), other.as_bytes());
        let mut at = 0;
        while let Some(found) = bytes[at..]
            .windows(real.len())
            .position(|window| window == real)
        {
            let (start, end) = (at + found, at + found + real.len());
            let alone = |place: Option<&u8>| place.is_none_or(|byte| !byte.is_ascii_alphanumeric());
            if alone(start.checked_sub(1).and_then(|place| bytes.get(place)))
                && alone(bytes.get(end))
            {
                bytes[start..end].copy_from_slice(other);
            }
            at = end;
        }
    }
}

/// Numbers everything that passes it, and lets nothing pass at one point: before it, or after it took effect and before
/// the answer gets back.
#[derive(Default)]
pub struct Gate {
    passed: Mutex<Vec<String>>,
    stop: Option<(usize, Moment)>,
    /// Whether points count.
    counts: AtomicBool,
    all: AtomicUsize,
    reached: Notify,
}

/// Which side of a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Nothing of it has happened.
    Before,
    /// It has happened, and nobody was told.
    After,
}

/// Commands that change nothing that is stored.
const HOUSEKEEPING: [&str; 14] = [
    "PUBLISH",
    "SPUBLISH",
    "HELLO",
    "CLIENT",
    "PING",
    "SUBSCRIBE",
    "SSUBSCRIBE",
    "PSUBSCRIBE",
    "ROLE",
    "INFO",
    "TIME",
    "SCRIPT",
    "AUTH",
    "SELECT",
];

impl Gate {
    /// Stops at `stop`, counted from the moment when it is armed.
    pub fn new(stop: Option<(usize, Moment)>) -> Arc<Self> {
        Arc::new(Self {
            stop,
            ..Self::default()
        })
    }

    /// Begins to count.
    pub fn arm(&self) {
        self.counts.store(true, Ordering::SeqCst);
    }

    /// Counts no more, and stops nobody.
    pub fn open(&self) {
        self.counts.store(false, Ordering::SeqCst);
    }

    /// How many messages came, counted or not.
    pub fn passed(&self) -> usize {
        self.all.load(Ordering::SeqCst)
    }

    /// Waits until the point to stop at is reached.
    pub async fn reached(&self) {
        self.reached.notified().await;
    }

    /// The names of the points passed or reached so far.
    pub fn points(&self) -> Vec<String> {
        self.passed.lock().clone()
    }

    async fn command(&self, message: &[u8]) -> Option<usize> {
        let [word, next] = command_words(message);
        if HOUSEKEEPING.contains(&word.as_str()) {
            return None;
        }
        let name = match word.as_str() {
            "EVALSHA" | "EVAL" | "FCALL" => format!("{word} {}", &next[..next.len().min(6)]),
            _ => word,
        };
        self.before(&format!("redis {name}")).await
    }

    /// Passes, unless this is the point to stop at; the number of the point, if it counts.
    pub async fn before(&self, name: &str) -> Option<usize> {
        self.all.fetch_add(1, Ordering::SeqCst);
        if !self.counts.load(Ordering::SeqCst) {
            return None;
        }
        let number = {
            let mut passed = self.passed.lock();
            passed.push(name.to_owned());
            passed.len() - 1
        };
        self.pass(number, Moment::Before).await;
        Some(number)
    }

    /// As `before`, on the other side of the point.
    pub async fn after(&self, number: usize) {
        self.pass(number, Moment::After).await;
    }

    async fn pass(&self, number: usize, moment: Moment) {
        if self.stop == Some((number, moment)) {
            self.reached.notify_one();
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        address
    }

    async fn through(stream: &mut TcpStream) -> io::Result<u8> {
        stream.write_all(b"x").await?;
        stream.read_u8().await
    }

    #[tokio::test]
    async fn a_link_passes_cuts_refuses_holds_up_and_recovers() {
        let link = Link::to(echo().await, Ear::Bytes);
        let connect = || TcpStream::connect(link.address);
        let mut stream = connect().await.unwrap();
        assert_eq!(through(&mut stream).await.unwrap(), b'x');

        link.set(Mode::Blackhole);
        let mut held = connect().await.unwrap();
        let waits = Duration::from_millis(100);
        assert!(
            tokio::time::timeout(waits, through(&mut stream))
                .await
                .is_err()
        );
        assert!(
            tokio::time::timeout(waits, through(&mut held))
                .await
                .is_err()
        );
        link.set(Mode::Pass);
        assert_eq!(stream.read_u8().await.unwrap(), b'x');
        assert_eq!(held.read_u8().await.unwrap(), b'x');

        for mode in [Mode::Refuse, Mode::Reset, Mode::Refuse] {
            link.set(mode);
            assert!(stream.read_u8().await.is_err(), "{mode:?} resets");
            // The kernel may still complete a connection or two that were on their way.
            let refused = async || loop {
                match connect().await {
                    Err(error) => return Some(error.kind()),
                    Ok(mut stream) => {
                        assert!(through(&mut stream).await.is_err());
                        if mode == Mode::Reset {
                            return None;
                        }
                    }
                }
            };
            let expected = (mode == Mode::Refuse).then_some(io::ErrorKind::ConnectionRefused);
            assert_eq!(refused().await, expected);
            link.set(Mode::Pass);
            stream = loop {
                // A refusal comes at once: without this the link would never get its turn.
                tokio::task::yield_now().await;
                let Ok(mut stream) = connect().await else {
                    continue;
                };
                if through(&mut stream).await.is_ok() {
                    break stream;
                }
            };
        }
    }

    #[test]
    fn a_port_is_translated_where_it_stands_alone() {
        let ports = [("40001".to_owned(), "50001".to_owned())];
        let mut text = *b"$5\r\n40001\r\n+switch m 1.1.1.1 40001 a40001 400012";
        translate(&mut text, &ports);
        assert_eq!(
            &text,
            b"$5\r\n50001\r\n+switch m 1.1.1.1 50001 a40001 400012"
        );
    }
}
