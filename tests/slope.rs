//! The slope that the soak run judges memory by: found in what disturbs it, and not found where there is none.

#[path = "soak/fit.rs"]
mod fit;

use fit::{Slope, fit, median};

/// The same noise each time, from -1 to 1.
fn noise(count: usize) -> impl Iterator<Item = f64> {
    let mut state = 1_u32;
    (0..count).map(move |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(state) / f64::from(u32::MAX) * 2.0 - 1.0
    })
}

fn series(slope: f64, noisy: f64) -> Vec<(f64, f64)> {
    let noise = noise(300).enumerate();
    noise
        .map(|(at, noise)| (at as f64, 1000.0 + slope * at as f64 + noisy * noise))
        .collect()
}

#[test]
fn a_line_is_found_whatever_disturbs_a_fifth_of_it() {
    let mut points = series(3.0, 10.0);
    points
        .iter_mut()
        .step_by(5)
        .for_each(|(_, value)| *value += 100_000.0);
    let found = fit(&points).unwrap();
    assert!((found.slope - 3.0).abs() < 0.3, "{found:?}");
    assert!(found.least > 2.0 && found.most < 4.0, "{found:?}");
}

#[test]
fn noise_has_no_slope_and_growth_is_told_from_it() {
    let flat = fit(&series(0.0, 50.0)).unwrap();
    assert!(flat.least < 0.0 && flat.most > 0.0, "{flat:?}");
    let grows = fit(&series(1.0, 50.0)).unwrap();
    assert!(grows.least > 0.5 && grows.most < 1.5, "{grows:?}");
}

#[test]
fn neighbours_that_have_much_in_common_make_it_less_sure() {
    let mut sum = 0.0;
    let walk: Vec<_> = noise(100)
        .enumerate()
        .map(|(at, step)| {
            sum = sum * 0.9 + step;
            (at as f64, sum)
        })
        .collect();
    let free: Vec<_> = noise(100)
        .enumerate()
        .map(|(at, value)| (at as f64, value))
        .collect();
    let width = |slope: Slope| slope.most - slope.least;
    let (walk, free) = (fit(&walk).unwrap(), fit(&free).unwrap());
    assert!(width(walk) > 2.0 * width(free), "{walk:?} {free:?}");
}

#[test]
fn of_a_few_points_nothing_is_said_and_constants_have_no_slope() {
    assert_eq!(fit(&series(1.0, 0.0)[..7]), None);
    let still = fit(&series(0.0, 0.0)).unwrap();
    assert_eq!(
        still,
        Slope {
            slope: 0.0,
            least: 0.0,
            most: 0.0
        }
    );
    assert_eq!(
        (median([3.0, 1.0, 2.0]), median([]), median([1.0, 2.0])),
        (2.0, 0.0, 1.5)
    );
}
