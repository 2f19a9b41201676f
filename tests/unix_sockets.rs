//! Listeners on Unix-domain sockets: everything that holds elsewhere holds there, and peers have no address.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::support::{App, Dressipi, Process, Sidecar, seen};

/// Sends `request`, and reads until the connection is closed.
async fn ask(path: &Path, request: &str) -> String {
    let mut stream = UnixStream::connect(path).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

fn at_socket(path: &Path) -> String {
    format!(
        "[[listeners]]\naddress = \"unix:{}\"\nsocket_mode = \"0600\"\nvisitor = [\"header:x-visitor-id\"]\n",
        path.display()
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_names_visitors_over_a_socket_which_is_gone_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("http.sock");
    let (dressipi, app) = (Dressipi::start().await, App::start().await);
    let sidecar = Sidecar::behind(&dressipi)
        .app(&app)
        .extra(&at_socket(&path))
        .start()
        .await;
    let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let request = "GET /api/echo HTTP/1.1\r\nhost: shop.example\r\nx-visitor-id: ada\r\nx-forwarded-for: 10.9.8.7\r\nconnection: close\r\n\r\n";
    let answer = ask(&path, request).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let echo: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(
        seen(&echo, "x-dressipi-jwt").len(),
        1,
        "the visitor's token"
    );
    assert_eq!(seen(&echo, "x-visitor-id").len(), 0);
    assert_eq!(
        seen(&echo, "x-forwarded-for").len(),
        0,
        "the peer has no address, and the client none to claim"
    );
    assert_eq!(dressipi.profiles(), 1);

    let refused = ask(&path, "GET /x HTTP/1.1\r\nhost : a\r\n\r\n").await;
    assert!(refused.starts_with("HTTP/1.1 400 "), "{refused}");
    sidecar.stop().await;
    assert!(!path.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_10_a_proxy_on_a_socket_says_who_the_clients_are_where_that_is_configured() {
    for (proxies, profiles) in [("trusted_proxies = [\"unix:\"]", 2), ("", 6)] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("http.sock");
        let (dressipi, app) = (Dressipi::start().await, App::start().await);
        let listener = format!(
            "[[listeners]]\naddress = \"unix:{}\"\n{proxies}\n[creation]\nper_client = \"1/1h\"\n",
            path.display()
        );
        let _sidecar = Sidecar::behind(&dressipi)
            .app(&app)
            .extra(&listener)
            .start()
            .await;
        for client in ["192.0.2.1", "192.0.2.2"] {
            for _ in 0..3 {
                let request = format!(
                    "GET /api/echo HTTP/1.1\r\nhost: shop.example\r\nuser-agent: Mozilla/5.0 Firefox/140.0\r\n\
                     x-forwarded-for: 192.0.2.9, {client}\r\nconnection: close\r\n\r\n"
                );
                let answer = ask(&path, &request).await;
                assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
                let (_, body) = answer.split_once("\r\n\r\n").unwrap();
                let echo: serde_json::Value = serde_json::from_str(body).unwrap();
                let said = seen(&echo, "x-forwarded-for");
                match proxies {
                    "" => assert!(said.is_empty(), "nobody is believed: {said:?}"),
                    _ => assert_eq!(said, [format!("192.0.2.9, {client}")]),
                }
            }
        }
        assert_eq!(dressipi.profiles(), profiles, "with {proxies:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_that_a_killed_process_left_is_taken_over_and_one_in_use_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("http.sock");
    let dressipi = Dressipi::start().await;
    let builder = Sidecar::behind(&dressipi).extra(&at_socket(&path));
    let config = builder.write(folder.path());
    let process = tokio::task::block_in_place(|| Process::serve(&config, 3));
    let second = Process::command()
        .args(["serve", "--config"])
        .arg(&config)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(
        said.contains("listeners[2].address: unix:") && said.contains("cannot be listened on"),
        "{said}"
    );
    tokio::task::block_in_place(|| process.kill());
    assert!(path.exists(), "a killed process leaves it");
    let process = tokio::task::block_in_place(|| Process::serve(&config, 3));
    let answer = ask(
        &path,
        "GET /nothing HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    let (status, _) = tokio::task::block_in_place(|| process.terminate());
    assert!(status.success() && !path.exists());
}
