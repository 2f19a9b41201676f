//! PURE: the slope of a series, and how sure it is.
//!
//! Theil–Sen: the median of the slopes between all pairs of points. A third of the points may be anything without moving it
//! much, and memory comes in steps and spikes. The interval is Sen's, from the variance of Kendall's S. That supposes that points know
//! nothing of each other, which neighbours in time do: the variance is widened by what neighbours have in common.

/// What a series does in the long run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slope {
    /// In units of the series for each unit of time.
    pub slope: f64,
    /// It is between these in nineteen of twenty cases.
    pub least: f64,
    pub most: f64,
}

/// Of the normal distribution, for nineteen in twenty.
const Z: f64 = 1.96;
/// More points are put together: all pairs are looked at.
const MOST_POINTS: usize = 120;
/// With fewer nothing is said.
const FEWEST_POINTS: usize = 8;

/// The slope of the points (time, value), which are in the order of their times. `None` where they are too few.
pub fn fit(points: &[(f64, f64)]) -> Option<Slope> {
    let points = blocks(points);
    if points.len() < FEWEST_POINTS {
        return None;
    }
    let mut slopes = Vec::new();
    for (index, (time, value)) in points.iter().enumerate() {
        for (later, other) in &points[index + 1..] {
            slopes.push((other - value) / (later - time));
        }
    }
    slopes.sort_by(f64::total_cmp);
    let slope = middle(&slopes);
    let rest: Vec<f64> = points
        .iter()
        .map(|(time, value)| value - slope * time)
        .collect();
    let n = points.len() as f64;
    let common = correlation(&rest).clamp(0.0, 0.9);
    let widened = (1.0 + common) / (1.0 - common);
    let deviation = (n * (n - 1.0) * (2.0 * n + 5.0) / 18.0 * widened).sqrt();
    let all = slopes.len() as f64;
    let place = |shift: f64| {
        let place = ((all + shift * Z * deviation) / 2.0).round();
        slopes[(place.max(0.0) as usize).min(slopes.len() - 1)]
    };
    Some(Slope {
        slope,
        least: place(-1.0),
        most: place(1.0),
    })
}

/// The middle one of numbers in any order; 0 of none.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    if values.is_empty() {
        0.0
    } else {
        middle(&values)
    }
}

fn middle(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    match sorted.len() % 2 {
        0 => f64::midpoint(sorted[half - 1], sorted[half]),
        _ => sorted[half],
    }
}

/// Neighbours put together, by their medians.
fn blocks(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let length = points.len().div_ceil(MOST_POINTS).max(1);
    let together = points.chunks(length).map(|block| {
        let times = block.iter().map(|(time, _)| *time);
        let values = block.iter().map(|(_, value)| *value);
        (median(times), median(values))
    });
    together.collect()
}

/// How much each value has in common with the one before it: 0 nothing, 1 everything.
fn correlation(values: &[f64]) -> f64 {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let square: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let pairs = values.windows(2);
    let product: f64 = pairs.map(|pair| (pair[0] - mean) * (pair[1] - mean)).sum();
    if square > 0.0 { product / square } else { 0.0 }
}
