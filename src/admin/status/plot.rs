//! PURE: small plots as SVG, for a glance and not for reading off values.

use std::fmt::Write;

/// A row of values over the last hour, the latest last.
pub(super) struct Plot {
    /// What is shown, with its unit.
    pub(super) title: &'static str,
    /// The latest value, for people.
    pub(super) latest: String,
    /// The largest value, for people.
    pub(super) most: String,
    /// The points of a polyline in a box of [`WIDTH`] by [`HEIGHT`]; empty where there is nothing to show.
    pub(super) points: String,
}

pub(super) const WIDTH: f64 = 240.0;
pub(super) const HEIGHT: f64 = 48.0;

// === impl Plot ===

impl Plot {
    /// A plot of `values`, which `say` says. `least` is what the box is high for at least; `None` are gaps, which are passed over.
    pub(super) fn new(
        title: &'static str,
        values: &[Option<f64>],
        least: f64,
        say: impl Fn(f64) -> String,
    ) -> Self {
        let known = values.iter().flatten().copied();
        let most = known.clone().fold(None, |most: Option<f64>, value| {
            Some(most.map_or(value, |most| most.max(value)))
        });
        let none = || "–".to_owned();
        Self {
            title,
            latest: known.last().map_or_else(none, &say),
            most: most.map_or_else(none, &say),
            points: points(values, most.unwrap_or_default().max(least)),
        }
    }
}

fn points(values: &[Option<f64>], top: f64) -> String {
    let mut points = String::new();
    if values.len() < 2 {
        return points;
    }
    let step = WIDTH / (values.len() - 1) as f64;
    for (index, value) in values.iter().enumerate() {
        if let Some(value) = value {
            let x = index as f64 * step;
            let share = if top > 0.0 { value / top } else { 0.0 };
            let y = HEIGHT - 1.0 - share.clamp(0.0, 1.0) * (HEIGHT - 2.0);
            let _ = write!(points, "{x:.1},{y:.1} ");
        }
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_fills_its_box_from_left_to_right() {
        let say = |value: f64| format!("{value}/s");
        let plot = Plot::new(
            "requests",
            &[Some(0.0), None, Some(4.0), Some(2.0)],
            1.0,
            say,
        );
        assert_eq!(plot.points, "0.0,47.0 160.0,1.0 240.0,24.0 ");
        assert_eq!((&*plot.latest, &*plot.most), ("2/s", "4/s"));
        let flat = Plot::new("requests", &[Some(0.0), Some(0.0)], 0.0, say);
        assert_eq!(flat.points, "0.0,47.0 240.0,47.0 ");
        let nothing = Plot::new("requests", &[], 1.0, say);
        assert_eq!((&*nothing.points, &*nothing.latest), ("", "–"));
    }
}
