//! The command line, as users type it.

use std::path::Path;

use crate::support::Process;

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
        assert!(out.ends_with(": ok\n"), "{out}");
    }
}

#[test]
fn a_wrong_configuration_exits_78_with_file_line_and_key_of_every_problem() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sidecar.toml");
    std::fs::write(&path, "[dressipi]\nbase_url = 7\nclient = \"x\"\n").unwrap();
    for command in ["check", "serve"] {
        let (code, _, err) = run(&[command, "--config", path.to_str().unwrap()]);
        assert_eq!(code, Some(78), "{err}");
        for expected in [
            "sidecar.toml:2:",
            "dressipi.base_url",
            "sidecar.toml:3:",
            "dressipi.client",
            "listeners",
            "routes",
        ] {
            assert!(err.contains(expected), "{expected} is not in:\n{err}");
        }
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let (code, _, err) = run(&["check", "--config", "/nowhere/sidecar.toml"]);
    assert_eq!(code, Some(78));
    assert!(err.contains("/nowhere/sidecar.toml"), "{err}");
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
    let ports: Vec<_> = (0..4)
        .map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    let addresses: Vec<_> = ports
        .iter()
        .map(|port| port.local_addr().unwrap().to_string())
        .collect();
    drop(ports);
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
