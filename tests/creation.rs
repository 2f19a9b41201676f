//! Who makes a profile, and how many may be made: invariants 9 and 10 over real sockets.

use std::collections::HashMap;

use dressipi_sidecar::simulator::{Endpoint, ExpiredAs, Fault, FaultKind};
use futures::future::join_all;
use reqwest::Method;

use crate::support::{Dressipi, Sidecar, profile};

const TOP: &str = "/api/items/top?client_id=demo";

/// A sidecar whose cookie listener believes this machine's `X-Forwarded-For`.
async fn behind_a_proxy(dressipi: &Dressipi, creation: &str) -> Sidecar {
    let builder = Sidecar::behind(dressipi).extra(&format!("[creation]\n{creation}"));
    let cookie = "visitor = [\"cookie\"]";
    let listed = format!("{cookie}\ntrusted_proxies = [\"127.0.0.1\", \"10.0.0.0/8\"]");
    let text = builder.text().replacen(cookie, &listed, 1);
    builder.start_text(&text).await
}

/// Why the answer is anonymous.
fn reason(answer: &reqwest::Response) -> String {
    let said = answer.headers().get("dressipi-sidecar");
    let said = said.map_or("", |said| said.to_str().unwrap());
    let reason = said.strip_prefix("anonymous; reason=");
    reason.unwrap_or_default().to_owned()
}

/// How often each reason was given to requests without a cookie from `addresses`.
async fn flood(sidecar: &Sidecar, addresses: impl Iterator<Item = String>) -> HashMap<String, u64> {
    let requests = addresses.map(async |address| {
        let request = sidecar.browser(TOP).header("x-forwarded-for", address);
        reason(&request.send().await.unwrap())
    });
    let mut reasons = HashMap::new();
    for reason in join_all(requests).await {
        *reasons.entry(reason).or_default() += 1;
    }
    reasons
}

