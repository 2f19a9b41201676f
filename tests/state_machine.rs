//! Invariants 1 to 5 as a property of the state machine: whatever the order of requests, answers, failures, crashes and
//! store outages, for one visitor, with one process and with several on one store.
//!
//! The flow under test is the one that the session manager runs. Around it stands a model of the server (codes that work
//! once, rotation with reuse refused), of the store (compare-and-set, leases, outages for one or for all, writes whose
//! confirmation is lost), and of the processes (memory that a crash wipes out, pauses of any length at any point).

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
    Freshness, Policy, Replicas, Schedule, State, Unavailable, Version, VisitorSession, codec,
};
use proptest::prelude::*;

/// What the outside world does next.
#[derive(Clone, Copy, Debug)]
enum Action {
    /// A request comes; it may make a profile, or not; and it brings the recovery cookie, or not. (All that follows is about one
    /// of the processes.)
    Request { create: bool, carry: bool },
    /// An answer sets the recovery cookie.
    SetCookie,
    /// The store loses everything.
    Wipe,
    /// The store loses what was not confirmed: another server takes over.
    Takeover,
    /// The background refresh looks at the visitor.
    Renew,
    /// A resource endpoint rejects the token in use.
    Reject,
    /// The running flow's command is carried out like this.
    Perform(Outcome),
    /// The same, and the process was stopped between its last look at its lease and the call.
    PerformLate(Outcome),
    /// The process dies and starts again: before the running command, or after it and before its answer.
    Crash { after_effect: bool },
    /// An unsaved session is tried again.
    SaveLate,
    /// The process loses its way to the store, or finds it.
    Cut(bool),
    /// The store goes down or comes back, for all.
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
    /// The store's one record, and the one that was confirmed last.
    stored: Option<(Version, Vec<u8>)>,
    confirmed: Option<(Version, Vec<u8>)>,
    next_version: u64,
    store_down: bool,
    /// Which process has the lease, until when.
    lease: Option<(usize, Timestamp)>,
    processes: Vec<Process>,
    /// The process that acts.
    at: usize,
    // What must hold:
    /// The refresh token received last with its profile, until the server refuses it or a crash comes before it could be
    /// stored.
    newest_received: Option<(u32, String)>,
    received_by: usize,
    /// The newest profile whose code was stored: tokens of older ones do not count any more.
    profile: u32,
    /// Every refresh token and code that was ever stored.
    ever_stored: Vec<String>,
    /// What the server has declared dead.
    refused: Vec<String>,
    /// What is in the visitor's recovery cookie.
    browser: Option<Vec<u8>>,
    /// Whether a flow was ever begun for the visitor.
    known: bool,
    /// Whether the store has ever lost everything: then what it holds afterwards is what counts.
    wiped: bool,
    /// Whether the store has ever lost a code, or what came of it: then two profiles may be counted as one, and
    /// the one that is further along in the store stays. To move the visitor to the other one, who has seen none of it, would be worse.
    forgot_a_profile: bool,
}

/// What a crash wipes out.
#[derive(Default)]
struct Process {
    flow: Option<(Flow, Command)>,
    unsaved: Option<Vec<u8>>,
    cached: Option<TokenSet>,
    rejected: Option<TokenFingerprint>,
    cut: bool,
    /// The refresh token that the running flow may fall back on, as long as the store has no record.
    carried: Option<String>,
    /// Whether the running flow was told that there is no record.
    told_of_none: bool,
    /// Whether the running flow writes what could not be written before.
    saves_late: bool,
    /// Whether the store lost everything under the running flow, which cannot tell that from an erasure.
    wiped_under: bool,
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

impl Process {
    fn start(&mut self, flow: (Flow, Command), carried: Option<String>) {
        self.flow = Some(flow);
        self.carried = carried;
        self.told_of_none = false;
        self.saves_late = false;
        self.wiped_under = false;
    }
}

impl World {
    fn new(rotate: bool, processes: usize) -> Self {
        let replicas = (processes > 1).then(Replicas::default);
        Self {
            now: Timestamp::from_secs(1_000_000),
            policy: Policy {
                replicas,
                ..Policy::default()
            },
            server: Server {
                rotate,
                ..Server::default()
            },
            stored: None,
            confirmed: None,
            next_version: 1,
            store_down: false,
            lease: None,
            processes: (0..processes).map(|_| Process::default()).collect(),
            at: 0,
            newest_received: None,
            received_by: 0,
            profile: 0,
            ever_stored: Vec::new(),
            refused: Vec::new(),
            browser: None,
            known: false,
            wiped: false,
            forgot_a_profile: false,
        }
    }

