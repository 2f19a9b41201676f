//! pingora's phases, each a few lines: what is decided is decided elsewhere.

use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use http::header::HOST;
use http::{Method, StatusCode};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session as HttpExchange};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};
use rand::TryRng;
use rand::rngs::SysRng;

use super::context::{Exchange, Replay, VisitorState};
use super::headers::{SIDECAR, protect_personal_answer, set_visitor_cookie};
use super::identity::{AnonymousReason, Identity, identify};
use super::replay::{Verdict, verdict};
use super::rescue::Rescue;
use super::snapshot::{RouteRules, Snapshot};
use super::{forwarded, route, trace};
use crate::clock::Clock;
use crate::config::{Credentials, OnUnavailable, Route, UpstreamRef};
use crate::session::{Manager, Unavailable};
use crate::telemetry::{AccessLine, InFlight, Metrics};

/// One listener's proxy.
pub struct Proxy(ProxyParts);

/// What a proxy is made of.
pub struct ProxyParts {
    /// The present configuration.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// Which of its listeners this is.
    pub listener: usize,
    /// Visitor sessions.
    pub manager: Manager,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The count of exchanges in flight.
    pub in_flight: InFlight,
}

/// A rejected token is to be replaced and the request sent once more.
const TOKEN_REJECTED: ErrorType = ErrorType::new("TokenRejected");
/// The sidecar answers by itself; [`Exchange::rescue`] says what.
const ANSWERED_HERE: ErrorType = ErrorType::new("AnsweredHere");
/// At most so many addresses of an upstream are tried for one request.
const MAX_CONNECTS: usize = 3;

// === impl Proxy ===

impl Proxy {
    /// A proxy of `parts`.
    pub fn new(parts: ProxyParts) -> Self {
        Self(parts)
    }

    /// Who asks; consulted only where the route wants a visitor's token.
    fn identify(&self, request: &RequestHeader, ctx: &mut Exchange) {
        let snapshot = ctx.snapshot.clone();
        let Some(listener) = snapshot.listeners.get(self.0.listener) else {
            return;
        };
        let now = self.0.clock.now();
        let identity = identify(
            &request.headers,
            &listener.sources,
            &snapshot.visitors,
            now,
            random_id,
        );
        ctx.visitor = match identity {
            Identity::Visitor {
                key,
                create,
                set_cookie,
            } => {
                // Nobody can have a session under an id that was made a moment ago: the store need not be asked.
                let unknown = set_cookie.is_some() && !create;
                ctx.set_cookie = set_cookie;
                match unknown {
                    false => VisitorState::Known { key, create },
                    true => VisitorState::Anonymous {
                        key: Some(key),
                        reason: AnonymousReason::Unavailable(Unavailable::NotCreated),
                    },
                }
            }
            Identity::Nobody(reason) => VisitorState::Anonymous { key: None, reason },
            Identity::OptedOut { forget } => {
                if let Some(key) = forget {
                    ctx.set_cookie = Some(snapshot.visitors.jar.expire());
                    self.forget(key);
                }
                VisitorState::Anonymous {
                    key: forget,
                    reason: AnonymousReason::OptOut,
                }
            }
        };
    }

    fn forget(&self, key: crate::visitor::VisitorKey) {
        let manager = self.0.manager.clone();
        tokio::spawn(async move {
            if let Err(error) = manager.forget(&key).await {
                tracing::error!(visitor = %key, %error, "a visitor who opted out could not be removed from the store");
            }
        });
    }

    /// Gets the visitor's token: from the cache, where it nearly always is, or by whatever it takes.
    async fn authorize(&self, ctx: &mut Exchange) {
        let (key, create) = match ctx.visitor {
            VisitorState::Known { key, create } | VisitorState::Authorized { key, create, .. } => {
                (key, create)
            }
            VisitorState::NotAsked | VisitorState::Anonymous { .. } => return,
        };
        let result = match self.0.manager.current(&key, self.0.clock.now()) {
            Some(authorized) => Ok(authorized),
            None => self.0.manager.ensure(&key, create).await,
        };
        ctx.visitor = match result {
            Ok(authorized) => VisitorState::Authorized {
                key,
                create,
                authorized,
            },
            Err(reason) => VisitorState::Anonymous {
                key: Some(key),
                reason: AnonymousReason::Unavailable(reason),
            },
        };
    }

    /// The policy of the route for a call that goes without the token that it should have.
    fn check_policy(route: &Route, ctx: &mut Exchange) -> Result<()> {
        match ctx.visitor.anonymous() {
            Some(reason)
                if route.on_unavailable == OnUnavailable::Reject && reason.is_failure() =>
            {
                answer_here(ctx, Rescue::unavailable(reason))
            }
            _ => Ok(()),
        }
    }
}

fn answer_here<T>(ctx: &mut Exchange, rescue: Rescue) -> Result<T> {
    ctx.rescue = Some(rescue);
    Err(Error::new(ANSWERED_HERE))
}

