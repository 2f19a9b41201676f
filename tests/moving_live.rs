//! Moving visitor sessions with the real binary: between stores, keyrings and processes, and every visitor keeps the profile.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use dressipi_sidecar::session::generate_key_line;
use dressipi_sidecar::simulator::ExpiredAs;
use reqwest::Method;

use crate::support::{Dressipi, Process, Sidecar, client, json, profile, visitor_cookie};

const TOP: &str = "/api/items/top?client_id=demo";
const TOKEN: &str = "a-token-that-nobody-guesses";
const ADMIN: &str = "token = \"a-token-that-nobody-guesses\"";

/// A folder with a configuration, its keyring and perhaps its store.
struct Home {
    folder: tempfile::TempDir,
    config: PathBuf,
}

impl Home {
    fn new(dressipi: &Dressipi, store: &str, keys: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("keys"), keys.join("\n")).unwrap();
        let path = match store {
            "redb" => "path = \"sessions.redb\"",
            _ => "",
        };
        let config = Sidecar::behind(dressipi)
            .session(&format!("store = {store:?}\nkeys_file = \"keys\"\n{path}"))
            .admin_keys(ADMIN)
            .write(folder.path());
        Self { folder, config }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn serve(&self) -> Process {
        tokio::task::block_in_place(|| Process::serve(&self.config, 2))
    }

    /// `sessions …` with this configuration.
    fn sessions(&self, arguments: &[&str]) -> Answer {
        self.sessions_of(None, arguments, &[])
    }

    fn sessions_of(&self, running: Option<&Process>, arguments: &[&str], input: &[u8]) -> Answer {
        let mut command = Process::command();
        command.arg("sessions").args(arguments).arg("--config");
        command.arg(&self.config).stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(running) = running {
            command.env("SIDECAR__ADMIN__ADDRESS", running.addresses[2].to_string());
        }
        tokio::task::block_in_place(|| {
            let mut child = command.spawn().unwrap();
            let mut to = child.stdin.take().unwrap();
            // Whoever wants no input closes it.
            let _ = to.write_all(input);
            drop(to);
            Answer::of(child.wait_with_output().unwrap())
        })
    }
}

struct Answer {
    code: Option<i32>,
    out: Vec<u8>,
    err: String,
}

impl Answer {
    fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: output.stdout,
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    #[track_caller]
    fn done(self) -> Self {
        assert_eq!(self.code, Some(0), "{}", self.err);
        self
    }

    #[track_caller]
    fn failed(self, said: &str) -> Self {
        assert_eq!(self.code, Some(1), "{}", self.err);
        assert!(self.err.contains(said), "{said} is not in: {}", self.err);
        self
    }
}

/// Everybody's profile: header visitors by number, then those whom the cookies name.
async fn profiles(process: &Process, visitors: usize, cookies: &mut Vec<String>) -> Vec<String> {
    let http = client();
    let mut found = Vec::new();
    for number in 0..visitors {
        let url = format!("http://{}{TOP}", process.addresses[1]);
        let request = http
            .get(url)
            .header("x-visitor-id", format!("visitor-{number}"));
        found.push(profile(request.send().await.unwrap()).await.unwrap());
    }
    for number in 0..visitors {
        let url = format!("http://{}{TOP}", process.addresses[0]);
        let cookie = cookies.get(number).cloned().unwrap_or_default();
        let answer = http
            .get(url)
            .header("cookie", &cookie)
            .send()
            .await
            .unwrap();
        match visitor_cookie(&answer) {
            Some(minted) if cookie.is_empty() => cookies.push(minted),
            None if !cookie.is_empty() => {}
            other => panic!("{cookie:?}, {other:?}"),
        }
        found.push(profile(answer).await.unwrap());
    }
    found
}

