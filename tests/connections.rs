//! Connections: pools and their dead members, WebSockets, HTTP/2 without TLS, and names: invariant 13 beside the bodies.

use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use dressipi_sidecar::simulator::SimulatorConfig;
use futures::{SinkExt, StreamExt};
use http::{Request, Version};
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};
use pingora::protocols::l4::ext::get_tcp_info;
use serde_json::Value;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, frame::coding::CloseCode};

use crate::support::{
    App, Blobs, Dressipi, EchoSocket, Raw, RawUpstream, Sidecar, empty, fed, http1, http2, json,
    open_websocket, profile, seen, send, visitor_cookie,
};

const TOP: &str = "/api/items/top?client_id=demo";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_requests_of_one_client_share_one_connection_to_the_upstream() {
    let counted = Blobs::default();
    let app = counted.serve(App::router()).await;
    let dressipi = Dressipi::start().await;
    let sidecar = Sidecar::behind(&dressipi).app_at(app).start().await;
    let mut client = http1(sidecar.trusted_address()).await;
    for _ in 0..100 {
        let request = Request::get("/x")
            .header("host", "shop.example")
            .header("x-visitor-id", "ada")
            .body(empty())
            .unwrap();
        let answer = send(&mut client, request).await;
        assert_eq!(answer.status(), 200);
        answer.into_body().collect().await.unwrap();
    }
    assert_eq!(counted.connections.load(Ordering::Relaxed), 1);
}

