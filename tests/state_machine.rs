//! Invariants 1 to 5 as a property of the state machine: whatever the order of requests, answers, failures, crashes and
//! store outages, for one visitor.
//!
//! The flow under test is the one that the session manager runs. Around it stands a model of the server (codes that work
//! once, rotation with reuse refused), of the store (compare-and-set, outages, writes whose confirmation is lost), and of
//! the process (memory that a crash wipes out).

use std::collections::HashMap;
use std::time::Duration;

use dressipi_sidecar::clock::Timestamp;
use dressipi_sidecar::oauth::{
    AccessToken, AuthorizationCode, AuthorizeError, CodeVerifier, Disturbance, ErrorCode, Grant,
    Misshapen, RefreshToken, TokenAnswer, TokenError, TokenFingerprint, TokenSet,
};
use dressipi_sidecar::secret::Secret;
use dressipi_sidecar::session::flow::{Command, Done, Event, Flow, Loaded, Step, Want};
use dressipi_sidecar::session::{
    Freshness, Policy, Schedule, State, Unavailable, Version, VisitorSession, codec,
};
use proptest::prelude::*;

/// What the outside world does next.
#[derive(Clone, Copy, Debug)]
enum Action {
    /// A request comes; it may make a profile, or not.
    Request { create: bool },
    /// The background refresh looks at the visitor.
    Renew,
    /// A resource endpoint rejects the token in use.
    Reject,
    /// The running flow's command is carried out like this.
    Perform(Outcome),
    /// The process dies and starts again: before the running command, or after it and before its answer.
    Crash { after_effect: bool },
    /// An unsaved session is tried again.
    SaveLate,
    /// The store goes down or comes back.
    StoreDown(bool),
    /// Time passes, in seconds.
    Wait(u16),
}

/// How a command turns out.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Outcome {
    Works,
    /// Nothing gets through.
    NotSent,
    /// It is carried out, and the answer is lost.
    AnswerLost,
    /// 503.
    Unavailable,
    /// `invalid_client`: the sidecar's fault, not the tokens'.
    InvalidClient,
    /// It is carried out, and the answer cannot be read, but for a refresh token.
    Misshapen,
}

#[derive(Default)]
struct Server {
    rotate: bool,
    profiles: u32,
    /// Code → (profile, spent).
    codes: HashMap<String, (u32, bool)>,
    /// Refresh token → (profile, alive).
    refresh: HashMap<String, (u32, bool)>,
    issued: u32,
}

/// The model.
struct World {
    now: Timestamp,
    policy: Policy,
    server: Server,
    /// The store's one record.
    stored: Option<(Version, Vec<u8>)>,
    next_version: u64,
    store_down: bool,
    // The process:
    flow: Option<(Flow, Command)>,
    unsaved: Option<Vec<u8>>,
    cached: Option<TokenSet>,
    rejected: Option<TokenFingerprint>,
    // What must hold:
    /// The refresh token received last, until the server refuses it or a crash comes before it could be stored.
    newest_received: Option<String>,
    /// Every refresh token that was ever stored.
    ever_stored: Vec<String>,
    /// What the server has declared dead.
    refused: Vec<String>,
}

const LIFETIME: Duration = Duration::from_secs(100);

impl Server {
    fn authorize(&mut self) -> Grant {
        self.profiles += 1;
        let code = format!("code-{}", self.profiles);
        self.codes.insert(code.clone(), (self.profiles, false));
        Grant {
            code: AuthorizationCode::new(Secret::new(code)),
            verifier: CodeVerifier::from_stored(Secret::new("v")),
        }
    }

    fn issue(&mut self, profile: u32) -> (AccessToken, RefreshToken) {
        self.issued += 1;
        let (access, refresh) = (
            format!("access-{}-of-{profile}", self.issued),
            format!("refresh-{}", self.issued),
        );
        self.refresh.insert(refresh.clone(), (profile, true));
        (
            AccessToken::new(Secret::new(access)),
            RefreshToken::new(Secret::new(refresh)),
        )
    }

    fn answer(access: AccessToken, refresh: Option<RefreshToken>) -> TokenAnswer {
        TokenAnswer {
            access,
            refresh,
            expires_in: LIFETIME,
        }
    }