fn end(process: Process) {
    let (status, log) = tokio::task::block_in_place(|| process.terminate());
    assert!(status.success(), "{}", log.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_2_visitors_keep_their_profiles_in_another_store_with_another_key() {
    let dressipi = Dressipi::start().await;
    let (old, new) = (generate_key_line(), generate_key_line());
    let here = Home::new(&dressipi, "redb", &[&old]);
    let process = here.serve().await;
    let mut cookies = Vec::new();
    let before = profiles(&process, 20, &mut cookies).await;
    assert_eq!(dressipi.profiles(), 40);
    end(process);

    let file = here.path("export.ndjson");
    let name = file.to_str().unwrap();
    let answer = here.sessions(&["export", "--output", name]).done();
    assert!(answer.err.contains("exported 40 records"), "{}", answer.err);
    assert!(answer.out.is_empty());
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    here.sessions(&["export", "--output", name])
        .failed("cannot be made");

    let there = Home::new(&dressipi, "redb", &[&new, &old]);
    let answer = there.sessions(&["import", "--input", name]).done();
    assert!(answer.err.contains("40 added"), "{}", answer.err);
    // Not an access token that still lives, but the refresh tokens are what has moved.
    dressipi.simulator.expire_tokens(ExpiredAs::Unauthorized);
    let process = there.serve().await;
    assert_eq!(profiles(&process, 20, &mut cookies).await, before);
    assert_eq!(dressipi.profiles(), 40);
    let totals = dressipi.simulator.totals();
    assert_eq!(totals.token_calls_of("refresh_token", "ok"), 40);
    assert_eq!((totals.refresh_reuse, totals.authorize_calls), (0, 40));
    end(process);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_2_a_running_memory_store_moves_into_a_database() {
    let dressipi = Dressipi::start().await;
    let key = generate_key_line();
    let here = Home::new(&dressipi, "memory", &[&key]);
    let process = here.serve().await;
    let mut cookies = Vec::new();
    let before = profiles(&process, 5, &mut cookies).await;
    let answer = here.sessions_of(Some(&process), &["export"], &[]).done();
    end(process);

    let there = Home::new(&dressipi, "redb", &[&key]);
    there.sessions_of(None, &["import"], &answer.out).done();
    let process = there.serve().await;
    assert_eq!(profiles(&process, 5, &mut cookies).await, before);
    assert_eq!(dressipi.profiles(), 10);
    end(process);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_in_use_is_exported_and_merged_into_through_its_sidecar() {
    let dressipi = Dressipi::start().await;
    let key = generate_key_line();
    let here = Home::new(&dressipi, "redb", &[&key]);
    let process = here.serve().await;
    let mut cookies = Vec::new();
    let before = profiles(&process, 5, &mut cookies).await;
    let first = here.sessions_of(Some(&process), &["export"], &[]).done();
    assert!(
        first.err.contains("is in use: asking the sidecar"),
        "{}",
        first.err
    );

    // Every token set has a successor by now; the older export does not bury it.
    dressipi.simulator.expire_tokens(ExpiredAs::Unauthorized);
    assert_eq!(profiles(&process, 5, &mut cookies).await, before);
    let merged = here
        .sessions_of(Some(&process), &["import"], &first.out)
        .done();
    assert!(merged.err.contains("10 left alone"), "{}", merged.err);
    dressipi.simulator.expire_tokens(ExpiredAs::Unauthorized);
    end(process);
    let process = here.serve().await;
    assert_eq!(profiles(&process, 5, &mut cookies).await, before);
    let totals = dressipi.simulator.totals();
    assert_eq!((totals.profiles, totals.refresh_reuse), (10, 0));

    // A sidecar that serves goes by its own identity key, and does not take over another one.
    let other = Home::new(&dressipi, "redb", &[&key]);
    let stranger = other.serve().await;
    let refused = other.sessions_of(Some(&stranger), &["import"], &first.out);
    refused
        .failed("another identity key")
        .failed("nothing was imported");
    // Named by its address, too.
    let url = format!("http://{}", process.addresses[2]);
    let again = other.sessions(&["export", "--admin", &url]).done();
    assert_eq!(again.out.iter().filter(|byte| **byte == b'\n').count(), 12);
    end(stranger);
    end(process);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_truncated_file_is_refused_before_anything_of_it_is_imported() {
    let dressipi = Dressipi::start().await;
    let key = generate_key_line();
    let here = Home::new(&dressipi, "redb", &[&key]);
    let process = here.serve().await;
    profiles(&process, 3, &mut Vec::new()).await;
    end(process);
    let whole = here.sessions(&["export"]).done().out;

    let there = Home::new(&dressipi, "redb", &[&key]);
    let file = there.path("cut.ndjson");
    std::fs::write(&file, &whole[..whole.len() - 5]).unwrap();
    let answer = there.sessions(&["import", "--input", file.to_str().unwrap()]);
    answer.failed("not whole").failed("nothing was imported");
    assert!(!there.path("sessions.redb").exists());
    // What comes through a pipe cannot be looked through first; it is told apart all the same.
    let answer = there.sessions_of(None, &["import"], &whole[..whole.len() - 5]);
    answer.failed("not whole").failed("6 added");
    let answer = there.sessions_of(None, &["import"], &whole).done();
    assert!(answer.err.contains("6 left alone"), "{}", answer.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_not_there_is_not_made_to_be_exported() {
    let dressipi = Dressipi::start().await;
    let home = Home::new(&dressipi, "redb", &[&generate_key_line()]);
    home.sessions(&["export"]).failed("does not exist");
    assert!(!home.path("sessions.redb").exists());
    let nowhere = home.path("nowhere").join("sidecar.toml");
    let answer = Process::command()
        .args(["sessions", "export", "--config"])
        .arg(nowhere)
        .output();
    assert_eq!(Answer::of(answer.unwrap()).code, Some(1));
}

#[tokio::test]
async fn sessions_are_for_whoever_has_the_token() {
    let dressipi = Dressipi::start().await;
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    std::fs::write(&keys, generate_key_line()).unwrap();
    let session = format!("store = \"memory\"\nkeys_file = {keys:?}");
    let open = Sidecar::behind(&dressipi).session(&session);
    let closed = open.start().await;
    for path in [
        "/sessions/export",
        "/sessions/import",
        "/sessions",
        "/sessions/x",
    ] {
        let answer = closed.admin(path).await;
        assert_eq!(answer.status(), 403, "{path}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        assert!(
            json(answer).await["detail"]
                .as_str()
                .unwrap()
                .contains("admin.token")
        );
    }
    closed.stop().await;

    let sidecar = Sidecar::behind(&dressipi)
        .session(&session)
        .admin_keys(ADMIN);
    let sidecar = sidecar.start().await;
    profile(sidecar.visitor("ada", TOP).send().await.unwrap()).await;
    let request = |method, path: &str, token: Option<&str>| {
        let url = format!("http://{}{path}", sidecar.admin_address());
        let request = sidecar.client.request(method, url);
        match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    };
    for token in [None, Some(""), Some("a-token-that-nobody-guessed")] {
        for (method, path) in [
            (Method::GET, "/sessions/export"),
            (Method::POST, "/sessions/import"),
        ] {
            let answer = request(method, path, token).send().await.unwrap();
            assert_eq!(answer.status(), 401, "{path}");
            assert!(answer.headers().contains_key("www-authenticate"));
            assert!(!answer.text().await.unwrap().contains(TOKEN));
        }
    }
    let answer = request(Method::GET, "/sessions/nowhere", Some(TOKEN))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 404);

    let answer = request(Method::GET, "/sessions/export", Some(TOKEN))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    let file = answer.bytes().await.unwrap();
    let import = async |body: Vec<u8>| {
        let request = request(Method::POST, "/sessions/import", Some(TOKEN));
        request.body(body).send().await.unwrap()
    };
    let answer = import(file.to_vec()).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(json(answer).await["kept"], 1);
    for (bad, said) in [
        (file[..file.len() - 5].to_vec(), "not whole"),
        (b"{}\n".to_vec(), "no export"),
        (vec![b'x'; 3_000_000], "longer than any record"),
    ] {
        let answer = import(bad).await;
        assert_eq!(answer.status(), 400);
        let detail = json(answer).await["detail"].to_string();
        assert!(detail.contains(said), "{detail}");
    }
    // The other pages ask for no token.
    assert_eq!(sidecar.admin("/livez").await.status(), 200);
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_memory_store_whose_key_ends_with_it_says_so_instead_of_exporting() {
    let dressipi = Dressipi::start().await;
    let sidecar = Sidecar::behind(&dressipi).admin_keys(ADMIN).start().await;
    let url = format!("http://{}/sessions/export", sidecar.admin_address());
    let answer = sidecar
        .client
        .get(url)
        .bearer_auth(TOKEN)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 409);
    let detail = json(answer).await["detail"].to_string();
    assert!(detail.contains("session.keys_file"), "{detail}");
    sidecar.stop().await;
}

/// Peak memory of an import does not grow with the file; `SIDECAR_TEST_VISITORS=1000000` makes it a real one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_visitors_are_exported_and_imported_with_little_memory() {
    let visitors = std::env::var("SIDECAR_TEST_VISITORS").ok();
    let visitors: u32 = visitors.map_or(3_000, |number| number.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("many.ndjson");
    let key = generate_key_line();
    crate::moving::write_many(&file, &key, visitors).await;
    let dressipi = Dressipi::start().await;
    let home = Home::new(&dressipi, "redb", &[&key]);
    let name = file.to_str().unwrap();
    let said = measured(&home, &["import", "--input", name]);
    assert!(said.0.contains(&format!("{visitors} added")), "{}", said.0);
    let out = home.path("again.ndjson");
    let told = measured(&home, &["export", "--output", out.to_str().unwrap()]);
    assert!(
        told.0.contains(&format!("exported {visitors} records")),
        "{}",
        told.0
    );
    println!(
        "{visitors} visitors, {} MiB: import {} MiB, export {} MiB at most",
        file.metadata().unwrap().len() >> 20,
        said.1 >> 20,
        told.1 >> 20
    );
    // The page cache may have its 64 MiB.
    assert!(said.1.max(told.1) < 320 << 20, "{} {}", said.1, told.1);
}

/// What it said, and the most memory that it had resident.
fn measured(home: &Home, arguments: &[&str]) -> (String, u64) {
    let mut child = Process::command()
        .arg("sessions")
        .args(arguments)
        .arg("--config")
        .arg(&home.config)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let status = PathBuf::from(format!("/proc/{}/status", child.id()));
    let mut peak = 0;
    tokio::task::block_in_place(|| {
        while child.try_wait().unwrap().is_none() {
            peak = peak.max(resident(&status).unwrap_or(0));
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    });
    let output = child.wait_with_output().unwrap();
    let said = Answer::of(output).done().err;
    (said, peak)
}

fn resident(status: &Path) -> Option<u64> {
    let status = std::fs::read_to_string(status).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib = line.trim().trim_end_matches(" kB").trim();
    Some(kib.parse::<u64>().ok()? * 1024)
}