/// Segments with data that have arrived. Over loopback, what is sent at once comes in one, as long as it has less than 64 KiB.
fn segments(at: &mut Raw) -> u32 {
    let info = get_tcp_info(at.stream().as_raw_fd()).unwrap();
    info.tcpi_data_segs_in
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_and_its_answer_take_one_send_each() {
    const TIMES: u32 = 20;
    let (sidecar, _upstream, mut pooled, mut client) = with_pooled_connection().await;
    for length in [0, 2048, 14 * 1024, 40 * 1024] {
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{}",
            "x".repeat(length)
        );
        let before = (segments(&mut pooled), segments(&mut client));
        for _ in 0..TIMES {
            client
                .send("GET /x HTTP/1.1\r\nhost: shop.example\r\nx-visitor-id: ada\r\n\r\n")
                .await;
            pooled.head().await;
            pooled.send(&answer).await;
            client.head().await;
            client.exactly(length).await;
        }
        let after = (segments(&mut pooled), segments(&mut client));
        let arrived = (after.0 - before.0, after.1 - before.1);
        if length < 15 * 1024 {
            assert_eq!(arrived, (TIMES, TIMES), "answers of {length} bytes");
        } else {
            // More than the sidecar gathers: sends are told apart.
            assert!(arrived.0 == TIMES && arrived.1 > TIMES, "{arrived:?}");
        }
    }
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_for_one_connection_goes_no_further_and_the_rest_does() {
    let (sidecar, _upstream, mut pooled, mut client) = with_pooled_connection().await;
    let start = "GET /x HTTP/1.1\r\nhost: shop.example\r\nx-visitor-id: ada\r\nx-own: kept\r\n";
    for (sent, gone) in [
        ("", &[][..]),
        (
            "connection: keep-alive\r\nkeep-alive: timeout=5\r\n",
            &["connection", "keep-alive"],
        ),
        (
            "connection: x-hop\r\nx-hop: 1\r\n",
            &["connection", "x-hop"],
        ),
        ("proxy-connection: keep-alive\r\n", &["proxy-connection"]),
        (
            "proxy-authorization: Basic YTpi\r\n",
            &["proxy-authorization"],
        ),
        ("proxy-authenticate: Basic\r\n", &["proxy-authenticate"]),
        ("te: trailers\r\ntrailer: x-sum\r\n", &["te", "trailer"]),
        (
            "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMA\r\n",
            &["connection", "upgrade", "http2-settings"],
        ),
        ("", &[]),
    ] {
        client.send(&format!("{start}{sent}\r\n")).await;
        let head = pooled.head().await;
        assert!(head.contains("x-own: kept\r\n"), "{head}");
        for name in gone {
            assert!(!head.contains(&format!("\n{name}:")), "{name} in {head}");
        }
        pooled.send(OK).await;
        client.head().await;
        client.exactly(2).await;
    }
    sidecar.stop().await;
}

/// A sidecar with an upstream that has answered one request and keeps the connection.
async fn with_pooled_connection() -> (Sidecar, RawUpstream, Raw, Raw) {
    let upstream = RawUpstream::bind().await;
    let dressipi = Dressipi::start().await;
    let sidecar = Sidecar::behind(&dressipi)
        .app_at(upstream.address)
        .start()
        .await;
    let mut client = Raw::connect(sidecar.trusted_address()).await;
    client
        .send("GET /first HTTP/1.1\r\nhost: shop.example\r\n\r\n")
        .await;
    let mut pooled = upstream.accept().await;
    pooled.head().await;
    pooled.send(OK).await;
    client.head().await;
    client.exactly(2).await;
    (sidecar, upstream, pooled, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooled_connection_that_dies_under_a_request_is_replaced_unnoticed() {
    for request in [
        "GET /second HTTP/1.1\r\nhost: shop.example\r\n\r\n",
        "PUT /second HTTP/1.1\r\nhost: shop.example\r\ncontent-length: 5\r\n\r\nhello",
    ] {
        let (_sidecar, upstream, mut pooled, mut client) = with_pooled_connection().await;
        client.send(request).await;
        // It took the request, and closes without a word.
        pooled.head().await;
        drop(pooled);
        let mut fresh = upstream.accept().await;
        assert!(fresh.head().await.contains("/second"));
        if request.starts_with("PUT") {
            assert_eq!(fresh.exactly(5).await, b"hello", "the body is sent again");
        }
        fresh.send(OK).await;
        assert!(client.head().await.starts_with("http/1.1 200 "));
        assert_eq!(client.exactly(2).await, b"ok");
    }
}

/// The token in a request's head.
fn token(head: &str) -> String {
    let mut lines = head.lines();
    let token = lines.find_map(|line| line.strip_prefix("x-dressipi-jwt: "));
    token.expect("the request has a token").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_5_a_retry_after_the_token_has_expired_carries_another_one() {
    const LIFETIME: u64 = 4;
    let upstream = RawUpstream::bind().await;
    let dressipi = Dressipi::with(SimulatorConfig {
        access_token_lifetime_s: LIFETIME,
        ..SimulatorConfig::default()
    })
    .await;
    let sidecar = Sidecar::behind(&dressipi)
        .app_at(upstream.address)
        .start()
        .await;
    let mut client = Raw::connect(sidecar.trusted_address()).await;
    let request = "GET /x HTTP/1.1\r\nhost: shop.example\r\nx-visitor-id: ada\r\n\r\n";
    client.send(request).await;
    let mut pooled = upstream.accept().await;
    pooled.head().await;
    pooled.send(OK).await;
    client.head().await;
    client.exactly(2).await;
    client.send(request).await;
    let sent = token(&pooled.head().await);
    // The upstream takes its time, and then does not answer at all. Nothing tells when a token has expired but time.
    tokio::time::sleep(Duration::from_secs(LIFETIME)).await;
    drop(pooled);
    let mut fresh = upstream.accept().await;
    assert_ne!(token(&fresh.head().await), sent);
    fresh.send(OK).await;
    assert!(client.head().await.starts_with("http/1.1 200 "));
    assert_eq!(dressipi.profiles(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_may_have_been_carried_out_is_not_sent_again() {
    let (_sidecar, upstream, mut pooled, mut client) = with_pooled_connection().await;
    client
        .send("POST /second HTTP/1.1\r\nhost: shop.example\r\ncontent-length: 5\r\n\r\nhello")
        .await;
    pooled.head().await;
    pooled.exactly(5).await;
    drop(pooled);
    let head = client.head().await;
    assert!(head.starts_with("http/1.1 502 "), "{head}");
    assert!(head.contains("error=connection_terminated"), "{head}");
    let again = tokio::time::timeout(Duration::from_millis(50), upstream.accept()).await;
    assert!(again.is_err(), "nobody asked twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_is_not_continued_with_another_one() {
    for begun in [
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfirst",
    ] {
        let (_sidecar, upstream, mut pooled, mut client) = with_pooled_connection().await;
        client
            .send("GET /second HTTP/1.1\r\nhost: shop.example\r\n\r\n")
            .await;
        pooled.head().await;
        pooled.send(begun).await;
        drop(pooled);
        let answer = String::from_utf8(client.rest().await).unwrap();
        assert!(
            answer.ends_with("first") || answer.ends_with("first\r\n"),
            "cut off where the upstream broke off: {answer}"
        );
        assert_eq!(answer.matches("HTTP/1.1").count(), 1);
        let again = tokio::time::timeout(Duration::from_millis(50), upstream.accept()).await;
        assert!(again.is_err(), "nobody asked twice");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_13_a_websocket_passes_on_an_app_route() {
    let echo = EchoSocket::default();
    let dressipi = Dressipi::start().await;
    let sidecar = Sidecar::behind(&dressipi)
        .app_at(echo.start().await)
        .start()
        .await;
    let address = sidecar.trusted_address();
    let headers = [("x-visitor-id", "ada"), ("x-dressipi-jwt", "forged")];
    let (mut socket, answer) = open_websocket(address, "/live?a=1", &headers).await;
    assert!(!answer.headers().contains_key("set-cookie"));
    assert!(!answer.headers().contains_key("x-dressipi-jwt"));
    let binary: Vec<u8> = (0..1024 * 1024_u32).map(|n| (n % 251) as u8).collect();
    for message in [Message::text("hello"), Message::binary(binary)] {
        socket.send(message.clone()).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), message);
    }
    let upgrade = echo.upgrades.lock().pop().unwrap();
    let tokens: Vec<_> = upgrade.get_all("x-dressipi-jwt").iter().collect();
    assert!(tokens.len() == 1 && tokens[0].as_bytes().starts_with(b"eyJ"));
    assert!(!upgrade.contains_key("x-visitor-id"));

    // Closed by the client.
    let code = CloseFrame {
        code: CloseCode::Library(4001),
        reason: "done".into(),
    };
    socket.close(Some(code.clone())).await.unwrap();
    assert_eq!(
        socket.next().await.unwrap().unwrap(),
        Message::Close(Some(code))
    );
    assert!(
        socket.next().await.is_none(),
        "the connection is closed too"
    );
    assert_eq!(*echo.closed.lock(), [4001]);

    // Closed by the app.
    let (mut socket, _) = open_websocket(address, "/live", &headers).await;
    socket.send(Message::text("hang up")).await.unwrap();
    let Message::Close(Some(code)) = socket.next().await.unwrap().unwrap() else {
        panic!("no close frame")
    };
    assert_eq!(
        (code.code, code.reason.as_str()),
        (CloseCode::Library(4002), "as asked")
    );
    assert!(socket.next().await.is_none());
    crate::support::eventually("the app has its answer", async || {
        echo.closed.lock().len() == 2
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visitor_who_begins_with_a_websocket_is_given_the_cookie() {
    let echo = EchoSocket::default();
    let dressipi = Dressipi::start().await;
    let sidecar = Sidecar::behind(&dressipi)
        .app_at(echo.start().await)
        .start()
        .await;
    let browser = [("user-agent", crate::support::BROWSER)];
    let (mut socket, answer) = open_websocket(sidecar.address(), "/live", &browser).await;
    let cookie = answer.headers()["set-cookie"].to_str().unwrap();
    let cookie = cookie.split(';').next().unwrap().to_owned();
    socket.send(Message::text("hello")).await.unwrap();
    assert_eq!(
        socket.next().await.unwrap().unwrap(),
        Message::text("hello")
    );
    // They come back as the same visitor, and no cookie of ours gets to the app.
    let again = sidecar.browser(TOP).header("cookie", &cookie);
    let again = again.send().await.unwrap();
    assert_eq!(visitor_cookie(&again), None);
    assert!(profile(again).await.is_some());
    assert_eq!(dressipi.profiles(), 1);
    let headers = [("user-agent", crate::support::BROWSER), ("cookie", &cookie)];
    let (_socket, answer) = open_websocket(sidecar.address(), "/live", &headers).await;
    assert!(!answer.headers().contains_key("set-cookie"));
    let upgrades = echo.upgrades.lock();
    assert!(!upgrades[1].contains_key("cookie"));
    assert_eq!(
        upgrades[0]["x-dressipi-jwt"], upgrades[1]["x-dressipi-jwt"],
        "one visitor, one token"
    );
}

/// The app's 101 comes at once here, often before pingora has noticed that the request has no body.
#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_survives_an_app_that_answers_at_once() {
    let echo = EchoSocket::default();
    let dressipi = Dressipi::start().await;
    let sidecar = Sidecar::behind(&dressipi)
        .app_at(echo.start().await)
        .start()
        .await;
    for _ in 0..200 {
        let (mut socket, _) =
            open_websocket(sidecar.trusted_address(), "/", &[("x-visitor-id", "ada")]).await;
        socket.send(Message::text("hello")).await.unwrap();
        assert_eq!(
            socket.next().await.unwrap().unwrap(),
            Message::text("hello")
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_refuses_an_upgrade_or_is_gone_is_heard() {
    let app = App::start().await;
    let dressipi = Dressipi::start().await;
    let gone = "[[upstreams]]\nname = \"gone\"\naddress = \"127.0.0.1:1\"\n[[routes]]\npath = \"/gone/\"\nupstream = \"gone\"\n";
    let sidecar = Sidecar::behind(&dressipi)
        .app(&app)
        .extra(gone)
        .start()
        .await;
    let upgrade = |path| {
        let request = sidecar.visitor("ada", path);
        let request = request.header("connection", "upgrade");
        request.header("upgrade", "websocket").send()
    };
    for _ in 0..3 {
        let answer = upgrade("/status/403").await.unwrap();
        assert_eq!(answer.status(), 403);
        assert_eq!(answer.text().await.unwrap(), "status 403");
    }
    let answer = upgrade("/gone/").await.unwrap();
    assert_eq!(answer.status(), 502);
    assert_eq!(
        answer.headers()["proxy-status"],
        "dressipi-sidecar; error=connection_refused"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_tunnelled_to_dressipi() {
    let dressipi = Dressipi::start().await;
    let sidecar = Sidecar::behind(&dressipi).start().await;
    let answer = sidecar
        .visitor("ada", "/api/echo")
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 400);
    assert_eq!(json(answer).await["reason"], "upgrade");
    assert_eq!(dressipi.profiles(), 0);

    // Nor does a server get one by answering 101.
    let upstream = RawUpstream::bind().await;
    let sidecar = Sidecar::behind(&dressipi)
        .base_url(format!("http://{}", upstream.address))
        .start()
        .await;
    let mut client = Raw::connect(sidecar.trusted_address()).await;
    client
        .send("GET /api/x HTTP/1.1\r\nhost: shop.example\r\n\r\n")
        .await;
    let mut upstream = upstream.accept().await;
    assert!(!upstream.head().await.contains("upgrade"));
    upstream
        .send(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        )
        .await;
    let head = client.head().await;
    assert!(head.starts_with("http/1.1 502 "), "{head}");
}

async fn echo(answer: http::Response<Incoming>) -> Value {
    assert_eq!(answer.status(), 200);
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice(&body).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_13_http_2_passes_on_an_app_route_with_its_split_cookies() {
    let app = App::start().await;
    let dressipi = Dressipi::start().await;
    let sidecar = Sidecar::behind(&dressipi).app(&app).start().await;
    let cookie = visitor_cookie(&sidecar.browser(TOP).send().await.unwrap()).unwrap();
    let mut client = http2(sidecar.address()).await;
    for (cookies, passed) in [
        (vec!["cart=7", &cookie, "size=12"], "cart=7; size=12"),
        (vec![cookie.as_str(), "cart=7"], "cart=7"),
        (vec!["a=1", "b=2", "a=3"], "a=1; b=2; a=3"),
    ] {
        let known = cookies.contains(&cookie.as_str());
        let mut request = Request::get("http://shop.example/x?y=1")
            .version(Version::HTTP_2)
            .header("user-agent", crate::support::BROWSER);
        for cookie in cookies {
            request = request.header("cookie", cookie);
        }
        let answer = client.send_request(request.body(empty()).unwrap()).await;
        let answer = answer.unwrap();
        assert_eq!(answer.version(), Version::HTTP_2);
        let sets = answer.headers().get_all("set-cookie").iter().count();
        assert_eq!(sets, if known { 1 } else { 2 }, "the app sets one itself");
        let echo = echo(answer).await;
        assert_eq!(echo["target"], "/x?y=1");
        // HTTP/1.1 knows one field line only (RFC 9113 §8.2.3).
        assert_eq!(seen(&echo, "cookie"), [passed]);
        assert_eq!(seen(&echo, "host"), ["shop.example"]);
        assert!(seen(&echo, "x-dressipi-jwt")[0].starts_with("eyJ"));
    }
    assert_eq!(dressipi.profiles(), 2, "the known visitor, and one without");
}

#[tokio::test(flavor = "multi_thread")]
async fn http_2_reaches_dressipi_under_its_own_host_name() {
    let dressipi = Dressipi::start().await;
    let routes =
        "[[routes]]\npath = \"/dressipi/\"\nupstream = \"dressipi\"\nupstream_path = \"/api/\"\n";
    let sidecar = Sidecar::behind(&dressipi).routes(routes).start().await;
    let mut client = http2(sidecar.trusted_address()).await;
    let request = Request::post("http://shop.example/dressipi/echo?y=1")
        .header("x-visitor-id", "ada")
        .body(crate::support::full("{}"))
        .unwrap();
    let echo = echo(client.send_request(request).await.unwrap()).await;
    assert_eq!(echo["path"], "/api/echo");
    assert_eq!(seen(&echo, "host"), [dressipi.address.to_string()]);
    assert!(seen(&echo, "x-dressipi-jwt")[0].starts_with("eyJ"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_http_2_ends_once_in_http_1() {
    let (upstream, dressipi) = (RawUpstream::bind().await, Dressipi::start().await);
    let sidecar = Sidecar::behind(&dressipi)
        .app_at(upstream.address)
        .start()
        .await;
    let mut client = http2(sidecar.trusted_address()).await;
    let (mut frames, body) = fed();
    let request = Request::put("http://shop.example/x").body(body).unwrap();
    let answer = tokio::spawn(client.send_request(request));
    frames.send(Frame::data("hello".into())).await.unwrap();
    // The end comes by itself, in an empty frame.
    drop(frames);
    let mut upstream = upstream.accept().await;
    assert!(upstream.head().await.contains("transfer-encoding: chunked"));
    assert_eq!(
        upstream.until(b"0\r\n\r\n").await,
        b"5\r\nhello\r\n0\r\n\r\n"
    );
    upstream.send(OK).await;
    assert_eq!(answer.await.unwrap().unwrap().status(), 200);
    // Nothing but the next request follows on the connection.
    let request = Request::get("http://shop.example/y").body(empty()).unwrap();
    let answer = tokio::spawn(client.send_request(request));
    let head = upstream.head().await;
    assert!(head.starts_with("get /y http/1.1\r\n"), "{head}");
    upstream.send(OK).await;
    assert_eq!(answer.await.unwrap().unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_is_found_by_its_name() {
    let app = App::start().await;
    let dressipi = Dressipi::start().await;
    let upstream = format!(
        "[[upstreams]]\nname = \"named\"\naddress = \"localhost:{}\"\n[[routes]]\npath = \"/\"\nupstream = \"named\"\n",
        app.address.port()
    );
    let sidecar = Sidecar::behind(&dressipi).extra(&upstream).start().await;
    let echo = json(sidecar.visitor("ada", "/x").send().await.unwrap()).await;
    assert_eq!(echo["target"], "/x");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_without_an_address_holds_nobody_up() {
    let app = App::start().await;
    let dressipi = Dressipi::start().await;
    let upstream = "[[upstreams]]\nname = \"lost\"\naddress = \"nowhere.invalid:80\"\n[[routes]]\npath = \"/lost/\"\nupstream = \"lost\"\n";
    let sidecar = Sidecar::behind(&dressipi)
        .app(&app)
        .extra(upstream)
        .start()
        .await;
    // The visitor has a token by now.
    assert_eq!(
        sidecar.visitor("ada", "/x").send().await.unwrap().status(),
        200
    );
    let begun = Instant::now();
    let answer = sidecar.visitor("ada", "/lost/x").send().await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2));
    assert_eq!(answer.status(), 502);
    assert_eq!(
        answer.headers()["proxy-status"],
        "dressipi-sidecar; error=dns_error"
    );
    assert_eq!(
        json(answer).await["title"],
        "The upstream's name cannot be resolved"
    );
}
