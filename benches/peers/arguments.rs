//! What is asked of the benchmark, and how much of it there is.

use std::path::PathBuf;
use std::time::Duration;

use crate::systems::{System, other_sidecar_binary, target_folder};

/// How much is measured.
pub(crate) struct Plan {
    pub(crate) systems: Vec<System>,
    pub(crate) visitors: usize,
    /// Numbers of visitors with which memory is looked at besides.
    pub(crate) fewer_visitors: Vec<usize>,
    pub(crate) rounds: usize,
    /// When this is over, no further round is begun.
    pub(crate) bound: Duration,
    /// Requests of each system in a round: of the closed loop, and of the open one.
    pub(crate) closed: usize,
    pub(crate) open: usize,
    pub(crate) instructions: bool,
    /// Which targets fail the run where they are missed.
    pub(crate) judged: Judged,
    pub(crate) json: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judged {
    Nothing,
    /// In the quick form: a round of a second says little of who waits longest, above all while others use the machine.
    CpuTime,
    All,
}

/// In the quick form there is one of each kind.
const QUICK: [System; 6] = [
    System::Direct,
    System::Pingora,
    System::Sidecar,
    System::NginxLua,
    System::Haproxy,
    System::Envoy,
];

// === impl Plan ===

impl Plan {
    /// The plan that the command line asks for; an error is what is wrong with it.
    pub(crate) fn parse(arguments: &[String]) -> Result<Self, String> {
        let (mut quick, mut check) = (false, false);
        let (mut visitors, mut rounds, mut only, mut json) = (None, None, None, None);
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut value = || {
                let value = arguments.next();
                value.ok_or_else(|| format!("{argument} needs a value"))
            };
            match argument.as_str() {
                "--quick" => quick = true,
                "--check" => check = true,
                "--visitors" => visitors = Some(parse_number(argument, value()?)?),
                "--rounds" => rounds = Some(parse_number(argument, value()?)?),
                "--only" => only = Some(parse_names(value()?)?),
                "--json" => json = Some(PathBuf::from(value()?)),
                // cargo says so to every benchmark.
                "--bench" => {}
                other => return Err(format!("{other} is not known")),
            }
        }
        let visitors = visitors.unwrap_or(if quick { 10_000 } else { 1_000_000 });
        let mut fewer_visitors = vec![0, 100_000];
        fewer_visitors.retain(|number| !quick && *number < visitors);
        let (usual_rounds, closed, open) = if quick {
            (9, 3_200, 1_600)
        } else {
            (15, 16_000, 4_000)
        };
        let mut systems = only.unwrap_or(if quick {
            QUICK.into()
        } else {
            System::ALL.into()
        });
        if other_sidecar_binary().is_some() {
            // First: it copies a store that nobody has opened yet.
            systems.insert(0, System::OtherSidecar);
        }
        Ok(Self {
            systems,
            visitors,
            fewer_visitors,
            rounds: rounds.unwrap_or(usual_rounds),
            bound: Duration::from_secs(if quick { 70 } else { 12 * 60 }),
            closed,
            open,
            instructions: !quick,
            judged: match (check, quick) {
                (false, _) => Judged::Nothing,
                (true, true) => Judged::CpuTime,
                (true, false) => Judged::All,
            },
            json: json.unwrap_or_else(|| target_folder().join("peers.json")),
        })
    }
}

fn parse_number(argument: &str, text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| format!("{argument} needs a number above 0"))
}

/// The systems of those names, in the usual order; with what they are all compared with.
fn parse_names(names: &str) -> Result<Vec<System>, String> {
    let names: Vec<_> = names.split(',').collect();
    let known = System::ALL.map(System::name);
    match names.iter().find(|name| !known.contains(name)) {
        Some(unknown) => Err(format!("--only {unknown}: there are {}", known.join(", "))),
        None => Ok(System::ALL
            .into_iter()
            .filter(|system| *system == System::Direct || names.contains(&system.name()))
            .collect()),
    }
}
