//! Performs a flow's commands: the I/O that [`Flow`] asks for, one thing at a time. It decides nothing.

use std::fmt::Display;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::flights::{Lead, Urgency, WaitedBy};
use super::flow::{Command, Done, Event, Flow, Loaded, Step};
use super::lease::Lease;
use super::observer::{Call, LeaseEvent, Observer, StoreCall};
use super::record::VisitorSession;
use super::store::{StoreError, Version};
use super::unsaved::Unsaved;
use super::vault::{Leased, SaveError, Vault, VaultError};
use super::waiters::{Waiter, Waiters};
use crate::clock::Clock;
use crate::oauth::{AuthorizationServer, AuthorizeError, TokenAnswer, TokenError};
use crate::visitor::VisitorKey;

/// Store, authorization server, and what lies between them.
pub(super) struct Performer {
    pub(super) vault: Vault,
    pub(super) server: Arc<dyn AuthorizationServer>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) observer: Arc<dyn Observer>,
    /// Sessions newer than the store's.
    pub(super) unsaved: Unsaved,
    pub(super) turns: Turns,
    /// Flows that wait for other replicas' flows.
    pub(super) waiters: Waiters,
    /// How long a lease is taken for.
    pub(super) lease_term: Duration,
}

/// Who may make OAuth calls: so many flows at the same time, and of them no more than a part for which nobody waits. When
/// thousands of tokens end together, or Dressipi comes back after an outage, visitors are served before the others.
pub(super) struct Turns {
    all: Arc<Semaphore>,
    background: Arc<Semaphore>,
}

/// A flow's turn, which it keeps to its end.
struct Turn {
    _permit: Option<OwnedSemaphorePermit>,
    _background: Option<OwnedSemaphorePermit>,
}

/// What a flow has while it runs.
struct Holding {
    urgency: Urgency,
    waited_by: WaitedBy,
    turn: Option<Turn>,
    lease: Option<Lease>,
    /// Who else has the lease, for so long at least.
    others: Option<(Waiter, Duration)>,
}

/// Of all turns, the part for flows for which nobody waits.
const BACKGROUND_PART: usize = 4;
/// Nor does anybody look more often, whatever the rest of a lease.
const LEAST_WAIT: Duration = Duration::from_millis(20);
/// Nobody waits for news longer than this without looking.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(1);

// === impl Turns ===

impl Turns {
    pub(super) fn new(flows: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(flows)),
            background: Arc::new(Semaphore::new((flows / BACKGROUND_PART).max(1))),
        }
    }

    async fn take(&self, urgency: &mut Urgency) -> Turn {
        let background = tokio::select! {
            biased;
            () = urgency.arises() => None,
            permit = self.background.clone().acquire_owned() => permit.ok(),
        };
        Turn {
            _permit: self.all.clone().acquire_owned().await.ok(),
            _background: background,
        }
    }
}

// === impl Performer ===

impl Performer {
    /// Runs a flow to its end, or to where its visitor was erased; says whether it may have written anything.
    pub(super) async fn run(
        &self,
        key: &VisitorKey,
        mut flow: Flow,
        mut command: Command,
        lead: &Lead,
    ) -> (Done, bool) {
        let mut written = false;
        let mut holding = Holding {
            urgency: lead.urgency(),
            waited_by: lead.waited_by(),
            turn: None,
            lease: None,
            others: None,
        };
        let done = loop {
            if lead.was_erased() {
                break flow.erased();
            }
            written |= matches!(command, Command::Save { .. });
            let event = self.perform(key, &flow, command, &mut holding).await;
            let event = self.heed_tombstone(key, &mut flow, event).await;
            match flow.on(event, self.clock.now()) {
                Step::Do(next, wanted) => (flow, command) = (next, wanted),
                Step::Done(done) => break done,
            }
        };
        if let Some(lease) = holding.lease {
            lease.release().await;
        }
        (done, written)
    }

