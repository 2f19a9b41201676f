//! PURE: what happens next for one visitor. The state machine of a flow, without I/O.
//!
//! A flow asks for one thing at a time ([`Command`]) and is told what came of it ([`Event`]); the manager does the asking
//! and telling. One flow runs at a time for a visitor. It can be dropped between any command and its event, as a crash
//! would do, and the next one finds everything it needs in the store. What must hold is held by the property test in
//! `tests/state_machine.rs`, which runs this very code against a model of the server and the store.

use std::time::Duration;

use super::freshness::{Freshness, Schedule};
use super::policy::{OnLost, Policy};
use super::record::{State, VisitorSession};
use super::store::Version;
use crate::clock::Timestamp;
use crate::oauth::{
    AccessToken, AuthorizeError, Grant, RefreshToken, TokenAnswer, TokenError, TokenFingerprint,
    TokenSet,
};
use crate::secret::Secret;

/// What a flow is to bring about: a token that can be used now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Want {
    /// Whether an authorize call may be made for it.
    pub create: bool,
    /// Whether a token that is due for refresh is to be refreshed.
    pub renew: bool,
    /// The token that a resource endpoint rejected: it counts as expired.
    pub rejected: Option<TokenFingerprint>,
}

/// What the flow needs done.
#[derive(Debug)]
pub enum Command {
    /// Load the newest record that there is of the visitor: the store's, or one in memory that waits to be written.
    Load,
    /// Load the store's own record.
    Reload,
    /// Make an authorize call. This creates a profile.
    Authorize,
    /// Exchange the code.
    Exchange(Grant),
    /// Refresh.
    Refresh(RefreshToken),
    /// Write [`Flow::session_to_save`] if the store has `expected`.
    Save {
        /// The version that must be there.
        expected: Option<Version>,
    },
}

/// What came of a [`Command`].
#[derive(Debug)]
pub enum Event {
    /// The record, or that there truly is none.
    Loaded(Option<Loaded>),
    /// The store could not say.
    LoadFailed,
    /// No authorize call was made, since the store could not hold its result.
    AuthorizeWithheld,
    /// The authorize call's result.
    Authorized(Result<Grant, AuthorizeError>),
    /// The exchange's result.
    Exchanged(Result<TokenAnswer, TokenError>),
    /// The refresh's result.
    Refreshed(Result<TokenAnswer, TokenError>),
    /// The write is confirmed.
    Saved(Version),
    /// Another version was there; nothing was written.
    SaveConflict,
    /// Nothing can be said of whether it was written.
    SaveFailed,
}

/// A visitor's record, as [`Command::Load`] and [`Command::Reload`] find it.
#[derive(Debug)]
pub struct Loaded {
    /// What it holds.
    pub session: VisitorSession,
    /// The version that the store has; none if it has no record, or does not answer.
    pub version: Option<Version>,
    /// Whether this is what the store has, rather than something newer that waits in memory to be written.
    pub is_stored: bool,
}

/// Either the next command, or the end.
#[derive(Debug)]
pub enum Step {
    /// Do this and come back.
    Do(Flow, Command),
    /// The flow is over.
    Done(Done),
}

/// How a flow ended.
#[derive(Debug)]
pub struct Done {
    /// The usable token set, or why there is none.
    pub result: Result<TokenSet, Unavailable>,
    /// A session newer than the store's, whose write failed: to be kept in memory and written later.
    pub unsaved: Option<VisitorSession>,
    /// Dressipi did not do its part: back off. The duration is what `Retry-After` asked for.
    pub back_off: Option<Option<Duration>>,
    /// What happened on the way, for counting.
    pub notes: Vec<Note>,
}

/// Why there is no usable token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unavailable {
    /// The visitor has no profile, and this request may not make one.
    NotCreated,
    /// The store cannot be read or written.
    Store,
    /// Dressipi did not do its part.
    Dressipi,
    /// An authorize answer was lost; no other call is made yet, or none any more.
    Unconfirmed,
    /// The token set was declared dead, and policy leaves the visitor anonymous.
    Lost,
    /// The visitor was erased while the flow ran.
    Erased,
    /// The token did not come within the time that a request may wait.
    TimedOut,
    /// The only token is one that a resource endpoint rejected while the flow ran.
    Rejected,
    /// Too many flows are waiting already.
    Busy,
    /// The sidecar's own fault.
    Internal,
}

