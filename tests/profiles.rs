//! One visitor, one profile: invariants 1 to 6 over real sockets.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use dressipi_sidecar::simulator::{Endpoint, Fault, FaultKind, SettingsPatch, SimulatorConfig};
use futures::future::join_all;

use crate::support::{Dressipi, Sidecar, eventually, json, profile};

const TOP: &str = "/api/items/top?client_id=demo";

fn delay(endpoint: Endpoint, ms: u64) -> Fault {
    Fault::always(endpoint, FaultKind::Delay { ms })
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_1_500_parallel_first_requests_of_one_visitor_make_one_profile() {
    let dressipi = Dressipi::start().await;
    dressipi
        .simulator
        .add_fault(delay(Endpoint::Authorize, 200));
    let sidecar = Sidecar::behind(&dressipi)
        .session("store = \"memory\"\nmax_wait = \"20s\"")
        .start()
        .await;
    let answers = join_all(
        (0..500)
            .map(|_| async { profile(sidecar.visitor("ada", TOP).send().await.unwrap()).await }),
    )
    .await;
    let profiles: HashSet<_> = answers.into_iter().map(Option::unwrap).collect();
    assert_eq!(profiles.len(), 1, "all got the same profile");
    assert_eq!(dressipi.profiles(), 1);
    let totals = dressipi.simulator.totals();
    assert_eq!(
        (
            totals.authorize_calls,
            totals.token_calls_of("authorization_code", "ok")
        ),
        (1, 1)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_1_200_visitors_with_16_parallel_requests_each_have_one_profile_each() {
    let dressipi = Dressipi::start().await;
    dressipi
        .simulator
        .add_fault(delay(Endpoint::Authorize, 100));
    let sidecar = Sidecar::behind(&dressipi)
        .session("store = \"memory\"\nmax_wait = \"30s\"")
        .start()
        .await;
    let requests = (0..200 * 16).map(|n| {
        let sidecar = &sidecar;
        async move {
            let visitor = format!("visitor-{}", n % 200);
            let profile = profile(sidecar.visitor(&visitor, TOP).send().await.unwrap()).await;
            (visitor, profile.unwrap())
        }
    });
    let mut profiles: HashMap<String, HashSet<String>> = HashMap::new();
    for (visitor, profile) in join_all(requests).await {
        profiles.entry(visitor).or_default().insert(profile);
    }
    assert_eq!(profiles.len(), 200);
    assert!(
        profiles.values().all(|profiles| profiles.len() == 1),
        "one profile for each visitor"
    );
    let distinct: HashSet<_> = profiles.values().flatten().collect();
    assert_eq!(distinct.len(), 200, "invariant 5: nobody has another's");
    assert_eq!(dressipi.profiles(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_2_a_client_that_hangs_up_mid_flow_changes_nothing() {
    let dressipi = Dressipi::start().await;
    dressipi
        .simulator
        .add_fault(delay(Endpoint::Authorize, 300));
    let sidecar = Sidecar::behind(&dressipi).start().await;
    let hasty = sidecar
        .visitor("ada", TOP)
        .timeout(Duration::from_millis(50))
        .send()
        .await;
    assert!(hasty.unwrap_err().is_timeout());
    let patient = profile(sidecar.visitor("ada", TOP).send().await.unwrap()).await;
    assert!(patient.is_some());
    assert_eq!(dressipi.profiles(), 1);
    assert_eq!(
        profile(sidecar.visitor("ada", TOP).send().await.unwrap()).await,
        patient
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_2_a_restart_keeps_every_profile() {
    let dressipi = Dressipi::start().await;
    let folder = tempfile::tempdir().unwrap();
    let mut before = Vec::new();
    let sidecar = Sidecar::behind(&dressipi).redb(folder.path()).start().await;
    for visitor in 0..20 {
        before.push(
            profile(
                sidecar
                    .visitor(&visitor.to_string(), TOP)
                    .send()
                    .await
                    .unwrap(),
            )
            .await
            .unwrap(),
        );
    }
    let stopped = sidecar.stop().await;
    assert_eq!((stopped.cut_off, stopped.unsaved), (0, 0));
    let sidecar = Sidecar::behind(&dressipi).redb(folder.path()).start().await;
    for (visitor, before) in before.iter().enumerate() {
        let after = profile(
            sidecar
                .visitor(&visitor.to_string(), TOP)
                .send()
                .await
                .unwrap(),
        )
        .await;
        assert_eq!(after.as_ref(), Some(before));
    }
    assert_eq!(dressipi.profiles(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_3_and_4_no_answer_but_invalid_grant_ends_a_token_set() {
    let dressipi = Dressipi::with(SimulatorConfig {
        access_token_lifetime_s: 1,
        ..SimulatorConfig::default()
    })
    .await;
    let session = "store = \"memory\"\nmin_backoff = \"1ms\"\nmax_backoff = \"1ms\"";
    let sidecar = Sidecar::behind(&dressipi).session(session).start().await;
    // A token of one second counts as expired from the start: each request refreshes.
    let first = sidecar.visitor("ada", TOP).send().await.unwrap();
    assert_eq!(
        first.headers()["dressipi-sidecar"],
        "anonymous; reason=timeout"
    );
    dressipi.simulator.update_settings(SettingsPatch {
        access_token_lifetime_s: Some(3),
        ..SettingsPatch::default()
    });
    let ada = profile(sidecar.visitor("ada", TOP).send().await.unwrap())
        .await
        .unwrap();

    let kinds = [
        FaultKind::status(500),
        FaultKind::status(503),
        FaultKind::status(429),
        FaultKind::OauthError {
            error: "invalid_client".into(),
        },
        FaultKind::OauthError {
            error: "invalid_request".into(),
        },
        FaultKind::OauthError {
            error: "unsupported_grant_type".into(),
        },
        FaultKind::DropBeforeCommit,
        FaultKind::ExpiresIn {
            value: serde_json::json!(-1),
        },
        FaultKind::ExpiresIn {
            value: serde_json::json!(1e30),
        },
        FaultKind::MissingField {
            name: "access_token".into(),
        },
    ];
    for kind in kinds {
        let name = kind.name();
        dressipi
            .simulator
            .add_fault(Fault::once(Endpoint::Refresh, kind));
        let before = dressipi
            .simulator
            .totals()
            .faults
            .get(name)
            .copied()
            .unwrap_or_default();
        eventually(&format!("a refresh meets {name}"), async || {
            let _ = sidecar.visitor("ada", TOP).send().await.unwrap();
            dressipi
                .simulator
                .totals()
                .faults
                .get(name)
                .copied()
                .unwrap_or_default()
                > before
        })
        .await;
        eventually(&format!("ada is back after {name}"), async || {
            profile(sidecar.visitor("ada", TOP).send().await.unwrap())
                .await
                .as_ref()
                == Some(&ada)
        })
        .await;
    }
    let totals = dressipi.simulator.totals();
    assert_eq!((totals.profiles, totals.authorize_calls), (1, 1));
    assert_eq!(
        (
            totals.expired_tokens_received,
            totals.foreign_tokens_received,
            totals.refresh_reuse
        ),
        (0, 0, 0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_4_invalid_grant_makes_a_new_profile_or_leaves_the_visitor_anonymous_by_policy() {
    for (policy, profiles) in [("recreate", 2), ("anonymous", 1)] {
        let dressipi = Dressipi::start().await;
        let session = format!("store = \"memory\"\non_lost = \"{policy}\"");
        let sidecar = Sidecar::behind(&dressipi).session(&session).start().await;
        let before = profile(sidecar.visitor("ada", TOP).send().await.unwrap()).await;
        assert!(before.is_some());
        dressipi.simulator.revoke_refresh_tokens();
        dressipi
            .simulator
            .expire_tokens(dressipi_sidecar::simulator::ExpiredAs::Unauthorized);
        let mut after = None;
        for _ in 0..3 {
            let answer = sidecar.visitor("ada", TOP).send().await.unwrap();
            if policy == "anonymous" {
                assert_eq!(
                    answer.headers()["dressipi-sidecar"],
                    "anonymous; reason=lost"
                );
            }
            after = profile(answer).await;
        }
        assert_ne!(after, before);
        assert_eq!(after.is_some(), policy == "recreate");
        assert_eq!(dressipi.profiles(), profiles);
        assert_eq!(
            sidecar
                .metric("visitor_events_total", "token_set_lost")
                .await,
            1.0
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_6_a_wrong_state_gives_no_exchange_and_no_session_and_is_counted() {
    let dressipi = Dressipi::start().await;
    dressipi
        .simulator
        .add_fault(Fault::always(Endpoint::Authorize, FaultKind::WrongState));
    let sidecar = Sidecar::behind(&dressipi).start().await;
    for _ in 0..5 {
        let answer = sidecar.visitor("ada", TOP).send().await.unwrap();
        let reason = answer.headers()["dressipi-sidecar"]
            .to_str()
            .unwrap()
            .to_owned();
        assert!(
            reason == "anonymous; reason=dressipi" || reason == "anonymous; reason=unconfirmed",
            "{reason}"
        );
        assert_eq!(profile(answer).await, None);
    }
    let totals = dressipi.simulator.totals();
    assert_eq!(
        totals.authorize_calls, 1,
        "an ambiguous answer is not asked for again at once"
    );
    assert!(totals.token_calls.is_empty(), "no token is asked for");
    assert_eq!(
        sidecar.metric("oauth_calls_total", "state_mismatch").await,
        1.0
    );
    assert_eq!(
        sidecar.metric("sessions", "active").await + sidecar.metric("sessions", "granted").await,
        0.0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_authorize_answer_is_not_asked_for_again_at_once_and_is_counted_apart() {
    for kind in [
        FaultKind::DropAfterCommit,
        FaultKind::Html,
        FaultKind::Huge { bytes: 1 << 20 },
    ] {
        let dressipi = Dressipi::start().await;
        dressipi
            .simulator
            .add_fault(Fault::always(Endpoint::Authorize, kind.clone()));
        let sidecar = Sidecar::behind(&dressipi)
            .session("store = \"memory\"\nmin_backoff = \"1ms\"\nmax_backoff = \"1ms\"")
            .start()
            .await;
        for _ in 0..5 {
            assert_eq!(
                profile(sidecar.visitor("ada", TOP).send().await.unwrap()).await,
                None
            );
        }
        assert_eq!(dressipi.simulator.totals().authorize_calls, 1, "{kind:?}");
        assert_eq!(
            sidecar
                .metric("visitor_events_total", "authorize_unconfirmed")
                .await,
            1.0
        );
        sidecar
            .counts("unpersonalised_requests_total", "unconfirmed", 2.0)
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_2_an_exchange_that_fails_is_resumed_with_the_same_code() {
    let dressipi = Dressipi::start().await;
    for kind in [
        FaultKind::status(503),
        FaultKind::OauthError {
            error: "invalid_client".into(),
        },
        FaultKind::DropBeforeCommit,
    ] {
        dressipi
            .simulator
            .add_fault(Fault::once(Endpoint::Token, kind));
    }
    let session = "store = \"memory\"\nmin_backoff = \"1ms\"\nmax_backoff = \"1ms\"";
    let sidecar = Sidecar::behind(&dressipi).session(session).start().await;
    eventually("the exchange works", async || {
        profile(sidecar.visitor("ada", TOP).send().await.unwrap())
            .await
            .is_some()
    })
    .await;
    assert_eq!(dressipi.profiles(), 1);
    assert_eq!(dressipi.simulator.totals().code_reuse, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_token_is_replaced_and_the_request_sent_once_more() {
    let dressipi = Dressipi::start().await;
    let sidecar = Sidecar::behind(&dressipi).start().await;
    let ada = profile(sidecar.visitor("ada", TOP).send().await.unwrap())
        .await
        .unwrap();
    let eve = profile(sidecar.visitor("eve", TOP).send().await.unwrap())
        .await
        .unwrap();
    dressipi
        .simulator
        .add_fault(Fault::once(Endpoint::Resource, FaultKind::RejectToken));
    assert_eq!(
        profile(sidecar.visitor("ada", TOP).send().await.unwrap()).await,
        Some(ada.clone())
    );
    assert_eq!(
        profile(sidecar.visitor("eve", TOP).send().await.unwrap()).await,
        Some(eve)
    );
    let totals = dressipi.simulator.totals();
    assert_eq!(
        totals.token_calls_of("refresh_token", "ok"),
        1,
        "exactly that token was replaced"
    );
    assert_eq!(totals.profiles, 2);
    sidecar.counts("replayed_requests_total", "", 1.0).await;

    // A body that is still at hand is sent again, too.
    let frida = "frida";
    assert!(
        profile(sidecar.visitor(frida, TOP).send().await.unwrap())
            .await
            .is_some()
    );
    dressipi
        .simulator
        .add_fault(Fault::once(Endpoint::Resource, FaultKind::RejectToken));
    let body = vec![7_u8; 30_000];
    let answer = sidecar
        .visitor_request(reqwest::Method::POST, frida, "/api/echo")
        .body(body)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(json(answer).await["body"]["length"], 30_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_forbids_everything_does_not_make_the_sidecar_refresh_for_ever() {
    let dressipi = Dressipi::start().await;
    let sidecar = Sidecar::behind(&dressipi).start().await;
    assert!(
        profile(sidecar.visitor("ada", TOP).send().await.unwrap())
            .await
            .is_some()
    );
    dressipi
        .simulator
        .add_fault(Fault::always(Endpoint::Resource, FaultKind::Forbid));
    for _ in 0..10 {
        assert_eq!(
            sidecar.visitor("ada", TOP).send().await.unwrap().status(),
            403
        );
    }
    assert_eq!(
        dressipi
            .simulator
            .totals()
            .token_calls_of("refresh_token", "ok"),
        1
    );
    assert_eq!(dressipi.profiles(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_gone_is_not_sent_again_but_the_next_request_has_another_token() {
    let dressipi = Dressipi::start().await;
    let sidecar = Sidecar::behind(&dressipi).start().await;
    let ada = profile(sidecar.visitor("ada", TOP).send().await.unwrap()).await;
    dressipi
        .simulator
        .add_fault(Fault::once(Endpoint::Resource, FaultKind::RejectToken));
    let body = vec![7_u8; 1 << 20];
    let answer = sidecar
        .visitor_request(reqwest::Method::POST, "ada", "/api/echo")
        .body(body)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 401);
    assert_eq!(
        profile(sidecar.visitor("ada", TOP).send().await.unwrap()).await,
        ada
    );
    assert_eq!(
        dressipi
            .simulator
            .totals()
            .token_calls_of("refresh_token", "ok"),
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_that_rejects_answers_503_where_a_token_cannot_be_had() {
    let dressipi = Dressipi::start().await;
    dressipi
        .simulator
        .add_fault(Fault::always(Endpoint::Authorize, FaultKind::status(503)));
    let routes = r#"
        [[routes]]
        path = "/api/"
        upstream = "dressipi"
        on_unavailable = "reject"
    "#;
    let sidecar = Sidecar::behind(&dressipi).routes(routes).start().await;
    let answer = sidecar.visitor("ada", TOP).send().await.unwrap();
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.headers()["retry-after"], "5");
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    assert!(
        answer.headers()["proxy-status"]
            .to_str()
            .unwrap()
            .starts_with("dressipi-sidecar; error=")
    );
    assert_eq!(json(answer).await["reason"], "dressipi");
    assert_eq!(dressipi.simulator.totals().resource.calls, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_12_fresh_tokens_are_used_while_oauth_is_down_and_nobody_waits_for_it() {
    let dressipi = Dressipi::start().await;
    let sidecar = Sidecar::behind(&dressipi).start().await;
    let ada = profile(sidecar.visitor("ada", TOP).send().await.unwrap()).await;
    for endpoint in [Endpoint::Authorize, Endpoint::Token, Endpoint::Refresh] {
        dressipi
            .simulator
            .add_fault(Fault::always(endpoint, FaultKind::status(500)));
    }
    assert_eq!(
        profile(sidecar.visitor("ada", TOP).send().await.unwrap()).await,
        ada
    );
    assert_eq!(
        profile(sidecar.visitor("eve", TOP).send().await.unwrap()).await,
        None
    );
    dressipi.simulator.clear_faults();
    eventually("eve gets her profile", async || {
        profile(sidecar.visitor("eve", TOP).send().await.unwrap())
            .await
            .is_some()
    })
    .await;
    assert_eq!(dressipi.profiles(), 2);
}
