//! Traces, as a collector gets them and as the upstream hears of them.

use std::time::{Duration, Instant};

use dressipi_sidecar::simulator::{Endpoint, Fault, FaultKind};
use opentelemetry_proto::tonic::trace::v1::Span;

use crate::support::collector::{Answer, Collector, attribute, hex};
use crate::support::{App, Dressipi, Process, Sidecar, client, eventually, json, seen};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const SERVER: i32 = 2;
const CLIENT: i32 = 3;

fn section(collector: &Collector, keys: &str) -> String {
    format!("[traces]\nendpoint = \"{}\"\n{keys}", collector.url)
}

fn one<'a>(spans: &'a [Span], what: &str, fits: impl Fn(&Span) -> bool) -> &'a Span {
    let mut found = spans.iter().filter(|span| fits(span));
    let first = found.next().unwrap_or_else(|| panic!("{what}: {spans:#?}"));
    assert!(found.next().is_none(), "{what}: twice: {spans:#?}");
    first
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_its_upstream_call_and_its_oauth_calls_are_one_trace() {
    let (dressipi, collector) = (Dressipi::start().await, Collector::start().await);
    let keys = "service_name = \"shop-sidecar\"\nresource_attributes = \"deployment.environment.name=test%20stage,service.name=forged\"\nheaders = \"x-team=hunter2,authorization=Bearer%20hunter2\"";
    let sidecar = Sidecar::behind(&dressipi)
        .extra(&section(&collector, keys))
        .start()
        .await;
    let begun = unix_nanos();
    let request = sidecar
        .visitor("ada", "/api/echo?secret=in-the-query")
        .header("traceparent", PARENT)
        .header("tracestate", "vendor=1, other@x=2");
    let echo = json(request.send().await.unwrap()).await;
    let spans = collector.wait_for(4).await;
    assert_eq!(spans.len(), 4, "{spans:#?}");
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    for span in &spans {
        assert_eq!(hex(&span.trace_id), trace);
        assert!(
            span.start_time_unix_nano >= begun
                && span.end_time_unix_nano >= span.start_time_unix_nano
        );
        assert!(span.end_time_unix_nano <= unix_nanos() + 1_000_000);
        assert_eq!(span.status, None, "{span:?}");
    }
    let own = one(&spans, "the request", |span| span.kind == SERVER);
    assert_eq!(own.name, "GET /api/");
    assert_eq!(hex(&own.parent_span_id), "00f067aa0ba902b7");
    assert_eq!(own.trace_state, "vendor=1,other@x=2");
    assert_eq!(own.flags, 0x301, "sampled, and of a parent elsewhere");
    for (key, value) in [
        ("http.request.method", "GET"),
        ("http.route", "/api/"),
        ("url.path", "/api/echo"),
        ("url.scheme", "http"),
        ("http.response.status_code", "200"),
        ("network.protocol.version", "1.1"),
        ("dressipi.token", "visitor"),
        ("error.type", ""),
    ] {
        assert_eq!(attribute(&own.attributes, key), value, "{key}");
    }
    assert_eq!(attribute(&own.attributes, "dressipi.visitor").len(), 12);
    let upstream = one(&spans, "the upstream call", |span| {
        !attribute(&span.attributes, "dressipi.upstream").is_empty()
    });
    assert_eq!((upstream.kind, upstream.name.as_str()), (CLIENT, "GET"));
    let url = format!("http://{}/api/echo", dressipi.address);
    let port = dressipi.address.port().to_string();
    for (key, value) in [
        ("http.request.method", "GET"),
        ("server.address", "127.0.0.1"),
        ("server.port", &port),
        ("url.full", &url),
        ("http.response.status_code", "200"),
        ("http.request.resend_count", ""),
    ] {
        assert_eq!(attribute(&upstream.attributes, key), value, "{key}");
    }
    let told = format!("00-{trace}-{}-01", hex(&upstream.span_id));
    assert_eq!(seen(&echo, "traceparent"), [told]);
    assert_eq!(seen(&echo, "tracestate"), ["vendor=1,other@x=2"]);
    for (call, name) in [
        ("authorize", "GET /api/oauth/authorize"),
        ("exchange", "POST /api/oauth/token"),
    ] {
        let span = one(&spans, call, |span| {
            attribute(&span.attributes, "dressipi.oauth.call") == call
        });
        assert_eq!((span.kind, span.name.as_str()), (CLIENT, name));
        assert!(!attribute(&span.attributes, "url.full").contains('?'));
    }
    for span in spans.iter().filter(|span| span.kind == CLIENT) {
        assert_eq!(span.parent_span_id, own.span_id);
        assert_eq!(span.flags, 0x101);
    }

    let request = &collector.requests()[0];
    let resource = request.resource_spans[0].resource.clone().unwrap();
    for (key, value) in [
        ("service.name", "shop-sidecar"),
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("deployment.environment.name", "test stage"),
    ] {
        assert_eq!(attribute(&resource.attributes, key), value);
    }
    let scope = request.resource_spans[0].scope_spans[0]
        .scope
        .clone()
        .unwrap();
    assert_eq!(scope.name, "dressipi-sidecar");
    let (headers, body) = &collector.calls()[0];
    assert_eq!(headers["content-type"], "application/x-protobuf");
    assert_eq!(
        (&headers["x-team"], &headers["authorization"]),
        (
            &"hunter2".parse().unwrap(),
            &"Bearer hunter2".parse().unwrap()
        )
    );
    let body = String::from_utf8_lossy(body);
    for secret in ["hunter2", "in-the-query", "ada", "demo-api-key", "eyJ"] {
        assert!(!body.contains(secret), "{secret}");
    }
    sidecar.counts("trace_spans_total", "exported", 4.0).await;
    sidecar.stop().await;
}

