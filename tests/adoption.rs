//! Visitors who carry a token of the vendor's are served with it, and cost no profile.

use dressipi_sidecar::simulator::{Endpoint, Fault, FaultKind, SimulatorConfig};

use crate::support::{
    App, Dressipi, Sidecar, SidecarBuilder, eventually, json, profile, seen, visitor_cookie,
};

const TOP: &str = "/api/items/top?client_id=demo";

/// The vendor's own way to a token, as its scripts in the page have it: a profile that the sidecar under test has not made.
async fn vendor_token(dressipi: &Dressipi, visitor: &str) -> (String, Option<String>) {
    let app = App::start().await;
    let vendor = Sidecar::behind(dressipi).app(&app).start().await;
    let of_vendor = profile(vendor.visitor(visitor, TOP).send().await.unwrap()).await;
    let echo = json(vendor.visitor(visitor, "/x").send().await.unwrap()).await;
    let token = seen(&echo, "x-dressipi-jwt")[0].to_owned();
    vendor.stop().await;
    assert!(of_vendor.is_some());
    (token, of_vendor)
}

fn adopting(dressipi: &Dressipi) -> SidecarBuilder {
    Sidecar::behind(dressipi).extra("[creation]\nadopt_cookie = \"dressipi_jwt\"")
}

/// A JWT that Dressipi has not signed.
fn foreign_token(exp: u64) -> String {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let (head, claims) = (encode("{\"alg\":\"none\"}"), format!("{{\"exp\":{exp}}}"));
    format!("{head}.{}.{}", encode(&claims), encode("signature"))
}

