//! How long things took, and what is said of that.

use std::time::Duration;

/// The three figures of a distribution, in milliseconds.
#[derive(Clone, Copy, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Latencies {
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
    pub most: f64,
}

impl Latencies {
    pub fn of(took: &[Duration]) -> Self {
        let mut sorted = took.to_vec();
        sorted.sort_unstable();
        let at = |share: f64| {
            let place = (sorted.len() as f64 * share) as usize;
            let took = sorted.get(place.min(sorted.len().saturating_sub(1)));
            took.map_or(0.0, |took| took.as_secs_f64() * 1e3)
        };
        Self {
            p50: at(0.50),
            p99: at(0.99),
            p999: at(0.999),
            most: at(1.0),
        }
    }
}

/// The one in the middle.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => sorted[length / 2],
        length => f64::midpoint(sorted[length / 2 - 1], sorted[length / 2]),
    }
}

/// The least and the most.
pub fn spread(values: impl IntoIterator<Item = f64> + Clone) -> (f64, f64) {
    let least = values.clone().into_iter().fold(f64::INFINITY, f64::min);
    (least, values.into_iter().fold(f64::NEG_INFINITY, f64::max))
}
