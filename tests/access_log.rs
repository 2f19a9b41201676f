//! The access log of the real binary: every request has its line, whatever ended the process, and no line has a secret.

use crate::support::collector::Collector;
use crate::support::{App, Dressipi, Process, Raw, Sidecar, client, eventually};

fn write_config(folder: &std::path::Path, dressipi: &Dressipi, app: &App) -> std::path::PathBuf {
    let text = Sidecar::behind(dressipi)
        .app(app)
        .text()
        .replace("[log]", "[log]\nformat = \"json\"")
        .replace("access = false", "access = true");
    assert!(text.contains("access = true"), "{text}");
    let path = folder.join("sidecar.toml");
    std::fs::write(&path, text).unwrap();
    path
}

fn access_lines(log: &[String]) -> Vec<serde_json::Value> {
    log.iter()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|event| event["target"] == "access")
        .collect()
}

#[tokio::test]
async fn no_access_line_is_lost_at_sigterm_and_none_shows_the_query() {
    const REQUESTS: usize = 500;
    let (dressipi, app) = (Dressipi::start().await, App::start().await);
    let folder = tempfile::tempdir().unwrap();
    let process = Process::serve(&write_config(folder.path(), &dressipi, &app), 2);
    let http = client();
    let base = format!("http://{}", process.addresses[0]);
    for number in 0..REQUESTS {
        let url = format!("{base}/page/{number}?secret=in-the-query");
        let answer = http.get(url).header("cookie", "secret=in-a-cookie").send();
        assert_eq!(answer.await.unwrap().status(), 200);
    }
    let (status, log) = tokio::task::spawn_blocking(|| process.terminate())
        .await
        .unwrap();
    assert!(status.success());
    let lines = access_lines(&log);
    let paths: Vec<_> = lines
        .iter()
        .map(|line| line["path"].as_str().unwrap())
        .collect();
    let expected: Vec<_> = (0..REQUESTS)
        .map(|number| format!("/page/{number}"))
        .collect();
    assert_eq!(paths, expected, "every line, in order");
    for line in &lines {
        assert_eq!(line["method"], "GET");
        assert_eq!(line["status"], 200);
        assert_eq!(line["route"], "/");
        assert_eq!(line["visitor"].as_str().unwrap().len(), 12);
        assert_eq!(line["token"], "visitor");
        let [took, upstream] = ["took_us", "upstream_us"].map(|key| line[key].as_u64().unwrap());
        assert!(upstream > 0 && upstream <= took, "{line}");
        assert!(line["trace_id"].is_null(), "nothing is traced: {line}");
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
    }
    assert!(!log.join("\n").contains("in-the-query"));
    assert!(!log.join("\n").contains("in-a-cookie"));
    // Libraries, which are logged at trace here, may say more.
    let ours = |line: &&String| line.contains("\"target\":\"dressipi_sidecar");
    let last = log.iter().rfind(ours).unwrap();
    assert!(
        last.contains("\"message\":\"stopped\""),
        "the lines come before the end is said: {last}"
    );
}

#[tokio::test]
async fn lines_appear_while_the_process_runs() {
    let (dressipi, app) = (Dressipi::start().await, App::start().await);
    let folder = tempfile::tempdir().unwrap();
    let mut process = Process::serve(&write_config(folder.path(), &dressipi, &app), 2);
    let url = format!("http://{}/once", process.addresses[0]);
    assert_eq!(client().get(url).send().await.unwrap().status(), 200);
    eventually("the line is there", async || {
        access_lines(process.log())
            .iter()
            .any(|line| line["path"] == "/once")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_sample_every_failure_has_its_line_and_a_traced_request_its_trace() {
    let (dressipi, app) = (Dressipi::start().await, App::start().await);
    let collector = Collector::start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = write_config(folder.path(), &dressipi, &app);
    let text = std::fs::read_to_string(&path).unwrap();
    let sampled = text.replace("access = true", "access = true\naccess_sample = 0.5")
        + &format!("\n[traces]\nendpoint = {:?}\n", collector.url);
    std::fs::write(&path, sampled).unwrap();
    let process = Process::serve(&path, 2);
    let http = client();
    let base = format!("http://{}", process.addresses[1]);
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    for number in 0..400 {
        let status = if number % 2 == 0 { 200 } else { 503 };
        let request = http.get(format!("{base}/status/{status}"));
        let request = request
            .header("x-visitor-id", "ada")
            .header("traceparent", parent);
        assert_eq!(request.send().await.unwrap().status(), status);
    }
    let mut raw = Raw::connect(process.addresses[1]).await;
    raw.send(b"GET / HTTP/1.1\r\nHost : x\r\n\r\n").await;
    raw.rest().await;
    let (_, log) = tokio::task::block_in_place(|| process.terminate());
    let lines = access_lines(&log);
    let count = |status: u16| lines.iter().filter(|line| line["status"] == status).count();
    assert_eq!((count(503), count(400)), (200, 1));
    // Six standard deviations.
    assert!((58..=142).contains(&count(200)), "{}", count(200));
    for line in lines.iter().filter(|line| line["status"] != 400) {
        assert_eq!(line["trace_id"], &parent[3..35], "{line}");
    }
}
