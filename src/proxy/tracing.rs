//! An exchange's trace: the request's own span, one for each attempt at the upstream, and the headers that tell the upstream of it.
//!
//! Where no tracer is configured nothing here is reached but a look whether there is one. Spans hold what the access line holds: no
//! query, no header, no id of a visitor but the hash.

use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, HeaderValue, StatusCode, Version};
use pingora::Error;
use pingora::http::RequestHeader;

use super::context::Exchange;
use super::ending::End;
use super::rescue::Rescue;
use super::route;
use crate::telemetry::{Kind, Span, Tracer, Value, child_of, method, name};
use crate::trace::{Parent, SpanContext, SpanId, TRACEPARENT, TRACESTATE, TraceId};

/// What is traced of an exchange.
pub(super) enum Traced {
    /// There are no traces: nothing is read and nothing is touched.
    Off,
    /// The trace is not recorded; who began it has told the upstream so already, or is the sidecar.
    Unsampled { context: SpanContext, tell: bool },
    /// It is recorded.
    Sampled(Box<Recording>),
}

/// The spans of an exchange.
pub(super) struct Recording {
    tracer: Arc<Tracer>,
    context: SpanContext,
    parent: Option<SpanId>,
    state: Option<String>,
    attempt: Option<Attempt>,
    attempts: u16,
    ended: Vec<Span>,
}

/// One attempt at the upstream.
struct Attempt {
    context: SpanContext,
    begun: Instant,
    /// Its target, without query.
    path: Option<String>,
    status: Option<u16>,
    error: Option<&'static str>,
}

// === impl Traced ===

impl Traced {
    /// Begins with a request's headers.
    pub(super) fn begin(tracer: Option<&Arc<Tracer>>, headers: &HeaderMap) -> Self {
        match tracer {
            None => Self::Off,
            Some(tracer) => Self::begin_with(tracer, headers),
        }
    }

    fn begin_with(tracer: &Arc<Tracer>, headers: &HeaderMap) -> Self {
        let parent = Parent::of(headers);
        let context = match &parent {
            Some(parent) if !parent.context.sampled => parent.context,
            parent => tracer.begin(parent.as_ref()),
        };
        if !context.sampled {
            let tell = parent.is_none();
            return Self::Unsampled { context, tell };
        }
        let of_parent = parent.as_ref().map(|parent| parent.context.span);
        Self::Sampled(Box::new(Recording {
            tracer: tracer.clone(),
            context,
            parent: of_parent,
            state: parent.and_then(|parent| parent.state),
            attempt: None,
            attempts: 0,
            ended: Vec::new(),
        }))
    }

    /// The request's own span, for what is done for it.
    pub(super) fn context(&self) -> Option<SpanContext> {
        match self {
            Self::Off => None,
            Self::Unsampled { context, .. } => Some(*context),
            Self::Sampled(recording) => Some(recording.context),
        }
    }

    /// The trace, where it is recorded.
    pub(super) fn sampled(&self) -> Option<TraceId> {
        match self {
            Self::Sampled(recording) => Some(recording.context.trace),
            Self::Off | Self::Unsampled { .. } => None,
        }
    }

    /// Another attempt at the upstream begins.
    pub(super) fn attempt(&mut self) {
        if let Self::Sampled(recording) = self {
            recording.attempts = recording.attempts.saturating_add(1);
            recording.attempt = Some(Attempt {
                context: child_of(&recording.context),
                begun: Instant::now(),
                path: None,
                status: None,
                error: None,
            });
        }
    }

    /// The upstream has answered the attempt.
    pub(super) fn answered(&mut self, status: StatusCode) {
        if let Some(attempt) = self.attempt_mut() {
            attempt.status = Some(status.as_u16());
        }
    }

    /// The attempt has failed.
    pub(super) fn failed(&mut self, error: &Error) {
        if let Some(attempt) = self.attempt_mut() {
            attempt.error.get_or_insert(Rescue::of(error).error);
        }
    }

    /// The attempt's target.
    pub(super) fn target(&mut self, request: &RequestHeader) {
        if let Some(attempt) = self.attempt_mut() {
            let path = route::path(request.raw_path());
            attempt.path = Some(String::from_utf8_lossy(path).into_owned());
        }
    }

    fn attempt_mut(&mut self) -> Option<&mut Attempt> {
        match self {
            Self::Sampled(recording) => recording.attempt.as_mut(),
            Self::Off | Self::Unsampled { .. } => None,
        }
    }

    /// Tells the upstream whose span its own belongs to.
    pub(super) fn tell(&self, headers: &mut HeaderMap) {
        let (context, state) = match self {
            Self::Off | Self::Unsampled { tell: false, .. } => return,
            Self::Unsampled { context, .. } => (*context, None),
            Self::Sampled(recording) => {
                let attempt = recording.attempt.as_ref();
                let context = attempt.map_or(recording.context, |attempt| attempt.context);
                (context, recording.state.as_deref())
            }
        };
        headers.remove(TRACESTATE);
        if let Ok(value) = HeaderValue::try_from(context.to_string()) {
            headers.insert(TRACEPARENT, value);
        }
        if let Some(state) = state.and_then(|state| HeaderValue::from_str(state).ok()) {
            headers.insert(TRACESTATE, state);
        }
    }
}

