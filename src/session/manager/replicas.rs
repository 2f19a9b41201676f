//! What other replicas on the store are told, and what they tell.

use std::sync::Arc;

use tokio::sync::broadcast;

use super::{Inner, Manager};
use crate::session::cache::Authorized;
use crate::session::store::News;

impl Manager {
    /// Heeds what other replicas on the store tell.
    pub(super) async fn listen(&self) {
        let inner = &self.0;
        let Some(mut news) = inner
            .performer
            .vault
            .store()
            .shared()
            .map(|shared| shared.news())
        else {
            return;
        };
        loop {
            match news.recv().await {
                Ok(news) => inner.heed(news),
                Err(broadcast::error::RecvError::Lagged(_)) => inner.heed(News::Gap),
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    }
}

impl Inner {
    fn heed(&self, news: News) {
        let now = self.performer.clock.now();
        match news {
            News::Changed(key) => {
                self.cache.outdate(&key);
                if let Some(flight) = self.flights.current(&key) {
                    flight.overtake();
                }
                // What kept a visitor waiting here may be settled there.
                self.back_offs.clear(&key);
                self.performer.waiters.wake(&key);
            }
            News::Erased(key) => self.heed_erasure(&key),
            News::Released(key) => self.performer.waiters.wake(&key),
            News::Rejected(key, token) => {
                self.rejections.insert(key, (token, now));
                self.cache.reject_if(&key, token);
            }
            News::Gap => {
                self.performer.observer.news_missed();
                self.cache.outdate_all(now);
                self.performer.waiters.wake_all();
            }
        }
    }

    /// Tells the other replicas. They would find out by themselves: nobody waits for it.
    pub(super) fn announce_rejection(self: &Arc<Self>, authorized: &Authorized) {
        if self.settings.policy.replicas.is_none() {
            return;
        }
        let inner = self.clone();
        let (key, token) = (*authorized.visitor(), authorized.fingerprint());
        self.runtime.spawn(async move {
            if let Some(shared) = inner.performer.vault.store().shared()
                && let Err(error) = shared.announce_rejection(&key, token).await
            {
                tracing::debug!(visitor = %key, %error, "other replicas were not told of a rejected token");
            }
        });
    }
}