    fn exchange(&mut self, code: &str) -> Result<TokenAnswer, TokenError> {
        match self.codes.get_mut(code) {
            Some((profile, spent @ false)) => {
                *spent = true;
                let profile = *profile;
                let (access, refresh) = self.issue(profile);
                Ok(Self::answer(access, Some(refresh)))
            }
            _ => Err(TokenError::InvalidGrant),
        }
    }

    fn refresh(&mut self, token: &str) -> Result<TokenAnswer, TokenError> {
        match self.refresh.get(token) {
            Some((profile, true)) => {
                let profile = *profile;
                let (access, new) = self.issue(profile);
                if self.rotate {
                    self.refresh.insert(token.to_owned(), (profile, false));
                    Ok(Self::answer(access, Some(new)))
                } else {
                    self.refresh.remove(new.secret().expose());
                    Ok(Self::answer(access, None))
                }
            }
            _ => Err(TokenError::InvalidGrant),
        }
    }
}

impl World {
    fn new(rotate: bool) -> Self {
        Self {
            now: Timestamp::from_secs(1_000_000),
            policy: Policy::default(),
            server: Server {
                rotate,
                ..Server::default()
            },
            stored: None,
            next_version: 1,
            store_down: false,
            flow: None,
            unsaved: None,
            cached: None,
            rejected: None,
            newest_received: None,
            ever_stored: Vec::new(),
            refused: Vec::new(),
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Request { create } => self.request(Want {
                create,
                ..Want::default()
            }),
            Action::Renew => self.begin(Want {
                renew: true,
                ..Want::default()
            }),
            Action::Reject => {
                if let Some(tokens) = self.cached.take() {
                    self.rejected = Some(tokens.access.fingerprint());
                    self.begin(Want::default());
                }
            }
            Action::Perform(outcome) => self.perform(outcome, false),
            Action::Crash { after_effect } => {
                if after_effect {
                    self.perform(Outcome::Works, true);
                }
                self.crash();
            }
            Action::SaveLate => {
                if self.flow.is_none()
                    && let Some(unsaved) = &self.unsaved
                {
                    self.flow = Some(Flow::save_late(
                        codec::decode(unsaved).unwrap(),
                        self.policy,
                    ));
                }
            }
            Action::StoreDown(down) => self.store_down = down,
            Action::Wait(secs) => self.now = self.now + Duration::from_secs(secs.into()),
        }
    }

    fn request(&mut self, want: Want) {
        match &self.cached {
            Some(tokens)
                if Schedule::new(tokens, &self.policy).at(self.now) != Freshness::Expired =>
            {
                let tokens = tokens.clone();
                self.check_use(&tokens);
            }
            _ => self.begin(want),
        }
    }

    fn begin(&mut self, want: Want) {
        if self.flow.is_none() {
            let want = Want {
                rejected: self.rejected,
                ..want
            };
            self.flow = Some(Flow::start(want, self.policy));
        }
    }

    fn crash(&mut self) {
        self.flow = None;
        self.cached = None;
        self.rejected = None;
        if self.unsaved.take().is_some() || self.newest_received != self.stored_refresh() {
            // What was received and could not be stored before the crash is gone; no promise covers that.
            self.newest_received = self.stored_refresh();
        }
    }

    fn stored_refresh(&self) -> Option<String> {
        let session = codec::decode(&self.stored.as_ref()?.1).unwrap();
        session
            .tokens()
            .map(|tokens| tokens.refresh.secret().expose().to_owned())
    }

    // --- carrying out commands ---

    fn perform(&mut self, outcome: Outcome, crashing: bool) {
        let Some((flow, command)) = self.flow.take() else {
            return;
        };
        let event = match command {
            Command::Load => self.load(true),
            Command::Reload => self.load(false),
            Command::Save { expected } => self.save(&flow, expected, outcome),
            Command::Authorize if self.unsaved.is_some() => Event::AuthorizeWithheld,
            Command::Authorize => self.authorize(outcome),
            Command::Exchange(grant) => {
                let code = grant.code.secret().expose().to_owned();
                self.check_code_is_stored(&code);
                let answer = self.token(outcome, &code, |server| server.exchange(&code));
                Event::Exchanged(answer, self.now)
            }
            Command::Refresh(token) => {
                let token = token.secret().expose().to_owned();
                let answer = self.token(outcome, &token, |server| server.refresh(&token));
                Event::Refreshed(answer, self.now)
            }
        };
        if crashing {
            return;
        }
        match flow.on(event, self.now) {
            Step::Do(flow, command) => self.flow = Some((flow, command)),
            Step::Done(done) => self.conclude(done),
        }
    }

