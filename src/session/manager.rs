//! The session manager: owns the store, the authorization server's client and the single flight, and is the only one who
//! makes an [`Authorized`].
//!
//! It decides nothing about a visitor's life: that is [`Flow`]. It has flows run, has what could not be written
//! written later, and holds visitors back after failures. Flows run detached from the request that began them.

mod erasing;
mod life;
mod looking;
mod revoking;

pub use looking::{FindError, SessionPage};
pub use revoking::RevokeError;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use rand::seq::SliceRandom;
use tokio::runtime::Handle;
use tokio::sync::broadcast;

use super::backoff::BackOffs;
use super::cache::{Authorized, Cached, RenderToken, Standing, TokenCache};
use super::creations::{Absence, Creating, Creation, Creations};
use super::erasures::Erasures;
use super::flights::{Boarding, Flights, Landing, Lead};
use super::flow::{Done, Event, Flow, Unavailable, Want};
use super::freshness::Freshness;
use super::moving::{self, Adoption, ExportError, Exporter, ImportFailed, Summary};
use super::observer::Observer;
use super::performer::{Performer, Turns};
use super::policy::Settings;
use super::record::VisitorSession;
use super::recovery::Recovery;
use super::store::{Census, News, StoreError};
use super::unsaved::Unsaved;
use super::vault::Vault;
use super::waiters::Waiters;
use crate::clock::{Clock, Timestamp};
use crate::oauth::{AuthorizationServer, TokenFingerprint, VendorToken};
use crate::visitor::{Limit, VisitorId, VisitorKey};

pub use life::{Life, TokenLife};

/// The session manager. Cloning it gives another handle to the same one.
#[derive(Clone)]
pub struct Manager(Arc<Inner>);

/// What the manager is made of.
pub struct Parts {
    /// The store with its keyring.
    pub vault: Vault,
    /// Dressipi's OAuth endpoints.
    pub server: Arc<dyn AuthorizationServer>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The numbers.
    pub settings: Settings,
    /// How a token becomes a header.
    pub render: RenderToken,
    /// Who counts.
    pub observer: Arc<dyn Observer>,
    /// Where flows run, and with them the connections of `server`.
    pub runtime: Handle,
}

/// What followed from a rejected token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// The token is not used any more; [`Manager::ensure`] gets another one.
    Replaceable,
    /// The visitor's token was replaced for this reason a moment ago: the fault is not the token's.
    Ignored,
}

struct Inner {
    performer: Performer,
    settings: Settings,
    render: RenderToken,
    runtime: Handle,
    cache: TokenCache,
    flights: Arc<Flights>,
    creations: Arc<Creations>,
    back_offs: BackOffs,
    erasures: Erasures,
    rejections: moka::sync::Cache<VisitorKey, (TokenFingerprint, Timestamp)>,
}

/// For each flow that runs, so many may wait for their turn.
const WAITING_PER_FLOW: usize = 256;
/// How often a request that waited for somebody else's flow looks again.
const MAX_TRIES: usize = 3;
/// A request does not wait longer than that for the cookie that the next one may need.
const RECOVERY_BOUND: Duration = Duration::from_millis(100);
/// How long unsaved sessions wait before they are tried again.
const SAVE_AGAIN_AFTER: Duration = Duration::from_millis(500);
/// So many failures in a row mean that the store is still down.
const SAVE_FAILURES: usize = 4;
/// How often expired records are swept, how many at once, and how long visitors have the store to themselves when there are more.
const FIRST_SWEEP: Duration = Duration::from_secs(1);
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);
const SWEEP_PAUSE: Duration = Duration::from_secs(1);
const SWEEP_LIMIT: usize = 1000;

// === impl Manager ===

