//! Forgetting a visitor: in the store, in memory, and in flows under way, here and at the other replicas.

use std::sync::Arc;
use std::time::Instant;

use super::upkeep::SAVE_AGAIN_AFTER;
use super::{Inner, Manager};
use crate::session::erasures::Remember;
use crate::session::flights::{Landing, Lead};
use crate::session::flow::{Done, Note, Unavailable};
use crate::session::observer::StoreCall;
use crate::session::vault::VaultError;
use crate::visitor::VisitorKey;

// === impl Manager ===

impl Manager {
    /// Removes everything that is known of a visitor, here and at every other replica on the store. Until that is done, nothing of the
    /// visitor is used or made; where the store cannot do it now, it is asked again until it can.
    pub async fn forget(&self, key: &VisitorKey, remember: Remember) -> Result<(), VaultError> {
        let inner = &self.0;
        inner
            .erasures
            .begin(key, remember, inner.performer.clock.now());
        let result = inner.erase(key, remember).await;
        if result.is_err() {
            inner.performer.observer.note(Note::ErasurePostponed);
            inner.erasures.postpone();
        }
        result
    }

    /// Erasures that the store could not do yet.
    pub fn pending_erasures(&self) -> usize {
        self.0.erasures.pending().len()
    }

    pub(super) async fn make_up_for_erasures(&self) {
        loop {
            self.0.erasures.postponed().await;
            while !self.0.erase_all_pending().await {
                tokio::time::sleep(SAVE_AGAIN_AFTER).await;
            }
        }
    }
}

// === impl Inner ===

impl Inner {
    /// Erases a visitor for whom that has begun.
    async fn erase(&self, key: &VisitorKey, remember: Remember) -> Result<(), VaultError> {
        self.drop_what_is_known(key);
        if remember == Remember::WhileCookiesLast {
            let now = self.performer.clock.now();
            self.performer.vault.bury(key, now).await?;
        }
        self.remove(key).await?;
        // A flow under way makes no further step, but one may be on its way to the store.
        if let Some(flight) = self.flights.current(key) {
            let _ = flight.landing().await;
            self.drop_what_is_known(key);
            self.remove(key).await?;
        }
        self.erasures.end(key);
        Ok(())
    }

    async fn remove(&self, key: &VisitorKey) -> Result<(), VaultError> {
        let begun = Instant::now();
        let result = self.performer.vault.remove(key).await;
        let observer = &self.performer.observer;
        observer.store_call(StoreCall::Remove, result.is_ok(), begun.elapsed());
        if result? {
            observer.note(Note::Erased);
        }
        Ok(())
    }

    /// Says whether none is left.
    pub(super) async fn erase_all_pending(&self) -> bool {
        for (key, remember) in self.erasures.pending() {
            if self.erase(&key, remember).await.is_err() {
                return false;
            }
        }
        true
    }

    /// Another replica has erased the visitor.
    pub(super) fn heed_erasure(&self, key: &VisitorKey) {
        self.erasures.note(key, self.performer.clock.now());
        self.drop_what_is_known(key);
        self.performer.waiters.wake(key);
    }

    /// In this order: a flow that lands meanwhile either sees that it was erased, or has its result dropped here.
    fn drop_what_is_known(&self, key: &VisitorKey) {
        if let Some(flight) = self.flights.current(key) {
            flight.erase();
        }
        self.cache.remove(key);
        self.performer.unsaved.remove(key);
        self.back_offs.clear(key);
        self.rejections.invalidate(key);
    }

    pub(super) fn was_erased(&self, key: &VisitorKey, lead: &Lead) -> bool {
        lead.was_erased() || self.erasures.is_pending(key)
    }

    /// Ends a flow with what it has come to; with nothing, if its visitor was erased meanwhile. What it may have `written` is then taken
    /// back: the erasure may have come before the write.
    pub(super) async fn finish(
        self: &Arc<Self>,
        key: &VisitorKey,
        lead: &Lead,
        done: Done,
        written: bool,
    ) -> Landing {
        let landing = self.conclude(key, done);
        if !self.was_erased(key, lead) {
            return landing;
        }
        self.cache.remove(key);
        self.performer.unsaved.remove(key);
        if written && !self.erasures.is_pending(key) && self.remove(key).await.is_err() {
            let now = self.performer.clock.now();
            self.erasures.begin(key, Remember::ADay, now);
            self.erasures.postpone();
        }
        Err(Unavailable::Erased)
    }
}
