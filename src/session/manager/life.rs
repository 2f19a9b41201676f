//! How a visitor's session stands at present, without secrets: for whoever shows it to people. Looking begins nothing and counts
//! nothing.

use super::Manager;
use crate::clock::Timestamp;
use crate::oauth::TokenFingerprint;
use crate::session::freshness::Schedule;
use crate::session::record::{State, VisitorSession};
use crate::session::store::StateTag;
use crate::session::vault::VaultError;
use crate::visitor::VisitorKey;

/// How a visitor's session stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Life {
    /// The state of the stored record, or of a newer one that waits to be written; `None`: there is none.
    pub state: Option<StateTag>,
    /// How many codes the visitor has been given.
    pub profiles: u32,
    /// The token set, if there is a live one.
    pub token: Option<TokenLife>,
    /// Not before this another authorize call may be made.
    pub not_before: Option<Timestamp>,
    /// Whether this process has a flow under way for the visitor.
    pub under_way: bool,
    /// Whether this process waits after failed OAuth calls for the visitor.
    pub backs_off: bool,
}

/// How an access token stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenLife {
    /// Which it is.
    pub fingerprint: TokenFingerprint,
    /// When it arrived.
    pub obtained_at: Timestamp,
    /// When it is refreshed, and when it counts as expired.
    pub schedule: Schedule,
    /// How many refreshes lie between it and the exchange.
    pub refreshes: u32,
    /// Whether a resource endpoint has rejected it.
    pub is_rejected: bool,
}

impl Manager {
    /// How the visitor's session stands.
    pub async fn life(&self, key: &VisitorKey) -> Result<Life, VaultError> {
        let performer = &self.0.performer;
        let now = performer.clock.now();
        let stored = performer.vault.load(key, now).await?;
        let stored = stored.map(|(_, session)| session);
        let unsaved = performer.unsaved.session(key);
        let session = match (stored, unsaved) {
            (Some(stored), Some(unsaved)) if !unsaved.is_to_be_written_over(&stored) => {
                Some(stored)
            }
            (stored, unsaved) => unsaved.or(stored),
        };
        Ok(Life {
            under_way: self.0.flights.current(key).is_some(),
            backs_off: self.0.back_offs.holds(key, now),
            ..session.map_or_else(Life::default, |session| self.life_in(key, &session))
        })
    }

    fn life_in(&self, key: &VisitorKey, session: &VisitorSession) -> Life {
        let token = session.tokens().map(|tokens| {
            let fingerprint = tokens.access.fingerprint();
            TokenLife {
                fingerprint,
                obtained_at: tokens.obtained_at,
                schedule: Schedule::new(tokens, &self.0.settings.policy),
                refreshes: tokens.generation,
                is_rejected: self.0.rejected(key) == Some(fingerprint),
            }
        });
        Life {
            state: Some(session.tag()),
            profiles: session.profiles,
            token,
            not_before: match session.state {
                State::Unconfirmed { not_before, .. } | State::Lost { not_before, .. } => {
                    Some(not_before)
                }
                State::Granted { .. } | State::Active(_) => None,
            },
            ..Life::default()
        }
    }
}