impl Manager {
    /// A manager of `parts`.
    pub fn new(parts: Parts) -> Self {
        let Parts {
            vault,
            server,
            clock,
            mut settings,
            render,
            observer,
            runtime,
        } = parts;
        // Nobody else writes to a store that is this process's alone.
        let shared = vault.store().shared().is_some();
        settings.policy.replicas = settings.policy.replicas.filter(|_| shared);
        let replicas = settings.policy.replicas;
        Self(Arc::new(Inner {
            cache: TokenCache::new(
                settings.cache_capacity,
                replicas.map(|replicas| replicas.cache_validity),
            ),
            flights: Flights::new(),
            creations: Creations::new(settings.max_creations, WAITING_PER_FLOW),
            back_offs: BackOffs::new(&settings),
            erasures: Erasures::new(settings.cache_capacity),
            rejections: moka::sync::Cache::builder()
                .max_capacity(settings.cache_capacity)
                .time_to_live(Duration::from_secs(3600))
                .build(),
            performer: Performer {
                vault,
                server,
                clock,
                observer,
                unsaved: Unsaved::default(),
                turns: Turns::new(settings.max_flows),
                waiters: Waiters::default(),
                lease_term: replicas.map_or(Duration::ZERO, |replicas| replicas.lease_term),
            },
            settings,
            render,
            runtime,
        }))
    }

    /// The token of a known visitor, without waiting for anything: what nearly every request needs. Begins in the
    /// background what will soon be due: a refresh, or a look at what the store says.
    pub fn current(&self, key: &VisitorKey, now: Timestamp) -> Option<Authorized> {
        let inner = &self.0;
        let Cached {
            authorized,
            freshness,
            standing,
        } = inner.cache.get(key, now)?;
        if standing == Standing::Outdated {
            return None;
        }
        let renew = freshness == Freshness::RefreshDue;
        if (renew || standing == Standing::CheckSoon) && !inner.back_offs.holds(key, now) {
            let create = false;
            let rejected = None;
            inner.begin(
                key,
                Want {
                    create,
                    renew,
                    rejected,
                },
            );
        }
        Some(authorized)
    }

    /// The visitor's token, whatever it takes within the time that a request may wait. A profile is made for it only if
    /// `create`. A cached token that could not be looked up anew will do as long as it lives: whoever has a store that is
    /// down is better served than nobody.
    pub async fn ensure(&self, key: &VisitorKey, create: bool) -> Result<Authorized, Unavailable> {
        let creation = match create {
            true => Creation::Freely,
            false => Creation::Never,
        };
        self.ensure_or_recover(key, creation, None).await
    }

    /// The same; where the store truly has no record of the visitor, `recovery` brings back what it had.
    pub async fn ensure_or_recover(
        &self,
        key: &VisitorKey,
        creation: Creation<'_>,
        recovery: Option<Recovery<'_>>,
    ) -> Result<Authorized, Unavailable> {
        let waiting = self.ensure_unbounded(key, creation, recovery);
        let reason = match tokio::time::timeout(self.0.settings.max_wait, waiting).await {
            Ok(Ok(authorized)) => return Ok(authorized),
            Ok(Err(reason)) => reason,
            Err(_) => Unavailable::TimedOut,
        };
        match reason {
            Unavailable::Store
            | Unavailable::TimedOut
            | Unavailable::Busy
            | Unavailable::Dressipi => self.0.cached(key).ok_or(reason),
            _ => Err(reason),
        }
    }

