//! PURE: the visitor session, as it is stored.
//!
//! ```text
//! (none) ─ authorize ─► Granted ─ exchange ─► Active ─ refresh ─► Active ─► …
//!    │                    │ invalid_grant / too old  │ invalid_grant
//!    └ answer lost ─► Unconfirmed ◄┘                 └──► Lost
//! ```

use crate::clock::Timestamp;
use crate::oauth::{Grant, TokenSet};

use super::store::StateTag;

/// The stored record of one visitor.
#[derive(Debug, PartialEq, Eq)]
pub struct VisitorSession {
    /// When the sidecar first wrote it.
    pub created_at: Timestamp,
    /// How many codes this visitor has been given: 1, unless something was lost.
    pub profiles: u32,
    /// How many token sets of this visitor the server has declared dead.
    pub losses: u32,
    /// Where in its life it is.
    pub state: State,
}

/// Where in its life a visitor session is.
#[derive(Debug, PartialEq, Eq)]
pub enum State {
    /// An authorize call was made and nothing came of it: perhaps there is a profile that nobody holds a token for.
    Unconfirmed {
        /// How many such calls there were.
        attempts: u32,
        /// Not before this another one may be made.
        not_before: Timestamp,
    },
    /// The code has arrived and is not yet exchanged.
    Granted {
        /// The code with its verifier.
        grant: Grant,
        /// When it arrived.
        granted_at: Timestamp,
        /// How many calls in vain there were before it.
        attempts: u32,
    },
    /// The visitor has tokens.
    Active(TokenSet),
    /// The server has declared the token set dead.
    Lost {
        /// The last token set, as evidence.
        tokens: TokenSet,
        /// When.
        lost_at: Timestamp,
        /// How many authorize calls in vain there were since.
        attempts: u32,
        /// Not before this another one may be made.
        not_before: Timestamp,
    },
}

impl VisitorSession {
    /// What the census calls its state.
    pub fn tag(&self) -> StateTag {
        match self.state {
            State::Unconfirmed { .. } => StateTag::Unconfirmed,
            State::Granted { .. } => StateTag::Granted,
            State::Active(_) => StateTag::Active,
            State::Lost { .. } => StateTag::Lost,
        }
    }

    /// The token set, if there is a live one.
    pub fn tokens(&self) -> Option<&TokenSet> {
        match &self.state {
            State::Active(tokens) => Some(tokens),
            _ => None,
        }
    }

    /// Whether nothing may be done with it before it is stored: a code is not exchanged and its first tokens are not used
    /// as long as a crash could lose them. The tokens of a refresh are no worse off for being used.
    pub fn must_be_stored_first(&self) -> bool {
        match &self.state {
            State::Granted { .. } => true,
            State::Active(tokens) => tokens.generation == 0,
            State::Unconfirmed { .. } | State::Lost { .. } => false,
        }
    }

    /// How far along in its life it is: of two records of one visitor, the greater one is the newer one.
    ///
    /// A lost token set is newer than itself alive, but older than its successor: a replica that holds the successor in
    /// memory, because the store could not be reached when it arrived, takes the visitor back from `Lost`.
    pub fn age(&self) -> (u32, u8, u32, u32) {
        match &self.state {
            State::Granted { .. } => (self.profiles, 0, 0, 0),
            State::Unconfirmed { attempts, .. } => (self.profiles, 1, *attempts, 0),
            State::Active(tokens) => (self.profiles, 2, tokens.generation, 0),
            State::Lost {
                tokens, attempts, ..
            } => (
                self.profiles,
                2,
                tokens.generation,
                attempts.saturating_add(1),
            ),
        }
    }
}