/// Something worth counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// A code arrived: a profile was made.
    ProfileCreated,
    /// An authorize answer was lost: a profile may have been made that nobody holds a token for.
    AuthorizeUnconfirmed,
    /// A code of ours was not needed, or was refused, or grew too old.
    ProfileWasted,
    /// The server declared a token set dead.
    TokenSetLost,
    /// The server declared a token set dead that another replica had replaced meanwhile.
    TokenSetReplacedElsewhere,
    /// An unreadable answer held a refresh token, which was kept.
    RefreshTokenSalvaged,
}

/// One flow.
#[derive(Debug)]
pub struct Flow {
    policy: Policy,
    want: Want,
    stage: Stage,
    notes: Vec<Note>,
    conflicts: u8,
}

/// Where a flow is.
#[derive(Debug)]
enum Stage {
    /// Waiting for the record.
    Loading,
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
    /// Waiting for a write.
    Saving { session: VisitorSession, then: Then },
}

/// What is known of the stored record beside its state.
#[derive(Debug)]
struct Base {
    version: Option<Version>,
    created_at: Timestamp,
    profiles: u32,
    losses: u32,
    attempts: u32,
    /// The token set that the server declared dead, and when.
    lost: Option<(TokenSet, Timestamp)>,
}

/// What to do when the write is confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
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
}

/// More conflicts than that in one flow mean that something is wrong with the store: the session is kept for later.
const MAX_CONFLICTS: u8 = 8;

// === impl Flow ===

