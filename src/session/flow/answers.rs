//! PURE: what follows from an answer of the authorization server, and when `invalid_grant` is believed.

use super::base::Base;
use super::{Command, End, Flow, Loaded, Note, Stage, Step, Then, Unavailable};
use crate::clock::Timestamp;
use crate::oauth::{AccessToken, AuthorizeError, Grant, TokenAnswer, TokenError, TokenSet};
use crate::secret::Secret;
use crate::session::record::{State, VisitorSession};

impl Flow {
    pub(super) fn authorized(
        mut self,
        base: Base,
        result: Result<Grant, AuthorizeError>,
        now: Timestamp,
    ) -> Step {
        match result {
            Ok(grant) => {
                self.notes.push(Note::ProfileCreated);
                let session = VisitorSession {
                    created_at: base.created_at,
                    profiles: base.profiles.saturating_add(1),
                    losses: base.losses,
                    state: State::Granted {
                        grant,
                        granted_at: now,
                        attempts: base.attempts,
                    },
                };
                self.save(base.version, session, Then::Exchange)
            }
            Err(error) if error.is_ambiguous() => {
                self.notes.push(Note::AuthorizeUnconfirmed);
                let pause = self.pause(base.attempts);
                let not_before = now + pause.max(error.retry_after().unwrap_or_default());
                self.save_attempt(base, not_before, Then::BackOff(error.retry_after()))
            }
            Err(error) => self.not_authorized(base, End::BackOff(error.retry_after()), now),
        }
    }

    pub(super) fn exchanged(
        mut self,
        base: Base,
        result: Result<TokenAnswer, TokenError>,
        asked_at: Timestamp,
        now: Timestamp,
    ) -> Step {
        match result {
            Ok(TokenAnswer {
                access,
                refresh: Some(refresh),
                expires_in,
            }) => {
                let tokens = TokenSet::arrived(access, refresh, expires_in, 0, asked_at);
                self.save(
                    base.version,
                    base.with(State::Active(tokens)),
                    Then::UseOnceStored,
                )
            }
            Err(TokenError::InvalidGrant) => {
                self.ask(Stage::DoubtingCode { base }, Command::Reload)
            }
            Err(TokenError::Misshapen {
                refresh: Some(refresh),
                ..
            }) => {
                self.notes.push(Note::RefreshTokenSalvaged);
                let tokens = TokenSet {
                    access: AccessToken::new(Secret::new("")),
                    refresh,
                    obtained_at: now,
                    expires_at: now,
                    generation: 0,
                };
                self.save(
                    base.version,
                    base.with(State::Active(tokens)),
                    Then::BackOff(None),
                )
            }
            // Without a refresh token the visitor would be lost at the token's end: as good as no answer.
            Ok(TokenAnswer { refresh: None, .. }) => self.back_off(None),
            Err(error) => self.back_off(error.retry_after()),
        }
    }

    pub(super) fn refreshed(
        mut self,
        base: Base,
        old: TokenSet,
        result: Result<TokenAnswer, TokenError>,
        asked_at: Timestamp,
        now: Timestamp,
    ) -> Step {
        let generation = old.generation.saturating_add(1);
        match result {
            Ok(TokenAnswer {
                access,
                refresh,
                expires_in,
            }) => {
                let refresh = refresh.unwrap_or(old.refresh);
                let tokens = TokenSet::arrived(access, refresh, expires_in, generation, asked_at);
                self.save(base.version, base.with(State::Active(tokens)), Then::Use)
            }
            Err(TokenError::InvalidGrant) => {
                self.ask(Stage::DoubtingTokens { tokens: old }, Command::Load)
            }
            Err(TokenError::Misshapen {
                refresh: Some(refresh),
                ..
            }) => {
                self.notes.push(Note::RefreshTokenSalvaged);
                let tokens = TokenSet {
                    refresh,
                    generation,
                    ..old
                };
                self.save(
                    base.version,
                    base.with(State::Active(tokens)),
                    Then::BackOff(None),
                )
            }
            Err(error) => {
                let usable = self.still_usable(&old, now);
                let mut done = self.finish(if usable {
                    Ok(old)
                } else {
                    Err(Unavailable::Dressipi)
                });
                done.back_off = Some(error.retry_after());
                Step::Done(done)
            }
        }
    }

    pub(super) fn doubt_code(mut self, base: Base, record: Option<Loaded>, now: Timestamp) -> Step {
        match record {
            Some(Loaded { version, .. }) if version == base.version => {
                self.notes.push(Note::ProfileWasted);
                let doubt = self.doubt();
                self.save_unconfirmed(base, now + doubt, Then::Decide)
            }
            None => self.give_up(Unavailable::Erased),
            changed => self.decide(changed, now),
        }
    }

    pub(super) fn doubt_tokens(
        mut self,
        tokens: TokenSet,
        record: Option<Loaded>,
        now: Timestamp,
    ) -> Step {
        match record {
            Some(Loaded {
                session, version, ..
            }) if session
                .tokens()
                .is_some_and(|stored| stored.refresh == tokens.refresh) =>
            {
                self.notes.push(Note::TokenSetLost);
                let mut base = Base::of(version, &session);
                base.losses = base.losses.saturating_add(1);
                base.attempts = 0;
                let lost = State::Lost {
                    tokens,
                    lost_at: now,
                    attempts: 0,
                    not_before: now + self.doubt(),
                };
                self.save(base.version, base.with(lost), Then::Decide)
            }
            None => self.give_up(Unavailable::Erased),
            changed => {
                self.notes.push(Note::TokenSetReplacedElsewhere);
                self.decide(changed, now)
            }
        }
    }
}
