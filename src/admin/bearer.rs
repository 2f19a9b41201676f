//! Who may use `/sessions…`: whoever sends the configured bearer token (RFC 6750), and nobody where none is configured.

use std::net::SocketAddr;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Admin;
use super::problem::Problem;
use crate::secret::Secret;

/// Lets a request pass that has the token.
pub(super) async fn require(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    let mut answer = match admit(request.headers(), admin.0.token.load().as_deref()) {
        Ok(()) => next.run(request).await,
        Err(problem) => challenge(problem),
    };
    let no_store = HeaderValue::from_static("no-store");
    answer.headers_mut().insert(CACHE_CONTROL, no_store);
    answer
}

/// The answer to somebody who may not, with what they would need.
pub(super) fn challenge(problem: Problem) -> Response {
    let wants_token = problem.status == StatusCode::UNAUTHORIZED;
    let mut answer = problem.into_response();
    if wants_token {
        let value = HeaderValue::from_static("Bearer realm=\"dressipi-sidecar\"");
        answer.headers_mut().insert(WWW_AUTHENTICATE, value);
    }
    answer
}

/// Whether somebody may change what the process does: where a bearer token is configured, whoever has it; otherwise whoever is on this
/// host.
pub(super) fn admit_change(
    headers: &HeaderMap,
    peer: SocketAddr,
    admin: &Admin,
) -> Result<(), Problem> {
    let token = admin.0.token.load();
    match token.as_deref() {
        Some(token) => admit(headers, Some(token)),
        None if peer.ip().to_canonical().is_loopback() => Ok(()),
        None => Err(Problem {
            status: StatusCode::FORBIDDEN,
            title: "Nobody may do this from elsewhere",
            detail: "configure admin.token_file, or ask from this host".to_owned(),
        }),
    }
}

/// Whether somebody with these headers may use what is for the `token`'s bearers.
pub(super) fn admit(headers: &HeaderMap, token: Option<&Secret>) -> Result<(), Problem> {
    let Some(token) = token else {
        return Err(Problem {
            status: StatusCode::FORBIDDEN,
            title: "Nobody may use this",
            detail: "no admin.token or admin.token_file is configured".to_owned(),
        });
    };
    // Compared in constant time, as every secret is.
    if sent(headers).is_some_and(|sent| sent == *token) {
        return Ok(());
    }
    Err(Problem {
        status: StatusCode::UNAUTHORIZED,
        title: "The bearer token is missing or wrong",
        detail: "send the configured admin.token as `Authorization: Bearer …`".to_owned(),
    })
}

fn sent(headers: &HeaderMap) -> Option<Secret> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| Secret::new(token.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(values: &[&str], token: Option<&str>) -> u16 {
        let values = values.iter().map(|value| value.parse().unwrap());
        let headers = values.map(|value| (AUTHORIZATION, value)).collect();
        let token = token.map(Secret::new);
        admit(&headers, token.as_ref()).map_or_else(|problem| problem.status.as_u16(), |()| 200)
    }

    #[test]
    fn only_the_configured_token_passes() {
        for good in ["Bearer t0ken", "bearer t0ken", "BEARER  t0ken "] {
            assert_eq!(status(&[good], Some("t0ken")), 200, "{good}");
        }
        for bad in [
            "Bearer t0keN",
            "Bearer",
            "Bearer ",
            "t0ken",
            "Basic t0ken",
            "Bearer t0ken2",
        ] {
            assert_eq!(status(&[bad], Some("t0ken")), 401, "{bad}");
        }
        assert_eq!(status(&[], Some("t0ken")), 401);
        assert_eq!(
            status(&["Bearer t0ken", "Bearer t0ken"], Some("t0ken")),
            401
        );
    }

    #[test]
    fn without_a_token_nobody_passes() {
        for sent in ["Bearer ", "Bearer t0ken"] {
            assert_eq!(status(&[sent], None), 403);
        }
    }
}
