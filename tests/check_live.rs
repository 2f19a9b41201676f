//! `check --live`: the real binary against real things, there and not there.

use std::process::Output;

use dressipi_sidecar::session::generate_key_line;

use crate::support::redis::{RedisServer, free_port};
use crate::support::{App, Authority, Dressipi, Process, Sidecar, SidecarBuilder, TlsUpstream};

async fn check(
    builder: SidecarBuilder,
    folder: &std::path::Path,
    arguments: &[&str],
) -> (Option<i32>, String) {
    let config = builder.write(folder);
    let mut command = Process::command();
    command
        .args(["check", "--live"])
        .args(arguments)
        .arg("--config")
        .arg(config);
    let run = tokio::task::spawn_blocking(move || command.output().unwrap());
    let Output {
        status,
        stdout,
        stderr,
    } = run.await.unwrap();
    let said = String::from_utf8([stdout, stderr].concat()).unwrap();
    crate::support::canary::search("check --live", &said);
    (status.code(), said)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_is_found_and_a_profile_is_made_only_if_that_is_agreed_to() {
    let (dressipi, app) = (Dressipi::start().await, App::start().await);
    let folder = tempfile::tempdir().unwrap();
    let builder = || Sidecar::behind(&dressipi).app(&app).redb(folder.path());
    let (code, said) = check(builder(), folder.path(), &[]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("√ ") && said.contains("can be made"),
        "{said}"
    );
    assert!(said.contains("--yes makes them"), "{said}");
    assert_eq!(dressipi.profiles(), 0);
    assert!(
        !folder.path().join("sessions.redb").exists(),
        "nothing is written"
    );

    let (code, said) = check(builder(), folder.path(), &["--yes"]).await;
    assert_eq!(code, Some(0), "{said}");
    for expected in [
        "one profile was made",
        "an access token for 15m",
        "upstream app",
        "takes connections",
        "Everything is as it should be.",
    ] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    assert_eq!(dressipi.profiles(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_there_is_opened_and_one_that_is_in_use_is_left_alone() {
    let dressipi = Dressipi::start().await;
    let folder = tempfile::tempdir().unwrap();
    let builder = || Sidecar::behind(&dressipi).redb(folder.path());
    let running = builder().start().await;
    running
        .visitor("ada", "/api/items/top?client_id=demo")
        .send()
        .await
        .unwrap();
    let (code, said) = check(builder(), folder.path(), &[]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("a running sidecar has it"), "{said}");
    running.stop().await;
    let (code, said) = check(builder(), folder.path(), &[]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("holds 1 visitor sessions"), "{said}");
    // Another store's keyring.
    let keys = folder.path().join("sessions.redb.keys");
    std::fs::write(&keys, format!("{}\n", generate_key_line())).unwrap();
    let (code, said) = check(builder(), folder.path(), &[]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("× ") && said.contains("keyring"), "{said}");
    std::fs::remove_file(&keys).unwrap();
    let (code, said) = check(builder(), folder.path(), &[]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("put the keyring back"), "{said}");
    assert!(!keys.exists(), "no new key is made");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_or_not_what_it_should_be_is_named_with_a_hint() {
    let dressipi = Dressipi::start().await;
    let folder = tempfile::tempdir().unwrap();
    let (trusted, other) = (Authority::new(), Authority::new());
    let ca = trusted.write(folder.path());
    let good = TlsUpstream::start(trusted.certify("localhost"), App::router()).await;
    let wrong = TlsUpstream::start(other.certify("localhost"), App::router()).await;
    let tls = |name: &str, port: u16| {
        format!(
            "[[upstreams]]\nname = {name:?}\naddress = \"localhost:{port}\"\ntls = true\nca_file = {ca:?}\n\
             [[routes]]\npath = \"/{name}/\"\nupstream = {name:?}\n"
        )
    };
    let closed = free_port();
    let builder = Sidecar::behind(&dressipi)
        .extra(&tls("good", good.address.port()))
        .extra(&tls("wrong", wrong.address.port()))
        .extra(&format!(
            "[[upstreams]]\nname = \"gone\"\naddress = \"127.0.0.1:{closed}\"\n[[routes]]\npath = \"/\"\nupstream = \"gone\""
        ));
    let (code, said) = check(builder, folder.path(), &["--yes"]).await;
    assert_eq!(code, Some(1), "{said}");
    let of = |name: &str| {
        said.split(&format!("upstream {name}\n"))
            .nth(1)
            .unwrap()
            .split("\n\n")
            .next()
            .unwrap()
    };
    assert!(
        of("good").contains("√ TLS: the certificate is accepted for localhost"),
        "{said}"
    );
    assert!(
        of("wrong").contains("× TLS with localhost fails") && of("wrong").contains("hint: "),
        "{said}"
    );
    assert!(
        of("gone").contains(&format!("× 127.0.0.1:{closed} takes no connection")),
        "{said}"
    );
    assert!(
        said.contains("2 things are not as they should be."),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_or_a_redis_that_does_not_let_us_in_is_told() {
    let dressipi = Dressipi::start().await;
    let folder = tempfile::tempdir().unwrap();
    let redis = RedisServer::with(&["--requirepass", "hunter2"]);
    let keys = folder.path().join("keys");
    std::fs::write(&keys, generate_key_line()).unwrap();
    let session = format!(
        "store = \"redis\"\nkeys_file = {keys:?}\nredis.url = \"redis://127.0.0.1:{}\"",
        redis.port()
    );
    dressipi
        .simulator
        .add_fault(dressipi_sidecar::simulator::Fault::always(
            dressipi_sidecar::simulator::Endpoint::Authorize,
            dressipi_sidecar::simulator::FaultKind::status(403),
        ));
    let (code, said) = check(
        Sidecar::behind(&dressipi).session(&session),
        folder.path(),
        &["--yes"],
    )
    .await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("NOAUTH"), "{said}");
    assert!(said.contains("× the authorize call failed"), "{said}");
    let with_password = format!("{session}\nredis.password = \"hunter2\"");
    dressipi.simulator.clear_faults();
    let (code, said) = check(
        Sidecar::behind(&dressipi).session(&with_password),
        folder.path(),
        &[],
    )
    .await;
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("√ it answers, and the keyring opens it"),
        "{said}"
    );
    assert!(!said.contains("hunter2"), "{said}");
}
