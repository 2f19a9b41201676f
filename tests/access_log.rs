//! The access log of the real binary: every request has its line, whatever ended the process, and no line has a secret.

use crate::support::{App, Dressipi, Process, Sidecar, client, eventually};

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
        assert!(line["took_us"].as_u64().unwrap() > 0);
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
