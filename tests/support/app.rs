use std::net::SocketAddr;

use axum::Json;
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use tokio::net::TcpListener;

/// A retailer's app: tells what it received, and answers what it is told to.
pub struct App {
    pub address: SocketAddr,
}

impl App {
    pub async fn start() -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(socket, Self::router()).await });
        Self { address }
    }

    pub fn router() -> Router {
        Router::new()
            .route("/cached", get(cached))
            .route("/status/{status}", any(status))
            .fallback(echo)
    }
}

/// The request's head, as JSON. The body is read: a server that answers before that may hang up any time after its answer, and a POST that
/// is on its way by then is lost.
async fn echo(request: Request<Body>) -> Response {
    let (request, body) = request.into_parts();
    let read = axum::body::to_bytes(body, usize::MAX).await;
    if read.is_err() {
        return StatusCode::BAD_REQUEST.into_response();
    }
    let headers: Vec<_> = request
        .headers
        .iter()
        .map(|(name, value)| {
            (
                name.to_string(),
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            )
        })
        .collect();
    let seen = serde_json::json!({
        "method": request.method.as_str(),
        "target": request.uri.to_string(),
        "headers": headers,
    });
    ([("set-cookie", "cart=7"), ("etag", "\"1\"")], Json(seen)).into_response()
}

/// An answer that every cache would keep.
async fn cached() -> impl IntoResponse {
    let mut headers = HeaderMap::new();
    headers.insert("cache-control", "public, max-age=31536000".parse().unwrap());
    headers.insert("surrogate-control", "max-age=600".parse().unwrap());
    headers.insert("expires", "Thu, 01 Jan 2037 00:00:00 GMT".parse().unwrap());
    (headers, "cached")
}

async fn status(axum::extract::Path(status): axum::extract::Path<u16>) -> impl IntoResponse {
    (
        StatusCode::from_u16(status).unwrap(),
        [("x-own", "kept")],
        format!("status {status}"),
    )
}
