//! `/sessions/{visitor}…`: one visitor, by the key, whole or as it is logged.

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;

use super::json;
use super::view::{ExportView, MemoryView, SessionView, VisitorView};
use crate::admin::Admin;
use crate::admin::problem::Problem;
use crate::clock::{Clock, SystemClock};
use crate::session::{FindError, InMemory, Remember, RevokeError, VaultError};
use crate::visitor::VisitorName;

/// The visitor whom a path names.
pub(super) struct Named(VisitorName);

pub(super) async fn show(
    State(Admin(parts)): State<Admin>,
    Named(name): Named,
) -> Result<Response, Problem> {
    let key = parts.manager.find(name).await?;
    let session = parts.manager.session(&key).await.map_err(Problem::store)?;
    let session = session.ok_or(FindError::Unknown)?;
    json(&VisitorView {
        session: SessionView::full(session),
        memory: MemoryView::of(parts.manager.in_memory(&key)),
    })
}

/// Everything that is kept about the visitor, for them to have.
pub(super) async fn export(
    State(Admin(parts)): State<Admin>,
    Named(name): Named,
) -> Result<Response, Problem> {
    let key = parts.manager.find(name).await?;
    let session = parts.manager.session(&key).await.map_err(Problem::store)?;
    let memory = parts.manager.in_memory(&key);
    if session.is_none() && memory == InMemory::default() {
        return Err(FindError::Unknown.into());
    }
    tracing::info!(visitor = %key, "what is kept about a visitor was exported by an operator");
    json(&ExportView::new(key, session, memory, SystemClock.now()))
}

pub(super) async fn revoke(
    State(Admin(parts)): State<Admin>,
    Named(name): Named,
) -> Result<StatusCode, Problem> {
    let key = parts.manager.find(name).await?;
    parts.manager.revoke(&key).await?;
    tracing::info!(visitor = %key, "a token set was revoked by an operator");
    Ok(StatusCode::NO_CONTENT)
}

/// Done as well where there was nothing to erase.
pub(super) async fn erase(
    State(Admin(parts)): State<Admin>,
    Named(name): Named,
) -> Result<StatusCode, Problem> {
    let key = match parts.manager.find(name).await {
        Ok(key) => key,
        Err(FindError::Unknown) => return Ok(StatusCode::NO_CONTENT),
        Err(error) => return Err(error.into()),
    };
    let remember = match parts.config.present().config.cookie.recovery {
        true => Remember::WhileCookiesLast,
        false => Remember::ADay,
    };
    let erased = parts.manager.forget(&key, remember).await;
    erased.map_err(|error| {
        Problem::store(format_args!(
            "{error}; nothing of the visitor is used meanwhile and the erasure goes on by itself as long as this process runs: ask \
             again to know that it is done"
        ))
    })?;
    tracing::info!(visitor = %key, "a visitor was erased by an operator");
    Ok(StatusCode::NO_CONTENT)
}

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path: Result<Path<String>, PathRejection> =
            Path::from_request_parts(parts, state).await;
        let name = path.ok().and_then(|Path(text)| VisitorName::parse(&text));
        name.map(Self).ok_or_else(|| {
            Problem::unknown_visitor(
                "visitors are named by 64 hexadecimal digits, or by the 12 that are logged; POST /sessions/find finds them",
            )
        })
    }
}

impl From<FindError> for Problem {
    fn from(error: FindError) -> Self {
        match error {
            FindError::Unknown => Self::unknown_visitor(error.to_string()),
            FindError::Ambiguous => Self {
                status: StatusCode::CONFLICT,
                title: "Which visitor?",
                detail: error.to_string(),
            },
            FindError::Store(error) => Self::store(error),
        }
    }
}

impl From<RevokeError> for Problem {
    fn from(error: RevokeError) -> Self {
        let status = match error {
            RevokeError::Unknown => return Self::unknown_visitor(error.to_string()),
            RevokeError::Vault(VaultError::Store(error)) => return Self::store(error),
            RevokeError::NoTokens(_) | RevokeError::Vault(_) => StatusCode::CONFLICT,
            RevokeError::Unsaved | RevokeError::Contended => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self {
            status,
            title: "The token set was not revoked",
            detail: error.to_string(),
        }
    }
}
