//! PURE: what happens next for one visitor. The state machine of a flow, without I/O.
//!
//! A flow asks for one thing at a time ([`Command`]) and is told what came of it ([`Event`]); the manager does the asking
//! and telling. One flow runs at a time for a visitor. It can be dropped between any command and its event, as a crash
//! would do, and the next one finds everything it needs in the store. What must hold is held by the property test in
//! `tests/state_machine.rs`, which runs this very code against a model of the server and the store.
//!
//! Where other replicas use the store too, a flow is the only one for its visitor from its first OAuth call on: it has the
//! visitor's lease. A lease can end under a flow whose process stands still, so nothing irrevocable follows from what
//! another flow may have caused without a grace (`lost_grace`) to learn of it.

mod answers;
mod base;
mod protocol;
mod writing;

pub use protocol::{Command, Done, Event, Loaded, Note, Step, Unavailable, Want};

use std::time::Duration;

use self::base::Base;
use super::freshness::{Freshness, Schedule};
use super::policy::{OnLost, Policy};
use super::record::{State, VisitorSession};
use crate::clock::Timestamp;
use crate::oauth::TokenSet;

/// One flow. `answers` and `writing` hold what follows from an answer and from a write; here is the rest.
#[derive(Debug)]
pub struct Flow {
    policy: Policy,
    want: Want,
    /// What the visitor carries, in case that the store truly has no record.
    carried: Option<Box<VisitorSession>>,
    stage: Stage,
    notes: Vec<Note>,
    conflicts: u8,
    /// Whether this flow is the only one for its visitor: it has the lease, or needs none.
    alone: bool,
    /// How often its lease ended while it was at work.
    leases_ended: u8,
    /// Since when it waits for another replica's flow.
    waiting_since: Option<Timestamp>,
    /// Why it makes no profile though one is wanted: the call that it had announced was not made.
    unmade: Option<Unavailable>,
}

/// Where a flow is.
#[derive(Debug)]
enum Stage {
    /// Waiting for the record.
    Loading,
    /// Waiting for the lease. `fallback`: tokens that still do, if it cannot be had.
    Acquiring { fallback: Option<TokenSet> },
    /// Waiting for the record, to see whether `ours` or the stored one is newer. `first`: nothing was tried before.
    Comparing {
        ours: VisitorSession,
        then: Then,
        first: bool,
    },
    /// Waiting for the authorize call.
    Authorizing { base: Base },
    /// Waiting for the exchange.
    Exchanging { base: Base },
    /// Waiting for the refresh of `tokens`.
    Refreshing { base: Base, tokens: TokenSet },
    /// The code was declared dead: waiting for the record, before that is believed.
    DoubtingCode { base: Base },
    /// `tokens` were declared dead: waiting for the record, before that is believed.
    DoubtingTokens { tokens: TokenSet },
    /// An announcement may have been written or not, and no call follows from it: waiting for the record, to take it back.
    TakingBack { announced: VisitorSession },
    /// Waiting for a write.
    Saving { session: VisitorSession, then: Then },
}

/// What to do when the write is confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// Make the authorize call that the write has announced.
    Authorize,
    /// Go on from the session that the visitor carried, now that it is written.
    Recover,
    /// Exchange the code that was written.
    Exchange,
    /// Use the tokens of an exchange: not before they are stored, since the stored code is worth nothing any more.
    UseOnceStored,
    /// Use the tokens of a refresh: even if they cannot be stored yet, since the stored ones are worth nothing either.
    Use,
    /// Look at what was written and go on from there.
    Decide,
    /// Give up for now, Dressipi being the reason.
    BackOff(Option<Duration>),
    /// The write has taken an announcement back, since no profile was made. That must not stand in the way of what others have announced
    /// meanwhile: it is written where the announcement still lies, or not at all.
    EndUnmade(End),
}

/// How a flow ends that has made no profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Give up for now, Dressipi being the reason.
    BackOff(Option<Duration>),
    /// Give up for now.
    GiveUp(Unavailable),
}

/// A flow whose lease ends more often than that while it is at work is on a machine that cannot do the work.
const MAX_LEASES_ENDED: u8 = 3;
/// A flow does not wait for other replicas' flows for ever: whoever asks next begins another one.
const MAX_WAIT_FOR_OTHERS: Duration = Duration::from_secs(60);

// === impl Flow ===

