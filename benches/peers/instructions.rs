//! User instructions a request, counted by callgrind, of those systems that run under it.

use std::collections::HashMap;
use std::path::Path;

use crate::population::Population;
use crate::support::callgrind;
use crate::support::load::{Pace, Surrounding, Who, Work};
use crate::systems::{Site, System};

/// To read a million under valgrind would take longer than all the rest.
pub(crate) const VISITORS: usize = 1_000;
const WARM_UP: usize = 2 * VISITORS;
const REQUESTS: usize = 4_000;

/// Counts for each system, one after the other; what does not run under valgrind is told and has none.
pub(crate) fn count(
    systems: &[System],
    folder: &Path,
    load: &Surrounding,
) -> HashMap<&'static str, f64> {
    let mut counts = HashMap::new();
    if !callgrind::is_installed() {
        return counts;
    }
    let folder = folder.join("instructions");
    std::fs::create_dir(&folder).unwrap();
    let population = Population::new(&folder, VISITORS);
    for system in systems.iter().filter(|system| system.is_countable()) {
        let out = folder.join(format!("callgrind-{}", system.name()));
        let tool = callgrind::tool(&out, false);
        let site = Site {
            folder: &folder,
            upstream: load.upstream,
            population: &population,
            tool: &tool,
        };
        let process = match system.start(&site) {
            Ok(process) => process.unwrap(),
            Err(why) => {
                eprintln!("{} is not counted: {why}", system.name());
                continue;
            }
        };
        let ask = |number| {
            let work = Work {
                requests: population.requests.clone(),
                number,
                // How requests of several connections come together would make the count vary.
                connections: 1,
                who: Who::InTurn,
                pace: Pace::AsAnswered,
            };
            load.load(process.address, work);
        };
        ask(WARM_UP);
        let count = callgrind::count(&process, &out, REQUESTS, || ask(REQUESTS));
        counts.insert(system.name(), count["Ir"]);
    }
    counts
}