fn of<const N: usize>(reasons: [(&str, u64); N]) -> HashMap<String, u64> {
    let owned = reasons.map(|(reason, count)| (reason.to_owned(), count));
    HashMap::from(owned)
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_9_bots_probes_prefetches_and_other_methods_make_no_profile_and_hear_why() {
    let dressipi = Dressipi::start().await;
    let sidecar = Sidecar::behind(&dressipi).start().await;
    let cases = [
        (Method::GET, ("user-agent", "Googlebot/2.1"), "bot"),
        (Method::GET, ("user-agent", "curl/8.5.0"), "bot"),
        (Method::GET, ("user-agent", "kube-probe/1.31"), "probe"),
        (
            Method::GET,
            ("user-agent", "ELB-HealthChecker/2.0"),
            "probe",
        ),
        (Method::GET, ("user-agent", "GoogleHC/1.0"), "probe"),
        (
            Method::GET,
            ("sec-purpose", "prefetch;prerender"),
            "prefetch",
        ),
        (Method::GET, ("purpose", "prefetch"), "prefetch"),
        (Method::GET, ("x-moz", "prefetch"), "prefetch"),
        (Method::HEAD, ("accept", "*/*"), "method"),
        (Method::OPTIONS, ("accept", "*/*"), "method"),
    ];
    for (method, (name, value), expected) in cases {
        let url = format!("http://{}{TOP}", sidecar.address());
        let request = sidecar.client.request(method.clone(), url);
        let answer = request.header(name, value).send().await.unwrap();
        assert_eq!(reason(&answer), expected, "{method} {name}: {value}");
        let labels = format!("reason=\"{expected}\"");
        sidecar
            .counts("unpersonalised_requests_total", &labels, 1.0)
            .await;
    }
    // An app vouches for the visitor, but not for the method nor for what its browser fetches ahead.
    let head = sidecar.visitor_request(Method::HEAD, "ada", TOP);
    assert_eq!(reason(&head.send().await.unwrap()), "method");
    let ahead = sidecar
        .visitor("ada", TOP)
        .header("sec-purpose", "prefetch");
    assert_eq!(reason(&ahead.send().await.unwrap()), "prefetch");
    assert_eq!(dressipi.profiles(), 0);
    let ada = profile(sidecar.visitor("ada", TOP).send().await.unwrap()).await;
    assert!(ada.is_some());
    let head = sidecar.visitor_request(Method::HEAD, "ada", TOP);
    let head = head.send().await.unwrap();
    assert_eq!(reason(&head), "", "who has a profile uses it by any method");
    assert_eq!(dressipi.profiles(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_10_a_flood_stays_within_the_limits_and_a_known_visitor_keeps_the_token() {
    let dressipi = Dressipi::start().await;
    let limits = "per_client = \"4/1h\"\noverall = \"12/1h\"";
    let sidecar = behind_a_proxy(&dressipi, limits).await;
    let first = sidecar.browser(TOP).header("x-forwarded-for", "9.9.9.9");
    let first = first.send().await.unwrap();
    let cookie = first.headers()["set-cookie"].to_str().unwrap();
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let known = profile(first).await;
    assert!(known.is_some());
    let loads = || sidecar.metric("store_calls_total", "call=\"load\"");
    let before = loads().await;

    // One address, which writes another one before each request's own, and whose proxy chain has two members.
    let one = (0..100).map(|n| format!("6.6.6.{n}, 1.2.3.4, 10.0.0.2"));
    let reasons = flood(&sidecar, one).await;
    assert_eq!(reasons, of([("", 4), ("rate-limited", 96)]));
    // One IPv6 network.
    let net = (0..100).map(|n| format!("2001:db8::{n:x}"));
    let reasons = flood(&sidecar, net).await;
    assert_eq!(reasons, of([("", 4), ("rate-limited", 96)]));
    // Many addresses: three are left of twelve.
    let many = (0..200).map(|n| format!("7.7.7.{n}"));
    let reasons = flood(&sidecar, many).await;
    assert_eq!(reasons, of([("", 3), ("rate-limited-overall", 197)]));
    assert_eq!(dressipi.profiles(), 12);
    assert!(
        loads().await - before <= 11.0,
        "a refused profile costs no store access"
    );
    sidecar
        .counts(
            "unpersonalised_requests_total",
            "reason=\"rate-limited\"",
            192.0,
        )
        .await;

    // From the address that has spent everything.
    let again = sidecar.browser(TOP).header("x-forwarded-for", "1.2.3.4");
    let again = again.header("cookie", cookie).send().await.unwrap();
    assert_eq!(profile(again).await, known);
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_10_a_known_visitor_meets_no_limit_after_a_restart_and_an_unknown_one_does() {
    let dressipi = Dressipi::start().await;
    let folder = tempfile::tempdir().unwrap();
    let creation = "[creation]\ndaily = 1";
    let start = async || {
        let builder = Sidecar::behind(&dressipi).redb(folder.path());
        builder.extra(creation).start().await
    };
    let sidecar = start().await;
    let ask = async |sidecar: &Sidecar, who: &str| sidecar.visitor(who, TOP).send().await.unwrap();
    let ada = profile(ask(&sidecar, "ada").await).await;
    assert!(ada.is_some());
    assert_eq!(reason(&ask(&sidecar, "eve").await), "budget");
    sidecar.stop().await;
    // The budget begins anew; the cache is empty, and ada's record must be looked up.
    let sidecar = start().await;
    assert!(profile(ask(&sidecar, "eve").await).await.is_some());
    assert_eq!(reason(&ask(&sidecar, "bob").await), "budget");
    assert_eq!(profile(ask(&sidecar, "ada").await).await, ada);
    assert_eq!(dressipi.profiles(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_10_500_parallel_requests_of_one_new_visitor_spend_one_profile() {
    let dressipi = Dressipi::start().await;
    let sidecar = Sidecar::behind(&dressipi)
        .extra("[creation]\ndaily = 2")
        .start()
        .await;
    let requests = (0..500).map(|_| async {
        let answer = sidecar.visitor("ada", TOP).send().await.unwrap();
        profile(answer).await.unwrap()
    });
    join_all(requests).await;
    let bob = sidecar.visitor("bob", TOP).send().await.unwrap();
    assert!(profile(bob).await.is_some(), "one was left");
    let eve = sidecar.visitor("eve", TOP).send().await.unwrap();
    assert_eq!(reason(&eve), "budget");
    assert_eq!(dressipi.profiles(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_10_while_profiles_are_in_the_making_a_known_visitor_is_refreshed_and_the_rest_hears_why()
 {
    let dressipi = Dressipi::start().await;
    let sidecar = Sidecar::behind(&dressipi)
        .session("store = \"memory\"\nmax_flows = 2\nmax_creations = 1\nmax_wait = \"5s\"")
        .start()
        .await;
    let ada = profile(sidecar.visitor("ada", TOP).send().await.unwrap()).await;
    assert!(ada.is_some());
    // Dressipi takes its time for new profiles: one is in the making, and others wait for their turn.
    let slow = FaultKind::Delay { ms: 3_000 };
    dressipi
        .simulator
        .add_fault(Fault::always(Endpoint::Authorize, slow));
    let newcomers = (0..400).map(|n| {
        let request = sidecar.visitor(&format!("new-{n}"), TOP);
        tokio::spawn(async move { reason(&request.send().await.unwrap()) })
    });
    let newcomers: Vec<_> = newcomers.collect();
    sidecar
        .counts("unpersonalised_requests_total", "creations-busy", 1.0)
        .await;
    dressipi.simulator.expire_tokens(ExpiredAs::Unauthorized);
    let again = sidecar.visitor("ada", TOP).send().await.unwrap();
    assert_eq!(profile(again).await, ada, "refreshed meanwhile");
    assert_eq!(
        dressipi.simulator.totals().token_calls["refresh_token"]["ok"],
        1
    );
    assert_eq!(dressipi.profiles(), 1, "none of the new ones is there yet");
    dressipi.simulator.clear_faults();
    let mut told = HashMap::new();
    for newcomer in newcomers {
        *told.entry(newcomer.await.unwrap()).or_insert(0) += 1;
    }
    assert!(told["creations-busy"] >= 100, "{told:?}");
    assert!(told[""] >= 1, "whose turn came in time: {told:?}");
}
