//! TLS towards upstreams: HTTP/2 and its fallback, whose name is asked for, and that verification fails closed.

use std::path::Path;

use axum::Router;
use bytes::Bytes;
use dressipi_sidecar::config::{self, Format};
use futures::{SinkExt, StreamExt};
use http::{HeaderMap, Method, Request, Version};
use http_body_util::BodyExt;
use hyper::body::Frame;
use tokio_tungstenite::tungstenite::Message;

use crate::support::{
    App, Authority, Blobs, Dressipi, EchoSocket, Identity, Sidecar, TlsUpstream, empty, fed, http1,
    http2, json, open_websocket, profile, send,
};

const TOP: &str = "/api/items/top?client_id=demo";

/// A sidecar whose app speaks TLS as `localhost` and is certified by `authority`. `keys` are further ones of the upstream.
async fn before_tls(app: &TlsUpstream, authority: &Authority, keys: &str) -> (Dressipi, Sidecar) {
    let folder = tempfile::tempdir().unwrap();
    let ca = authority.write(folder.path());
    let upstream = format!(
        "[[upstreams]]\nname = \"app\"\naddress = \"localhost:{}\"\ntls = true\nca_file = {ca:?}\n{keys}\n[[routes]]\npath = \"/\"\nupstream = \"app\"\n",
        app.address.port()
    );
    let dressipi = Dressipi::start().await;
    let builder = Sidecar::behind(&dressipi).threads(1).extra(&upstream);
    (dressipi, builder.start().await)
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_13_an_upstream_with_http_2_serves_many_requests_over_one_connection() {
    let authority = Authority::new();
    let app = TlsUpstream::start(authority.certify("localhost"), App::router()).await;
    let (_dressipi, sidecar) = before_tls(&app, &authority, "http2 = true").await;
    for _ in 0..2 {
        let requests =
            (0..20).map(|_| async { sidecar.visitor("ada", "/x").send().await.unwrap().status() });
        for status in futures::future::join_all(requests).await {
            assert_eq!(status, 200);
        }
    }
    let request = sidecar
        .visitor_request(Method::POST, "ada", "/y")
        .body("{}");
    assert_eq!(request.send().await.unwrap().status(), 200);
    let seen = app.seen();
    assert_eq!(seen.requests.len(), 41);
    for (version, host, _) in &seen.requests {
        assert_eq!(*version, Version::HTTP_2);
        assert_eq!(*host, sidecar.trusted_address().to_string());
    }
    assert!(
        seen.handshakes
            .iter()
            .all(|handshake| *handshake == (some("localhost"), some("h2")))
    );
    // Those that came before the first connection was there may have opened one of their own.
    assert!(seen.connections <= 20, "{}", seen.connections);
    let before = seen.connections;
    for _ in 0..20 {
        sidecar.visitor("ada", "/x").send().await.unwrap();
    }
    assert_eq!(app.seen().connections, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_13_bodies_stream_both_ways_over_http_2() {
    const SIZE: u64 = 16 * 1024 * 1024;
    let blobs = Blobs::default();
    let authority = Authority::new();
    let app = TlsUpstream::start(authority.certify("localhost"), blobs.router("/")).await;
    let (_dressipi, sidecar) = before_tls(&app, &authority, "http2 = true").await;
    let get = |path: &str| {
        Request::get(path)
            .header("host", "shop.example")
            .header("x-visitor-id", "ada")
    };
    let mut client = http1(sidecar.trusted_address()).await;

    let (mut frames, body) = fed();
    let request = get("/blob").method("PUT").body(body).unwrap();
    let begun = blobs.upload_begun.clone();
    let feed = async move {
        let mut pattern = crate::support::Pattern::default();
        while let Some(chunk) = pattern.next_chunk(SIZE) {
            let first = chunk.len() as u64 == pattern.position();
            frames.send(Frame::data(chunk)).await.unwrap();
            if first {
                begun.notified().await;
            }
        }
    };
    let (answer, ()) = tokio::join!(send(&mut client, request), feed);
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, format!("{SIZE} eyJ"));

    let request = get(&format!("/blob?size={SIZE}")).body(empty()).unwrap();
    let mut body = send(&mut client, request).await.into_body();
    let mut pattern = crate::support::Pattern::default();
    while let Some(frame) = body.frame().await {
        if pattern.position() == 0 {
            blobs.go_on.notify_one();
        }
        pattern.check(frame.unwrap().data_ref().unwrap());
    }
    assert_eq!(pattern.position(), SIZE);
    assert!(
        app.seen()
            .requests
            .iter()
            .all(|(version, host, _)| *version == Version::HTTP_2 && host == "shop.example")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn http_2_passes_from_end_to_end_with_its_trailers() {
    let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())]);
    let answer = move || async move {
        let frames = [Frame::data(Bytes::from("ok")), Frame::trailers(trailers)];
        axum::body::Body::new(crate::support::streamed(futures::stream::iter(frames)))
    };
    let router = Router::new().route("/app/call", axum::routing::post(answer));
    let authority = Authority::new();
    let app = TlsUpstream::start(authority.certify("localhost"), router).await;
    let folder = tempfile::tempdir().unwrap();
    let ca = authority.write(folder.path());
    let upstream = format!(
        "[[upstreams]]\nname = \"app\"\naddress = \"localhost:{}\"\ntls = true\nhttp2 = true\nca_file = {ca:?}\n[[routes]]\npath = \"/\"\nupstream_path = \"/app/\"\nupstream = \"app\"\n",
        app.address.port()
    );
    let dressipi = Dressipi::start().await;
    let sidecar = Sidecar::behind(&dressipi).extra(&upstream).start().await;
    let mut client = http2(sidecar.trusted_address()).await;
    let request = Request::post("http://shop.example/call")
        .body(crate::support::full("hello"))
        .unwrap();
    let answer = client.send_request(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    let answer = answer.into_body().collect().await.unwrap();
    assert_eq!(answer.trailers().unwrap()["grpc-status"], "0");
    assert_eq!(answer.to_bytes(), "ok");
    assert_eq!(
        app.seen().requests,
        [(Version::HTTP_2, "shop.example".into(), "/app/call".into())]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_without_http_2_is_spoken_to_in_http_1() {
    for (offered, keys) in [
        (&["http/1.1"][..], "http2 = true"),
        (&[], "http2 = true"),
        (&["h2", "http/1.1"], ""),
    ] {
        let authority = Authority::new();
        let identity = authority.certify("localhost");
        let app = TlsUpstream::with(identity, offered, App::router()).await;
        let (_dressipi, sidecar) = before_tls(&app, &authority, keys).await;
        for _ in 0..3 {
            let answer = sidecar.visitor("ada", "/x").send().await.unwrap();
            assert_eq!(answer.status(), 200);
            json(answer).await;
        }
        let seen = app.seen();
        assert_eq!(seen.connections, 1, "kept alive, with {offered:?}");
        assert!(
            seen.requests
                .iter()
                .all(|(version, ..)| *version == Version::HTTP_11)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_13_a_websocket_passes_to_an_upstream_with_http_2() {
    let echo = EchoSocket::default();
    let server = echo.clone();
    let authority = Authority::new();
    let app = TlsUpstream::handled(authority.certify("localhost"), move |stream| {
        server.clone().serve(stream)
    })
    .await;
    let (_dressipi, sidecar) = before_tls(&app, &authority, "http2 = true").await;
    for _ in 0..20 {
        let (mut socket, _) =
            open_websocket(sidecar.trusted_address(), "/", &[("x-visitor-id", "ada")]).await;
        socket.send(Message::text("hello")).await.unwrap();
        assert_eq!(
            socket.next().await.unwrap().unwrap(),
            Message::text("hello")
        );
    }
    let upgrades = echo.upgrades.lock();
    assert!(upgrades[0]["x-dressipi-jwt"].as_bytes().starts_with(b"eyJ"));
    let offered = &app.seen().handshakes[0];
    assert_eq!(*offered, (some("localhost"), some("http/1.1")));
}

#[tokio::test(flavor = "multi_thread")]
async fn oauth_and_resource_calls_go_to_dressipi_under_the_name_of_the_base_url() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let ca = authority.write(folder.path());
    let dressipi = Dressipi::start().await;
    for (name, announced) in [("localhost", some("localhost")), ("127.0.0.1", None)] {
        let router = dressipi.simulator.router();
        let server = TlsUpstream::start(authority.certify(name), router).await;
        let authority = format!("{name}:{}", server.address.port());
        let sidecar = Sidecar::behind(&dressipi)
            .base_url(format!(
                "https://{authority}\"\nca_file = \"{}",
                ca.display()
            ))
            .start()
            .await;
        let answer = sidecar.visitor("ada", TOP).send().await.unwrap();
        assert!(profile(answer).await.is_some());
        let seen = server.seen();
        let paths: Vec<_> = seen.requests.iter().map(|request| &*request.2).collect();
        assert_eq!(
            paths,
            ["/api/oauth/authorize", "/api/oauth/token", "/api/items/top"]
        );
        // An address is no server name (RFC 6066 §3), so none is sent; it is verified all the same.
        assert_eq!(seen.connections, 2);
        for (sni, _) in &seen.handshakes {
            assert_eq!(*sni, announced);
        }
        for (_, host, path) in &seen.requests {
            assert_eq!(*host, authority, "on {path}");
        }
        assert_eq!(seen.requests[2].0, Version::HTTP_2);
    }
    assert_eq!(dressipi.profiles(), 2);
}

/// Certificates that a client of `localhost` who trusts the first authority must not accept.
fn unacceptable() -> (Authority, Vec<(&'static str, Identity)>) {
    let trusted = Authority::new();
    let cases = vec![
        ("another authority", Authority::new().certify("localhost")),
        ("another name", trusted.certify("elsewhere.example")),
        ("expired", trusted.certify_expired("localhost")),
        ("self-signed", Identity::self_signed("localhost")),
    ];
    (trusted, cases)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_with_an_unacceptable_certificate_gets_no_request() {
    let (trusted, cases) = unacceptable();
    for (what, identity) in cases {
        for keys in ["", "http2 = true"] {
            // The identity is used twice.
            let app = TlsUpstream::start(identity.clone(), App::router()).await;
            let (_dressipi, sidecar) = before_tls(&app, &trusted, keys).await;
            let answer = sidecar.visitor("ada", "/x").send().await.unwrap();
            assert_eq!(answer.status(), 502, "{what}");
            assert_eq!(
                answer.headers()["proxy-status"],
                "dressipi-sidecar; error=tls_certificate_error",
                "{what}"
            );
            let problem = json(answer).await;
            assert_eq!(
                problem["title"],
                "The upstream's certificate is not accepted"
            );
            crate::support::eventually("the handshake has failed at the server too", async || {
                let seen = app.seen();
                seen.connections > 0 && seen.refused == seen.connections
            })
            .await;
            let seen = app.seen();
            assert!(
                seen.handshakes.is_empty() && seen.requests.is_empty(),
                "{what}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_speaks_no_tls_is_told_from_one_with_a_bad_certificate() {
    let plain = App::start().await;
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let ca = authority.write(folder.path());
    let upstream = format!(
        "[[upstreams]]\nname = \"app\"\naddress = \"{}\"\ntls = true\nca_file = {ca:?}\n[[routes]]\npath = \"/\"\nupstream = \"app\"\n",
        plain.address
    );
    let dressipi = Dressipi::start().await;
    let sidecar = Sidecar::behind(&dressipi).extra(&upstream).start().await;
    let answer = sidecar.visitor("ada", "/x").send().await.unwrap();
    assert_eq!(answer.status(), 502);
    assert_eq!(
        answer.headers()["proxy-status"],
        "dressipi-sidecar; error=tls_protocol_error"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dressipi_with_an_unacceptable_certificate_is_unreachable_and_learns_nothing() {
    let (trusted, cases) = unacceptable();
    let folder = tempfile::tempdir().unwrap();
    let ca = trusted.write(folder.path());
    for (what, identity) in cases {
        let dressipi = Dressipi::start().await;
        let server = TlsUpstream::start(identity, dressipi.simulator.router()).await;
        let base_url = format!("https://localhost:{}", server.address.port());
        let app = App::start().await;
        let sidecar = Sidecar::behind(&dressipi)
            .base_url(format!("{base_url}\"\nca_file = \"{}", ca.display()))
            .app(&app)
            .start()
            .await;
        let to_app = sidecar.visitor("ada", "/x").send().await.unwrap();
        assert_eq!(to_app.status(), 200, "{what}");
        let reason = to_app.headers()["dressipi-sidecar"].to_str().unwrap();
        assert!(reason.starts_with("anonymous; reason="), "{what}");
        let echo = json(to_app).await.to_string();
        assert!(!echo.contains("x-dressipi-jwt"));
        let to_dressipi = sidecar.visitor("ada", TOP).send().await.unwrap();
        assert_eq!(to_dressipi.status(), 502, "{what}");
        assert_eq!(
            to_dressipi.headers()["proxy-status"],
            "dressipi-sidecar; error=tls_certificate_error"
        );
        let calls = |labels: &'static str| sidecar.metric("oauth_calls_total", labels);
        assert!(calls("result=\"unreachable\"").await >= 1.0, "{what}");
        assert_eq!(
            calls("").await,
            calls("result=\"unreachable\"").await,
            "{what}: no profile can have been made, so none is suspected"
        );
        assert_eq!(dressipi.profiles(), 0);
        assert!(server.seen().requests.is_empty(), "{what}");
    }
}

/// The lines of a configuration that show `identity` to servers.
fn showing(identity: &Identity, folder: &Path) -> String {
    let (certificate, key) = identity.write(folder, "client");
    format!("client_certificate_file = {certificate:?}\nclient_key_file = {key:?}")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_asks_who_we_are_is_shown_our_certificate() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let ours = clients.certify("sidecar");
    for keys in ["", "http2 = true"] {
        let server = authority.certify("localhost");
        let app = TlsUpstream::demanding(server, &clients, App::router()).await;
        let folder = tempfile::tempdir().unwrap();
        let keys = format!("{}\n{keys}", showing(&ours, folder.path()));
        let (_dressipi, sidecar) = before_tls(&app, &authority, &keys).await;
        for _ in 0..2 {
            let answer = sidecar.visitor("ada", "/x").send().await.unwrap();
            assert_eq!(answer.status(), 200);
        }
        let seen = app.seen();
        assert_eq!((seen.requests.len(), seen.refused), (2, 0));
        assert!(seen.clients.iter().all(|shown| shown == ours.certificate()));
        assert_eq!(seen.clients.len(), seen.handshakes.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_does_not_accept_our_certificate_gets_no_request() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().unwrap();
    let stranger = Authority::new().certify("sidecar");
    for keys in [String::new(), showing(&stranger, folder.path())] {
        let server = authority.certify("localhost");
        let app = TlsUpstream::demanding(server, &clients, App::router()).await;
        let (_dressipi, sidecar) = before_tls(&app, &authority, &keys).await;
        let answer = sidecar.visitor("ada", "/x").send().await.unwrap();
        assert_eq!(answer.status(), 502, "with {keys:?}");
        assert!(app.seen().requests.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dressipi_that_asks_who_we_are_is_shown_our_certificate_on_every_call() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let ours = clients.certify("sidecar");
    let folder = tempfile::tempdir().unwrap();
    let ca = authority.write(folder.path());
    let dressipi = Dressipi::start().await;
    let router = dressipi.simulator.router();
    let server = TlsUpstream::demanding(authority.certify("localhost"), &clients, router).await;
    let start = |keys: String| {
        Sidecar::behind(&dressipi)
            .base_url(format!(
                "https://localhost:{}\"\nca_file = {ca:?}\n{keys}#\"",
                server.address.port()
            ))
            .start()
    };
    let sidecar = start(showing(&ours, folder.path())).await;
    let answer = sidecar.visitor("ada", TOP).send().await.unwrap();
    assert!(profile(answer).await.is_some());
    let seen = server.seen();
    // The OAuth calls and the proxied one come over connections of their own.
    assert_eq!(seen.clients.len(), 2);
    assert!(seen.clients.iter().all(|shown| shown == ours.certificate()));

    let nobody = start(String::new()).await;
    let answer = nobody.visitor("eve", TOP).send().await.unwrap();
    assert_eq!(answer.status(), 502);
    assert_eq!(dressipi.profiles(), 1);
    assert_eq!(server.seen().requests.len(), seen.requests.len());
}

#[test]
fn our_certificate_and_its_key_are_judged_when_the_configuration_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let (certificate, key) = authority.certify("sidecar").write(folder.path(), "one");
    let (_, other_key) = authority.certify("sidecar").write(folder.path(), "other");
    let (expired, expired_key) = authority
        .certify_expired("sidecar")
        .write(folder.path(), "expired");
    let load = |certificate: &Path, key: &Path| {
        let ours =
            format!("client_certificate_file = {certificate:?}\nclient_key_file = {key:?}\n");
        let text = format!(
            "listeners = [{{ address = \"127.0.0.1:0\" }}]\n\
             [dressipi]\nbase_url = \"https://dressipi.example\"\nclient_id = \"shop\"\n{ours}\
             [session]\nstore = \"redis\"\nkeys_file = \"one.key\"\n\
             [session.redis]\nurl = \"rediss://redis:6379\"\n{ours}\
             [[upstreams]]\nname = \"app\"\naddress = \"app:443\"\ntls = true\n{ours}\
             [[routes]]\npath = \"/\"\nupstream = \"app\"\n"
        );
        config::load_text("test.toml", &text, Format::Toml, folder.path(), [])
    };
    let sections = ["dressipi", "session.redis", "upstreams[0]"];
    let loaded = load(&certificate, &key).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(loaded.config.dressipi.client_identity.is_some());
    let warnings = load(&expired, &expired_key)
        .unwrap_or_else(|problems| panic!("{problems}"))
        .warnings;
    let warnings: Vec<_> = warnings.iter().map(ToString::to_string).collect();
    for section in sections {
        let told = format!("{section}.client_certificate_file: ");
        assert!(
            warnings
                .iter()
                .any(|warning| warning.contains(&told) && warning.contains("has expired")),
            "{warnings:?}"
        );
    }
    let Err(problems) = load(&certificate, &other_key) else {
        panic!("accepted")
    };
    let problems = problems.to_string();
    for section in sections {
        let told = format!("{section}.client_key_file: ");
        assert!(problems.contains(&told), "{problems}");
    }
    assert_eq!(
        problems
            .matches("is not the key of the certificate")
            .count(),
        3
    );
}

#[test]
fn an_empty_server_name_is_refused_because_it_would_switch_verification_off() {
    let text = r#"
        [[listeners]]
        address = "127.0.0.1:0"
        [dressipi]
        base_url = "https://dressipi.shop.example"
        client_id = "shop"
        [session]
        store = "memory"
        [[upstreams]]
        name = "app"
        address = "app:443"
        tls = true
        server_name = ""
        [[routes]]
        path = "/"
        upstream = "app"
    "#;
    let folder = Path::new("/");
    let Err(problems) = config::load_text("test.toml", text, Format::Toml, folder, []) else {
        panic!("accepted")
    };
    assert!(
        problems
            .to_string()
            .contains("upstreams[0].server_name: is empty"),
        "{problems}"
    );
}
