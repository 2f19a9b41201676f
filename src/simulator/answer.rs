//! Turns an outcome into bytes, or into none: the right answer, or what the faults make of it.

use std::io;

use axum::body::{Body, BodyDataStream};
use axum::response::Response;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::faults::{FaultKind, Plan};
use super::tally::Outcome;

/// What a fault of [`FaultKind::Html`] answers: the page of some portal or load balancer.
const PAGE: &str = "<!doctype html><title>Sign in</title><h1>Sign in to continue</h1>";

/// A JSON answer.
pub(super) fn json(status: StatusCode, body: &Value) -> Response {
    with_body(
        status,
        "application/json; charset=utf-8",
        body.to_string().into(),
    )
}

/// An answer that ends the connection before its first byte.
///
/// The body fails at its first poll. The server writes head and body in one go and flushes afterwards, so that the head
/// dies with the connection. (Not for HEAD, whose body is never polled.)
fn dropped() -> Response {
    Response::new(Body::from_stream(stream::once(async {
        Err::<Bytes, _>(io::Error::other("dropped by a fault"))
    })))
}

/// Whether the faults end this request before its commit, and how; waits first if they say so.
pub(super) async fn before_commit(plan: &Plan, outcome: &mut Outcome) -> Option<Response> {
    outcome.faults = plan.names();
    if !plan.delay.is_zero() {
        tokio::time::sleep(plan.delay).await;
    }
    match plan.ending.as_ref()? {
        FaultKind::Status {
            code,
            retry_after,
            body,
        } => Some(status(*code, *retry_after, body.as_deref())),
        FaultKind::OauthError { error } => {
            let body = json!({ "error": error, "error_description": "a fault on demand" });
            Some(json(StatusCode::BAD_REQUEST, &body))
        }
        FaultKind::Forbid => Some(json(
            StatusCode::FORBIDDEN,
            &json!({ "error": { "message": "Forbidden" } }),
        )),
        FaultKind::RejectToken => Some(unauthorized()),
        FaultKind::DropBeforeCommit => {
            outcome.dropped = true;
            Some(dropped())
        }
        _ => None,
    }
}

/// The answer after the commit: the right one unless the faults say otherwise. Edits change only successes.
pub(super) async fn after_commit(
    plan: &Plan,
    status: StatusCode,
    mut body: Value,
    outcome: &mut Outcome,
) -> Response {
    if !plan.late_delay.is_zero() {
        tokio::time::sleep(plan.late_delay).await;
    }
    match &plan.ending {
        Some(FaultKind::DropAfterCommit) => {
            outcome.dropped = true;
            return dropped();
        }
        Some(FaultKind::Html) => {
            return with_body(StatusCode::OK, "text/html; charset=utf-8", PAGE.into());
        }
        Some(FaultKind::Huge { bytes }) => return huge(*bytes, &body),
        _ => {}
    }
    if status.is_success() {
        plan.edits.iter().for_each(|edit| apply(edit, &mut body));
    }
    json(status, &body)
}

pub(super) fn unauthorized() -> Response {
    json(
        StatusCode::UNAUTHORIZED,
        &json!({ "error": { "message": "Unauthorized" } }),
    )
}

/// Length and SHA-256 of a body, which is read as it comes and never held whole.
pub(super) async fn digest(body: Body) -> Result<(u64, [u8; 32]), axum::Error> {
    let mut stream: BodyDataStream = body.into_data_stream();
    let (mut length, mut hash) = (0, Sha256::new());
    while let Some(chunk) = stream.next().await {
        let chunk = chunk?;
        length += chunk.len() as u64;
        hash.update(&chunk);
    }
    Ok((length, hash.finalize().into()))
}

fn with_body(status: StatusCode, content_type: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn status(code: u16, retry_after: Option<u64>, body: Option<&str>) -> Response {
    // Below 200 an answer is not final and the client would wait for ever.
    let code = StatusCode::from_u16(code.max(200)).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = body.unwrap_or_default();
    let content_type = if body.starts_with('{') {
        "application/json"
    } else {
        "text/plain; charset=utf-8"
    };
    let mut response = with_body(code, content_type, body.to_owned().into());
    if let Some(seconds) = retry_after {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

fn apply(edit: &FaultKind, body: &mut Value) {
    let Some(members) = body.as_object_mut() else {
        return;
    };
    match edit {
        FaultKind::MissingField { name } => {
            members.remove(name);
        }
        FaultKind::WrongState => replace(members, "state", &json!("another-state")),
        FaultKind::ExpiresIn { value } => replace(members, "expires_in", value),
        _ => {}
    }
}

fn replace(members: &mut serde_json::Map<String, Value>, name: &str, value: &Value) {
    if let Some(member) = members.get_mut(name) {
        *member = value.clone();
    }
}

/// The right answer behind a member of this size, made as it is sent.
fn huge(bytes: u64, body: &Value) -> Response {
    static PADDING: [u8; 64 * 1024] = [b'x'; 64 * 1024];
    let rest = body.to_string();
    let rest = rest
        .strip_prefix('{')
        .filter(|rest| *rest != "}")
        .map_or("}".to_owned(), |rest| format!(",{rest}"));
    let padding = stream::unfold(bytes, |left| async move {
        let size = left.min(PADDING.len() as u64);
        (size > 0).then(|| (Bytes::from_static(&PADDING[..size as usize]), left - size))
    });
    let head = stream::iter([Bytes::from_static(b"{\"padding\":\"")]);
    let tail = stream::iter([Bytes::from_static(b"\""), Bytes::from(rest)]);
    let all = head.chain(padding).chain(tail).map(Ok::<_, io::Error>);
    with_body(
        StatusCode::OK,
        "application/json; charset=utf-8",
        Body::from_stream(all),
    )
}
