//! The two OAuth endpoints over HTTP: reads parameters, asks the model, and lets the faults have their way.

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use super::answer;
use super::faults::{Endpoint, FaultKind, Plan};
use super::handle::Simulator;
use super::headers;
use super::requests::{ErrorCode, OauthError, Params};
use super::tally::Outcome;

const BODY_LIMIT: usize = 64 * 1024;

/// `GET /api/oauth/authorize` (RFC 6749 §4.1.1, RFC 7636 §4.3), answered with JSON instead of a redirect.
pub(super) async fn authorize(State(simulator): State<Simulator>, request: Request) -> Response {
    if let Some(refusal) = refuse_api_key(&simulator, request.headers()) {
        return refusal;
    }
    let plan = simulator.take_faults(Endpoint::Authorize);
    let mut outcome = Outcome {
        call: Some(Endpoint::Authorize),
        ..Default::default()
    };
    if let Some(response) = before_commit(&simulator, &plan, request.headers(), &mut outcome).await
    {
        simulator.world().tally.authorize_result("fault");
        return noted(response, outcome);
    }
    let query = request.uri().query().unwrap_or_default();
    let result = Params::parse(&[query.as_bytes()]).and_then(|params| {
        let request = params.authorize()?;
        let now_ms = simulator.now_ms();
        let authorized = simulator.world().model.authorize(&request, now_ms)?;
        outcome.profile = Some(authorized.profile);
        Ok(json!({ "code": authorized.code, "state": request.state }))
    });
    simulator
        .world()
        .tally
        .authorize_result(result_name(&result));
    finish(&plan, result, outcome).await
}

/// `POST /api/oauth/token` (RFC 6749 §4.1.3 and §6). Parameters may also stand in the query, as the vendor's client does it.
pub(super) async fn token(State(simulator): State<Simulator>, request: Request) -> Response {
    if let Some(refusal) = refuse_api_key(&simulator, request.headers()) {
        return refusal;
    }
    let (parts, body) = request.into_parts();
    let params = read_form(&parts.headers, parts.uri.query().unwrap_or_default(), body).await;
    let (endpoint, grant) = match params
        .as_ref()
        .ok()
        .and_then(|params| params.value("grant_type"))
    {
        Some("refresh_token") => (Endpoint::Refresh, "refresh_token"),
        Some("authorization_code") => (Endpoint::Token, "authorization_code"),
        _ => (Endpoint::Token, "other"),
    };
    let plan = simulator.take_faults(endpoint);
    let mut outcome = Outcome {
        call: Some(endpoint),
        ..Default::default()
    };
    if let Some(response) = before_commit(&simulator, &plan, &parts.headers, &mut outcome).await {
        simulator.world().tally.token_result(grant, "fault");
        return noted(response, outcome);
    }
    let result = params.and_then(|params| {
        let request = params.token()?;
        let now_ms = simulator.now_ms();
        let issued = simulator.world().model.token(&request, now_ms)?;
        outcome.profile = Some(issued.profile);
        let mut body = json!({
            "access_token": issued.access_token,
            "expires_in": issued.expires_in,
            "token_type": "Bearer",
        });
        if let Some(refresh_token) = issued.refresh_token {
            body["refresh_token"] = refresh_token.into();
        }
        Ok(body)
    });
    simulator
        .world()
        .tally
        .token_result(grant, result_name(&result));
    let mut response = finish(&plan, result, outcome).await;
    response
        .headers_mut()
        .insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    response
}

/// The 401 for a wrong API key.
pub(super) fn refuse_api_key(simulator: &Simulator, headers: &HeaderMap) -> Option<Response> {
    let mut world = simulator.world();
    if headers::api_key_passes(headers, &world.model.config) {
        return None;
    }
    world.tally.totals.api_keys_refused += 1;
    Some(answer::unauthorized())
}

/// As [`answer::before_commit`]; a token to be rejected is remembered at once.
pub(super) async fn before_commit(
    simulator: &Simulator,
    plan: &Plan,
    headers: &HeaderMap,
    outcome: &mut Outcome,
) -> Option<Response> {
    if plan.ending == Some(FaultKind::RejectToken)
        && let Some(token) = headers::presented_token(headers)
    {
        simulator.world().model.reject(&token);
    }
    answer::before_commit(plan, outcome).await
}

/// Hands the outcome on to the ledger.
pub(super) fn noted(mut response: Response, outcome: Outcome) -> Response {
    response.extensions_mut().insert(outcome);
    response
}

async fn read_form(headers: &HeaderMap, query: &str, body: Body) -> Result<Params, OauthError> {
    let invalid = |why| ErrorCode::InvalidRequest.because(why);
    let body = to_bytes(body, BODY_LIMIT)
        .await
        .map_err(|_| invalid("the body is too large or incomplete"))?;
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    if !body.is_empty() && !media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Err(invalid(
            "the body must be application/x-www-form-urlencoded",
        ));
    }
    Params::parse(&[query.as_bytes(), &body])
}

fn result_name(result: &Result<Value, OauthError>) -> &'static str {
    result
        .as_ref()
        .map_or_else(|error| error.code.as_str(), |_| "ok")
}

async fn finish(plan: &Plan, result: Result<Value, OauthError>, mut outcome: Outcome) -> Response {
    let (status, body) = match result {
        Ok(body) => (StatusCode::OK, body),
        Err(OauthError { code, description }) => (
            StatusCode::BAD_REQUEST,
            json!({ "error": code.as_str(), "error_description": description }),
        ),
    };
    let response = answer::after_commit(plan, status, body, &mut outcome).await;
    noted(response, outcome)
}
