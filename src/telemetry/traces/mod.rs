//! Traces: spans of requests, upstream calls and OAuth calls, sent to a collector by OTLP.
//!
//! Off, there is no [`Tracer`], and nobody who would touch a header or open a connection. On, a request leaves its spans in a bounded
//! queue at its end and waits for nobody; the exporter runs where the flows do.

mod exporter;
mod otlp;
mod queue;
mod span;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use rand::RngExt;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use self::exporter::{BATCH, Exporter};
use self::queue::Queue;
use super::metrics::Metrics;
use crate::config::{Config, Traces as Settings};
use crate::session::Call;
use crate::trace::{Parent, SpanContext, SpanId, TraceId};

pub use span::{Kind, Span, Value, method, name};

/// The tracer of the present configuration. Clones are handles to the same one.
#[derive(Clone)]
pub struct Traces(Arc<Inner>);

struct Inner {
    tracer: ArcSwapOption<Tracer>,
    runtime: Handle,
    metrics: Arc<Metrics>,
}

/// What records spans by one configuration. When it is dropped, what it has is sent on.
pub struct Tracer {
    settings: Settings,
    oauth: OauthServer,
    queue: Arc<Queue>,
    exporter: Mutex<Option<JoinHandle<()>>>,
    metrics: Arc<Metrics>,
}

/// What is said of the server of OAuth calls.
#[derive(Clone, Debug, PartialEq, Eq)]
struct OauthServer {
    base_url: String,
    host: String,
    port: u16,
    authorize_path: String,
    token_path: String,
}

