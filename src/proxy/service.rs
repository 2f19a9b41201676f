//! pingora's phases, each a few lines: what is decided is decided elsewhere.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{HOST, UPGRADE};
use http::{Method, StatusCode, Version};
use parking_lot::Mutex;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::Digest;
use pingora::proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session as HttpExchange};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};

use super::context::{Exchange, Replay};
use super::edit::{edit_answer, edit_request, forget_spelling};
use super::ending::End;
use super::headers::{host, protect_personal_answer, set_visitor_cookies};
use super::hops::has_hop_by_hop;
use super::replay::{Verdict, verdict};
use super::rescue::Rescue;
use super::snapshot::Present;
use super::telling::tell;
use super::tracing::Traced;
use super::{forwarded, route};
use crate::clock::Clock;
use crate::config::{Credentials, UpstreamRef};
use crate::gate::{Line, Refusal, is_http2_offer, judge_http2, refused_by_marker};
use crate::session::Manager;
use crate::telemetry::{AccessLog, Lane, Metrics};
use crate::visitor::Spent;

/// One listener's proxy on one worker.
pub struct Proxy(pub(super) ProxyParts);

/// What a proxy is made of.
pub struct ProxyParts {
    /// The present configuration.
    pub snapshot: Arc<Present>,
    /// Which of its listeners this is.
    pub listener: usize,
    /// Visitor sessions.
    pub manager: Manager,
    /// What has been spent of the limits on making profiles; all listeners share it.
    pub spent: Arc<Mutex<Spent>>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Where exchanges in flight are counted.
    pub in_flight: Lane,
    /// Where access lines go.
    pub access_log: AccessLog,
    /// Set when the process is on its way out.
    pub draining: Arc<AtomicBool>,
}

/// A rejected token is to be replaced and the request sent once more.
const TOKEN_REJECTED: ErrorType = ErrorType::new("TokenRejected");
/// At most so many addresses of an upstream are tried for one request.
const MAX_CONNECTS: usize = 3;

// === impl Proxy ===

impl Proxy {
    /// A proxy of `parts`.
    pub fn new(parts: ProxyParts) -> Self {
        Self(parts)
    }
}

/// Whether the answer proper is still to come. 101 is one: nothing of HTTP follows it (RFC 9110 §15.2.2).
fn is_interim(answer: &ResponseHeader) -> bool {
    answer.status.is_informational() && answer.status != StatusCode::SWITCHING_PROTOCOLS
}

/// What is not taken up here must not be taken up further on, where it would be a tunnel.
fn ignore_http2_offer(request: &mut RequestHeader) {
    let offer = request.headers.get(UPGRADE);
    if offer.is_some_and(|value| is_http2_offer(value.as_bytes())) {
        request.remove_header(&UPGRADE);
        request.remove_header("http2-settings");
    }
}

/// Why the gate refuses a request: HTTP/1.x was judged where it arrived, HTTP/2 is judged here.
fn refusal(request: &RequestHeader, headers: usize) -> Option<Refusal> {
    match request.version {
        Version::HTTP_2 => judge_http2(request, headers).err(),
        _ => refused_by_marker(request.raw_path()),
    }
}

#[async_trait]
impl ProxyHttp for Proxy {
    /// Boxed: pingora moves it about with the rest of an exchange.
    type CTX = Box<Exchange>;

    fn new_ctx(&self) -> Box<Exchange> {
        let begun = Instant::now();
        let now = self.0.clock.at(begun);
        let snapshot = self.0.snapshot.pin();
        Box::new(Exchange::new(snapshot, begun, now, &self.0.in_flight))
    }

    /// None: the default one would add response compression.
    fn init_downstream_modules(&self, _: &mut pingora::modules::http::HttpModules) {}

    async fn request_filter(
        &self,
        exchange: &mut HttpExchange,
        ctx: &mut Self::CTX,
    ) -> Result<bool> {
        exchange.set_read_timeout(Some(ctx.snapshot.client_timeout));
        ctx.traced = Traced::begin(ctx.snapshot.tracer.as_ref(), &exchange.req_header().headers);
        if let Some(refusal) = refusal(exchange.req_header(), ctx.snapshot.header_count) {
            return ctx.answer_here(Rescue::refused(refusal));
        }
        forget_spelling(exchange.req_header_mut());
        ignore_http2_offer(exchange.req_header_mut());
        let request = exchange.req_header();
        let target = request.raw_path();
        ctx.route = ctx.snapshot.routes.find(target);
        if ctx.snapshot.routes.is_ambiguous(target, ctx.route) {
            return ctx.answer_here(Rescue::refused(Refusal::AmbiguousPath));
        }
        match ctx.route() {
            None => return ctx.answer_here(Rescue::NO_ROUTE),
            Some((route, _)) if !route.upgrade && exchange.is_upgrade_req() => {
                return ctx.answer_here(Rescue::refused(Refusal::Upgrade));
            }
            Some((route, _)) if route.credentials == Credentials::Visitor => {
                self.identify(exchange, ctx);
            }
            Some(_) => {}
        }
        Ok(false)
    }

