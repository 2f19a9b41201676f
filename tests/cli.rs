//! The command line, as users type it.

use std::path::Path;

use crate::support::Process;
use crate::support::redis::free_port;

fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    run_with(arguments, &[])
}

fn run_with(arguments: &[&str], variables: &[(&str, &Path)]) -> (Option<i32>, String, String) {
    let mut command = Process::command();
    command.args(arguments).envs(variables.iter().copied());
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn every_shipped_configuration_passes_check() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "toml"))
        .collect();
    names.sort();
    assert_eq!(names.len(), 4, "demo, minimal, redis, reference");
    // Secrets that must be there are in files that are not here.
    let secrets = tempfile::tempdir().unwrap();
    let secret = secrets.path().join("secret");
    std::fs::write(&secret, "hunter2\n").unwrap();
    let of_redis = [
        ("SIDECAR__SESSION__KEYS_FILE", secret.as_path()),
        ("SIDECAR__SESSION__REDIS__PASSWORD_FILE", secret.as_path()),
    ];
    for path in names {
        let variables = match path.ends_with("redis.toml") {
            true => &of_redis[..],
            false => &[],
        };
        let check = ["check", "--config", path.to_str().unwrap()];
        let (code, out, err) = run_with(&check, variables);
        assert_eq!(code, Some(0), "{}: {err}", path.display());
        assert!(out.contains(": ok"), "{out}");
    }
}

#[test]
fn a_wrong_configuration_exits_78_with_every_problem_beside_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sidecar.toml");
    std::fs::write(&path, "[dressipi]\nbase_url = 7\nclient = \"x\"\n").unwrap();
    let path = path.to_str().unwrap();
    for command in [&["check"][..], &["serve"], &["config", "show"]] {
        let (code, out, err) = run(&[command, &["--config", path]].concat());
        assert_eq!(code, Some(78), "{err}");
        assert_eq!(out, "", "{command:?}");
        let underlined = format!(
            "  × dressipi.base_url: expected a string, found a number\n   \
             ╭─[{path}:2:12]\n \
             2 │ base_url = 7\n   \
             ·            ─\n   \
             ╰────\n  \
             help: write it between quotes\n"
        );
        assert!(err.contains(&underlined), "{err}");
        for expected in [
            "sidecar.toml:3:1]",
            "listeners: is missing",
            "routes: is missing",
        ] {
            assert!(err.contains(expected), "{expected} is not in:\n{err}");
        }
        assert!(err.ends_with(&format!("\n6 problems in {path}\n")), "{err}");
        assert!(!err.contains('\u{1b}'), "colour without a terminal: {err}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named_and_exits_1() {
    for command in [&["check"][..], &["serve"], &["config", "show"]] {
        let (code, _, err) = run(&[command, &["--config", "/nowhere/sidecar.toml"]].concat());
        assert_eq!(code, Some(1), "{err}");
        assert!(err.contains("/nowhere/sidecar.toml"), "{err}");
    }
    let (code, out, _) = run(&["check", "--json", "--config", "/nowhere/sidecar.toml"]);
    assert_eq!(code, Some(1));
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(json["ok"], false);
}

#[test]
fn check_tells_programs_the_same_as_people() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sidecar.toml");
    let good = "[[listeners]]\naddress = '127.0.0.1:0'\n[dressipi]\nbase_url = 'https://d.example'\n\
                client_id = 'c'\n[session]\nstore = 'memory'\n[[routes]]\npath = '/'\nupstream = 'dressipi'\n\
                [admin]\naddress = '127.0.0.1:0'\n";
    let name = path.to_str().unwrap();
    let check = |text: &str, variables: &[(&str, &Path)]| {
        std::fs::write(&path, text).unwrap();
        let (code, out, err) = run_with(&["check", "--json", "--config", name], variables);
        assert_eq!(err, "");
        (
            code,
            serde_json::from_str::<serde_json::Value>(&out).unwrap(),
        )
    };
    let (code, json) = check(good, &[]);
    assert_eq!(code, Some(0));
    assert_eq!(
        json,
        serde_json::json!({"file": name, "ok": true, "problems": [], "warnings": [{
            "message": "forgets every visitor on exit, and each of them then costs a second profile; so do visitors who \
                        meet a second replica",
            "hint": "use \"redb\", or \"redis\" for several replicas, for anything but demonstrations and tests",
            "key": "session.store",
            "line": 7, "column": 9, "length": 8,
            "origin": name,
        }]})
    );
    let variables = [("SIDECAR__LOG__LEVEL", Path::new("inof"))];
    let wrong = good
        .replace("client_id = 'c'", "client_id = ''")
        .replace("upstream = 'dressipi'", "");
    let (code, json) = check(&wrong, &variables);
    assert_eq!(code, Some(78));
    let hint = "\"dressipi\", or the name of one of the upstreams";
    assert_eq!(
        json,
        serde_json::json!({"file": name, "ok": false, "warnings": [], "problems": [
            {"message": "is empty", "hint": "leave it out if there is none", "key": "dressipi.client_id",
             "line": 5, "column": 13, "length": null, "origin": name},
            {"message": "is missing", "hint": hint, "key": "routes[0].upstream",
             "line": 8, "column": 1, "length": 10, "origin": name},
            {"message": "\"inof\" is not a log level", "hint": "did you mean \"info\"?", "key": "log.level",
             "line": null, "column": null, "length": null, "origin": "SIDECAR__LOG__LEVEL"},
        ]})
    );
}