/// Why traces cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    /// The bundle of certificate authorities cannot be used.
    #[error(
        "traces.ca_file: {path} cannot be used as a bundle of certificate authorities: {reason}"
    )]
    Ca {
        /// Its path.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The TLS library refused.
    #[error("the HTTP client of traces cannot be built: {0}")]
    Http(#[source] reqwest::Error),
}

/// So many bits of a trace's id decide whether it is sampled (W3C Trace Context level 2, §4.1).
const RANDOM_BITS: u32 = 56;

// === impl Traces ===

impl Traces {
    /// Without a tracer. Exporters run on `runtime`.
    pub fn new(runtime: Handle, metrics: Arc<Metrics>) -> Self {
        Self(Arc::new(Inner {
            tracer: ArcSwapOption::empty(),
            runtime,
            metrics,
        }))
    }

    /// The tracer that `config` asks for: the present one, if that is the same.
    pub fn prepare(&self, config: &Config) -> Result<Option<Arc<Tracer>>, TracesError> {
        let Some(settings) = &config.traces else {
            return Ok(None);
        };
        let oauth = OauthServer::of(config);
        if let Some(present) = self.tracer()
            && present.settings == *settings
            && present.oauth == oauth
        {
            return Ok(Some(present));
        }
        let queue = Arc::new(Queue::new(settings.queue));
        let metrics = self.0.metrics.clone();
        let exporter = Exporter::new(settings, queue.clone(), metrics.clone())?;
        let exporter = self.0.runtime.spawn(exporter.run());
        Ok(Some(Arc::new(Tracer {
            settings: settings.clone(),
            oauth,
            queue,
            exporter: Mutex::new(Some(exporter)),
            metrics,
        })))
    }

    /// Spans are recorded by `tracer` from here on.
    pub fn replace(&self, tracer: Option<Arc<Tracer>>) {
        self.0.tracer.store(tracer);
    }

    /// The present tracer.
    pub fn tracer(&self) -> Option<Arc<Tracer>> {
        self.0.tracer.load_full()
    }

    /// Sends on what is there, within `bound`. What comes later is dropped.
    pub async fn close(&self, bound: Duration) {
        let Some(tracer) = self.0.tracer.swap(None) else {
            return;
        };
        tracer.queue.close();
        let exporter = tracer.exporter.lock().take();
        if let Some(mut exporter) = exporter
            && tokio::time::timeout(bound, &mut exporter).await.is_err()
        {
            exporter.abort();
            let left = tracer.queue.len() as u64;
            self.0.metrics.spans("dropped", left);
            tracing::warn!("the collector did not take the last traces in time");
        }
    }
}

// === impl Tracer ===

impl Tracer {
    /// The span of a request that comes from `parent`, or from nobody: a trace's first, for which the ratio decides.
    pub fn begin(&self, parent: Option<&Parent>) -> SpanContext {
        match parent {
            Some(parent) => child_of(&parent.context),
            None => self.root(),
        }
    }

    /// Takes the spans of something that has ended.
    pub fn record(&self, spans: impl IntoIterator<Item = Span>) {
        let dropped = self.queue.push(spans, BATCH);
        if dropped > 0 {
            self.metrics.spans("dropped", dropped as u64);
        }
    }

    /// An OAuth call has ended, for which `waiter` waited, if anybody did.
    pub fn oauth_call(
        &self,
        call: Call,
        result: &'static str,
        begun: Instant,
        waiter: Option<SpanContext>,
    ) {
        let context = waiter.map_or_else(|| self.root(), |waiter| child_of(&waiter));
        if !context.sampled {
            return;
        }
        let (method, path) = match call {
            Call::Authorize => ("GET", &self.oauth.authorize_path),
            Call::Exchange | Call::Refresh => ("POST", &self.oauth.token_path),
        };
        let OauthServer {
            base_url,
            host,
            port,
            ..
        } = &self.oauth;
        let failed = result != "ok";
        let mut attributes = vec![
            ("http.request.method", method.into()),
            ("server.address", host.clone().into()),
            ("server.port", (*port).into()),
            // Its query has the challenge, and is nobody's business.
            ("url.full", format!("{base_url}{path}").into()),
            ("url.template", path.clone().into()),
            ("dressipi.oauth.call", call.label().into()),
        ];
        if failed {
            attributes.push(("error.type", result.into()));
        }
        self.record([Span {
            context,
            parent: waiter.map(|waiter| (waiter.span, false)),
            state: None,
            name: name(method, Some(path)),
            kind: Kind::Client,
            begun,
            ended: Instant::now(),
            attributes,
            failed,
        }]);
    }

    fn root(&self) -> SpanContext {
        let trace = random_trace();
        SpanContext {
            trace,
            span: random_span(),
            sampled: is_sampled(&trace, self.settings.sample_ratio.value()),
            random: true,
        }
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// A new span of the same trace.
pub fn child_of(parent: &SpanContext) -> SpanContext {
    SpanContext {
        span: random_span(),
        ..*parent
    }
}

/// Whoever samples by the same ratio samples the same traces.
fn is_sampled(trace: &TraceId, ratio: f64) -> bool {
    let [.., a, b, c, d, e, f, g] = *trace.as_bytes();
    let random = u64::from_be_bytes([0, a, b, c, d, e, f, g]);
    let all = (1_u64 << RANDOM_BITS) as f64;
    // As OpenTelemetry has it: the largest ids are in.
    random as f64 >= (1.0 - ratio) * all
}

fn random_trace() -> TraceId {
    loop {
        if let Some(id) = TraceId::from_bytes(rand::rng().random()) {
            return id;
        }
    }
}

fn random_span() -> SpanId {
    loop {
        if let Some(id) = SpanId::from_bytes(rand::rng().random()) {
            return id;
        }
    }
}

// === impl OauthServer ===

impl OauthServer {
    fn of(config: &Config) -> Self {
        let dressipi = &config.dressipi;
        Self {
            base_url: dressipi.base_url.to_string(),
            host: dressipi.base_url.server_name().to_owned(),
            port: dressipi.base_url.port(),
            authorize_path: dressipi.authorize_path.clone(),
            token_path: dressipi.token_path.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_kept_and_all_and_nothing_are_exact() {
        let traces: Vec<_> = (0..100_000).map(|_| random_trace()).collect();
        let sampled = |ratio| {
            traces
                .iter()
                .filter(|trace| is_sampled(trace, ratio))
                .count()
        };
        assert_eq!((sampled(0.0), sampled(1.0)), (0, traces.len()));
        // Five standard deviations.
        assert!((842..=1158).contains(&sampled(0.01)), "{}", sampled(0.01));
    }
}
