//! `/sessions…`: visitor sessions, for whoever has the token. Everything below it asks for the token, also what is not there.
//!
//! Answers never have a token, a code or a verifier in them, and visitors go by their keys: no id of the app's is in a URL or in a log.

mod find;
mod list;
mod moving;
mod view;
mod visitor;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};

use super::problem::Problem;
use super::{Admin, bearer};

/// The router below `/sessions`.
pub(super) fn router(admin: &Admin) -> Router<Admin> {
    let routes = routes().into_iter();
    let router = routes.fold(Router::new(), |router, (path, methods)| {
        router.route(path, methods)
    });
    router
        .fallback(Problem::not_found)
        .method_not_allowed_fallback(Problem::not_allowed)
        .layer(axum::middleware::from_fn_with_state(
            admin.clone(),
            bearer::require,
        ))
}

/// The routes.
pub(super) fn routes() -> [(&'static str, MethodRouter<Admin>); 7] {
    let limit = DefaultBodyLimit::max(find::LONGEST_BODY);
    [
        ("/", get(list::list)),
        ("/find", post(find::find).layer(limit)),
        ("/export", get(moving::export)),
        ("/import", post(moving::import)),
        ("/{visitor}", get(visitor::show).delete(visitor::erase)),
        ("/{visitor}/revoke", post(visitor::revoke)),
        ("/{visitor}/export", get(visitor::export)),
    ]
}

/// A JSON answer.
fn json(value: &impl serde::Serialize) -> Result<Response, Problem> {
    let body = serde_json::to_vec(value).map_err(|error| Problem {
        status: StatusCode::INTERNAL_SERVER_ERROR,
        title: "The answer cannot be written",
        detail: error.to_string(),
    })?;
    Ok(([(CONTENT_TYPE, "application/json")], body).into_response())
}
