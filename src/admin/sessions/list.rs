//! `GET /sessions`: a page of visitor sessions, in the order of their keys.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::json;
use super::view::SessionView;
use crate::admin::Admin;
use crate::admin::problem::Problem;
use crate::visitor::VisitorKey;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    limit: Option<usize>,
    cursor: Option<String>,
}

#[derive(Serialize)]
struct PageView {
    sessions: Vec<SessionView>,
    /// The cursor of the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

const USUAL: usize = 100;
const MOST: usize = 1000;

pub(super) async fn list(
    State(Admin(parts)): State<Admin>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(Wanted { limit, cursor }) = wanted.map_err(|_| {
        let detail =
            "there may be `limit`, a number, and `cursor`, the `next` of a page, each once";
        Problem::bad_request("The query cannot be read", detail)
    })?;
    let limit = limit.unwrap_or(USUAL);
    if !(1..=MOST).contains(&limit) {
        let detail = format!("`limit` must be 1 to {MOST}");
        return Err(Problem::bad_request("No page has that many", detail));
    }
    let cursor = cursor.map(|cursor| {
        VisitorKey::from_hex(&cursor).ok_or_else(|| {
            let detail = "`cursor` must be the `next` of a page";
            Problem::bad_request("The cursor is none of this listener's", detail)
        })
    });
    let after = cursor.transpose()?;
    let page = parts.manager.sessions(after, limit).await;
    let page = page.map_err(Problem::store)?;
    json(&PageView {
        sessions: page.sessions.into_iter().map(SessionView::brief).collect(),
        // Whoever is last on this page need not be there any more when the next one is asked for.
        next: page.next.map(|last| last.to_hex()),
    })
}