    /// Whom the store does not have may have been erased. That is asked of the store where it matters, and nowhere else.
    async fn heed_tombstone(&self, key: &VisitorKey, flow: &mut Flow, event: Event) -> Event {
        let (Event::Loaded(None) | Event::Acquired(None), Some(carried)) = (&event, flow.carried())
        else {
            return event;
        };
        match self.vault.buried_at(key, self.clock.now()).await {
            Ok(Some(erased_at)) if carried.created_at <= erased_at => flow.leave_behind(),
            Ok(_) => {}
            Err(error) => {
                report(key, &error, "whether a visitor was erased cannot be told");
                return Event::LoadFailed;
            }
        }
        event
    }

    async fn perform(
        &self,
        key: &VisitorKey,
        flow: &Flow,
        command: Command,
        holding: &mut Holding,
    ) -> Event {
        match command {
            Command::Load => self.load_newest(key).await,
            Command::Reload => self.reload(key).await,
            Command::Acquire => self.acquire(key, holding).await,
            Command::Await => {
                await_others(holding).await;
                self.load_newest(key).await
            }
            Command::Save { expected } => self.save(key, flow, expected).await,
            // What could not be stored would be a profile for nobody.
            Command::Authorize if !self.unsaved.is_empty() => Event::AuthorizeWithheld,
            Command::Authorize => {
                let Some(begun) = self.begin_call(holding).await else {
                    return Event::LeaseEnded;
                };
                let result = self.server.authorize().await;
                self.end_call(
                    key,
                    Call::Authorize,
                    &result,
                    AuthorizeError::label,
                    begun,
                    holding,
                );
                Event::Authorized(result)
            }
            Command::Exchange(grant) => {
                let Some(begun) = self.begin_call(holding).await else {
                    return Event::LeaseEnded;
                };
                let asked_at = self.clock.now();
                let result = self.server.exchange(grant).await;
                self.end_call(
                    key,
                    Call::Exchange,
                    &result,
                    TokenError::label,
                    begun,
                    holding,
                );
                self.note_lifetime(&result);
                Event::Exchanged(result, asked_at)
            }
            Command::Refresh(token) => {
                let Some(begun) = self.begin_call(holding).await else {
                    return Event::LeaseEnded;
                };
                let asked_at = self.clock.now();
                let result = self.server.refresh(token).await;
                self.end_call(
                    key,
                    Call::Refresh,
                    &result,
                    TokenError::label,
                    begun,
                    holding,
                );
                self.note_lifetime(&result);
                Event::Refreshed(result, asked_at)
            }
        }
    }

    /// Waits for the flow's turn, and looks whether the lease is still ours; `None` if it is not.
    async fn begin_call(&self, holding: &mut Holding) -> Option<Instant> {
        if holding.turn.is_none() {
            holding.turn = Some(self.turns.take(&mut holding.urgency).await);
        }
        if holding.lease.as_ref().is_some_and(|lease| !lease.holds()) {
            self.observer.lease(LeaseEvent::Ended);
            return None;
        }
        Some(Instant::now())
    }

    async fn acquire(&self, key: &VisitorKey, holding: &mut Holding) -> Event {
        // One that has ended is not given back: it may be somebody else's by now, and release looks.
        if let Some(ended) = holding.lease.take() {
            ended.release().await;
        }
        // Before the store is asked, so that no release is missed.
        let waiter = self.waiters.listen(key);
        let begun = Instant::now();
        let result = self
            .vault
            .acquire(key, self.lease_term, self.clock.now())
            .await;
        self.observer
            .store_call(StoreCall::Acquire, result.is_ok(), begun.elapsed());
        match result {
            Ok(Leased::Ours(lease, record)) => {
                self.observer.lease(LeaseEvent::Taken);
                holding.lease = Some(lease);
                holding.others = None;
                match self.newest(key, loaded(record)) {
                    Event::Loaded(record) => Event::Acquired(record),
                    failed => failed,
                }
            }
            Ok(Leased::Theirs(remaining)) => {
                self.observer.lease(LeaseEvent::Held);
                holding.others = Some((waiter, remaining));
                Event::Held
            }
            Err(error) => {
                report(key, &error, "a lease was not taken");
                Event::LoadFailed
            }
        }
    }