fn random_id() -> Option<[u8; 16]> {
    let mut bytes = [0; 16];
    SysRng.try_fill_bytes(&mut bytes).ok()?;
    Some(bytes)
}

/// The pinned route; every phase after `request_filter` has one.
fn route_of(snapshot: &Snapshot, index: Option<usize>) -> Result<(&Route, &RouteRules)> {
    let route = index.and_then(|index| snapshot.route(index));
    route.ok_or_else(|| Error::new(ErrorType::InternalError))
}

#[async_trait]
impl ProxyHttp for Proxy {
    type CTX = Exchange;

    fn new_ctx(&self) -> Exchange {
        Exchange::new(self.0.snapshot.load_full(), &self.0.in_flight)
    }

    /// None: the default one would add response compression.
    fn init_downstream_modules(&self, _: &mut pingora::modules::http::HttpModules) {}

    async fn request_filter(
        &self,
        exchange: &mut HttpExchange,
        ctx: &mut Exchange,
    ) -> Result<bool> {
        exchange.set_read_timeout(Some(ctx.snapshot.client_timeout));
        let request = exchange.req_header();
        ctx.route = ctx.snapshot.routes.find(request.raw_path());
        let snapshot = ctx.snapshot.clone();
        let Ok((route, _)) = route_of(&snapshot, ctx.route) else {
            return answer_here(ctx, Rescue::NO_ROUTE);
        };
        if route.credentials == Credentials::Visitor {
            self.identify(request, ctx);
        }
        Ok(false)
    }

    async fn proxy_upstream_filter(
        &self,
        _: &mut HttpExchange,
        ctx: &mut Exchange,
    ) -> Result<bool> {
        self.authorize(ctx).await;
        let snapshot = ctx.snapshot.clone();
        let (route, _) = route_of(&snapshot, ctx.route)?;
        Self::check_policy(route, ctx)?;
        Ok(true)
    }

    async fn upstream_peer(
        &self,
        _: &mut HttpExchange,
        ctx: &mut Exchange,
    ) -> Result<Box<HttpPeer>> {
        let snapshot = ctx.snapshot.clone();
        let (route, rules) = route_of(&snapshot, ctx.route)?;
        if ctx.replay == Replay::Wanted {
            ctx.replay = Replay::Done;
            self.authorize(ctx).await;
            Self::check_policy(route, ctx)?;
        }
        match rules.pool.peer() {
            Some(peer) => Ok(peer),
            None => answer_here(ctx, Rescue::UNRESOLVED),
        }
    }

    async fn upstream_request_filter(
        &self,
        exchange: &mut HttpExchange,
        request: &mut RequestHeader,
        ctx: &mut Exchange,
    ) -> Result<()> {
        let snapshot = ctx.snapshot.clone();
        let (route, rules) = route_of(&snapshot, ctx.route)?;
        // Connecting may have taken longer than the token had left.
        if let Some(authorized) = ctx.visitor.authorized()
            && !authorized.is_usable(self.0.clock.now())
        {
            self.authorize(ctx).await;
            Self::check_policy(route, ctx)?;
        }
        let target = exchange.req_header().raw_path();
        if let std::borrow::Cow::Owned(target) = route::rewrite(target, route) {
            request.set_raw_path(&target)?;
        }
        let peer = exchange
            .client_addr()
            .and_then(|address| address.as_inet())
            .map(|address| address.ip());
        let trusted = snapshot
            .listeners
            .get(self.0.listener)
            .map(|listener| &listener.trusted_proxies);
        let trusted = trusted.is_some_and(|proxies| forwarded::is_trusted(peer, proxies));
        forwarded::apply(
            request,
            peer,
            trusted,
            exchange.req_header().headers.get(HOST),
        );
        trace::apply(request);
        rules
            .headers
            .apply_to_request(request, ctx.visitor.authorized());
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        exchange: &mut HttpExchange,
        answer: &mut ResponseHeader,
        ctx: &mut Exchange,
    ) -> Result<()> {
        let snapshot = ctx.snapshot.clone();
        let (route, rules) = route_of(&snapshot, ctx.route)?;
        if answer.status.is_informational() {
            return Ok(());
        }
        if route.upstream == UpstreamRef::Dressipi
            && let VisitorState::Authorized {
                key, authorized, ..
            } = &ctx.visitor
        {
            let replayable =
                !exchange.as_ref().retry_buffer_truncated() && !exchange.is_upgrade_req();
            let replayed = ctx.replay == Replay::Done;
            let reject = || self.0.manager.reject(authorized);
            match verdict(answer.status.as_u16(), true, replayed, replayable, reject) {
                Verdict::PassOn => {}
                Verdict::PassOnAndRefresh => self.0.manager.refresh_in_background(key),
                Verdict::Replay => {
                    ctx.replay = Replay::Wanted;
                    let mut error = Error::new_up(TOKEN_REJECTED);
                    error.set_retry(true);
                    return Err(error);
                }
            }
            protect_personal_answer(answer);
        }
        rules.headers.apply_to_answer(answer);
        Ok(())
    }

