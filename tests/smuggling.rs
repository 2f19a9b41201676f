//! What proxies like this one have been tricked with, class by class of their advisories; each test is named by its class.

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{
    App, BROWSER, Dressipi, Raw, RawUpstream, Sidecar, eventually, full, http1, http2, json, seen,
    send,
};

const BEHIND_A_PROXY: &str = "trusted_proxies = [\"127.0.0.1\"]";

/// Routes with every kind of credentials, to an app that tells what it received.
const ROUTES: &str = r#"
    [[routes]]
    path = "/api/"
    upstream = "dressipi"
    [[routes]]
    path = "/bare/"
    upstream = "app"
    credentials = "none"
    [[routes]]
    path = "/strict/"
    upstream = "dressipi"
    upstream_path = "/api/"
    on_unavailable = "reject"
    [[routes]]
    path = "/shop/"
    upstream = "app"
"#;

async fn start() -> (Dressipi, App, Sidecar) {
    let dressipi = Dressipi::start().await;
    let app = App::start().await;
    let sidecar = Sidecar::behind(&dressipi)
        .routes(ROUTES)
        .app_at(app.address)
        .start()
        .await;
    (dressipi, app, sidecar)
}

async fn before_raw_upstream(configure: impl FnOnce(String) -> String) -> (Sidecar, RawUpstream) {
    let upstream = RawUpstream::bind().await;
    let dressipi = Dressipi::start().await;
    let builder = Sidecar::behind(&dressipi).app_at(upstream.address);
    let text = configure(builder.text());
    (builder.start_text(&text).await, upstream)
}

#[tokio::test(flavor = "multi_thread")]
async fn oauth2_proxy_underscore_headers_are_ours_in_every_spelling_or_refused() {
    let (_dressipi, _app, sidecar) = start().await;
    for path in ["/bare/x", "/shop/x", "/api/echo"] {
        let answer = sidecar
            .visitor("ada", path)
            .header("x_dressipi_jwt", "forged")
            .header("X-Dressipi_JWT", "forged")
            .header("x_visitor_id", "forged")
            .header("x_forwarded_for", "6.6.6.6")
            .header("x_forwarded_email", "root@shop.example")
            .send()
            .await
            .unwrap();
        let echo = json(answer).await.to_string();
        assert!(
            !echo.contains("forged") && !echo.contains("6.6.6.6") && !echo.contains("root@"),
            "{path}: {echo}"
        );
    }
    for name in [
        "content_length",
        "transfer_encoding",
        "Transfer.Encoding",
        "proxy_connection",
    ] {
        let answer = sidecar
            .visitor("ada", "/bare/x")
            .header(name, "0")
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 400, "{name}");
        assert_eq!(json(answer).await["reason"], "spelling");
    }
}

/// Behind a proxy that passes what it does not know, the lookalikes of the headers that it sets are not believed.
#[tokio::test(flavor = "multi_thread")]
async fn oauth2_proxy_underscore_headers_do_not_pass_through_a_trusted_proxy_either() {
    let (sidecar, upstream) = before_raw_upstream(|text| {
        text.replace(
            "[\"header:x-visitor-id\"]",
            &format!("[\"header:x-visitor-id\"]\n{BEHIND_A_PROXY}"),
        )
    })
    .await;
    let mut client = Raw::connect(sidecar.trusted_address()).await;
    client
        .send("GET /x HTTP/1.1\r\nhost: shop.example\r\nx-forwarded-for: 10.0.0.7\r\nx_forwarded_for: 6.6.6.6\r\nx_forwarded-proto: https\r\n\r\n")
        .await;
    let head = upstream.accept().await.head().await;
    assert!(
        head.contains("\r\nx-forwarded-for: 10.0.0.7, 127.0.0.1\r\n"),
        "{head}"
    );
    assert!(
        !head.contains("6.6.6.6") && !head.contains("x_forwarded"),
        "{head}"
    );
}