    fn process(&self) -> &Process {
        &self.processes[self.at]
    }

    fn process_mut(&mut self) -> &mut Process {
        &mut self.processes[self.at]
    }

    fn cannot_reach_store(&self) -> bool {
        self.store_down || self.process().cut
    }

    fn is_at_work(&self) -> bool {
        self.process().flow.is_some()
    }

    fn act_at(&mut self, at: usize, action: Action) {
        self.at = at % self.processes.len();
        self.act(action);
    }

    fn acts(&mut self, actions: &[(usize, Action)]) {
        for (at, action) in actions {
            self.act_at(*at, *action);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Request { create, carry } => self.request(create, carry),
            Action::SetCookie => {
                if let Event::Loaded(Some(newest)) = self.load(true)
                    && newest.session.tokens().is_some()
                {
                    self.browser = Some(codec::encode(&newest.session).to_vec());
                }
            }
            Action::Wipe => self.wipe(),
            // Where there are no replicas, the store is a file.
            Action::Takeover if self.policy.replicas.is_some() => {
                let [stored, confirmed] = [&self.stored, &self.confirmed].map(profiles_in);
                self.forgot_a_profile |= stored > confirmed;
                self.stored.clone_from(&self.confirmed);
                self.lease = None;
            }
            Action::Takeover => {}
            Action::Renew => self.begin(
                Want {
                    renew: true,
                    ..Want::default()
                },
                false,
            ),
            Action::Reject => {
                if let Some(tokens) = self.process_mut().cached.take() {
                    self.process_mut().rejected = Some(tokens.access.fingerprint());
                    self.begin(Want::default(), false);
                }
            }
            Action::Perform(outcome) => self.perform(outcome, false, false),
            Action::PerformLate(outcome) => self.perform(outcome, false, true),
            Action::Crash { after_effect } => {
                if after_effect {
                    self.perform(Outcome::Works, true, false);
                }
                self.crash();
            }
            Action::SaveLate => {
                let process = &self.processes[self.at];
                if process.flow.is_none()
                    && let Some(unsaved) = &process.unsaved
                {
                    let flow = Flow::save_late(codec::decode(unsaved).unwrap(), self.policy);
                    self.process_mut().start(flow, None);
                    self.process_mut().saves_late = true;
                }
            }
            Action::Cut(cut) => self.process_mut().cut = cut,
            Action::StoreDown(down) => self.store_down = down,
            Action::Wait(secs) => self.now = self.now + Duration::from_secs(secs.into()),
        }
    }

    fn request(&mut self, create: bool, carry: bool) {
        match &self.process().cached {
            Some(tokens)
                if Schedule::new(tokens, &self.policy).at(self.now) != Freshness::Expired =>
            {
                let tokens = tokens.clone();
                self.check_use(&tokens);
            }
            _ => self.begin(
                Want {
                    create,
                    ..Want::default()
                },
                carry,
            ),
        }
    }

    fn begin(&mut self, want: Want, carry: bool) {
        if !self.is_at_work() {
            let want = Want {
                rejected: self.process().rejected,
                ..want
            };
            // As the manager does: for a visitor who is new, and where a look a moment ago found nobody.
            let is_minted = !std::mem::replace(&mut self.known, true);
            let (flow, command) = match (want.create && !carry, is_minted) {
                (true, true) => Flow::start_minted(want, self.policy, self.now),
                (true, false) => Flow::start_absent(want, self.policy),
                (false, _) => Flow::start(want, self.policy),
            };
            let carried = self.browser.as_ref().filter(|_| carry);
            let carried = carried.map(|bytes| codec::decode(bytes).unwrap());
            let refresh = carried.as_ref().and_then(refresh_of);
            let flow = (flow.or_recover(carried), command);
            self.process_mut().start(flow, refresh);
        }
    }

