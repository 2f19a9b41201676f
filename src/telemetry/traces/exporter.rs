//! Sends spans to the collector: OTLP over HTTP in protobuf, in batches, and once more where the specification says that it helps.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::TracesError;
use super::otlp::{Resource, rejected_spans, request};
use super::queue::Queue;
use super::span::Span;
use crate::clock::unix_time;
use crate::config::Traces as Settings;
use crate::telemetry::metrics::Metrics;

/// What sends spans on.
pub(super) struct Exporter {
    http: reqwest::Client,
    endpoint: String,
    resource: Vec<(String, String)>,
    queue: Arc<Queue>,
    metrics: Arc<Metrics>,
    failing: bool,
}

/// What became of one call.
enum Outcome {
    /// Taken, but for so many.
    Taken(u64),
    /// Not now; perhaps later, and not before the time that the collector named.
    Later(Option<Duration>, String),
    /// Never.
    Refused(String),
}

/// So many spans go at once.
pub(super) const BATCH: usize = 512;
/// How long a batch gathers.
const GATHER: Duration = Duration::from_secs(1);
/// How often a batch is tried, and how long is waited before the second time; twice as long before each further one.
const TRIES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// A collector that wants to be left alone for longer gets later spans instead.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// An answer has a few bytes.
const MAX_ANSWER: usize = 64 * 1024;

// === impl Exporter ===

impl Exporter {
    pub(super) fn new(
        settings: &Settings,
        queue: Arc<Queue>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, TracesError> {
        let mut headers = settings.headers.clone();
        let protobuf = HeaderValue::from_static("application/x-protobuf");
        headers.insert(CONTENT_TYPE, protobuf);
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("dressipi-sidecar/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .retry(reqwest::retry::never())
            .timeout(settings.timeout);
        if let Some(path) = &settings.ca_file {
            let wrong = |reason: String| TracesError::Ca {
                path: path.clone(),
                reason,
            };
            let pem = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
            let bundle = reqwest::Certificate::from_pem_bundle(&pem);
            builder = builder.tls_certs_only(bundle.map_err(|error| wrong(error.to_string()))?);
        }
        let name = ("service.name".to_owned(), settings.service_name.clone());
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let ours = [name, ("service.version".to_owned(), version)];
        let typed = settings.resource_attributes.iter();
        let others = typed.filter(|(key, _)| ours.iter().all(|(our, _)| our != key));
        Ok(Self {
            http: builder.build().map_err(TracesError::Http)?,
            endpoint: settings.endpoint.clone(),
            resource: ours.iter().chain(others).cloned().collect(),
            queue,
            metrics,
            failing: false,
        })
    }

    /// Sends what comes, until the queue is closed and empty.
    pub(super) async fn run(mut self) {
        loop {
            while self.queue.len() == 0 {
                if self.queue.is_closed() {
                    return;
                }
                self.queue.woken().await;
            }
            let _ = tokio::time::timeout(GATHER, self.batch_is_full()).await;
            let spans = self.queue.take(BATCH);
            self.export(spans).await;
        }
    }

    async fn batch_is_full(&self) {
        while self.queue.len() < BATCH && !self.queue.is_closed() {
            self.queue.woken().await;
        }
    }

    async fn export(&mut self, spans: Vec<Span>) {
        let count = spans.len() as u64;
        let resource = Resource {
            attributes: &self.resource,
        };
        let body = bytes::Bytes::from(request(&resource, &timed(spans)));
        let mut pause = FIRST_PAUSE;
        for tried in 1..=TRIES {
            let why = match self.call(body.clone()).await {
                Outcome::Taken(rejected) => {
                    let rejected = rejected.min(count);
                    self.metrics.spans("exported", count - rejected);
                    self.metrics.spans("rejected", rejected);
                    if std::mem::take(&mut self.failing) {
                        tracing::info!("the collector takes traces again");
                    }
                    return;
                }
                Outcome::Later(asked, why) => {
                    let next = asked.unwrap_or(pause);
                    if tried < TRIES && next <= LONGEST_PAUSE {
                        self.metrics.export_retried();
                        tokio::time::sleep(next).await;
                        pause *= 2;
                        continue;
                    }
                    why
                }
                Outcome::Refused(why) => why,
            };
            self.metrics.spans("failed", count);
            if !std::mem::replace(&mut self.failing, true) {
                tracing::warn!(
                    endpoint = self.endpoint,
                    why,
                    "the collector takes no traces; those spans are lost"
                );
            }
            return;
        }
    }

    async fn call(&self, body: bytes::Bytes) -> Outcome {
        let sent = self.http.post(&self.endpoint).body(body).send().await;
        let answer = match sent {
            Ok(answer) => answer,
            Err(error) if error.is_timeout() => return Outcome::Later(None, "timeout".into()),
            Err(error) if error.is_connect() => return Outcome::Later(None, "unreachable".into()),
            Err(_) => return Outcome::Later(None, "the answer was lost".into()),
        };
        let status = answer.status();
        let why = format!("status {}", status.as_u16());
        match status {
            _ if status.is_success() => Outcome::Taken(rejected(answer).await),
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => Outcome::Later(retry_after(answer.headers()), why),
            _ => Outcome::Refused(why),
        }
    }
}

/// The times of spans on the wall clock, which other processes go by.
fn timed(spans: Vec<Span>) -> Vec<(Span, (u64, u64))> {
    let (instant, now) = (Instant::now(), unix_time());
    let at = |then: Instant| {
        let nanos = now
            .saturating_sub(instant.saturating_duration_since(then))
            .as_nanos();
        u64::try_from(nanos).unwrap_or(u64::MAX)
    };
    let timed = spans.into_iter().map(|span| {
        let times = (at(span.begun), at(span.ended));
        (span, times)
    });
    timed.collect()
}

async fn rejected(mut answer: reqwest::Response) -> u64 {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = answer.chunk().await {
        if body.len() + chunk.len() > MAX_ANSWER {
            return 0;
        }
        body.extend_from_slice(&chunk);
    }
    rejected_spans(&body)
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers
        .get(RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()?;
    Some(Duration::from_secs(seconds))
}
