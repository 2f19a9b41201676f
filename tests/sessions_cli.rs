//! `sessions list|show|revoke|erase`, as operators type it, with the real binary on both sides.

use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;

use serde_json::Value;

use crate::support::{
    ADMIN_KEYS, ADMIN_TOKEN, Dressipi, Process, Sidecar, canary, profile, visitor_cookie,
};

const TOP: &str = "/api/items/top?client_id=demo";

/// A sidecar with a file that has its token.
struct Desk {
    sidecar: Sidecar,
    folder: tempfile::TempDir,
}

#[derive(Debug)]
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Desk {
    async fn with(dressipi: &Dressipi) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), format!("{ADMIN_TOKEN}\n")).unwrap();
        let sidecar = Sidecar::behind(dressipi)
            .admin_keys(ADMIN_KEYS)
            .start()
            .await;
        Self { sidecar, folder }
    }

    fn token_file(&self) -> PathBuf {
        self.folder.path().join("token")
    }

    async fn sessions(&self, arguments: &[&str], input: &str) -> Said {
        let mut command = Process::command();
        command.arg("sessions").args(arguments);
        command.args([
            "--admin",
            &format!("http://{}", self.sidecar.admin_address()),
        ]);
        command.arg("--token-file").arg(self.token_file());
        run(command, input).await
    }
}

async fn run(mut command: std::process::Command, input: &str) -> Said {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let input = input.to_owned();
    let output = tokio::task::spawn_blocking(move || {
        let mut child = command.spawn().unwrap();
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    });
    let output = output.await.unwrap();
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    canary::search("what the command line says", &format!("{out}{err}"));
    let code = output.status.code();
    Said { code, out, err }
}

impl Said {
    #[track_caller]
    fn done(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    #[track_caller]
    fn failed(self, said: &str) {
        assert_eq!(self.code, Some(1), "{self:?}");
        assert!(self.err.contains(said), "{said} is not in {self:?}");
    }

    fn json(&self) -> Vec<Value> {
        self.out
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn visitors_are_listed_and_shown_for_people_and_for_programs() {
    let dressipi = Dressipi::start().await;
    let desk = Desk::with(&dressipi).await;
    for number in 0..3 {
        let request = desk.sidecar.visitor(&format!("visitor-{number}"), TOP);
        profile(request.send().await.unwrap()).await.unwrap();
    }
    let table = desk.sessions(&["list"], "").await.done().out;
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(lines.len(), 4, "{table}");
    assert!(lines[0].starts_with("VISITOR       STATE "), "{table}");
    assert!(
        lines[1..].iter().all(|line| line.contains("  active ")),
        "{table}"
    );
    let listed = desk.sessions(&["list", "--json"], "").await.done().json();
    assert_eq!(listed.len(), 3);
    assert!(lines[1].starts_with(listed[0]["logged"].as_str().unwrap()));
    let two = desk.sessions(&["list", "--limit", "2"], "").await.done();
    assert_eq!(
        (two.out.lines().count(), two.err.as_str()),
        (3, "there are more\n")
    );

    let logged = listed[0]["logged"].as_str().unwrap();
    let shown = desk.sessions(&["show", logged], "").await.done().out;
    assert!(
        shown.contains("\nmemory: cached ") && shown.contains("\nstate "),
        "{shown}"
    );
    let key = desk.sidecar.key_of("visitor-1").await;
    for (arguments, input) in [
        (&["show", "--json", &key][..], ""),
        (&["show", "--json", "--header-id", "visitor-1"], ""),
        (&["show", "--json", "--header-id", "-"], "visitor-1\n"),
    ] {
        let shown = desk.sessions(arguments, input).await.done().json();
        assert_eq!(shown[0]["visitor"], key.as_str());
    }
    let answer = desk.sidecar.browser(TOP).send().await.unwrap();
    let cookie = visitor_cookie(&answer).unwrap();
    let value = cookie.split_once('=').unwrap().1;
    desk.sessions(&["show", "--cookie", value], "").await.done();
    let kept = desk.sessions(&["access", "--header-id", "visitor-1"], "");
    let kept: Value = serde_json::from_str(&kept.await.done().out).unwrap();
    assert_eq!(kept["session"]["visitor"], key.as_str());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("visitor-1.json");
    let to_file = ["access", &key, "--output", file.to_str().unwrap()];
    assert_eq!(desk.sessions(&to_file, "").await.done().out, "");
    let written: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(written["session"], kept["session"]);
    desk.sessions(&to_file, "").await.failed("cannot be made");
    desk.sessions(&["access", "--header-id", "nobody"], "")
        .await
        .failed("nothing is known");
    desk.sessions(&["show", "--cookie", "forged"], "")
        .await
        .failed("no key");
    desk.sessions(&["show", "--header-id", "nobody"], "")
        .await
        .failed("nothing is known");
    desk.sessions(&["show", "../metrics"], "")
        .await
        .failed("hexadecimal digits");
    for wrong in [&["show"][..], &["show", "0123456789ab", "--cookie", "x"]] {
        assert_eq!(desk.sessions(wrong, "").await.code, Some(2));
    }
    desk.sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_visitor_is_revoked_and_erased_and_erasing_asks_first() {
    let dressipi = Dressipi::start().await;
    let desk = Desk::with(&dressipi).await;
    let visit = async || profile(desk.sidecar.visitor("ada", TOP).send().await.unwrap()).await;
    let before = visit().await;
    let revoked = desk
        .sessions(&["revoke", "--header-id", "ada"], "")
        .await
        .done()
        .out;
    assert!(revoked.ends_with(": revoked\n"), "{revoked}");
    assert_eq!(visit().await, before);
    let totals = dressipi.simulator.totals();
    assert_eq!(totals.token_calls_of("refresh_token", "ok"), 1);

    // A pipe is nobody who could be asked.
    desk.sessions(&["erase", "--header-id", "ada"], "y\n")
        .await
        .failed("--yes");
    assert_eq!(visit().await, before);
    let erased = desk
        .sessions(&["erase", "--header-id", "ada", "--yes", "--json"], "")
        .await;
    assert_eq!(erased.done().json()[0]["erased"], true);
    desk.sessions(&["show", "--header-id", "ada"], "")
        .await
        .failed("nothing is known");
    desk.sessions(&["erase", "--header-id", "ada", "--yes"], "")
        .await
        .done();
    assert_ne!(visit().await, before);
    assert_eq!(dressipi.profiles(), 2);
    desk.sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_configuration_names_listener_and_token_where_nothing_else_does() {
    let dressipi = Dressipi::start().await;
    let desk = Desk::with(&dressipi).await;
    let config = Sidecar::behind(&dressipi)
        .admin_keys(ADMIN_KEYS)
        .write(desk.folder.path());
    let list = |variable: Option<String>| {
        let mut command = Process::command();
        command.args(["sessions", "list", "--config"]).arg(&config);
        if let Some(address) = variable {
            command.env("SIDECAR__ADMIN__ADDRESS", address);
        }
        command
    };
    let address = desk.sidecar.admin_address().to_string();
    run(list(Some(address)), "").await.done();
    run(list(None), "").await.failed("--admin");
    let mut bare = Process::command();
    bare.args(["sessions", "list"]).env_remove("SIDECAR_CONFIG");
    let said = run(bare, "").await;
    assert_eq!(said.code, Some(2), "{said:?}");
    std::fs::write(desk.token_file(), "another-token-entirely").unwrap();
    desk.sessions(&["list"], "").await.failed("admin.token");
    desk.sidecar.stop().await;
}