    /// Whatever was promised of what was stored: it is the store that broke it.
    fn wipe(&mut self) {
        self.forgot_a_profile |= profiles_in(&self.stored) > 0;
        self.stored = None;
        self.confirmed = None;
        self.lease = None;
        self.newest_received = None;
        self.wiped = true;
        for process in &mut self.processes {
            process.carried = None;
            process.wiped_under = process.flow.is_some();
        }
    }

    fn crash(&mut self) {
        let cut = self.process().cut;
        let newest = self.newest_received.as_ref().map(|(_, newest)| newest);
        let in_hand = self.received_by == self.at
            || newest.is_some() && refresh_unsaved(self.process()).as_ref() == newest;
        *self.process_mut() = Process {
            cut,
            ..Process::default()
        };
        // What was received and could not be stored before the crash is gone; no promise covers that.
        if !self.is_kept() && in_hand {
            let certain = self.confirmed.as_ref();
            let certain = certain.filter(|_| self.confirmed == self.stored);
            let certain = certain.map(|(_, bytes)| codec::decode(bytes).unwrap());
            // What others have in memory and is newer takes its place.
            let unsaved = self.processes.iter().filter_map(|one| one.unsaved.as_ref());
            let left = certain.map(|certain| {
                unsaved.fold(certain, |left, bytes| {
                    let unsaved = codec::decode(bytes).unwrap();
                    match unsaved.is_to_be_written_over(&left) {
                        true => unsaved,
                        false => left,
                    }
                })
            });
            let left = left.as_ref().and_then(refresh_of);
            let left = left.filter(|left| !self.refused.contains(left));
            self.newest_received = left.map(|left| (self.profile, left));
        }
    }

    /// Whether the refresh token received last is stored for good, or in a memory waiting to be.
    fn is_kept(&self) -> bool {
        let Some((_, newest)) = &self.newest_received else {
            return true;
        };
        let unsaved = self.processes.iter().filter_map(refresh_unsaved);
        refresh_in(self.confirmed.as_ref())
            .into_iter()
            .chain(unsaved)
            .any(|kept| kept == *newest)
    }

    // --- carrying out commands ---