    async fn proxy_upstream_filter(
        &self,
        exchange: &mut HttpExchange,
        ctx: &mut Self::CTX,
    ) -> Result<bool> {
        self.authorize(exchange, ctx).await?;
        Ok(true)
    }

    async fn upstream_peer(
        &self,
        exchange: &mut HttpExchange,
        ctx: &mut Self::CTX,
    ) -> Result<Box<HttpPeer>> {
        ctx.end_attempt();
        if ctx.replay == Replay::Wanted {
            ctx.replay = Replay::Done;
            ctx.now = self.0.clock.now();
            self.authorize(exchange, ctx).await?;
        }
        ctx.begin_attempt();
        let Some((route, rules)) = ctx.route() else {
            return ctx.answer_here(Rescue::NO_ROUTE);
        };
        let again = ctx.turn.is_some();
        let turn = ctx.turn.unwrap_or_else(|| rules.pool.turn());
        let upgrade = exchange.is_upgrade_req() && route.upstream != UpstreamRef::Dressipi;
        let peer = match upgrade {
            false => {
                let hop_by_hop = has_hop_by_hop(&exchange.req_header().headers);
                rules.pool.peer(turn + ctx.attempts, hop_by_hop)
            }
            true => rules.pool.upgrade_peer(turn + ctx.attempts),
        };
        ctx.turn = Some(turn);
        ctx.time_passed = again;
        match peer {
            Some(peer) => Ok(peer),
            None => ctx.answer_here(Rescue::UNRESOLVED),
        }
    }

    async fn connected_to_upstream(
        &self,
        _: &mut HttpExchange,
        reused: bool,
        _: &HttpPeer,
        _: std::os::fd::RawFd,
        _: Option<&Digest>,
        ctx: &mut Self::CTX,
    ) -> Result<()> {
        ctx.time_passed |= !reused;
        Ok(())
    }

    async fn upstream_request_filter(
        &self,
        exchange: &mut HttpExchange,
        request: &mut RequestHeader,
        ctx: &mut Self::CTX,
    ) -> Result<()> {
        if ctx.time_passed
            && let Some(authorized) = ctx.visitor.authorized()
            && !authorized.is_usable(self.0.clock.now())
        {
            ctx.now = self.0.clock.now();
            self.authorize(exchange, ctx).await?;
        }
        let (route, rules) = ctx.expect_route()?;
        let received = exchange.req_header();
        if let Cow::Owned(target) = route::rewrite(received.raw_path(), route) {
            request.set_raw_path(&target)?;
        }
        let peer = exchange.client_addr().and_then(|address| address.as_inet());
        let peer = peer.map(|address| address.ip());
        let line = Line::of(exchange.digest());
        let written = line.and_then(|line| line.client(|| forwarded::value_of(peer?)));
        let listener = ctx.snapshot.listeners.get(self.0.listener);
        let trusted = listener.is_some_and(|listener| listener.trusted_proxies.include(peer));
        edit_request(request, |headers| {
            let missing = !rules.headers.strip_request(headers, trusted);
            // Where `Host` passes unchanged, saying it twice says nothing.
            let replaced = rules.headers.sets_host();
            let host = (missing || replaced).then(|| host(received)).flatten();
            if let Some(host) = host.as_ref().filter(|_| missing) {
                // pingora makes `:authority` of it again, where the upstream speaks HTTP/2.
                headers.insert(HOST, host.clone());
            }
            let came = forwarded::Came {
                peer,
                written,
                trusted,
                scheme: listener.map(|listener| &listener.scheme),
            };
            forwarded::apply(headers, came, host.as_ref().filter(|_| replaced));
            let authorized = ctx.visitor.authorized();
            rules
                .headers
                .add_to_request(headers, authorized, ctx.cookie_place);
            ctx.traced.tell(headers);
        });
        ctx.traced.target(request);
        Ok(())
    }

    /// HTTP/2 may end a body with an empty frame, for which pingora 0.9.1 would end an HTTP/1.1 body twice and spoil the
    /// connection for the next request (<https://github.com/cloudflare/pingora/issues/935>).
    async fn request_body_filter(
        &self,
        _: &mut HttpExchange,
        body: &mut Option<Bytes>,
        end: bool,
        _: &mut Self::CTX,
    ) -> Result<()> {
        if end && body.as_ref().is_some_and(Bytes::is_empty) {
            *body = None;
        }
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        exchange: &mut HttpExchange,
        answer: &mut ResponseHeader,
        ctx: &mut Self::CTX,
    ) -> Result<()> {
        if answer.status == StatusCode::SWITCHING_PROTOCOLS && !exchange.is_upgrade_req() {
            // pingora would pass it on, and nobody could tell what follows it.
            return Err(Error::new_up(ErrorType::InvalidHTTPHeader));
        }
        let (route, rules) = ctx.expect_route()?;
        edit_answer(answer, |headers| rules.headers.apply_to_answer(headers));
        if is_interim(answer) {
            return Ok(());
        }
        let to_dressipi = route.upstream == UpstreamRef::Dressipi;
        ctx.upstream_took = ctx.upstream_begun.map(|begun| begun.elapsed());
        ctx.traced.answered(answer.status);
        if to_dressipi && let Some(authorized) = ctx.visitor.authorized() {
            let replayable =
                !exchange.as_ref().retry_buffer_truncated() && !exchange.is_upgrade_req();
            let replayed = ctx.replay == Replay::Done;
            let reject = || self.0.manager.reject(authorized);
            match verdict(answer.status.as_u16(), replayed, replayable, reject) {
                Verdict::PassOn => {}
                Verdict::PassOnAndRefresh => {
                    self.0.manager.refresh_in_background(authorized.visitor());
                }
                Verdict::Replay => {
                    ctx.replay = Replay::Wanted;
                    let mut error = Error::new_up(TOKEN_REJECTED);
                    error.set_retry(true);
                    return Err(error);
                }
            }
            protect_personal_answer(answer);
        }
        Ok(())
    }

