//! `POST /quit`: the sidecar drains and ends, as on SIGTERM. For Jobs, whose pod is done only when every container is, and whose
//! main container knows when.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};

use super::{Admin, bearer};

pub(super) async fn quit(
    State(admin): State<Admin>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Response {
    match bearer::admit_change(&headers, peer, &admin) {
        Ok(()) => {
            tracing::info!(%peer, "told to quit");
            admin.0.quit.notify_one();
            (StatusCode::ACCEPTED, "draining\n").into_response()
        }
        Err(problem) => bearer::challenge(problem),
    }
}