    fn load(&self, newest: bool) -> Event {
        let decode = |bytes: &Vec<u8>| codec::decode(bytes).unwrap();
        let stored = self.stored.as_ref().filter(|_| !self.store_down);
        let version = stored.map(|(version, _)| *version);
        let stored = stored.map(|(_, bytes)| decode(bytes));
        let unsaved = self.unsaved.as_ref().filter(|_| newest).map(decode);
        let newer = unsaved.filter(|unsaved| {
            stored
                .as_ref()
                .is_none_or(|stored| unsaved.age() > stored.age())
        });
        match (newer, stored) {
            (Some(session), _) => Event::Loaded(Some(Loaded {
                session,
                version,
                is_stored: false,
            })),
            (None, _) if self.store_down => Event::LoadFailed,
            (None, stored) => Event::Loaded(stored.map(|session| Loaded {
                session,
                version,
                is_stored: true,
            })),
        }
    }

    fn save(&mut self, flow: &Flow, expected: Option<Version>, outcome: Outcome) -> Event {
        let session = flow
            .session_to_save()
            .expect("a flow that asks for a write has something to write");
        if self.store_down || outcome == Outcome::NotSent {
            return Event::SaveFailed;
        }
        if self.stored.as_ref().map(|(version, _)| *version) != expected {
            return Event::SaveConflict;
        }
        self.check_replacement(session);
        let version = Version(self.next_version);
        self.next_version += 1;
        self.stored = Some((version, codec::encode(session).to_vec()));
        self.ever_stored.extend(self.stored_refresh());
        if outcome == Outcome::AnswerLost {
            return Event::SaveFailed;
        }
        self.unsaved = None;
        Event::Saved(version)
    }

    fn authorize(&mut self, outcome: Outcome) -> Event {
        self.check_authorize();
        let disturbed = |disturbance| Err(AuthorizeError::Disturbed(disturbance));
        Event::Authorized(match outcome {
            Outcome::Works => Ok(self.server.authorize()),
            Outcome::NotSent => disturbed(Disturbance::NotSent),
            Outcome::Unavailable => disturbed(Disturbance::Unavailable {
                status: 503,
                retry_after: None,
            }),
            Outcome::InvalidClient => Err(AuthorizeError::Refused(ErrorCode::InvalidClient)),
            Outcome::AnswerLost => {
                self.server.authorize();
                disturbed(Disturbance::AnswerLost)
            }
            Outcome::Misshapen => {
                self.server.authorize();
                Err(AuthorizeError::StateMismatch)
            }
        })
    }

    fn token(
        &mut self,
        outcome: Outcome,
        presented: &str,
        call: impl FnOnce(&mut Server) -> Result<TokenAnswer, TokenError>,
    ) -> Result<TokenAnswer, TokenError> {
        let disturbed = |disturbance| Err(TokenError::Disturbed(disturbance));
        match outcome {
            Outcome::NotSent => return disturbed(Disturbance::NotSent),
            Outcome::Unavailable => {
                return disturbed(Disturbance::Unavailable {
                    status: 500,
                    retry_after: None,
                });
            }
            Outcome::InvalidClient => return Err(TokenError::Refused(ErrorCode::InvalidClient)),
            Outcome::Works | Outcome::AnswerLost | Outcome::Misshapen => {}
        }
        let answer = call(&mut self.server);
        match (&answer, outcome) {
            (_, Outcome::AnswerLost) => return disturbed(Disturbance::AnswerLost),
            (Err(TokenError::InvalidGrant), _) => {
                self.refused.push(presented.to_owned());
                if self.newest_received.as_deref() == Some(presented) {
                    self.newest_received = None;
                }
            }
            (
                Ok(TokenAnswer {
                    refresh: Some(refresh),
                    ..
                }),
                _,
            ) => {
                self.newest_received = Some(refresh.secret().expose().to_owned());
            }
            _ => {}
        }
        match (answer, outcome) {
            (Ok(TokenAnswer { refresh, .. }), Outcome::Misshapen) => Err(TokenError::Misshapen {
                problem: Misshapen::Member("expires_in"),
                refresh,
            }),
            (answer, _) => answer,
        }
    }

