//! The systems side by side: started, held to the same work, and measured in turn.

use std::net::SocketAddr;
use std::time::Instant;

use crate::arguments::Plan;
use crate::population::Population;
use crate::support::load::{Done, Pace, Surrounding, Who, Work, next_random};
use crate::support::numbers::share;
use crate::support::processes::Process;
use crate::systems::{API_KEY, Site, System};

pub(crate) const CONNECTIONS: usize = 16;
pub(crate) const RATE: u32 = 2_000;
/// Of how many visitors it is looked at whether the right token arrives.
const CHECKED: usize = 200;
const WARM_UP: usize = 2_000;
/// A request with a token is by so many bytes longer than one without, at least.
const LEAST_GROWTH: usize = 400;

/// A system that runs.
pub(crate) struct Contestant {
    pub(crate) system: System,
    process: Option<Process>,
    address: SocketAddr,
    pub(crate) rounds: Vec<Round>,
}

/// What a round said of one system.
#[derive(Clone, Copy)]
pub(crate) struct Round {
    pub(crate) requests_per_second: f64,
    /// Of CPU time a request; none without a proxy.
    pub(crate) micros: f64,
    /// The quantiles 0.5, 0.99 and 0.999 of the latency in µs.
    pub(crate) latency: [f64; 3],
}

impl Contestant {
    /// Starts the system and has it know its visitors; none where it does not start, which is told.
    pub(crate) fn start(system: System, site: &Site, load: &Surrounding) -> Option<Self> {
        let process = match system.start(site) {
            Ok(process) => process,
            Err(why) => {
                eprintln!("{} is left out: {why}", system.name());
                return None;
            }
        };
        let contestant = Self {
            system,
            address: process
                .as_ref()
                .map_or(site.upstream, |process| process.address),
            process,
            rounds: Vec::new(),
        };
        contestant.check(site.population);
        let (number, who) = match system {
            // Whoever is in the store comes into the cache when they first ask.
            System::Sidecar | System::OtherSidecar => {
                (site.population.number.max(WARM_UP), Who::InTurn)
            }
            _ => (WARM_UP, Who::Anybody { seed: 0 }),
        };
        contestant.load(load, site.population, number, who, Pace::AsAnswered);
        Some(contestant)
    }

    /// Fails where the upstream does not get what it should for a visitor's cookie.
    fn check(&self, population: &Population) {
        let [token, key] = self.system.adds();
        let mut random = 0;
        for _ in 0..CHECKED.min(population.number) {
            let visitor = (next_random(&mut random) % population.number as u64) as usize;
            let whose = if self.system.looks_up() { visitor } else { 0 };
            let token = token.then(|| Population::token(whose));
            let key = key.then(|| API_KEY.to_owned());
            let expected = [token, key].map(Option::unwrap_or_default);
            let found = population.requests.check(self.address, visitor);
            assert_eq!(found, expected, "{}", self.system.name());
        }
    }

    fn load(
        &self,
        load: &Surrounding,
        population: &Population,
        number: usize,
        who: Who,
        pace: Pace,
    ) -> Done {
        let work = Work {
            requests: population.requests.clone(),
            number,
            connections: CONNECTIONS,
            who,
            pace,
        };
        let done = load.load(self.address, work);
        // Nobody is faster by adding nothing: a token is longer than all that a proxy takes away.
        if population.number > 0 && self.system.adds()[0] {
            let least = number * (population.requests.request_length() + LEAST_GROWTH);
            let grown = done.received as usize >= least;
            assert!(grown, "{} did not add the token", self.system.name());
        }
        done
    }

    fn round(&mut self, plan: &Plan, load: &Surrounding, population: &Population, seed: u64) {
        let who = Who::Anybody { seed };
        let nanos = |process: &Option<Process>| process.as_ref().map_or(0, Process::cpu_nanos);
        let before = nanos(&self.process);
        let closed = self.load(load, population, plan.closed, who, Pace::AsAnswered);
        let nanos = nanos(&self.process) - before;
        let open = self.load(load, population, plan.open, who, Pace::PerSecond(RATE));
        self.rounds.push(Round {
            requests_per_second: plan.closed as f64 / closed.took.as_secs_f64(),
            micros: nanos as f64 / 1000.0 / plan.closed as f64,
            latency: [0.5, 0.99, 0.999].map(|at| share(&open.latencies, at)),
        });
    }

    /// What the system has resident, in bytes.
    pub(crate) fn resident(&self) -> Option<f64> {
        self.process.as_ref().map(Process::resident)
    }
}

/// Measures all of them in turn, each round in the opposite order of the one before, until there are enough rounds or time is over.
pub(crate) fn take_rounds(
    contestants: &mut [Contestant],
    plan: &Plan,
    load: &Surrounding,
    population: &Population,
    begun: Instant,
) {
    for round in 0..plan.rounds {
        if round > 1 && begun.elapsed() > plan.bound {
            eprintln!("time is over after {round} rounds of {}", plan.rounds);
            break;
        }
        let number = contestants.len();
        for index in 0..number {
            let index = if round % 2 == 0 {
                index
            } else {
                number - 1 - index
            };
            contestants[index].round(plan, load, population, round as u64 + 1);
        }
    }
}
