//! The resource endpoints: who is asking, and what they get.
//!
//! A good token makes the answer personal. A missing, expired or garbage one is not an error: the answer is the same for
//! all, and nothing but `"personalised": false` tells (Dressipi itself would not even tell that).

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use http::request::Parts;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::answer;
use super::catalogue::{self, Garment};
use super::faults::Endpoint;
use super::handle::Simulator;
use super::headers::presented_token;
use super::model::Verdict;
use super::oauth::{before_commit, noted, refuse_api_key};
use super::tally::Outcome;
use super::token::{hex, uuid};

const BODY_LIMIT: usize = 1024 * 1024;

/// An answer other than 200: its status and message.
type Refusal = (StatusCode, &'static str);

/// Everything under `/api/` but OAuth.
pub(super) async fn serve(State(simulator): State<Simulator>, request: Request) -> Response {
    if let Some(refusal) = refuse_api_key(&simulator, request.headers()) {
        return refusal;
    }
    let (parts, body) = request.into_parts();
    let token = presented_token(&parts.headers);
    // Judged before any delay: what counts is whether the token was good when it arrived.
    let verdict = simulator.judge(token.as_deref());
    let plan = simulator.take_faults(Endpoint::Resource);
    let mut outcome = Outcome {
        call: Some(Endpoint::Resource),
        profile: token
            .as_deref()
            .and_then(|token| simulator.profile_of_token(token)),
        ..Default::default()
    };
    if let Some(response) = before_commit(&simulator, &plan, &parts.headers, &mut outcome).await {
        return noted(response, outcome);
    }
    let profile = match verdict {
        Verdict::Unauthorized => return noted(answer::unauthorized(), outcome),
        Verdict::Valid(profile) => Some(profile),
        Verdict::Absent | Verdict::Expired | Verdict::Ignored | Verdict::Foreign => None,
    };
    let (status, body) = match content(&parts, body, profile.as_deref()).await {
        Ok(mut body) => {
            let event_id = uuid(&rand::random());
            body["event_id"] = event_id.as_str().into();
            body["personalised"] = profile.is_some().into();
            outcome.personalised = Some(profile.is_some());
            outcome.event_id = Some(event_id);
            if let (Some(profile), Some(token)) = (profile, &token) {
                simulator.world().model.visit(token);
                body["profile"] = profile.into();
            }
            (StatusCode::OK, body)
        }
        Err((status, message)) => (status, json!({ "error": { "message": message } })),
    };
    let response = answer::after_commit(&plan, status, body, &mut outcome).await;
    noted(response, outcome)
}

/// The answer of an endpoint, but for what all of them have.
async fn content(parts: &Parts, body: Body, profile: Option<&str>) -> Result<Value, Refusal> {
    let path = parts.uri.path().trim_start_matches("/api/");
    let segments: Vec<&str> = path.split('/').collect();
    let query = |name: &str| {
        let query = parts.uri.query().unwrap_or_default();
        url::form_urlencoded::parse(query.as_bytes())
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    };
    let get = parts.method == Method::GET || parts.method == Method::HEAD;
    match *segments {
        ["echo"] => echo(parts, body).await,
        ["recommendations", "facetted"] if parts.method == Method::POST => {
            facetted(body, profile).await
        }
        ["recommendations", "facetted"] => {
            Err((StatusCode::METHOD_NOT_ALLOWED, "Method not allowed"))
        }
        _ if !get => Err((StatusCode::METHOD_NOT_ALLOWED, "Method not allowed")),
        ["items", "top"] | ["v2", "items", "top"] => match query("client_id") {
            Some(client_id) if !client_id.is_empty() => Ok(list("top", others(None), 8, profile)),
            _ => Err((StatusCode::BAD_REQUEST, "client_id is missing")),
        },
        ["items", "basket"] | ["v2", "items", "basket"] => {
            Ok(list("basket", others(None), 6, profile))
        }
        ["recommendations", "themed"] => {
            let mut themed = list("themed", others(None), 6, profile);
            themed["theme"] = "Weekend in the country".into();
            Ok(themed)
        }
        [
            "v2",
            "items",
            kind @ ("similar" | "outfits" | "partner_outfits"),
        ] => {
            let id = query("item_id").ok_or((StatusCode::BAD_REQUEST, "item_id is missing"))?;
            Ok(list(
                kind,
                beside(known(&id)?, kind == "similar"),
                4,
                profile,
            ))
        }
        ["items", id] => {
            let garment = known(id)?;
            let mut item = list("item", beside(garment, false), 4, profile);
            item["item"] = json!(garment);
            Ok(item)
        }
        ["items", id, kind @ ("related" | "complementary")] => Ok(list(
            kind,
            beside(known(id)?, kind == "related"),
            4,
            profile,
        )),
        _ => Err((StatusCode::NOT_FOUND, "Not found")),
    }
}

fn known(id: &str) -> Result<&'static Garment, Refusal> {
    catalogue::find(id).ok_or((StatusCode::UNPROCESSABLE_ENTITY, "Garment not found"))
}

/// All garments but this one.
fn others(garment: Option<&Garment>) -> Vec<&'static Garment> {
    catalogue::all()
        .iter()
        .filter(|other| garment.is_none_or(|garment| other.id != garment.id))
        .collect()
}

/// Garments to see with this one: of its own category, or of the others, to wear with it.
fn beside(garment: &Garment, alike: bool) -> Vec<&'static Garment> {
    let mut others = others(Some(garment));
    others.retain(|other| (other.category == garment.category) == alike);
    others
}

fn list(kind: &str, garments: Vec<&'static Garment>, count: usize, profile: Option<&str>) -> Value {
    let mut items = catalogue::ranked(garments, profile);
    items.truncate(count);
    json!({ "content_id": format!("{kind}-7c21"), "items": items })
}

/// `{"facets": [{"name": "category", "value": "dress"}]}`: every facet must hold; a list of values is an "or".
async fn facetted(body: Body, profile: Option<&str>) -> Result<Value, Refusal> {
    let malformed = (StatusCode::BAD_REQUEST, "The body is not a JSON object");
    let body = to_bytes(body, BODY_LIMIT).await.map_err(|_| malformed)?;
    let body: Value = serde_json::from_slice(&body).map_err(|_| malformed)?;
    let facets = body
        .as_object()
        .ok_or(malformed)?
        .get("facets")
        .and_then(Value::as_array);
    let mut garments = others(None);
    for facet in facets.into_iter().flatten() {
        let name = facet["name"].as_str().unwrap_or_default();
        let values = facet["value"]
            .as_array()
            .map_or(std::slice::from_ref(&facet["value"]), Vec::as_slice);
        garments.retain(|garment| {
            values
                .iter()
                .filter_map(Value::as_str)
                .any(|value| garment.has(name, value))
        });
    }
    Ok(list("facetted", garments, 8, profile))
}

/// A test aid: the request as it arrived, nothing masked.
async fn echo(parts: &Parts, body: Body) -> Result<Value, Refusal> {
    let (length, hash) = answer::digest(body)
        .await
        .map_err(|_| (StatusCode::BAD_REQUEST, "The body is incomplete"))?;
    let header = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        (
            name.to_string(),
            String::from_utf8_lossy(value.as_bytes()).into_owned(),
        )
    };
    Ok(json!({
        "content_id": "echo-7c21",
        "items": [],
        "method": parts.method.as_str(),
        "path": parts.uri.path(),
        "query": parts.uri.query(),
        "headers": parts.headers.iter().map(header).collect::<Vec<_>>(),
        "body": { "length": length, "sha256": hex(&hash) },
    }))
}
