//! `/sessions/export` and `/sessions/import`: the whole store, sealed as it is.

use std::io;
use std::pin::pin;

use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures::stream::{self, StreamExt};

use crate::admin::Admin;
use crate::admin::problem::Problem;
use crate::session::moving::{ExportError, ImportError, ImportFailed};
use crate::session::{StoreError, VaultError};

/// The whole store as an export file. Where it fails halfway the connection breaks, and the file lacks its last line.
pub(super) async fn export(State(Admin(parts)): State<Admin>) -> Result<Response, Problem> {
    let exporter = parts.manager.export().await?;
    let pieces = stream::try_unfold(exporter, |mut exporter| async {
        let piece = exporter.next().await.inspect_err(|error| {
            tracing::error!(%error, "an export of the visitor sessions was broken off");
        })?;
        if piece.is_none() {
            tracing::info!(
                records = exporter.records(),
                "the visitor sessions were exported"
            );
        }
        Ok::<_, ExportError>(piece.map(|piece| (piece, exporter)))
    });
    let content_type = [(CONTENT_TYPE, "application/x-ndjson")];
    Ok((content_type, Body::from_stream(pieces)).into_response())
}

/// Imports the export file that the request brings; answers with what came of it.
pub(super) async fn import(
    State(Admin(parts)): State<Admin>,
    body: Body,
) -> Result<Response, Problem> {
    let pieces = body.into_data_stream();
    let mut pieces = pin!(pieces.map(|piece| piece.map_err(io::Error::other)));
    let result = parts.manager.import(pieces.as_mut()).await;
    match &result {
        Ok(done) => tracing::info!(%done, "visitor sessions were imported"),
        Err(failed) => tracing::error!(%failed, "an import of visitor sessions stopped"),
    }
    // A client that is still sending would otherwise lose the answer with the connection.
    while let Some(Ok(_)) = pieces.next().await {}
    let body = serde_json::to_vec(&result?).map_err(|error| Problem {
        status: StatusCode::INTERNAL_SERVER_ERROR,
        title: "The summary cannot be written",
        detail: error.to_string(),
    })?;
    Ok(([(CONTENT_TYPE, "application/json")], body).into_response())
}

impl From<ExportError> for Problem {
    fn from(error: ExportError) -> Self {
        let status = match error {
            ExportError::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
            ExportError::Vault(VaultError::Store(_)) => StatusCode::SERVICE_UNAVAILABLE,
            ExportError::Vault(_) | ExportError::Empty | ExportError::Ephemeral => {
                StatusCode::CONFLICT
            }
        };
        Self {
            status,
            title: "The visitor sessions cannot be exported",
            detail: error.to_string(),
        }
    }
}

impl From<ImportFailed> for Problem {
    fn from(failed: ImportFailed) -> Self {
        let status = match &failed.reason {
            ImportError::Format(_) | ImportError::Read(_) => StatusCode::BAD_REQUEST,
            ImportError::Identity(_) | ImportError::OtherIdentity { .. } => StatusCode::CONFLICT,
            ImportError::Store(VaultError::Store(StoreError::Full { .. })) => {
                StatusCode::INSUFFICIENT_STORAGE
            }
            ImportError::Store(_) | ImportError::Contended => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self {
            status,
            title: "The export was not imported, or not all of it",
            detail: failed.to_string(),
        }
    }
}