fn unix_nanos() -> u64 {
    u64::try_from(dressipi_sidecar::clock::unix_time().as_nanos()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn off_no_header_is_touched_and_no_connection_made() {
    let (dressipi, app) = (Dressipi::start().await, App::start().await);
    let collector = Collector::start().await;
    let sidecar = Sidecar::behind(&dressipi)
        .app(&app)
        .extra("[traces]\nsample_ratio = 1")
        .start()
        .await;
    for values in [&[PARENT][..], &["nonsense"], &[PARENT, "x"], &[]] {
        let mut request = sidecar.visitor("ada", "/x").header("tracestate", "A=b;");
        for value in values {
            request = request.header("traceparent", *value);
        }
        let echo = json(request.send().await.unwrap()).await;
        assert_eq!(seen(&echo, "traceparent"), values);
        assert_eq!(seen(&echo, "tracestate"), ["A=b;"]);
    }
    sidecar.stop().await;
    assert_eq!(collector.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_began_a_trace_decides_and_else_the_ratio() {
    let (dressipi, app) = (Dressipi::start().await, App::start().await);
    let collector = Collector::start().await;
    let traces = section(&collector, "sample_ratio = 0");
    let sidecar = Sidecar::behind(&dressipi)
        .app(&app)
        .extra(&traces)
        .start()
        .await;
    // Not recorded: the caller's header passes as it is.
    let unsampled = format!("{}00", &PARENT[..53]);
    let request = sidecar
        .visitor("ada", "/x")
        .header("traceparent", &unsampled);
    let echo = json(request.header("tracestate", "a=b").send().await.unwrap()).await;
    assert_eq!(seen(&echo, "traceparent"), [unsampled]);
    assert_eq!(seen(&echo, "tracestate"), ["a=b"]);
    // Malformed counts as none: another trace begins, whose upstream is told that it is not recorded.
    for bad in ["nonsense", &PARENT.to_uppercase()] {
        let request = sidecar.visitor("ada", "/x").header("traceparent", bad);
        let echo = json(request.header("tracestate", "a=b").send().await.unwrap()).await;
        let told = seen(&echo, "traceparent");
        assert!(
            told.len() == 1 && told[0].len() == 55 && told[0].ends_with("-02"),
            "{told:?}"
        );
        assert!(!told[0].contains("4bf92f"), "{told:?}");
        assert!(seen(&echo, "tracestate").is_empty());
    }
    // The caller has decided.
    let request = sidecar.visitor("ada", "/x").header("traceparent", PARENT);
    request.send().await.unwrap();
    let spans = collector.wait_for(2).await;
    assert!(
        spans
            .iter()
            .all(|span| hex(&span.trace_id) == PARENT[3..35])
    );
    sidecar.stop().await;
    assert_eq!(collector.spans().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_and_attempts_have_spans_that_say_what_went_wrong() {
    let (dressipi, app) = (Dressipi::start().await, App::start().await);
    let collector = Collector::start().await;
    let closed = "[[upstreams]]\nname = \"closed\"\naddress = \"127.0.0.1:1\"\n[[routes]]\npath = \"/closed/\"\nupstream = \"closed\"\n";
    let traces = section(&collector, "") + "\n" + closed;
    let sidecar = Sidecar::behind(&dressipi)
        .app(&app)
        .extra(&traces)
        .start()
        .await;
    assert_eq!(
        sidecar
            .visitor("ada", "/closed/x")
            .send()
            .await
            .unwrap()
            .status(),
        502
    );
    let spans = collector.wait_for(4).await;
    let attempt = one(&spans, "the attempt", |span| {
        attribute(&span.attributes, "dressipi.upstream") == "closed"
    });
    assert_eq!(
        attribute(&attempt.attributes, "error.type"),
        "connection_refused"
    );
    let own = one(&spans, "the request", |span| span.kind == SERVER);
    assert_eq!(
        attribute(&own.attributes, "error.type"),
        "connection_refused"
    );
    assert_eq!(
        attribute(&own.attributes, "http.response.status_code"),
        "502"
    );
    for span in [attempt, own] {
        assert_eq!(span.status.as_ref().unwrap().code, 2);
    }
    // A rejected token: two attempts, and a refresh between them.
    let api = || sidecar.visitor("ada", "/api/echo");
    assert_eq!(api().send().await.unwrap().status(), 200);
    collector.wait_for(6).await;
    dressipi
        .simulator
        .add_fault(Fault::once(Endpoint::Resource, FaultKind::Forbid));
    let answer = api().header("traceparent", PARENT).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let spans = collector.wait_for(10).await;
    let spans: Vec<Span> = spans
        .into_iter()
        .filter(|span| hex(&span.trace_id) == PARENT[3..35])
        .collect();
    let status = |span: &Span| attribute(&span.attributes, "http.response.status_code");
    let first = one(&spans, "the first attempt", |span| {
        span.kind == CLIENT && !status(span).is_empty() && status(span) != "200"
    });
    assert_eq!(attribute(&first.attributes, "error.type"), status(first));
    let second = one(&spans, "the second attempt", |span| {
        attribute(&span.attributes, "http.request.resend_count") == "1"
    });
    assert_eq!(status(second), "200");
    one(&spans, "the refresh", |span| {
        attribute(&span.attributes, "dressipi.oauth.call") == "refresh"
    });
    let own = one(&spans, "the request", |span| span.kind == SERVER);
    assert_eq!(own.status, None);
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_the_collector_must_be_the_one_that_it_should_be() {
    let (dressipi, folder) = (Dressipi::start().await, tempfile::tempdir().unwrap());
    let (collector, ca) = Collector::with_tls(folder.path()).await;
    let traces = section(&collector, &format!("ca_file = {ca:?}"));
    let sidecar = Sidecar::behind(&dressipi).extra(&traces).start().await;
    sidecar.visitor("ada", "/api/echo").send().await.unwrap();
    collector.wait_for(4).await;
    sidecar.stop().await;
    // And nothing goes to one that nobody vouches for.
    let (stranger, _) = Collector::with_tls(folder.path()).await;
    let other = tempfile::tempdir().unwrap();
    let ca = crate::support::Authority::new().write(other.path());
    let traces = section(&stranger, &format!("ca_file = {ca:?}"));
    let sidecar = Sidecar::behind(&dressipi).extra(&traces).start().await;
    sidecar.visitor("ada", "/api/echo").send().await.unwrap();
    eventually("it was tried", async || stranger.connections() > 0).await;
    sidecar.stop().await;
    assert_eq!(stranger.calls().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_down_costs_requests_nothing_and_the_queue_is_bounded() {
    let (dressipi, app) = (Dressipi::start().await, App::start().await);
    // Accepts, and answers nobody.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let traces = format!(
        "[traces]\nendpoint = \"http://{}\"\nqueue = 20",
        silent.local_addr().unwrap()
    );
    let sidecar = Sidecar::behind(&dressipi)
        .app(&app)
        .extra(&traces)
        .start()
        .await;
    let begun = Instant::now();
    for _ in 0..600 {
        assert_eq!(
            sidecar.visitor("ada", "/x").send().await.unwrap().status(),
            200
        );
    }
    let took = begun.elapsed();
    // One that waited for the collector would take ten seconds by itself.
    assert!(took < Duration::from_secs(10), "{took:?}");
    // 1202 spans; at most 20 wait, and as many are under way.
    sidecar.counts("trace_spans_total", "dropped", 1100.0).await;
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_collector_cannot_take_comes_again_and_what_it_rejects_is_counted() {
    let (dressipi, app) = (Dressipi::start().await, App::start().await);
    let collector = Collector::start().await;
    collector.answer([
        Answer::Status(429, Some("1")),
        Answer::Status(502, None),
        Answer::Status(503, Some("0")),
        Answer::Status(504, Some("0")),
        Answer::Partial(1),
    ]);
    let sidecar = Sidecar::behind(&dressipi)
        .app(&app)
        .extra(&section(&collector, ""))
        .start()
        .await;
    let ask = || {
        sidecar
            .visitor("ada", "/x")
            .header("traceparent", PARENT)
            .send()
    };
    let begun = Instant::now();
    ask().await.unwrap();
    sidecar.counts("trace_spans_total", "rejected", 1.0).await;
    assert!(
        begun.elapsed() >= Duration::from_millis(2000),
        "Retry-After and our own pause were kept"
    );
    assert_eq!(collector.calls().len(), 5);
    let bodies: Vec<_> = collector
        .calls()
        .into_iter()
        .map(|(_, body)| body)
        .collect();
    assert!(
        bodies.iter().all(|body| *body == bodies[0]),
        "the same spans each time"
    );
    assert_eq!(sidecar.metric("trace_export_retries_total", "").await, 4.0);
    assert_eq!(sidecar.metric("trace_spans_total", "exported").await, 3.0);
    // Another status is for good.
    collector.answer([Answer::Status(400, None)]);
    ask().await.unwrap();
    sidecar.counts("trace_spans_total", "failed", 2.0).await;
    assert_eq!(collector.calls().len(), 6);
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_switches_traces_on_and_off_and_loses_none() {
    let (dressipi, app) = (Dressipi::start().await, App::start().await);
    let collector = Collector::start().await;
    let builder = || Sidecar::behind(&dressipi).app(&app);
    let (off, on) = (
        builder().text(),
        builder().extra(&section(&collector, "")).text(),
    );
    let sidecar = builder().start_text(&off).await;
    let ask = async || {
        let request = sidecar.visitor("ada", "/x").header("traceparent", PARENT);
        json(request.send().await.unwrap()).await
    };
    assert_eq!(seen(&ask().await, "traceparent"), [PARENT]);
    sidecar.reload(&on).await.unwrap();
    assert_ne!(seen(&ask().await, "traceparent"), [PARENT]);
    // Before a second has passed, for which a batch gathers.
    sidecar.reload(&off).await.unwrap();
    assert_eq!(seen(&ask().await, "traceparent"), [PARENT]);
    let spans = collector.wait_for(2).await;
    assert_eq!(spans.len(), 2);
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn background_work_has_a_trace_of_its_own() {
    let (dressipi, collector) = (Dressipi::start().await, Collector::start().await);
    let sidecar = Sidecar::behind(&dressipi)
        .extra(&section(&collector, ""))
        .start()
        .await;
    let parent = |span: &str| format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{span}-01");
    let ask = |span: &str| {
        sidecar
            .visitor_request(reqwest::Method::POST, "ada", "/api/echo")
            .header("traceparent", parent(span))
    };
    assert_eq!(
        ask("00f067aa0ba902b7")
            .body("x")
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
    collector.wait_for(4).await;
    // The body is too long to be sent again: the answer passes, and a refresh begins for which nobody waits.
    dressipi
        .simulator
        .add_fault(Fault::once(Endpoint::Resource, FaultKind::Forbid));
    let answer = ask("00f067aa0ba902b8")
        .body(vec![b'x'; 200_000])
        .send()
        .await
        .unwrap();
    assert!(answer.status().is_client_error());
    let spans = collector.wait_for(7).await;
    let refresh = one(&spans, "the refresh", |span| {
        attribute(&span.attributes, "dressipi.oauth.call") == "refresh"
    });
    assert!(refresh.parent_span_id.is_empty());
    assert_ne!(hex(&refresh.trace_id), PARENT[3..35]);
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_sends_what_is_there() {
    let (dressipi, app) = (Dressipi::start().await, App::start().await);
    let (collector, folder) = (Collector::start().await, tempfile::tempdir().unwrap());
    let text = Sidecar::behind(&dressipi)
        .app(&app)
        .extra(&section(&collector, ""))
        .write(folder.path());
    let process = Process::serve(&text, 2);
    let url = format!("http://{}/x", process.addresses[1]);
    for _ in 0..300 {
        client()
            .get(&url)
            .header("x-visitor-id", "ada")
            .send()
            .await
            .unwrap();
    }
    let (status, _) = tokio::task::block_in_place(|| process.terminate());
    assert!(status.success());
    // Two for each request, and two for the visitor's profile.
    assert_eq!(collector.spans().len(), 602);
}
