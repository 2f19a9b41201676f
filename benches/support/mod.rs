//! What the benchmarks of the proxy share: a load that never sleeps, an upstream that answers it, proxies as processes of their own,
//! and how their work is counted.

#![allow(
    dead_code,
    reason = "a benchmark includes all of it and uses what it needs"
)]

pub(crate) mod callgrind;
pub(crate) mod load;
pub(crate) mod numbers;
pub(crate) mod parts;
pub(crate) mod processes;
pub(crate) mod requests;
pub(crate) mod surroundings;
mod upstream;

/// The length of every answer's body.
pub(crate) const BODY: usize = 2048;
/// A system that answers nothing for so long has failed.
pub(crate) const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);
