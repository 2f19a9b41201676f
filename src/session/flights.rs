//! Single flight: for each visitor at most one flow at a time in this process, whose result all who came meanwhile share.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::cache::Authorized;
use super::flow::Unavailable;
use super::waiting::waiter;
use crate::trace::SpanContext;
use crate::visitor::VisitorKey;

/// What a flow ends in.
pub(super) type Landing = Result<Authorized, Unavailable>;

/// The flows that are under way.
pub(super) struct Flights {
    shards: [Mutex<HashMap<VisitorKey, Flight>>; SHARDS],
    count: AtomicUsize,
    landed: Notify,
}

/// A flow under way, or one to be begun.
pub(super) enum Boarding {
    /// Somebody else's flow: wait for it.
    Joined(Flight),
    /// Yours: run it, and end it with [`Lead::land`].
    Led(Lead, Flight),
}

/// A flow to wait for.
#[derive(Clone)]
pub(super) struct Flight {
    landing: watch::Receiver<Option<Landing>>,
    urgent: Arc<watch::Sender<bool>>,
    /// Whether another replica has written the visitor's record meanwhile.
    overtaken: Arc<AtomicBool>,
    /// Whether its visitor has been erased meanwhile.
    erased: Arc<AtomicBool>,
    waited_by: WaitedBy,
}

/// Whether a visitor waits for a flow, or will at some time. Flows for which nobody waits give way to the others.
#[derive(Clone)]
pub(super) struct Urgency(watch::Receiver<bool>);

/// The duty to run a flow. Dropped without [`Lead::land`] (a panic), it lands as an internal error: nobody waits for ever.
pub(super) struct Lead {
    flights: Arc<Flights>,
    key: VisitorKey,
    sender: watch::Sender<Option<Landing>>,
    landing: Landing,
    urgency: Urgency,
    overtaken: Arc<AtomicBool>,
    erased: Arc<AtomicBool>,
    waited_by: WaitedBy,
}

/// The span of the first request that waits for a flow, once one does.
pub(super) type WaitedBy = Arc<OnceLock<SpanContext>>;

const SHARDS: usize = 16;

// === impl Flights ===

impl Flights {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            shards: Default::default(),
            count: AtomicUsize::new(0),
            landed: Notify::new(),
        })
    }

    /// Joins the visitor's flow, or begins one. `settled` is asked under the lock, when there is none: a flow that landed
    /// a moment ago has left its result there. `limit` bounds the flows under way.
    pub(super) fn board<T>(
        self: &Arc<Self>,
        key: &VisitorKey,
        limit: usize,
        settled: impl FnOnce() -> Option<T>,
    ) -> Result<Boarding, Result<T, Unavailable>> {
        let mut shard = self.shard(key).lock();
        match shard.entry(*key) {
            Entry::Occupied(flight) => Ok(Boarding::Joined(flight.get().clone())),
            Entry::Vacant(slot) => {
                if let Some(result) = settled() {
                    return Err(Ok(result));
                }
                if self.count.fetch_add(1, Ordering::Relaxed) >= limit {
                    self.count.fetch_sub(1, Ordering::Relaxed);
                    return Err(Err(Unavailable::Busy));
                }
                let (sender, landing) = watch::channel(None);
                let (urgent, urgency) = watch::channel(false);
                let overtaken = Arc::new(AtomicBool::new(false));
                let erased = Arc::new(AtomicBool::new(false));
                let waited_by = WaitedBy::default();
                let flight = Flight {
                    landing,
                    urgent: Arc::new(urgent),
                    overtaken: overtaken.clone(),
                    erased: erased.clone(),
                    waited_by: waited_by.clone(),
                };
                slot.insert(flight.clone());
                let lead = Lead {
                    flights: self.clone(),
                    key: *key,
                    sender,
                    landing: Err(Unavailable::Internal),
                    urgency: Urgency(urgency),
                    overtaken,
                    erased,
                    waited_by,
                };
                Ok(Boarding::Led(lead, flight))
            }
        }
    }

    /// The visitor's flow, if one is under way.
    pub(super) fn current(&self, key: &VisitorKey) -> Option<Flight> {
        self.shard(key).lock().get(key).cloned()
    }

    /// The visitors among `keys` who have a flow under way.
    pub(super) fn within(&self, keys: &RangeInclusive<VisitorKey>) -> Vec<VisitorKey> {
        let mut within = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock();
            within.extend(shard.keys().filter(|key| keys.contains(key)));
        }
        within
    }

    /// How many flows are under way.
    pub(super) fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Waits until no flow is under way.
    pub(super) async fn all_landed(&self) {
        loop {
            let landed = self.landed.notified();
            if self.len() == 0 {
                return;
            }
            landed.await;
        }
    }

    fn shard(&self, key: &VisitorKey) -> &Mutex<HashMap<VisitorKey, Flight>> {
        &self.shards[usize::from(key.as_bytes()[0]) % SHARDS]
    }
}

