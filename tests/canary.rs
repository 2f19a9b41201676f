//! Invariant 7, from outside: the real binary with known values in every secret place, every fault of Dressipi that can be had, every
//! answer of its own that a client or an operator can get, and a log at the most talkative level. None of the values is
//! in any of it. What all other suites log is searched too (`support/canary.rs`).

use std::path::{Path, PathBuf};

use dressipi_sidecar::simulator::{Endpoint, Fault, FaultKind, SimulatorConfig};
use serde_json::json;

use crate::support::collector::{Answer, Collector, attribute};
use crate::support::redis::RedisServer;
use crate::support::{App, BROWSER, Dressipi, Process, Raw, Sidecar, canary, client};

const PASSWORD: &str = "redis-password-canary";
const ADMIN_TOKEN: &str = "admin-token-canary";
const API_KEY: &str = "api-key-canary";

/// What has been said to anybody, and by whom it was said.
#[derive(Default)]
struct Said(Vec<(String, String)>);

impl Said {
    /// An answer that the sidecar has made by itself: all of it but the cookies, which are their browser's.
    async fn answer(&mut self, what: &str, answer: reqwest::Response) -> u16 {
        let status = answer.status().as_u16();
        let headers = answer.headers().iter();
        let mut text: String = headers
            .filter(|(name, _)| *name != "set-cookie")
            .map(|(name, value)| format!("{name}: {value:?}\n"))
            .collect();
        text.push_str(&answer.text().await.unwrap_or_default());
        self.0.push((what.to_owned(), text));
        status
    }
}

/// The answers of Dressipi that go wrong.
fn faults() -> Vec<(Endpoint, FaultKind)> {
    let canary = || {
        Some(
            json!({"error": "server_error", "error_description": "description-canary"}).to_string(),
        )
    };
    let kinds = || {
        vec![
            FaultKind::Html,
            FaultKind::Huge { bytes: 100_000 },
            FaultKind::WrongState,
            FaultKind::DropBeforeCommit,
            FaultKind::DropAfterCommit,
            FaultKind::Forbid,
            FaultKind::Status {
                code: 503,
                retry_after: Some(1),
                body: canary(),
            },
            FaultKind::OauthError {
                error: "invalid_client".to_owned(),
            },
            FaultKind::OauthError {
                error: "error-canary".to_owned(),
            },
            FaultKind::MissingField {
                name: "access_token".to_owned(),
            },
            FaultKind::ExpiresIn {
                value: json!("expiry-canary"),
            },
        ]
    };
    [Endpoint::Authorize, Endpoint::Token]
        .into_iter()
        .flat_map(|endpoint| kinds().into_iter().map(move |kind| (endpoint, kind)))
        .collect()
}