    fn conclude(&mut self, done: Done) {
        if let Some(session) = &done.unsaved {
            self.unsaved = Some(codec::encode(session).to_vec());
        } else if let (Some(unsaved), Some((_, stored))) = (&self.unsaved, &self.stored) {
            // As the manager does after a late save: overtaken by something newer, or written after all.
            let (unsaved, stored) = (
                codec::decode(unsaved).unwrap(),
                codec::decode(stored).unwrap(),
            );
            if stored.age() >= unsaved.age() && !self.store_down {
                self.unsaved = None;
            }
        }
        // As the manager does: a token that was rejected while the flow ran is not used.
        if let Ok(tokens) = done.result.filter_rejected(self.rejected) {
            self.check_use(&tokens);
            self.cached = Some(tokens);
        }
        self.check_nothing_lost();
    }

    // --- what must hold ---

    /// Invariants 1, 2 and 4: nobody who has a live token set or an unspent code is authorized again.
    fn check_authorize(&self) {
        let sessions = [
            self.stored.as_ref().map(|(_, bytes)| bytes),
            self.unsaved.as_ref(),
        ];
        for session in sessions
            .into_iter()
            .flatten()
            .map(|bytes| codec::decode(bytes).unwrap())
        {
            match session.state {
                State::Active(tokens) => panic!("authorize for a visitor with {tokens:?}"),
                State::Granted {
                    grant, granted_at, ..
                } => {
                    let too_old = self.now.since(granted_at) > self.policy.max_code_age;
                    let refused = self
                        .refused
                        .iter()
                        .any(|code| code == grant.code.secret().expose());
                    assert!(too_old || refused, "authorize for a visitor with a code");
                }
                State::Lost { tokens, .. } => assert!(
                    self.refused
                        .iter()
                        .any(|token| token == tokens.refresh.secret().expose()),
                    "a token set ended that the server never refused"
                ),
                State::Unconfirmed {
                    attempts,
                    not_before,
                } => {
                    assert!(self.now >= not_before && attempts < self.policy.max_unconfirmed);
                }
            }
        }
    }

    /// Invariants 3 and 4: a stored token set gives way to a newer one, or to the server's refusal.
    fn check_replacement(&self, new: &VisitorSession) {
        let Some((_, old)) = &self.stored else { return };
        let old = codec::decode(old).unwrap();
        assert!(new.profiles >= old.profiles, "an older profile came back");
        let State::Active(old_tokens) = &old.state else {
            return;
        };
        match &new.state {
            State::Active(new_tokens) => assert!(
                new.profiles > old.profiles || new_tokens.generation > old_tokens.generation,
                "an older token set replaced a newer one"
            ),
            State::Lost { tokens, .. } => {
                // Or a newer one was refused that never reached the store.
                let newer =
                    tokens.generation > old_tokens.generation || new.profiles > old.profiles;
                assert!(tokens.refresh == old_tokens.refresh || newer);
                assert!(
                    self.refused
                        .iter()
                        .any(|token| token == tokens.refresh.secret().expose())
                );
            }
            other => panic!("a token set gave way to {other:?}"),
        }
    }

    /// Invariant 3: the refresh token received last is stored, or in memory waiting to be.
    fn check_nothing_lost(&self) {
        let Some(newest) = &self.newest_received else {
            return;
        };
        let unsaved = self
            .unsaved
            .as_ref()
            .map(|bytes| codec::decode(bytes).unwrap());
        let unsaved = unsaved
            .as_ref()
            .and_then(|session| session.tokens())
            .map(|tokens| tokens.refresh.secret().expose().to_owned());
        assert!(
            self.stored_refresh().as_ref() == Some(newest) || unsaved.as_ref() == Some(newest),
            "{newest} is neither stored nor kept"
        );
    }

    /// Invariant 2: a code is stored before it is exchanged.
    fn check_code_is_stored(&self, code: &str) {
        let session = codec::decode(&self.stored.as_ref().expect("a record").1).unwrap();
        let State::Granted { grant, .. } = session.state else {
            panic!("an exchange of a code that is not stored");
        };
        assert_eq!(grant.code.secret().expose(), code);
    }