impl Flow {
    /// Begins a flow that brings about a usable token.
    pub fn start(want: Want, policy: Policy) -> (Self, Command) {
        (Self::at(Stage::Loading, want, policy), Command::Load)
    }

    /// Begins a flow for a visitor of whom the store had no profile a moment ago. Where replicas share the store, a look that says so is
    /// worth nothing without the lease, and with the lease comes the record: so that is the first step.
    pub fn start_absent(want: Want, policy: Policy) -> (Self, Command) {
        if policy.replicas.is_none() {
            return Self::start(want, policy);
        }
        let stage = Stage::Acquiring { fallback: None };
        (Self::at(stage, want, policy), Command::Acquire)
    }

    /// Begins a flow for a visitor whom nobody can know: one whose id was made a moment ago, for the request that wants the profile.
    /// There is no record to look for; with replicas the lease is taken all the same, since the id will be known before the flow's end.
    pub fn start_minted(want: Want, policy: Policy, now: Timestamp) -> (Self, Command) {
        if policy.replicas.is_some() {
            return Self::start_absent(want, policy);
        }
        let base = Base::none(now);
        let stage = Stage::Authorizing { base };
        (Self::at(stage, want, policy), Command::Authorize)
    }

    /// What the visitor carries in the recovery cookie: it is used if the store truly has no record, and for nothing else.
    #[must_use]
    pub fn or_recover(self, carried: Option<VisitorSession>) -> Self {
        let carried = carried.map(Box::new);
        Self { carried, ..self }
    }

    /// What the visitor carries, as long as it may still be needed.
    pub fn carried(&self) -> Option<&VisitorSession> {
        self.carried.as_deref()
    }

    /// What the visitor carries is from before they were erased: it brings nobody back.
    pub fn leave_behind(&mut self) {
        self.carried = None;
    }

    /// Begins a flow that writes a session which could not be written before.
    pub fn save_late(session: VisitorSession, policy: Policy) -> (Self, Command) {
        let stage = Stage::Comparing {
            ours: session,
            then: Then::Decide,
            first: true,
        };
        (Self::at(stage, Want::default(), policy), Command::Reload)
    }

    fn at(stage: Stage, want: Want, policy: Policy) -> Self {
        Self {
            policy,
            want,
            carried: None,
            stage,
            notes: Vec::new(),
            conflicts: 0,
            alone: policy.replicas.is_none(),
            leases_ended: 0,
            waiting_since: None,
            unmade: None,
        }
    }

    /// The session that [`Command::Save`] asks to write.
    pub fn session_to_save(&self) -> Option<&VisitorSession> {
        match &self.stage {
            Stage::Saving { session, .. } => Some(session),
            _ => None,
        }
    }

    /// Tells the flow what came of its last command, at `now`.
    pub fn on(mut self, event: Event, now: Timestamp) -> Step {
        let stage = std::mem::replace(&mut self.stage, Stage::Loading);
        match (stage, event) {
            (Stage::Loading, Event::Loaded(record)) => self.decide(record, now),
            (Stage::Comparing { ours, then, first }, Event::Loaded(record)) => {
                self.compare(ours, then, first, record, now)
            }
            (Stage::DoubtingCode { base }, Event::Loaded(record)) => {
                self.doubt_code(base, record, now)
            }
            (Stage::DoubtingTokens { tokens }, Event::Loaded(record)) => {
                self.doubt_tokens(tokens, record, now)
            }
            (Stage::Acquiring { .. }, Event::Acquired(record)) => {
                self.alone = true;
                self.decide(record, now)
            }
            (
                Stage::Acquiring {
                    fallback: Some(tokens),
                },
                Event::Held | Event::LoadFailed,
            ) if self.still_usable(&tokens, now) => self.done(Ok(tokens)),
            (Stage::Acquiring { .. }, Event::Held) => self.wait(now),
            (Stage::Refreshing { tokens, .. }, Event::LeaseEnded) => {
                let fallback = self.still_usable(&tokens, now).then_some(tokens);
                self.acquire_again(fallback)
            }
            (Stage::Authorizing { .. } | Stage::Exchanging { .. }, Event::LeaseEnded) => {
                self.acquire_again(None)
            }
            (Stage::TakingBack { announced }, Event::Loaded(record)) => {
                self.take_back(announced, record, now)
            }
            (Stage::Comparing { ours, .. }, Event::LoadFailed) => {
                self.keep(ours, Err(Unavailable::Store))
            }
            (_, Event::LoadFailed) => self.give_up(Unavailable::Store),
            (Stage::Authorizing { base }, Event::AuthorizeWithheld) => {
                self.not_authorized(base, End::GiveUp(Unavailable::Store), now)
            }
            (Stage::Authorizing { base }, Event::Authorized(result)) => {
                self.authorized(base, result, now)
            }
            (Stage::Exchanging { base }, Event::Exchanged(result, asked_at)) => {
                self.exchanged(base, result, asked_at, now)
            }
            (Stage::Refreshing { base, tokens }, Event::Refreshed(result, asked_at)) => {
                self.refreshed(base, tokens, result, asked_at, now)
            }
            (Stage::Saving { session, then }, Event::Saved(version)) => {
                self.saved(session, then, version, now)
            }
            (Stage::Saving { session, then }, Event::SaveConflict) => {
                self.save_conflict(session, then)
            }
            (Stage::Saving { session, then }, Event::SaveFailed) => {
                self.save_failed(session, then, now)
            }
            // An answer to a question that was not asked: the shell's mistake, and nothing may follow from it.
            _ => self.give_up(Unavailable::Internal),
        }
    }

