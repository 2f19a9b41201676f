//! What the session manager tells whoever counts. Telemetry implements it; this module knows nothing of metrics.

use std::time::{Duration, Instant};

use super::flow::{Note, Unavailable};
use crate::trace::SpanContext;

/// An OAuth call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    /// `GET /api/oauth/authorize`.
    Authorize,
    /// `POST /api/oauth/token` with a code.
    Exchange,
    /// `POST /api/oauth/token` with a refresh token.
    Refresh,
}

/// An operation of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StoreCall {
    /// A record was asked for.
    Load,
    /// A record was written.
    Save,
    /// A record was removed.
    Remove,
    /// A lease was asked for.
    Acquire,
}

/// What happened to a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LeaseEvent {
    /// It was taken.
    Taken,
    /// Another flow had it.
    Held,
    /// It ended while its flow was at work.
    Ended,
}

/// Listens to the session manager.
pub trait Observer: Send + Sync + 'static {
    /// An OAuth call ended with `result` ("ok", or an error's label).
    fn oauth_call(&self, call: Call, result: &'static str, took: Duration);
    /// The same call, with when it began and the span of the request that waits for its flow, if one does.
    fn oauth_span(&self, _: Call, _: &'static str, _: Instant, _: Option<SpanContext>) {}
    /// Dressipi gave an access token that lives for so long.
    fn token_obtained(&self, lifetime: Duration);
    /// A store call ended.
    fn store_call(&self, call: StoreCall, ok: bool, took: Duration);
    /// Something noteworthy happened to a visitor.
    fn note(&self, note: Note);
    /// A flow ended without a token.
    fn flow_failed(&self, reason: Unavailable);
    /// Something happened to a lease.
    fn lease(&self, event: LeaseEvent);
    /// News of other replicas may have been missed: every cached token is looked up anew.
    fn news_missed(&self);
    /// A resource endpoint rejected a token; `refreshed`: a refresh was begun for it.
    fn token_rejected(&self, refreshed: bool);
}

/// An observer that does not care.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unobserved;

impl Observer for Unobserved {
    fn oauth_call(&self, _: Call, _: &'static str, _: Duration) {}
    fn token_obtained(&self, _: Duration) {}
    fn store_call(&self, _: StoreCall, _: bool, _: Duration) {}
    fn note(&self, _: Note) {}
    fn flow_failed(&self, _: Unavailable) {}
    fn lease(&self, _: LeaseEvent) {}
    fn news_missed(&self) {}
    fn token_rejected(&self, _: bool) {}
}

impl Call {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Authorize, Self::Exchange, Self::Refresh];

    /// The word for metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Authorize => "authorize",
            Self::Exchange => "exchange",
            Self::Refresh => "refresh",
        }
    }
}

impl StoreCall {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Load, Self::Save, Self::Remove, Self::Acquire];

    /// The word for metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Save => "save",
            Self::Remove => "remove",
            Self::Acquire => "acquire",
        }
    }
}

impl LeaseEvent {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Taken, Self::Held, Self::Ended];

    /// The word for metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Held => "held",
            Self::Ended => "ended",
        }
    }
}
