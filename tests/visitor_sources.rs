//! Where a visitor's identity comes from: the app's cookie, a header of listed peers, a cookie of ours that lives on.

use dressipi_sidecar::simulator::{Endpoint, Fault, FaultKind};

use crate::support::{
    App, Dressipi, Sidecar, SidecarBuilder, eventually, json, profile, seen, visitor_cookie,
};

const TOP: &str = "/api/items/top?client_id=demo";
const SESSION: &str = "sid=0123456789abcdef";

/// A sidecar whose second listener has these keys.
async fn start(builder: SidecarBuilder, listener: &str) -> Sidecar {
    let text = builder.text();
    let before = "visitor = [\"header:x-visitor-id\"]";
    assert!(text.contains(before));
    builder.start_text(&text.replace(before, listener)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_from_a_peer_that_is_not_listed_counts_as_none() {
    let dressipi = Dressipi::start().await;
    let keys = |peers: &str| {
        format!(
            "visitor = [\"header:x-visitor-id\"]\nidentity_peers = {peers}\ntrusted_proxies = [\"127.0.0.1\"]"
        )
    };
    let sidecar = start(Sidecar::behind(&dressipi), &keys("[\"192.0.2.0/24\"]")).await;
    // Whom the peer speaks for does not matter, though it is a proxy that is believed about that.
    let request = sidecar.visitor("ada", TOP);
    let request = request
        .header("x-forwarded-for", "192.0.2.1")
        .header("forwarded", "for=192.0.2.1");
    let answer = request.send().await.unwrap();
    let anonymous = "anonymous; reason=no-visitor";
    assert_eq!(answer.headers()["dressipi-sidecar"], anonymous);
    assert_eq!(dressipi.profiles(), 0);
    sidecar.stop().await;

    let listed = keys("[\"192.0.2.0/24\", \"127.0.0.0/8\"]");
    let sidecar = start(Sidecar::behind(&dressipi), &listed).await;
    let ada = profile(sidecar.visitor("ada", TOP).send().await.unwrap()).await;
    assert!(ada.is_some());
    let again = profile(sidecar.visitor("ada", TOP).send().await.unwrap()).await;
    assert_eq!((again, dressipi.profiles()), (ada, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_cookie_names_the_visitor_and_stays_with_the_app() {
    let dressipi = Dressipi::start().await;
    let app = App::start().await;
    let keys = "visitor = [\"app-cookie:sid\", \"cookie\"]";
    let sidecar = start(Sidecar::behind(&dressipi).app(&app), keys).await;
    let get = async |path: &str, cookie: &str| {
        let url = format!("http://{}{path}", sidecar.trusted_address());
        let request = sidecar.client.get(url).header("cookie", cookie);
        request.send().await.unwrap()
    };
    let first = get(TOP, SESSION).await;
    assert_eq!(visitor_cookie(&first), None, "the app's cookie will do");
    let first = profile(first).await;
    assert!(first.is_some());
    assert_eq!(profile(get(TOP, SESSION).await).await, first);
    let echo = json(get("/x", SESSION).await).await;
    assert_eq!(seen(&echo, "cookie"), [SESSION]);
    let echo = json(get("/api/echo", SESSION).await).await;
    assert!(seen(&echo, "cookie").is_empty());
    assert_eq!(dressipi.profiles(), 1);
    // What is no id, or there twice, names nobody: the next source is asked.
    let doubled = format!("{SESSION}; {SESSION}");
    for cookie in ["sid=deleted", &doubled] {
        let answer = get(TOP, cookie).await;
        assert!(visitor_cookie(&answer).is_some(), "{cookie}");
        assert_ne!(profile(answer).await, first);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_id_in_a_header_and_in_an_app_cookie_are_two_visitors() {
    let dressipi = Dressipi::start().await;
    let folder = tempfile::tempdir().unwrap();
    let keys = "visitor = [\"header:x-visitor-id\", \"app-cookie:sid\"]";
    let sidecar = start(Sidecar::behind(&dressipi).redb(folder.path()), keys).await;
    let id = "secret-id-of-the-app";
    let by_header = profile(sidecar.visitor(id, TOP).send().await.unwrap()).await;
    let url = format!("http://{}{TOP}", sidecar.trusted_address());
    let request = sidecar.client.get(url);
    let request = request.header("cookie", format!("sid={id}"));
    let by_cookie = profile(request.send().await.unwrap()).await;
    assert!(by_header.is_some() && by_cookie.is_some());
    assert_ne!(by_header, by_cookie);
    sidecar.stop().await;
    // The ids themselves are nowhere in the store.
    let file = std::fs::read(folder.path().join("sessions.redb")).unwrap();
    let found = file.windows(id.len()).any(|part| part == id.as_bytes());
    assert!(!found);
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_16_a_cookie_lives_on_and_its_renewal_is_never_cacheable() {
    let dressipi = Dressipi::start().await;
    let app = App::start().await;
    let sidecar = Sidecar::behind(&dressipi)
        .app(&app)
        .cookie("renew_after = \"1s\"")
        .start()
        .await;
    let first = sidecar.browser(TOP).send().await.unwrap();
    let cookie = visitor_cookie(&first).unwrap();
    let ada = profile(first).await;
    let mut renewed = None;
    eventually("the cookie is set anew", async || {
        let request = sidecar.browser("/cached").header("cookie", &cookie);
        let answer = request.send().await.unwrap();
        renewed = visitor_cookie(&answer);
        let cache_control = &answer.headers()["cache-control"];
        let shared = answer.headers().contains_key("surrogate-control");
        match renewed {
            Some(_) => assert!(cache_control == "private, no-store" && !shared),
            None => assert_eq!(cache_control, "public, max-age=31536000"),
        }
        renewed.is_some()
    })
    .await;
    let renewed = renewed.unwrap();
    assert_ne!(renewed, cookie);
    for cookie in [&cookie, &renewed] {
        let request = sidecar.browser(TOP).header("cookie", cookie);
        assert_eq!(profile(request.send().await.unwrap()).await, ada);
    }
    assert_eq!(dressipi.profiles(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_8_a_cookie_that_is_over_is_as_none_and_costs_no_store_access() {
    let dressipi = Dressipi::start().await;
    let sidecar = Sidecar::behind(&dressipi)
        .cookie("max_life = \"1s\"\nrenew_after = \"1s\"")
        .extra("[creation]\ncreate = \"returning\"")
        .start()
        .await;
    let minted = visitor_cookie(&sidecar.browser(TOP).send().await.unwrap()).unwrap();
    eventually("the cookie is over", async || {
        let before = sidecar.metric("store_calls_total", "").await;
        let request = sidecar.browser(TOP).header("cookie", &minted);
        let answer = request.send().await.unwrap();
        let other = visitor_cookie(&answer);
        let is_over = answer.headers().get("dressipi-sidecar").is_some();
        if is_over {
            assert!(other.is_some_and(|other| other != minted));
            assert_eq!(sidecar.metric("store_calls_total", "").await, before);
        }
        is_over
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_9_who_withdraws_while_the_first_flow_runs_is_not_stored() {
    let folder = tempfile::tempdir().unwrap();
    for redb in [false, true] {
        for endpoint in [Endpoint::Authorize, Endpoint::Token] {
            let dressipi = Dressipi::start().await;
            let sidecar = Sidecar::behind(&dressipi);
            let sidecar = match redb {
                false => sidecar,
                true => sidecar.redb(folder.path()),
            };
            let sidecar = sidecar.start().await;
            let fault = Fault::once(endpoint, FaultKind::Delay { ms: 1_500 });
            dressipi.simulator.add_fault(fault);
            let first = tokio::spawn(sidecar.visitor("ada", TOP).send());
            eventually("the flow runs", async || {
                sidecar.metric("flows_in_flight", "").await == 1.0
            })
            .await;
            let withdrawn = sidecar.visitor("ada", TOP).header("sec-gpc", "1");
            let withdrawn = withdrawn.send().await.unwrap();
            let reason = "anonymous; reason=opt-out";
            assert_eq!(withdrawn.headers()["dressipi-sidecar"], reason);
            let first = first.await.unwrap().unwrap();
            let reason = "anonymous; reason=erased";
            assert_eq!(first.headers()["dressipi-sidecar"], reason);
            eventually("nothing is stored or cached", async || {
                sidecar.metric("sessions", "").await == 0.0
                    && sidecar.metric("cached_visitors", "").await == 0.0
            })
            .await;
            // Once the erasure is done, a new consent begins anew.
            eventually("ada is somebody new", async || {
                let answer = sidecar.visitor("ada", TOP).send().await.unwrap();
                profile(answer).await.is_some()
            })
            .await;
            let again = sidecar.visitor("ada", TOP).header("sec-gpc", "1");
            again.send().await.unwrap();
            sidecar
                .counts("visitor_events_total", "\"erased\"", 1.0)
                .await;
            sidecar.stop().await;
        }
    }
}
