//! The status page: how things are, for people, at a glance and without an asset from elsewhere.

mod plot;
mod view;

use std::sync::LazyLock;
use std::time::Duration;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use self::view::{Facts, View};
use super::Admin;
use crate::telemetry::SPAN;

pub use self::view::UpstreamFacts;

const STYLE: &str = include_str!("status.css");
const SCRIPT: &str = include_str!("status.js");
/// What "lately" is.
const LATELY: Duration = Duration::from_secs(300);
/// Points of a plot.
const STEPS: usize = 60;

/// The page may run its own script and style, load nothing, and ask only where it came from.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = |text: &str| STANDARD.encode(Sha256::digest(text));
    format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash(SCRIPT),
        hash(STYLE)
    )
});

#[derive(Template)]
#[template(path = "status.html")]
struct Page {
    view: View,
    style: &'static str,
    script: &'static str,
    plot_width: f64,
    plot_height: f64,
}

pub(super) async fn status(State(Admin(parts)): State<Admin>) -> Response {
    let now = parts.clock.now();
    let totals = parts.metrics.totals();
    let present = parts.config.present();
    let not_ready = parts.health.check(&parts.manager).await.err();
    let facts = Facts {
        now,
        started: parts.started,
        present: &present,
        not_ready: not_ready.map(|reason| reason.to_string()),
        census: parts.manager.census().await.ok(),
        cached: parts.manager.cached(),
        unsaved: parts.manager.unsaved(),
        in_flight: parts.in_flight.count(),
        upstreams: (parts.upstreams)(),
        totals: &totals,
        lately: parts.history.lately(LATELY, now, &totals),
        hour: parts.history.lately(SPAN, now, &totals),
        steps: parts.history.steps(STEPS),
    };
    let page = Page {
        view: View::new(&facts),
        style: STYLE,
        script: SCRIPT,
        plot_width: plot::WIDTH,
        plot_height: plot::HEIGHT,
    };
    match page.render() {
        Ok(html) => {
            let headers = [
                (CONTENT_TYPE, "text/html; charset=utf-8"),
                (CONTENT_SECURITY_POLICY, POLICY.as_str()),
                (X_CONTENT_TYPE_OPTIONS, "nosniff"),
                (REFERRER_POLICY, "no-referrer"),
                (CACHE_CONTROL, "no-store"),
            ];
            (headers, html).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "the status page cannot be rendered");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