    /// Invariants 2 and 5: what is used is stored (or came of a refresh), unexpired, not rejected, and of the profile that the visitor has.
    fn check_use(&self, tokens: &TokenSet) {
        assert!(self.now < tokens.expires_at, "an expired token was used");
        assert_ne!(
            self.rejected,
            Some(tokens.access.fingerprint()),
            "a rejected token was used"
        );
        let refresh = tokens.refresh.secret().expose();
        assert!(
            tokens.generation > 0 || self.ever_stored.iter().any(|stored| stored == refresh),
            "first tokens were used before they were stored"
        );
        let (profile, _) = self.server.refresh[tokens.refresh.secret().expose()];
        let name = tokens.access.secret().expose();
        assert!(
            name.ends_with(&format!("-of-{profile}")),
            "{name} is not of profile {profile}"
        );
    }

    /// When all is well again, the visitor gets a token, unless too many answers were lost for it.
    fn heal(&mut self) {
        self.store_down = false;
        for _ in 0..8 {
            while self.flow.is_some() {
                self.perform(Outcome::Works, false);
            }
            self.act(Action::SaveLate);
            while self.flow.is_some() {
                self.perform(Outcome::Works, false);
            }
            self.act(Action::Wait(3600));
            self.request(Want {
                create: true,
                ..Want::default()
            });
        }
        while self.flow.is_some() {
            self.perform(Outcome::Works, false);
        }
        assert!(
            self.unsaved.is_none(),
            "a session stays unsaved though the store works"
        );
        if self.cached.is_none() {
            let session = codec::decode(&self.stored.as_ref().expect("a record").1).unwrap();
            let (State::Unconfirmed { attempts, .. } | State::Lost { attempts, .. }) =
                session.state
            else {
                panic!("no token although all is well: {session:?}");
            };
            assert!(attempts >= self.policy.max_unconfirmed);
        }
    }
}

trait FilterRejected {
    fn filter_rejected(self, rejected: Option<TokenFingerprint>) -> Self;
}

impl FilterRejected for Result<TokenSet, Unavailable> {
    fn filter_rejected(self, rejected: Option<TokenFingerprint>) -> Self {
        self.and_then(
            |tokens| match rejected == Some(tokens.access.fingerprint()) {
                true => Err(Unavailable::Rejected),
                false => Ok(tokens),
            },
        )
    }
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        6 => Just(Outcome::Works),
        1 => Just(Outcome::NotSent),
        1 => Just(Outcome::AnswerLost),
        1 => Just(Outcome::Unavailable),
        1 => Just(Outcome::InvalidClient),
        1 => Just(Outcome::Misshapen),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => any::<bool>().prop_map(|no| Action::Request { create: !no }),
        1 => Just(Action::Renew),
        1 => Just(Action::Reject),
        16 => outcome().prop_map(Action::Perform),
        1 => any::<bool>().prop_map(|after_effect| Action::Crash { after_effect }),
        1 => Just(Action::SaveLate),
        1 => any::<bool>().prop_map(Action::StoreDown),
        2 => (1_u16..200).prop_map(Action::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(4000), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn invariants_1_to_5_hold_for_any_interleaving(rotate: bool, actions in prop::collection::vec(action(), 1..160)) {
        let mut world = World::new(rotate);
        for action in actions {
            world.act(action);
        }
        world.heal();
    }
}

/// Without lost answers and crashes there is nothing to forgive: one profile.
#[test]
fn invariant_1_a_visitor_whose_answers_arrive_has_one_profile() {
    let mut world = World::new(true);
    for _ in 0..50 {
        world.request(Want {
            create: true,
            ..Want::default()
        });
        while world.flow.is_some() {
            world.perform(Outcome::Unavailable, false);
            world.act(Action::Wait(7));
            world.request(Want {
                create: true,
                ..Want::default()
            });
            while world.flow.is_some() {
                world.perform(Outcome::Works, false);
            }
        }
        world.act(Action::Wait(60));
    }
    assert_eq!(world.server.profiles, 1);
    assert!(
        world.server.issued > 10,
        "and it was refreshed: {}",
        world.server.issued
    );
}

#[test]
fn a_flow_that_may_not_create_says_so() {
    let (flow, _) = Flow::start(Want::default(), Policy::default());
    match flow.on(Event::Loaded(None), Timestamp::default()) {
        Step::Done(done) => assert_eq!(done.result.unwrap_err(), Unavailable::NotCreated),
        Step::Do(_, command) => panic!("{command:?}"),
    }
}