async fn get(sidecar: &Sidecar, path: &str, cookies: &str) -> reqwest::Response {
    let request = sidecar.browser(path).header("cookie", cookies);
    request.send().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_5_a_visitor_is_served_with_the_token_that_they_carry_and_nobody_else_is() {
    let dressipi = Dressipi::start().await;
    let (token, of_vendor) = vendor_token(&dressipi, "ada").await;
    let app = App::start().await;
    let sidecar = adopting(&dressipi).app(&app).start().await;
    let carried = format!("dressipi_jwt={token}");
    let first = get(&sidecar, TOP, &carried).await;
    let cookie = visitor_cookie(&first).unwrap();
    for (name, value) in first.headers() {
        assert!(!value.to_str().unwrap().contains(&token), "{name}");
    }
    assert_eq!(profile(first).await, of_vendor);
    let both = format!("{cookie}; {carried}");
    assert_eq!(profile(get(&sidecar, TOP, &both).await).await, of_vendor);
    let echo = json(get(&sidecar, "/x", &both).await).await;
    assert_eq!(seen(&echo, "x-dressipi-jwt"), [token.as_str()]);
    let echo = json(get(&sidecar, "/api/echo", &both).await).await;
    assert_eq!(seen(&echo, "x-dressipi-jwt"), [token.as_str()]);
    assert!(seen(&echo, "cookie").is_empty());
    assert_eq!(dressipi.profiles(), 1, "only the vendor's");
    let adopted = "adopted_token_requests_total";
    assert_eq!(sidecar.metric(adopted, "").await, 4.0);
    // Nothing of it is kept: neither for others, nor for the visitor.
    let other = profile(sidecar.browser(TOP).send().await.unwrap()).await;
    assert!(other.is_some() && other != of_vendor);
    let own = profile(get(&sidecar, TOP, &cookie).await).await;
    assert!(own.is_some() && own != of_vendor && own != other);
    // Whoever has a session here keeps it.
    assert_eq!(profile(get(&sidecar, TOP, &both).await).await, own);
    assert_eq!(dressipi.profiles(), 3);
    assert_eq!(sidecar.metric(adopted, "").await, 4.0);
    assert_eq!(dressipi.simulator.totals().foreign_tokens_received, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_token_or_has_ended_or_is_there_twice_is_as_none() {
    let dressipi = Dressipi::start().await;
    let (token, _) = vendor_token(&dressipi, "ada").await;
    let carried = format!("dressipi_jwt={token}");
    let doubled = format!("{carried}; {carried}");
    let ended = format!("dressipi_jwt={}", foreign_token(1_700_000_000));
    let long = format!("dressipi_jwt={token}{}", "A".repeat(4096));
    let sidecar = adopting(&dressipi).start().await;
    for (made, cookies) in (2..).zip([&*doubled, &ended, &long, "dressipi_jwt=x.y.z"]) {
        assert!(profile(get(&sidecar, TOP, cookies).await).await.is_some());
        assert_eq!(dressipi.profiles(), made, "{cookies}");
    }
    assert_eq!(dressipi.simulator.totals().foreign_tokens_received, 0);
    // Nobody is adopted where nobody said so.
    let sidecar = Sidecar::behind(&dressipi).start().await;
    let before = dressipi.profiles();
    assert!(profile(get(&sidecar, TOP, &carried).await).await.is_some());
    assert_eq!(dressipi.profiles(), before + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_dressipi_rejects_is_not_sent_again_and_one_profile_is_made() {
    let dressipi = Dressipi::start().await;
    let (token, of_vendor) = vendor_token(&dressipi, "ada").await;
    let sidecar = adopting(&dressipi).start().await;
    let fault = Fault::once(Endpoint::Resource, FaultKind::RejectToken);
    dressipi.simulator.add_fault(fault);
    let carried = format!("dressipi_jwt={token}");
    let first = get(&sidecar, TOP, &carried).await;
    let cookie = visitor_cookie(&first).unwrap();
    let own = profile(first).await;
    assert!(own.is_some() && own != of_vendor);
    for _ in 0..3 {
        let answer = get(&sidecar, TOP, &format!("{cookie}; {carried}")).await;
        assert_eq!(profile(answer).await, own);
    }
    assert_eq!(dressipi.profiles(), 2);
    let totals = dressipi.simulator.totals();
    assert_eq!(
        totals.revoked_tokens_received, 0,
        "once rejected it never comes again"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_would_not_end_in_a_lifetime_is_none() {
    let dressipi = Dressipi::start().await;
    let sidecar = adopting(&dressipi).start().await;
    let carried = format!("dressipi_jwt={}", foreign_token(4_000_000_000));
    assert!(profile(get(&sidecar, TOP, &carried).await).await.is_some());
    assert_eq!(dressipi.simulator.totals().foreign_tokens_received, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_5_when_the_carried_token_ends_the_one_profile_is_made() {
    let dressipi = Dressipi::with(SimulatorConfig {
        access_token_lifetime_s: 4,
        ..SimulatorConfig::default()
    })
    .await;
    let (token, of_vendor) = vendor_token(&dressipi, "ada").await;
    let sidecar = adopting(&dressipi)
        .extra("create = \"returning\"")
        .start()
        .await;
    let carried = format!("dressipi_jwt={token}");
    let first = get(&sidecar, TOP, &carried).await;
    let both = format!("{}; {carried}", visitor_cookie(&first).unwrap());
    let mut own = profile(first).await;
    eventually("the visitor has a profile of our making", async || {
        let before = own.take();
        own = profile(get(&sidecar, TOP, &both).await).await;
        assert!(before.is_none() || before == of_vendor || before == own);
        own.is_some() && own != of_vendor
    })
    .await;
    assert_eq!(profile(get(&sidecar, TOP, &both).await).await, own);
    assert_eq!(dressipi.profiles(), 2);
    assert_eq!(dressipi.simulator.totals().expired_tokens_received, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_9_who_opted_out_is_served_with_no_token_of_anybody() {
    let dressipi = Dressipi::start().await;
    let (token, _) = vendor_token(&dressipi, "ada").await;
    let sidecar = adopting(&dressipi).start().await;
    let cookies = format!("dressipi_jwt={token}; dressipi_dnt=1");
    assert_eq!(profile(get(&sidecar, TOP, &cookies).await).await, None);
    assert_eq!(dressipi.profiles(), 1);
}
