#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

use super::support::{AUTHORIZE, Answer, Fixture, TOP};

#[tokio::test]
async fn the_pages_need_nothing_from_elsewhere_and_their_policies_hold_their_own_script() {
    let at = Fixture::start().await;
    let shop = at.shop().await;
    for path in ["/", "/visitor"] {
        let page = Answer::read(shop, "GET", path, "", "").await.unwrap();
        assert!(page.status == 200 && page.head.contains("content-type: text/html"));
        let policy = page
            .head
            .lines()
            .find(|line| line.starts_with("content-security-policy"))
            .unwrap();
        // The digest of nothing would mean that the page's script was not found.
        assert!(policy.contains("script-src 'sha256-") && !policy.contains("47deqpj8hbsa"));
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors"));
        assert!(!policy.contains("unsafe") && !policy.contains("https:"));
        let text = String::from_utf8(page.body).unwrap();
        assert!(
            !text.contains("https://") && !text.contains("<script ") && !text.contains(" style=")
        );
        assert!(!text.contains("{{"), "everything is filled in");
    }
}

#[tokio::test]
async fn one_visitors_token_expires_and_the_others_do_not() {
    let at = Fixture::start().await;
    let (one, two) = (at.token_set().await, at.token_set().await);
    let carried = |token: &str| format!("x-dressipi-jwt: {token}\r\n");
    let headers = format!(
        "sec-fetch-site: same-origin\r\n{}",
        carried(&one.access_token)
    );
    Answer::read(at.shop().await, "POST", "/shop/expire-token", &headers, "")
        .await
        .unwrap();
    for (token, status) in [(&one.access_token, 401), (&two.access_token, 200)] {
        assert_eq!(at.get(TOP, &carried(token)).await.status, status);
    }
}

#[tokio::test]
async fn a_lost_answer_costs_a_profile_and_meets_one_authorize_call() {
    let at = Fixture::start().await;
    let shop = at.shop().await;
    for (headers, told) in [("", 403), ("sec-fetch-site: same-origin\r\n", 200)] {
        let answer = Answer::read(shop, "POST", "/shop/lose-answer", headers, "")
            .await
            .unwrap();
        assert_eq!(answer.status, told);
    }
    let lost = Answer::read(at.address, "GET", AUTHORIZE, "", "").await;
    assert!(lost.is_none());
    assert_eq!(at.simulator.totals().profiles, 1);
    assert_eq!(at.get(AUTHORIZE, "").await.status, 200);
}

#[tokio::test]
async fn the_shop_tells_what_it_saw_and_what_dressipi_saw_without_secrets() {
    let at = Fixture::start().await;
    let shop = at.shop().await;
    let token = at.token_set().await.access_token;
    let headers = format!("x-dressipi-jwt: {token}\r\n");
    let event = at.get(TOP, &headers).await.text("event_id");
    let target = format!("/shop/dressipi-saw?event_id={event}");
    let saw = Answer::read(shop, "GET", &target, "", "")
        .await
        .unwrap()
        .json();
    assert_eq!(
        (saw["path"].as_str(), saw["event_id"].as_str()),
        (Some("/api/items/top"), Some(event.as_str()))
    );
    assert_eq!(
        saw["profile"].as_str().unwrap(),
        at.simulator.profile_of_token(&token).unwrap()
    );
    let seen = Answer::read(shop, "GET", "/shop/seen", &headers, "")
        .await
        .unwrap()
        .json();
    for view in [saw, seen] {
        let view = view.to_string();
        assert!(view.contains("x-dressipi-jwt") && !view.contains(&token));
    }
    let unknown = Answer::read(shop, "GET", "/shop/dressipi-saw?event_id=x", "", "")
        .await
        .unwrap();
    assert_eq!(unknown.status, 404);
    assert_eq!(
        Answer::read(shop, "GET", "/shop/health", "", "")
            .await
            .unwrap()
            .status,
        200
    );
}

#[tokio::test]
async fn only_the_page_itself_may_change_anything() {
    let at = Fixture::start().await;
    let shop = at.shop().await;
    let own = format!("origin: http://{shop}\r\n");
    for (headers, status) in [
        ("", 403),
        ("origin: http://evil.example\r\n", 403),
        ("sec-fetch-site: cross-site\r\n", 403),
        (&format!("sec-fetch-site: same-site\r\n{own}"), 403),
        ("sec-fetch-site: same-origin\r\n", 200),
        (&own, 200),
    ] {
        let answer = Answer::read(shop, "POST", "/shop/expire-token", headers, "")
            .await
            .unwrap();
        assert_eq!(answer.status, status, "{headers}");
    }
}

#[tokio::test]
async fn dressipi_fails_for_ten_seconds_and_recovers() {
    let at = Fixture::start().await;
    let same_origin = "sec-fetch-site: same-origin\r\n";
    let told = Answer::read(at.shop().await, "POST", "/shop/fail", same_origin, "")
        .await
        .unwrap();
    assert_eq!((told.status, at.get(TOP, "").await.status), (200, 503));
    at.advance(9);
    assert_eq!(at.get(TOP, "").await.status, 503);
    at.advance(1);
    assert_eq!(at.get(TOP, "").await.status, 200);
}
