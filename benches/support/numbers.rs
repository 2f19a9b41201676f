//! Many figures of the same thing, in few.

/// The least: disturbance only ever adds.
pub(crate) fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::MAX, f64::min)
}

pub(crate) fn median(values: &[f64]) -> f64 {
    share(values, 0.5)
}

/// The first quartile, the median and the third quartile.
pub(crate) fn quartiles(values: &[f64]) -> [f64; 3] {
    [0.25, 0.5, 0.75].map(|at| share(values, at))
}

/// The value below which `at` of all values are.
pub(crate) fn share(values: &[f64], at: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[((sorted.len() as f64 * at) as usize).min(sorted.len() - 1)]
}

/// How `values` stand to those of another system in the same rounds.
pub(crate) fn ratios(values: &[f64], base: &[f64]) -> Vec<f64> {
    let rounds = values.iter().zip(base);
    rounds.map(|(value, base)| value / base).collect()
}
