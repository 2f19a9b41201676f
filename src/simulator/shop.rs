//! The demo shop: an app that stands behind the sidecar, knows nothing of OAuth, and shows what the sidecar did.
//!
//! Two pages without outside assets. `/` is the stage: the buttons that concern all, and two visitors side by side, each in a frame
//! that shows `/visitor`. A visitor's page calls `/api/items/top` on its own origin, which the sidecar routes to Dressipi, and shows
//! what the browser sent, what the shop received and what Dressipi received. Secrets are masked here, before they leave for the page.
//!
//! Cookies belong to host names, so one browser can be two visitors under two names of one site (`places`). How a visitor's session
//! stands the shop does not know; the pages ask at the shop's own port, where whoever runs both may answer.

mod places;

use std::sync::LazyLock;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::faults::{Endpoint, Fault, FaultKind};
use super::handle::Simulator;
use super::headers::presented_token;
use super::mask::masked_headers;
use super::model::ExpiredAs;

pub use places::{SHOP_HOST, is_own_host};

const FAILURE: Duration = Duration::from_secs(10);

static STAGE: LazyLock<Page> = LazyLock::new(|| Page::new(include_str!("shop/stage.html")));
static VISITOR: LazyLock<Page> = LazyLock::new(|| Page::new(include_str!("shop/visitor.html")));

/// The demo shop of one simulator.
#[derive(Clone)]
pub struct Shop {
    simulator: Simulator,
    own_port: Option<u16>,
    visitor_cookie: Option<String>,
}

/// A page with the digests of what it may run.
struct Page {
    text: &'static str,
    policy: String,
}

#[derive(Deserialize)]
struct Event {
    event_id: String,
}

// === impl Shop ===

impl Shop {
    /// A shop that asks this simulator what it saw, and tells it to misbehave.
    pub fn new(simulator: Simulator) -> Self {
        Self {
            simulator,
            own_port: None,
            visitor_cookie: None,
        }
    }

    /// The pages may ask at this port, where the shop is reached without the sidecar.
    pub fn reached_at(self, port: u16) -> Self {
        Self {
            own_port: Some(port),
            ..self
        }
    }

    /// The cookie that visitors are known by; the shop can make a browser forget it, as any app on that host could.
    pub fn with_visitor_cookie(self, name: &str) -> Self {
        Self {
            visitor_cookie: Some(name.to_owned()),
            ..self
        }
    }

    /// The shop's routes, for a server of your choice.
    pub fn router(self) -> Router {
        Router::new()
            .route("/", get(stage))
            .route("/visitor", get(visitor))
            .route("/shop/health", get(|| async { "ok" }))
            .route("/shop/seen", get(seen))
            .route("/shop/dressipi-saw", get(dressipi_saw))
            .route("/shop/expire-token", post(expire_token))
            .route("/shop/fail", post(fail))
            .route("/shop/lose-answer", post(lose_answer))
            .route("/shop/forget-cookie", post(forget_cookie))
            .with_state(self)
    }

    /// Makes the browser forget the visitor cookie.
    fn forget(&self, mut response: Response) -> Response {
        let name = self.visitor_cookie.as_deref();
        let value = name.map(|name| format!("{name}=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax"));
        if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
            response.headers_mut().append(header::SET_COOKIE, value);
        }
        response
    }
}

// === impl Page ===

impl Page {
    fn new(text: &'static str) -> Self {
        let digest = |tag: &str| {
            let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
            let inner = text
                .split_once(&open)
                .and_then(|(_, rest)| rest.split_once(&close))
                .map_or("", |(inner, _)| inner);
            STANDARD.encode(Sha256::digest(inner))
        };
        let policy = format!(
            "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; img-src data:; base-uri 'none'; form-action 'none'",
            digest("script"),
            digest("style")
        );
        Self { text, policy }
    }

    /// The page runs its own script and style only, loads nothing from elsewhere, and calls its own host only.
    fn answer(&self, shop: &Shop, headers: &HeaderMap, frames: &str) -> Response {
        let asked = places::ask(headers, shop.own_port);
        let policy = format!("{}; connect-src 'self' {asked}; {frames}", self.policy);
        let plain = [
            (header::CONTENT_TYPE, "text/html; charset=utf-8"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "no-referrer"),
        ];
        let policy = [(header::CONTENT_SECURITY_POLICY, policy)];
        // In a `meta` element: the only thing that the page cannot know by itself.
        let port = shop.own_port.map(|port| port.to_string());
        let text = self
            .text
            .replace("{{shop-port}}", &port.unwrap_or_default());
        no_store((plain, policy, text).into_response())
    }
}

async fn stage(State(shop): State<Shop>, headers: HeaderMap) -> Response {
    let frames = format!(
        "frame-src 'self' {}; frame-ancestors 'none'",
        places::frames(&headers)
    );
    STAGE.answer(&shop, &headers, &frames)
}

async fn visitor(State(shop): State<Shop>, headers: HeaderMap) -> Response {
    let frames = format!("frame-ancestors 'self' {}", places::stages(&headers));
    VISITOR.answer(&shop, &headers, &frames)
}

/// This very request as it reached the shop.
async fn seen(headers: HeaderMap) -> Response {
    no_store(Json(json!({ "headers": masked_headers(&headers) })).into_response())
}

/// The request that Dressipi answered with this event.
async fn dressipi_saw(State(shop): State<Shop>, Query(event): Query<Event>) -> Response {
    no_store(match shop.simulator.request_of_event(&event.event_id) {
        Some(request) => Json(request).into_response(),
        None => (
            StatusCode::NOT_FOUND,
            Json(json!({ "error": "no such event among the last requests" })),
        )
            .into_response(),
    })
}

/// The token that this request carries; without one, all of them.
async fn expire_token(State(shop): State<Shop>, headers: HeaderMap) -> Response {
    act(&headers, || match presented_token(&headers) {
        Some(token) => {
            shop.simulator.expire_token(&token);
            json!({ "done": "Dressipi now answers 401 to this visitor's access token" })
        }
        None => {
            shop.simulator.expire_tokens(ExpiredAs::Unauthorized);
            json!({ "done": "Dressipi now answers 401 to every access token it has issued so far" })
        }
    })
}

async fn fail(State(shop): State<Shop>, headers: HeaderMap) -> Response {
    act(&headers, || {
        for endpoint in [
            Endpoint::Authorize,
            Endpoint::Token,
            Endpoint::Refresh,
            Endpoint::Resource,
        ] {
            let fault = Fault::always(endpoint, FaultKind::status(503)).lasting(FAILURE);
            shop.simulator.add_fault(fault);
        }
        json!({ "done": "Dressipi answers 503 to everything for ten seconds" })
    })
}

/// The next new visitor, whom this browser is about to be, costs a profile whose code never arrives.
async fn lose_answer(State(shop): State<Shop>, headers: HeaderMap) -> Response {
    let told = act(&headers, || {
        let fault = Fault::once(Endpoint::Authorize, FaultKind::DropAfterCommit);
        shop.simulator.add_fault(fault);
        json!({ "done": "Dressipi makes the next profile and drops the answer" })
    });
    forgotten(&shop, told)
}

async fn forget_cookie(State(shop): State<Shop>, headers: HeaderMap) -> Response {
    let told = act(
        &headers,
        || json!({ "done": "the browser has been told to forget the visitor cookie" }),
    );
    forgotten(&shop, told)
}

fn forgotten(shop: &Shop, told: Response) -> Response {
    match told.status().is_success() {
        true => shop.forget(told),
        false => told,
    }
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
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
