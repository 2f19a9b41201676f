//! The admin listener: health for Kubernetes, metrics for Prometheus, a page for people, and visitor sessions for whoever has the token. It never
//! says anything about Dressipi's health in readiness: a pod that is taken out cannot help.

mod bearer;
mod config_state;
mod description;
mod health;
mod log_level;
mod problem;
mod quit;
mod sessions;
mod status;

pub use config_state::{ConfigState, Present, Refused};
pub use description::DESCRIPTION;
pub use health::{Health, NotReady};
pub use status::UpstreamFacts;

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use axum::Router;
use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{MethodRouter, get, post};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use self::problem::Problem;
use crate::clock::{Clock, Timestamp};
use crate::gate::Census;
use crate::secret::Secret;
use crate::session::Manager;
use crate::telemetry::{Exposition, History, InFlight, Metrics, Reading};
use crate::visitor::{IdentityKey, Spent, VisitorKey};

/// What the admin listener tells about.
#[derive(Clone)]
pub struct Admin(Arc<AdminParts>);

/// What the admin listener is made of.
pub struct AdminParts {
    /// The runtimes of this process, by name.
    pub runtimes: [(&'static str, Vec<Handle>); 3],
    /// Readiness.
    pub health: Health,
    /// Visitor sessions.
    pub manager: Manager,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The count of exchanges in flight.
    pub in_flight: InFlight,
    /// The count of connections.
    pub census: Census,
    /// What has been spent of the limits on making profiles.
    pub spent: Arc<Mutex<Spent>>,
    /// What was counted in the last hour.
    pub history: History,
    /// The configuration in use.
    pub config: ConfigState,
    /// The upstreams of that.
    pub upstreams: Box<dyn Fn() -> Vec<UpstreamFacts> + Send + Sync>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Told when somebody wants the process to end.
    pub quit: Arc<Notify>,
    /// When the process began.
    pub started: Timestamp,
    /// The bearer token for `/sessions…`; without one nobody may use it.
    pub token: Arc<ArcSwapOption<Secret>>,
    /// What turns ids from outside into visitor keys.
    pub identity_key: Arc<IdentityKey>,
    /// Whom a visitor cookie's value names, however old the cookie is.
    pub visitor_of_cookie: VisitorOfCookie,
}

/// Tells whom a visitor cookie's value names.
pub type VisitorOfCookie = Arc<dyn Fn(&[u8]) -> Option<VisitorKey> + Send + Sync>;

impl Admin {
    /// An admin listener of `parts`.
    pub fn new(parts: AdminParts) -> Self {
        Self(Arc::new(parts))
    }

    /// Its routes.
    pub fn router(self) -> Router {
        let router = open_routes()
            .into_iter()
            .fold(Router::new(), |router, (path, methods)| {
                router.route(path, methods)
            });
        router
            .nest(SESSIONS, sessions::router(&self))
            .fallback(Problem::not_found)
            .method_not_allowed_fallback(Problem::not_allowed)
            .with_state(self)
    }

    /// The paths of its routes, as the description writes them.
    pub fn paths() -> impl Iterator<Item = String> {
        let open = open_routes().into_iter().map(|(path, _)| path.to_owned());
        let sessions = sessions::routes().into_iter().map(|(path, _)| match path {
            "/" => SESSIONS.to_owned(),
            path => format!("{SESSIONS}{path}"),
        });
        open.chain(sessions)
    }
}

const SESSIONS: &str = "/sessions";

/// What asks for no token, or does so by itself.
fn open_routes() -> [(&'static str, MethodRouter<Admin>); 8] {
    [
        ("/", get(async || Redirect::temporary("/status"))),
        ("/status", get(status::status)),
        ("/quit", post(quit::quit)),
        ("/livez", get(|| async { "ok\n" })),
        ("/readyz", get(ready)),
        ("/metrics", get(metrics)),
        ("/log-level", get(log_level::show).put(log_level::change)),
        ("/openapi.json", get(description::describe)),
    ]
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

fn tasks_alive(runtime: &Handle) -> usize {
    runtime.metrics().num_alive_tasks()
}

async fn metrics(State(Admin(parts)): State<Admin>, headers: HeaderMap) -> Response {
    let now = parts.clock.now();
    let created_today = parts.spent.lock().today(now);
    let limits = parts.config.present().config.creation.limits;
    let reading = Reading {
        now,
        connections: parts.census.count(),
        created_today,
        daily_limit: limits.daily,
        in_flight: parts.in_flight.count(),
        flows: parts.manager.flows(),
        cached: parts.manager.cached(),
        unsaved: parts.manager.unsaved(),
        tasks: parts
            .runtimes
            .each_ref()
            .map(|(name, runtimes)| (*name, runtimes.iter().map(tasks_alive).sum())),
        census: parts.manager.census().await.ok(),
    };
    let accept = headers.get_all(ACCEPT).iter();
    let accept: Vec<&str> = accept.filter_map(|value| value.to_str().ok()).collect();
    let Exposition { content_type, text } = parts.metrics.expose(&accept.join(","), reading);
    ([(CONTENT_TYPE, content_type)], text).into_response()
}
