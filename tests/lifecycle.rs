//! How the process begins and ends: what it tells systemd, Kubernetes and whoever asks, and what a drain waits for.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dressipi_sidecar::session::generate_key_line;
use dressipi_sidecar::simulator::{Endpoint, Fault, FaultKind};
use futures::{SinkExt, StreamExt};
use http::Request;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::Message;

use crate::redis_serving::on_redis;
use crate::support::redis::RedisServer;
use crate::support::{
    App, Dressipi, EchoSocket, Process, Sidecar, SidecarBuilder, client, empty, eventually, http2,
    open_websocket, profile,
};

const TOP: &str = "/api/items/top?client_id=demo";

async fn serve(builder: &SidecarBuilder, folder: &Path) -> Process {
    let config = builder.write(folder);
    tokio::task::spawn_blocking(move || Process::serve(&config, 2))
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn post_quit_ends_the_process_as_sigterm_does_for_who_may() {
    let dressipi = Dressipi::start().await;
    for token in [None, Some("a-token-of-16-characters")] {
        let folder = tempfile::tempdir().unwrap();
        let keys = token.map_or(String::new(), |token| format!("token = {token:?}"));
        let builder = Sidecar::behind(&dressipi).admin_keys(&keys);
        let process = serve(&builder, folder.path()).await;
        let url = format!("http://{}/quit", process.addresses[2]);
        let get = client().get(&url).send().await.unwrap();
        assert_eq!(get.status(), 405, "to look is not to quit");
        if let Some(token) = token {
            let refused = client().post(&url).send().await.unwrap();
            assert_eq!(refused.status(), 401);
            assert!(refused.headers().contains_key("www-authenticate"));
            let wrong = client()
                .post(&url)
                .bearer_auth("wrong")
                .send()
                .await
                .unwrap();
            assert_eq!(wrong.status(), 401);
            let right = client().post(&url).bearer_auth(token).send().await.unwrap();
            assert_eq!(right.status(), 202);
        } else {
            assert_eq!(client().post(&url).send().await.unwrap().status(), 202);
        }
        let (status, log) = tokio::task::block_in_place(|| process.wait());
        assert!(status.success());
        assert!(log.iter().any(|line| line.contains("\"stopped\"")));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn systemd_is_told_when_the_process_is_ready_and_when_it_goes() {
    let dressipi = Dressipi::start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify.sock");
    let systemd = UnixDatagram::bind(&path).unwrap();
    systemd
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let heard = || {
        let mut buffer = [0; 200];
        let length = systemd.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).trim().to_owned()
    };
    let config = Sidecar::behind(&dressipi).write(folder.path());
    let mut command = Process::command();
    command.env("NOTIFY_SOCKET", &path);
    tokio::task::block_in_place(|| {
        let process = Process::serve_with(command, &config, 2, &[]);
        assert_eq!(heard(), "READY=1");
        let (status, _) = process.terminate();
        assert!(status.success());
        assert_eq!(heard(), "STOPPING=1");
    });
}

/// Redis accepts the connection and says nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_still_starting_can_be_stopped() {
    let dressipi = Dressipi::start().await;
    let folder = tempfile::tempdir().unwrap();
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis.url = \"redis://{}\"", silent.local_addr().unwrap());
    let config = on_redis(&dressipi, folder.path(), &url).write(folder.path());
    let mut command = Process::command();
    let started = command.arg("serve").arg("--config").arg(&config);
    let process = started.stderr(Stdio::piped()).spawn().unwrap();
    let _connection = silent.accept().await.unwrap();
    kill_process(Pid::from_child(&process), Signal::TERM).unwrap();
    let output = tokio::task::block_in_place(|| process.wait_with_output()).unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{log}");
    assert!(log.contains("stopped before it had started"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn healthcheck_says_by_its_exit_code_whether_the_sidecar_is_ready() {
    let dressipi = Dressipi::start().await;
    let folder = tempfile::tempdir().unwrap();
    let builder = Sidecar::behind(&dressipi);
    let process = serve(&builder, folder.path()).await;
    let admin = process.addresses[2];
    // With the port that the system gave it.
    let text = builder.text().replace(
        "[admin]\n            address = \"127.0.0.1:0\"",
        &format!("[admin]\naddress = \"{admin}\""),
    );
    let config = folder.path().join("check.toml");
    std::fs::write(&config, text).unwrap();
    let check = |arguments: &[&str]| {
        let mut command = Process::command();
        let output = command.arg("healthcheck").args(arguments).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    };
    let config = config.to_str().unwrap();
    let at = admin.to_string();
    tokio::task::block_in_place(|| {
        let (code, said) = check(&["--config", config]);
        assert_eq!((code, said.as_str()), (Some(0), "ready\n"));
        let (code, said) = check(&["--admin", &at, "--live"]);
        assert_eq!((code, said.as_str()), (Some(0), "ok\n"));
        let (status, _) = process.terminate();
        assert!(status.success());
        let (code, said) = check(&["--admin", &at]);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("does not answer"), "{said}");
        std::fs::write(config, "colour = 1").unwrap();
        assert_eq!(check(&["--config", config]).0, Some(78));
        assert_eq!(check(&[]).0, Some(2), "neither is given");
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_finishes_requests_over_http_2_and_bounds_websockets() {
    let dressipi = Dressipi::start().await;
    dressipi.simulator.add_fault(Fault::always(
        Endpoint::Resource,
        FaultKind::Delay { ms: 700 },
    ));
    let echo = EchoSocket::default();
    let app = echo.start().await;
    let folder = tempfile::tempdir().unwrap();
    let builder = Sidecar::behind(&dressipi)
        .app_at(app)
        .server("drain_timeout = \"2s\"");
    let process = serve(&builder, folder.path()).await;
    let address = process.addresses[1];
    let ada = [("x-visitor-id", "ada")];
    let (mut socket, _) = open_websocket(address, "/", &ada).await;
    socket.send(Message::text("hello")).await.unwrap();
    assert_eq!(
        socket.next().await.unwrap().unwrap(),
        Message::text("hello")
    );
    let mut over_http2 = http2(address).await;
    let request = Request::get(format!("http://shop.example{TOP}"))
        .header("x-visitor-id", "ada")
        .body(empty())
        .unwrap();
    let in_flight = tokio::spawn(async move { over_http2.send_request(request).await });
    eventually("the request is at Dressipi", async || {
        dressipi.simulator.totals().max_concurrent.resource > 0
    })
    .await;
    let begun = Instant::now();
    let (status, log) = tokio::task::block_in_place(|| process.terminate());
    let took = begun.elapsed();
    assert!(status.success(), "{log:?}");
    assert_eq!(in_flight.await.unwrap().unwrap().status(), 200);
    let stopped = log
        .iter()
        .find(|line| line.contains("\"stopped\""))
        .unwrap();
    assert!(
        stopped.contains("\"cut_off\":1"),
        "the WebSocket: {stopped}"
    );
    assert!(took >= Duration::from_secs(2), "it had its time: {took:?}");
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_process_takes_the_place_of_another_and_nobody_is_refused() {
    let (dressipi, app, redis) = (
        Dressipi::start().await,
        App::start().await,
        RedisServer::start(),
    );
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    std::fs::write(&keys, generate_key_line()).unwrap();
    let socket = folder.path().join("http.sock");
    let text = Sidecar::behind(&dressipi)
        .app(&app)
        .session(&format!(
            "store = \"redis\"\nkeys_file = {keys:?}\nredis.url = \"redis://127.0.0.1:{}\"",
            redis.port()
        ))
        .server("upgrade_socket = \"upgrade.sock\"")
        .extra(&format!(
            "[[listeners]]\naddress = \"unix:{}\"",
            socket.display()
        ))
        .text()
        .replace("drain_delay = \"0s\"", "drain_delay = \"1s\"")
        .replace("[log]", "[log]\nformat = \"json\"");
    let config = folder.path().join("sidecar.toml");
    std::fs::write(&config, &text).unwrap();
    let start = |upgrade: bool| {
        let config = config.clone();
        tokio::task::spawn_blocking(move || {
            let arguments: &[&str] = if upgrade { &["--upgrade"] } else { &[] };
            Process::serve_with(Process::command(), &config, 3, arguments)
        })
    };
    let mut process = start(false).await.unwrap();
    let addresses = process.addresses.clone();
    let over = Arc::new(AtomicBool::new(false));
    let clients = (0..6).map(|number| {
        let (over, address) = (over.clone(), addresses[1]);
        tokio::spawn(async move {
            let (mut answered, mut known) = (0_u64, None);
            // Every other client connects for each request.
            let kept = client();
            while !over.load(Ordering::Relaxed) {
                let http = if number % 2 == 0 {
                    kept.clone()
                } else {
                    client()
                };
                let ask = async || {
                    let request = http.get(format!("http://{address}{TOP}"));
                    let request = request.header("x-visitor-id", format!("visitor-{number}"));
                    request.send().await
                };
                let answer = match ask().await {
                    // On a busy machine a client may ask on a connection that was idle for all of the pause, just when it is
                    // closed; it asks again, as browsers do (RFC 9110 §9.2.2).
                    Err(error) if !error.is_connect() && number % 2 == 0 => ask().await,
                    result => result,
                };
                let answer = answer.expect("nobody is refused");
                assert_eq!(answer.status(), 200);
                let profile = profile(answer).await.expect("personalised");
                assert_eq!(*known.get_or_insert_with(|| profile.clone()), profile);
                answered += 1;
            }
            answered
        })
    });
    let clients: Vec<_> = clients.collect();

    // A successor that cannot start leaves everything as it was.
    let in_use = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let broken = folder.path().join("broken.toml");
    let address = in_use.local_addr().unwrap();
    std::fs::write(
        &broken,
        format!("{text}\n[[listeners]]\naddress = \"{address}\"\n"),
    )
    .unwrap();
    let mut command = Process::command();
    let failing = command
        .args(["serve", "--upgrade", "--config"])
        .arg(&broken);
    let output = tokio::task::block_in_place(|| failing.output()).unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        !output.status.success() && said.contains("cannot be listened on"),
        "{said}"
    );
    assert!(socket.exists(), "the predecessor serves on it");

    let mode = || std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777;
    assert_ne!(mode(), 0o600);
    let unix = format!("address = \"unix:{}\"", socket.display());
    std::fs::write(
        &config,
        text.replace(&unix, &format!("{unix}\nsocket_mode = \"0600\"")),
    )
    .unwrap();
    for _ in 0..3 {
        let successor = start(true).await.unwrap();
        assert_eq!(mode(), 0o600, "as the successor has it");
        assert_eq!(successor.addresses, addresses);
        let before = std::mem::replace(&mut process, successor);
        let (status, log) = tokio::task::spawn_blocking(|| before.wait()).await.unwrap();
        assert!(status.success());
        assert!(
            log.iter().any(|line| line.contains("a successor")),
            "{log:?}"
        );
        assert!(
            socket.exists(),
            "the Unix-domain socket is the successor's now"
        );
        let mut stream = tokio::net::UnixStream::connect(&socket).await.unwrap();
        let request = "GET /x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    over.store(true, Ordering::Relaxed);
    for client in clients {
        assert!(client.await.unwrap() > 0);
    }
    assert_eq!(dressipi.profiles(), 6);
    let (status, _) = tokio::task::block_in_place(|| process.terminate());
    assert!(status.success());
    assert!(!socket.exists() && !folder.path().join("upgrade.sock").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_that_cannot_be_is_refused_with_the_reason() {
    let dressipi = Dressipi::start().await;
    let folder = tempfile::tempdir().unwrap();
    let plain = Sidecar::behind(&dressipi);
    let offered = Sidecar::behind(&dressipi).server("upgrade_socket = \"upgrade.sock\"");
    for (builder, expected) in [
        (plain, "--upgrade needs server.upgrade_socket"),
        (offered, "--upgrade needs the redis store"),
    ] {
        let config = builder.write(folder.path());
        let mut command = Process::command();
        let output = command.args(["serve", "--upgrade", "--config"]).arg(config);
        let output = output.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(expected), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_told_to_go_is_not_ready_and_serves_on_for_the_pause() {
    let (dressipi, app) = (Dressipi::start().await, App::start().await);
    let folder = tempfile::tempdir().unwrap();
    let text = Sidecar::behind(&dressipi)
        .app(&app)
        .text()
        .replace("drain_delay = \"0s\"", "drain_delay = \"3s\"")
        .replace("[log]", "[log]\nformat = \"json\"");
    let config = folder.path().join("sidecar.toml");
    std::fs::write(&config, text).unwrap();
    let process = tokio::task::block_in_place(|| Process::serve(&config, 2));
    let [address, admin] = [process.addresses[1], process.addresses[2]];
    let ready = async || {
        let answer = client().get(format!("http://{admin}/readyz")).send().await;
        answer.unwrap().status().as_u16()
    };
    assert_eq!(ready().await, 200);
    process.signal("-TERM");
    eventually("it is not ready any more", async || ready().await == 503).await;
    let request = client().get(format!("http://{address}/x"));
    let served = request.header("x-visitor-id", "ada").send().await.unwrap();
    assert_eq!(served.status(), 200, "new connections are served meanwhile");
    assert_eq!(served.headers()["connection"], "close");
    let (status, _) = tokio::task::block_in_place(|| process.wait());
    assert!(status.success());
}

/// What the system calls the threads of a process, and by which policy it gives each a processor (proc(5), field 41 of `stat`).
fn threads(pid: u32) -> Vec<(String, u32)> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let stats =
        tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("stat")).ok());
    let thread = |stat: String| {
        let (name, rest) = stat.split_once('(').unwrap().1.rsplit_once(") ").unwrap();
        let policy = rest.split(' ').nth(41 - 3).unwrap();
        (name.to_owned(), policy.parse().unwrap())
    };
    stats.map(thread).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_worker_is_a_thread_and_those_beside_them_give_way() {
    const NORMAL: u32 = 0;
    const BATCH: u32 = 3;
    let dressipi = Dressipi::start().await;
    let folder = tempfile::tempdir().unwrap();
    let config = Sidecar::behind(&dressipi)
        .redb(folder.path())
        .write(folder.path());
    let mut command = Process::command();
    command.env("SIDECAR__SERVER__THREADS", "3");
    let process = tokio::task::block_in_place(|| Process::serve_with(command, &config, 2, &[]));
    // Every kind of thread is at work: the store was read at the start already.
    let url = format!("http://{}{TOP}", process.addresses[0]);
    let answer = client().get(&url).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let policies = |name: &str| -> Vec<u32> {
        let of_name = threads(process.id()).into_iter();
        of_name
            .filter(|(found, _)| found.starts_with(name))
            .map(|(_, policy)| policy)
            .collect()
    };
    assert_eq!(policies("proxy-"), [NORMAL; 3]);
    assert_eq!(policies("oauth"), [BATCH]);
    assert_eq!(policies("store-writer"), [BATCH]);
    let readers = policies("store-reader");
    assert!(
        !readers.is_empty() && readers.iter().all(|policy| *policy == BATCH),
        "{readers:?}"
    );
}