// === impl Exchange ===

impl Exchange {
    /// An attempt at the upstream begins.
    pub(super) fn begin_attempt(&mut self) {
        self.traced.attempt();
        if self.snapshot.timed {
            self.upstream_begun = Some(Instant::now());
        }
    }

    /// The present attempt is over; its span is kept.
    pub(super) fn end_attempt(&mut self) {
        let Traced::Sampled(recording) = &mut self.traced else {
            return;
        };
        let Some(attempt) = recording.attempt.take() else {
            return;
        };
        let Some((_, rules)) = self.route.and_then(|route| self.snapshot.route(route)) else {
            return;
        };
        let (scheme, host, port) = rules.pool.server();
        let mut attributes = vec![
            ("server.address", Value::from(host.to_owned())),
            ("server.port", port.into()),
            ("dressipi.upstream", rules.pool.name().to_owned().into()),
        ];
        if let Some(path) = &attempt.path {
            let url = format!("{scheme}://{}{path}", rules.pool.place());
            attributes.push(("url.full", Value::cut(&url)));
        }
        if let Some(status) = attempt.status {
            attributes.push(("http.response.status_code", status.into()));
        }
        let bad_status = attempt.status.filter(|status| *status >= 400);
        let error = match (attempt.error, bad_status) {
            (Some(error), _) => Some(Value::from(error)),
            (None, status) => status.map(|status| status.to_string().into()),
        };
        let failed = error.is_some();
        attributes.extend(error.map(|error| ("error.type", error)));
        if recording.attempts > 1 {
            let resent = recording.attempts - 1;
            attributes.push(("http.request.resend_count", resent.into()));
        }
        recording.ended.push(Span {
            context: attempt.context,
            parent: Some((recording.context.span, false)),
            state: recording.state.clone(),
            name: String::new(),
            kind: Kind::Client,
            begun: attempt.begun,
            ended: Instant::now(),
            attributes,
            failed,
        });
    }

    /// The exchange is over: hands its spans over.
    pub(super) fn end_trace(&mut self, end: &End<'_>, scheme: &'static str) {
        if !matches!(self.traced, Traced::Sampled(_)) {
            return;
        }
        if let (Some(error), None) = (end.error, self.rescue) {
            self.traced.failed(error);
        }
        self.end_attempt();
        let attributes = self.attributes(end, scheme);
        let Traced::Sampled(recording) = std::mem::replace(&mut self.traced, Traced::Off) else {
            return;
        };
        let Recording {
            tracer,
            context,
            parent,
            state,
            ended,
            ..
        } = *recording;
        let verb = method(&end.request.method);
        let route = self.route().map(|(route, _)| route.path.as_str());
        let own = Span {
            context,
            parent: parent.map(|parent| (parent, true)),
            state,
            name: name(verb, route),
            kind: Kind::Server,
            begun: self.begun,
            ended: Instant::now(),
            failed: attributes.iter().any(|(key, _)| *key == "error.type"),
            attributes,
        };
        let attempts = ended.into_iter().map(|mut span| {
            span.name = name(verb, None);
            span.attributes.push(("http.request.method", verb.into()));
            span
        });
        tracer.record(attempts.chain([own]));
    }

    fn attributes(&self, end: &End<'_>, scheme: &'static str) -> Vec<(&'static str, Value)> {
        let refusal = self.rescue.and_then(|rescue| rescue.refusal);
        let version = match end.request.version {
            Version::HTTP_10 => "1.0",
            Version::HTTP_2 => "2",
            _ => "1.1",
        };
        let mut attributes = vec![
            ("http.request.method", method(&end.request.method).into()),
            ("url.scheme", scheme.into()),
            ("network.protocol.version", version.into()),
            ("dressipi.token", self.visitor.label().into()),
        ];
        // Of what the gate refused there is no path: it has seen a marker in its place.
        if refusal.is_none() {
            let path = String::from_utf8_lossy(route::path(end.request.raw_path()));
            attributes.push(("url.path", Value::cut(&path)));
        }
        if let Some((route, _)) = self.route() {
            attributes.push(("http.route", Value::cut(&route.path)));
        }
        if let Some(key) = self.visitor.key() {
            attributes.push(("dressipi.visitor", key.to_string().into()));
        }
        if let Some(status) = end.status {
            attributes.push(("http.response.status_code", status.as_u16().into()));
        }
        let failed = end.status.is_none_or(|status| status.is_server_error());
        let error = match (self.rescue, end.error) {
            (Some(rescue), _) => Some(Value::from(rescue.error)),
            (None, Some(error)) => Some(Rescue::of(error).error.into()),
            (None, None) => end.status.map(|status| status.as_u16().to_string().into()),
        };
        let error = error.filter(|_| failed).map(|error| ("error.type", error));
        attributes.extend(error);
        attributes
    }
}
