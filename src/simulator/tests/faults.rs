#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

use std::time::{Duration, Instant};

use serde_json::json;

use super::support::{AUTHORIZE, Answer, FORM, Fixture, TOP, exchange_form, raw, refresh_form};
use crate::simulator::{Endpoint, Fault, FaultKind};

#[tokio::test]
async fn a_connection_dropped_before_the_commit_changes_nothing_and_sends_no_byte() {
    let at = Fixture::start().await;
    for endpoint in [Endpoint::Authorize, Endpoint::Token, Endpoint::Resource] {
        at.simulator
            .add_fault(Fault::once(endpoint, FaultKind::DropBeforeCommit));
    }
    assert_eq!(raw(at.address, "GET", AUTHORIZE, "", "").await, b"");
    assert_eq!(at.simulator.totals().profiles, 0);
    let form = exchange_form(&at.code().await);
    assert_eq!(
        raw(at.address, "POST", "/api/oauth/token", FORM, &form).await,
        b""
    );
    assert_eq!(at.post("/api/oauth/token", FORM, &form).await.status, 200);
    assert_eq!(raw(at.address, "GET", TOP, "", "").await, b"");
    let totals = at.simulator.totals();
    assert_eq!(totals.authorize_results["fault"], 1);
    assert_eq!(totals.token_calls_of("authorization_code", "fault"), 1);
    assert_eq!(
        (
            totals.faults["drop_before_commit"],
            totals.resource.by_status.len()
        ),
        (3, 0)
    );
}

#[tokio::test]
async fn a_connection_dropped_after_the_commit_has_changed_everything_and_sends_no_byte() {
    let at = Fixture::start().await;
    for endpoint in [Endpoint::Authorize, Endpoint::Refresh, Endpoint::Resource] {
        at.simulator
            .add_fault(Fault::once(endpoint, FaultKind::DropAfterCommit));
    }
    assert_eq!(raw(at.address, "GET", AUTHORIZE, "", "").await, b"");
    assert_eq!(at.simulator.totals().profiles, 1);
    let tokens = at.token_set().await;
    let form = refresh_form(&tokens.refresh_token);
    assert_eq!(
        raw(at.address, "POST", "/api/oauth/token", FORM, &form).await,
        b""
    );
    assert_eq!(
        at.refresh(&tokens.refresh_token).await.error().1,
        "invalid_grant"
    );
    assert_eq!(raw(at.address, "GET", TOP, "", "").await, b"");
    let requests = at.simulator.ledger().requests;
    assert_eq!(
        (
            requests.last().unwrap().status,
            &requests.last().unwrap().faults[..]
        ),
        (None, &["drop_after_commit"][..])
    );
}

#[tokio::test]
async fn a_status_comes_with_its_retry_after_and_body_and_can_follow_a_delay() {
    let at = Fixture::start().await;
    let faults = json!([
        { "endpoint": "resource", "kind": { "delay": { "ms": 60 } }, "times": 1 },
        { "endpoint": "resource", "kind": { "status": { "code": 429, "retry_after": 7, "body": "{}" } }, "times": 1 },
    ]);
    let added = at
        .post(
            "/__sim/faults",
            "content-type: application/json\r\n",
            &faults.to_string(),
        )
        .await;
    assert_eq!(
        (added.status, added.json().as_array().unwrap().len()),
        (200, 2)
    );
    let start = Instant::now();
    let answer = at.get(TOP, "").await;
    assert!(start.elapsed() >= Duration::from_millis(60));
    assert_eq!(
        (answer.status, answer.body.as_slice()),
        (429, b"{}".as_slice())
    );
    assert!(answer.head.contains("retry-after: 7\r\n"));
    assert_eq!(at.get(TOP, "").await.status, 200);
    assert_eq!(at.get("/__sim/faults", "").await.json(), json!([]));
}