    fn end_call<T, E: Display>(
        &self,
        key: &VisitorKey,
        call: Call,
        result: &Result<T, E>,
        label: fn(&E) -> &'static str,
        begun: Instant,
        holding: &Holding,
    ) {
        let outcome = match result {
            Ok(_) => "ok",
            Err(error) => {
                tracing::warn!(visitor = %key, call = call.label(), %error, "an OAuth call failed");
                label(error)
            }
        };
        self.observer.oauth_call(call, outcome, begun.elapsed());
        let waiter = holding.waited_by.get().copied();
        self.observer.oauth_span(call, outcome, begun, waiter);
    }

    fn note_lifetime(&self, result: &Result<TokenAnswer, TokenError>) {
        if let Ok(answer) = result {
            self.observer.token_obtained(answer.expires_in);
        }
    }

    async fn save(&self, key: &VisitorKey, flow: &Flow, expected: Option<Version>) -> Event {
        let Some(session) = flow.session_to_save() else {
            return Event::SaveFailed;
        };
        let begun = Instant::now();
        let now = self.clock.now();
        let result = self.vault.save(key, expected, session, now).await;
        let failed = matches!(result, Err(SaveError::Failed(_)));
        self.observer
            .store_call(StoreCall::Save, !failed, begun.elapsed());
        match result {
            Ok(version) => {
                self.unsaved.remove(key);
                Event::Saved(version)
            }
            Err(SaveError::Conflict) => Event::SaveConflict,
            Err(SaveError::Failed(error)) => {
                report(
                    key,
                    &error,
                    "a visitor session was not stored; it stays in memory",
                );
                Event::SaveFailed
            }
        }
    }

    pub(super) async fn load_newest(&self, key: &VisitorKey) -> Event {
        let stored = self.reload(key).await;
        self.newest(key, stored)
    }

    /// What the store says, or the unsaved session if that is newer or the store does not answer.
    fn newest(&self, key: &VisitorKey, stored: Event) -> Event {
        let Some(session) = self.unsaved.session(key) else {
            return stored;
        };
        let version = match &stored {
            Event::Loaded(Some(stored)) if !session.is_to_be_written_over(&stored.session) => None,
            Event::Loaded(Some(stored)) => Some(stored.version),
            _ => Some(None),
        };
        match version {
            None => stored,
            Some(version) => Event::Loaded(Some(Loaded {
                session,
                version,
                is_stored: false,
            })),
        }
    }

    async fn reload(&self, key: &VisitorKey) -> Event {
        let begun = Instant::now();
        let result = self.vault.load(key, self.clock.now()).await;
        self.observer
            .store_call(StoreCall::Load, result.is_ok(), begun.elapsed());
        match result {
            Ok(record) => loaded(record),
            Err(error) => {
                report(key, &error, "a visitor session was not read");
                Event::LoadFailed
            }
        }
    }
}

fn loaded(record: Option<(Version, VisitorSession)>) -> Event {
    Event::Loaded(record.map(|(version, session)| Loaded {
        session,
        version: Some(version),
        is_stored: true,
    }))
}

/// Waits until the lease's holder is done, as far as one hears of it, and no longer than one may without looking.
async fn await_others(holding: &mut Holding) {
    let Some((mut waiter, remaining)) = holding.others.take() else {
        return;
    };
    // Not all at once.
    let bound = remaining
        .min(LOOK_AGAIN_AFTER)
        .mul_f64(rand::rng().random_range(0.8..1.2));
    let _ = tokio::time::timeout(bound.max(LEAST_WAIT), waiter.news()).await;
}

/// An error of the store, unless it is known already that it is down.
fn report(key: &VisitorKey, error: &VaultError, what: &'static str) {
    match error {
        VaultError::Store(StoreError::Suspended) => {
            tracing::debug!(visitor = %key, %error, "{what}");
        }
        _ => tracing::error!(visitor = %key, %error, "{what}"),
    }
}