#[test]
fn config_show_prints_what_is_in_force_and_where_it_came_from() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let path = folder.join("reference.toml");
    let path = path.to_str().unwrap();
    let secrets = tempfile::tempdir().unwrap();
    let secret = secrets.path().join("key");
    std::fs::write(&secret, "hunter2\n").unwrap();
    let variables = [
        ("SIDECAR__DRESSIPI__API_KEY_FILE", secret.as_path()),
        ("SIDECAR__LOG__LEVEL", Path::new("debug")),
    ];
    let (code, out, err) = run_with(&["config", "show", "--config", path], &variables);
    assert_eq!(code, Some(0), "{err}");
    let words = |key: &str| {
        let line = out.lines().find(|line| line.split(' ').next() == Some(key));
        let line = line.unwrap_or_else(|| panic!("{key} is not in:\n{out}"));
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        words("log.level"),
        "log.level = \"debug\" # SIDECAR__LOG__LEVEL"
    );
    assert_eq!(
        words("session.redis.mode"),
        "session.redis.mode = (none) # default"
    );
    assert!(
        words("dressipi.base_url").contains("reference.toml:"),
        "{out}"
    );
    let masked = format!("(secret, from {})", secret.display());
    assert!(words("dressipi.api_key").contains(&masked), "{out}");
    let (_, json, _) = run_with(&["config", "show", "--json", "--config", path], &variables);
    let parsed: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        parsed["keys"].as_array().unwrap().len(),
        out.lines().count()
    );
    assert!(!out.contains("hunter2") && !json.contains("hunter2"));
}

