//! `POST /quit`: the sidecar drains and ends, as on SIGTERM. For Jobs, whose pod is done only when every container is, and whose
//! main container knows when.
//!
//! Where a bearer token is configured, whoever has it may; otherwise whoever is on this host.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};

use super::problem::Problem;
use super::{Admin, bearer};

pub(super) async fn quit(
    State(admin): State<Admin>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Response {
    let token = admin.0.token.load();
    let may = match token.as_deref() {
        Some(_) => bearer::admit(&headers, token.as_deref()),
        None if peer.ip().to_canonical().is_loopback() => Ok(()),
        None => Err(Problem {
            status: StatusCode::FORBIDDEN,
            title: "Nobody may do this from elsewhere",
            detail: "configure admin.token_file, or ask from this host".to_owned(),
        }),
    };
    match may {
        Ok(()) => {
            tracing::info!(%peer, "told to quit");
            admin.0.quit.notify_one();
            (StatusCode::ACCEPTED, "draining\n").into_response()
        }
        Err(problem) => bearer::challenge(problem),
    }
}
