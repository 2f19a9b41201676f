//! Two sidecars on one Redis: what an operator does through one of them holds at the other. That one does not ask Redis for an hour by
//! itself, so what it knows it has from the news.

use std::path::Path;

use reqwest::Method;

use crate::redis_serving::on_redis;
use crate::support::redis::RedisServer;
use crate::support::{ADMIN_KEYS, Dressipi, Sidecar, eventually, profile};

const TOP: &str = "/api/items/top?client_id=demo";

async fn replica(dressipi: &Dressipi, folder: &Path, server: &RedisServer) -> Sidecar {
    let redis = format!("redis.url = {:?}\ncache_validity = \"1h\"", server.url());
    let sidecar = on_redis(dressipi, folder, &redis).admin_keys(ADMIN_KEYS);
    sidecar.start().await
}

async fn visit(sidecar: &Sidecar, visitor: &str) -> Option<String> {
    profile(sidecar.visitor(visitor, TOP).send().await.unwrap()).await
}

async fn rejected_at(sidecar: &Sidecar, key: &str) -> bool {
    let shown = sidecar.sessions(Method::GET, &format!("/{key}")).await.body;
    shown["memory"]["rejected_fingerprint"].is_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_set_that_is_revoked_at_one_replica_is_used_at_none() {
    let (server, dressipi) = (RedisServer::start(), Dressipi::start().await);
    let folder = tempfile::tempdir().unwrap();
    let here = replica(&dressipi, folder.path(), &server).await;
    let there = replica(&dressipi, folder.path(), &server).await;
    let ada = visit(&here, "ada").await;
    let eve = visit(&here, "eve").await;
    assert_eq!(
        (visit(&there, "ada").await, visit(&there, "eve").await),
        (ada.clone(), eve.clone())
    );
    let key = here.key_of("ada").await;
    assert_eq!(there.key_of("ada").await, key);

    let used = dressipi.simulator.totals();
    assert_eq!(
        here.sessions(Method::POST, &format!("/{key}/revoke"))
            .await
            .status,
        204
    );
    eventually("the other has heard of it", async || {
        rejected_at(&there, &key).await
    })
    .await;
    assert_eq!(visit(&there, "ada").await, ada);
    assert_eq!(
        (visit(&here, "ada").await, visit(&there, "eve").await),
        (ada, eve)
    );
    let totals = dressipi.simulator.totals();
    assert_eq!(totals.token_calls_of("refresh_token", "ok"), 1);
    assert_eq!((totals.profiles, totals.refresh_reuse), (used.profiles, 0));
    for sidecar in [&here, &there] {
        let shown = sidecar
            .sessions(Method::GET, &format!("/{}", &key[..12]))
            .await
            .body;
        assert_eq!(shown["tokens"]["generation"], 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_visitor_who_is_erased_at_one_replica_is_forgotten_by_the_other() {
    let (server, dressipi) = (RedisServer::start(), Dressipi::start().await);
    let folder = tempfile::tempdir().unwrap();
    let here = replica(&dressipi, folder.path(), &server).await;
    let there = replica(&dressipi, folder.path(), &server).await;
    let ada = visit(&here, "ada").await;
    let eve = visit(&there, "eve").await;
    assert_eq!(
        (visit(&there, "ada").await, visit(&here, "eve").await),
        (ada.clone(), eve.clone())
    );
    let key = here.key_of("ada").await;
    for number in 0..30 {
        visit(&here, &format!("visitor-{number}")).await.unwrap();
    }
    let page = there.sessions(Method::GET, "?limit=5").await.body;
    assert_eq!(page["sessions"].as_array().unwrap().len(), 5);
    let listed = there.sessions(Method::GET, "?limit=1000").await.body;
    assert_eq!(listed["sessions"].as_array().unwrap().len(), 32);

    // By what is logged, at the one that did not make the session.
    assert_eq!(
        there
            .sessions(Method::DELETE, &format!("/{}", &key[..12]))
            .await
            .status,
        204
    );
    eventually("the first has dropped the token", async || {
        here.metric("cached_visitors", "").await == 31.0
    })
    .await;
    for sidecar in [&here, &there] {
        assert_eq!(
            sidecar
                .sessions(Method::GET, &format!("/{key}"))
                .await
                .status,
            404
        );
    }
    let again = visit(&here, "ada").await;
    assert!(again.is_some() && again != ada);
    assert_eq!(visit(&there, "ada").await, again);
    assert_eq!(
        (visit(&here, "eve").await, visit(&there, "eve").await),
        (eve.clone(), eve)
    );
    assert_eq!(dressipi.profiles(), 33);
}