#[test]
fn a_wrong_command_line_exits_2_and_help_says_what_to_do_first() {
    assert_eq!(run(&["dance"]).0, Some(2));
    let (code, out, _) = run(&["--help"]);
    assert_eq!(code, Some(0));
    for expected in [
        "demo",
        "check",
        "serve",
        "simulator",
        "keygen",
        "First steps",
    ] {
        assert!(out.contains(expected), "{expected}");
    }
    let (code, out, _) = run(&["--version"]);
    assert_eq!(code, Some(0));
    assert_eq!(
        out.trim(),
        format!("dressipi-sidecar {}", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn keygen_prints_a_key_that_a_keyring_takes() {
    let (code, out, err) = run(&["keygen"]);
    assert_eq!(code, Some(0), "{err}");
    assert_ne!(out, run(&["keygen"]).1, "a new one each time");
    dressipi_sidecar::session::Keyring::parse(&out).unwrap();
}

#[test]
fn the_demo_shows_a_visitors_own_recommendations_and_what_dressipi_received() {
    let addresses: [String; 4] = std::array::from_fn(|_| format!("127.0.0.1:{}", free_port()));
    let mut demo = Process::command()
        .arg("demo")
        .env("SIDECAR__LISTENERS__0__ADDRESS", &addresses[0])
        .env(
            "SIDECAR__DRESSIPI__BASE_URL",
            format!("http://{}", addresses[1]),
        )
        .env("SIDECAR__UPSTREAMS__0__ADDRESS", &addresses[2])
        .env("SIDECAR__ADMIN__ADDRESS", &addresses[3])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut said = String::new();
    let mut out = std::io::BufReader::new(demo.stdout.take().unwrap());
    while !said.contains("Ctrl-C") {
        assert!(
            std::io::BufRead::read_line(&mut out, &mut said).unwrap() > 0,
            "{said}"
        );
    }
    assert!(
        said.contains(&format!("http://{}/", addresses[0])),
        "{said}"
    );

    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let http = crate::support::client();
        let get = async |path: &str, cookie: &str| {
            http.get(format!("http://{}{path}", addresses[0]))
                .header("cookie", cookie)
                .send()
                .await
                .unwrap()
        };
        let page = get("/", "").await;
        let cookie = page.headers()["set-cookie"]
            .to_str()
            .unwrap()
            .split(';')
            .next()
            .unwrap()
            .to_owned();
        assert!(page.text().await.unwrap().contains("Dressipi received"));
        let top = crate::support::json(get("/api/items/top?client_id=demo", &cookie).await).await;
        assert_eq!(top["personalised"], true);
        let event = top["event_id"].as_str().unwrap();
        let saw = get(&format!("/shop/dressipi-saw?event_id={event}"), &cookie)
            .await
            .text()
            .await
            .unwrap();
        assert!(
            saw.contains("x-dressipi-jwt") && saw.contains("sha256:"),
            "masked: {saw}"
        );
        assert!(
            !saw.contains("demo-api-key") && !saw.contains(&cookie),
            "{saw}"
        );

        // Past the sidecar, at the shop's own port: how the visitor's session stands, and no secret.
        let port = addresses[0].rsplit(':').next().unwrap();
        let standing = http
            .get(format!("http://{}/demo/visitor?port={port}", addresses[2]))
            .header("cookie", &cookie)
            .send()
            .await
            .unwrap();
        let standing = crate::support::json(standing).await;
        let value = cookie.split('=').nth(1).unwrap();
        assert!(!standing.to_string().contains(value), "{standing}");
        assert_eq!(
            (&standing["state"], &standing["replica"]),
            (&"active".into(), &1.into()),
            "{standing}"
        );
        let refresh_in = standing["token"]["refresh_in_ms"].as_i64().unwrap();
        let ends_in = standing["token"]["ends_in_ms"].as_i64().unwrap();
        assert!(0 < refresh_in && refresh_in < ends_in && ends_in <= 60_000);

        let start = async |origin: &str| {
            http.post(format!("http://{}/demo/replica", addresses[2]))
                .header("origin", origin)
                .send()
                .await
                .unwrap()
        };
        assert_eq!(start("http://shop.example").await.status(), 403);
        let started = crate::support::json(start(&format!("http://{}", addresses[0])).await).await;
        let second = started["replicas"][1].as_u64().unwrap();
        let there = http
            .get(format!(
                "http://127.0.0.1:{second}/api/items/top?client_id=demo"
            ))
            .header("cookie", &cookie)
            .send()
            .await
            .unwrap();
        assert_eq!(crate::support::json(there).await["profile"], top["profile"]);
    });
    let id = demo.id().to_string();
    assert!(
        std::process::Command::new("kill")
            .args(["-TERM", &id])
            .status()
            .unwrap()
            .success()
    );
    assert!(demo.wait().unwrap().success());
}
