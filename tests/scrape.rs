//! The metrics, as those who scrape them see them: judged by Prometheus' own tool and by the reference parser of OpenMetrics.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::collector::Collector;
use crate::support::{App, Dressipi, Sidecar};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// What Prometheus asks for.
const PROMETHEUS: &str = "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";

/// Reads OpenMetrics as strictly as its authors do, and prints every exemplar.
const PARSER: &str = r#"
import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families
for family in text_string_to_metric_families(sys.stdin.read()):
    for sample in family.samples:
        if sample.exemplar:
            print(sample.name, sample.labels["route"], sample.labels["le"], sample.exemplar.labels["trace_id"], sample.exemplar.value)
"#;

/// A tool that `.ci/setup` installs.
fn tool(name: &str) -> PathBuf {
    let binary = Path::new(env!("CARGO_BIN_EXE_dressipi-sidecar"));
    let target = binary.parent().and_then(Path::parent).unwrap();
    let ours = target.join("tools/bin").join(name);
    if ours.exists() { ours } else { name.into() }
}

/// What a tool says of `text`.
fn judged(mut command: Command, text: &str, missing: &str) -> String {
    let spawned = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = spawned.unwrap_or_else(|error| panic!("{error}: {missing}"));
    child
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let [said, complained] =
        [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    let absent = complained.contains("No module named");
    assert!(!absent, "{complained}{missing}");
    assert!(
        output.status.success() && complained.is_empty(),
        "{said}{complained}\n{text}"
    );
    said.into_owned()
}

fn promtool(text: &str) {
    let mut command = Command::new(tool("promtool"));
    command.args(["check", "metrics"]);
    let missing =
        "promtool is not installed: run .ci/setup, or install Debian's package `prometheus`";
    assert_eq!(judged(command, text, missing), "");
}

fn exemplars(text: &str) -> Vec<Vec<String>> {
    let mut command = Command::new(tool("python3"));
    command.args(["-c", PARSER]);
    let missing = "the parser of OpenMetrics is not installed: run .ci/setup, or `pip install prometheus-client`";
    let said = judged(command, text, missing);
    let words = |line: &str| line.split(' ').map(str::to_owned).collect();
    said.lines().map(words).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scrape_is_well_formed_in_both_formats_and_sampled_requests_are_its_exemplars() {
    let (dressipi, app) = (Dressipi::start().await, App::start().await);
    let collector = Collector::start().await;
    let traces = format!("[traces]\nendpoint = {:?}\nsample_ratio = 0", collector.url);
    let sidecar = Sidecar::behind(&dressipi)
        .app(&app)
        .extra(&traces)
        .start()
        .await;
    let ask = async |path: &str, flags: &str| {
        let parent = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}");
        sidecar
            .visitor("ada", path)
            .header("traceparent", parent)
            .send()
            .await
            .unwrap();
    };
    for path in ["/x", "/api/echo", "/api/nowhere"] {
        ask(path, "00").await;
    }
    sidecar
        .counts("request_duration_seconds_count", "", 3.0)
        .await;
    let scrape = async |accept: &str| {
        let url = format!("http://{}/metrics", sidecar.admin_address());
        let answer = sidecar
            .client
            .get(url)
            .header("accept", accept)
            .send()
            .await
            .unwrap();
        let kind = answer.headers()["content-type"]
            .to_str()
            .unwrap()
            .to_owned();
        (kind, answer.text().await.unwrap())
    };
    let (kind, text) = scrape(PROMETHEUS).await;
    assert_eq!(kind, OPEN_METRICS);
    assert_eq!(
        exemplars(&text),
        Vec::<Vec<String>>::new(),
        "nothing was sampled"
    );

    ask("/x", "01").await;
    sidecar
        .counts("request_duration_seconds_count", "", 4.0)
        .await;
    let (_, text) = scrape(PROMETHEUS).await;
    let found = exemplars(&text);
    assert_eq!(found.len(), 1, "{found:?}");
    let [name, route, bound, trace, value] = &found[0][..] else {
        panic!("{found:?}");
    };
    assert_eq!(name, "dressipi_sidecar_request_duration_seconds_bucket");
    assert_eq!(
        (route.as_str(), trace.as_str()),
        ("/", "4bf92f3577b34da6a3ce929d0e0e4736")
    );
    assert!(value.parse::<f64>().unwrap() <= bound.parse::<f64>().unwrap());

    // Plain scrapes stay as they are.
    for accept in ["*/*", "text/plain", "text/html,*/*;q=0.8"] {
        let (kind, text) = scrape(accept).await;
        assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
        assert!(!text.contains("4bf92f"), "{text}");
        promtool(&text);
    }
    // And both say the same: every sample of one is in the other.
    let ((_, open), (_, plain)) = (scrape(PROMETHEUS).await, scrape("*/*").await);
    let names = |text: &str| -> std::collections::BTreeSet<String> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines
            .map(|line| line.split(['{', ' ']).next().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names(&open), names(&plain));
    sidecar.stop().await;
}