#[tokio::test]
async fn a_client_that_gives_up_during_a_late_delay_has_missed_a_commit() {
    let at = Fixture::start().await;
    at.simulator.add_fault(Fault::always(
        Endpoint::Authorize,
        FaultKind::DelayAfterCommit { ms: 60_000 },
    ));
    let call = at.get(AUTHORIZE, "");
    assert!(
        tokio::time::timeout(Duration::from_millis(200), call)
            .await
            .is_err()
    );
    assert_eq!(at.simulator.totals().profiles, 1);
    let before = at.simulator.totals();
    at.simulator.clear_faults();
    assert_eq!(at.get(AUTHORIZE, "").await.status, 200);
    assert_eq!(before.max_concurrent.authorize, 1);
}

#[tokio::test]
async fn an_oauth_error_and_a_forbidden_commit_nothing() {
    let at = Fixture::start().await;
    let error = FaultKind::OauthError {
        error: "invalid_client".into(),
    };
    at.simulator
        .add_fault(Fault::once(Endpoint::Refresh, error));
    at.simulator
        .add_fault(Fault::once(Endpoint::Resource, FaultKind::Forbid));
    let tokens = at.token_set().await;
    assert_eq!(
        at.refresh(&tokens.refresh_token).await.error(),
        (400, "invalid_client".into())
    );
    assert_eq!(at.refresh(&tokens.refresh_token).await.status, 200);
    assert_eq!(at.get(TOP, "").await.status, 403);
}

#[tokio::test]
async fn html_huge_and_wrong_state_answer_badly_after_the_commit() {
    let at = Fixture::start().await;
    for kind in [FaultKind::Html, FaultKind::Huge { bytes: 300_000 }] {
        at.simulator
            .add_fault(Fault::once(Endpoint::Authorize, kind));
    }
    at.simulator
        .add_fault(Fault::once(Endpoint::Authorize, FaultKind::WrongState));
    let html = at.get(AUTHORIZE, "").await;
    assert!(html.status == 200 && html.head.contains("content-type: text/html"));
    let huge = at.get(AUTHORIZE, "").await;
    assert!(huge.body.len() > 300_000 && huge.text("state") == "xyz");
    assert_eq!(at.get(AUTHORIZE, "").await.text("state"), "another-state");
    assert_eq!(at.simulator.totals().profiles, 3);
}

#[tokio::test]
async fn fields_can_be_missing_or_absurd() {
    let at = Fixture::start().await;
    let missing = FaultKind::MissingField {
        name: "refresh_token".into(),
    };
    at.simulator
        .add_fault(Fault::once(Endpoint::Token, missing));
    at.simulator.add_fault(Fault::once(
        Endpoint::Token,
        FaultKind::ExpiresIn {
            value: json!("soon"),
        },
    ));
    let answer = at.exchange(&at.code().await).await.json();
    assert!(answer.get("refresh_token").is_none() && answer["access_token"].is_string());
    assert_eq!(answer["expires_in"], "soon");
}

#[tokio::test]
async fn a_rejected_token_stays_rejected_and_no_other_is() {
    let at = Fixture::start().await;
    let (rejected, fine) = (
        at.token_set().await.access_token,
        at.token_set().await.access_token,
    );
    at.simulator
        .add_fault(Fault::once(Endpoint::Resource, FaultKind::RejectToken));
    for (token, status) in [(&rejected, 401), (&rejected, 401), (&fine, 200)] {
        assert_eq!(
            at.get(TOP, &format!("x-dressipi-jwt: {token}\r\n"))
                .await
                .status,
            status
        );
    }
}

#[tokio::test]
async fn faults_left_to_chance_or_misspelt_are_checked_before_any_is_added() {
    let at = Fixture::start().await;
    let bad = r#"[{"endpoint":"token","kind":"html"},{"endpoint":"token","kind":"html","probability":2}]"#;
    let json = "content-type: application/json\r\n";
    assert_eq!(at.post("/__sim/faults", json, bad).await.status, 400);
    assert_eq!(
        at.post(
            "/__sim/faults",
            json,
            r#"[{"endpoint":"token","kind":"htlm"}]"#
        )
        .await
        .status,
        422
    );
    assert!(at.simulator.faults().is_empty());
    at.simulator
        .add_fault(Fault::always(Endpoint::Token, FaultKind::Html));
    let cleared = Answer::read(at.address, "DELETE", "/__sim/faults", "", "")
        .await
        .unwrap();
    assert_eq!((cleared.status, at.simulator.faults().len()), (204, 0));
}
