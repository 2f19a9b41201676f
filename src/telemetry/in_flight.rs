//! Counts exchanges in flight: for the gauge, and so that a drain knows when it is over.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Counts exchanges in flight, so that a drain knows when it is over.
#[derive(Clone, Debug, Default)]
pub struct InFlight(Arc<Counter>);

#[derive(Debug, Default)]
struct Counter {
    count: AtomicUsize,
    emptied: Notify,
}

/// One exchange's place in the count.
pub struct Ticket(Arc<Counter>);

// === impl InFlight ===

impl InFlight {
    /// Enters one; it leaves when the ticket is dropped.
    pub fn enter(&self) -> Ticket {
        self.0.count.fetch_add(1, Ordering::Relaxed);
        Ticket(self.0.clone())
    }

    /// How many exchanges are in flight.
    pub fn count(&self) -> usize {
        self.0.count.load(Ordering::Relaxed)
    }

    /// Waits until none is.
    pub async fn emptied(&self) {
        loop {
            let emptied = self.0.emptied.notified();
            if self.count() == 0 {
                return;
            }
            emptied.await;
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.emptied.notify_waiters();
        }
    }
}
