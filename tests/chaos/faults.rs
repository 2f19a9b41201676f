//! What goes wrong: each kind for as long as it is let, by its own dice.

use std::sync::Arc;
use std::time::Duration;

use dressipi_sidecar::simulator::{Endpoint, Fault, FaultKind, Simulator};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::Mutex;
use tokio::time::sleep;

use crate::configuration::{LEASE_TERM, OAUTH_TIMEOUT};
use crate::link::Mode;
use crate::options::StoreChoice;
use crate::replica::Replica;
use crate::store::{DOWN_AFTER, Redis};

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// `kill -9` of a replica every two seconds.
    Kill,
    /// Token answers take ten lease terms.
    Slow,
    /// OAuth answers are lost after the fact.
    Lost,
    /// 500, 503 and 429.
    Errors,
    /// Redis is killed and comes back.
    Bounce,
    /// Redis is killed and its replica takes over.
    Failover,
    /// Redis stands still for a while.
    Pause,
    /// Wall clocks jump by up to five minutes.
    Clocks,
    /// Replicas are cut off from Redis.
    Network,
}

/// What faults happen to.
pub struct World {
    pub simulator: Simulator,
    pub replicas: Arc<Vec<Replica>>,
    /// One thing at a time goes wrong with Redis, as it has one replica.
    pub redis: Option<Arc<Mutex<Redis>>>,
}

const MAX_SHIFT: i32 = 300;

impl Kind {
    /// All that can happen to this store.
    pub fn all(store: StoreChoice) -> impl Iterator<Item = Self> {
        let of_redis = [Self::Bounce, Self::Failover, Self::Pause, Self::Network];
        let all = [
            Self::Kill,
            Self::Slow,
            Self::Lost,
            Self::Errors,
            Self::Bounce,
            Self::Failover,
            Self::Pause,
            Self::Clocks,
            Self::Network,
        ];
        all.into_iter()
            .filter(move |kind| store == StoreChoice::Redis || !of_redis.contains(kind))
    }

    /// What the table calls it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Kill => "kill -9 of a replica every 2 s",
            Self::Slow => "token endpoint takes 10 lease terms",
            Self::Lost => "OAuth answers lost",
            Self::Errors => "OAuth answers 5xx, 429",
            Self::Bounce => "Redis killed, restarted",
            Self::Failover => "Redis killed, failed over",
            Self::Pause => "Redis paused (SIGSTOP)",
            Self::Clocks => "clocks ±5 min",
            Self::Network => "replica cut off from Redis",
        }
    }

    /// Goes on until it is dropped. `pace`: how much longer than by itself Redis is left in peace in between, since with all
    /// of it at once nothing else would ever happen.
    pub async fn happen(self, world: Arc<World>, mut dice: StdRng, pace: u32) {
        match self {
            Self::Kill => kill(&world, &mut dice).await,
            Self::Slow => slow(&world.simulator),
            Self::Lost => lost(&world.simulator),
            Self::Errors => errors(&world.simulator),
            Self::Bounce | Self::Failover | Self::Pause => {
                redis(self, &world, &mut dice, pace).await
            }
            Self::Clocks => clocks(&world, &mut dice).await,
            Self::Network => network(&world, &mut dice, pace).await,
        }
        // Faults of the simulator stay until they are cleared.
        std::future::pending::<()>().await;
    }
}

/// Puts an end to everything that is still going wrong.
pub async fn end(world: &World) {
    world.simulator.clear_faults();
    for replica in world.replicas.iter() {
        replica.network(Mode::Pass);
        replica.set_clock(0);
    }
    if let Some(redis) = &world.redis {
        redis.lock().await.recover().await;
    }
    for replica in world.replicas.iter() {
        replica.start().await;
    }
}

fn millis(dice: &mut StdRng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(dice.random_range(range))
}

fn anyone<'a>(world: &'a World, dice: &mut StdRng) -> &'a Replica {
    &world.replicas[dice.random_range(0..world.replicas.len())]
}

async fn kill(world: &World, dice: &mut StdRng) {
    loop {
        let replica = anyone(world, dice);
        replica.kill().await;
        let away = millis(dice, 100..800);
        sleep(away).await;
        replica.start().await;
        sleep(Duration::from_secs(2).saturating_sub(away)).await;
    }
}

fn slow(simulator: &Simulator) {
    // Half of it before the tokens change, and half after.
    let ms = u64::try_from(LEASE_TERM.as_millis()).unwrap_or(u64::MAX) * 5;
    for endpoint in [Endpoint::Token, Endpoint::Refresh] {
        simulator.add_fault(Fault::always(endpoint, FaultKind::Delay { ms }));
        simulator.add_fault(Fault::always(endpoint, FaultKind::DelayAfterCommit { ms }));
    }
}

fn lost(simulator: &Simulator) {
    let late = u64::try_from(OAUTH_TIMEOUT.as_millis()).unwrap_or(u64::MAX) + 500;
    let chances = [
        (Endpoint::Authorize, 0.1),
        (Endpoint::Token, 0.1),
        (Endpoint::Refresh, 0.25),
    ];
    for (endpoint, chance) in chances {
        let dropped = Fault::always(endpoint, FaultKind::DropAfterCommit);
        let too_late = Fault::always(endpoint, FaultKind::DelayAfterCommit { ms: late });
        simulator.add_fault(dropped.with_probability(chance));
        simulator.add_fault(too_late.with_probability(chance / 5.0));
    }
}

fn errors(simulator: &Simulator) {
    for endpoint in [Endpoint::Authorize, Endpoint::Token, Endpoint::Refresh] {
        for (code, retry_after) in [(500, None), (503, Some(1)), (429, Some(1))] {
            let kind = FaultKind::Status {
                code,
                retry_after,
                body: None,
            };
            simulator.add_fault(Fault::always(endpoint, kind).with_probability(0.15));
        }
    }
}

async fn redis(kind: Kind, world: &World, dice: &mut StdRng, pace: u32) {
    let Some(redis) = &world.redis else {
        return;
    };
    // By itself at once; with the others, one after the other.
    sleep(millis(dice, 0..2000) * (pace - 1)).await;
    loop {
        let redis = redis.clone().lock_owned().await;
        let mut own = StdRng::seed_from_u64(dice.random());
        // A task of its own: what was begun is finished, even if the phase ends meanwhile.
        let happening = tokio::spawn(async move {
            match kind {
                Kind::Bounce => redis.bounce(millis(&mut own, 50..500)).await,
                Kind::Failover => redis.fail_over().await,
                // Short ones, and ones that are long enough for the replica to take over meanwhile.
                _ if own.random_bool(0.7) => redis.pause(millis(&mut own, 200..600)).await,
                _ => {
                    redis
                        .pause(DOWN_AFTER * 3 + millis(&mut own, 0..1500))
                        .await
                }
            }
        });
        happening.await.expect("Redis recovers");
        sleep(millis(dice, 500..2000) * pace).await;
    }
}

async fn clocks(world: &World, dice: &mut StdRng) {
    loop {
        anyone(world, dice).set_clock(dice.random_range(-MAX_SHIFT..=MAX_SHIFT));
        sleep(millis(dice, 200..1000)).await;
    }
}

async fn network(world: &World, dice: &mut StdRng, pace: u32) {
    loop {
        let replica = anyone(world, dice);
        let modes = [Mode::Refuse, Mode::Reset, Mode::Blackhole];
        replica.network(modes[dice.random_range(0..modes.len())]);
        sleep(millis(dice, 300..3000)).await;
        replica.network(Mode::Pass);
        sleep(millis(dice, 100..1000) * pace).await;
    }
}
