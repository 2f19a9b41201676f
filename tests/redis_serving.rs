//! A whole sidecar on Redis: visitors keep their profiles through a restart, wherever the records lie.

use std::path::Path;

use dressipi_sidecar::session::generate_key_line;

use crate::support::redis::{Cluster, RedisServer, Sentinel};
use crate::support::{Dressipi, Process, Sidecar, SidecarBuilder, eventually, profile};

const TOP: &str = "/api/items/top?client_id=demo";

/// A sidecar on Redis, with a keyring in `folder`.
pub fn on_redis(dressipi: &Dressipi, folder: &Path, redis: &str) -> SidecarBuilder {
    let keys_file = folder.join("keys");
    if !keys_file.exists() {
        std::fs::write(&keys_file, generate_key_line()).unwrap();
    }
    Sidecar::behind(dressipi).session(&format!(
        "store = \"redis\"\nkeys_file = {keys_file:?}\nredis.timeout = \"10s\"\n{redis}"
    ))
}

async fn keeps_profiles_through_a_restart(redis: &str) {
    let dressipi = Dressipi::start().await;
    let folder = tempfile::tempdir().unwrap();
    let mut before = Vec::new();
    for _ in 0..2 {
        let sidecar = on_redis(&dressipi, folder.path(), redis).start().await;
        let mut profiles = Vec::new();
        for visitor in 0..20 {
            let answer = sidecar.visitor(&format!("v{visitor}"), TOP).send().await;
            profiles.push(profile(answer.unwrap()).await.unwrap());
        }
        assert_eq!(sidecar.admin("/readyz").await.status(), 200);
        assert_eq!(sidecar.stop().await.unsaved, 0);
        if !before.is_empty() {
            assert_eq!(profiles, before);
        }
        before = profiles;
    }
    assert_eq!(dressipi.profiles(), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn profiles_stay_on_one_server() {
    let server = RedisServer::start();
    keeps_profiles_through_a_restart(&format!("redis.url = {:?}", server.url())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn profiles_stay_behind_sentinel() {
    let master = RedisServer::start();
    let sentinel = Sentinel::start(&master, 0);
    let url = sentinel.url();
    keeps_profiles_through_a_restart(&format!(
        "redis.mode = \"sentinel\"\nredis.master_name = \"main\"\nredis.urls = [{url:?}]"
    ))
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn profiles_stay_in_a_cluster() {
    let cluster = Cluster::start();
    let urls = cluster.urls();
    keeps_profiles_through_a_restart(&format!("redis.mode = \"cluster\"\nredis.urls = {urls:?}"))
        .await;
}

/// The other replica does not ask Redis for an hour, so what it knows it has from the news; and then Redis is away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_9_who_withdraws_at_one_replica_is_forgotten_by_the_other() {
    let server = RedisServer::start();
    let dressipi = Dressipi::start().await;
    let folder = tempfile::tempdir().unwrap();
    let redis = format!(
        "redis.url = {:?}\ncache_validity = \"1h\"\nmax_wait = \"1s\"",
        server.url()
    );
    let consent = "[consent]\nrequired_header = \"x-consent\"\nrequired_value = \"*C3:1*\"\nrefused_value = \"*C3:0*\"";
    let start = async || {
        let sidecar = on_redis(&dressipi, folder.path(), &redis).extra(consent);
        sidecar.start().await
    };
    let (here, there) = (start().await, start().await);
    let get = async |sidecar: &Sidecar, visitor: &str, consent: &str| {
        let request = sidecar.visitor(visitor, TOP).header("x-consent", consent);
        request.send().await.unwrap()
    };
    let yes = "groups=C1%3A1%2CC3%3A1";
    let ada = profile(get(&here, "ada", yes).await).await;
    let eve = profile(get(&here, "eve", yes).await).await;
    assert!(ada.is_some() && eve.is_some());
    assert_eq!(profile(get(&there, "ada", yes).await).await, ada);
    assert_eq!(profile(get(&there, "eve", yes).await).await, eve);
    // No answer is no withdrawal.
    let unanswered = get(&here, "ada", "groups=C1%3A1").await;
    let reason = "anonymous; reason=no-consent";
    assert_eq!(unanswered.headers()["dressipi-sidecar"], reason);
    assert_eq!(profile(get(&there, "ada", yes).await).await, ada);

    let cached = |sidecar| async move { Sidecar::metric(sidecar, "cached_visitors", "").await };
    assert_eq!(cached(&there).await, 2.0);
    let refused = get(&here, "ada", "groups=C1%3A1%2CC3%3A0").await;
    let reason = "anonymous; reason=opt-out";
    assert_eq!(refused.headers()["dressipi-sidecar"], reason);
    here.counts("visitor_events_total", "\"erased\"", 1.0).await;
    eventually("both have dropped the token", async || {
        cached(&here).await + cached(&there).await == 2.0
    })
    .await;
    drop(server);
    for sidecar in [&here, &there] {
        let answer = get(sidecar, "ada", yes).await;
        let reason = answer.headers()["dressipi-sidecar"].to_str().unwrap();
        assert!(reason.starts_with("anonymous; reason="), "{reason}");
        assert_eq!(profile(answer).await, None);
        assert_eq!(profile(get(sidecar, "eve", yes).await).await, eve);
    }
    assert_eq!(dressipi.profiles(), 2);
}

#[tokio::test]
async fn a_process_whose_redis_refuses_it_exits_1_and_says_why() {
    let server = RedisServer::with(&["--requirepass", "hunter2"]);
    let dressipi = Dressipi::start().await;
    let folder = tempfile::tempdir().unwrap();
    let redis = format!(
        "redis.url = {:?}\nredis.password = \"hunter3\"",
        server.url()
    );
    let config = on_redis(&dressipi, folder.path(), &redis).write(folder.path());
    let output = Process::command()
        .args(["serve", "--config"])
        .arg(config)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("authentication failed"), "{said}");
    assert!(said.contains(&server.port().to_string()), "{said}");
    assert!(!said.contains("hunter"), "{said}");
}