/// A rule for a path does not match what stands in the query, the fragment or a header that says what the path was.
#[tokio::test(flavor = "multi_thread")]
async fn oauth2_proxy_skip_rules_match_the_path_and_nothing_else() {
    let (_dressipi, _app, sidecar) = start().await;
    for target in [
        "/bare/x?/api/items",
        "/bare/?x=/strict/../api/",
        "/bare/x?//api/%2e%2e/",
    ] {
        let answer = sidecar
            .visitor("ada", target)
            .header("x-forwarded-uri", "/api/items")
            .header("x-original-url", "/api/items")
            .header("x-rewrite-url", "/api/items")
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200, "{target}");
        let echo = json(answer).await;
        assert_eq!(echo["target"], target, "matched and forwarded alike");
        assert!(seen(&echo, "x-dressipi-jwt").is_empty());
    }
    for target in ["/bare/x#/api/items", "/api/items#/bare/"] {
        let mut client = Raw::connect(sidecar.trusted_address()).await;
        client
            .send(format!(
                "GET {target} HTTP/1.1\r\nhost: shop.example\r\n\r\n"
            ))
            .await;
        assert!(client.head().await.starts_with("http/1.1 400 "), "{target}");
    }
}

/// Whatever the user agent, secrets go to the route's upstream only, and paths that could mean another route go nowhere.
#[tokio::test(flavor = "multi_thread")]
async fn oauth2_proxy_skip_rules_cannot_be_met_by_another_spelling_of_the_path() {
    let (dressipi, _app, sidecar) = start().await;
    let before = dressipi.profiles();
    for target in [
        "/bare/..%2fapi/items",
        "/bare/%2e%2e/api/items",
        "/bare//../api/items",
        "/bare;/../api/",
        "//api/items",
        "/api;x/items",
        "/%61pi/items",
        "/bare\\..\\api\\items",
        "/api/..%2fshop/x",
        "/api/%2e%2e/shop/x",
        "/api/..;/shop/x",
        "/bare%2f..%2fapi/x",
        "/shop%2fx",
        "/shop%252fx",
    ] {
        let mut client = Raw::connect(sidecar.trusted_address()).await;
        client
            .send(format!("GET {target} HTTP/1.1\r\nhost: shop.example\r\nx-visitor-id: ada\r\nuser-agent: kube-probe/1.30\r\n\r\n"))
            .await;
        assert!(client.head().await.starts_with("http/1.1 400 "), "{target}");
        let problem: Value = serde_json::from_slice(&client.rest().await).unwrap();
        assert_eq!(problem["reason"], "ambiguous_path", "{target}");
    }
    assert_eq!(dressipi.profiles(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn traefik_connection_cannot_remove_what_the_proxies_have_set() {
    let (sidecar, upstream) = before_raw_upstream(|text| {
        text.replace(
            "[\"header:x-visitor-id\"]",
            &format!("[\"header:x-visitor-id\"]\n{BEHIND_A_PROXY}"),
        )
    })
    .await;
    for name in [
        "X-Forwarded-For",
        "x-forwarded-proto",
        "X-Forwarded-Host",
        "forwarded",
        "X-Real-Ip",
        "host",
        "cookie",
        "Sec-GPC",
    ] {
        let mut client = Raw::connect(sidecar.trusted_address()).await;
        client
            .send(format!("GET /x HTTP/1.1\r\nhost: shop.example\r\nx-forwarded-for: 10.0.0.7\r\nconnection: keep-alive, {name}\r\n\r\n"))
            .await;
        assert!(client.head().await.starts_with("http/1.1 400 "), "{name}");
    }
    // What we add comes after the stripping, so it cannot be named away.
    let mut client = Raw::connect(sidecar.trusted_address()).await;
    client
        .send("GET /x HTTP/1.1\r\nhost: shop.example\r\nx-visitor-id: ada\r\nx-own-hop: 1\r\nconnection: x-dressipi-jwt, x-visitor-id, traceparent, x-own-hop\r\n\r\n")
        .await;
    let head = upstream.accept().await.head().await;
    assert!(
        head.contains("\r\nx-dressipi-jwt: eyj")
            && head.contains("\r\nx-forwarded-for: 127.0.0.1\r\n"),
        "{head}"
    );
    assert!(
        !head.contains("x-own-hop") && !head.contains("x-visitor-id"),
        "{head}"
    );
}

/// A header that is only set where it is missing is the client's to choose. Ours are removed even where none is set.
#[tokio::test(flavor = "multi_thread")]
async fn caddy_set_if_absent_leaves_no_header_of_the_client_in_place_of_ours() {
    let (_dressipi, _app, sidecar) = start().await;
    for path in ["/bare/x", "/shop/x", "/api/echo"] {
        for value in ["forged", "", " "] {
            // Nobody: there is no token to set.
            let request = http::Request::get(path)
                .header("host", "shop.example")
                .header("user-agent", BROWSER)
                .header("x-dressipi-jwt", value)
                .header("x-dressipi-jwt", "forged")
                .header("x-forwarded-proto", "https")
                .header("x-forwarded-host", "forged.example")
                .body(full(""))
                .unwrap();
            let mut client = http1(sidecar.trusted_address()).await;
            let answer = send(&mut client, request).await;
            assert_eq!(answer.status(), 200);
            let body = http_body_util::BodyExt::collect(answer.into_body())
                .await
                .unwrap()
                .to_bytes();
            let echo: Value = serde_json::from_slice(&body).unwrap();
            assert!(seen(&echo, "x-dressipi-jwt").is_empty(), "{path}: {echo}");
            assert_eq!(seen(&echo, "x-forwarded-proto"), ["http"]);
            assert!(!echo.to_string().contains("forged"), "{path}: {echo}");
        }
    }
}

/// After an answer of its own the sidecar neither goes on with the request nor takes its body for another one.
#[tokio::test(flavor = "multi_thread")]
async fn envoy_answer_then_continue_ends_with_the_answer() {
    let (sidecar, upstream) = before_raw_upstream(|text| {
        text.replace(
            "\n[[routes]]\npath = \"/\"\nupstream = \"app\"\n",
            "\n[[routes]]\npath = \"/shop/\"\nupstream = \"app\"\n",
        )
    })
    .await;
    let hidden = "GET /shop/hidden HTTP/1.1\r\nhost: shop.example\r\n\r\n";
    for (head, status) in [
        (
            "POST /elsewhere HTTP/1.1\r\nhost: shop.example\r\ncontent-length: 100000\r\n\r\n",
            "404",
        ),
        (
            "POST /elsewhere HTTP/1.1\r\nhost: shop.example\r\ntransfer-encoding: chunked\r\n\r\n186a0\r\n",
            "404",
        ),
        (
            "POST /elsewhere HTTP/1.1\r\nhost: shop.example\r\nexpect: 100-continue\r\ncontent-length: 51\r\n\r\n",
            "404",
        ),
        (
            "POST /shop/x HTTP/1.1\r\nhost: shop.example\r\ncontent-length: 5\r\ncontent-length: 51\r\n\r\n",
            "400",
        ),
        (
            "POST /shop/.. HTTP/1.1\r\nhost: shop.example\r\ncontent-length: 100000\r\n\r\n",
            "400",
        ),
    ] {
        let mut client = Raw::connect(sidecar.trusted_address()).await;
        client.send(format!("{head}{}", hidden.repeat(3))).await;
        let answer = client.head().await;
        assert!(
            answer.starts_with(&format!("http/1.1 {status} ")),
            "{head}: {answer}"
        );
        assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
        let rest = String::from_utf8_lossy(&client.rest().await).to_ascii_lowercase();
        assert!(!rest.contains("http/1.1"), "{rest}");
    }
    // The first that the upstream hears of is this one.
    let mut client = Raw::connect(sidecar.trusted_address()).await;
    client
        .send("GET /shop/last HTTP/1.1\r\nhost: shop.example\r\n\r\n")
        .await;
    let head = upstream.accept().await.head().await;
    assert!(head.starts_with("get /shop/last "), "{head}");
}

#[tokio::test(flavor = "multi_thread")]
async fn shared_cache_leaks_of_set_cookie_no_answer_with_our_cookie_may_be_kept() {
    let dressipi = Dressipi::start().await;
    let app = App::start().await;
    let sidecar = Sidecar::behind(&dressipi).app(&app).start().await;
    for path in [
        "/cached",
        "/cached?x=style.css",
        "/status/301",
        "/status/404",
        "/status/410",
        "/status/500",
        "/status/203",
        "/api/echo",
        "/x/style.css",
    ] {
        for method in [reqwest::Method::GET, reqwest::Method::HEAD] {
            let request = sidecar
                .client
                .request(method, format!("http://{}{path}", sidecar.address()));
            let answer = request.send().await.unwrap();
            let headers = answer.headers();
            let ours = headers
                .get_all("set-cookie")
                .iter()
                .any(|value| value.as_bytes().starts_with(b"visitor="));
            assert!(ours, "{path}: every browser without a cookie gets one");
            assert_eq!(
                headers.get_all("cache-control").iter().collect::<Vec<_>>(),
                ["private, no-store"],
                "{path}"
            );
            for name in ["expires", "surrogate-control", "cdn-cache-control"] {
                assert!(!headers.contains_key(name), "{path}: {name}");
            }
        }
    }
}

/// HTTP/2 by upgrade would be a tunnel to the upstream, in which nothing is stripped.
#[tokio::test(flavor = "multi_thread")]
async fn h2c_smuggling_finds_no_tunnel() {
    let (_dressipi, _app, sidecar) = start().await;
    for upgrade in ["websocket, h2c", "h2c\r\nupgrade: websocket", "HTTP/2.0"] {
        let mut client = Raw::connect(sidecar.trusted_address()).await;
        client
            .send(format!(
                "GET /shop/x HTTP/1.1\r\nhost: shop.example\r\nconnection: Upgrade, HTTP2-Settings\r\nupgrade: {upgrade}\r\nhttp2-settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n"
            ))
            .await;
        assert!(
            client.head().await.starts_with("http/1.1 400 "),
            "{upgrade}"
        );
    }
}

/// Java's client offers HTTP/2 with its first request, whatever it sends.
#[tokio::test(flavor = "multi_thread")]
async fn an_offer_of_h2c_is_ignored_and_goes_no_further() {
    let (sidecar, upstream) = before_raw_upstream(|text| text).await;
    let mut client = Raw::connect(sidecar.trusted_address()).await;
    for _ in 0..2 {
        client
            .send(
                "POST /x HTTP/1.1\r\nhost: a\r\nconnection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAARAAAAAAAIAAAAA\r\ncontent-length: 3\r\n\r\none",
            )
            .await;
        let mut upstream = upstream.accept().await;
        let head = upstream.head().await;
        for name in ["upgrade", "http2-settings"] {
            assert!(!head.contains(name), "{head}");
        }
        assert_eq!(upstream.exactly(3).await, b"one");
        upstream
            .send("HTTP/1.1 200 OK\r\ncontent-length: 1\r\nconnection: close\r\n\r\n1")
            .await;
        assert!(client.head().await.starts_with("http/1.1 200 "));
        assert_eq!(client.exactly(1).await, b"1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_route_may_forbid_upgrades() {
    let (sidecar, _upstream) = before_raw_upstream(|text| {
        text.replace("path = \"/\"\n", "path = \"/\"\nupgrade = false\n")
    })
    .await;
    let mut client = Raw::connect(sidecar.trusted_address()).await;
    client
        .send("GET /x HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
        .await;
    assert!(client.head().await.starts_with("http/1.1 400 "));
}

/// An upstream that switches protocols unasked would own what follows on the client's connection.
#[tokio::test(flavor = "multi_thread")]
async fn response_smuggling_by_an_unasked_101_is_an_error_of_the_upstream() {
    let (sidecar, upstream) = before_raw_upstream(|text| text).await;
    let mut client = Raw::connect(sidecar.trusted_address()).await;
    client.send("GET /x HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let mut upstream = upstream.accept().await;
    upstream.head().await;
    upstream.send("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n").await;
    let head = client.head().await;
    assert!(head.starts_with("http/1.1 502 "), "{head}");
}

/// Once the head is on its way a malformed chunk can only break the request off; it never becomes a whole one.
#[tokio::test(flavor = "multi_thread")]
async fn invariant_14_a_chunk_that_turns_out_malformed_breaks_the_request_off() {
    let (sidecar, upstream) = before_raw_upstream(|text| text).await;
    let mut client = Raw::connect(sidecar.trusted_address()).await;
    client
        .send("POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n")
        .await;
    let mut upstream = upstream.accept().await;
    upstream.head().await;
    upstream.until(b"hello\r\n").await;
    client
        .send("0x5\r\nworld\r\n0\r\n\r\nGET /hidden HTTP/1.1\r\nhost: a\r\n\r\n")
        .await;
    let head = client.head().await;
    assert!(
        head.starts_with("http/1.1 400 ") && head.contains("connection: close"),
        "{head}"
    );
    assert_eq!(
        client.rest().await,
        br#"{"reason":"chunk","status":400,"title":"A chunk of the body is malformed"}"#
    );
    assert_eq!(
        upstream.rest().await,
        b"",
        "neither the last chunk nor another request"
    );
    sidecar
        .counts("refused_requests_total", "reason=\"chunk\"", 1.0)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_requests_are_served_one_after_the_other() {
    let (sidecar, upstream) = before_raw_upstream(|text| text).await;
    let mut client = Raw::connect(sidecar.trusted_address()).await;
    client
        .send("POST /1 HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\noneGET /2 HTTP/1.1\r\nhost: a\r\n\r\nPUT /3 HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nth")
        .await;
    let mut upstream = upstream.accept().await;
    assert!(upstream.head().await.starts_with("post /1 "));
    assert_eq!(upstream.exactly(3).await, b"one");
    upstream
        .send("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n1")
        .await;
    assert!(upstream.head().await.starts_with("get /2 "));
    upstream
        .send("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n2")
        .await;
    assert!(upstream.head().await.starts_with("put /3 "));
    client.send("ree\r\n0\r\n\r\nGET /4 HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\nGET /5 HTTP/1.1\r\nhost: a\r\n\r\n").await;
    upstream.until(b"0\r\n\r\n").await;
    upstream
        .send("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n3")
        .await;
    let answers = String::from_utf8(client.rest().await).unwrap();
    let statuses: Vec<_> = answers
        .match_indices("HTTP/1.1 ")
        .map(|(at, _)| &answers[at + 9..at + 12])
        .collect();
    assert_eq!(statuses, ["200", "200", "200", "400"], "{answers}");
    assert!(answers.contains("doubled_host"), "{answers}");
}

/// What a client sends before it knows whether its upgrade is granted belongs to the tunnel, if there is one, and is a request
/// otherwise.
#[tokio::test(flavor = "multi_thread")]
async fn what_follows_an_upgrade_is_judged_when_its_answer_is_known() {
    let (sidecar, server) = before_raw_upstream(|text| text).await;
    let ask =
        "GET /socket HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    let mut client = Raw::connect(sidecar.trusted_address()).await;
    client.send([ask.as_bytes(), b"\0early\n"].concat()).await;
    let mut upstream = server.accept().await;
    upstream.head().await;
    upstream
        .send(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        )
        .await;
    assert!(client.head().await.starts_with("http/1.1 101 "));
    assert_eq!(upstream.exactly(7).await, b"\0early\n");
    client.send(b"\xff\x00").await;
    assert_eq!(upstream.exactly(2).await, b"\xff\x00");

    let mut client = Raw::connect(sidecar.trusted_address()).await;
    client.send([ask.as_bytes(), b"\0early\n"].concat()).await;
    let mut upstream = server.accept().await;
    upstream.head().await;
    upstream
        .send("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")
        .await;
    assert!(client.head().await.starts_with("http/1.1 403 "));
    assert!(client.head().await.starts_with("http/1.1 400 "));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_does_not_come_to_its_end_is_answered_408() {
    let (sidecar, _upstream) =
        before_raw_upstream(|text| format!("{text}\n[limits]\nheader_timeout = \"200ms\"\n")).await;
    for beginning in [
        "GET /this-is-longer-than-a-preface HTTP/1.1\r\nhost: a\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx: ",
    ] {
        let mut client = Raw::connect(sidecar.trusted_address()).await;
        client.send(beginning).await;
        let head = client.head().await;
        assert!(
            head.starts_with("http/1.1 408 ") && head.contains("connection: close"),
            "{head}"
        );
    }
    // Not even enough to tell HTTP/2 from HTTP/1.1.
    let mut client = Raw::connect(sidecar.trusted_address()).await;
    client.send("PRI * HTTP/2").await;
    assert_eq!(client.rest().await, b"");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_is_too_much_is_answered_431() {
    let limits = "[limits]\nheader_bytes = 2000\nheader_count = 20";
    let (sidecar, _upstream) = before_raw_upstream(|text| format!("{text}\n{limits}\n")).await;
    for (much, reason) in [
        ("x: 1\r\n".repeat(21), "header_count"),
        (format!("x: {}\r\n", "1".repeat(2000)), "header_bytes"),
        // Without an end, so that it is refused on the way.
        (format!("x: {}", "1".repeat(4000)), "header_bytes"),
    ] {
        let mut client = Raw::connect(sidecar.trusted_address()).await;
        let head = format!("GET /x HTTP/1.1\r\nhost: a\r\n{much}\r\n");
        client
            .send(head.trim_end_matches("\r\n").to_owned() + "\r\n\r\n")
            .await;
        let head = client.head().await;
        assert!(head.starts_with("http/1.1 431 "), "{head}");
        let labels = format!("reason=\"{reason}\"");
        sidecar.counts("refused_requests_total", &labels, 1.0).await;
    }
    let mut client = http2(sidecar.trusted_address()).await;
    let mut request = http::Request::get("http://a/x");
    for number in 0..21 {
        request = request.header(format!("x-{number}"), "1");
    }
    client.ready().await.unwrap();
    let answer = client.send_request(request.body(full("")).unwrap());
    assert_eq!(answer.await.unwrap().status(), 431);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_arrives_too_slowly_is_broken_off() {
    let limits = "[limits]\nbody_rate = 1000\nbody_grace = \"50ms\"";
    let (sidecar, upstream) = before_raw_upstream(|text| format!("{text}\n{limits}\n")).await;
    let mut client = Raw::connect(sidecar.trusted_address()).await;
    client
        .send("POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n")
        .await;
    let mut upstream = upstream.accept().await;
    upstream.head().await;
    // Slower than asked for, however late the sidecar looks.
    let answer = loop {
        let dribble = client.stream().write_all(b"x");
        if dribble.await.is_err() {
            break client.rest().await;
        }
        let waiting = tokio::time::timeout(std::time::Duration::from_millis(20), client.some());
        if let Ok(answer) = waiting.await {
            break answer;
        }
    };
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    sidecar
        .counts("refused_requests_total", "reason=\"body_rate\"", 1.0)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_and_their_requests_are_limited() {
    let limits = "[limits]\nconnections = 2\nrequests_per_connection = 2";
    let dressipi = Dressipi::start().await;
    let app = App::start().await;
    let sidecar = Sidecar::behind(&dressipi)
        .app(&app)
        .extra(limits)
        .start()
        .await;
    let mut one = http1(sidecar.trusted_address()).await;
    let request = || {
        http::Request::get("/x")
            .header("host", "a")
            .body(full(""))
            .unwrap()
    };
    assert_eq!(
        send(&mut one, request()).await.headers()["connection"],
        "keep-alive"
    );
    let _two = Raw::connect(sidecar.trusted_address()).await;
    sidecar.admin("/livez").await;
    let three = Raw::connect(sidecar.trusted_address()).await;
    assert_eq!(three.rest().await, b"");
    sidecar
        .counts("refused_connections_total", "limit=\"connections\"", 1.0)
        .await;
    assert_eq!(
        send(&mut one, request()).await.headers()["connection"],
        "close"
    );
    // Its place is given back.
    eventually("a place", async || {
        let mut client = Raw::connect(sidecar.trusted_address()).await;
        is_answered(&mut client).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_is_closed() {
    let dressipi = Dressipi::start().await;
    let app = App::start().await;
    let sidecar = Sidecar::behind(&dressipi)
        .app(&app)
        .extra("[limits]\nidle_timeout = \"100ms\"")
        .start()
        .await;
    let mut idle = Raw::connect(sidecar.trusted_address()).await;
    assert!(is_answered(&mut idle).await);
    while !idle.some().await.is_empty() {}
}

/// Whether a request is answered, and not the whole connection refused.
async fn is_answered(client: &mut Raw) -> bool {
    let request = b"GET /x HTTP/1.1\r\nhost: a\r\n\r\n";
    let mut answer = [0];
    client.stream().write_all(request).await.is_ok()
        && matches!(client.stream().read(&mut answer).await, Ok(1))
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_14_http_2_brings_no_ambiguity_to_the_upstream() {
    let (_dressipi, _app, sidecar) = start().await;
    let mut client = http2(sidecar.trusted_address()).await;
    let mut ask = async |uri: &str, fields: &[(&'static str, &'static str)]| {
        let mut request = http::Request::get(format!("http://shop.example{uri}"));
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        client.ready().await.unwrap();
        client
            .send_request(request.body(full("")).unwrap())
            .await
            .unwrap()
            .status()
            .as_u16()
    };
    assert_eq!(ask("/bare/x?a=/../b", &[("x_own", "1")]).await, 200);
    for (uri, fields) in [
        ("/bare/x", vec![("content_length", "5")]),
        ("/bare/x", vec![("transfer_encoding", "chunked")]),
        ("/bare/x", vec![("host", "other.example")]),
        ("/bare/%2e%2e/api/items", vec![]),
        ("//api/items", vec![]),
        ("/api;x/items", vec![]),
    ] {
        assert_eq!(ask(uri, &fields).await, 400, "{uri} {fields:?}");
    }
    assert_eq!(ask("/bare/x", &[]).await, 200, "the connection goes on");
}
