//! Performs a flow's commands: the I/O that [`Flow`] asks for, one thing at a time. It decides nothing.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::flow::{Command, Done, Event, Flow, Loaded, Step};
use super::observer::{Call, Observer, StoreCall};
use super::store::Version;
use super::unsaved::Unsaved;
use super::vault::{SaveError, Vault};
use crate::clock::Clock;
use crate::oauth::{AuthorizationServer, AuthorizeError, TokenError};
use crate::visitor::VisitorKey;

/// Store, authorization server, and what lies between them.
pub(super) struct Performer {
    pub(super) vault: Vault,
    pub(super) server: Arc<dyn AuthorizationServer>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) observer: Arc<dyn Observer>,
    /// Sessions newer than the store's.
    pub(super) unsaved: Unsaved,
    /// So many flows may make OAuth calls at the same time.
    pub(super) permits: Arc<Semaphore>,
}

impl Performer {
    /// Runs a flow to its end.
    pub(super) async fn run(&self, key: &VisitorKey, mut flow: Flow, mut command: Command) -> Done {
        let mut permit = None;
        loop {
            let event = self.perform(key, &flow, command, &mut permit).await;
            match flow.on(event, self.clock.now()) {
                Step::Do(next, wanted) => (flow, command) = (next, wanted),
                Step::Done(done) => return done,
            }
        }
    }

    async fn perform(
        &self,
        key: &VisitorKey,
        flow: &Flow,
        command: Command,
        permit: &mut Option<OwnedSemaphorePermit>,
    ) -> Event {
        match command {
            Command::Load => self.load_newest(key).await,
            Command::Reload => self.reload(key).await,
            Command::Save { expected } => self.save(key, flow, expected).await,
            // What could not be stored would be a profile for nobody.
            Command::Authorize if !self.unsaved.is_empty() => Event::AuthorizeWithheld,
            Command::Authorize => {
                let begun = self.begin_call(permit).await;
                let result = self.server.authorize().await;
                self.end_call(key, Call::Authorize, &result, AuthorizeError::label, begun);
                Event::Authorized(result)
            }
            Command::Exchange(grant) => {
                let begun = self.begin_call(permit).await;
                let asked_at = self.clock.now();
                let result = self.server.exchange(grant).await;
                self.end_call(key, Call::Exchange, &result, TokenError::label, begun);
                Event::Exchanged(result, asked_at)
            }
            Command::Refresh(token) => {
                let begun = self.begin_call(permit).await;
                let asked_at = self.clock.now();
                let result = self.server.refresh(token).await;
                self.end_call(key, Call::Refresh, &result, TokenError::label, begun);
                Event::Refreshed(result, asked_at)
            }
        }
    }

    /// Waits for the flow's turn, which it keeps to its end.
    async fn begin_call(&self, permit: &mut Option<OwnedSemaphorePermit>) -> Instant {
        if permit.is_none() {
            *permit = self.permits.clone().acquire_owned().await.ok();
        }
        Instant::now()
    }

    fn end_call<T, E: Display>(
        &self,
        key: &VisitorKey,
        call: Call,
        result: &Result<T, E>,
        label: fn(&E) -> &'static str,
        begun: Instant,
    ) {
        let outcome = match result {
            Ok(_) => "ok",
            Err(error) => {
                tracing::warn!(visitor = %key, call = call.label(), %error, "an OAuth call failed");
                label(error)
            }
        };
        self.observer.oauth_call(call, outcome, begun.elapsed());
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
                tracing::error!(visitor = %key, %error, "a visitor session was not stored; it stays in memory");
                Event::SaveFailed
            }
        }
    }

    /// The store's record, or the unsaved one if that is newer or the store does not answer.
    async fn load_newest(&self, key: &VisitorKey) -> Event {
        let unsaved = self.unsaved.session(key);
        let stored = self.reload(key).await;
        let Some(session) = unsaved else {
            return stored;
        };
        let version = match &stored {
            Event::Loaded(Some(stored)) if stored.session.age() >= session.age() => None,
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
            Ok(record) => Event::Loaded(record.map(|(version, session)| Loaded {
                session,
                version: Some(version),
                is_stored: true,
            })),
            Err(error) => {
                tracing::error!(visitor = %key, %error, "a visitor session was not read");
                Event::LoadFailed
            }
        }
    }
}
