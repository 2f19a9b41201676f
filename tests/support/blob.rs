use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, Request};
use axum::routing::get;
use axum::serve::ListenerExt;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::net::TcpListener;
use tokio::sync::Notify;

use super::Pattern;

/// An upstream for bodies of any size: sends them on `GET …/blob?size=`, takes and checks them on `PUT …/blob`. Both stop
/// after the first bytes until the test lets them go on.
#[derive(Clone, Default)]
pub struct Blobs {
    /// Bytes handed out to be sent.
    pub sent: Arc<AtomicU64>,
    /// The first bytes of an upload are here.
    pub upload_begun: Arc<Notify>,
    /// The rest of a download may be sent.
    pub go_on: Arc<Notify>,
    /// Connections accepted.
    pub connections: Arc<AtomicUsize>,
}

#[derive(serde::Deserialize)]
struct Size {
    size: u64,
}

impl Blobs {
    /// The routes, below `path`.
    pub fn router(&self, path: &str) -> Router {
        Router::new()
            .route(&format!("{path}blob"), get(download).put(upload))
            .with_state(self.clone())
    }

    /// Serves `router` on a port of its own, counting connections.
    pub async fn serve(&self, router: Router) -> SocketAddr {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let connections = self.connections.clone();
        let socket = socket.tap_io(move |_| {
            connections.fetch_add(1, Ordering::Relaxed);
        });
        tokio::spawn(async move { axum::serve(socket, router).await });
        address
    }
}

async fn download(State(blobs): State<Blobs>, Query(Size { size }): Query<Size>) -> Body {
    let begin = Pattern::default();
    let stream = futures::stream::unfold((begin, blobs), move |(mut pattern, blobs)| async move {
        if pattern.position() > 0 && pattern.position() < 128 * 1024 {
            blobs.go_on.notified().await;
        }
        let chunk = pattern.next_chunk(size)?;
        blobs.sent.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        Some((Ok::<_, Infallible>(Frame::data(chunk)), (pattern, blobs)))
    });
    Body::new(StreamBody::new(stream))
}

/// Answers with the length, and with the beginning of the token that came along.
async fn upload(State(blobs): State<Blobs>, headers: HeaderMap, request: Request<Body>) -> String {
    let mut body = request.into_body();
    let mut pattern = Pattern::default();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return "broken off".into();
        };
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if pattern.position() == 0 {
            blobs.upload_begun.notify_one();
        }
        pattern.check(&data);
    }
    let token = headers.get("x-dressipi-jwt");
    let token = token.map_or("none", |token| &token.to_str().unwrap()[..3]);
    format!("{} {token}", pattern.position())
}