    fn perform(&mut self, outcome: Outcome, crashing: bool, late: bool) {
        let Some((flow, command)) = self.process_mut().flow.take() else {
            return;
        };
        let leased = self.policy.replicas.is_none() || self.prolong_lease();
        let event = match command {
            Command::Load | Command::Await => self.load(true),
            Command::Reload => self.load(false),
            Command::Acquire => self.acquire(),
            Command::Save { expected } => self.save(&flow, expected, outcome),
            Command::Authorize if self.process().unsaved.is_some() => Event::AuthorizeWithheld,
            Command::Authorize if !leased => Event::LeaseEnded,
            Command::Exchange(_) | Command::Refresh(_) if !leased && !late => Event::LeaseEnded,
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
        if let Event::Loaded(record) | Event::Acquired(record) = &event {
            self.process_mut().told_of_none = record.is_none();
        }
        match flow.on(event, self.now) {
            Step::Do(flow, command) => self.process_mut().flow = Some((flow, command)),
            Step::Done(done) => self.conclude(done),
        }
    }

    /// The lease is prolonged whenever its owner does something, as long as it has not ended and the store can be reached.
    fn prolong_lease(&mut self) -> bool {
        let Some((owner, until)) = self.lease else {
            return false;
        };
        let ours = owner == self.at && self.now < until;
        if ours && !self.cannot_reach_store() {
            self.lease = Some((owner, self.now + Replicas::default().lease_term));
        }
        ours
    }

    fn acquire(&mut self) -> Event {
        if self.cannot_reach_store() {
            return Event::LoadFailed;
        }
        match self.lease {
            Some((owner, until)) if owner != self.at && self.now < until => Event::Held,
            _ => {
                self.lease = Some((self.at, self.now + Replicas::default().lease_term));
                match self.load(true) {
                    Event::Loaded(record) => Event::Acquired(record),
                    failed => failed,
                }
            }
        }
    }

    fn load(&self, newest: bool) -> Event {
        let decode = |bytes: &Vec<u8>| codec::decode(bytes).unwrap();
        let down = self.cannot_reach_store();
        let stored = self.stored.as_ref().filter(|_| !down);
        let version = stored.map(|(version, _)| *version);
        let stored = stored.map(|(_, bytes)| decode(bytes));
        let unsaved = self.process().unsaved.as_ref();
        let unsaved = unsaved.filter(|_| newest).map(decode);
        let newer = unsaved.filter(|unsaved| {
            stored
                .as_ref()
                .is_none_or(|stored| unsaved.is_to_be_written_over(stored))
        });
        match (newer, stored) {
            (Some(session), _) => Event::Loaded(Some(Loaded {
                session,
                version,
                is_stored: false,
            })),
            (None, _) if down => Event::LoadFailed,
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
        if self.cannot_reach_store() || outcome == Outcome::NotSent {
            return Event::SaveFailed;
        }
        if self.stored.as_ref().map(|(version, _)| *version) != expected {
            return Event::SaveConflict;
        }
        self.check_replacement(session);
        if matches!(session.state, State::Unconfirmed { .. }) {
            self.check_carried();
        }
        let version = Version(self.next_version);
        self.next_version += 1;
        self.stored = Some((version, codec::encode(session).to_vec()));
        self.ever_stored.extend(refresh_in(self.stored.as_ref()));
        if let State::Granted { grant, .. } = &session.state {
            let code = grant.code.secret().expose();
            (self.profile, _) = self.server.codes[code];
            self.ever_stored.push(code.to_owned());
            self.newest_received = self
                .newest_received
                .take()
                .filter(|(profile, _)| *profile >= self.profile);
        }
        if self.forgot_a_profile
            && let Some(refresh) = refresh_in(self.stored.as_ref())
            && let (profile, _) = self.server.refresh[&refresh]
            && profile != self.profile
        {
            self.profile = profile;
            // Who only carries it goes on carrying it.
            let is_carried = self.process().carried.as_ref() == Some(&refresh);
            let is_ours = outcome != Outcome::AnswerLost || !is_carried;
            let counts = is_ours && !self.refused.contains(&refresh);
            self.newest_received = counts.then_some((profile, refresh));
            self.received_by = self.at;
        }
        if outcome == Outcome::AnswerLost {
            return Event::SaveFailed;
        }
        if self.wiped
            && let Some(refresh) = refresh_in(self.stored.as_ref())
        {
            (self.profile, _) = self.server.refresh[&refresh];
            let counts = !self.refused.contains(&refresh);
            self.newest_received = counts.then_some((self.profile, refresh));
            self.received_by = self.at;
        }
        self.confirmed.clone_from(&self.stored);
        self.process_mut().unsaved = None;
        Event::Saved(version)
    }

    fn authorize(&mut self, outcome: Outcome) -> Event {
        self.check_carried();
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
                self.newest_received = self
                    .newest_received
                    .take()
                    .filter(|(_, newest)| newest != presented);
            }
            (
                Ok(TokenAnswer {
                    refresh: Some(refresh),
                    ..
                }),
                _,
            ) => {
                let refresh = refresh.secret().expose().to_owned();
                let (profile, _) = self.server.refresh[&refresh];
                // Of a profile that gave way to another one's tokens (see `forgot_a_profile`) nothing counts any more.
                if profile == self.profile {
                    self.newest_received = Some((profile, refresh));
                    self.received_by = self.at;
                }
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
        if let Some((owner, _)) = self.lease
            && owner == self.at
            && !self.cannot_reach_store()
        {
            self.lease = None;
        }
        let process = &mut self.processes[self.at];
        if let Some(session) = &done.unsaved {
            process.unsaved = Some(codec::encode(session).to_vec());
        } else if process.saves_late {
            // As the manager does: written, or overtaken by something newer.
            process.unsaved = None;
        }
        // As the manager does: a token that was rejected while the flow ran is not used.
        if let Ok(tokens) = done.result.filter_rejected(process.rejected) {
            self.check_use(&tokens);
            self.process_mut().cached = Some(tokens);
        }
        if self.process().wiped_under && !self.is_kept() {
            self.newest_received = None;
        }
        self.check_nothing_lost();
    }

    // --- what must hold ---

    /// Invariants 1, 2 and 4: nobody who has a live token set or an unspent code is authorized again.
    fn check_authorize(&self) {
        if self.policy.replicas.is_some() {
            // Then it was checked as it was announced. A process that stood still for longer than the grace may have come
            // back with a code or a token set since; nobody could know.
            assert!(
                self.stored.is_some(),
                "an authorize call that was not announced"
            );
            return;
        }
        let sessions = [
            self.stored.as_ref().map(|(_, bytes)| bytes),
            self.process().unsaved.as_ref(),
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
                State::Lost {
                    tokens, not_before, ..
                } => {
                    assert!(
                        self.refused
                            .iter()
                            .any(|token| token == tokens.refresh.secret().expose()),
                        "a token set ended that the server never refused"
                    );
                    assert!(
                        self.now >= not_before,
                        "nobody was given the time to bring the successor"
                    );
                }
                State::Unconfirmed {
                    attempts,
                    not_before,
                } => {
                    assert!(self.now >= not_before && attempts < self.policy.max_unconfirmed);
                }
            }
        }
    }

    /// Invariant 2: nobody who carries a live token set is authorized where the store has lost them.
    fn check_carried(&self) {
        let process = self.process();
        if let Some(carried) = process.carried.as_ref().filter(|_| process.told_of_none) {
            assert!(
                self.refused.contains(carried),
                "authorize for a visitor who carries {carried}"
            );
        }
    }

    /// Invariants 3 and 4: a stored token set gives way to a newer one, or to the server's refusal.
    fn check_replacement(&self, new: &VisitorSession) {
        let Some((_, old)) = &self.stored else { return };
        let old = codec::decode(old).unwrap();
        if *new == old {
            return;
        }
        assert!(new.profiles >= old.profiles, "an older profile came back");
        if let Some((attempts, not_before)) = attempts_of(&old.state)
            && let Some((more, _)) = attempts_of(&new.state)
            && more > attempts
            && self.policy.replicas.is_some()
            // Calls that the store has forgotten are not counted.
            && !self.wiped
        {
            assert!(
                self.now >= not_before && attempts < self.policy.max_unconfirmed,
                "an authorize call is announced too early"
            );
        }
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

    /// Invariant 3: the refresh token received last is stored, or in memory waiting to be. A flow at work may hold it too.
    fn check_nothing_lost(&self) {
        if self.processes.iter().all(|process| process.flow.is_none()) {
            assert!(
                self.is_kept(),
                "{:?} is neither stored nor kept",
                self.newest_received
            );
        }
    }

    /// Invariant 2: a code is stored before it is exchanged.
    fn check_code_is_stored(&self, code: &str) {
        assert!(
            self.ever_stored.iter().any(|stored| stored == code),
            "an exchange of a code that was never stored"
        );
    }

    /// Invariants 2 and 5: what is used is stored (or came of a refresh), unexpired, not rejected, and of the profile that the visitor has.
    fn check_use(&self, tokens: &TokenSet) {
        assert!(self.now < tokens.expires_at, "an expired token was used");
        assert_ne!(
            self.process().rejected,
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

    fn land(&mut self) {
        while self.is_at_work() {
            // Whoever waits for a lease waits.
            self.now = self.now + Duration::from_secs(1);
            self.perform(Outcome::Works, false, false);
        }
    }

    /// When all is well again, the visitor gets a token, unless too many answers were lost for it.
    fn heal(&mut self) {
        self.store_down = false;
        for process in &mut self.processes {
            process.cut = false;
        }
        for at in 0..self.processes.len() {
            self.at = at;
            self.land();
        }
        for round in 0..8 * self.processes.len() {
            self.at = round % self.processes.len();
            self.act(Action::SaveLate);
            self.land();
            self.act(Action::Wait(3600));
            self.request(true, true);
            self.land();
        }
        for process in &self.processes {
            assert!(
                process.unsaved.is_none(),
                "a session stays unsaved though the store works"
            );
        }
        self.check_nothing_lost();
        if self.process().cached.is_none() {
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

/// How many profiles the store knows of.
fn profiles_in(record: &Option<(Version, Vec<u8>)>) -> u32 {
    let session = record
        .as_ref()
        .map(|(_, bytes)| codec::decode(bytes).unwrap());
    session.map_or(0, |session| session.profiles)
}

fn refresh_in(record: Option<&(Version, Vec<u8>)>) -> Option<String> {
    refresh_of(&codec::decode(&record?.1).unwrap())
}

fn refresh_of(session: &VisitorSession) -> Option<String> {
    let tokens = session.tokens()?;
    Some(tokens.refresh.secret().expose().to_owned())
}

fn refresh_unsaved(process: &Process) -> Option<String> {
    refresh_of(&codec::decode(process.unsaved.as_ref()?).unwrap())
}

/// How many authorize calls there were in vain, and when another one may be made.
fn attempts_of(state: &State) -> Option<(u32, Timestamp)> {
    match state {
        State::Unconfirmed {
            attempts,
            not_before,
        }
        | State::Lost {
            attempts,
            not_before,
            ..
        } => Some((*attempts, *not_before)),
        State::Granted { .. } | State::Active(_) => None,
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

/// The same, and the store may lose everything.
fn action_or_wipe() -> impl Strategy<Value = Action> {
    prop_oneof![
        1 => Just(Action::Wipe),
        24 => action(),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => any::<(bool, bool)>().prop_map(|(no, carry)| Action::Request { create: !no, carry }),
        1 => Just(Action::SetCookie),
        1 => Just(Action::Renew),
        1 => Just(Action::Reject),
        16 => outcome().prop_map(Action::Perform),
        1 => outcome().prop_map(Action::PerformLate),
        1 => any::<bool>().prop_map(|after_effect| Action::Crash { after_effect }),
        1 => Just(Action::SaveLate),
        1 => any::<bool>().prop_map(Action::StoreDown),
        1 => Just(Action::Takeover),
        1 => any::<bool>().prop_map(Action::Cut),
        2 => (1_u16..200).prop_map(Action::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(4000), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn invariants_1_to_5_hold_for_any_interleaving(rotate: bool, actions in prop::collection::vec(action(), 1..160)) {
        let mut world = World::new(rotate, 1);
        for action in actions {
            world.act(action);
        }
        world.heal();
    }

    #[test]
    fn invariants_1_to_5_hold_for_any_interleaving_of_replicas(
        rotate: bool,
        actions in prop::collection::vec((0..3_usize, action()), 1..200),
    ) {
        let mut world = World::new(rotate, 3);
        for (at, action) in actions {
            world.act_at(at, action);
        }
        world.heal();
    }

    #[test]
    fn invariants_2_to_5_hold_where_the_store_loses_everything(
        rotate: bool,
        processes in prop_oneof![Just(1_usize), Just(3)],
        actions in prop::collection::vec((0..3_usize, action_or_wipe()), 1..200),
    ) {
        let mut world = World::new(rotate, processes);
        for (at, action) in actions {
            world.act_at(at, action);
        }
        world.heal();
    }
}

/// What the visitor carries is stored before anything else, a stale token set is tried once, and then the server's word counts.
#[test]
fn invariant_4_a_stale_recovery_cookie_ends_in_one_refresh() {
    for processes in [1, 3] {
        let mut world = World::new(true, processes);
        world.request(true, false);
        world.land();
        world.act(Action::SetCookie);
        // The cookie's token set is replaced, and both the store and the memory of it are lost.
        world.act(Action::Wait(95));
        world.request(true, true);
        world.land();
        world.wipe();
        world.act(Action::Crash {
            after_effect: false,
        });
        let issued = world.server.issued;
        for _ in 0..3 {
            world.request(true, true);
            world.land();
        }
        let stored = codec::decode(&world.stored.as_ref().unwrap().1).unwrap();
        assert_eq!(world.refused.len(), 1, "{:?}", world.refused);
        assert_eq!(stored.losses, 1);
        if processes == 1 {
            assert_eq!(world.server.profiles, 2, "by policy: on_lost = recreate");
        } else {
            assert!(matches!(stored.state, State::Lost { .. }), "{stored:?}");
            assert_eq!((world.server.profiles, world.server.issued), (1, issued));
        }
    }
}

/// What the visitor carries and the store may have taken is carried on: nobody keeps it besides.
#[test]
fn a_recovery_whose_write_is_in_doubt_leaves_it_to_the_visitor() {
    let crash = Action::Crash {
        after_effect: false,
    };
    let mut world = World::new(true, 1);
    world.request(true, false);
    world.land();
    world.act(Action::SetCookie);
    world.wipe();
    world.act(crash);
    // The browser does not show what it carries, and becomes somebody new.
    world.request(true, false);
    world.land();
    assert_eq!(world.server.profiles, 2);
    world.wipe();
    world.act(crash);
    world.request(true, true);
    world.perform(Outcome::Works, false, false);
    world.perform(Outcome::AnswerLost, false, false);
    assert!(!world.is_at_work() && world.process().unsaved.is_none());
    world.heal();
    assert_eq!(world.server.profiles, 2);
}

#[test]
fn invariant_11_a_recovery_cookie_is_not_used_where_the_store_cannot_say() {
    let mut world = World::new(true, 1);
    world.request(true, false);
    world.land();
    world.act(Action::SetCookie);
    world.act(Action::Crash {
        after_effect: false,
    });
    world.act(Action::StoreDown(true));
    world.request(true, true);
    world.land();
    assert!(world.process().cached.is_none() && world.process().unsaved.is_none());
    assert_eq!(world.server.profiles, 1);
}

/// Without lost answers and crashes there is nothing to forgive: one profile.
#[test]
fn invariant_1_a_visitor_whose_answers_arrive_has_one_profile() {
    let mut world = World::new(true, 1);
    for _ in 0..50 {
        world.request(true, false);
        while world.is_at_work() {
            world.perform(Outcome::Unavailable, false, false);
            world.act(Action::Wait(7));
            world.request(true, false);
            world.land();
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

/// A request that may make a profile; a command that works, and one whose answer is lost.
const R: Action = Action::Request {
    create: true,
    carry: false,
};
const P: Action = Action::Perform(Outcome::Works);
const LOST: Action = Action::Perform(Outcome::AnswerLost);

/// A store that forgets a grant which it had not confirmed has two profiles counted as one, and then the tokens that are written first
/// stay. So the other profile's, which arrive later, are let go of: the one who has shown themselves keeps what they have seen.
#[test]
fn of_two_profiles_that_are_counted_as_one_the_first_stored_stays() {
    let mut world = World::new(false, 3);
    // The second process announces and authorizes, and its code is written without a confirmation.
    world.acts(&[(1, R), (1, P), (1, P), (1, P), (1, LOST)]);
    // The first one exchanges it, and stands still with the tokens in hand. The store forgets the code.
    world.acts(&[(0, R), (0, P), (0, P), (1, Action::Takeover)]);
    // Beyond the grace, the third one makes another profile, and stands still before its exchange.
    world.acts(&[(2, Action::Wait(240)), (2, R)]);
    world.acts(&[(2, P), (2, P), (2, P), (2, P)]);
    // Now the first one's tokens are written, and then those of the third arrive.
    world.acts(&[(0, P), (0, P), (0, P), (2, P)]);
    assert_eq!(world.server.profiles, 2);
    assert_eq!(world.server.issued, 2, "both codes were exchanged");
    for at in 0..3 {
        world.at = at;
        world.land();
    }
    let stored = refresh_in(world.stored.as_ref());
    assert_eq!(stored.as_deref(), Some("refresh-1"));
    let used = world.processes.iter().filter_map(|one| one.cached.as_ref());
    for tokens in used {
        assert_eq!(tokens.refresh.secret().expose(), "refresh-1");
    }
    world.heal();
}

/// Who takes an announcement back, since its call was not made, takes back nothing of what others have announced meanwhile: else a third
/// one would not wait for their answer.
#[test]
fn an_announcement_is_taken_back_by_nobody_else() {
    let mut world = World::new(false, 3);
    // Two calls in vain.
    for _ in 0..2 {
        world.acts(&[(2, R), (2, P), (2, P), (2, LOST), (2, P)]);
        world.acts(&[(2, Action::Wait(7200))]);
    }
    // A third one is announced, and the store does not say that it is: so it is not made, and is about to be taken back.
    world.acts(&[(2, R), (2, P), (2, LOST), (2, P)]);
    // The store forgets everything, and somebody announces anew.
    world.acts(&[(0, Action::Wipe), (0, R), (0, P), (0, P)]);
    let announced = world.stored.clone();
    assert!(announced.is_some());
    world.at = 2;
    while world.is_at_work() {
        world.perform(Outcome::Works, false, false);
    }
    assert_eq!(world.stored, announced);
    world.heal();
}

/// Whose call was not made, and who finds that others have gone on meanwhile, uses what they have made, and makes nothing.
#[test]
fn who_finds_the_announcement_gone_uses_what_others_have_made() {
    let now = Timestamp::from_secs(1_000_000);
    let policy = Policy {
        replicas: Some(Replicas::default()),
        ..Policy::default()
    };
    let next = |flow: Flow, event| match flow.on(event, now) {
        Step::Do(flow, command) => (flow, command),
        Step::Done(done) => panic!("{done:?}"),
    };
    let announced_in_vain = || {
        let want = Want {
            create: true,
            ..Want::default()
        };
        let (flow, _) = Flow::start_absent(want, policy);
        let (flow, _) = next(flow, Event::Acquired(None));
        let (flow, command) = next(flow, Event::Saved(Version(1)));
        assert!(matches!(command, Command::Authorize), "{command:?}");
        let unavailable = Disturbance::Unavailable {
            status: 503,
            retry_after: None,
        };
        let error = AuthorizeError::Disturbed(unavailable);
        let (flow, command) = next(flow, Event::Authorized(Err(error)));
        assert!(matches!(command, Command::Save { .. }), "{command:?}");
        let (flow, command) = next(flow, Event::SaveConflict);
        assert!(matches!(command, Command::Load), "{command:?}");
        flow
    };
    let tokens = TokenSet {
        access: AccessToken::new(Secret::new("theirs")),
        refresh: RefreshToken::new(Secret::new("refresh")),
        obtained_at: now,
        expires_at: now + LIFETIME,
        generation: 0,
    };
    let theirs = Loaded {
        session: VisitorSession {
            created_at: now,
            profiles: 1,
            losses: 0,
            state: State::Active(tokens.clone()),
        },
        version: Some(Version(9)),
        is_stored: true,
    };
    for (there, found) in [
        (Some(theirs), Ok(tokens)),
        (None, Err(Unavailable::Dressipi)),
    ] {
        match announced_in_vain().on(Event::Loaded(there), now) {
            Step::Done(done) => {
                assert_eq!(done.result, found);
                assert!(done.back_off.is_none() && done.unsaved.is_none());
            }
            Step::Do(_, command) => panic!("{command:?}"),
        }
    }
}
