//! The description of the admin listener: it has every route and no other, and what is described is what comes.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use dressipi_sidecar::admin::{Admin, DESCRIPTION};
use dressipi_sidecar::session::generate_key_line;
use reqwest::Method;
use serde_json::Value;

use crate::support::{ADMIN_KEYS, ADMIN_TOKEN, Dressipi, Sidecar, json, profile};

/// The methods that a path may have in OpenAPI.
const METHODS: [&str; 8] = [
    "get", "put", "post", "delete", "options", "head", "patch", "trace",
];

/// So many generated requests for each operation, or as many as the variable says.
const EXAMPLES: &str = "25";

/// How to write the media type of an export.
const HOOKS: &str = r#"
import schemathesis
schemathesis.serializer.alias("application/x-ndjson", "text/plain")
"#;

/// A schema cannot say which texts are exports.
const SETTINGS: &str = r#"
[[operations]]
include-name = "POST /sessions/import"
checks.positive_data_acceptance.enabled = false
"#;

/// The described methods by path.
fn described() -> BTreeMap<String, BTreeSet<String>> {
    let description: Value = serde_json::from_str(DESCRIPTION).unwrap();
    let paths = description["paths"].as_object().unwrap().iter();
    let methods = |item: &Value| {
        let methods = METHODS
            .into_iter()
            .filter(|method| item.get(method).is_some());
        methods.map(str::to_uppercase).collect()
    };
    paths
        .map(|(path, item)| (path.clone(), methods(item)))
        .collect()
}

#[tokio::test]
async fn every_route_is_described_and_every_described_one_is_there() {
    let described = described();
    let paths: BTreeSet<_> = Admin::paths().collect();
    assert_eq!(described.keys().cloned().collect::<BTreeSet<_>>(), paths);

    let dressipi = Dressipi::start().await;
    let sidecar = Sidecar::behind(&dressipi)
        .admin_keys(ADMIN_KEYS)
        .start()
        .await;
    for (path, mut methods) in described {
        // No route has this one, so that the answer says which there are.
        let url = format!(
            "http://{}{}",
            sidecar.admin_address(),
            path.replace("{visitor}", "0123456789ab")
        );
        let request = sidecar
            .client
            .request(Method::TRACE, url)
            .bearer_auth(ADMIN_TOKEN);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 405, "{path}");
        let allow = answer.headers()["allow"].to_str().unwrap().to_owned();
        let allowed: BTreeSet<_> = allow.split(',').map(str::to_owned).collect();
        // It comes with the other, and is described by it.
        if methods.contains("GET") {
            methods.insert("HEAD".to_owned());
        }
        assert_eq!(allowed, methods, "{path}");
        assert_eq!(json(answer).await["status"], 405);
    }
    let served = sidecar.admin("/openapi.json").await;
    assert_eq!(served.headers()["content-type"], "application/json");
    assert_eq!(served.text().await.unwrap(), DESCRIPTION);
    assert_eq!(sidecar.admin("/nowhere").await.status(), 404);
    sidecar.stop().await;
}

#[test]
fn the_description_is_of_this_version_and_asks_for_the_token_where_the_listener_does() {
    let description: Value = serde_json::from_str(DESCRIPTION).unwrap();
    assert_eq!(description["openapi"], "3.1.0");
    assert_eq!(description["info"]["version"], env!("CARGO_PKG_VERSION"));
    for (path, item) in description["paths"].as_object().unwrap() {
        let operations = METHODS
            .iter()
            .filter_map(|method| Some((*method, item.get(*method)?)));
        for (method, operation) in operations {
            let secured = operation.get("security").is_some();
            let changes = matches!(
                (path.as_str(), method),
                ("/quit", _) | ("/log-level", "put")
            );
            let is_guarded = path.starts_with("/sessions") || changes;
            assert_eq!(secured, is_guarded, "{path}");
            for status in ["401", "403"] {
                assert_eq!(
                    operation["responses"].get(status).is_some(),
                    secured,
                    "{path}"
                );
            }
        }
    }
    // What is referred to is there.
    for reference in DESCRIPTION.split("\"$ref\": \"#").skip(1) {
        let place = reference.split('"').next().unwrap();
        assert!(description.pointer(place).is_some(), "{place}");
    }
}

/// Generated requests, good and bad, against a running sidecar; where schemathesis is installed (`pip install schemathesis`).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_described_is_what_comes() {
    let is_there = Command::new("schemathesis").arg("--version").output();
    if !is_there.is_ok_and(|output| output.status.success()) {
        eprintln!("schemathesis is not installed: nothing was compared");
        return;
    }
    let dressipi = Dressipi::start().await;
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    std::fs::write(&keys, generate_key_line()).unwrap();
    let session = format!("store = \"memory\"\nkeys_file = {keys:?}");
    let sidecar = Sidecar::behind(&dressipi)
        .session(&session)
        .admin_keys(ADMIN_KEYS);
    let sidecar = sidecar.start().await;
    for visitor in 0..20 {
        let request = sidecar.visitor(
            &format!("visitor-{visitor}"),
            "/api/items/top?client_id=demo",
        );
        profile(request.send().await.unwrap()).await.unwrap();
    }
    let write = |name, text| std::fs::write(folder.path().join(name), text).unwrap();
    // Of a description that it fetches, schemathesis leaves out where it was fetched from.
    write("openapi.json", DESCRIPTION);
    write("hooks.py", HOOKS);
    write("schemathesis.toml", SETTINGS);
    let examples = std::env::var("SIDECAR_TEST_EXAMPLES").unwrap_or_else(|_| EXAMPLES.into());
    let url = format!("http://{}", sidecar.admin_address());
    let token = format!("Authorization: Bearer {ADMIN_TOKEN}");
    let mut command = Command::new("schemathesis");
    command.args(["run", "openapi.json", "--url", &url, "--header", &token]);
    command.args(["--max-examples", &examples, "--seed", "1"]);
    command
        .args(["--no-color", "--generation-database", "none"])
        .current_dir(folder.path());
    command
        .env("SCHEMATHESIS_HOOKS", "hooks")
        .env("PYTHONPATH", folder.path());
    // There is no way to a sidecar on loopback but the straight one.
    command.env("NO_PROXY", "127.0.0.1");
    let output = tokio::task::spawn_blocking(move || command.output())
        .await
        .unwrap()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let operations: usize = described().values().map(BTreeSet::len).sum();
    assert!(said.contains(&format!("Tested: {operations}\n")), "{said}");
    println!("{said}");
    sidecar.stop().await;
}
