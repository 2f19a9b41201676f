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

    /// Whether it takes the place of `other`, which somebody else wrote. The newer one does; but a token set gives way neither to
    /// a code, however new, for its profile has a history and the code's has none, nor to the end of a token set that is not its
    /// own or came of it: where a store has lost everything, the visitor may have begun anew.
    pub fn supersedes(&self, other: &Self) -> bool {
        self.age() > other.age()
            && match (&self.state, other.tokens()) {
                (State::Granted { .. }, Some(_)) => false,
                (State::Lost { tokens, .. }, Some(theirs)) => {
                    let later = tokens.generation > theirs.generation;
                    tokens.refresh == theirs.refresh || later && self.created_at == other.created_at
                }
                _ => true,
            }
    }

    /// Whether it, which could not be written, is still to be written where `stored` lies. Also where that is the very same: then
    /// it is our own write, which nobody has confirmed and a failover may undo.
    pub fn is_to_be_written_over(&self, stored: &Self) -> bool {
        self.supersedes(stored) || self == stored
    }

    /// How far along in its life it is: of two records of one visitor, the greater one is the newer one.
    pub fn age(&self) -> Age {
        let (stage, generation, attempts) = match &self.state {
            State::Granted { .. } => (Stage::Granted, 0, 0),
            State::Unconfirmed { attempts, .. } => (Stage::Unconfirmed, 0, *attempts),
            State::Active(tokens) => (Stage::Tokens, tokens.generation, 0),
            // Its end comes after it, and before any successor.
            State::Lost {
                tokens, attempts, ..
            } => (Stage::Tokens, tokens.generation, attempts.saturating_add(1)),
        };
        Age {
            profiles: self.profiles,
            stage,
            generation,
            attempts,
        }
    }
}

/// How far along a visitor session is; compared field by field.
///
/// That a token set is lost says nothing about its successors: a later generation is newer than the end of an earlier one, so
/// that a replica, or an import, whose tokens had been replaced long ago cannot bury the tokens that replaced them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Age {
    profiles: u32,
    stage: Stage,
    generation: u32,
    attempts: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Granted,
    Unconfirmed,
    Tokens,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oauth::{AccessToken, AuthorizationCode, CodeVerifier, RefreshToken};
    use crate::secret::Secret;

    const NOW: Timestamp = Timestamp::from_secs(1000);

    fn session(profiles: u32, state: State) -> VisitorSession {
        VisitorSession {
            created_at: NOW,
            profiles,
            losses: 0,
            state,
        }
    }

    fn tokens(generation: u32) -> TokenSet {
        TokenSet {
            access: AccessToken::new(Secret::new("a")),
            refresh: RefreshToken::new(Secret::new("r")),
            obtained_at: NOW,
            expires_at: NOW,
            generation,
        }
    }

    fn lost(generation: u32, attempts: u32) -> State {
        State::Lost {
            tokens: tokens(generation),
            lost_at: NOW,
            attempts,
            not_before: NOW,
        }
    }

    #[test]
    fn invariant_3_a_token_set_gives_way_to_its_own_kind() {
        let first = session(1, State::Active(tokens(3)));
        assert!(session(1, State::Active(tokens(4))).supersedes(&first));
        assert!(session(1, lost(3, 0)).supersedes(&first));
        assert!(session(1, lost(4, 0)).supersedes(&first));
        assert!(!session(2, granted()).supersedes(&first));
        // Another visit's, which began anew where the store had lost the first one.
        let other = |state| VisitorSession {
            created_at: NOW + std::time::Duration::from_secs(1),
            ..session(1, state)
        };
        let another = TokenSet {
            refresh: RefreshToken::new(Secret::new("another")),
            ..tokens(3)
        };
        assert!(!session(1, lost(4, 0)).supersedes(&other(State::Active(another))));
    }

    #[test]
    fn invariant_3_the_end_of_an_old_token_set_is_older_than_its_successor() {
        let life = [
            session(1, granted()),
            session(
                1,
                State::Unconfirmed {
                    attempts: 1,
                    not_before: NOW,
                },
            ),
            session(
                1,
                State::Unconfirmed {
                    attempts: 2,
                    not_before: NOW,
                },
            ),
            session(1, State::Active(tokens(0))),
            session(1, lost(0, 0)),
            session(1, State::Active(tokens(1))),
            session(1, State::Active(tokens(9))),
            session(1, lost(9, 0)),
            session(1, lost(9, 1)),
            session(2, granted()),
            session(2, State::Active(tokens(0))),
        ];
        for pair in life.windows(2) {
            assert!(pair[0].age() < pair[1].age(), "{pair:?}");
        }
    }

    fn granted() -> State {
        State::Granted {
            grant: Grant {
                code: AuthorizationCode::new(Secret::new("c")),
                verifier: CodeVerifier::from_stored(Secret::new("v")),
            },
            granted_at: NOW,
            attempts: 0,
        }
    }
}
