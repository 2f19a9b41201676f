//! `POST /sessions/find`: the key of the visitor whom an id names. In a body and not in a URL, which would be logged on its way.
//!
//! It asks no store: whether anything is known of the visitor is for `GET /sessions/{visitor}` to say.

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::json;
use crate::admin::problem::Problem;
use crate::admin::{Admin, AdminParts};
use crate::visitor::{Namespace, VisitorKey, is_app_cookie_id, is_header_id};

/// What people have of a visitor.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Wanted {
    /// The id that the app names in its header.
    Header(String),
    /// The value of the app's own cookie.
    AppCookie(String),
    /// The value of the visitor cookie.
    Cookie(String),
}

#[derive(Serialize)]
struct FoundView {
    visitor: String,
    logged: String,
}

/// More than any id takes, every character of it escaped.
pub(super) const LONGEST_BODY: usize = 16 * 1024;

pub(super) async fn find(
    State(Admin(parts)): State<Admin>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let body = body.map_err(|rejection| Problem {
        status: rejection.status(),
        title: "The body cannot be read",
        detail: format!("it may have {LONGEST_BODY} bytes"),
    })?;
    // What serde says of it may quote the id.
    let wanted = serde_json::from_slice(&body).map_err(|_| {
        let detail = "the body must be one of {\"header\": \"…\"}, {\"app_cookie\": \"…\"}, {\"cookie\": \"…\"}";
        Problem::bad_request("The body names no visitor", detail)
    })?;
    let key = key_of(&parts, wanted)?;
    json(&FoundView {
        visitor: key.to_hex(),
        logged: key.to_string(),
    })
}

fn key_of(parts: &AdminParts, wanted: Wanted) -> Result<VisitorKey, Problem> {
    let (namespace, id, fits) = match wanted {
        Wanted::Header(id) => (Namespace::Header, id, is_header_id as fn(&[u8]) -> bool),
        Wanted::AppCookie(id) => (Namespace::AppCookie, id, is_app_cookie_id as _),
        Wanted::Cookie(value) => {
            let visitor = (parts.visitor_of_cookie)(value.as_bytes());
            return visitor.ok_or_else(|| Problem {
                status: StatusCode::NOT_FOUND,
                title: "The cookie names no visitor",
                detail: "no key of the present keyring has signed that value; give what stands behind `=`"
                    .to_owned(),
            });
        }
    };
    if !fits(id.as_bytes()) {
        let detail = "ids are visible ASCII: 1 to 256 characters in a header, 16 to 1024 in a cookie of the app's";
        return Err(Problem::bad_request(
            "No visitor goes by such an id",
            detail,
        ));
    }
    Ok(parts.identity_key.visitor_key(namespace, id.as_bytes()))
}