    async fn ensure_unbounded(
        &self,
        key: &VisitorKey,
        creation: Creation<'_>,
        recovery: Option<Recovery<'_>>,
    ) -> Result<Authorized, Unavailable> {
        let inner = &self.0;
        // Whether there is a record at all is looked at first where there may be one: known visitors meet no limit.
        let (mut create, mut spend) = match creation {
            Creation::Never => (false, None),
            Creation::Freely => (true, None),
            Creation::Limited { is_new, spend } => (is_new, Some(spend)),
        };
        let carried = || {
            let carried = inner.performer.vault.open_recovery(recovery?)?;
            // Who was erased is not brought back by what they had before.
            let spared = inner.erasures.spare(key, carried.created_at);
            spared.then_some(carried)
        };
        let mut landing = Err(Unavailable::Busy);
        let looks = usize::from(spend.is_some() && !create);
        let came_at = inner.performer.clock.now();
        for tries in 0..MAX_TRIES + looks {
            let now = inner.performer.clock.now();
            // Or it was all over while this request waited: what was asked for before does not hold any more.
            let meanwhile = || tries > 0 && inner.erasures.came_after(key, came_at);
            if inner.erasures.is_pending(key) || meanwhile() {
                return Err(Unavailable::Erased);
            }
            if let Some(authorized) = self.current(key, now) {
                return Ok(authorized);
            }
            if inner.back_offs.holds(key, now) {
                return Err(Unavailable::Dressipi);
            }
            let want = Want {
                create,
                ..Want::default()
            };
            let absence = match spend {
                // Before anything was begun for this visitor.
                Some(_) if create && tries == 0 => Absence::Minted,
                // Who has to pay has been looked for.
                Some(_) => Absence::LookedFor,
                None => Absence::Unknown,
            };
            let (flight, led) = match inner.board(key, want, absence, spend, carried) {
                Ok(boarded) => boarded,
                Err(settled) => return settled,
            };
            flight.hurry();
            landing = flight.landing().await;
            match &landing {
                Err(Unavailable::NotCreated) if !create && spend.is_some() => create = true,
                // Another replica has announced a call, which is paid for: its end is waited for.
                Err(Unavailable::Unconfirmed)
                    if !create && spend.is_some() && inner.settings.policy.replicas.is_some() =>
                {
                    (create, spend) = (true, None);
                }
                // The same, found by somebody else's flow that only looked.
                Err(Unavailable::Unconfirmed)
                    if create && !led && inner.settings.policy.replicas.is_some() => {}
                // Somebody else's flow, which was not allowed what we are, or knew of no recovery cookie.
                Err(Unavailable::NotCreated) if (create || recovery.is_some()) && !led => {}
                // A flow that did not know that its token had been rejected; the next one does.
                Err(Unavailable::Rejected) => {}
                // Somebody else's flow, which ended in a token that has been rejected since, or lived very shortly.
                Ok(_) if !led => {
                    if let Some(authorized) = inner.cached(key) {
                        return Ok(authorized);
                    }
                }
                _ => return landing,
            }
        }
        match landing {
            Ok(_) => Err(Unavailable::Internal),
            error => error,
        }
    }

    /// The visitor's token, where the visitor's own request carries `vendor`, one that somebody else got for them: it is served as it is,
    /// and no profile is made, as long as the visitor has no session here. It is neither stored nor cached nor refreshed; once it has
    /// ended or was rejected it counts as none. `unknown`: nobody can have a session under this key yet.
    pub async fn ensure_or_adopt(
        &self,
        key: &VisitorKey,
        creation: Creation<'_>,
        recovery: Option<Recovery<'_>>,
        vendor: &VendorToken,
        unknown: bool,
    ) -> Result<Authorized, Unavailable> {
        let Some(adopted) = self.adopt(key, vendor) else {
            return self.ensure_or_recover(key, creation, recovery).await;
        };
        if unknown {
            return Ok(adopted);
        }
        match self.ensure_or_recover(key, Creation::Never, recovery).await {
            // Waiting may have taken longer than it had left.
            Err(Unavailable::NotCreated) if adopted.is_usable(self.0.performer.clock.now()) => {
                Ok(adopted)
            }
            Err(Unavailable::NotCreated) => self.ensure_or_recover(key, creation, recovery).await,
            settled => settled,
        }
    }

    fn adopt(&self, key: &VisitorKey, vendor: &VendorToken) -> Option<Authorized> {
        let inner = &self.0;
        let adopted = Authorized::adopted(*key, vendor, &inner.settings.policy, &inner.render)?;
        let rejected = inner.rejected(key) == Some(adopted.fingerprint());
        (!rejected && adopted.is_usable(inner.performer.clock.now())).then_some(adopted)
    }

    /// The value of a recovery cookie for the visitor; `None` if there is nothing to carry, or nobody can say within
    /// a tenth of a second.
    pub async fn recovery_cookie(&self, key: &VisitorKey, id: &VisitorId) -> Option<String> {
        let performer = &self.0.performer;
        match tokio::time::timeout(RECOVERY_BOUND, performer.load_newest(key)).await {
            Ok(Event::Loaded(Some(newest))) => performer.vault.seal_recovery(id, &newest.session),
            _ => None,
        }
    }

