//! The session manager: owns the store, the authorization server's client and the single flight, and is the only one who
//! makes an [`Authorized`].
//!
//! It decides nothing about a visitor's life: that is [`Flow`](super::flow::Flow). It has flows run (`flows`), has what could not be
//! written written later (`upkeep`), heeds other replicas (`replicas`), and holds visitors back after failures. Flows run detached from
//! the request that began them. Here is what requests ask.

mod erasing;
mod flows;
mod life;
mod looking;
mod replicas;
mod revoking;
mod upkeep;

pub use life::{Life, TokenLife};
pub use looking::{FindError, SessionPage};
pub use revoking::RevokeError;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use tokio::runtime::Handle;

use self::flows::WAITING_PER_FLOW;
use super::backoff::BackOffs;
use super::cache::{Authorized, Cached, RenderToken, Standing, TokenCache};
use super::creations::{Absence, Creation, Creations};
use super::erasures::Erasures;
use super::flights::Flights;
use super::flow::{Event, Unavailable, Want};
use super::freshness::Freshness;
use super::moving::{self, Adoption, ExportError, Exporter, ImportFailed, Summary};
use super::observer::Observer;
use super::performer::{Performer, Turns};
use super::policy::Settings;
use super::recovery::Recovery;
use super::store::{Census, StoreError};
use super::unsaved::Unsaved;
use super::vault::Vault;
use super::waiters::Waiters;
use crate::clock::{Clock, Timestamp};
use crate::oauth::{AuthorizationServer, TokenFingerprint, VendorToken};
use crate::visitor::{VisitorId, VisitorKey};

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

/// How often a request that waited for somebody else's flow looks again.
const MAX_TRIES: usize = 3;
/// A request does not wait longer than that for the cookie that the next one may need.
const RECOVERY_BOUND: Duration = Duration::from_millis(100);

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
}

// === impl Inner ===

impl Inner {
    /// The visitor's token if it may be sent, whatever the store would say.
    fn cached(&self, key: &VisitorKey) -> Option<Authorized> {
        let cached = self.cache.get(key, self.performer.clock.now())?;
        Some(cached.authorized)
    }

    fn rejected(&self, key: &VisitorKey) -> Option<TokenFingerprint> {
        self.rejections.get(key).map(|(rejected, _)| rejected)
    }
}
