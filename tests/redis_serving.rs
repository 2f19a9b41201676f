//! A whole sidecar on Redis: visitors keep their profiles through a restart, wherever the records lie.

use std::path::Path;

use dressipi_sidecar::session::generate_key_line;

use crate::support::redis::{Cluster, RedisServer, Sentinel};
use crate::support::{Dressipi, Process, Sidecar, SidecarBuilder, profile};

const TOP: &str = "/api/items/top?client_id=demo";

/// A sidecar on Redis, with a keyring in `folder`.
fn on_redis(dressipi: &Dressipi, folder: &Path, redis: &str) -> SidecarBuilder {
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
