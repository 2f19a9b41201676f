//! The listener's routes, and what all requests have in common: they are noted when they come and when they are answered,
//! and every answer of the API sets the vendor's cookie, as Dressipi does.

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{any, get, post};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;

use super::answer;
use super::handle::Simulator;
use super::tally::{Class, Outcome};
use super::{control, headers, oauth, resource};

/// The vendor's cookie, which must never reach a browser.
const VENDOR_COOKIE: &str =
    "_pantheon2-dressipi_session=5d0c4a7be1f24f0e9b6f; path=/; HttpOnly; SameSite=Lax";

pub(super) fn router(simulator: Simulator) -> Router {
    Router::new()
        // GET alone: a HEAD must not create a profile.
        .route(
            "/api/oauth/authorize",
            get(oauth::authorize).head(method_not_allowed),
        )
        .route("/api/oauth/token", post(oauth::token))
        .route("/api/{*path}", any(resource::serve))
        .route("/t/t", post(track))
        .fallback(not_found)
        .layer(middleware::from_fn_with_state(simulator.clone(), note))
        .with_state(simulator.clone())
        .nest("/__sim", control::router(simulator))
}

async fn method_not_allowed() -> Response {
    answer::json(
        StatusCode::METHOD_NOT_ALLOWED,
        &json!({ "error": { "message": "Method not allowed" } }),
    )
}

async fn not_found() -> Response {
    answer::json(
        StatusCode::NOT_FOUND,
        &json!({ "error": { "message": "Not found" } }),
    )
}

/// The Snowplow collector: takes anything.
async fn track(State(simulator): State<Simulator>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    if headers::presented_token(&parts.headers).is_some() {
        simulator.world().tally.totals.tracking_calls_with_token += 1;
    }
    // Read to the end, so that the connection can be used again; a client that breaks off has lost interest.
    let _ = answer::digest(body).await;
    Response::new("ok".into())
}

/// Notes the request on its way in and the answer on its way out.
async fn note(State(simulator): State<Simulator>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let class = Class::of(parts.uri.path());
    let now_ms = simulator.now_ms();
    let seq = simulator.world().tally.arrive(class, &parts, now_ms);
    let presence = Presence {
        simulator: &simulator,
        class,
    };
    let mut response = next.run(Request::from_parts(parts, body)).await;
    response
        .headers_mut()
        .append(header::SET_COOKIE, HeaderValue::from_static(VENDOR_COOKIE));
    let outcome = response
        .extensions_mut()
        .remove::<Outcome>()
        .unwrap_or_default();
    tracing::debug!(?class, status = response.status().as_u16(), faults = ?outcome.faults, "simulator answered");
    simulator
        .world()
        .tally
        .answer(seq, class, response.status(), outcome);
    drop(presence);
    response
}

/// A request in flight: it leaves on drop, for a client that hangs up cancels its handler.
struct Presence<'a> {
    simulator: &'a Simulator,
    class: Class,
}

impl Drop for Presence<'_> {
    fn drop(&mut self) {
        self.simulator.world().tally.leave(self.class);
    }
}
