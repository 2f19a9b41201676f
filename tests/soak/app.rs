//! The app behind the sidecar: says for whom it was asked, and sends and takes bodies of any size.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use dressipi_sidecar::simulator::Simulator;
use futures::StreamExt;

/// What large bodies are made of.
static FILLING: [u8; 64 * 1024] = [b'.'; 64 * 1024];
const MOST: usize = 8 << 20;

/// `/bytes/N` answers with N bytes at least; `/upload` tells how many it got; everything else answers shortly.
pub fn router(simulator: Simulator) -> Router {
    Router::new()
        .route("/bytes/{count}", get(bytes))
        .route("/upload", post(upload))
        .fallback(
            async |State(simulator): State<Simulator>, headers: HeaderMap| {
                seen(&simulator, &headers, 0)
            },
        )
        .layer(DefaultBodyLimit::max(MOST))
        .with_state(simulator)
}

/// Whose token came along, in the words of the simulator's own answers.
fn seen(simulator: &Simulator, headers: &HeaderMap, received: usize) -> String {
    let token = headers
        .get("x-dressipi-jwt")
        .and_then(|value| value.to_str().ok());
    match token.map(|token| simulator.profile_of_token(token)) {
        Some(Some(profile)) => format!("{{\"profile\":\"{profile}\",\"received\":{received}}}"),
        Some(None) => format!("{{\"profile\":\"a token of nobody's\",\"received\":{received}}}"),
        None => format!("{{\"received\":{received}}}"),
    }
}

async fn bytes(
    State(simulator): State<Simulator>,
    Path(count): Path<usize>,
    headers: HeaderMap,
) -> Response {
    let head = seen(&simulator, &headers, 0);
    let count = count.min(MOST);
    let length = head.len() + count;
    let whole = std::iter::repeat_n(FILLING.len(), count / FILLING.len());
    let parts = whole
        .chain([count % FILLING.len()])
        .map(|part| Bytes::from_static(&FILLING[..part]));
    let parts = futures::stream::iter(std::iter::once(Bytes::from(head)).chain(parts));
    let body = Body::from_stream(parts.map(Ok::<_, std::convert::Infallible>));
    ([(header::CONTENT_LENGTH, length)], body).into_response()
}

async fn upload(State(simulator): State<Simulator>, headers: HeaderMap, body: Bytes) -> String {
    seen(&simulator, &headers, body.len())
}
