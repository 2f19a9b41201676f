//! Revoking: an operator has a visitor's token rejected, as if Dressipi had answered 401 to it.
//!
//! Dressipi itself would go on taking the token, and whoever missed the news of it would never find out. So it ends in the store: the
//! stored token set counts as expired from now on, and whoever looks refreshes it. That is a write like any other: by version, and the same
//! token set before and after, so that a refresh under way still wins.

use super::Manager;
use crate::clock::Timestamp;
use crate::session::record::State;
use crate::session::store::{Found, PutError, StateTag, StoreError};
use crate::session::vault::{VaultError, is_visitor};
use crate::visitor::VisitorKey;

/// Why a token set was not revoked.
#[derive(Debug, thiserror::Error)]
pub enum RevokeError {
    /// Nothing is known of such a visitor.
    #[error("nothing is known of such a visitor")]
    Unknown,
    /// The visitor has no live token set.
    #[error("the visitor has no token set that could be rejected: the session is {}", .0.label())]
    NoTokens(StateTag),
    /// The newest token set waits to be written.
    #[error(
        "the newest token set of the visitor waits to be written; this sidecar does not use it any more"
    )]
    Unsaved,
    /// Others write the record all the time.
    #[error("the record changed more often than it could be written")]
    Contended,
    /// The record could not be read or written.
    #[error(transparent)]
    Vault(#[from] VaultError),
}

/// More conflicts than that mean that something is wrong.
const MAX_CONFLICTS: usize = 16;

// === impl Manager ===

impl Manager {
    /// Has the visitor's token set rejected, here and at every other replica on the store: the next request refreshes it. Where the
    /// store fails, this process has stopped using the token set and others may not have.
    pub async fn revoke(&self, key: &VisitorKey) -> Result<(), RevokeError> {
        if !is_visitor(key) {
            return Err(RevokeError::Unknown);
        }
        let performer = &self.0.performer;
        let vault = &performer.vault;
        for _ in 0..MAX_CONFLICTS {
            if let Some(session) = performer.unsaved.session(key)
                && let State::Active(tokens) = &session.state
            {
                self.stop_using(key, tokens.access.fingerprint());
                return Err(RevokeError::Unsaved);
            }
            let now = performer.clock.now();
            let found = vault.store().list(*key..=*key, 1, now).await?.pop();
            let Found { version, entry, .. } = found.ok_or(RevokeError::Unknown)?;
            let mut session = vault.open(key, &entry.sealed)?;
            let tag = session.tag();
            let State::Active(tokens) = &mut session.state else {
                return Err(RevokeError::NoTokens(tag));
            };
            let token = tokens.access.fingerprint();
            self.stop_using(key, token);
            tokens.expires_at = tokens.expires_at.min(now);
            let mut revoked = vault.seal(key, &session, now);
            // Nobody was here who would make it live longer.
            revoked.expires_at = entry.expires_at;
            match vault.store().put(key, Some(version), revoked, now).await {
                Ok(_) => {}
                Err(PutError::Conflict { .. }) => continue,
                Err(PutError::Store(error)) => return Err(error.into()),
            }
            // Those who have the token in use drop it at once, instead of looking it up anew.
            if let Some(shared) = vault.store().shared()
                && let Err(error) = shared.announce_rejection(key, token).await
            {
                tracing::debug!(visitor = %key, %error, "other replicas were not told of a revoked token");
            }
            return Ok(());
        }
        Err(RevokeError::Contended)
    }

    /// No flow that lands from here on brings the token back.
    fn stop_using(&self, key: &VisitorKey, token: crate::oauth::TokenFingerprint) {
        // As if long ago: Dressipi's own 401 to the next token is not one too many.
        let long_ago = Timestamp::default();
        self.0.rejections.insert(*key, (token, long_ago));
        self.0.cache.remove(key);
    }
}

impl From<StoreError> for RevokeError {
    fn from(error: StoreError) -> Self {
        Self::Vault(error.into())
    }
}
