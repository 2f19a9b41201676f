//! What the demo's pages see that neither browser nor shop can know: how the visitor's session stands in the sidecar, what Dressipi
//! was asked, and how many profiles that made.
//!
//! These routes are asked at the shop's own port, past the sidecar: so they see the visitor cookie, and being asked is no use of the
//! session. Read only, but for starting a second replica; no token, key or code stands in any answer.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::replicas::{Replica, Replicas};
use crate::clock::Timestamp;
use crate::proxy::Recognised;
use crate::session::{Life, StateTag};
use crate::simulator::{Endpoint, RequestEntry, Simulator, is_own_host, mask};

#[derive(Clone)]
struct Window {
    simulator: Simulator,
    replicas: Arc<Replicas>,
}

#[derive(Deserialize)]
struct At {
    /// The port of the replica that is asked about.
    port: u16,
}

pub(super) fn router(simulator: Simulator, replicas: Arc<Replicas>) -> Router {
    Router::new()
        .route("/demo/visitor", get(visitor))
        .route("/demo/story", get(story))
        .route("/demo/replica", post(second_replica))
        .with_state(Window {
            simulator,
            replicas,
        })
}

/// How the visitor stands whose cookie this request carries.
async fn visitor(
    State(window): State<Window>,
    Query(at): Query<At>,
    headers: HeaderMap,
) -> Response {
    let replicas = window.replicas.all();
    let Some(number) = replicas.iter().position(|replica| replica.port == at.port) else {
        return answer(
            &headers,
            StatusCode::NOT_FOUND,
            json!({ "error": "no such replica" }),
        );
    };
    let Replica { lookout, .. } = &replicas[number];
    match lookout.look(&headers).await {
        Ok((recognised, life)) => {
            let mut body = told(recognised, life, lookout.now());
            body["replica"] = (number + 1).into();
            body["cookies"] = cookies(&headers).into();
            answer(&headers, StatusCode::OK, body)
        }
        Err(error) => {
            let body = json!({ "error": error.to_string() });
            answer(&headers, StatusCode::SERVICE_UNAVAILABLE, body)
        }
    }
}

fn told(recognised: Recognised, life: Option<Life>, now: Timestamp) -> Value {
    let life = life.unwrap_or_default();
    let state = match (recognised, life.state) {
        (Recognised::Nobody(_), _) => "anonymous",
        (Recognised::New, _) => "new",
        (Recognised::Visitor(_), None | Some(StateTag::Granted)) if life.under_way => "creating",
        (Recognised::Visitor(_), None | Some(StateTag::Internal)) => "new",
        (Recognised::Visitor(_), Some(StateTag::Granted)) => "creating",
        (Recognised::Visitor(_), Some(StateTag::Unconfirmed)) => "unconfirmed",
        (Recognised::Visitor(_), Some(StateTag::Active)) if life.under_way => "refreshing",
        (Recognised::Visitor(_), Some(StateTag::Active)) => "active",
        (Recognised::Visitor(_), Some(StateTag::Lost)) => "lost",
    };
    // In milliseconds from now, so that the browser's clock does not matter.
    let until = |at: Timestamp| at.as_millis().cast_signed() - now.as_millis().cast_signed();
    json!({
        "state": state,
        "reason": match recognised {
            Recognised::Nobody(reason) => Some(reason.label()),
            _ => None,
        },
        "visitor": match recognised {
            Recognised::Visitor(key) => Some(key.to_string()),
            _ => None,
        },
        "profiles": life.profiles,
        "backs_off": life.backs_off,
        "next_try_in_ms": life.not_before.map(until),
        "token": life.token.map(|token| json!({
            "age_ms": -until(token.obtained_at),
            "refresh_in_ms": until(token.schedule.refresh_from),
            "ends_in_ms": until(token.schedule.expired_from),
            "refreshes": token.refreshes,
            "rejected": token.is_rejected,
        })),
    })
}

/// The cookies that the browser keeps for this host, masked.
fn cookies(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all(header::COOKIE).iter();
    let pairs = values.flat_map(|value| value.to_str().unwrap_or_default().split(';'));
    let masked = |pair: &str| match pair.trim().split_once('=') {
        Some((name, value)) => format!("{name}={}", mask(value)),
        None => mask(pair.trim()),
    };
    pairs.map(masked).collect()
}

