//! PURE: what may be told of a visitor session to whoever has the operator's token: never a token, a code or a verifier.

use super::record::{State, VisitorSession};
use super::store::StateTag;
use crate::clock::Timestamp;
use crate::oauth::{TokenFingerprint, TokenSet};
use crate::visitor::VisitorKey;

/// One visitor's session, without secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overview {
    /// Whose it is.
    pub visitor: VisitorKey,
    /// Its state.
    pub state: StateTag,
    /// When the store may forget it, if nobody writes it again; `None`: it is not stored, but waits to be.
    pub stored_until: Option<Timestamp>,
    /// What is in the record, or why it cannot be read.
    pub facts: Result<SessionFacts, String>,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionFacts {
    /// When the sidecar first wrote it.
    pub created_at: Timestamp,
    /// How many codes this visitor has been given.
    pub profiles: u32,
    /// How many token sets of this visitor the server has declared dead.
    pub losses: u32,
    /// The token set: the live one, or the last one of a lost visitor.
    pub tokens: Option<TokenFacts>,
    /// When the code arrived that is to be exchanged.
    pub granted_at: Option<Timestamp>,
    /// When the server declared the token set dead.
    pub lost_at: Option<Timestamp>,
    /// How many authorize calls in vain there were.
    pub attempts: u32,
    /// Not before this another one may be made.
    pub not_before: Option<Timestamp>,
}

/// What may be told of a token set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenFacts {
    /// Tells the access token from others.
    pub access: TokenFingerprint,
    /// Tells the refresh token from others.
    pub refresh: TokenFingerprint,
    /// When the access token arrived.
    pub obtained_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
    /// How many refreshes lie between it and the exchange.
    pub generation: u32,
    /// The Snowplow network user id that the access token names.
    pub subn: Option<String>,
}

/// What a process has of a visitor in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InMemory {
    /// Whether it has a token that may be sent.
    pub cached: bool,
    /// The token that was rejected last, by Dressipi or by an operator.
    pub rejected: Option<TokenFingerprint>,
    /// Until when the visitor waits after failed OAuth calls.
    pub backing_off_until: Option<Timestamp>,
    /// Whether there is a session that waits to be written.
    pub unsaved: bool,
    /// Whether a flow is under way.
    pub flow_under_way: bool,
    /// Whether the visitor is being erased.
    pub being_erased: bool,
}

// === impl SessionFacts ===

impl SessionFacts {
    /// What may be told of `session`.
    pub fn of(session: &VisitorSession) -> Self {
        let base = Self {
            created_at: session.created_at,
            profiles: session.profiles,
            losses: session.losses,
            tokens: None,
            granted_at: None,
            lost_at: None,
            attempts: 0,
            not_before: None,
        };
        match &session.state {
            State::Unconfirmed {
                attempts,
                not_before,
            } => Self {
                attempts: *attempts,
                not_before: Some(*not_before),
                ..base
            },
            State::Granted {
                grant: _,
                granted_at,
                attempts,
            } => Self {
                granted_at: Some(*granted_at),
                attempts: *attempts,
                ..base
            },
            State::Active(tokens) => Self {
                tokens: Some(TokenFacts::of(tokens)),
                ..base
            },
            State::Lost {
                tokens,
                lost_at,
                attempts,
                not_before,
            } => Self {
                tokens: Some(TokenFacts::of(tokens)),
                lost_at: Some(*lost_at),
                attempts: *attempts,
                not_before: Some(*not_before),
                ..base
            },
        }
    }
}

// === impl TokenFacts ===

impl TokenFacts {
    fn of(tokens: &TokenSet) -> Self {
        Self {
            access: tokens.access.fingerprint(),
            refresh: tokens.refresh.fingerprint(),
            obtained_at: tokens.obtained_at,
            expires_at: tokens.expires_at,
            generation: tokens.generation,
            subn: tokens.access.claims().subn,
        }
    }
}
