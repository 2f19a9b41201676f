//! Which of the waiting faults meet a request. PURE but for the dice, which are passed in.
//!
//! Faults of an endpoint are used up in the order in which they were added. One request meets at most one delay of each
//! kind and one *ending* (an answer in place of the right one, or none); if no ending meets it, also at most one of each
//! kind of *edit* of the right answer.

use std::time::Duration;

use super::{Endpoint, Fault, FaultKind};

/// The faults that wait.
#[derive(Default)]
pub(in crate::simulator) struct FaultQueue(Vec<Queued>);

struct Queued {
    fault: Fault,
    ends_at_ms: Option<u64>,
}

/// The faults that meet one request.
#[derive(Debug, Default, PartialEq)]
pub(in crate::simulator) struct Plan {
    pub(in crate::simulator) delay: Duration,
    pub(in crate::simulator) late_delay: Duration,
    pub(in crate::simulator) ending: Option<FaultKind>,
    pub(in crate::simulator) edits: Vec<FaultKind>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Slot {
    Delay,
    LateDelay,
    Ending,
    Edit(&'static str),
}

// === impl FaultKind ===

impl FaultKind {
    fn slot(&self) -> Slot {
        match self {
            Self::Delay { .. } => Slot::Delay,
            Self::DelayAfterCommit { .. } => Slot::LateDelay,
            Self::WrongState | Self::MissingField { .. } | Self::ExpiresIn { .. } => {
                Slot::Edit(self.name())
            }
            _ => Slot::Ending,
        }
    }
}

// === impl FaultQueue ===

impl FaultQueue {
    pub(in crate::simulator) fn add(&mut self, fault: Fault, now_ms: u64) {
        let ends_at_ms = fault.for_ms.map(|duration| now_ms.saturating_add(duration));
        self.0.push(Queued { fault, ends_at_ms });
    }

    pub(in crate::simulator) fn clear(&mut self) {
        self.0.clear();
    }

    /// What still waits, with the times that are left.
    pub(in crate::simulator) fn list(&mut self, now_ms: u64) -> Vec<Fault> {
        self.forget_ended(now_ms);
        self.0.iter().map(|queued| queued.fault.clone()).collect()
    }

    /// Uses up the faults that meet a request; `roll` throws the dice, 0 to 1.
    pub(in crate::simulator) fn take(
        &mut self,
        endpoint: Endpoint,
        now_ms: u64,
        mut roll: impl FnMut() -> f64,
    ) -> Plan {
        let mut plan = Plan::default();
        if self.0.is_empty() {
            return plan;
        }
        self.forget_ended(now_ms);
        let mut filled = Vec::new();
        for edits in [false, true] {
            for queued in self
                .0
                .iter_mut()
                .filter(|queued| queued.fault.endpoint == endpoint)
            {
                let fault = &mut queued.fault;
                let slot = fault.kind.slot();
                let is_edit = matches!(slot, Slot::Edit(_));
                let useless = is_edit && plan.ending.is_some();
                if is_edit != edits || useless || fault.times == Some(0) || filled.contains(&slot) {
                    continue;
                }
                if fault.probability < 1.0 && roll() >= fault.probability {
                    continue;
                }
                fault.times = fault.times.map(|times| times - 1);
                filled.push(slot);
                plan.meet(&fault.kind);
            }
        }
        self.0.retain(|queued| queued.fault.times != Some(0));
        plan
    }

    fn forget_ended(&mut self, now_ms: u64) {
        self.0
            .retain(|queued| queued.ends_at_ms.is_none_or(|end| now_ms < end));
    }
}

// === impl Plan ===

impl Plan {
    fn meet(&mut self, kind: &FaultKind) {
        match kind {
            FaultKind::Delay { ms } => self.delay = Duration::from_millis(*ms),
            FaultKind::DelayAfterCommit { ms } => self.late_delay = Duration::from_millis(*ms),
            edit if matches!(edit.slot(), Slot::Edit(_)) => self.edits.push(edit.clone()),
            ending => self.ending = Some(ending.clone()),
        }
    }

    /// The names of all faults in this plan, for the ledger.
    pub(in crate::simulator) fn names(&self) -> Vec<&'static str> {
        let delays = [
            (self.delay, "delay"),
            (self.late_delay, "delay_after_commit"),
        ];
        let delays = delays
            .into_iter()
            .filter(|(delay, _)| !delay.is_zero())
            .map(|(_, name)| name);
        delays
            .chain(self.ending.iter().chain(&self.edits).map(FaultKind::name))
            .collect()
    }
}
