//! PURE. What Dressipi would know: profiles, codes, refresh tokens, and which access tokens still count.
//!
//! Decides every OAuth outcome here, and in `access` what a presented access token is worth. Takes values and `now_ms`; no I/O, no clock.
//! One profile has one code and one line of refresh tokens, so a profile is all that is stored.

mod access;

use std::collections::BTreeSet;

use super::config::SimulatorConfig;
use super::ledger::ProfileEntry;
use super::mask::fingerprint;
use super::pkce;
use super::refresh::{Line, RefreshToken, Use};
use super::requests::{AuthorizeRequest, ErrorCode, Grant, OauthError, TokenRequest};
use super::token::{AccessToken, NewAccessToken, SigningKey};
pub use access::ExpiredAs;
pub(super) use access::Verdict;

/// The state of the pretended authorization server.
pub(super) struct Model {
    pub(super) config: SimulatorConfig,
    pub(super) counters: Counters,
    key: SigningKey,
    profiles: Vec<Profile>,
    next_serial: u64,
    /// Access tokens with a lower serial were expired by request, and show it in this way.
    expired: (u64, ExpiredAs),
    /// Serials of access tokens that were rejected one by one.
    rejected: BTreeSet<u64>,
}

/// What the model counts by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counters {
    pub(super) code_reuse: u64,
    pub(super) refresh_reuse: u64,
    pub(super) refresh_again: u64,
}

struct Profile {
    id: String,
    client_id: Box<str>,
    challenge: Box<str>,
    created_at_ms: u64,
    code_spent: bool,
    refresh: Line,
    revoked: bool,
    exchanges: u64,
    refreshes: u64,
    visits: u64,
    last_access_token: Option<String>,
}

/// The outcome of an authorize call.
#[derive(Debug)]
pub(super) struct Authorized {
    pub(super) code: String,
    pub(super) profile: String,
}

/// The outcome of a token call.
#[derive(Debug)]
pub(super) struct Issued {
    pub(super) access_token: String,
    pub(super) refresh_token: Option<String>,
    pub(super) expires_in: u64,
    pub(super) profile: String,
}

// === impl Model ===

impl Model {
    pub(super) fn new(config: SimulatorConfig, secret: [u8; 32]) -> Self {
        Self {
            config,
            counters: Counters::default(),
            key: SigningKey::new(secret),
            profiles: Vec::new(),
            next_serial: 0,
            expired: (0, ExpiredAs::Unpersonalised),
            rejected: BTreeSet::new(),
        }
    }

    /// Creates a profile and a code for it.
    pub(super) fn authorize(
        &mut self,
        request: &AuthorizeRequest<'_>,
        now_ms: u64,
    ) -> Result<Authorized, OauthError> {
        if !self.config.knows_client(request.client_id) {
            return Err(ErrorCode::UnauthorizedClient.because("client_id is not registered"));
        }
        if self.profiles.len() >= self.config.max_profiles {
            return Err(ErrorCode::TemporarilyUnavailable.because("max_profiles is reached"));
        }
        let index = self.profiles.len() as u64;
        let profile = self.key.profile_id(index);
        self.profiles.push(Profile {
            id: profile.clone(),
            client_id: request.client_id.into(),
            challenge: request.challenge.into(),
            created_at_ms: now_ms,
            code_spent: false,
            refresh: Line::NotYet,
            revoked: false,
            exchanges: 0,
            refreshes: 0,
            visits: 0,
            last_access_token: None,
        });
        Ok(Authorized {
            code: self.key.seal("code", [index]),
            profile,
        })
    }

    /// Trades a code or a refresh token for a new token set.
    pub(super) fn token(
        &mut self,
        request: &TokenRequest<'_>,
        now_ms: u64,
    ) -> Result<Issued, OauthError> {
        if !self.config.knows_client(request.client_id) {
            return Err(ErrorCode::InvalidClient.because("client_id is not registered"));
        }
        match request.grant {
            Grant::AuthorizationCode { code, verifier } => {
                self.exchange(request.client_id, code, verifier, now_ms)
            }
            Grant::RefreshToken(token) => self.refresh(request.client_id, token, now_ms),
        }
    }