    // --- deciding ---

    fn decide(mut self, record: Option<Loaded>, now: Timestamp) -> Step {
        let Some(Loaded {
            session,
            version,
            is_stored,
        }) = record
        else {
            return match self.carried.take() {
                Some(carried) => self.recover(carried),
                None => self.authorize(Base::none(now), now),
            };
        };
        // With other replicas, nothing is built on what only this process knows: if it died, two steps would be lost.
        let must_be_stored =
            session.must_be_stored_first() || self.alone && self.policy.replicas.is_some();
        if !is_stored && must_be_stored {
            return self.save(version, session, Then::Decide);
        }
        let mut base = Base::of(version, &session);
        match session.state {
            State::Unconfirmed {
                attempts,
                not_before,
            } => self.authorize_again(base, attempts, not_before, now),
            State::Lost {
                tokens,
                lost_at,
                attempts,
                not_before,
            } => match self.policy.on_lost {
                OnLost::Anonymous => self.give_up(Unavailable::Lost),
                // Perhaps another replica holds the successor.
                OnLost::Recreate if attempts == 0 && now < not_before => {
                    self.give_up(Unavailable::Lost)
                }
                OnLost::Recreate => {
                    base.lost = Some((tokens, lost_at));
                    self.authorize_again(base, attempts, not_before, now)
                }
            },
            State::Granted {
                granted_at,
                attempts,
                ..
            } if now.since(granted_at) > self.policy.max_code_age => {
                self.notes.push(Note::ProfileWasted);
                base.attempts = attempts;
                self.save_unconfirmed(base, now, Then::Decide)
            }
            State::Granted { .. } if !self.alone => self.acquire(None),
            State::Granted {
                grant, attempts, ..
            } => {
                base.attempts = attempts;
                self.ask(Stage::Exchanging { base }, Command::Exchange(grant))
            }
            State::Active(tokens) => self.use_or_refresh(base, tokens, now),
        }
    }

    fn use_or_refresh(self, base: Base, tokens: TokenSet, now: Timestamp) -> Step {
        let refresh = match Schedule::new(&tokens, &self.policy).at(now) {
            Freshness::Expired => true,
            Freshness::RefreshDue => self.want.renew || self.is_rejected(&tokens),
            Freshness::Fresh => self.is_rejected(&tokens),
        };
        if refresh && !self.alone {
            let fallback = self.still_usable(&tokens, now).then_some(tokens);
            self.acquire(fallback)
        } else if refresh {
            let command = Command::Refresh(tokens.refresh.clone());
            self.ask(Stage::Refreshing { base, tokens }, command)
        } else {
            self.done(Ok(tokens))
        }
    }

    fn authorize_again(
        self,
        mut base: Base,
        attempts: u32,
        not_before: Timestamp,
        now: Timestamp,
    ) -> Step {
        base.attempts = attempts;
        if now < not_before && self.want.create && !self.alone {
            // Perhaps the call is under way at another replica: then its end is waited for.
            self.acquire(None)
        } else if attempts >= self.policy.max_unconfirmed || now < not_before {
            self.give_up(Unavailable::Unconfirmed)
        } else {
            self.authorize(base, now)
        }
    }

