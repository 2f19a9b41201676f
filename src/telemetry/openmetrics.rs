//! PURE: metrics in the OpenMetrics text format, which has what Prometheus' own lacks: exemplars, here the trace of a request beside the
//! bucket that it fell into.

use std::fmt::Write as _;
use std::time::Duration;

use prometheus::proto::{LabelPair, Metric, MetricFamily, MetricType};

use crate::trace::TraceId;

/// The media type.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A request that fell into a bucket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exemplar {
    pub(super) trace: TraceId,
    /// In seconds.
    pub(super) value: f64,
    /// Since 1970.
    pub(super) at: Duration,
}

/// Finds the exemplar of a bucket, by its number among the finite ones or after them.
pub(super) type Find<'a> = &'a dyn Fn(&str, &Metric, usize) -> Option<Exemplar>;

/// All families, with the exemplars that `find` finds.
pub(super) fn render(families: &[MetricFamily], find: Find<'_>) -> String {
    let mut out = String::new();
    for family in families {
        let kind = family.get_field_type();
        // A counter's family has the name without the ending that its samples have.
        let name = match kind {
            MetricType::COUNTER => family.name().trim_end_matches("_total"),
            _ => family.name(),
        };
        let word = match kind {
            MetricType::COUNTER => "counter",
            MetricType::GAUGE => "gauge",
            MetricType::HISTOGRAM => "histogram",
            _ => "unknown",
        };
        let _ = writeln!(out, "# TYPE {name} {word}");
        if let Some(unit) = ["seconds"]
            .into_iter()
            .find(|unit| name.ends_with(&format!("_{unit}")))
        {
            let _ = writeln!(out, "# UNIT {name} {unit}");
        }
        let _ = writeln!(out, "# HELP {name} {}", escaped(family.help()));
        for metric in family.get_metric() {
            match kind {
                MetricType::COUNTER => {
                    let value = metric.get_counter().get_value();
                    line(
                        &mut out,
                        &format!("{name}_total"),
                        metric,
                        None,
                        &number(value),
                        None,
                    );
                }
                MetricType::GAUGE => {
                    let value = metric.get_gauge().get_value();
                    line(&mut out, name, metric, None, &number(value), None);
                }
                MetricType::HISTOGRAM => histogram(&mut out, name, metric, find),
                _ => {}
            }
        }
    }
    out.push_str("# EOF\n");
    out
}

fn histogram(out: &mut String, name: &str, metric: &Metric, find: Find<'_>) {
    let histogram = metric.get_histogram();
    let bounds = histogram.get_bucket().iter();
    let bounds = bounds.map(|bucket| (bucket.upper_bound(), bucket.cumulative_count()));
    let finite = bounds.filter(|(bound, _)| bound.is_finite());
    let all = finite.chain([(f64::INFINITY, histogram.get_sample_count())]);
    let bucket = format!("{name}_bucket");
    for (index, (bound, count)) in all.enumerate() {
        let exemplar = find(name, metric, index);
        line(
            out,
            &bucket,
            metric,
            Some(bound),
            &count.to_string(),
            exemplar,
        );
    }
    let count = histogram.get_sample_count().to_string();
    line(out, &format!("{name}_count"), metric, None, &count, None);
    let sum = number(histogram.get_sample_sum());
    line(out, &format!("{name}_sum"), metric, None, &sum, None);
}

fn line(
    out: &mut String,
    name: &str,
    metric: &Metric,
    bound: Option<f64>,
    value: &str,
    exemplar: Option<Exemplar>,
) {
    let labels = metric.get_label().iter();
    let labels = labels.map(|label: &LabelPair| {
        let value = escaped(label.value());
        format!("{}=\"{value}\"", label.name())
    });
    let bound = bound.map(|bound| format!("le=\"{}\"", number(bound)));
    let labels: Vec<String> = labels.chain(bound).collect();
    out.push_str(name);
    if !labels.is_empty() {
        let _ = write!(out, "{{{}}}", labels.join(","));
    }
    let _ = write!(out, " {value}");
    if let Some(Exemplar { trace, value, at }) = exemplar {
        let at = at.as_secs_f64();
        let _ = write!(out, " # {{trace_id=\"{trace}\"}} {} {at:.3}", number(value));
    }
    out.push('\n');
}

/// A number with a decimal point, as OpenMetrics writes bounds.
fn number(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    format!("{value:?}")
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('\n', "\\n")
        .replace('"', "\\\"")
}

/// Whether somebody who accepts these media types wants OpenMetrics rather than Prometheus' own format.
pub(super) fn is_wanted(accept: &str) -> bool {
    let quality = |wanted: &str| {
        let ranges = accept.split(',').filter_map(|range| {
            let mut parts = range.split(';').map(str::trim);
            let name = parts.next()?;
            let quality = parts.find_map(|part| part.strip_prefix("q=")?.parse::<f64>().ok());
            name.eq_ignore_ascii_case(wanted)
                .then_some(quality.unwrap_or(1.0))
        });
        ranges.fold(0.0, f64::max)
    };
    let open = quality("application/openmetrics-text");
    open > 0.0 && open >= quality("text/plain")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_asks_for_openmetrics_first_gets_it() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for wanted in [
            prometheus,
            "application/openmetrics-text",
            "Application/OpenMetrics-Text; q=0.1",
        ] {
            assert!(is_wanted(wanted), "{wanted}");
        }
        for other in [
            "",
            "*/*",
            "text/plain",
            "text/html,*/*;q=0.8",
            "application/openmetrics-text;q=0",
            "text/plain, application/openmetrics-text;q=0.5",
        ] {
            assert!(!is_wanted(other), "{other}");
        }
    }
}
