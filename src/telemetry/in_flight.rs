//! Counts exchanges in flight: for the gauge, and so that a drain knows when it is over.
//!
//! Each worker counts in a lane of its own, so that none takes a line of the cache from another one.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use crossbeam_utils::CachePadded;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Counts exchanges in flight, so that a drain knows when it is over.
#[derive(Clone, Debug, Default)]
pub struct InFlight(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    lanes: Mutex<Vec<Weak<CachePadded<Count>>>>,
    /// Whether somebody waits for the end of the last exchange.
    awaited: AtomicBool,
    left: Notify,
}

#[derive(Debug)]
struct Count {
    exchanges: AtomicUsize,
    shared: Arc<Shared>,
}

/// Where one worker counts.
#[derive(Debug)]
pub struct Lane(Arc<CachePadded<Count>>);

/// One exchange's place in the count.
pub struct Ticket(Arc<CachePadded<Count>>);

// === impl InFlight ===

impl InFlight {
    /// One lane more.
    pub fn lane(&self) -> Lane {
        let count = Arc::new(CachePadded::new(Count {
            exchanges: AtomicUsize::new(0),
            shared: self.0.clone(),
        }));
        self.0.lanes.lock().push(Arc::downgrade(&count));
        Lane(count)
    }

    /// How many exchanges are in flight.
    pub fn count(&self) -> usize {
        let lanes = self.0.lanes.lock();
        let counts = lanes.iter().filter_map(Weak::upgrade);
        counts
            .map(|count| count.exchanges.load(Ordering::SeqCst))
            .sum()
    }

    /// Waits until none is.
    pub async fn emptied(&self) {
        // Who leaves looks at this after they have left, and here it is counted after it was set: one of the two sees the other.
        self.0.awaited.store(true, Ordering::SeqCst);
        loop {
            let left = self.0.left.notified();
            if self.count() == 0 {
                return;
            }
            left.await;
        }
    }
}

impl Lane {
    /// Enters one; it leaves when the ticket is dropped.
    pub fn enter(&self) -> Ticket {
        self.0.exchanges.fetch_add(1, Ordering::Relaxed);
        Ticket(self.0.clone())
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.exchanges.fetch_sub(1, Ordering::SeqCst);
        if self.0.shared.awaited.load(Ordering::SeqCst) {
            self.0.shared.left.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn a_drain_hears_of_the_last_one_whichever_thread_it_leaves_on() {
        for _ in 0..200 {
            let in_flight = InFlight::default();
            let lanes = [(); 4].map(|()| in_flight.lane());
            let tickets: Vec<_> = lanes
                .iter()
                .flat_map(|lane| [lane.enter(), lane.enter()])
                .collect();
            assert_eq!(in_flight.count(), 8);
            // A worker that is gone has its exchanges counted all the same.
            drop(lanes);
            let leaving = tickets.into_iter().map(|ticket| {
                tokio::spawn(async move {
                    tokio::task::yield_now().await;
                    drop(ticket);
                })
            });
            let leaving: Vec<_> = leaving.collect();
            let emptied = tokio::time::timeout(Duration::from_secs(20), in_flight.emptied());
            emptied.await.expect("nobody is left");
            assert_eq!(in_flight.count(), 0);
            for left in leaving {
                left.await.unwrap();
            }
        }
    }
}
