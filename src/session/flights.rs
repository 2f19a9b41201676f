//! Single flight: for each visitor at most one flow at a time in this process, whose result all who came meanwhile share.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::cache::Authorized;
use super::flow::Unavailable;
use crate::visitor::VisitorKey;

/// What a flow ends in.
pub(super) type Landing = Result<Authorized, Unavailable>;

/// The flows that are under way.
pub(super) struct Flights {
    shards: [Mutex<HashMap<VisitorKey, watch::Receiver<Option<Landing>>>>; SHARDS],
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
pub(super) struct Flight(watch::Receiver<Option<Landing>>);

/// The duty to run a flow. Dropped without [`Lead::land`] (a panic), it lands as an internal error: nobody waits for ever.
pub(super) struct Lead {
    flights: Arc<Flights>,
    key: VisitorKey,
    sender: watch::Sender<Option<Landing>>,
}

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
            Entry::Occupied(flight) => Ok(Boarding::Joined(Flight(flight.get().clone()))),
            Entry::Vacant(slot) => {
                if let Some(result) = settled() {
                    return Err(Ok(result));
                }
                if self.count.fetch_add(1, Ordering::Relaxed) >= limit {
                    self.count.fetch_sub(1, Ordering::Relaxed);
                    return Err(Err(Unavailable::Busy));
                }
                let (sender, receiver) = watch::channel(None);
                slot.insert(receiver.clone());
                let lead = Lead {
                    flights: self.clone(),
                    key: *key,
                    sender,
                };
                Ok(Boarding::Led(lead, Flight(receiver)))
            }
        }
    }

    /// The visitor's flow, if one is under way.
    pub(super) fn current(&self, key: &VisitorKey) -> Option<Flight> {
        self.shard(key).lock().get(key).cloned().map(Flight)
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

    fn shard(
        &self,
        key: &VisitorKey,
    ) -> &Mutex<HashMap<VisitorKey, watch::Receiver<Option<Landing>>>> {
        &self.shards[usize::from(key.as_bytes()[0]) % SHARDS]
    }
}

// === impl Flight ===

impl Flight {
    /// Waits for the result. Dropping this cancels nothing but the waiting.
    pub(super) async fn landing(mut self) -> Landing {
        match self.0.wait_for(Option::is_some).await {
            Ok(landing) => landing.clone().unwrap_or(Err(Unavailable::Internal)),
            Err(_) => Err(Unavailable::Internal),
        }
    }
}

// === impl Lead ===

impl Lead {
    /// Ends the flow: from here on nobody joins it, and all who wait have its result.
    pub(super) fn land(self, landing: Landing) {
        self.sender.send_replace(Some(landing));
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        self.flights.shard(&self.key).lock().remove(&self.key);
        self.sender.send_if_modified(|landing| {
            let unsent = landing.is_none();
            landing.get_or_insert(Err(Unavailable::Internal));
            unsent
        });
        self.flights.count.fetch_sub(1, Ordering::Relaxed);
        self.flights.landed.notify_waiters();
    }
}