/// What Dressipi was asked, oldest first, and how many profiles and visitors there are.
async fn story(State(window): State<Window>, headers: HeaderMap) -> Response {
    let ledger = window.simulator.ledger();
    let replicas = window.replicas.all();
    let counted: Vec<_> = replicas
        .iter()
        .map(|replica| replica.lookout.totals())
        .collect();
    let event = |name: &str| -> u64 {
        let events = counted.iter().filter_map(|totals| totals.events.get(name));
        events.sum()
    };
    let now = replicas.first().map(|replica| replica.lookout.now());
    let steps = ledger
        .requests
        .iter()
        .filter_map(|request| step(request, now));
    let body = json!({
        "steps": steps.collect::<Vec<_>>(),
        "profiles": ledger.totals.profiles,
        "visitors": event("visitor_minted"),
        "lost_answers": ledger.totals.faults.get("drop_after_commit").copied().unwrap_or(0),
        "replicas": replicas.iter().map(|replica| replica.port).collect::<Vec<_>>(),
    });
    answer(&headers, StatusCode::OK, body)
}

/// An OAuth call, or a resource call that failed.
fn step(request: &RequestEntry, now: Option<Timestamp>) -> Option<Value> {
    let call = match request.call? {
        Endpoint::Authorize => "authorize",
        Endpoint::Token => "exchange",
        Endpoint::Refresh => "refresh",
        Endpoint::Resource if request.status.is_some_and(|status| status < 400) => return None,
        Endpoint::Resource => "call",
    };
    Some(json!({
        "seq": request.seq,
        "ago_ms": now.map(|now| now.as_millis().saturating_sub(request.at_ms)),
        "call": call,
        "path": request.path,
        "status": request.status,
        "profile": request.profile,
    }))
}

async fn second_replica(State(window): State<Window>, headers: HeaderMap) -> Response {
    if page_of(&headers).is_none() {
        let body = json!({ "error": "only the demo's pages may do that" });
        return answer(&headers, StatusCode::FORBIDDEN, body);
    }
    match window.replicas.start_second().await {
        Ok(()) => {
            let replicas = window.replicas.all();
            let ports: Vec<_> = replicas.iter().map(|replica| replica.port).collect();
            answer(&headers, StatusCode::OK, json!({ "replicas": ports }))
        }
        Err(error) => {
            let body = json!({ "error": error.to_string() });
            answer(&headers, StatusCode::INTERNAL_SERVER_ERROR, body)
        }
    }
}

/// The origin of the page that asks, if it is one of ours: of this machine, and of the host that was asked, whatever its port.
fn page_of(headers: &HeaderMap) -> Option<&HeaderValue> {
    let origin = headers.get(header::ORIGIN)?;
    let asked = headers.get(header::HOST)?.to_str().ok()?;
    let page = host_name(origin.to_str().ok()?.strip_prefix("http://")?);
    (is_own_host(page) && page == host_name(asked)).then_some(origin)
}

fn host_name(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => authority,
    }
}

/// An answer that our own pages may read, at any replica.
fn answer(headers: &HeaderMap, status: StatusCode, body: Value) -> Response {
    let mut response = (status, Json(body)).into_response();
    let fields = response.headers_mut();
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    fields.insert(header::VARY, HeaderValue::from_static("Origin"));
    if let Some(origin) = page_of(headers) {
        fields.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        let yes = HeaderValue::from_static("true");
        fields.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_of_the_same_host_on_this_machine_may_ask() {
        let may = |origin: &str, host: &str| {
            let headers = HeaderMap::from_iter([
                (header::ORIGIN, origin.parse().unwrap()),
                (header::HOST, host.parse().unwrap()),
            ]);
            page_of(&headers).is_some()
        };
        assert!(may("http://shop.localhost:8080", "shop.localhost:8091"));
        assert!(may("http://127.0.0.1:8080", "127.0.0.1:8091"));
        for (origin, host) in [
            ("http://second.shop.localhost:8080", "shop.localhost:8091"),
            ("http://shop.example:8080", "shop.example:8091"),
            ("http://shop.example", "127.0.0.1:8091"),
            ("null", "127.0.0.1:8091"),
        ] {
            assert!(!may(origin, host), "{origin} {host}");
        }
    }
}