impl Flow {
    /// Begins a flow that brings about a usable token.
    pub fn start(want: Want, policy: Policy) -> (Self, Command) {
        (Self::at(Stage::Loading, want, policy), Command::Load)
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
            stage,
            notes: Vec::new(),
            conflicts: 0,
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
            (Stage::Comparing { ours, .. }, Event::LoadFailed) => {
                self.keep(ours, Err(Unavailable::Store))
            }
            (_, Event::LoadFailed) => self.give_up(Unavailable::Store),
            (Stage::Authorizing { .. }, Event::AuthorizeWithheld) => {
                self.give_up(Unavailable::Store)
            }
            (Stage::Authorizing { base }, Event::Authorized(result)) => {
                self.authorized(base, result, now)
            }
            (Stage::Exchanging { base }, Event::Exchanged(result)) => {
                self.exchanged(base, result, now)
            }
            (Stage::Refreshing { base, tokens }, Event::Refreshed(result)) => {
                self.refreshed(base, tokens, result, now)
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
            return self.authorize(Base::none(now));
        };
        if !is_stored && session.must_be_stored_first() {
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
        if refresh {
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
        if attempts >= self.policy.max_unconfirmed || now < not_before {
            self.give_up(Unavailable::Unconfirmed)
        } else {
            self.authorize(base)
        }
    }

    fn authorize(self, base: Base) -> Step {
        if self.want.create {
            self.ask(Stage::Authorizing { base }, Command::Authorize)
        } else {
            self.give_up(Unavailable::NotCreated)
        }
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

    // --- what the server said ---

    fn authorized(
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
            Err(error) => self.back_off(error.retry_after()),
        }
    }

    fn exchanged(
        mut self,
        base: Base,
        result: Result<TokenAnswer, TokenError>,
        now: Timestamp,
    ) -> Step {
        match result {
            Ok(TokenAnswer {
                access,
                refresh: Some(refresh),
                expires_in,
            }) => {
                let tokens = TokenSet::arrived(access, refresh, expires_in, 0, now);
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

    fn refreshed(
        mut self,
        base: Base,
        old: TokenSet,
        result: Result<TokenAnswer, TokenError>,
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
                let tokens = TokenSet::arrived(access, refresh, expires_in, generation, now);
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

    // --- believing `invalid_grant` ---

    fn doubt_code(mut self, base: Base, record: Option<Loaded>, now: Timestamp) -> Step {
        match record {
            Some(Loaded { version, .. }) if version == base.version => {
                self.notes.push(Note::ProfileWasted);
                self.save_unconfirmed(base, now, Then::Decide)
            }
            None => self.give_up(Unavailable::Erased),
            changed => self.decide(changed, now),
        }
    }

    fn doubt_tokens(mut self, tokens: TokenSet, record: Option<Loaded>, now: Timestamp) -> Step {
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
                    not_before: now,
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

    // --- writing ---

    /// A code is gone without tokens. The first time another one may be asked for at once; after that with a pause.
    fn save_unconfirmed(self, base: Base, now: Timestamp, then: Then) -> Step {
        let pause = match base.attempts {
            0 => Duration::ZERO,
            more => self.pause(more - 1),
        };
        self.save_attempt(base, now + pause, then)
    }

    fn save_attempt(self, mut base: Base, not_before: Timestamp, then: Then) -> Step {
        let attempts = base.attempts.saturating_add(1);
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

    fn pause(&self, attempts: u32) -> Duration {
        self.policy
            .unconfirmed_pause
            .saturating_mul(1 << attempts.min(16))
    }

    fn save(self, expected: Option<Version>, session: VisitorSession, then: Then) -> Step {
        self.ask(Stage::Saving { session, then }, Command::Save { expected })
    }

    fn saved(self, session: VisitorSession, then: Then, version: Version, now: Timestamp) -> Step {
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

    fn save_conflict(mut self, ours: VisitorSession, then: Then) -> Step {
        self.conflicts += 1;
        if self.conflicts > MAX_CONFLICTS {
            return self.keep(ours, Err(Unavailable::Store));
        }
        let stage = Stage::Comparing {
            ours,
            then,
            first: false,
        };
        self.ask(stage, Command::Reload)
    }

    fn save_failed(self, session: VisitorSession, then: Then, now: Timestamp) -> Step {
        let result = match (then, session.tokens()) {
            (Then::Use, Some(tokens)) if self.still_usable(tokens, now) => Ok(tokens.clone()),
            _ => Err(Unavailable::Store),
        };
        self.keep(session, result)
    }

    /// Somebody else wrote. The newer of the two sessions stays; an erased visitor stays erased.
    fn compare(
        mut self,
        ours: VisitorSession,
        then: Then,
        first: bool,
        record: Option<Loaded>,
        now: Timestamp,
    ) -> Step {
        match record {
            Some(theirs) if ours.age() > theirs.session.age() => {
                self.save(theirs.version, ours, then)
            }
            // A session that was never stored, because the store failed: nothing was erased.
            None if first => self.save(None, ours, then),
            None => self.give_up(Unavailable::Erased),
            theirs => {
                if matches!(ours.state, State::Granted { .. }) {
                    self.notes.push(Note::ProfileWasted);
                }
                self.decide(theirs, now)
            }
        }
    }

    // --- ending ---

    fn ask(mut self, stage: Stage, command: Command) -> Step {
        self.stage = stage;
        Step::Do(self, command)
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

// === impl Base ===

impl Base {
    fn none(now: Timestamp) -> Self {
        Self {
            version: None,
            created_at: now,
            profiles: 0,
            losses: 0,
            attempts: 0,
            lost: None,
        }
    }

    fn of(version: Option<Version>, session: &VisitorSession) -> Self {
        Self {
            version,
            created_at: session.created_at,
            profiles: session.profiles,
            losses: session.losses,
            attempts: 0,
            lost: None,
        }
    }

    fn with(&self, state: State) -> VisitorSession {
        VisitorSession {
            created_at: self.created_at,
            profiles: self.profiles,
            losses: self.losses,
            state,
        }
    }
}

// === impl Unavailable ===

impl Unavailable {
    /// The word for metrics and for the `Dressipi-Sidecar` response header.
    pub fn label(self) -> &'static str {
        match self {
            Self::NotCreated => "not-created",
            Self::Store => "store",
            Self::Dressipi => "dressipi",
            Self::Unconfirmed => "unconfirmed",
            Self::Lost => "lost",
            Self::Erased => "erased",
            Self::TimedOut => "timeout",
            Self::Rejected => "rejected",
            Self::Busy => "busy",
            Self::Internal => "internal",
        }
    }
}
