//! What was counted in the last hour, a look every ten seconds, for the plots of the status page.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::totals::Totals;
use crate::clock::Timestamp;

/// The looks of the last hour. Clones are handles to the same one.
#[derive(Clone, Debug, Default)]
pub struct History(Arc<Mutex<VecDeque<(Timestamp, Totals)>>>);

/// What came between two looks.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// How long that was.
    pub took: Duration,
    /// What came.
    pub came: Totals,
}

/// How often somebody looks.
pub const LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// How far back the history goes.
pub const SPAN: Duration = Duration::from_secs(3600);

// === impl History ===

impl History {
    /// Keeps what has been counted by `now`.
    pub fn look(&self, now: Timestamp, totals: Totals) {
        let mut looks = self.0.lock();
        while looks
            .front()
            .is_some_and(|(then, _)| now.since(*then) > SPAN)
        {
            looks.pop_front();
        }
        looks.push_back((now, totals));
    }

    /// What came in the last `window` before `now`, when `totals` have been counted, or in as much of it as there was.
    pub fn lately(&self, window: Duration, now: Timestamp, totals: &Totals) -> Step {
        let looks = self.0.lock();
        let first = looks.iter().find(|(then, _)| now.since(*then) <= window);
        match first {
            Some((then, before)) => Step {
                took: now.since(*then),
                came: totals.since(before),
            },
            None => Step {
                took: Duration::ZERO,
                came: totals.clone(),
            },
        }
    }

    /// The last hour, or as much of it as there was, in `parts` steps of the same length at most, the latest last.
    pub fn steps(&self, parts: usize) -> Vec<Step> {
        let looks = self.0.lock();
        let stride = (looks.len().max(1) - 1).div_ceil(parts.max(1)).max(1);
        // Counted from the end, so that the latest is always there.
        let mut marks: Vec<_> = looks.iter().rev().step_by(stride).collect();
        marks.reverse();
        let pairs = marks.windows(2);
        pairs
            .map(|pair| Step {
                took: pair[1].0.since(pair[0].0),
                came: pair[1].1.since(&pair[0].1),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(requests: u64) -> Totals {
        let mut totals = Totals::default();
        totals.routes.insert("/".into(), requests);
        totals
    }

    #[test]
    fn an_hour_is_kept_and_told_in_steps() {
        let history = History::default();
        let at = |look: u64| Timestamp::from_secs(1_700_000_000 + look * 10);
        assert_eq!(history.steps(60), []);
        let none = history.lately(SPAN, at(0), &counted(7));
        assert_eq!((none.took, none.came.requests()), (Duration::ZERO, 7));
        for look in 0..1000 {
            history.look(at(look), counted(look * 2));
            if look == 20 {
                assert_eq!(history.steps(60).len(), 20);
            }
        }
        assert_eq!(history.0.lock().len(), 361);
        let steps = history.steps(60);
        assert_eq!(steps.len(), 60);
        for step in &steps {
            assert_eq!((step.took.as_secs(), step.came.requests()), (60, 12));
        }
        let lately = history.lately(Duration::from_secs(300), at(999), &counted(2000));
        assert_eq!((lately.took.as_secs(), lately.came.requests()), (300, 62));
    }
}
