//! The description of this listener (OpenAPI 3.1). A file of the repository, so that others can read it without running anything; a
//! test holds that it has all routes and no others.

use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

/// The description.
pub const DESCRIPTION: &str = include_str!("openapi.json");

pub(super) async fn describe() -> Response {
    ([(CONTENT_TYPE, "application/json")], DESCRIPTION).into_response()
}
