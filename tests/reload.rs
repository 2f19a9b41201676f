//! Invariant 15: a reload loses no request, and a bad configuration never replaces a good one.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use dressipi_sidecar::server::ReloadError;
use dressipi_sidecar::session::generate_key_line;

use crate::support::{
    App, Authority, Dressipi, Process, Sidecar, TlsUpstream, client, eventually, json, profile,
    seen, visitor_cookie,
};

const TOP: &str = "/api/items/top?client_id=demo";

/// How often the configuration is replaced under load.
fn reloads() -> usize {
    let asked = std::env::var("SIDECAR_TEST_RELOADS").ok();
    asked.and_then(|asked| asked.parse().ok()).unwrap_or(1_000)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_15_a_thousand_reloads_under_load_lose_no_request() {
    let (dressipi, app) = (Dressipi::start().await, App::start().await);
    let builder = Sidecar::behind(&dressipi).app(&app);
    let first = builder.text();
    // Other routes, limits, rules and time-outs: everything that can change does, back and forth.
    let second = format!(
        "{}\n[[routes]]\npath = \"/other/\"\nupstream = \"app\"\nupstream_path = \"/\"\n\
         [creation]\nper_client = \"900/1m\"\n[limits]\nconnections = 5000\nheader_count = 64\n",
        first.replace("access = false", "access = true")
    );
    let sidecar = Arc::new(builder.start().await);
    let over = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicU64::new(0));
    let clients = (0..8).map(|number| {
        let (sidecar, over, answered) = (sidecar.clone(), over.clone(), answered.clone());
        tokio::spawn(async move {
            let visitor = format!("visitor-{number}");
            let mut first = None;
            while !over.load(Ordering::Relaxed) {
                let answer = sidecar.visitor(&visitor, TOP).send().await.unwrap();
                assert_eq!(answer.status(), 200);
                let profile = profile(answer).await;
                assert!(profile.is_some(), "personalised");
                assert_eq!(*first.get_or_insert_with(|| profile.clone()), profile);
                let body = "x".repeat(20_000);
                let post = sidecar.visitor_request(reqwest::Method::POST, &visitor, "/form");
                let answer = post.body(body).send().await.unwrap();
                assert_eq!(answer.status(), 200);
                answered.fetch_add(2, Ordering::Relaxed);
            }
        })
    });
    let clients: Vec<_> = clients.collect();
    for number in 0..reloads() {
        let text = match number % 2 {
            0 => &second,
            _ => &first,
        };
        sidecar.reload(text).await.unwrap();
    }
    over.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    let answered = answered.load(Ordering::Relaxed);
    assert!(answered > 1_000, "only {answered} requests");
    assert_eq!(dressipi.profiles(), 8);
    let counted = sidecar.metric("config_reloads_total", "ok").await;
    assert_eq!(counted, reloads() as f64);
    println!("{counted} reloads, {answered} requests, none failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_changes_what_the_next_request_meets_and_keeps_upstream_connections() {
    let (dressipi, app) = (Dressipi::start().await, App::start().await);
    let authority = Authority::new();
    let other = TlsUpstream::start(authority.certify("localhost"), App::router()).await;
    let folder = tempfile::tempdir().unwrap();
    let ca = authority.write(folder.path());
    let tls = format!(
        "[[upstreams]]\nname = \"tls\"\naddress = \"localhost:{}\"\ntls = true\nca_file = {ca:?}\n\
         [[routes]]\npath = \"/tls/\"\nupstream = \"tls\"\n",
        other.address.port()
    );
    let builder = Sidecar::behind(&dressipi)
        .app(&app)
        .extra(&tls)
        .threads(1)
        .admin_keys("token = \"the-first-admin-token\"");
    let text = builder.text();
    let sidecar = builder.start().await;
    let sessions = async |token: &str| {
        let url = format!("http://{}/sessions/export", sidecar.admin_address());
        let request = sidecar.client.post(url).bearer_auth(token);
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(
        sidecar
            .visitor("ada", "/tls/x")
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
    let refused = sessions("the-second-admin-token").await;
    assert_eq!(refused, 401);

    let changed = text
        .replace("path = \"/\"", "path = \"/shop/\"")
        .replace("demo-api-key", "another-key")
        .replace(
            &format!("http://{}", dressipi.address),
            &format!("http://{}", app.address),
        )
        .replace("the-first-admin-token", "the-second-admin-token")
        + "[consent]\nopt_out_cookies = [\"no_thanks\"]\n[limits]\nheader_count = 9\n";
    sidecar.reload(&changed).await.unwrap();
    let gone = sidecar.visitor("ada", "/x").send().await.unwrap();
    assert_eq!(gone.status(), 404);
    assert_eq!(
        sidecar
            .visitor("ada", "/shop/x")
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
    assert_ne!(sessions("the-second-admin-token").await, 401);
    assert_eq!(sessions("the-first-admin-token").await, 401);
    let at_dressipi = sidecar.visitor("ada", "/api/echo").send().await.unwrap();
    let at_dressipi = json(at_dressipi).await;
    assert_eq!(seen(&at_dressipi, "x-api-key"), ["another-key"]);
    assert!(seen(&at_dressipi, "x-dressipi-jwt")[0].starts_with("eyJ"));
    let opted_out = sidecar
        .visitor("ada", "/shop/x")
        .header("cookie", "no_thanks=1");
    let answer = opted_out.send().await.unwrap();
    assert_eq!(
        answer.headers()["dressipi-sidecar"],
        "anonymous; reason=opt-out"
    );
    // A connection keeps the limits that it began with.
    let mut many = client().get(format!("http://{}/shop/x", sidecar.address()));
    for number in 0..9 {
        many = many.header(format!("x-{number}"), "1");
    }
    assert_eq!(many.send().await.unwrap().status(), 431);
    assert_eq!(
        sidecar
            .visitor("ada", "/tls/x")
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
    assert_eq!(other.seen().connections, 1, "kept alive over the reload");
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_15_a_configuration_that_cannot_be_used_changes_nothing_and_says_why() {
    let (dressipi, app) = (Dressipi::start().await, App::start().await);
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    std::fs::write(&keys, format!("{}\n", generate_key_line())).unwrap();
    let other_keys = folder.path().join("other-keys");
    std::fs::write(&other_keys, format!("{}\n", generate_key_line())).unwrap();
    let builder = Sidecar::behind(&dressipi)
        .app(&app)
        .redb(folder.path())
        .extra("");
    let text = builder.text().replace(
        "store = \"redb\"",
        &format!("store = \"redb\"\nkeys_file = {keys:?}"),
    );
    let sidecar = builder.start_text(&text).await;
    let first = profile(sidecar.visitor("ada", TOP).send().await.unwrap()).await;
    assert!(first.is_some());
    assert_eq!(
        sidecar.metric("config_last_reload_successful", "").await,
        1.0
    );
    let broken = text.replace("path = \"/\"", "path = \"/new/\"");
    let address = broken.replacen("127.0.0.1:0", "127.0.0.1:1", 1);
    let cases = [
        (broken.clone() + "colour = 1\n", "error", "unknown key"),
        (broken.replace("[log]", "[log"), "error", "test.toml"),
        (address, "restart", "listeners[0].address"),
        (
            broken.replace("threads = 2", "threads = 3"),
            "restart",
            "server.threads",
        ),
        (
            broken.replace(
                "store = \"redb\"",
                "store = \"redb\"\npage_cache = \"8 MiB\"",
            ),
            "restart",
            "session",
        ),
        // Another store's keys: every visitor would be lost.
        (
            broken.replace(&format!("{keys:?}"), &format!("{other_keys:?}")),
            "error",
            "not in the keyring",
        ),
    ];
    for (number, (text, result, said)) in cases.into_iter().enumerate() {
        let before = sidecar.metric("config_reloads_total", result).await;
        let error = sidecar.reload(&text).await.unwrap_err();
        assert_eq!(
            matches!(error, ReloadError::NeedsRestart(_)),
            result == "restart"
        );
        assert!(error.to_string().contains(said), "{number}: {error}");
        let counted = sidecar.metric("config_reloads_total", result).await;
        assert_eq!(counted, before + 1.0);
        assert_eq!(
            sidecar.metric("config_last_reload_successful", "").await,
            0.0
        );
        let answer = sidecar.visitor("ada", "/x").send().await.unwrap();
        assert_eq!(answer.status(), 200, "{number}: the route is as it was");
        let again = profile(sidecar.visitor("ada", TOP).send().await.unwrap()).await;
        assert_eq!(again, first);
    }
    sidecar.reload(&text).await.unwrap();
    assert_eq!(
        sidecar.metric("config_last_reload_successful", "").await,
        1.0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_rotated_by_a_reload_and_no_visitor_moves() {
    let dressipi = Dressipi::start().await;
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    let (old, new) = (generate_key_line(), generate_key_line());
    std::fs::write(&keys, format!("{old}\n")).unwrap();
    let builder = Sidecar::behind(&dressipi).redb(folder.path());
    let text = builder.text().replace(
        "store = \"redb\"",
        &format!("store = \"redb\"\nkeys_file = {keys:?}\ncache_capacity = 1"),
    );
    let sidecar = builder.start_text(&text).await;
    let answer = sidecar.browser(TOP).send().await.unwrap();
    let cookie = visitor_cookie(&answer).unwrap();
    let first = profile(answer).await;
    assert!(first.is_some());

    std::fs::write(&keys, format!("{new}\n{old}\n")).unwrap();
    sidecar.reload(&text).await.unwrap();
    let again = sidecar.browser(TOP).header("cookie", cookie);
    assert_eq!(profile(again.send().await.unwrap()).await, first);
    let newcomer = sidecar.browser(TOP).send().await.unwrap();
    let cookie = visitor_cookie(&newcomer).unwrap();
    let second = profile(newcomer).await;
    sidecar.stop().await;

    // What was sealed after the reload opens with the new key; the old one is needed for what came before.
    let builder = Sidecar::behind(&dressipi).redb(folder.path());
    let sidecar = builder.start_text(&text).await;
    let again = sidecar.browser(TOP).header("cookie", cookie);
    assert_eq!(profile(again.send().await.unwrap()).await, second);
    assert_eq!(dressipi.profiles(), 2);
}

/// Puts `text` in the place of a mounted file, as Kubernetes does: another folder behind `..data`.
fn mount(folder: &Path, version: usize, text: &str) {
    let name = format!("..version-{version}");
    std::fs::create_dir(folder.join(&name)).unwrap();
    std::fs::write(folder.join(&name).join("sidecar.toml"), text).unwrap();
    std::os::unix::fs::symlink(&name, folder.join("..data_tmp")).unwrap();
    std::fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    let link = folder.join("sidecar.toml");
    if !link.exists() {
        std::os::unix::fs::symlink("..data/sidecar.toml", link).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_is_taken_into_use_when_its_file_or_a_secret_changes_and_on_sighup() {
    let (dressipi, app) = (Dressipi::start().await, App::start().await);
    let folder = tempfile::tempdir().unwrap();
    let secret = tempfile::tempdir().unwrap();
    let key_file = secret.path().join("api-key");
    std::fs::write(&key_file, "demo-api-key\n").unwrap();
    let builder = Sidecar::behind(&dressipi).app(&app);
    let text = builder
        .text()
        .replace("[log]", "[log]\nformat = \"json\"")
        .replace(
            "api_key = \"demo-api-key\"",
            &format!("api_key_file = {key_file:?}"),
        );
    let at = |path: &str| text.replace("path = \"/\"", &format!("path = \"{path}\""));
    mount(folder.path(), 0, &at("/zero/"));
    let config = folder.path().join("sidecar.toml");
    let mut process = tokio::task::block_in_place(|| Process::serve(&config, 2));
    let [address, admin] = [process.addresses[1], process.addresses[2]];
    let http = client();
    let status = async |path: &str| {
        let request = http.get(format!("http://{address}{path}"));
        let request = request.header("x-visitor-id", "ada");
        request.send().await.unwrap().status().as_u16()
    };
    let metrics = async || {
        let answer = http.get(format!("http://{admin}/metrics")).send();
        answer.await.unwrap().text().await.unwrap()
    };
    assert_eq!(status("/zero/x").await, 200);

    mount(folder.path(), 1, &at("/one/"));
    eventually("the swapped file is in use", async || {
        status("/one/x").await == 200
    })
    .await;
    assert_eq!(status("/zero/x").await, 404);

    mount(
        folder.path(),
        2,
        &at("/two/").replace("[log]", "[log]\ncolour = 1"),
    );
    let error = "dressipi_sidecar_config_reloads_total{result=\"error\"} 1";
    eventually("the bad file is counted", async || {
        metrics().await.contains(error)
    })
    .await;
    assert_eq!(status("/one/x").await, 200);
    let log = process.log().join("\n");
    assert!(
        log.contains("the new configuration cannot be used"),
        "{log}"
    );
    assert!(log.contains("log.colour: unknown key"), "{log}");

    mount(folder.path(), 3, &at("/three/"));
    eventually("the mended file is in use", async || {
        status("/three/x").await == 200
    })
    .await;

    // A secret in a file of its own.
    let before = metrics().await;
    std::fs::write(&key_file, "another-key\n").unwrap();
    let ok = |text: &str| {
        let line = text.lines().find_map(|line| {
            line.strip_prefix("dressipi_sidecar_config_reloads_total{result=\"ok\"} ")
        });
        line.map_or(0, |count| count.parse::<u64>().unwrap())
    };
    let before = ok(&before);
    eventually("the new secret is in use", async || {
        ok(&metrics().await) > before
    })
    .await;
    let before = ok(&metrics().await);
    process.signal("-HUP");
    eventually("SIGHUP has it read anew", async || {
        ok(&metrics().await) > before
    })
    .await;
    assert_eq!(status("/three/x").await, 200);
    let (status, _) = tokio::task::block_in_place(|| process.terminate());
    assert!(status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_shop_sees_of_a_request_is_of_one_configuration() {
    let (dressipi, app) = (Dressipi::start().await, App::start().await);
    let builder = Sidecar::behind(&dressipi).app(&app);
    let text = builder.text();
    let sidecar = builder.start().await;
    let with = |header: &str| text.clone() + &format!("[dressipi.headers]\ntoken = \"{header}\"\n");
    for (number, header) in ["x-one", "x-two", "x-one"].into_iter().enumerate() {
        sidecar.reload(&with(header)).await.unwrap();
        let forged = sidecar.visitor("ada", "/x").header(header, "forged");
        let echo = json(forged.send().await.unwrap()).await;
        let values = seen(&echo, header);
        assert_eq!(values.len(), 1, "{number}: {echo}");
        assert!(values[0].starts_with("eyJ"), "{number}: {echo}");
    }
}
