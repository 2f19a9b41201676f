//! PURE: what is written, and what follows from a write that is confirmed, refused or in doubt.

use std::time::Duration;

use super::base::Base;
use super::{Command, End, Flow, Loaded, Note, Stage, Step, Then, Unavailable};
use crate::clock::Timestamp;
use crate::session::record::{State, VisitorSession};
use crate::session::store::Version;

/// More conflicts than that in one flow mean that something is wrong with the store: the session is kept for later.
const MAX_CONFLICTS: u8 = 8;

impl Flow {
    /// A code is gone without tokens. The first time another one may be asked for at once; after that with a pause.
    pub(super) fn save_unconfirmed(self, base: Base, now: Timestamp, then: Then) -> Step {
        let pause = match base.attempts {
            0 => Duration::ZERO,
            more => self.pause(more - 1),
        };
        self.save_attempt(base, now + pause, then)
    }

    pub(super) fn save_attempt(self, base: Base, not_before: Timestamp, then: Then) -> Step {
        let attempts = base.attempts.saturating_add(1);
        self.save_attempts(base, attempts, not_before, then)
    }

    /// No profile was made: if the call was announced, that is taken back.
    pub(super) fn not_authorized(self, base: Base, end: End, now: Timestamp) -> Step {
        if self.policy.replicas.is_none() {
            return self.end(end);
        }
        let attempts = base.attempts;
        self.save_attempts(base, attempts, now, Then::EndUnmade(end))
    }

    /// The announced call is not made: whoever comes next must not wait for its answer.
    pub(super) fn take_back(
        self,
        announced: VisitorSession,
        record: Option<Loaded>,
        now: Timestamp,
    ) -> Step {
        match record {
            Some(Loaded {
                session,
                version: Some(version),
                ..
            }) if session == announced => {
                let base = Base::announced(version, session);
                self.not_authorized(base, End::GiveUp(Unavailable::Store), now)
            }
            _ => self.give_up(Unavailable::Store),
        }
    }

    fn save_attempts(
        self,
        mut base: Base,
        attempts: u32,
        not_before: Timestamp,
        then: Then,
    ) -> Step {
        let state = match base.lost.take() {
            None => State::Unconfirmed {
                attempts,
                not_before,
            },
            Some((tokens, lost_at)) => State::Lost {
                tokens,
                lost_at,
                attempts,
                not_before,
            },
        };
        self.save(base.version, base.with(state), then)
    }

    pub(super) fn pause(&self, attempts: u32) -> Duration {
        self.policy
            .unconfirmed_pause
            .saturating_mul(1 << attempts.min(16))
    }

    pub(super) fn save(
        self,
        expected: Option<Version>,
        session: VisitorSession,
        then: Then,
    ) -> Step {
        self.ask(Stage::Saving { session, then }, Command::Save { expected })
    }

    pub(super) fn saved(
        mut self,
        session: VisitorSession,
        then: Then,
        version: Version,
        now: Timestamp,
    ) -> Step {
        if then == Then::Recover {
            self.notes.push(Note::SessionRecovered);
        }
        match (then, session.state) {
            // Writing may have taken longer than the token lives.
            (Then::Use | Then::UseOnceStored, State::Active(tokens)) => {
                match self.still_usable(&tokens, now) {
                    true => self.done(Ok(tokens)),
                    false => self.give_up(Unavailable::TimedOut),
                }
            }
            (Then::BackOff(retry_after), State::Active(tokens))
                if self.still_usable(&tokens, now) =>
            {
                let mut done = self.finish(Ok(tokens));
                done.back_off = Some(retry_after);
                Step::Done(done)
            }
            (Then::BackOff(retry_after), _) => self.back_off(retry_after),
            (Then::EndUnmade(end), _) => self.end(end),
            (Then::Authorize, state) => {
                let base = Base::announced(version, VisitorSession { state, ..session });
                self.ask(Stage::Authorizing { base }, Command::Authorize)
            }
            (_, state) => {
                let session = VisitorSession { state, ..session };
                let version = Some(version);
                let is_stored = true;
                self.decide(
                    Some(Loaded {
                        session,
                        version,
                        is_stored,
                    }),
                    now,
                )
            }
        }
    }

    pub(super) fn save_conflict(mut self, ours: VisitorSession, then: Then) -> Step {
        self.conflicts += 1;
        let too_many = self.conflicts > MAX_CONFLICTS;
        match then {
            // Nothing was done yet: whatever is there now decides.
            Then::Authorize if !too_many => return self.ask(Stage::Loading, Command::Load),
            Then::Authorize => return self.give_up(Unavailable::Store),
            // Others have gone on from the announcement, or it is forgotten.
            Then::EndUnmade(end) => return self.use_what_there_is(end),
            Then::Recover if !too_many => {
                self.carried = Some(Box::new(ours));
                return self.ask(Stage::Loading, Command::Load);
            }
            _ => {}
        }
        if too_many {
            return self.keep(ours, Err(Unavailable::Store));
        }
        let stage = Stage::Comparing {
            ours,
            then,
            first: false,
        };
        self.ask(stage, Command::Reload)
    }

    pub(super) fn save_failed(self, session: VisitorSession, then: Then, now: Timestamp) -> Step {
        if then == Then::Authorize {
            let announced = session;
            return self.ask(Stage::TakingBack { announced }, Command::Reload);
        }
        match then {
            Then::EndUnmade(end) => return self.end(end),
            // The visitor still carries it.
            Then::Recover => return self.give_up(Unavailable::Store),
            _ => {}
        }
        let result = match (then, session.tokens()) {
            (Then::Use, Some(tokens)) if self.still_usable(tokens, now) => Ok(tokens.clone()),
            _ => Err(Unavailable::Store),
        };
        self.keep(session, result)
    }

    /// Somebody else wrote. The newer of the two sessions stays; an erased visitor stays erased.
    pub(super) fn compare(
        mut self,
        ours: VisitorSession,
        then: Then,
        first: bool,
        record: Option<Loaded>,
        now: Timestamp,
    ) -> Step {
        match record {
            Some(theirs) if ours.is_to_be_written_over(&theirs.session) => {
                self.save(theirs.version, ours, then)
            }
            // A session that was never stored, because the store failed: nothing was erased.
            None if first => self.save(None, ours, then),
            None => self.give_up(Unavailable::Erased),
            // Ours has waited, and is let go of once theirs is there for good: written again, it is confirmed, or it waits
            // in the place of ours.
            Some(theirs) if first && self.policy.replicas.is_some() => {
                self.save(theirs.version, theirs.session, Then::Decide)
            }
            theirs => {
                if matches!(ours.state, State::Granted { .. }) {
                    self.notes.push(Note::ProfileWasted);
                }
                self.decide(theirs, now)
            }
        }
    }
}
