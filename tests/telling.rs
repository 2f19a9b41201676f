//! What answers tell of how they came about, where that is switched on.

use crate::support::{App, Dressipi, Sidecar, visitor_cookie};

fn header<'a>(answer: &'a reqwest::Response, name: &str) -> &'a str {
    answer
        .headers()
        .get(name)
        .map_or("", |value| value.to_str().unwrap())
}

/// The names and the milliseconds of a `Server-Timing`.
fn timings(answer: &reqwest::Response) -> Vec<(String, f64)> {
    let parts = header(answer, "server-timing").split(", ");
    parts
        .map(|part| {
            let (name, took) = part.split_once(";dur=").unwrap();
            (name.to_owned(), took.parse().unwrap())
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn timing_and_token_state_are_told_where_that_is_switched_on() {
    let (dressipi, app) = (Dressipi::start().await, App::start().await);
    let routes = "[[routes]]\npath = \"/api/\"\nupstream = \"dressipi\"\n[[routes]]\npath = \"/plain/\"\nupstream = \"app\"\ncredentials = \"none\"\n[[routes]]\npath = \"/closed/\"\nupstream = \"closed\"\n[[upstreams]]\nname = \"closed\"\naddress = \"127.0.0.1:1\"\n";
    let sidecar = Sidecar::behind(&dressipi)
        .app(&app)
        .routes(routes)
        .server("server_timing = true\ntoken_state_header = true")
        .start()
        .await;
    let ask = async |path: &str| sidecar.visitor("ada", path).send().await.unwrap();
    let first = ask("/x").await;
    assert_eq!(header(&first, "dressipi-sidecar"), "visitor; source=flow");
    let names: Vec<_> = timings(&first).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["sidecar", "token", "upstream"]);
    assert!(
        timings(&first)
            .iter()
            .all(|(_, took)| (0.0..60_000.0).contains(took))
    );
    assert!(timings(&first)[1].1 > 0.0, "{:?}", timings(&first));
    let second = ask("/x").await;
    assert_eq!(header(&second, "dressipi-sidecar"), "visitor; source=cache");
    assert_eq!(timings(&second).len(), 2);
    assert_eq!(header(&ask("/plain/x").await, "dressipi-sidecar"), "none");
    let failed = ask("/closed/x").await;
    assert_eq!(failed.status(), 502);
    assert_eq!(header(&failed, "dressipi-sidecar"), "visitor; source=cache");
    assert_eq!(timings(&failed).len(), 1, "no upstream answered");
    let refused = sidecar
        .browser("/x")
        .header("user-agent", "Googlebot/2.1")
        .send()
        .await
        .unwrap();
    assert_eq!(
        header(&refused, "dressipi-sidecar"),
        "anonymous; reason=bot"
    );
    // No id is told: neither the cookie's nor the hash.
    let minted = sidecar.browser("/x").send().await.unwrap();
    let cookie = visitor_cookie(&minted).unwrap();
    for name in ["server-timing", "dressipi-sidecar"] {
        let told = header(&minted, name);
        assert!(
            !told.is_empty() && !told.contains(cookie.split('=').nth(1).unwrap()),
            "{told}"
        );
        assert!(
            told.bytes()
                .all(|b| b.is_ascii_lowercase() || b" ;=,.0123456789".contains(&b)),
            "{told}"
        );
    }
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_is_told_by_default() {
    let (dressipi, app) = (Dressipi::start().await, App::start().await);
    let sidecar = Sidecar::behind(&dressipi).app(&app).start().await;
    let answer = sidecar.visitor("ada", "/x").send().await.unwrap();
    assert_eq!(answer.status(), 200);
    for name in ["server-timing", "dressipi-sidecar"] {
        assert_eq!(header(&answer, name), "", "{name}");
    }
    sidecar.stop().await;
}
