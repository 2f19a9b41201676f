//! Bodies: invariant 13 with the real binary and its memory, and what HTTP/1.1 says of framing, over real sockets.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures::SinkExt;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};

use crate::support::{
    Blobs, Dressipi, Pattern, Process, Raw, RawUpstream, Sidecar, empty, fed, http1, send, streamed,
};

/// More than this the process may not grow by, whatever the length of a body.
const BOUND: u64 = 64 * 1024 * 1024;

/// 1 GiB with `SIDECAR_TEST_GIB=1`, as CI has it once. Elsewhere a quarter of that, four times the bound: the load tests
/// run at the same time and need the processor too.
fn body_size() -> u64 {
    let whole = std::env::var("SIDECAR_TEST_GIB").is_ok_and(|value| value == "1");
    (if whole { 1024 } else { 256 }) * 1024 * 1024
}

/// The real binary in front of `blobs` as app and as Dressipi.
async fn process_before(blobs: &Blobs, folder: &Path) -> Process {
    let dressipi = Dressipi::start().await;
    let router = blobs.router("/api/");
    let at_dressipi = blobs
        .serve(router.fallback_service(dressipi.simulator.router()))
        .await;
    let app = blobs.serve(blobs.router("/")).await;
    let config = Sidecar::behind(&dressipi)
        .base_url(format!("http://{at_dressipi}"))
        .app_at(app)
        .write(folder);
    tokio::task::block_in_place(|| Process::serve(&config, 2))
}

fn get(path: &str) -> http::request::Builder {
    Request::get(path)
        .header("host", "shop.example")
        .header("x-visitor-id", "ada")
}

fn put(path: &str) -> http::request::Builder {
    get(path).method("PUT")
}