// === impl Flight ===

impl Flight {
    /// Waits for the result. Dropping this cancels nothing but the waiting.
    pub(super) async fn landing(mut self) -> Landing {
        match self.landing.wait_for(Option::is_some).await {
            Ok(landing) => landing.clone().unwrap_or(Err(Unavailable::Internal)),
            Err(_) => Err(Unavailable::Internal),
        }
    }
}

impl Flight {
    /// It works for whoever waits here, unless it works for somebody already.
    pub(super) fn serve_waiter(&self) {
        if let Some(waiter) = waiter() {
            let _ = self.waited_by.set(waiter);
        }
    }

    /// A visitor waits for it.
    pub(super) fn hurry(&self) {
        self.serve_waiter();
        self.urgent
            .send_if_modified(|urgent| !std::mem::replace(urgent, true));
    }

    /// Another replica has written the visitor's record.
    pub(super) fn overtake(&self) {
        self.overtaken.store(true, Ordering::Relaxed);
    }

    /// Its visitor has been erased: it must come to nothing.
    pub(super) fn erase(&self) {
        self.erased.store(true, Ordering::SeqCst);
    }
}

// === impl Urgency ===

impl Urgency {
    /// Waits until somebody waits for the flow; perhaps for ever.
    pub(super) async fn arises(&mut self) {
        if self.0.wait_for(|urgent| *urgent).await.is_err() {
            std::future::pending().await
        }
    }
}

// === impl Lead ===

impl Lead {
    /// Whether another replica has written the visitor's record since the flow began.
    pub(super) fn was_overtaken(&self) -> bool {
        self.overtaken.load(Ordering::Relaxed)
    }

    /// Whether its visitor has been erased since it began.
    pub(super) fn was_erased(&self) -> bool {
        self.erased.load(Ordering::SeqCst)
    }

    /// Whether somebody waits for it.
    pub(super) fn urgency(&self) -> Urgency {
        self.urgency.clone()
    }

    /// Whose span its calls belong to.
    pub(super) fn waited_by(&self) -> WaitedBy {
        self.waited_by.clone()
    }

    /// Ends the flow: from here on nobody joins it, and all who wait have its result.
    pub(super) fn land(mut self, landing: Landing) {
        self.landing = landing;
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        // In this order: who has the result and is not content with it must not board the same flight again.
        self.flights.shard(&self.key).lock().remove(&self.key);
        let landing = std::mem::replace(&mut self.landing, Err(Unavailable::Internal));
        self.sender.send_replace(Some(landing));
        self.flights.count.fetch_sub(1, Ordering::Relaxed);
        self.flights.landed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board(flights: &Arc<Flights>, key: &VisitorKey) -> Boarding {
        let boarding = flights.board(key, usize::MAX, || None::<()>);
        boarding.unwrap_or_else(|_| panic!("nothing is settled, and there is room"))
    }

    #[test]
    fn who_has_the_result_finds_no_flight_to_join() {
        let (flights, key) = (Flights::new(), VisitorKey::from_bytes([1; 32]));
        for _ in 0..2000 {
            let Boarding::Led(lead, flight) = board(&flights, &key) else {
                panic!("a flight that has landed was joined");
            };
            let found = std::thread::scope(|scope| {
                let waiting = scope.spawn(|| {
                    while flight.landing.borrow().is_none() {
                        std::hint::spin_loop();
                    }
                    flights.current(&key).is_some()
                });
                lead.land(Err(Unavailable::NotCreated));
                waiting.join()
            });
            assert!(!found.expect("the waiting thread ends"));
        }
        assert_eq!(flights.len(), 0);
    }

    #[tokio::test]
    async fn a_flow_that_panics_lands_as_an_internal_error() {
        let (flights, key) = (Flights::new(), VisitorKey::from_bytes([1; 32]));
        let Boarding::Led(lead, flight) = board(&flights, &key) else {
            panic!("nobody else is there");
        };
        drop(lead);
        assert_eq!(flight.landing().await.err(), Some(Unavailable::Internal));
    }
}
