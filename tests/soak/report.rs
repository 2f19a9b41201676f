//! What is told at the end.

use crate::demand::Demand;
use crate::fit::Slope;
use crate::judge::{Evidence, Line};
use crate::options::Options;
use crate::table::table;

/// Tells everything; whether everything held.
pub fn report(options: &Options, evidence: &Evidence) -> bool {
    let lines = evidence.lines(options);
    let demands = evidence.demands();
    let head = [
        "",
        "at rest",
        "first fifth",
        "last fifth",
        "at rest again",
        "slope a minute (95 %)",
        "must be",
        "",
    ];
    let mut table_of_lines = vec![head.map(str::to_owned).to_vec()];
    table_of_lines.extend(lines.iter().map(cells));
    println!("\n{}", table(&table_of_lines, options.markdown));

    let mut judged = vec![["what", "found", "must be", ""].map(str::to_owned).to_vec()];
    judged.extend(demands.iter().map(|demand| {
        vec![
            demand.what.clone(),
            demand.found.clone(),
            demand.bound.clone(),
            verdict(demand.holds).to_owned(),
        ]
    }));
    println!("{}", table(&judged, options.markdown));
    if let Some(slope) = lines[0].slope {
        let day = |slope: f64| slope * 60.0 * 24.0 / 1024.0;
        println!(
            "memory: {:+.1} KiB a minute, which would be {:+.0} MiB a day; in nineteen of twenty cases {:+.1} to {:+.1} KiB ({:+.0} to {:+.0} MiB)",
            slope.slope,
            day(slope.slope),
            slope.least,
            slope.most,
            day(slope.least),
            day(slope.most)
        );
    }
    let failed_lines = lines.iter().filter(|line| line.holds == Some(false));
    let failed_demands = demands.iter().filter(|demand| demand.holds == Some(false));
    let failed: Vec<_> = failed_lines
        .map(|line| line.quantity.title())
        .chain(failed_demands.map(|demand: &Demand| demand.what.as_str()))
        .collect();
    match failed[..] {
        [] => println!("everything held"),
        _ => println!("FAILED: {}", failed.join("; ")),
    }
    failed.is_empty()
}

fn cells(line: &Line) -> Vec<String> {
    let slope =
        |Slope { slope, least, most }: Slope| format!("{slope:+.1} ({least:+.1} to {most:+.1})");
    let [before, first, last, after] =
        [line.before, line.first, line.last, line.after].map(|value| format!("{value:.0}"));
    vec![
        line.quantity.title().to_owned(),
        before,
        first,
        last,
        after,
        line.slope.map(slope).unwrap_or_default(),
        line.bound.clone(),
        verdict(line.holds).to_owned(),
    ]
}

fn verdict(holds: Option<bool>) -> &'static str {
    match holds {
        Some(true) => "held",
        Some(false) => "FAILED",
        None => "not judged",
    }
}
