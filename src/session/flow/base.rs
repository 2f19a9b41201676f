//! What a flow keeps of a stored record while its state is on the way to another one.

use crate::clock::Timestamp;
use crate::oauth::TokenSet;
use crate::session::record::{State, VisitorSession};
use crate::session::store::Version;

/// What is known of the stored record beside its state.
#[derive(Debug)]
pub(super) struct Base {
    pub(super) version: Option<Version>,
    pub(super) created_at: Timestamp,
    pub(super) profiles: u32,
    pub(super) losses: u32,
    pub(super) attempts: u32,
    /// The token set that the server declared dead, and when.
    pub(super) lost: Option<(TokenSet, Timestamp)>,
}

// === impl Base ===

impl Base {
    pub(super) fn none(now: Timestamp) -> Self {
        Self {
            version: None,
            created_at: now,
            profiles: 0,
            losses: 0,
            attempts: 0,
            lost: None,
        }
    }

    pub(super) fn of(version: Option<Version>, session: &VisitorSession) -> Self {
        Self {
            version,
            created_at: session.created_at,
            profiles: session.profiles,
            losses: session.losses,
            attempts: 0,
            lost: None,
        }
    }

    /// After the announcement of an authorize call, which counts as an attempt until its answer is there.
    pub(super) fn announced(version: Version, session: VisitorSession) -> Self {
        let mut base = Self::of(Some(version), &session);
        match session.state {
            State::Unconfirmed { attempts, .. } => base.attempts = attempts.saturating_sub(1),
            State::Lost {
                tokens,
                lost_at,
                attempts,
                ..
            } => {
                base.attempts = attempts.saturating_sub(1);
                base.lost = Some((tokens, lost_at));
            }
            State::Granted { .. } | State::Active(_) => {}
        }
        base
    }

    pub(super) fn with(&self, state: State) -> VisitorSession {
        VisitorSession {
            created_at: self.created_at,
            profiles: self.profiles,
            losses: self.losses,
            state,
        }
    }
}
