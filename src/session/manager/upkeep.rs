//! What goes on beside the requests: writing what could not be written, sweeping what has expired, and the end.

use std::sync::Arc;
use std::time::Duration;

use rand::seq::SliceRandom;

use super::{Inner, Manager};
use crate::session::flights::Boarding;
use crate::session::flow::{Flow, Unavailable};

/// How long unsaved sessions wait before they are tried again.
pub(super) const SAVE_AGAIN_AFTER: Duration = Duration::from_millis(500);
/// So many failures in a row mean that the store is still down.
const SAVE_FAILURES: usize = 4;
/// How often expired records are swept, how many at once, and how long visitors have the store to themselves when there are more.
const FIRST_SWEEP: Duration = Duration::from_secs(1);
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);
const SWEEP_PAUSE: Duration = Duration::from_secs(1);
const SWEEP_LIMIT: usize = 1000;

impl Manager {
    /// Writes what could not be written, sweeps what has expired, and listens to other replicas; until it is dropped.
    pub async fn maintain(&self) {
        tokio::join!(self.tidy(), self.listen(), self.make_up_for_erasures());
    }

    async fn tidy(&self) {
        let inner = &self.0;
        let mut sweep = Box::pin(pingora::time::sleep(FIRST_SWEEP));
        loop {
            tokio::select! {
                () = &mut sweep => {
                    let store = inner.performer.vault.store();
                    let swept = store.sweep(inner.performer.clock.now(), SWEEP_LIMIT).await;
                    let pause = match swept {
                        // There is more: as many expire in a minute as there are new visitors in one, however many these are.
                        Ok(SWEEP_LIMIT..) => SWEEP_PAUSE,
                        Ok(_) => SWEEP_INTERVAL,
                        Err(error) => {
                            tracing::warn!(%error, "expired visitor sessions could not be swept");
                            SWEEP_INTERVAL
                        }
                    };
                    sweep.set(pingora::time::sleep(pause));
                }
                () = inner.performer.unsaved.added() => while !inner.save_all_unsaved().await {
                    tokio::time::sleep(SAVE_AGAIN_AFTER).await;
                }
            }
        }
    }

    /// Lets flows land and writes what is unsaved, within `bound`; then closes the store. Says how many sessions are still
    /// unsaved.
    pub async fn close(&self, bound: Duration) -> u64 {
        let finish = async {
            self.0.flights.all_landed().await;
            while !(self.0.erase_all_pending().await && self.0.save_all_unsaved().await) {
                tokio::time::sleep(SAVE_AGAIN_AFTER).await;
            }
        };
        let _ = tokio::time::timeout(bound, finish).await;
        self.0.performer.vault.store().close().await;
        self.unsaved()
    }
}

impl Inner {
    /// Tries to write every unsaved session, in any order, so that none stands in another's way; stops when several in a row
    /// fail. Says whether none is left.
    async fn save_all_unsaved(self: &Arc<Self>) -> bool {
        let mut keys = self.performer.unsaved.keys();
        keys.shuffle(&mut rand::rng());
        let mut failures = 0;
        for key in keys {
            if failures == SAVE_FAILURES {
                break;
            }
            let flight = match self.flights.board(&key, usize::MAX, || None::<()>) {
                Ok(Boarding::Joined(flight)) => flight,
                Ok(Boarding::Led(lead, flight)) => {
                    let inner = self.clone();
                    self.runtime.spawn(async move {
                        let landing = match inner.performer.unsaved.session(&key) {
                            Some(session) => {
                                let (flow, command) =
                                    Flow::save_late(session, inner.settings.policy);
                                let (done, written) =
                                    inner.performer.run(&key, flow, command, &lead).await;
                                if done.unsaved.is_none() {
                                    // Written, or overtaken by something newer.
                                    inner.performer.unsaved.remove(&key);
                                }
                                inner.finish(&key, &lead, done, written).await
                            }
                            None => Err(Unavailable::NotCreated),
                        };
                        lead.land(landing);
                    });
                    flight
                }
                Err(_) => return false,
            };
            let _ = flight.landing().await;
            match self.performer.unsaved.contains(&key) {
                true => failures += 1,
                false => failures = 0,
            }
        }
        self.performer.unsaved.is_empty()
    }
}
