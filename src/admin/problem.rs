//! The admin listener's own errors: problem documents (RFC 9457), which may say more than those for clients do.

use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

/// A problem document.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) status: StatusCode,
    pub(super) title: &'static str,
    /// What exactly, and how to mend it.
    pub(super) detail: String,
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
        (status, content_type, body.to_string()).into_response()
    }
}