    /// A resource endpoint answered 401 or 403 to exactly this token. It is not used any more, and another one is fetched,
    /// but for one visitor no more often than the settings allow: an endpoint that forbids everything must not make us
    /// refresh for ever.
    pub fn reject(&self, authorized: &Authorized) -> Rejection {
        let inner = &self.0;
        let key = authorized.visitor();
        let now = inner.performer.clock.now();
        let rejection = match inner.rejections.get(key) {
            Some((rejected, _)) if rejected == authorized.fingerprint() => Rejection::Replaceable,
            Some((_, at)) if now.since(at) < inner.settings.rejection_pause => Rejection::Ignored,
            _ => {
                inner
                    .rejections
                    .insert(*key, (authorized.fingerprint(), now));
                inner.cache.reject(authorized);
                inner.announce_rejection(authorized);
                Rejection::Replaceable
            }
        };
        inner
            .performer
            .observer
            .token_rejected(rejection == Rejection::Replaceable);
        rejection
    }

    /// Begins a flow for the visitor and does not wait for it.
    pub fn refresh_in_background(&self, key: &VisitorKey) {
        self.0.begin(key, Want::default());
    }

    /// Whether the store can be read and written: what readiness asks.
    pub async fn check_store(&self) -> Result<(), StoreError> {
        self.0.performer.vault.store().check().await
    }

    /// Begins an export of everything that is known: the store's records, and the newer ones that wait to be written.
    pub async fn export(&self) -> Result<Exporter, ExportError> {
        let inner = self.0.clone();
        let vault = inner.performer.vault.clone();
        let clock = inner.performer.clock.clone();
        let newer = Box::new(move || inner.performer.unsaved.all());
        Exporter::with(vault, clock, Some(newer)).await
    }

    /// Imports an export into the store while visitors come and go. A token in use stays in use until it expires.
    pub async fn import(
        &self,
        pieces: impl Stream<Item = std::io::Result<Bytes>>,
    ) -> Result<Summary, ImportFailed> {
        let Performer { vault, clock, .. } = &self.0.performer;
        moving::import(vault, clock, Adoption::Never, pieces, |_| {}).await
    }

    /// Stored visitor sessions by state.
    pub async fn census(&self) -> Result<Census, StoreError> {
        self.0.performer.vault.census().await
    }

    /// Visitors in the in-process cache.
    pub fn cached(&self) -> u64 {
        self.0.cache.len()
    }

    /// Flows under way.
    pub fn flows(&self) -> usize {
        self.0.flights.len()
    }

    /// Sessions that could not be written yet.
    pub fn unsaved(&self) -> u64 {
        self.0.performer.unsaved.len()
    }

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

    /// Heeds what other replicas on the store tell.
    async fn listen(&self) {
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

// === impl Inner ===

impl Inner {
    /// Begins a flow unless one is under way; whatever comes of it.
    fn begin(self: &Arc<Self>, key: &VisitorKey, want: Want) {
        let limit = self.settings.max_flows * WAITING_PER_FLOW;
        if let Ok(Boarding::Led(lead, _)) = self.flights.board(key, limit, || None::<()>) {
            self.spawn(lead, *key, want, None, None);
        }
    }

    /// Joins or begins a flow; says whether it is our own.
    fn board(
        self: &Arc<Self>,
        key: &VisitorKey,
        want: Want,
        absence: Absence,
        spend: Option<&(dyn Fn() -> Result<(), Limit> + Send + Sync)>,
        carried: impl FnOnce() -> Option<VisitorSession>,
    ) -> Result<(super::flights::Flight, bool), Landing> {
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
    fn enter(
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

    fn spawn(
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

    /// The visitor's token if it may be sent, whatever the store would say.
    fn cached(&self, key: &VisitorKey) -> Option<Authorized> {
        let cached = self.cache.get(key, self.performer.clock.now())?;
        Some(cached.authorized)
    }

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
    fn announce_rejection(self: &Arc<Self>, authorized: &Authorized) {
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

    fn conclude(&self, key: &VisitorKey, done: Done) -> Landing {
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

    fn rejected(&self, key: &VisitorKey) -> Option<TokenFingerprint> {
        self.rejections.get(key).map(|(rejected, _)| rejected)
    }

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
