//! What Prometheus is told, where another test does not look at it in passing.

use std::path::Path;

use tokio::net::TcpStream;

use crate::support::{Authority, Dressipi, Identity, Sidecar, eventually};

/// The lines of a configuration that show `identity` to servers.
fn showing(identity: &Identity, folder: &Path, name: &str) -> String {
    let (certificate, key) = identity.write(folder, name);
    format!("client_certificate_file = {certificate:?}\nclient_key_file = {key:?}")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ends_of_certificates_that_upstreams_are_shown_follow_the_configuration() {
    const ENDED: f64 = 1_609_459_200.0;
    const FAR: f64 = 4e9;
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let expired = authority.certify_expired("sidecar");
    let [expired, valid] = [
        showing(&expired, folder.path(), "expired"),
        showing(&authority.certify("sidecar"), folder.path(), "valid"),
    ];
    let dressipi = Dressipi::start().await;
    let text = |keys: &str| {
        let app = format!(
            "[[upstreams]]\nname = \"app\"\naddress = \"localhost:9\"\ntls = true\n{keys}\n\
             [[routes]]\npath = \"/\"\nupstream = \"app\"\n"
        );
        Sidecar::behind(&dressipi).extra(&app)
    };
    let sidecar = text(&expired).start().await;
    let ends = async |upstream| {
        sidecar
            .metric("client_certificate_expiry_seconds", upstream)
            .await
    };
    assert_eq!(ends("upstream=\"app\"").await, ENDED);
    sidecar.reload(&text(&valid).text()).await.unwrap();
    assert!(ends("upstream=\"app\"").await > FAR);
    // One that is shown to nobody has no end.
    sidecar.reload(&text("").text()).await.unwrap();
    assert_eq!(ends("").await, 0.0);
    // A configuration that is not taken into use changes nothing.
    sidecar.reload(&text(&expired).text()).await.unwrap();
    let other_store = text(&valid)
        .text()
        .replace("[session]", "[session]\nidle_timeout = \"9d\"");
    assert!(sidecar.reload(&other_store).await.is_err());
    assert_eq!(ends("upstream=\"app\"").await, ENDED);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_of_the_budget_is_told() {
    let dressipi = Dressipi::start().await;
    let sidecar = Sidecar::behind(&dressipi)
        .extra("[creation]\ndaily = 5\n")
        .start()
        .await;
    assert_eq!(sidecar.metric("creation_daily_limit", "").await, 5.0);
    assert_eq!(sidecar.metric("creations_today", "").await, 0.0);
    for _ in 0..2 {
        sidecar.browser("/api/x").send().await.unwrap();
    }
    assert_eq!(sidecar.metric("creations_today", "").await, 2.0);
    assert!(sidecar.metric("start_time_seconds", "").await > 1e9);
    let time = sidecar.metric("time_seconds", "").await;
    assert!(time >= sidecar.metric("start_time_seconds", "").await);
    assert!(sidecar.metric("open_connections", "").await >= 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_of_connections_and_of_flows_are_told_and_go_with_them() {
    let dressipi = Dressipi::start().await;
    let sidecar = Sidecar::behind(&dressipi).start().await;
    let tasks = async |runtime| sidecar.metric("runtime_tasks", runtime).await;
    // A connection to Dressipi stays open after a flow, and has a task there.
    assert_eq!(tasks("runtime=\"oauth\"").await, 0.0);
    sidecar.browser("/api/x").send().await.unwrap();
    assert!(tasks("runtime=\"oauth\"").await >= 1.0);

    // What the request left behind has ended, and does not count against the connections below.
    let mut before = tasks("runtime=\"proxy\"").await;
    eventually("nothing begins or ends", async || {
        let earlier = std::mem::replace(&mut before, tasks("runtime=\"proxy\"").await);
        earlier == before
    })
    .await;
    let mut open = Vec::new();
    for _ in 0..40 {
        open.push(TcpStream::connect(sidecar.address()).await.unwrap());
    }
    eventually("each connection has a task", async || {
        tasks("runtime=\"proxy\"").await >= before + 40.0
    })
    .await;
    drop(open);
    eventually("the tasks end with the connections", async || {
        tasks("runtime=\"proxy\"").await < before + 20.0
    })
    .await;
}
