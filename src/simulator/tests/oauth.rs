#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

use super::support::{AUTHORIZE, Answer, FORM, Fixture, exchange_form};
use crate::simulator::SimulatorConfig;

#[tokio::test]
async fn the_flow_ends_in_a_token_set_and_its_jwt_names_the_profile() {
    let at = Fixture::start().await;
    let authorized = at.get(AUTHORIZE, "").await;
    assert_eq!(
        (authorized.status, authorized.text("state").as_str()),
        (200, "xyz")
    );
    let answer = at.exchange(&authorized.text("code")).await;
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("cache-control: no-store"));
    assert_eq!(
        (
            answer.text("token_type").as_str(),
            answer.json()["expires_in"].as_u64()
        ),
        ("Bearer", Some(900))
    );
    let ledger = at.simulator.ledger();
    assert_eq!(
        at.simulator
            .profile_of_token(&answer.text("access_token"))
            .unwrap(),
        ledger.profiles[0].id
    );
    assert_eq!(
        (ledger.totals.profiles, ledger.profiles[0].exchanges),
        (1, 1)
    );
}

#[tokio::test]
async fn a_bad_authorize_request_is_400_and_creates_no_profile() {
    let at = Fixture::start().await;
    let repeated = format!("{AUTHORIZE}&state=again");
    assert_eq!(
        at.get(&repeated, "").await.error(),
        (400, "invalid_request".into())
    );
    assert_eq!(
        at.get(&AUTHORIZE.replace("S256", "plain"), "")
            .await
            .error()
            .1,
        "invalid_request"
    );
    assert_eq!(
        at.get(&AUTHORIZE.replace("=demo", "=x"), "")
            .await
            .error()
            .1,
        "unauthorized_client"
    );
    assert_eq!(
        at.get("/api/oauth/authorize", "").await.error().1,
        "invalid_request"
    );
    for method in ["HEAD", "POST"] {
        assert_eq!(
            Answer::read(at.address, method, AUTHORIZE, "", "")
                .await
                .unwrap()
                .status,
            405
        );
    }
    assert_eq!(at.simulator.totals().profiles, 0);
}

#[tokio::test]
async fn a_code_used_twice_is_an_invalid_grant_and_both_calls_are_counted() {
    let at = Fixture::start().await;
    let code = at.code().await;
    assert_eq!(at.exchange(&code).await.status, 200);
    assert_eq!(
        at.exchange(&code).await.error(),
        (400, "invalid_grant".into())
    );
    let totals = at.simulator.totals();
    assert_eq!(totals.token_calls_of("authorization_code", "ok"), 1);
    assert_eq!(
        totals.token_calls_of("authorization_code", "invalid_grant"),
        1
    );
    assert_eq!(totals.code_reuse, 1);
}

#[tokio::test]
async fn an_old_code_has_expired() {
    let at = Fixture::start().await;
    let code = at.code().await;
    at.advance(600);
    assert_eq!(
        at.exchange(&code).await.error(),
        (400, "invalid_grant".into())
    );
}

#[tokio::test]
async fn parameters_may_stand_in_body_or_query_but_not_in_both() {
    let at = Fixture::start().await;
    let form = exchange_form(&at.code().await);
    let in_both = format!("/api/oauth/token?{form}");
    assert_eq!(
        at.post(&in_both, FORM, &form).await.error().1,
        "invalid_request"
    );
    assert_eq!(
        at.post(
            "/api/oauth/token",
            "content-type: application/json\r\n",
            &form
        )
        .await
        .error()
        .1,
        "invalid_request"
    );
    assert_eq!(at.post(&in_both, "", "").await.status, 200);
    assert_eq!(at.simulator.totals().token_parameters_in_query, 2);
}

#[tokio::test]
async fn a_refresh_rotates_and_the_old_token_is_dead_and_counted() {
    let at = Fixture::start().await;
    let first = at.token_set().await.refresh_token;
    let second = at.refresh(&first).await.text("refresh_token");
    assert_eq!(
        at.refresh(&first).await.error(),
        (400, "invalid_grant".into())
    );
    assert_eq!(at.refresh(&second).await.status, 200);
    assert_eq!(at.simulator.totals().refresh_reuse, 1);
    assert_eq!(at.simulator.ledger().profiles[0].refreshes, 2);
}

#[tokio::test]
async fn settings_and_revocation_work_over_http() {
    let at = Fixture::start().await;
    let tokens = at.token_set().await;
    let json = "content-type: application/json\r\n";
    let settings = at
        .post(
            "/__sim/settings",
            json,
            r#"{"rotate":false,"access_token_lifetime_s":5}"#,
        )
        .await
        .json();
    assert_eq!(
        (
            settings["rotate"].as_bool(),
            settings["code_lifetime_s"].as_u64()
        ),
        (Some(false), Some(600))
    );
    let refreshed = at.refresh(&tokens.refresh_token).await.json();
    assert_eq!(
        (
            refreshed["refresh_token"].is_null(),
            refreshed["expires_in"].as_u64()
        ),
        (true, Some(5))
    );
    assert_eq!(
        at.post("/__sim/settings", json, r#"{"rotation":false}"#)
            .await
            .status,
        422
    );

    assert_eq!(
        at.post("/__sim/revoke-refresh-tokens", "", "").await.status,
        204
    );
    assert_eq!(
        at.refresh(&tokens.refresh_token).await.error(),
        (400, "invalid_grant".into())
    );

    assert_eq!(at.post("/__sim/reset", "", "").await.status, 204);
    assert_eq!(at.simulator.totals().profiles, 0);
    assert_eq!(at.simulator.profile_of_token(&tokens.access_token), None);
}

#[tokio::test]
async fn a_wrong_api_key_is_401_everywhere_under_api() {
    let at = Fixture::with(SimulatorConfig {
        require_api_key: true,
        ..Default::default()
    })
    .await;
    for headers in ["", "x-api-key: wrong\r\n"] {
        assert_eq!(at.get(AUTHORIZE, headers).await.status, 401);
        assert_eq!(at.post("/api/oauth/token", headers, "").await.status, 401);
        assert_eq!(at.get("/api/items/1001", headers).await.status, 401);
    }
    assert_eq!(
        at.get(AUTHORIZE, "x-api-key: demo-api-key\r\n")
            .await
            .status,
        200
    );
    assert_eq!(
        (
            at.simulator.totals().profiles,
            at.simulator.totals().api_keys_refused
        ),
        (1, 6)
    );
}

#[tokio::test]
async fn the_ledger_shows_no_secret_and_its_summary_no_list() {
    let at = Fixture::start().await;
    let tokens = at.token_set().await;
    at.get(
        "/api/echo",
        &format!(
            "x-dressipi-jwt: {}\r\nx-api-key: demo-api-key\r\n",
            tokens.access_token
        ),
    )
    .await;
    let text = at.get("/__sim/ledger", "").await.json().to_string();
    for secret in [
        &tokens.access_token,
        &tokens.refresh_token,
        "demo-api-key",
        "code_challenge",
    ] {
        assert!(!text.contains(secret), "{secret}");
    }
    assert!(text.contains("eyJ") && text.contains("(sha256:"));
    let summary = at.get("/__sim/ledger?summary=1", "").await.json();
    assert_eq!(summary["totals"]["profiles"], 1);
    assert!(summary.get("requests").is_none() && summary.get("profiles").is_none());
}
