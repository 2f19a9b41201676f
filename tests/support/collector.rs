//! A collector of traces: OTLP over HTTP, read with the types that OpenTelemetry publishes and another decoder than ours.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http::{HeaderMap, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use parking_lot::Mutex;
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::{Authority, eventually};

/// A collector that keeps what it gets.
#[derive(Clone)]
pub struct Collector {
    pub url: String,
    seen: Arc<Mutex<Seen>>,
}

/// What a collector was told, and what it is to answer.
#[derive(Default)]
struct Seen {
    connections: usize,
    calls: Vec<(HeaderMap, Bytes)>,
    requests: Vec<ExportTraceServiceRequest>,
    answers: VecDeque<Answer>,
}

/// An answer of a collector.
#[derive(Clone, Copy)]
pub enum Answer {
    /// A status other than 200, perhaps with `Retry-After`.
    Status(u16, Option<&'static str>),
    /// So many spans are rejected.
    Partial(i64),
}

impl Collector {
    pub async fn start() -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let collector = Self::at(socket.local_addr().unwrap(), "http");
        collector.clone().serve(socket, None);
        collector
    }

    /// One that speaks TLS as `localhost`, and the bundle that trusts it.
    pub async fn with_tls(folder: &Path) -> (Self, PathBuf) {
        let authority = Authority::new();
        let identity = authority.certify("localhost");
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![identity.certificate().clone()], identity.key())
            .unwrap();
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let mut collector = Self::at(address, "https");
        collector.url = format!("https://localhost:{}", address.port());
        let acceptor = TlsAcceptor::from(Arc::new(config));
        collector.clone().serve(socket, Some(acceptor));
        (collector, authority.write(folder))
    }

    fn at(address: SocketAddr, scheme: &str) -> Self {
        Self {
            url: format!("{scheme}://{address}"),
            seen: Arc::default(),
        }
    }

    fn serve(self, socket: TcpListener, tls: Option<TlsAcceptor>) {
        let router = Router::new()
            .route("/v1/traces", post(take))
            .with_state(self.clone());
        tokio::spawn(async move {
            loop {
                let (stream, _) = socket.accept().await.unwrap();
                self.seen.lock().connections += 1;
                let (tls, router) = (tls.clone(), router.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, router).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, router).await;
                            }
                        }
                    }
                });
            }
        });
    }

    /// What it answers next; after that it takes everything.
    pub fn answer(&self, answers: impl IntoIterator<Item = Answer>) {
        self.seen.lock().answers.extend(answers);
    }

    pub fn connections(&self) -> usize {
        self.seen.lock().connections
    }

    /// The calls: headers and bodies.
    pub fn calls(&self) -> Vec<(HeaderMap, Bytes)> {
        self.seen.lock().calls.clone()
    }

    /// What it has taken.
    pub fn requests(&self) -> Vec<ExportTraceServiceRequest> {
        self.seen.lock().requests.clone()
    }

    /// The spans that it has taken.
    pub fn spans(&self) -> Vec<Span> {
        let seen = self.seen.lock();
        let resources = seen.requests.iter().flat_map(|one| &one.resource_spans);
        let scopes = resources.flat_map(|resource| &resource.scope_spans);
        scopes.flat_map(|scope| scope.spans.clone()).collect()
    }

    /// The same, once there are so many.
    pub async fn wait_for(&self, count: usize) -> Vec<Span> {
        let what = format!("the collector has {count} spans");
        eventually(&what, async || self.spans().len() >= count).await;
        self.spans()
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, router: Router) {
    let service = TowerToHyperService::new(router);
    let server = auto::Builder::new(TokioExecutor::new());
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}

async fn take(State(collector): State<Collector>, headers: HeaderMap, body: Bytes) -> Response {
    let request = ExportTraceServiceRequest::decode(body.clone()).unwrap();
    let answer = {
        let mut seen = collector.seen.lock();
        seen.calls.push((headers, body));
        seen.answers.pop_front()
    };
    let mut response = ExportTraceServiceResponse::default();
    match answer {
        Some(Answer::Status(status, retry_after)) => {
            let status = StatusCode::from_u16(status).unwrap();
            return match retry_after {
                Some(seconds) => (status, [("retry-after", seconds)]).into_response(),
                None => status.into_response(),
            };
        }
        Some(Answer::Partial(rejected_spans)) => {
            response.partial_success = Some(ExportTracePartialSuccess {
                rejected_spans,
                error_message: "error-canary".to_owned(),
            });
        }
        None => {}
    }
    collector.seen.lock().requests.push(request);
    let protobuf = [("content-type", "application/x-protobuf")];
    (protobuf, response.encode_to_vec()).into_response()
}

/// An attribute as text; empty: there is none.
pub fn attribute(attributes: &[KeyValue], key: &str) -> String {
    let mut found = attributes.iter().filter(|pair| pair.key == key);
    let value = found.next().and_then(|pair| pair.value.clone()?.value);
    assert!(found.next().is_none(), "{key} is there twice");
    match value {
        None => String::new(),
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(other) => panic!("{key}: {other:?}"),
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
