//! The admin listener: health for Kubernetes, metrics for Prometheus. It never says anything about Dressipi's health in
//! readiness: a pod that is taken out cannot help.

mod health;

pub use health::{Health, NotReady};

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::session::Manager;
use crate::telemetry::{InFlight, Metrics, Reading};

/// What the admin listener tells about.
#[derive(Clone)]
pub struct Admin(Arc<Parts>);

struct Parts {
    health: Health,
    manager: Manager,
    metrics: Arc<Metrics>,
    in_flight: InFlight,
}

impl Admin {
    /// An admin listener over these.
    pub fn new(
        health: Health,
        manager: Manager,
        metrics: Arc<Metrics>,
        in_flight: InFlight,
    ) -> Self {
        Self(Arc::new(Parts {
            health,
            manager,
            metrics,
            in_flight,
        }))
    }

    /// Its routes.
    pub fn router(self) -> Router {
        Router::new()
            .route("/livez", get(|| async { "ok\n" }))
            .route("/readyz", get(ready))
            .route("/metrics", get(metrics))
            .with_state(self)
    }
}

async fn ready(State(Admin(parts)): State<Admin>) -> Response {
    match parts.health.check(&parts.manager).await {
        Ok(()) => "ready\n".into_response(),
        Err(reason) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("not ready: {reason}\n"),
        )
            .into_response(),
    }
}

async fn metrics(State(Admin(parts)): State<Admin>) -> Response {
    let reading = Reading {
        in_flight: parts.in_flight.count(),
        flows: parts.manager.flows(),
        cached: parts.manager.cached(),
        unsaved: parts.manager.unsaved(),
        census: parts.manager.census().await.ok(),
    };
    let text = parts.metrics.render(reading);
    (
        [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        text,
    )
        .into_response()
}
