//! Visitor sessions through the admin listener: listed, shown, found, revoked, erased and exported. Every answer is searched for secrets
//! (`support/admin.rs`).

use std::collections::BTreeSet;

use dressipi_sidecar::session::generate_key_line;
use dressipi_sidecar::simulator::{Endpoint, Fault, FaultKind};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::redis::RedisServer;
use crate::support::{ADMIN_KEYS, Dressipi, Sidecar, eventually, profile, visitor_cookie};

const TOP: &str = "/api/items/top?client_id=demo";

async fn start(dressipi: &Dressipi) -> Sidecar {
    let sidecar = Sidecar::behind(dressipi).admin_keys(ADMIN_KEYS);
    sidecar.start().await
}

async fn visit(sidecar: &Sidecar, visitor: &str) -> Option<String> {
    profile(sidecar.visitor(visitor, TOP).send().await.unwrap()).await
}

/// How many refreshes Dressipi has answered well.
fn refreshes(dressipi: &Dressipi) -> u64 {
    let totals = dressipi.simulator.totals();
    totals.token_calls_of("refresh_token", "ok")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_has_every_visitor_once_whatever_the_pages() {
    let dressipi = Dressipi::start().await;
    let folder = tempfile::tempdir().unwrap();
    let sidecar = Sidecar::behind(&dressipi).redb(folder.path());
    let sidecar = sidecar.admin_keys(ADMIN_KEYS).start().await;
    assert_eq!(
        sidecar.sessions(Method::GET, "").await.body,
        json!({"sessions": []})
    );
    let mut expected = BTreeSet::new();
    for number in 0..25 {
        let visitor = format!("visitor-{number}");
        visit(&sidecar, &visitor).await.unwrap();
        expected.insert(sidecar.key_of(&visitor).await);
    }
    for limit in [1, 7, 25, 1000] {
        let (mut listed, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("?limit={limit}{cursor}");
            let page = sidecar.sessions(Method::GET, &path).await;
            assert_eq!(page.status, 200);
            let sessions = page.body["sessions"].as_array().unwrap().clone();
            assert!(sessions.len() <= limit);
            listed.extend(sessions);
            match page.body["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        let keys: Vec<_> = listed
            .iter()
            .map(|session| session["visitor"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(
            keys,
            expected.iter().cloned().collect::<Vec<_>>(),
            "limit {limit}"
        );
        for session in &listed {
            assert_eq!(session["state"], "active");
            assert_eq!(session["tokens"]["generation"], 0);
            assert!(session["stored_until"].as_str() > session["tokens"]["expires_at"].as_str());
        }
    }
    // Who comes and goes between two pages puts nobody out of the list.
    let first = sidecar.sessions(Method::GET, "?limit=10").await.body;
    let last = first["sessions"][9]["visitor"].as_str().unwrap();
    assert_eq!(
        sidecar
            .sessions(Method::DELETE, &format!("/{last}"))
            .await
            .status,
        204
    );
    let path = format!("?cursor={}", first["next"].as_str().unwrap());
    let rest = sidecar.sessions(Method::GET, &path).await.body;
    assert_eq!(rest["sessions"].as_array().unwrap().len(), 15);

    for bad in [
        "?limit=0",
        "?limit=1001",
        "?limit=x",
        "?limit=",
        "?limit=1&limit=2",
        "?cursor=",
        "?cursor=xyz",
        "?limits=3",
    ] {
        let answer = sidecar.sessions(Method::GET, bad).await;
        assert_eq!(answer.status, 400, "{bad}");
    }
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_visitor_is_found_by_what_people_have_and_shown_without_secrets() {
    let dressipi = Dressipi::start().await;
    let app_cookie = "[[listeners]]\naddress = \"127.0.0.1:0\"\nvisitor = [\"app-cookie:sid\"]";
    let sidecar = Sidecar::behind(&dressipi).extra(app_cookie);
    let sidecar = sidecar.admin_keys(ADMIN_KEYS).start().await;
    visit(&sidecar, "ada").await.unwrap();
    let browser = sidecar.browser(TOP).send().await.unwrap();
    let cookie = visitor_cookie(&browser).unwrap();
    let value = cookie.split_once('=').unwrap().1;
    let sid = "0123456789abcdef";
    let url = format!("http://{}{TOP}", sidecar.listener(2));
    let request = sidecar
        .client
        .get(url)
        .header("cookie", format!("sid={sid}"));
    profile(request.send().await.unwrap()).await.unwrap();

    for wanted in [
        json!({"header": "ada"}),
        json!({"cookie": value}),
        json!({"app_cookie": sid}),
    ] {
        let answer = sidecar
            .sessions_with(Method::POST, "/find", wanted.to_string())
            .await;
        assert_eq!(answer.status, 200, "{wanted}");
        let (key, logged) = (
            answer.body["visitor"].as_str().unwrap(),
            answer.body["logged"].as_str().unwrap(),
        );
        assert!(key.len() == 64 && logged.len() == 12 && key.starts_with(logged));
        let shown = sidecar.sessions(Method::GET, &format!("/{key}")).await;
        assert_eq!(shown.status, 200, "{wanted}");
        assert_eq!(shown.body["visitor"], key);
        assert_eq!(
            (&shown.body["state"], &shown.body["profiles"]),
            (&json!("active"), &json!(1))
        );
        assert_eq!(shown.body["memory"]["cached"], true);
        let tokens = shown.body["tokens"].as_object().unwrap();
        let names: Vec<_> = tokens.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "expires_at",
                "fingerprint",
                "generation",
                "obtained_at",
                "subn"
            ]
        );
        let by_log = sidecar.sessions(Method::GET, &format!("/{logged}")).await;
        assert_eq!(by_log.body, shown.body);
        let export = sidecar
            .sessions(Method::GET, &format!("/{logged}/export"))
            .await;
        assert_eq!(export.status, 200);
        let session = &export.body["session"];
        assert_eq!(
            session["tokens"]["fingerprint"],
            shown.body["tokens"]["fingerprint"]
        );
        assert_eq!(
            session["tokens"]["refresh_fingerprint"]
                .as_str()
                .unwrap()
                .len(),
            16
        );
        assert_eq!(session["created_at"], shown.body["created_at"]);
        assert_eq!(export.body["memory"], shown.body["memory"]);
    }
    // A header does not name a cookie's visitor.
    let other = sidecar.key_of(sid).await;
    let nobody = ["0".repeat(64), "f".repeat(12), "nobody".into(), other];
    for name in &nobody {
        for (method, rest) in [
            (Method::GET, ""),
            (Method::GET, "/export"),
            (Method::POST, "/revoke"),
        ] {
            let answer = sidecar.sessions(method, &format!("/{name}{rest}")).await;
            assert_eq!(answer.status, 404, "{name}{rest}: {answer:?}");
        }
    }
    let tampered = format!("{}A", &value[..value.len() - 1]);
    let forged = match tampered == value {
        true => format!("{}B", &value[..value.len() - 1]),
        false => tampered,
    };
    for (wanted, status) in [
        (json!({"cookie": forged}), 404),
        (json!({"cookie": cookie}), 404),
        (json!({"header": ""}), 400),
        (json!({"header": "two words"}), 400),
        (json!({"header": "x".repeat(257)}), 400),
        (json!({"app_cookie": "hunter2"}), 400),
        (json!({"subn": "hunter2"}), 400),
        (json!({"header": ["hunter2"]}), 400),
        (json!({"header": "hunter2", "cookie": "hunter2"}), 400),
        (json!("hunter2"), 400),
        (json!({"header": "x".repeat(20_000)}), 413),
    ] {
        // No answer says an id again: it is searched for this one, too.
        let answer = sidecar
            .sessions_with(Method::POST, "/find", wanted.to_string())
            .await;
        assert_eq!(answer.status, status, "{wanted:.100}: {answer:?}");
    }
    assert_eq!(dressipi.profiles(), 3);
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_token_set_is_refreshed_by_the_next_request_and_the_profile_stays() {
    let dressipi = Dressipi::start().await;
    let folder = tempfile::tempdir().unwrap();
    let start = || {
        Sidecar::behind(&dressipi)
            .redb(folder.path())
            .admin_keys(ADMIN_KEYS)
            .start()
    };
    let sidecar = start().await;
    let before = visit(&sidecar, "ada").await;
    let eve = visit(&sidecar, "eve").await;
    let key = sidecar.key_of("ada").await;
    let show =
        async |sidecar: &Sidecar| sidecar.sessions(Method::GET, &format!("/{key}")).await.body;
    let shown = show(&sidecar).await;

    let revoke = format!("/{key}/revoke");
    assert_eq!(sidecar.sessions(Method::POST, &revoke).await.status, 204);
    let revoked = show(&sidecar).await;
    assert_eq!(revoked["memory"]["cached"], false);
    assert_eq!(
        revoked["memory"]["rejected_fingerprint"],
        shown["tokens"]["fingerprint"]
    );
    assert!(revoked["tokens"]["expires_at"].as_str() < shown["tokens"]["expires_at"].as_str());
    assert_eq!(
        revoked["stored_until"], shown["stored_until"],
        "it lives no longer for having been revoked"
    );
    assert_eq!(refreshes(&dressipi), 0, "a refresh is for the next request");
    assert_eq!(visit(&sidecar, "ada").await, before);
    assert_eq!(visit(&sidecar, "eve").await, eve);
    let refreshed = show(&sidecar).await;
    assert_eq!(
        (&refreshed["tokens"]["generation"], refreshes(&dressipi)),
        (&json!(1), 1)
    );
    assert_eq!(refreshed["memory"]["cached"], true);

    // Not a matter of memory: who starts anew does not use it either.
    assert_eq!(sidecar.sessions(Method::POST, &revoke).await.status, 204);
    sidecar.stop().await;
    let sidecar = start().await;
    assert_eq!(visit(&sidecar, "ada").await, before);
    assert_eq!((refreshes(&dressipi), dressipi.profiles()), (2, 2));

    // Where the refresh token is dead as well, the policy decides: a new profile.
    dressipi.simulator.revoke_refresh_tokens();
    assert_eq!(sidecar.sessions(Method::POST, &revoke).await.status, 204);
    let after = visit(&sidecar, "ada").await;
    assert!(after.is_some() && after != before);
    let shown = show(&sidecar).await;
    assert_eq!(
        (&shown["profiles"], &shown["losses"]),
        (&json!(2), &json!(1))
    );
    sidecar.stop().await;
}

/// Invariant 3: the record is written by both, and the newer token set stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_3_a_refresh_under_way_outlives_a_revocation() {
    let dressipi = Dressipi::start().await;
    let sidecar = start(&dressipi).await;
    let before = visit(&sidecar, "ada").await;
    let key = sidecar.key_of("ada").await;
    let (show, revoke) = (format!("/{key}"), format!("/{key}/revoke"));
    let revoked = async || sidecar.sessions(Method::POST, &revoke).await.status;
    assert_eq!(revoked().await, 204);
    let delay = FaultKind::DelayAfterCommit { ms: 1500 };
    dressipi
        .simulator
        .add_fault(Fault::always(Endpoint::Refresh, delay));
    let request = tokio::spawn(sidecar.visitor("ada", TOP).send());
    // Dressipi has put another refresh token in the old one's place, and nobody here knows it yet.
    eventually("the refresh is under way", async || {
        refreshes(&dressipi) == 1
    })
    .await;
    assert_eq!(revoked().await, 204);
    let shown = sidecar.sessions(Method::GET, &show).await.body;
    assert_eq!(shown["tokens"]["generation"], 0);
    assert_eq!(profile(request.await.unwrap().unwrap()).await, before);
    assert_eq!(visit(&sidecar, "ada").await, before);
    let shown = sidecar.sessions(Method::GET, &show).await.body;
    assert_eq!(shown["tokens"]["generation"], 1);
    let totals = dressipi.simulator.totals();
    assert_eq!((totals.profiles, totals.refresh_reuse), (1, 0));
    assert_eq!(totals.token_calls_of("refresh_token", "ok"), 1);
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_no_token_set_has_none_to_revoke() {
    let dressipi = Dressipi::start().await;
    let sidecar = start(&dressipi).await;
    let fault = Fault::always(
        Endpoint::Token,
        FaultKind::Status {
            code: 503,
            retry_after: None,
            body: None,
        },
    );
    dressipi.simulator.add_fault(fault);
    assert_eq!(visit(&sidecar, "ada").await, None);
    let key = sidecar.key_of("ada").await;
    let shown = sidecar.sessions(Method::GET, &format!("/{key}")).await.body;
    assert_eq!(shown["state"], "granted");
    assert!(shown["granted_at"].is_string() && shown["memory"]["backing_off_until"].is_string());
    let answer = sidecar
        .sessions(Method::POST, &format!("/{key}/revoke"))
        .await;
    assert_eq!(answer.status, 409);
    assert!(
        answer.body["detail"].as_str().unwrap().contains("granted"),
        "{answer:?}"
    );
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erased_visitor_is_unknown_and_may_begin_anew() {
    let dressipi = Dressipi::start().await;
    let folder = tempfile::tempdir().unwrap();
    let sidecar = Sidecar::behind(&dressipi).redb(folder.path());
    let sidecar = sidecar.admin_keys(ADMIN_KEYS).start().await;
    let before = visit(&sidecar, "ada").await;
    let eve = visit(&sidecar, "eve").await;
    let key = sidecar.key_of("ada").await;
    let logged = &key[..12];
    // Not even which token was rejected is remembered.
    let revoke = format!("/{key}/revoke");
    assert_eq!(sidecar.sessions(Method::POST, &revoke).await.status, 204);
    for name in [logged, logged, &key, &key] {
        assert_eq!(
            sidecar
                .sessions(Method::DELETE, &format!("/{name}"))
                .await
                .status,
            204,
            "{name}"
        );
        assert_eq!(
            sidecar
                .sessions(Method::GET, &format!("/{key}"))
                .await
                .status,
            404
        );
    }
    assert_eq!(
        sidecar
            .sessions(Method::GET, &format!("/{key}/export"))
            .await
            .status,
        404
    );
    assert_eq!(sidecar.metric("cached_visitors", "").await, 1.0);
    let after = visit(&sidecar, "ada").await;
    assert!(after.is_some() && after != before);
    assert_eq!(visit(&sidecar, "eve").await, eve);

    // The key that all visitors go by lies in the store as well, and is nobody.
    for name in ["0".repeat(64), "0".repeat(12)] {
        assert_eq!(
            sidecar
                .sessions(Method::DELETE, &format!("/{name}"))
                .await
                .status,
            204
        );
    }
    sidecar.stop().await;
    let sidecar = Sidecar::behind(&dressipi).redb(folder.path()).start().await;
    assert_eq!(visit(&sidecar, "eve").await, eve);
    assert_eq!(dressipi.profiles(), 3);
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flow_under_way_leaves_nothing_behind_when_its_visitor_is_erased() {
    let dressipi = Dressipi::start().await;
    let sidecar = start(&dressipi).await;
    dressipi.simulator.add_fault(Fault::always(
        Endpoint::Token,
        FaultKind::Delay { ms: 1500 },
    ));
    let request = sidecar.visitor("ada", TOP).send();
    let request = tokio::spawn(request);
    let key = sidecar.key_of("ada").await;
    eventually("the code is there", async || {
        let shown = sidecar.sessions(Method::GET, &format!("/{key}")).await;
        shown.status == 200 && shown.body["memory"]["flow_under_way"] == true
    })
    .await;
    assert_eq!(
        sidecar
            .sessions(Method::DELETE, &format!("/{}", &key[..12]))
            .await
            .status,
        204
    );
    let answer = request.await.unwrap().unwrap();
    assert_eq!(
        answer.headers()["dressipi-sidecar"],
        "anonymous; reason=erased"
    );
    let list = sidecar.sessions(Method::GET, "").await.body;
    assert_eq!(list, json!({"sessions": []}));
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_down_is_no_unknown_visitor() {
    let server = RedisServer::start();
    let dressipi = Dressipi::start().await;
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    std::fs::write(&keys, generate_key_line()).unwrap();
    let redis = format!("redis.url = {:?}\nredis.timeout = \"1s\"", server.url());
    let session = format!("store = \"redis\"\nkeys_file = {keys:?}\n{redis}");
    let sidecar = Sidecar::behind(&dressipi).session(&session);
    let sidecar = sidecar.admin_keys(ADMIN_KEYS).start().await;
    visit(&sidecar, "ada").await.unwrap();
    let key = sidecar.key_of("ada").await;
    drop(server);
    for (method, path) in [
        (Method::GET, String::new()),
        (Method::GET, format!("/{key}")),
        (Method::GET, format!("/{}", &key[..12])),
        (Method::GET, format!("/{key}/export")),
        (Method::POST, format!("/{key}/revoke")),
        (Method::DELETE, format!("/{}", &key[..12])),
        (Method::DELETE, format!("/{key}")),
        (Method::GET, "/export".into()),
    ] {
        let answer = sidecar.sessions(method.clone(), &path).await;
        assert_eq!(answer.status, 503, "{method} {path}: {answer:?}");
        assert_eq!(answer.headers["retry-after"], "2");
    }
    // The key of a visitor is no matter of the store; and what is being erased is not used.
    assert_eq!(sidecar.key_of("ada").await, key);
    let answer = sidecar.visitor("ada", TOP).send().await.unwrap();
    assert_eq!(
        answer.headers()["dressipi-sidecar"],
        "anonymous; reason=erased"
    );
}

#[tokio::test]
async fn without_the_token_nobody_gets_anything() {
    let dressipi = Dressipi::start().await;
    let paths = [
        "",
        "/find",
        "/export",
        "/import",
        "/0123456789ab",
        "/0123456789ab/revoke",
        "/0123456789ab/export",
        "/x/y",
    ];
    for (keys, status) in [("", 403), (ADMIN_KEYS, 401)] {
        let sidecar = Sidecar::behind(&dressipi).admin_keys(keys).start().await;
        for path in paths {
            for method in [Method::GET, Method::POST, Method::DELETE, Method::PUT] {
                let url = format!("http://{}/sessions{path}", sidecar.admin_address());
                let answer = sidecar
                    .client
                    .request(method.clone(), url)
                    .send()
                    .await
                    .unwrap();
                assert_eq!(answer.status(), status, "{method} {path}");
                let body: Value = crate::support::json(answer).await;
                assert_eq!(body["status"], status);
            }
        }
        sidecar.stop().await;
    }
}