    fn exchange(
        &mut self,
        client_id: &str,
        code: &str,
        verifier: &str,
        now_ms: u64,
    ) -> Result<Issued, OauthError> {
        let refused = |why| Err(ErrorCode::InvalidGrant.because(why));
        let Some([index]) = self.key.open("code", code) else {
            return refused("the code is unknown");
        };
        let Some(profile) = at(&mut self.profiles, index) else {
            return refused("the code is unknown");
        };
        if *profile.client_id != *client_id {
            return refused("the code was issued to another client");
        }
        if profile.code_spent {
            self.counters.code_reuse += 1;
            profile.revoked |= self.config.revoke_on_code_reuse;
            return refused("the code was used before");
        }
        if now_ms
            >= profile
                .created_at_ms
                .saturating_add(self.config.code_lifetime_s.saturating_mul(1000))
        {
            return refused("the code has expired");
        }
        // A wrong verifier leaves the code usable: whoever guesses must not be able to spend it.
        if !pkce::matches(verifier, &profile.challenge) {
            return refused("code_verifier does not match code_challenge");
        }
        profile.code_spent = true;
        profile.exchanges += 1;
        profile.refresh = Line::begun();
        let refresh_token = self.seal_refresh(index, RefreshToken::FIRST);
        Ok(self.issue(index, Some(refresh_token), now_ms))
    }

    fn refresh(&mut self, client_id: &str, token: &str, now_ms: u64) -> Result<Issued, OauthError> {
        let refused = |why| Err(ErrorCode::InvalidGrant.because(why));
        let Some([index, generation, sibling]) = self.key.open("refresh", token) else {
            return refused("the refresh token is unknown");
        };
        let Some(profile) = at(&mut self.profiles, index) else {
            return refused("the refresh token is unknown");
        };
        if *profile.client_id != *client_id {
            return refused("the refresh token was issued to another client");
        }
        let token = RefreshToken {
            generation,
            sibling,
        };
        let used = match profile.revoked {
            true => Use::Revoked,
            false => profile
                .refresh
                .used(token, self.config.rotate, self.config.refresh_reuse),
        };
        let rotated = match used {
            Use::Revoked => return refused("the refresh token was revoked"),
            Use::Replaced => {
                self.counters.refresh_reuse += 1;
                return refused("the refresh token was replaced by a newer one");
            }
            Use::Kept => None,
            Use::Rotated { successor, again } => {
                self.counters.refresh_again += u64::from(again);
                Some(successor)
            }
        };
        profile.refreshes += 1;
        let rotated = rotated.map(|successor| self.seal_refresh(index, successor));
        Ok(self.issue(index, rotated, now_ms))
    }

    fn seal_refresh(&self, index: u64, token: RefreshToken) -> String {
        self.key
            .seal("refresh", [index, token.generation, token.sibling])
    }

    fn issue(&mut self, index: u64, refresh_token: Option<String>, now_ms: u64) -> Issued {
        let lifetime_s = self.config.access_token_lifetime_s;
        let issued_at = now_ms / 1000;
        let expires_at = issued_at.saturating_add(self.config.jwt_lifetime_s.unwrap_or(lifetime_s));
        let told_until_ms = now_ms.saturating_add(lifetime_s.saturating_mul(1000));
        let serial = self.next_serial;
        self.next_serial += 1;
        let valid_until_ms = told_until_ms.min(expires_at.saturating_mul(1000));
        let profile = &mut self.profiles[index as usize];
        let access_token = self.key.mint(&NewAccessToken {
            issuer: &self.config.issuer,
            client_id: &profile.client_id,
            profile_id: &profile.id,
            subn: &self.key.network_user_id(index),
            issued_at,
            expires_at,
            known: AccessToken {
                serial,
                profile: index,
                valid_until_ms,
            },
        });
        profile.last_access_token = Some(fingerprint(&access_token));
        Issued {
            access_token,
            refresh_token,
            expires_in: lifetime_s,
            profile: profile.id.clone(),
        }
    }

    /// Ends all refresh tokens issued so far; codes that wait for their exchange stay good.
    pub(super) fn revoke_refresh_tokens(&mut self) {
        for profile in &mut self.profiles {
            if profile.code_spent {
                profile.refresh = Line::Revoked;
            }
        }
    }

    pub(super) fn profile_count(&self) -> u64 {
        self.profiles.len() as u64
    }

    /// All profiles, in the order of their creation.
    pub(super) fn profile_entries(&self) -> Vec<ProfileEntry> {
        let entry = |profile: &Profile| ProfileEntry {
            id: profile.id.clone(),
            created_at_ms: profile.created_at_ms,
            // Each authorize call creates a profile, so no profile has a second one.
            authorizes: 1,
            exchanges: profile.exchanges,
            refreshes: profile.refreshes,
            visits: profile.visits,
            last_access_token: profile.last_access_token.clone(),
        };
        self.profiles.iter().map(entry).collect()
    }
}

fn at(profiles: &mut [Profile], index: u64) -> Option<&mut Profile> {
    profiles.get_mut(usize::try_from(index).ok()?)
}

#[cfg(test)]
mod tests;
