use std::net::SocketAddr;
use std::sync::Arc;

use futures::{SinkExt, StreamExt};
use http::HeaderMap;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::handshake::client::Response;
use tokio_tungstenite::tungstenite::handshake::server;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, frame::coding::CloseCode};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async, client_async};

/// A WebSocket server that sends back what it gets, and closes with code 4002 when it is asked to `"hang up"`.
#[derive(Clone, Default)]
pub struct EchoSocket {
    /// The headers of each upgrade request.
    pub upgrades: Arc<Mutex<Vec<HeaderMap>>>,
    /// The code with which each connection was closed.
    pub closed: Arc<Mutex<Vec<u16>>>,
}

impl EchoSocket {
    pub async fn start(&self) -> SocketAddr {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let echo = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = socket.accept().await {
                tokio::spawn(echo.clone().serve(stream));
            }
        });
        address
    }

    /// Serves one connection.
    pub async fn serve(self, stream: impl AsyncRead + AsyncWrite + Unpin) {
        #[allow(clippy::result_large_err, reason = "the callback's type is given")]
        let note = |request: &server::Request, response: server::Response| {
            self.upgrades.lock().push(request.headers().clone());
            Ok(response)
        };
        let mut socket = accept_hdr_async(stream, note).await.unwrap();
        while let Some(Ok(message)) = socket.next().await {
            match message {
                Message::Text(text) if text.as_str() == "hang up" => {
                    let reason = CloseFrame {
                        code: CloseCode::Library(4002),
                        reason: "as asked".into(),
                    };
                    socket.close(Some(reason)).await.unwrap();
                }
                Message::Close(frame) => {
                    let code = frame.map_or(1005, |frame| frame.code.into());
                    self.closed.lock().push(code);
                }
                message => socket.send(message).await.unwrap(),
            }
        }
    }
}

/// Opens a WebSocket at `address`; the answer to the upgrade comes along.
pub async fn open_websocket(
    address: SocketAddr,
    path: &str,
    headers: &[(&'static str, &str)],
) -> (WebSocketStream<TcpStream>, Response) {
    let mut request = format!("ws://{address}{path}")
        .into_client_request()
        .unwrap();
    for (name, value) in headers {
        request.headers_mut().append(*name, value.parse().unwrap());
    }
    let stream = TcpStream::connect(address).await.unwrap();
    client_async(request, stream).await.unwrap()
}