    /// The store has lost the visitor, or never had the cookie's: no profile is made, whoever asks.
    fn recover(mut self, carried: Box<VisitorSession>) -> Step {
        if !self.alone {
            self.carried = Some(carried);
            return self.acquire(None);
        }
        self.save(None, *carried, Then::Recover)
    }

    /// Where there are other replicas, the call is announced in the store first: one that loses its way to the store with a
    /// code in hand has the grace to come back with it, and one that dies has not made a call that nobody knows of.
    fn authorize(self, base: Base, now: Timestamp) -> Step {
        match self.want.create {
            false => {
                let reason = self.unmade.unwrap_or(Unavailable::NotCreated);
                self.give_up(reason)
            }
            true if !self.alone => self.acquire(None),
            true if self.policy.replicas.is_some() => {
                let not_before = now + self.doubt();
                self.save_attempt(base, not_before, Then::Authorize)
            }
            true => self.ask(Stage::Authorizing { base }, Command::Authorize),
        }
    }

    // --- being the only one ---

    /// Before an OAuth call: whatever was decided is decided again when the lease is ours, on the record as of then.
    fn acquire(self, fallback: Option<TokenSet>) -> Step {
        self.ask(Stage::Acquiring { fallback }, Command::Acquire)
    }

    fn acquire_again(mut self, fallback: Option<TokenSet>) -> Step {
        self.leases_ended += 1;
        self.alone = false;
        if self.leases_ended > MAX_LEASES_ENDED {
            return self.done(fallback.ok_or(Unavailable::TimedOut));
        }
        self.acquire(fallback)
    }

    fn wait(mut self, now: Timestamp) -> Step {
        let since = *self.waiting_since.get_or_insert(now);
        if now.since(since) > MAX_WAIT_FOR_OTHERS {
            return self.give_up(Unavailable::TimedOut);
        }
        self.ask(Stage::Loading, Command::Await)
    }

    /// How long `invalid_grant` may be another replica's doing.
    fn doubt(&self) -> Duration {
        self.policy
            .replicas
            .map_or(Duration::ZERO, |replicas| replicas.lost_grace)
    }

    fn is_rejected(&self, tokens: &TokenSet) -> bool {
        self.want
            .rejected
            .is_some_and(|rejected| rejected == tokens.access.fingerprint())
    }

    /// Whether the old tokens do, when new ones did not come.
    fn still_usable(&self, tokens: &TokenSet, now: Timestamp) -> bool {
        !self.is_rejected(tokens)
            && Schedule::new(tokens, &self.policy).at(now) != Freshness::Expired
    }

    // --- ending ---

    fn ask(mut self, stage: Stage, command: Command) -> Step {
        self.stage = stage;
        Step::Do(self, command)
    }

    /// Ends it where it is: its visitor has been erased.
    pub fn erased(self) -> Done {
        self.finish(Err(Unavailable::Erased))
    }

    fn finish(self, result: Result<TokenSet, Unavailable>) -> Done {
        Done {
            result,
            unsaved: None,
            back_off: None,
            notes: self.notes,
        }
    }

    fn done(self, result: Result<TokenSet, Unavailable>) -> Step {
        Step::Done(self.finish(result))
    }

    /// What there is by now is used, and nothing is made: somebody else has gone on.
    fn use_what_there_is(mut self, end: End) -> Step {
        self.unmade = Some(match end {
            End::BackOff(_) => Unavailable::Dressipi,
            End::GiveUp(reason) => reason,
        });
        self.want.create = false;
        self.ask(Stage::Loading, Command::Load)
    }

    fn end(self, end: End) -> Step {
        match end {
            End::BackOff(retry_after) => self.back_off(retry_after),
            End::GiveUp(reason) => self.give_up(reason),
        }
    }

    fn give_up(self, reason: Unavailable) -> Step {
        self.done(Err(reason))
    }

    fn back_off(self, retry_after: Option<Duration>) -> Step {
        let mut done = self.finish(Err(Unavailable::Dressipi));
        done.back_off = Some(retry_after);
        Step::Done(done)
    }

    fn keep(self, session: VisitorSession, result: Result<TokenSet, Unavailable>) -> Step {
        let mut done = self.finish(result);
        done.unsaved = Some(session);
        Step::Done(done)
    }
}
