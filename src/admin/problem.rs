//! The admin listener's own errors: problem documents (RFC 9457), which may say more than those for clients do.

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

/// A problem document.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) status: StatusCode,
    pub(super) title: &'static str,
    /// What exactly, and how to mend it.
    pub(super) detail: String,
}

/// In so many seconds a store that is down is tried again.
const SOON: &str = "2";

// === impl Problem ===

impl Problem {
    /// There is nothing at this path.
    pub(super) async fn not_found() -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            title: "There is nothing here",
            detail: "GET /openapi.json says what there is".to_owned(),
        }
    }

    /// There is something at this path, and nothing to be done with it in this way.
    pub(super) async fn not_allowed() -> Self {
        Self {
            status: StatusCode::METHOD_NOT_ALLOWED,
            title: "This method is not for this resource",
            detail: "the Allow header says which are".to_owned(),
        }
    }

    /// The request is not as it must be.
    pub(super) fn bad_request(title: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            title,
            detail: detail.into(),
        }
    }

    /// Nothing is known of the visitor.
    pub(super) fn unknown_visitor(detail: impl Into<String>) -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            title: "No such visitor",
            detail: detail.into(),
        }
    }

    /// The process does not log in a way that can be changed.
    pub(super) fn no_log() -> Self {
        Self {
            status: StatusCode::CONFLICT,
            title: "There is no log whose level could be told or changed",
            detail: "the process logs in another way, or not at all".to_owned(),
        }
    }

    /// The store does not answer.
    pub(super) fn store(error: impl std::fmt::Display) -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            title: "The session store does not answer",
            detail: error.to_string(),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self {
            status,
            title,
            detail,
        } = self;
        let body =
            serde_json::json!({ "title": title, "status": status.as_u16(), "detail": detail });
        let content_type = [(CONTENT_TYPE, "application/problem+json")];
        let mut answer = (status, content_type, body.to_string()).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            let headers = answer.headers_mut();
            headers.insert(RETRY_AFTER, HeaderValue::from_static(SOON));
        }
        answer
    }
}
