//! An upstream that reads strictly, and remembers what it has received from whom.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::strict::{self, Read, Request};

/// What has been received.
#[derive(Clone, Default)]
pub struct Recorder(Arc<Mutex<Received>>);

#[derive(Default)]
pub struct Received {
    /// Requests, with the address of the client that sent them.
    pub whole: Vec<(Ipv4Addr, Request)>,
    /// Heads whose body never came to its end.
    pub begun: Vec<(Ipv4Addr, Request)>,
    /// What was no HTTP.
    pub wrong: Vec<(&'static str, String)>,
}

impl Recorder {
    pub async fn start() -> (Self, SocketAddr) {
        let recorder = Self::default();
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let shared = recorder.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = socket.accept().await {
                tokio::spawn(shared.clone().serve(stream));
            }
        });
        (recorder, address)
    }

    pub fn take(&self) -> Received {
        std::mem::take(&mut *self.0.lock())
    }

    async fn serve(self, mut stream: TcpStream) {
        let mut buffer = Vec::new();
        loop {
            match strict::read(&buffer) {
                Read::Whole(request, length) => {
                    buffer.drain(..length);
                    self.0.lock().whole.push((client(&request), request));
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                    if stream.write_all(answer).await.is_err() {
                        return;
                    }
                    continue;
                }
                Read::Wrong(why) => {
                    let text = String::from_utf8_lossy(&buffer).into_owned();
                    self.0.lock().wrong.push((why, text));
                    return;
                }
                Read::Begun(_) => {}
            }
            if !matches!(stream.read_buf(&mut buffer).await, Ok(1..)) {
                if let Read::Begun(Some(request)) = strict::read(&buffer) {
                    self.0.lock().begun.push((client(&request), request));
                }
                return;
            }
        }
    }
}

/// The sidecar says who the client is, and believes nobody else about it.
fn client(request: &Request) -> Ipv4Addr {
    let [address] = request.all("x-forwarded-for")[..] else {
        panic!("{request:?}");
    };
    std::str::from_utf8(address).unwrap().parse().unwrap()
}
