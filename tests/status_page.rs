//! The status page as it is sent; how it looks and works in a browser is for `tests/browser`.

use crate::support::{App, Dressipi, Sidecar, canary, eventually};

const TOP: &str = "/api/items/top?client_id=demo";

async fn page(sidecar: &Sidecar) -> String {
    let answer = sidecar.admin("/status").await;
    assert_eq!(answer.status(), 200);
    let policy = answer.headers()["content-security-policy"]
        .to_str()
        .unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'sha256-"));
    assert_eq!(answer.headers()["cache-control"], "no-store");
    let text = answer.text().await.unwrap();
    canary::search("the status page", &text);
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_page_tells_what_somebody_must_look_at() {
    let (dressipi, app) = (Dressipi::start().await, App::start().await);
    let builder = Sidecar::behind(&dressipi).app(&app);
    let text = builder.text();
    let sidecar = builder.start().await;
    assert!(page(&sidecar).await.contains("All is well."));
    // Even before anything has been counted there is nothing that is no number.
    assert!(!page(&sidecar).await.contains("NaN"));
    sidecar.visitor("ada", TOP).send().await.unwrap();
    let to_app = sidecar.visitor("ada", "/status/503");
    assert_eq!(to_app.send().await.unwrap().status(), 503);
    eventually("the failed request shows", async || {
        let page = page(&sidecar).await;
        page.contains("Upstream app: 1 of 1 requests failed")
    })
    .await;

    let wrong = text.replace("path = \"/\"", "path = \"<script>alert(1)</script>\"");
    sidecar.reload(&wrong).await.unwrap_err();
    let refused = page(&sidecar).await;
    assert!(refused.contains("Another one was refused"), "{refused}");
    assert!(!refused.contains("<script>alert"), "escaped");
    sidecar.reload(&text).await.unwrap();
    assert!(!page(&sidecar).await.contains("Another one was refused"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_page_tells_how_dressipi_is() {
    let dressipi = Dressipi::start().await;
    let sidecar = Sidecar::behind(&dressipi).start().await;
    assert!(
        page(&sidecar)
            .await
            .contains("no OAuth call in the last 5 minutes")
    );
    sidecar.browser(TOP).send().await.unwrap();
    let well = page(&sidecar).await;
    assert!(well.contains("0 of 2 OAuth calls failed"), "{well}");
    assert!(well.contains("15m"), "how long tokens live: {well}");
    dressipi
        .simulator
        .add_fault(dressipi_sidecar::simulator::Fault::always(
            dressipi_sidecar::simulator::Endpoint::Authorize,
            dressipi_sidecar::simulator::FaultKind::status(500),
        ));
    sidecar.browser(TOP).send().await.unwrap();
    let failing = page(&sidecar).await;
    assert!(
        failing.contains("Somebody should look at this"),
        "{failing}"
    );
    assert!(
        failing.contains("Dressipi: 1 of 3 OAuth calls failed"),
        "{failing}"
    );
}