fn configuration(
    folder: &Path,
    dressipi: &Dressipi,
    app: &App,
    redis: &RedisServer,
    collector: &Collector,
) -> PathBuf {
    let key = dressipi_sidecar::session::generate_key_line();
    std::fs::write(folder.join("keys"), key).unwrap();
    std::fs::write(folder.join("password"), PASSWORD).unwrap();
    let session = format!(
        "store = \"redis\"\nkeys_file = {:?}\nredis.url = {:?}\nredis.password_file = {:?}\nmin_backoff = \"1ms\"",
        folder.join("keys"),
        redis.url(),
        folder.join("password"),
    );
    let closed = "[[upstreams]]\nname = \"closed\"\naddress = \"127.0.0.1:1\"\n[[routes]]\npath = \"/closed/\"\nupstream = \"closed\"\n[[routes]]\npath = \"/strict/\"\nupstream = \"dressipi\"\nupstream_path = \"/api/\"\non_unavailable = \"reject\"\n";
    let builder = Sidecar::behind(dressipi)
        .app(app)
        .session(&session)
        .cookie("recovery = true")
        .admin_keys(&format!("token = \"{ADMIN_TOKEN}\""))
        .extra(closed)
        .extra(&format!(
            "[traces]\nendpoint = {:?}\nheaders = \"x-team=header-canary\"",
            collector.url
        ));
    let path = builder.write(folder);
    let text = std::fs::read_to_string(&path).unwrap();
    let text = text
        .replace("access = false", "access = true")
        .replace("demo-api-key", API_KEY);
    std::fs::write(&path, text).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_7_no_known_secret_is_in_any_log_answer_metric_or_page() {
    let mind = SimulatorConfig {
        api_key: Some(API_KEY.to_owned()),
        ..SimulatorConfig::default()
    };
    let (dressipi, app) = (Dressipi::with(mind).await, App::start().await);
    let redis = RedisServer::with(&["--requirepass", PASSWORD]);
    let collector = Collector::start().await;
    // It says why it takes a part only.
    collector.answer([Answer::Partial(1), Answer::Status(400, None)]);
    let folder = tempfile::tempdir().unwrap();
    let config = configuration(folder.path(), &dressipi, &app, &redis, &collector);
    let process = tokio::task::block_in_place(|| Process::serve(&config, 2));
    let [admin, browsers, apps] = [2, 0, 1].map(|index| process.addresses[index]);
    let (http, mut said) = (client(), Said::default());
    let ask = |base: std::net::SocketAddr, path: &str| {
        let url = format!("http://{base}{path}");
        http.get(url)
            .header("authorization", "Bearer client-canary")
    };

    // A visitor with everything: the values that must not be seen again.
    let answer = ask(browsers, "/api/echo?query=canary")
        .send()
        .await
        .unwrap();
    let cookies = answer.headers().get_all("set-cookie").iter();
    let cookies: Vec<String> = cookies
        .map(|cookie| {
            cookie
                .to_str()
                .unwrap()
                .split(';')
                .next()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(cookies.len(), 2, "visitor and recovery cookie");
    let echo = crate::support::json(answer).await;
    let token = crate::support::seen(&echo, "x-dressipi-jwt")[0].to_owned();
    assert_eq!(crate::support::seen(&echo, "x-api-key"), [API_KEY]);
    let jar = cookies.join("; ");

    // Dressipi in every bad mood, each for a visitor of its own.
    for (number, (endpoint, kind)) in faults().into_iter().enumerate() {
        dressipi.simulator.clear_faults();
        dressipi.simulator.add_fault(Fault::always(endpoint, kind));
        for _ in 0..2 {
            let id = format!("id-{number}-canary");
            let request = ask(apps, "/strict/echo").header("x-visitor-id", id);
            let answer = request.send().await.unwrap();
            // Not every fault is one everywhere: what Dressipi echoes is not the sidecar's.
            if answer.status() != 200 {
                assert_eq!(said.answer("a fault", answer).await, 503);
            }
        }
    }
    assert!(said.0.len() > 30, "only {} faults", said.0.len());
    dressipi.simulator.clear_faults();

    // What the sidecar answers by itself.
    let forged = jar.replace('.', "_");
    for (what, status, request) in [
        (
            "a closed upstream",
            502,
            ask(browsers, "/closed/x").header("cookie", &jar),
        ),
        ("a page for nobody", 404, ask(admin, "/nothing-canary")),
        ("livez", 200, ask(admin, "/livez")),
        ("readyz", 200, ask(admin, "/readyz")),
        ("metrics", 200, ask(admin, "/metrics")),
        ("a wrong token", 401, ask(admin, "/sessions/export")),
        (
            "an import of nonsense",
            400,
            http.post(format!("http://{admin}/sessions/import"))
                .bearer_auth(ADMIN_TOKEN)
                .body("body-canary"),
        ),
        (
            "a forged cookie",
            200,
            ask(browsers, "/x").header("cookie", &forged),
        ),
    ] {
        let answer = request.header("user-agent", BROWSER).send().await.unwrap();
        if what == "a forged cookie" {
            // The app's own answer; the log is what matters.
            continue;
        }
        assert_eq!(said.answer(what, answer).await, status, "{what}");
    }
    for request in [
        &b"GET / HTTP/1.1\r\nHost : raw-canary\r\n\r\n"[..],
        b"GET /x?raw-canary#y HTTP/1.1\r\nhost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\nraw-canary",
        b"GET /api/%2e%2e/x?raw-canary HTTP/1.1\r\nhost: a\r\n\r\n",
        b"raw-canary\r\n\r\n",
    ] {
        let mut raw = Raw::connect(browsers).await;
        raw.send(request).await;
        let answer = String::from_utf8(raw.rest().await).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
        said.0.push(("a refusal".to_owned(), answer));
    }
    // And without its store.
    redis.kill();
    let request = ask(apps, "/strict/echo").header("x-visitor-id", "id-without-store-canary");
    assert_eq!(
        said.answer("a store that is down", request.send().await.unwrap())
            .await,
        503
    );
    said.answer("not ready", ask(admin, "/readyz").send().await.unwrap())
        .await;

    let (_, log) = tokio::task::block_in_place(|| process.terminate());
    assert!(
        log.iter()
            .any(|line| line.contains("\"target\":\"access\"")),
        "there is an access log"
    );
    assert!(
        log.iter().any(|line| line.contains("an OAuth call failed")),
        "and it tells of the faults"
    );
    said.0.push(("the log".to_owned(), log.join("\n")));
    let calls = collector.calls();
    let team = |headers: &http::HeaderMap| headers["x-team"] == "header-canary";
    assert!(
        calls.iter().all(|(headers, _)| team(headers)),
        "it is told who calls"
    );
    for (_, body) in &calls {
        let text = String::from_utf8_lossy(body).into_owned();
        said.0.push(("a trace".to_owned(), text));
    }
    let spans = collector.spans();
    let has = |key, value: &str| {
        spans
            .iter()
            .any(|span| attribute(&span.attributes, key) == value)
    };
    assert!(spans.len() > 100, "{} spans", spans.len());
    assert!(has("dressipi.oauth.call", "authorize") && has("dressipi.oauth.call", "exchange"));
    assert!(has("error.type", "state_mismatch") && has("http.response.status_code", "400"));
    let keyring = std::fs::read_to_string(folder.path().join("keys")).unwrap();
    let key = keyring.trim().rsplit(':').next().unwrap().to_owned();
    let values = cookies
        .iter()
        .map(|cookie| cookie.split_once('=').unwrap().1);
    let secrets: Vec<&str> = values.chain([token.as_str(), key.as_str()]).collect();
    for (what, text) in &said.0 {
        for line in text.lines() {
            assert_eq!(canary::find(line), None, "{what}: {line}");
            for secret in &secrets {
                assert!(!line.contains(secret), "{what}: {line}");
            }
        }
    }
}
