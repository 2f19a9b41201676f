//! The demo shop: an app that stands behind the sidecar, knows nothing of OAuth, and shows what the sidecar did.
//!
//! One page without outside assets. It calls `/api/items/top` on its own origin, which the sidecar routes to Dressipi, and
//! lays side by side what the browser sent, what Dressipi received, and what the shop received. Secrets are masked here,
//! before they leave for the page.

use std::sync::LazyLock;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::faults::{Endpoint, Fault, FaultKind};
use super::handle::Simulator;
use super::mask::masked_headers;
use super::model::ExpiredAs;

const PAGE: &str = include_str!("shop.html");
const FAILURE: Duration = Duration::from_secs(10);

/// Lets the page run its own script and style, load nothing from elsewhere, and call only its own origin.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let digest = |tag: &str| {
        let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
        let inner = PAGE
            .split_once(&open)
            .and_then(|(_, rest)| rest.split_once(&close))
            .map_or("", |(inner, _)| inner);
        STANDARD.encode(Sha256::digest(inner))
    };
    format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; img-src data:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        digest("script"),
        digest("style")
    )
});

/// The demo shop of one simulator.
pub struct Shop {
    simulator: Simulator,
}

#[derive(Deserialize)]
struct Event {
    event_id: String,
}

// === impl Shop ===

impl Shop {
    /// A shop that asks this simulator what it saw, and tells it to misbehave.
    pub fn new(simulator: Simulator) -> Self {
        Self { simulator }
    }

    /// The shop's routes, for a server of your choice.
    pub fn router(self) -> Router {
        Router::new()
            .route("/", get(page))
            .route("/shop/health", get(|| async { "ok" }))
            .route("/shop/seen", get(seen))
            .route("/shop/dressipi-saw", get(dressipi_saw))
            .route("/shop/expire-token", post(expire_token))
            .route("/shop/fail", post(fail))
            .with_state(self.simulator)
    }
}

async fn page() -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY.as_str()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, PAGE).into_response()
}

/// This very request as it reached the shop.
async fn seen(headers: HeaderMap) -> Response {
    no_store(Json(json!({ "headers": masked_headers(&headers) })).into_response())
}

/// The request that Dressipi answered with this event.
async fn dressipi_saw(State(simulator): State<Simulator>, Query(event): Query<Event>) -> Response {
    no_store(match simulator.request_of_event(&event.event_id) {
        Some(request) => Json(request).into_response(),
        None => (
            StatusCode::NOT_FOUND,
            Json(json!({ "error": "no such event among the last requests" })),
        )
            .into_response(),
    })
}

async fn expire_token(State(simulator): State<Simulator>, headers: HeaderMap) -> Response {
    act(&headers, || {
        simulator.expire_tokens(ExpiredAs::Unauthorized);
        json!({ "done": "Dressipi now answers 401 to every access token it has issued so far" })
    })
}

async fn fail(State(simulator): State<Simulator>, headers: HeaderMap) -> Response {
    act(&headers, || {
        for endpoint in [
            Endpoint::Authorize,
            Endpoint::Token,
            Endpoint::Refresh,
            Endpoint::Resource,
        ] {
            simulator.add_fault(Fault::always(endpoint, FaultKind::status(503)).lasting(FAILURE));
        }
        json!({ "done": "Dressipi answers 503 to everything for ten seconds" })
    })
}

/// Does something that changes state, if the page itself asks for it.
fn act(headers: &HeaderMap, action: impl FnOnce() -> Value) -> Response {
    if is_same_origin(headers) {
        Json(action()).into_response()
    } else {
        (
            StatusCode::FORBIDDEN,
            Json(json!({ "error": "only this page may do that" })),
        )
            .into_response()
    }
}

/// Whether the browser vouches that the request comes from a page of this origin. `Sec-Fetch-Site` decides where it is
/// sent; without it, the host of `Origin` must be the one asked for.
fn is_same_origin(headers: &HeaderMap) -> bool {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    match text(HeaderName::from_static("sec-fetch-site")) {
        Some(site) => site == "same-origin",
        None => {
            let origin = text(header::ORIGIN).and_then(|origin| origin.split_once("://"));
            origin.is_some_and(|(_, host)| {
                text(header::HOST).is_some_and(|asked| asked.eq_ignore_ascii_case(host))
            })
        }
    }
}

fn no_store(mut response: Response) -> Response {
    response.headers_mut().insert(
        header::CACHE_CONTROL,
        header::HeaderValue::from_static("no-store"),
    );
    response
}
