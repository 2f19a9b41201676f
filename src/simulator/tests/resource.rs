#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

use serde_json::Value;

use super::support::{Answer, Fixture, TOP};
use crate::simulator::ExpiredAs;

fn jwt(token: &str) -> String {
    format!("x-dressipi-jwt: {token}\r\n")
}

fn ids(answer: &Answer) -> Vec<String> {
    answer.json()["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["id"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn a_good_token_makes_the_answer_personal_and_none_makes_it_anonymous() {
    let at = Fixture::start().await;
    let (one, other) = (
        at.token_set().await.access_token,
        at.token_set().await.access_token,
    );
    let anonymous = at.get(TOP, "").await;
    let mine = at.get(TOP, &jwt(&one)).await;
    let bearer = at
        .get(TOP, &format!("authorization: Bearer {one}\r\n"))
        .await;
    let theirs = at.get(TOP, &jwt(&other)).await;
    assert_eq!(ids(&mine), ids(&bearer));
    assert_ne!(ids(&mine), ids(&theirs));
    assert_ne!(ids(&mine), ids(&anonymous));
    assert_eq!(
        mine.json()["profile"].as_str().unwrap(),
        at.simulator.profile_of_token(&one).unwrap()
    );
    assert_eq!(
        (
            &anonymous.json()["personalised"],
            &anonymous.json()["profile"]
        ),
        (&Value::Bool(false), &Value::Null)
    );
    assert!(
        mine.head
            .contains("set-cookie: _pantheon2-dressipi_session=")
    );
    let totals = at.simulator.totals();
    assert_eq!(
        (totals.resource.personalised, totals.resource.unpersonalised),
        (3, 1)
    );
    assert_eq!(at.simulator.ledger().profiles[0].visits, 2);
}

#[tokio::test]
async fn an_expired_token_is_silently_ignored_and_counted() {
    let at = Fixture::start().await;
    let token = at.token_set().await.access_token;
    at.advance(900);
    let answer = at.get(TOP, &jwt(&token)).await;
    assert_eq!(
        (answer.status, answer.json()["personalised"].as_bool()),
        (200, Some(false))
    );
    let garbage = at.get(TOP, &jwt("garbage")).await;
    assert_eq!(
        (garbage.status, garbage.json()["personalised"].as_bool()),
        (200, Some(false))
    );
    let totals = at.simulator.totals();
    assert_eq!(
        (
            totals.expired_tokens_received,
            totals.foreign_tokens_received
        ),
        (1, 1)
    );
}

#[tokio::test]
async fn vendor_cookies_take_precedence_over_the_header() {
    let at = Fixture::start().await;
    let (header, cookie) = (
        at.token_set().await.access_token,
        at.token_set().await.access_token,
    );
    for name in ["drsp", "dressipi_jwt"] {
        let answer = at
            .get(
                TOP,
                &format!("{}cookie: a=b; {name}={cookie}\r\n", jwt(&header)),
            )
            .await;
        assert_eq!(
            answer.json()["profile"].as_str().unwrap(),
            at.simulator.profile_of_token(&cookie).unwrap()
        );
        let answer = at
            .get(TOP, &format!("{}cookie: {name}=junk\r\n", jwt(&header)))
            .await;
        assert_eq!(answer.json()["personalised"], false);
    }
    assert_eq!(at.simulator.totals().cookies_received, 4);
}

#[tokio::test]
async fn tokens_expired_by_request_are_refused_or_ignored_as_told() {
    let at = Fixture::start().await;
    let tokens = at.token_set().await;
    let json = "content-type: application/json\r\n";
    assert_eq!(
        at.post("/__sim/expire-tokens", json, r#"{"as":"unauthorized"}"#)
            .await
            .status,
        204
    );
    assert_eq!(at.get(TOP, &jwt(&tokens.access_token)).await.status, 401);
    at.simulator.expire_tokens(ExpiredAs::Unpersonalised);
    assert_eq!(
        at.get(TOP, &jwt(&tokens.access_token)).await.json()["personalised"],
        false
    );
    let renewed = at.refresh(&tokens.refresh_token).await.text("access_token");
    assert_eq!(
        at.get(TOP, &jwt(&renewed)).await.json()["personalised"],
        true
    );
    assert_eq!(at.simulator.totals().revoked_tokens_received, 2);
}

#[tokio::test]
async fn every_endpoint_answers_believably() {
    let at = Fixture::start().await;
    for target in [
        "/api/items/1001",
        "/api/items/1001/related",
        "/api/items/1001/complementary",
        TOP,
        "/api/items/basket",
        "/api/recommendations/themed",
        "/api/v2/items/similar?item_id=1001",
        "/api/v2/items/outfits?item_id=1001",
        "/api/v2/items/partner_outfits?item_id=1001",
        "/api/v2/items/top?client_id=demo",
        "/api/v2/items/basket",
    ] {
        let answer = at.get(target, "").await;
        assert_eq!(answer.status, 200, "{target}");
        assert!(
            !ids(&answer).is_empty() && !answer.text("content_id").is_empty(),
            "{target}"
        );
        assert_eq!(answer.text("event_id").len(), 36, "{target}");
    }
    for (target, status) in [
        ("/api/items/top", 400),
        ("/api/v2/items/similar", 400),
        ("/api/items/9999", 422),
        ("/api/items/9999/related", 422),
        ("/api/v2/items/similar?item_id=9999", 422),
        ("/api/nothing/here", 404),
        ("/elsewhere", 404),
    ] {
        assert_eq!(at.get(target, "").await.status, status, "{target}");
    }
    assert_eq!(
        at.get("/api/items/9999", "").await.json()["error"]["message"],
        "Garment not found"
    );
}

#[tokio::test]
async fn facets_narrow_the_answer_and_bad_json_is_400() {
    let at = Fixture::start().await;
    let post = |body: &'static str| {
        at.post(
            "/api/recommendations/facetted",
            "content-type: application/json\r\n",
            body,
        )
    };
    let dresses = post(
        r#"{"facets":[{"name":"category","value":["dress"]},{"name":"brand","value":"Maren"}]}"#,
    )
    .await;
    assert_eq!(ids(&dresses), ["1001"]);
    assert_eq!(ids(&post("{}").await).len(), 8);
    assert_eq!(
        (post("{").await.status, post("[]").await.status),
        (400, 400)
    );
}

#[tokio::test]
async fn echo_tells_what_arrived() {
    let at = Fixture::start().await;
    let answer = at
        .post("/api/echo?a=b%20c", "X-Two: 1\r\nX-Two: 2\r\n", "abc")
        .await
        .json();
    assert_eq!(
        (answer["method"].as_str(), answer["path"].as_str()),
        (Some("POST"), Some("/api/echo"))
    );
    assert_eq!(answer["query"], "a=b%20c");
    assert_eq!(answer["body"]["length"], 3);
    assert_eq!(
        answer["body"]["sha256"],
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
    let headers = answer["headers"].as_array().unwrap();
    let twos: Vec<_> = headers
        .iter()
        .filter(|pair| pair[0] == "x-two")
        .map(|pair| pair[1].as_str().unwrap())
        .collect();
    assert_eq!(twos, ["1", "2"]);
}

#[tokio::test]
async fn echo_streams_a_body_beyond_any_limit() {
    let at = Fixture::start().await;
    let answer = at
        .post("/api/echo", "", &"x".repeat(5_000_000))
        .await
        .json();
    assert_eq!(answer["body"]["length"], 5_000_000);
}

#[tokio::test]
async fn the_collector_takes_anything_and_notices_a_token() {
    let at = Fixture::start().await;
    let answer = at.post("/t/t", "", r#"{"schema":"iglu"}"#).await;
    assert_eq!(
        (answer.status, answer.body.as_slice()),
        (200, b"ok".as_slice())
    );
    at.post("/t/t", &jwt("x"), "").await;
    let totals = at.simulator.totals();
    assert_eq!(
        (totals.tracking_calls, totals.tracking_calls_with_token),
        (2, 1)
    );
}
