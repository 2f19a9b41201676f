//! The simulator as a value: cloneable, all clones share one state.
//!
//! Holds the one lock. Every method takes it for a moment, and none across an `await`.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::serve::ListenerExt as _;
use tokio::net::TcpListener;

use super::clock::Clock;
use super::config::{Settings, SettingsPatch, SimulatorConfig};
use super::faults::{Endpoint, Fault, FaultError, FaultQueue, Plan};
use super::http;
use super::ledger::{Ledger, RequestEntry, Totals};
use super::model::{ExpiredAs, Model, Verdict};
use super::tally::Tally;

/// A stand-in for Dressipi. Clones share one state.
#[derive(Clone)]
pub struct Simulator {
    inner: Arc<Inner>,
}

struct Inner {
    config: SimulatorConfig,
    clock: Clock,
    world: Mutex<World>,
}

/// All that changes.
pub(super) struct World {
    pub(super) model: Model,
    pub(super) tally: Tally,
    pub(super) faults: FaultQueue,
}

// === impl Simulator ===

impl Simulator {
    /// A simulator that knows nobody yet.
    pub fn new(config: SimulatorConfig, clock: Clock) -> Self {
        let world = World {
            model: Model::new(config.clone(), rand::random()),
            tally: Tally::default(),
            faults: FaultQueue::default(),
        };
        Self {
            inner: Arc::new(Inner {
                config,
                clock,
                world: Mutex::new(world),
            }),
        }
    }

    /// The configuration it started with.
    pub fn config(&self) -> &SimulatorConfig {
        &self.inner.config
    }

    /// Everything it knows: counts, profiles, and the last 200 requests.
    pub fn ledger(&self) -> Ledger {
        let world = self.world();
        Ledger {
            totals: world.totals(),
            profiles: world.model.profile_entries(),
            requests: world.tally.requests(),
        }
    }

    /// The counts alone: cheap, however many profiles there are.
    pub fn totals(&self) -> Totals {
        self.world().totals()
    }

    /// The request whose answer carried this event id, if it is among the last 200.
    pub fn request_of_event(&self, event_id: &str) -> Option<RequestEntry> {
        self.world().tally.request_of_event(event_id)
    }

    /// The id of the profile that this access token was issued for, whether or not the token is still good.
    pub fn profile_of_token(&self, token: &str) -> Option<String> {
        self.world().model.profile_of(token)
    }

    /// Whether a resource endpoint would make its answer for the profile of this access token now. Counts nothing.
    pub fn accepts(&self, token: &str) -> bool {
        let now_ms = self.now_ms();
        let verdict = self.world().model.judge(Some(token), now_ms);
        matches!(verdict, Verdict::Valid(_))
    }

    /// The id of the profile that this authorization code was issued for, whether or not the code is still good.
    pub fn profile_of_code(&self, code: &str) -> Option<String> {
        self.world().model.profile_of_code(code)
    }

    /// The id of the profile that this refresh token was issued for, whether or not it is still good.
    pub fn profile_of_refresh_token(&self, token: &str) -> Option<String> {
        self.world().model.profile_of_refresh_token(token)
    }

    /// Queues a fault. A probability outside 0 to 1 is taken as the nearer of the two.
    pub fn add_fault(&self, fault: Fault) {
        let probability = fault.probability.clamp(0.0, 1.0);
        let now_ms = self.now_ms();
        self.world().faults.add(
            Fault {
                probability,
                ..fault
            },
            now_ms,
        );
    }

    /// Queues all of these faults, or none if one of them is not sound.
    pub fn try_add_faults(&self, faults: Vec<Fault>) -> Result<(), FaultError> {
        faults.iter().try_for_each(Fault::validate)?;
        faults.into_iter().for_each(|fault| self.add_fault(fault));
        Ok(())
    }

    /// Ends all faults.
    pub fn clear_faults(&self) {
        self.world().faults.clear();
    }

    /// The faults that wait, with the times that are left.
    pub fn faults(&self) -> Vec<Fault> {
        let now_ms = self.now_ms();
        self.world().faults.list(now_ms)
    }

    /// Changes some settings and returns all of them. Tokens already issued keep their life.
    pub fn update_settings(&self, patch: SettingsPatch) -> Settings {
        let mut world = self.world();
        world.model.config.apply(patch);
        world.model.config.settings()
    }

    /// Makes all access tokens issued so far count as expired.
    pub fn expire_tokens(&self, as_what: ExpiredAs) {
        self.world().model.expire_tokens(as_what);
    }

    /// Makes this access token count as expired: a resource endpoint answers it 401.
    pub fn expire_token(&self, token: &str) {
        self.world().model.reject(token);
    }

    /// Ends all refresh tokens issued so far.
    pub fn revoke_refresh_tokens(&self) {
        self.world().model.revoke_refresh_tokens();
    }

    /// Starts afresh: no profiles, no counts, no faults, the first settings. What was issued before becomes foreign.
    pub fn reset(&self) {
        let mut world = self.world();
        world.model = Model::new(self.inner.config.clone(), rand::random());
        world.tally.reset();
        world.faults.clear();
    }

    /// The API and the control endpoints, for a server of your choice.
    pub fn router(&self) -> Router {
        http::router(self.clone())
    }

    /// Serves the API and the control endpoints until `shutdown`, then finishes the requests in flight.
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> std::io::Result<()> {
        let listener = listener.tap_io(|stream| {
            // Only a matter of speed: the simulator works without.
            let _ = stream.set_nodelay(true);
        });
        axum::serve(listener, self.router())
            .with_graceful_shutdown(shutdown)
            .await
    }

    pub(super) fn now_ms(&self) -> u64 {
        (self.inner.clock)()
    }

    /// The state, for a moment.
    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        // A panic elsewhere leaves counts at worst one off; the simulator goes on.
        self.inner
            .world
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn take_faults(&self, endpoint: Endpoint) -> Plan {
        let now_ms = self.now_ms();
        self.world().faults.take(endpoint, now_ms, rand::random)
    }

    /// What a presented token is worth, as of now; counted.
    pub(super) fn judge(&self, token: Option<&str>) -> Verdict {
        let now_ms = self.now_ms();
        let mut world = self.world();
        let verdict = world.model.judge(token, now_ms);
        world.tally.verdict(&verdict);
        verdict
    }
}

// === impl World ===

impl World {
    fn totals(&self) -> Totals {
        Totals {
            profiles: self.model.profile_count(),
            code_reuse: self.model.counters.code_reuse,
            refresh_reuse: self.model.counters.refresh_reuse,
            refresh_again: self.model.counters.refresh_again,
            ..self.tally.totals.clone()
        }
    }
}
