//! Who is a visitor, and what may pass: invariants 7, 8, 9, 13 and 16 over real sockets.

use crate::support::{App, Dressipi, Sidecar, json, profile, seen, visitor_cookie};

const TOP: &str = "/api/items/top?client_id=demo";

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_is_known_by_the_cookie_that_it_was_given() {
    let dressipi = Dressipi::start().await;
    let sidecar = Sidecar::behind(&dressipi).start().await;
    let first = sidecar.browser(TOP).send().await.unwrap();
    let cookie = visitor_cookie(&first).unwrap();
    let first = profile(first).await.unwrap();
    let again = sidecar
        .browser(TOP)
        .header("cookie", &cookie)
        .send()
        .await
        .unwrap();
    assert_eq!(
        visitor_cookie(&again),
        None,
        "a known visitor's cookie is not set again"
    );
    assert_eq!(profile(again).await, Some(first.clone()));
    assert_ne!(
        profile(sidecar.browser(TOP).send().await.unwrap()).await,
        Some(first)
    );
    assert_eq!(dressipi.profiles(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_16_the_cookie_is_never_set_on_an_answer_that_a_shared_cache_may_store() {
    let dressipi = Dressipi::start().await;
    let app = App::start().await;
    let sidecar = Sidecar::behind(&dressipi).app(&app).start().await;
    let first = sidecar.browser("/cached").send().await.unwrap();
    let cookie = visitor_cookie(&first).unwrap();
    let cache_control: Vec<_> = first.headers().get_all("cache-control").iter().collect();
    assert_eq!(cache_control, ["private, no-store"]);
    assert!(
        !first.headers().contains_key("surrogate-control")
            && !first.headers().contains_key("expires")
    );
    // Once the visitor is known, the app's answer is as cacheable as the app says.
    let again = sidecar
        .browser("/cached")
        .header("cookie", cookie)
        .send()
        .await
        .unwrap();
    assert_eq!(again.headers()["cache-control"], "public, max-age=31536000");
    assert!(!again.headers().contains_key("set-cookie"));
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_7_no_client_sent_credential_reaches_an_upstream_and_no_secret_the_client() {
    let dressipi = Dressipi::start().await;
    let app = App::start().await;
    let sidecar = Sidecar::behind(&dressipi).app(&app).start().await;
    for path in ["/api/echo", "/anything"] {
        let answer = sidecar
            .visitor("ada", path)
            .header("X-Dressipi-JWT", "forged")
            .header("x_dressipi_jwt", "forged")
            .header("X-Dressipi_Jwt", "forged")
            .header("X-API-KEY", "forged")
            .header("x_api_key", "forged")
            .header("x_visitor_id", "forged")
            .header("authorization", "Bearer own")
            .header(
                "cookie",
                "visitor=forged; drsp=forged; dressipi_jwt=forged; own=1",
            )
            .header("connection", "x-own-hop")
            .header("x-own-hop", "forged")
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
        for (name, value) in answer.headers() {
            assert!(!value.to_str().unwrap().contains("demo-api-key"), "{name}");
            assert!(
                !name.as_str().contains("jwt") && !name.as_str().contains("api-key"),
                "{name}"
            );
        }
        let to_dressipi = path.starts_with("/api");
        if to_dressipi {
            assert!(
                !answer.headers().contains_key("set-cookie"),
                "the vendor's cookies stay with the vendor"
            );
        } else {
            assert_eq!(answer.headers()["set-cookie"], "cart=7");
        }
        let echo = json(answer).await;
        let text = echo.to_string();
        assert_eq!(text.contains("forged"), !to_dressipi, "on {path}: {text}");
        assert!(
            !text.contains("x_dressipi_jwt")
                && !text.contains("x_api_key")
                && !text.contains("x-own-hop"),
            "{text}"
        );
        assert_eq!(seen(&echo, "x-dressipi-jwt").len(), 1);
        assert!(seen(&echo, "x-dressipi-jwt")[0].starts_with("eyJ"));
        assert!(seen(&echo, "x-visitor-id").is_empty() && seen(&echo, "x_visitor_id").is_empty());
        if to_dressipi {
            assert_eq!(seen(&echo, "x-api-key"), ["demo-api-key"]);
            assert!(seen(&echo, "cookie").is_empty() && seen(&echo, "authorization").is_empty());
            assert_eq!(seen(&echo, "host"), [dressipi.address.to_string()]);
        } else {
            assert!(
                seen(&echo, "x-api-key").is_empty(),
                "the app needs no API key"
            );
            assert_eq!(seen(&echo, "authorization"), ["Bearer own"]);
            assert_eq!(
                seen(&echo, "cookie"),
                ["drsp=forged; dressipi_jwt=forged; own=1"]
            );
        }
    }
    let totals = dressipi.simulator.totals();
    assert_eq!(
        (totals.foreign_tokens_received, totals.cookies_received),
        (0, 0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_upstream_learns_where_the_request_came_from_and_is_told_nothing_by_strangers() {
    let dressipi = Dressipi::start().await;
    let app = App::start().await;
    let sidecar = Sidecar::behind(&dressipi).app(&app).start().await;
    let request = sidecar
        .browser("/x")
        .header("x-forwarded-for", "6.6.6.6")
        .header("x-forwarded-host", "evil.example")
        .header("forwarded", "for=6.6.6.6");
    let echo = json(request.send().await.unwrap()).await;
    assert_eq!(seen(&echo, "x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(seen(&echo, "x-forwarded-proto"), ["http"]);
    assert_eq!(seen(&echo, "host"), [sidecar.address().to_string()]);
    for name in ["x-forwarded-host", "forwarded"] {
        assert!(seen(&echo, name).is_empty(), "{name}");
    }
    // Dressipi gets a `Host` of its own, and learns which one the client asked for; a trace goes on.
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let request = sidecar.browser("/api/echo").header("traceparent", parent);
    let echo = json(request.send().await.unwrap()).await;
    let asked = sidecar.address().to_string();
    assert_eq!(seen(&echo, "x-forwarded-host"), [asked]);
    assert_eq!(seen(&echo, "traceparent"), [parent]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_rewrites_its_prefix_and_may_pass_listed_cookies_and_the_network_user_id() {
    let dressipi = Dressipi::start().await;
    let app = App::start().await;
    let routes = r#"
        [[routes]]
        path = "/dressipi/api/"
        upstream = "dressipi"
        upstream_path = "/api/"
        cookies = ["locale"]
        [[routes]]
        path = "/key/"
        upstream = "dressipi"
        upstream_path = "/api/"
        credentials = "api-key"
        [[routes]]
        path = "/none/"
        upstream = "dressipi"
        upstream_path = "/api/"
        credentials = "none"
        [[routes]]
        path = "/"
        upstream = "app"
        subn_header = "x-network-user"
    "#;
    let sidecar = Sidecar::behind(&dressipi)
        .app(&app)
        .routes(routes)
        .start()
        .await;
    let request = sidecar
        .visitor("ada", "/dressipi/api/echo?q=/dressipi/api/")
        .header("cookie", "locale=en; own=1");
    let echo = json(request.send().await.unwrap()).await;
    assert_eq!(echo["path"], "/api/echo");
    assert_eq!(echo["query"], "q=/dressipi/api/");
    assert_eq!(seen(&echo, "cookie"), ["locale=en"]);

    let echo = json(sidecar.visitor("ada", "/key/echo").send().await.unwrap()).await;
    assert_eq!(
        (
            seen(&echo, "x-api-key").len(),
            seen(&echo, "x-dressipi-jwt").len()
        ),
        (1, 0)
    );
    let echo = json(sidecar.visitor("ada", "/none/echo").send().await.unwrap()).await;
    assert_eq!(
        (
            seen(&echo, "x-api-key").len(),
            seen(&echo, "x-dressipi-jwt").len()
        ),
        (0, 0)
    );
    let echo = json(
        sidecar
            .visitor("ada", "/x")
            .header("x-network-user", "forged")
            .send()
            .await
            .unwrap(),
    )
    .await;
    let subn = seen(&echo, "x-network-user");
    assert!(subn.len() == 1 && subn[0] != "forged", "{subn:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_8_a_forged_cookie_is_as_none_and_costs_no_store_access() {
    let dressipi = Dressipi::start().await;
    let sidecar = Sidecar::behind(&dressipi)
        .extra("[creation]\ncreate = \"returning\"")
        .start()
        .await;
    let minted = visitor_cookie(&sidecar.browser(TOP).send().await.unwrap()).unwrap();
    let forged = format!(
        "{}{}",
        &minted[..minted.len() - 2],
        if minted.ends_with("AA") { "BB" } else { "AA" }
    );
    let oversized = format!("visitor={}", "A".repeat(5000));
    let doubled = format!("{minted}; {forged}");
    for cookie in [
        forged.as_str(),
        "visitor=",
        "visitor=x",
        &oversized,
        &doubled,
    ] {
        let answer = sidecar
            .browser(TOP)
            .header("cookie", cookie)
            .send()
            .await
            .unwrap();
        assert_eq!(
            answer.headers()["dressipi-sidecar"],
            "anonymous; reason=not-created"
        );
        assert!(
            visitor_cookie(&answer).is_some(),
            "as a client without a cookie, it gets one"
        );
        assert_eq!(profile(answer).await, None);
    }
    assert_eq!(sidecar.metric("store_calls_total", "").await, 0.0);
    assert_eq!(dressipi.profiles(), 0);
    // The one that comes back is a visitor.
    assert!(
        profile(
            sidecar
                .browser(TOP)
                .header("cookie", &minted)
                .send()
                .await
                .unwrap()
        )
        .await
        .is_some()
    );
    assert_eq!(dressipi.profiles(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_9_opt_out_missing_consent_bots_and_probes_create_no_profile() {
    let dressipi = Dressipi::start().await;
    let sidecar = Sidecar::behind(&dressipi)
        .extra("[consent]\nrequired_cookie = \"consent\"\nrequired_value = \"yes\"")
        .start()
        .await;
    let cases = [
        (&[("cookie", "consent=yes; dressipi_dnt=1")][..], "opt-out"),
        (&[("cookie", "consent=yes"), ("sec-gpc", "1")], "opt-out"),
        (&[], "no-consent"),
        (&[("cookie", "consent=no")], "no-consent"),
        (
            &[("cookie", "consent=yes"), ("user-agent", "Googlebot/2.1")],
            "bot",
        ),
        (
            &[("cookie", "consent=yes"), ("user-agent", "kube-probe/1.31")],
            "probe",
        ),
        (
            &[("cookie", "consent=yes"), ("sec-purpose", "prefetch")],
            "prefetch",
        ),
    ];
    for (headers, reason) in cases {
        let mut request = sidecar.browser(TOP);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(
            answer.headers()["dressipi-sidecar"],
            format!("anonymous; reason={reason}"),
            "{headers:?}"
        );
        assert_eq!(profile(answer).await, None);
        sidecar
            .counts("unpersonalised_requests_total", reason, 1.0)
            .await;
    }
    assert_eq!(dressipi.profiles(), 0);
    assert!(
        profile(
            sidecar
                .browser(TOP)
                .header("cookie", "consent=yes")
                .send()
                .await
                .unwrap()
        )
        .await
        .is_some()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_9_a_known_visitor_who_opts_out_is_forgotten() {
    let dressipi = Dressipi::start().await;
    let sidecar = Sidecar::behind(&dressipi).start().await;
    let answer = sidecar.browser(TOP).send().await.unwrap();
    let cookie = visitor_cookie(&answer).unwrap();
    let before = profile(answer).await.unwrap();
    let answer = sidecar
        .browser(TOP)
        .header("cookie", format!("{cookie}; dressipi_dnt=1"))
        .send()
        .await
        .unwrap();
    let set_cookie = answer.headers()["set-cookie"].to_str().unwrap().to_owned();
    assert!(
        set_cookie.starts_with("visitor=; Max-Age=0"),
        "{set_cookie}"
    );
    assert_eq!(profile(answer).await, None);
    crate::support::eventually("the session is gone", async || {
        sidecar.metric("sessions", "active").await == 0.0
    })
    .await;
    // Consenting again makes a new profile.
    let after = profile(
        sidecar
            .browser(TOP)
            .header("cookie", &cookie)
            .send()
            .await
            .unwrap(),
    )
    .await;
    assert!(after.is_some() && after != Some(before));
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_13_client_and_server_errors_of_upstreams_pass_unchanged() {
    let dressipi = Dressipi::start().await;
    let app = App::start().await;
    let sidecar = Sidecar::behind(&dressipi).app(&app).start().await;
    for status in [400, 401, 403, 404, 418, 422, 429, 500, 503] {
        let answer = sidecar
            .visitor("ada", &format!("/status/{status}"))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), status);
        assert_eq!(answer.headers()["x-own"], "kept");
        assert_eq!(answer.text().await.unwrap(), format!("status {status}"));
    }
    let unknown = sidecar.visitor("ada", "/api/items/0").send().await.unwrap();
    assert_eq!(unknown.status(), 422);
    assert_eq!(json(unknown).await["error"]["message"], "Garment not found");
    assert_eq!(
        sidecar
            .visitor("ada", "/api/items/top")
            .send()
            .await
            .unwrap()
            .status(),
        400
    );
    assert_eq!(
        dressipi
            .simulator
            .totals()
            .token_calls_of("refresh_token", "ok"),
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_sidecar_answers_by_itself_is_a_problem_document() {
    let dressipi = Dressipi::start().await;
    let sidecar = Sidecar::behind(&dressipi)
        .extra("[[upstreams]]\nname = \"gone\"\naddress = \"127.0.0.1:1\"\n[[routes]]\npath = \"/gone/\"\nupstream = \"gone\"")
        .start()
        .await;
    let unrouted = sidecar.visitor("ada", "/elsewhere").send().await.unwrap();
    assert_eq!(unrouted.status(), 404);
    assert_eq!(
        unrouted.headers()["proxy-status"],
        "dressipi-sidecar; error=destination_not_found"
    );
    let gone = sidecar.visitor("ada", "/gone/x").send().await.unwrap();
    assert_eq!(gone.status(), 502);
    assert_eq!(
        gone.headers()["proxy-status"],
        "dressipi-sidecar; error=connection_refused"
    );
    assert_eq!(json(gone).await["status"], 502);
}

#[tokio::test(flavor = "multi_thread")]
async fn health_says_alive_and_ready_and_metrics_are_on_their_path_only() {
    let dressipi = Dressipi::start().await;
    let sidecar = Sidecar::behind(&dressipi).start().await;
    assert_eq!(sidecar.admin("/livez").await.status(), 200);
    assert_eq!(sidecar.admin("/readyz").await.status(), 200);
    assert_eq!(sidecar.admin("/elsewhere").await.status(), 404);
    let metrics = sidecar.admin("/metrics").await;
    assert!(
        metrics.headers()["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/plain; version=0.0.4")
    );
}
