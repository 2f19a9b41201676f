//! The log's level, looked at and changed while the process runs.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{ADMIN_KEYS, ADMIN_TOKEN, Dressipi, Process, Sidecar, client, eventually};

async fn ask(process: &Process, method: Method, token: Option<&str>, body: &str) -> (u16, Value) {
    let url = format!("http://{}/log-level", process.addresses[2]);
    let mut request = client().request(method, url).body(body.to_owned());
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    (status, crate::support::json(answer).await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_level_changes_at_once_and_only_for_whoever_may() {
    let (dressipi, folder) = (Dressipi::start().await, tempfile::tempdir().unwrap());
    let config = Sidecar::behind(&dressipi)
        .admin_keys(ADMIN_KEYS)
        .write(folder.path());
    let text = std::fs::read_to_string(&config).unwrap();
    let text = text.replace("access = false", "access = true");
    std::fs::write(&config, text).unwrap();
    let mut process = Process::serve(&config, 2);
    // That of the variable with which the tests start it.
    assert_eq!(
        ask(&process, Method::GET, None, "").await,
        (200, json!({"level": "trace"}))
    );
    let put =
        async |process: &Process, token, body: &str| ask(process, Method::PUT, token, body).await.0;
    let off = r#"{"level": "off"}"#;
    assert_eq!(put(&process, None, off).await, 401);
    assert_eq!(put(&process, Some("wrong"), off).await, 401);
    let long = json!({"level": "a::b=info,".repeat(200) + "info"}).to_string();
    for bad in [
        "",
        "off",
        r#"{"level": 7}"#,
        r#"{"level": "inof"}"#,
        r#"{"level": "a=verbose"}"#,
        r#"{"level": ""}"#,
        r#"{"level": "off", "x": 1}"#,
        &long,
    ] {
        assert_eq!(put(&process, Some(ADMIN_TOKEN), bad).await, 400, "{bad}");
    }
    assert_eq!(
        ask(&process, Method::GET, None, "").await.1["level"],
        "trace"
    );

    let visit = async |process: &Process, path: &str| {
        let url = format!("http://{}/api/{path}", process.addresses[1]);
        client()
            .get(url)
            .header("x-visitor-id", "ada")
            .send()
            .await
            .unwrap();
    };
    let has =
        |process: &mut Process, path: &str| process.log().iter().any(|line| line.contains(path));
    visit(&process, "before").await;
    eventually("it is logged", async || has(&mut process, "/api/before")).await;
    assert_eq!(put(&process, Some(ADMIN_TOKEN), off).await, 200);
    assert_eq!(
        ask(&process, Method::GET, None, "").await.1,
        json!({"level": "off"})
    );
    visit(&process, "meanwhile").await;
    // Lines leave within a fiftieth of a second, in order.
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert_eq!(
        put(&process, Some(ADMIN_TOKEN), r#"{"level": " info "}"#).await,
        200
    );
    visit(&process, "after").await;
    eventually("it is logged", async || has(&mut process, "/api/after")).await;
    assert!(!has(&mut process, "/api/meanwhile"));
}