    async fn response_filter(
        &self,
        exchange: &mut HttpExchange,
        answer: &mut ResponseHeader,
        ctx: &mut Self::CTX,
    ) -> Result<()> {
        ctx.status = answer.status.as_u16();
        if is_interim(answer) {
            return Ok(());
        }
        if answer.status == StatusCode::SWITCHING_PROTOCOLS
            && let Some(line) = Line::of(exchange.digest())
        {
            line.tunnel();
        }
        if self.0.draining.load(Ordering::Relaxed) {
            // So that no request is on its way on a connection when that is closed for good.
            exchange.set_keepalive(None);
        }
        set_visitor_cookies(answer, ctx.set_cookies());
        tell(answer, ctx);
        Ok(())
    }

    fn error_while_proxy(
        &self,
        _: &HttpPeer,
        exchange: &mut HttpExchange,
        mut error: Box<Error>,
        ctx: &mut Self::CTX,
        client_reused: bool,
    ) -> Box<Error> {
        if *error.etype() == TOKEN_REJECTED && ctx.replay == Replay::Wanted {
            return error;
        }
        ctx.traced.failed(&error);
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
        ctx: &mut Self::CTX,
        mut error: Box<Error>,
    ) -> Box<Error> {
        ctx.attempts += 1;
        ctx.traced.failed(&error);
        let addresses = ctx.route().map_or(0, |(_, rules)| rules.pool.len());
        error.set_retry(ctx.attempts < addresses.min(MAX_CONNECTS));
        error
    }

    async fn fail_to_proxy(
        &self,
        exchange: &mut HttpExchange,
        error: &Error,
        ctx: &mut Self::CTX,
    ) -> FailToProxy {
        let rescue = ctx.rescue.unwrap_or_else(|| Rescue::of(error));
        ctx.status = rescue.status;
        if rescue.refusal.is_some() {
            ctx.rescue = Some(rescue);
        }
        let mut can_reuse_downstream = false;
        if let Some((mut head, body)) = rescue.answer().filter(|_| rescue.status > 0)
            && exchange.response_written().is_none()
        {
            // What is left of the request is not read, so the connection can serve another one only if nothing is.
            can_reuse_downstream = exchange.as_mut().is_body_empty() && ctx.rescue.is_some();
            if !can_reuse_downstream || rescue.refusal.is_some() {
                exchange.set_keepalive(None);
            }
            set_visitor_cookies(&mut head, ctx.set_cookies());
            tell(&mut head, ctx);
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
        ctx: &mut Self::CTX,
    ) {
        if let Some(line) = Line::of(exchange.digest()) {
            line.reopen();
        }
        let refusal = ctx.rescue.and_then(|rescue| rescue.refusal);
        let took = ctx.begun.elapsed();
        let status = match exchange.response_written() {
            Some(answer) => answer.status,
            None => StatusCode::from_u16(ctx.status).unwrap_or_default(),
        };
        let answered = exchange.response_written().is_some();
        let route = ctx.route();
        match route {
            Some((_, rules)) => rules.metrics.exchange(answered.then_some(status), took),
            None if refusal.is_some() => {}
            None => self.0.metrics.unrouted(),
        }
        if let Some(refusal) = refusal {
            self.0.metrics.request_refused(refusal.label());
        }
        if let (Some((route, _)), Some(reason)) = (route, ctx.visitor.anonymous()) {
            self.0.metrics.unpersonalised(&route.path, reason.label());
        }
        if ctx.replay == Replay::Done {
            self.0.metrics.replayed();
        }
        let end = End {
            request: exchange.req_header(),
            status: answered.then_some(status),
            error,
            took,
            sent: exchange.body_bytes_sent(),
        };
        self.write_access_line(ctx, &end);
        self.end_trace(ctx, &end);
    }

    /// Our access line says it, without the query string that pingora's would print.
    fn suppress_error_log(&self, _: &HttpExchange, _: &Self::CTX, _: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _: &HttpExchange,
        _: &Self::CTX,
        _: &Error,
        _: ProxyWarnLogContext,
    ) -> bool {
        true
    }

    fn request_summary(&self, exchange: &HttpExchange, _: &Self::CTX) -> String {
        let request = exchange.req_header();
        let path = String::from_utf8_lossy(route::path(request.raw_path())).into_owned();
        format!("{} {path}", request.method)
    }
}