    async fn response_filter(
        &self,
        _: &mut HttpExchange,
        answer: &mut ResponseHeader,
        ctx: &mut Exchange,
    ) -> Result<()> {
        ctx.status = answer.status.as_u16();
        if answer.status.is_informational() {
            return Ok(());
        }
        if let Some(set_cookie) = &ctx.set_cookie {
            set_visitor_cookie(answer, set_cookie);
        }
        if let Some(reason) = ctx.visitor.anonymous() {
            answer.insert_header(SIDECAR, format!("anonymous; reason={}", reason.label()))?;
        }
        Ok(())
    }

    fn error_while_proxy(
        &self,
        _: &HttpPeer,
        exchange: &mut HttpExchange,
        mut error: Box<Error>,
        ctx: &mut Exchange,
        client_reused: bool,
    ) -> Box<Error> {
        if *error.etype() == TOKEN_REJECTED && ctx.replay == Replay::Wanted {
            return error;
        }
        if !exchange.req_header().method.is_idempotent()
            || exchange.as_ref().retry_buffer_truncated()
        {
            error.set_retry(false);
        } else {
            error.retry.decide_reuse(client_reused);
        }
        error
    }

    fn fail_to_connect(
        &self,
        _: &mut HttpExchange,
        _: &HttpPeer,
        ctx: &mut Exchange,
        mut error: Box<Error>,
    ) -> Box<Error> {
        ctx.attempts += 1;
        let addresses = route_of(&ctx.snapshot, ctx.route).map_or(0, |(_, rules)| rules.pool.len());
        error.set_retry(ctx.attempts < addresses.min(MAX_CONNECTS));
        error
    }

    async fn fail_to_proxy(
        &self,
        exchange: &mut HttpExchange,
        error: &Error,
        ctx: &mut Exchange,
    ) -> FailToProxy {
        let rescue = ctx.rescue.unwrap_or_else(|| Rescue::of(error));
        ctx.status = rescue.status;
        let mut can_reuse_downstream = false;
        if let Some((mut head, body)) = rescue.answer().filter(|_| rescue.status > 0)
            && exchange.response_written().is_none()
        {
            // What is left of the request is not read, so the connection can serve another one only if nothing is.
            can_reuse_downstream = exchange.as_mut().is_body_empty() && ctx.rescue.is_some();
            if !can_reuse_downstream {
                exchange.set_keepalive(None);
            }
            if let Some(set_cookie) = &ctx.set_cookie {
                set_visitor_cookie(&mut head, set_cookie);
            }
            let head_only = exchange.req_header().method == Method::HEAD;
            let written = exchange
                .write_response_header(Box::new(head), head_only)
                .await;
            if written.is_ok() && !head_only {
                let _ = exchange.write_response_body(Some(body), true).await;
            }
        }
        FailToProxy {
            error_code: rescue.status,
            can_reuse_downstream,
        }
    }

    async fn logging(
        &self,
        exchange: &mut HttpExchange,
        error: Option<&Error>,
        ctx: &mut Exchange,
    ) {
        let took = ctx.begun.elapsed();
        let status = match exchange.response_written() {
            Some(answer) => answer.status,
            None => StatusCode::from_u16(ctx.status).unwrap_or_default(),
        };
        let answered = exchange.response_written().is_some();
        let route = ctx.route.and_then(|index| ctx.snapshot.route(index));
        match route {
            Some((_, rules)) => rules.metrics.exchange(answered.then_some(status), took),
            None => self.0.metrics.unrouted(),
        }
        if let (Some((route, _)), Some(reason)) = (route, ctx.visitor.anonymous()) {
            self.0.metrics.unpersonalised(&route.path, reason.label());
        }
        if ctx.replay == Replay::Done {
            self.0.metrics.replayed();
        }
        if ctx.snapshot.access_log {
            let request = exchange.req_header();
            AccessLine {
                method: request.method.as_str(),
                path: &String::from_utf8_lossy(route::path(request.raw_path())),
                status: answered.then(|| status.as_u16()),
                route: route.map(|(route, _)| route.path.as_str()),
                visitor: ctx.visitor.key(),
                token: ctx.visitor.label(),
                took,
                sent: exchange.body_bytes_sent(),
                error: error
                    .filter(|_| ctx.rescue.is_none())
                    .map(|error| error.etype().as_str()),
            }
            .write();
        }
    }

    /// Our access line says it, without the query string that pingora's would print.
    fn suppress_error_log(&self, _: &HttpExchange, _: &Exchange, _: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _: &HttpExchange,
        _: &Exchange,
        _: &Error,
        _: ProxyWarnLogContext,
    ) -> bool {
        true
    }

    fn request_summary(&self, exchange: &HttpExchange, _: &Exchange) -> String {
        let request = exchange.req_header();
        let path = String::from_utf8_lossy(route::path(request.raw_path())).into_owned();
        format!("{} {path}", request.method)
    }
}