async fn text(answer: http::Response<Incoming>) -> String {
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

/// Sends `size` bytes; all but the first only when the upstream has those.
async fn upload(process: &Process, blobs: &Blobs, path: &str, size: u64) {
    let mut client = http1(process.addresses[1]).await;
    let begun = blobs.upload_begun.clone();
    let chunks = futures::stream::unfold(Pattern::default(), move |mut pattern| {
        let begun = begun.clone();
        async move {
            let first = pattern.position() == 0;
            let chunk = pattern.next_chunk(size)?;
            if !first && pattern.position() <= 128 * 1024 {
                begun.notified().await;
            }
            Some((Frame::data(chunk), pattern))
        }
    });
    let request = put(path).body(streamed(chunks)).unwrap();
    let answer = send(&mut client, request).await;
    assert_eq!(
        (answer.status(), text(answer).await),
        (StatusCode::OK, format!("{size} eyJ"))
    );
}

/// Receives `size` bytes; the upstream sends all but the first only when those are here.
async fn download(process: &Process, blobs: &Blobs, path: &str, size: u64) {
    let mut client = http1(process.addresses[1]).await;
    let request = get(&format!("{path}?size={size}")).body(empty()).unwrap();
    let answer = send(&mut client, request).await;
    assert_eq!(answer.status(), 200);
    let mut body = answer.into_body();
    let mut pattern = Pattern::default();
    while let Some(frame) = body.frame().await {
        if pattern.position() == 0 {
            blobs.go_on.notify_one();
        }
        pattern.check(frame.unwrap().data_ref().unwrap());
    }
    assert_eq!(pattern.position(), size);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_13_a_gibibyte_streams_up_and_down_in_bounded_memory() {
    let blobs = Blobs::default();
    let folder = tempfile::tempdir().unwrap();
    let process = process_before(&blobs, folder.path()).await;
    let (size, warm_up) = (body_size(), 1024 * 1024);
    for path in ["/blob", "/api/blob"] {
        upload(&process, &blobs, path, warm_up).await;
        download(&process, &blobs, path, warm_up).await;
        let (before, begun) = (process.peak_memory(), Instant::now());
        upload(&process, &blobs, path, size).await;
        let up = begun.elapsed();
        download(&process, &blobs, path, size).await;
        // The kernel sums it up from counters of each processor: it may show a little less than before.
        let growth = process.peak_memory().saturating_sub(before);
        println!(
            "{path}: {} MiB up in {up:.1?}, down in {:.1?}, {} KiB more memory",
            size >> 20,
            begun.elapsed() - up,
            growth >> 10
        );
        assert!(growth < BOUND, "{growth} bytes more than before, on {path}");
    }
}

/// Waits until `count` stands still. That nothing happens can only be seen by letting time pass.
async fn stalled(count: impl Fn() -> u64) -> u64 {
    loop {
        let before = count();
        tokio::time::sleep(Duration::from_millis(300)).await;
        if before > 0 && count() == before {
            return before;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_13_who_does_not_read_stops_the_sender_and_costs_no_memory() {
    const SIZE: u64 = 128 * 1024 * 1024;
    let blobs = Blobs::default();
    let folder = tempfile::tempdir().unwrap();
    let process = process_before(&blobs, folder.path()).await;
    upload(&process, &blobs, "/blob", 1024 * 1024).await;
    let before = process.peak_memory();

    blobs.go_on.notify_one();
    let mut client = http1(process.addresses[1]).await;
    let request = get(&format!("/blob?size={SIZE}")).body(empty()).unwrap();
    let answer = send(&mut client, request).await;
    let sent = stalled(|| blobs.sent.load(Ordering::Relaxed)).await;
    // The kernel sums it up from counters of each processor: it may show a little less than before.
    let growth = process.peak_memory().saturating_sub(before);
    println!("{sent} bytes sent to nobody, {growth} bytes more memory");
    assert!(sent < BOUND && growth < BOUND, "{sent} sent, {growth} more");

    // The rest comes as soon as it is wanted.
    let mut body = answer.into_body();
    let mut pattern = Pattern::default();
    while let Some(frame) = body.frame().await {
        pattern.check(frame.unwrap().data_ref().unwrap());
    }
    assert_eq!(pattern.position(), SIZE);
    assert!(process.peak_memory().saturating_sub(before) < BOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_does_not_read_stops_the_client() {
    const SIZE: u64 = 128 * 1024 * 1024;
    let upstream = RawUpstream::bind().await;
    let dressipi = Dressipi::start().await;
    let sidecar = Sidecar::behind(&dressipi)
        .app_at(upstream.address)
        .start()
        .await;
    let sent = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let count = sent.clone();
    let chunks = futures::stream::unfold(Pattern::default(), move |mut pattern| {
        let chunk = pattern.next_chunk(SIZE);
        count.store(pattern.position(), Ordering::Relaxed);
        async move { Some((Frame::data(chunk?), pattern)) }
    });
    let mut client = http1(sidecar.trusted_address()).await;
    let request = put("/up").header("content-length", SIZE);
    let request = request.body(streamed(chunks)).unwrap();
    let answer = tokio::spawn(async move { send(&mut client, request).await });
    let mut upstream = upstream.accept().await;
    upstream.head().await;
    let stuck = stalled(|| sent.load(Ordering::Relaxed)).await;
    assert!(stuck < BOUND, "{stuck} bytes taken for nobody");
    // The rest comes as soon as it is wanted.
    let mut pattern = Pattern::default();
    while pattern.position() < SIZE {
        pattern.check(&upstream.some().await);
    }
    upstream.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(answer.await.unwrap().status(), 204);
}

/// A sidecar in front of an upstream that speaks in bytes.
async fn before_raw_upstream(server: &str) -> (Sidecar, RawUpstream) {
    let upstream = RawUpstream::bind().await;
    let dressipi = Dressipi::start().await;
    let sidecar = Sidecar::behind(&dressipi)
        .app_at(upstream.address)
        .server(server)
        .start()
        .await;
    (sidecar, upstream)
}

async fn before_blobs(server: &str) -> (Sidecar, Blobs) {
    let blobs = Blobs::default();
    let app = blobs.serve(blobs.router("/")).await;
    let dressipi = Dressipi::start().await;
    let sidecar = Sidecar::behind(&dressipi)
        .app_at(app)
        .server(server)
        .start()
        .await;
    (sidecar, blobs)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunked_body_without_a_length_passes_whole() {
    const SIZE: u64 = 5 * 1024 * 1024;
    let (sidecar, _blobs) = before_blobs("").await;
    let mut client = http1(sidecar.trusted_address()).await;
    for _ in 0..2 {
        let chunks = futures::stream::unfold(Pattern::default(), |mut pattern| async move {
            Some((Frame::data(pattern.next_chunk(SIZE)?), pattern))
        });
        let request = put("/blob").body(streamed(chunks)).unwrap();
        let answer = send(&mut client, request).await;
        assert_eq!(text(answer).await, format!("{SIZE} eyJ"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_waits_for_100_continue_gets_it() {
    let (sidecar, upstream) = before_raw_upstream("").await;
    let mut client = Raw::connect(sidecar.trusted_address()).await;
    client
        .send("PUT /x HTTP/1.1\r\nhost: shop.example\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n")
        .await;
    let mut upstream = upstream.accept().await;
    assert!(upstream.head().await.contains("expect: 100-continue"));
    upstream.send("HTTP/1.1 100 Continue\r\n\r\n").await;
    assert!(client.head().await.starts_with("http/1.1 100 "));
    client.send("hello").await;
    assert_eq!(upstream.exactly(5).await, b"hello");
    upstream
        .send("HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\nok")
        .await;
    let head = client.head().await;
    assert!(head.starts_with("http/1.1 201 "), "{head}");
    assert_eq!(client.exactly(2).await, b"ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_in_place_of_100_continue_reaches_the_client_before_its_body() {
    let (sidecar, upstream) = before_raw_upstream("").await;
    let mut client = Raw::connect(sidecar.trusted_address()).await;
    client
        .send("PUT /x HTTP/1.1\r\nhost: shop.example\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n")
        .await;
    let mut upstream = upstream.accept().await;
    upstream.head().await;
    upstream
        .send("HTTP/1.1 417 Expectation Failed\r\ncontent-length: 0\r\n\r\n")
        .await;
    assert!(client.head().await.starts_with("http/1.1 417 "));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_body_takes_as_long_as_it_likes_while_it_does_not_stop() {
    let (sidecar, blobs) = before_blobs("client_timeout = \"600ms\"").await;
    let mut client = http1(sidecar.trusted_address()).await;
    let (mut chunks, body) = fed();
    let request = put("/blob").body(body).unwrap();
    let answer = tokio::spawn(async move { client.send_request(request).await });
    let mut pattern = Pattern::default();
    // In all twice the time that one silence may last.
    for sent in 1..=12 {
        let chunk = pattern.next_chunk(sent * 100).unwrap();
        chunks.send(Frame::data(chunk)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    drop(chunks);
    assert_eq!(text(answer.await.unwrap().unwrap()).await, "1200 eyJ");

    // One that stops is told so.
    let mut client = Raw::connect(sidecar.trusted_address()).await;
    let begun = Instant::now();
    client
        .send("PUT /blob HTTP/1.1\r\nhost: shop.example\r\ncontent-length: 5\r\n\r\n")
        .await;
    let answer = String::from_utf8(client.rest().await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(begun.elapsed() >= Duration::from_millis(600));
    drop(blobs);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_without_a_body_pass_unchanged() {
    let (sidecar, upstream) = before_raw_upstream("").await;
    let mut client = Raw::connect(sidecar.trusted_address()).await;
    let cases = [
        ("HEAD", "200 OK", "content-length: 1234\r\n"),
        ("HEAD", "200 OK", "transfer-encoding: chunked\r\n"),
        ("GET", "204 No Content", ""),
        ("GET", "304 Not Modified", "content-length: 1234\r\n"),
        ("GET", "304 Not Modified", ""),
    ];
    let mut upstream = {
        client
            .send("GET /first HTTP/1.1\r\nhost: shop.example\r\nx-visitor-id: ada\r\n\r\n")
            .await;
        upstream.accept().await
    };
    upstream.head().await;
    upstream
        .send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        .await;
    client.head().await;
    for (method, status, framing) in cases {
        client
            .send(format!(
                "{method} /x HTTP/1.1\r\nhost: shop.example\r\nx-visitor-id: ada\r\n\r\n"
            ))
            .await;
        let head = upstream.head().await;
        let line = format!("{} /x http/1.1\r\n", method.to_ascii_lowercase());
        assert!(head.starts_with(&line), "{head}");
        let own = "etag: \"seven\"\r\nx-own: kept\r\ncache-control: max-age=60\r\n";
        upstream
            .send(format!("HTTP/1.1 {status}\r\n{own}{framing}\r\n"))
            .await;
        let head = client.head().await;
        let mut lines: Vec<_> = head.trim_end().split("\r\n").collect();
        lines.retain(|line| !line.starts_with("date:") && !line.starts_with("connection:"));
        let mut expected = vec![format!("http/1.1 {}", status.to_ascii_lowercase())];
        expected.extend(own.trim_end().split("\r\n").map(str::to_owned));
        expected.extend(framing.split("\r\n").map(str::to_owned));
        expected.retain(|line| !line.is_empty());
        lines.sort_unstable();
        expected.sort_unstable();
        assert_eq!(lines, expected, "{method} {status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_of_http_1_are_dropped_and_the_connection_goes_on() {
    let (sidecar, upstream) = before_raw_upstream("").await;
    let mut client = Raw::connect(sidecar.trusted_address()).await;
    let mut connection = None;
    for _ in 0..2 {
        client
            .send("PUT /x HTTP/1.1\r\nhost: shop.example\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 7\r\n\r\n")
            .await;
        let upstream = match &mut connection {
            Some(upstream) => upstream,
            None => connection.insert(upstream.accept().await),
        };
        let head = upstream.head().await;
        assert!(head.contains("transfer-encoding: chunked") && !head.contains("trailer"));
        let body = upstream.until(b"0\r\n\r\n").await;
        assert_eq!(body, b"5\r\nhello\r\n0\r\n\r\n");
        upstream
            .send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-sum: 9\r\n\r\n")
            .await;
        assert!(client.head().await.starts_with("http/1.1 200 "));
        assert_eq!(client.until(b"0\r\n\r\n").await, b"2\r\nok\r\n0\r\n\r\n");
    }
}
