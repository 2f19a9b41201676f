//! Flows: one at a time for a visitor, run apart from whoever began them, and what follows from their end.

use std::sync::Arc;

use super::Inner;
use crate::session::cache::Standing;
use crate::session::creations::{Absence, Creating};
use crate::session::flights::{Boarding, Flight, Landing, Lead};
use crate::session::flow::{Done, Flow, Unavailable, Want};
use crate::session::record::VisitorSession;
use crate::visitor::{Limit, VisitorKey};

/// For each flow that runs, so many may wait for their turn.
pub(super) const WAITING_PER_FLOW: usize = 256;

impl Inner {
    /// Begins a flow unless one is under way; whatever comes of it.
    pub(super) fn begin(self: &Arc<Self>, key: &VisitorKey, want: Want) {
        let limit = self.settings.max_flows * WAITING_PER_FLOW;
        if let Ok(Boarding::Led(lead, _)) = self.flights.board(key, limit, || None::<()>) {
            self.spawn(lead, *key, want, None, None);
        }
    }

    /// Joins or begins a flow; says whether it is our own.
    pub(super) fn board(
        self: &Arc<Self>,
        key: &VisitorKey,
        want: Want,
        absence: Absence,
        spend: Option<&(dyn Fn() -> Result<(), Limit> + Send + Sync)>,
        carried: impl FnOnce() -> Option<VisitorSession>,
    ) -> Result<(Flight, bool), Landing> {
        let limit = self.settings.max_flows * WAITING_PER_FLOW;
        let settled = || {
            self.cache
                .get(key, self.performer.clock.now())
                .filter(|cached| cached.standing != Standing::Outdated)
                .map(|cached| cached.authorized)
        };
        match self.flights.board(key, limit, settled)? {
            Boarding::Joined(flight) => Ok((flight, false)),
            Boarding::Led(lead, flight) => {
                let creating = match want.create {
                    true => match self.enter(absence, spend) {
                        Ok(creating) => Some(creating),
                        Err(reason) => {
                            lead.land(Err(reason));
                            return Err(Err(reason));
                        }
                    },
                    false => None,
                };
                // Before it can have ended a call.
                flight.serve_waiter();
                self.spawn(lead, *key, want, carried(), creating);
                Ok((flight, true))
            }
        }
    }

    /// Lets a profile be made, if there is room and `spend` agrees.
    pub(super) fn enter(
        &self,
        absence: Absence,
        spend: Option<&(dyn Fn() -> Result<(), Limit> + Send + Sync)>,
    ) -> Result<Creating, Unavailable> {
        let creating = self.creations.enter(absence);
        let creating = creating.ok_or(Unavailable::CreationsBusy)?;
        match spend.map_or(Ok(()), |spend| spend()) {
            Ok(()) => Ok(creating),
            Err(limit) => Err(Unavailable::Limited(limit)),
        }
    }

    pub(super) fn spawn(
        self: &Arc<Self>,
        lead: Lead,
        key: VisitorKey,
        want: Want,
        carried: Option<VisitorSession>,
        creating: Option<Creating>,
    ) {
        let inner = self.clone();
        self.runtime.spawn(async move {
            let _turn = match &creating {
                Some(creating) => creating.turn().await,
                None => None,
            };
            if inner.erasures.is_pending(&key) {
                return lead.land(Err(Unavailable::Erased));
            }
            let rejected = inner.rejected(&key);
            let want = Want { rejected, ..want };
            let policy = inner.settings.policy;
            let absence = creating
                .as_ref()
                .map_or(Absence::Unknown, Creating::absence);
            let (flow, command) = match absence {
                Absence::Minted if carried.is_none() => {
                    Flow::start_minted(want, policy, inner.performer.clock.now())
                }
                Absence::Minted | Absence::LookedFor => Flow::start_absent(want, policy),
                Absence::Unknown => Flow::start(want, policy),
            };
            let flow = flow.or_recover(carried);
            let (done, written) = inner.performer.run(&key, flow, command, &lead).await;
            let landing = inner.finish(&key, &lead, done, written).await;
            if lead.was_overtaken() {
                inner.cache.outdate(&key);
            }
            lead.land(landing);
        });
    }

    pub(super) fn conclude(&self, key: &VisitorKey, done: Done) -> Landing {
        let Done {
            result,
            unsaved,
            back_off,
            notes,
        } = done;
        for note in notes {
            self.performer.observer.note(note);
        }
        match back_off {
            Some(retry_after) => {
                self.back_offs
                    .failed(key, retry_after, self.performer.clock.now(), &self.settings)
            }
            None if result.is_ok() => self.back_offs.clear(key),
            None => {}
        }
        if let Some(session) = unsaved {
            self.performer.unsaved.keep(key, &session);
        }
        let now = self.performer.clock.now();
        let landing = result.and_then(|tokens| {
            // Rejected while the flow ran, which did not know of it.
            if self.rejected(key) == Some(tokens.access.fingerprint()) {
                return Err(Unavailable::Rejected);
            }
            let cached = self
                .cache
                .insert(*key, &tokens, &self.settings.policy, &self.render, now);
            cached.ok_or(Unavailable::Internal)
        });
        if let Err(reason) = &landing {
            self.performer.observer.flow_failed(*reason);
        }
        landing
    }
}
