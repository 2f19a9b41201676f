//! What one exchange remembers from phase to phase.

use std::time::{Duration, Instant};

use pingora::{Error, ErrorType, Result};

use super::identity::{AnonymousReason, Carries};
use super::rescue::Rescue;
use super::snapshot::{Pinned, RouteRules};
use super::tracing::Traced;
use crate::clock::Timestamp;
use crate::config::Route;
use crate::session::Authorized;
use crate::telemetry::{Lane, Ticket};
use crate::visitor::{Arrival, Place, VisitorKey};

/// The context of one exchange.
pub struct Exchange {
    /// The configuration that it goes by from beginning to end.
    pub(super) snapshot: Pinned,
    pub(super) begun: Instant,
    /// When it began, on the clock that tokens go by.
    pub(super) now: Timestamp,
    /// Whether a connection had to be made or another attempt went before, which may have taken longer than the token had left.
    pub(super) time_passed: bool,
    /// The index of its route.
    pub(super) route: Option<usize>,
    pub(super) visitor: VisitorState,
    /// Where the visitor cookie stands in the request, if that was found out.
    pub(super) cookie_place: Option<Place>,
    /// The `Set-Cookie` values for the answer that introduce a visitor, or make a browser forget one.
    pub(super) set_cookies: Vec<String>,
    /// The one that has the visitor carry the present token set.
    pub(super) set_recovery: Option<String>,
    /// What the visitor carries, where there are recovery cookies.
    pub(super) carries: Option<Carries>,
    pub(super) replay: Replay,
    /// Where it began in the upstream's list of addresses.
    pub(super) turn: Option<usize>,
    /// Attempts at connecting that failed.
    pub(super) attempts: usize,
    /// What to answer if the sidecar has to answer by itself.
    pub(super) rescue: Option<Rescue>,
    pub(super) status: u16,
    pub(super) traced: Traced,
    /// When the last attempt at the upstream began, where somebody wants to know.
    pub(super) upstream_begun: Option<Instant>,
    /// How long it took until the head of its answer was there.
    pub(super) upstream_took: Option<Duration>,
    /// How long the request waited for a token, if it did.
    pub(super) token_wait: Option<Duration>,
    _in_flight: Ticket,
}

/// The type of the error that ends such an exchange.
const ANSWERED_HERE: ErrorType = ErrorType::new("AnsweredHere");

/// What is known of the visitor.
#[derive(Debug)]
pub(super) enum VisitorState {
    /// The route does not ask.
    NotAsked,
    /// A visitor whose token is still to be ensured.
    Known { key: VisitorKey, arrival: Arrival },
    /// A visitor with a usable token.
    Authorized {
        arrival: Arrival,
        authorized: Authorized,
    },
    /// The call goes without a token.
    Anonymous {
        key: Option<VisitorKey>,
        reason: AnonymousReason,
    },
}

/// Where an exchange is with its one replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Replay {
    /// It has not been rejected.
    NotNeeded,
    /// A token was rejected; the request is to be sent once more with another one.
    Wanted,
    /// That has been done.
    Done,
}

// === impl Exchange ===

impl Exchange {
    pub(super) fn new(snapshot: Pinned, begun: Instant, now: Timestamp, in_flight: &Lane) -> Self {
        Self {
            snapshot,
            begun,
            now,
            time_passed: false,
            route: None,
            visitor: VisitorState::NotAsked,
            cookie_place: None,
            set_cookies: Vec::new(),
            set_recovery: None,
            carries: None,
            replay: Replay::NotNeeded,
            turn: None,
            attempts: 0,
            rescue: None,
            status: 0,
            traced: Traced::Off,
            upstream_begun: None,
            upstream_took: None,
            token_wait: None,
            _in_flight: in_flight.enter(),
        }
    }

    /// The route that it takes, with its rules.
    pub(super) fn route(&self) -> Option<(&Route, &RouteRules)> {
        self.snapshot.route(self.route?)
    }

    /// The route, in the phases that are reached only with one.
    pub(super) fn expect_route(&self) -> Result<(&Route, &RouteRules)> {
        self.route()
            .ok_or_else(|| Error::new(ErrorType::InternalError))
    }

    /// All `Set-Cookie` values for the answer.
    pub(super) fn set_cookies(&self) -> impl Iterator<Item = &String> {
        self.set_cookies.iter().chain(&self.set_recovery)
    }

    /// The sidecar answers by itself: ends the exchange with `rescue`.
    pub(super) fn answer_here<T>(&mut self, rescue: Rescue) -> Result<T> {
        self.rescue = Some(rescue);
        Err(Error::new(ANSWERED_HERE))
    }
}

// === impl VisitorState ===

impl VisitorState {
    pub(super) fn authorized(&self) -> Option<&Authorized> {
        match self {
            Self::Authorized { authorized, .. } => Some(authorized),
            _ => None,
        }
    }

    pub(super) fn anonymous(&self) -> Option<AnonymousReason> {
        match self {
            Self::Anonymous { reason, .. } => Some(*reason),
            _ => None,
        }
    }

    pub(super) fn key(&self) -> Option<&VisitorKey> {
        match self {
            Self::NotAsked => None,
            Self::Known { key, .. } => Some(key),
            Self::Authorized { authorized, .. } => Some(authorized.visitor()),
            Self::Anonymous { key, .. } => key.as_ref(),
        }
    }

    /// The word for logs.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::NotAsked => "none",
            Self::Known { .. } => "pending",
            Self::Authorized { .. } => "visitor",
            Self::Anonymous { reason, .. } => reason.label(),
        }
    }
}
