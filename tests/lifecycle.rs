//! How the process begins and ends: what it tells systemd, Kubernetes and whoever asks, and what a drain waits for.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

use dressipi_sidecar::simulator::{Endpoint, Fault, FaultKind};
use futures::{SinkExt, StreamExt};
use http::Request;
use tokio_tungstenite::tungstenite::Message;

use crate::support::{
    App, Dressipi, EchoSocket, Process, Sidecar, SidecarBuilder, client, empty, eventually, http2,
    open_websocket,
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
        let process = Process::serve_by(command, &config, 2);
        assert_eq!(heard(), "READY=1");
        let (status, _) = process.terminate();
        assert!(status.success());
        assert_eq!(heard(), "STOPPING=1");
    });
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
    let (status, _) = tokio::task::block_in_place(|| process.wait());
    assert!(status.success());
}
