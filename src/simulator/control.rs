//! The control endpoints under `/__sim/`: what the handle does in-process, over HTTP.
//!
//! No authentication: a simulator is for a developer's machine and for tests.

use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;

use super::config::{Settings, SettingsPatch};
use super::faults::Fault;
use super::handle::Simulator;
use super::ledger::Totals;
use super::model::ExpiredAs;

pub(super) fn router(simulator: Simulator) -> Router {
    Router::new()
        .route("/ledger", get(ledger))
        .route("/faults", get(faults).post(add_faults).delete(clear_faults))
        .route("/settings", post(settings))
        .route("/expire-tokens", post(expire_tokens))
        .route("/revoke-refresh-tokens", post(revoke_refresh_tokens))
        .route("/reset", post(reset))
        .with_state(simulator)
}

#[derive(Deserialize)]
struct LedgerQuery {
    summary: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expire {
    #[serde(rename = "as")]
    as_what: ExpiredAs,
}

#[derive(serde::Serialize)]
struct Summary {
    totals: Totals,
}

async fn ledger(State(simulator): State<Simulator>, Query(query): Query<LedgerQuery>) -> Response {
    match query.summary.as_deref() {
        None | Some("0") => Json(simulator.ledger()).into_response(),
        Some(_) => Json(Summary {
            totals: simulator.totals(),
        })
        .into_response(),
    }
}

async fn faults(State(simulator): State<Simulator>) -> Json<Vec<Fault>> {
    Json(simulator.faults())
}

async fn add_faults(
    State(simulator): State<Simulator>,
    Json(faults): Json<Vec<Fault>>,
) -> Response {
    match simulator.try_add_faults(faults) {
        Ok(()) => Json(simulator.faults()).into_response(),
        Err(error) => (
            StatusCode::BAD_REQUEST,
            Json(json!({ "error": error.to_string() })),
        )
            .into_response(),
    }
}

async fn clear_faults(State(simulator): State<Simulator>) -> StatusCode {
    simulator.clear_faults();
    StatusCode::NO_CONTENT
}

async fn settings(
    State(simulator): State<Simulator>,
    Json(patch): Json<SettingsPatch>,
) -> Json<Settings> {
    Json(simulator.update_settings(patch))
}

async fn expire_tokens(
    State(simulator): State<Simulator>,
    Json(expire): Json<Expire>,
) -> StatusCode {
    simulator.expire_tokens(expire.as_what);
    StatusCode::NO_CONTENT
}

async fn revoke_refresh_tokens(State(simulator): State<Simulator>) -> StatusCode {
    simulator.revoke_refresh_tokens();
    StatusCode::NO_CONTENT
}

async fn reset(State(simulator): State<Simulator>) -> StatusCode {
    simulator.reset();
    StatusCode::NO_CONTENT
}
