//! Puts the gate on each connection that is accepted, counts it, and has pingora serve it.

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use pingora::apps::ServerApp;
use pingora::protocols::Stream;
use pingora::server::ShutdownWatch;

use super::census::{Census, Crowded};
use super::client::{Accepted, Client};
use super::head::HeadLimits;
use super::stream::{Gate, Patience};
use super::tls::{Failed, Tls};
use crate::config::{Limits, TrustedProxies};
use crate::telemetry::Metrics;

/// A server app of pingora's whose connections come through the gate.
pub struct Gated<A> {
    app: Arc<A>,
    parts: GatedParts,
}

/// What the gate of one listener is made of.
pub struct GatedParts {
    /// What it goes by; a connection keeps what it began with.
    pub rules: Arc<ArcSwap<GateRules>>,
    /// The connections of all listeners.
    pub census: Census,
    /// Turns true when connections between two requests are to be closed: later than no more are accepted, so that whoever has just
    /// connected is served.
    pub closing: ShutdownWatch,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

/// What the gate of one listener goes by.
#[derive(Clone)]
pub struct GateRules {
    /// What clients may take.
    pub limits: Limits,
    /// Peers that many clients come through, whose connections count for the whole only. So do those of this host.
    pub trusted_proxies: TrustedProxies,
    /// TLS, if it is spoken.
    pub tls: Option<Arc<Tls>>,
}

impl<A> Gated<A> {
    /// `app` behind the gate.
    pub fn new(app: A, parts: GatedParts) -> Self {
        Self {
            app: Arc::new(app),
            parts,
        }
    }
}

impl GateRules {
    fn is_proxy(&self, address: IpAddr) -> bool {
        address.to_canonical().is_loopback() || self.trusted_proxies.include(Some(address))
    }
}

/// Why connections are closed before their first request: the words for metrics.
pub fn refused_connections() -> [&'static str; 4] {
    let [all, address] = [Crowded::All, Crowded::Address].map(Crowded::label);
    let [late, refused] = [Failed::TimedOut, Failed::Refused].map(Failed::label);
    [all, address, late, refused]
}

impl<A: ServerApp + Send + Sync + 'static> Gated<A> {
    /// Serves a connection to its end.
    pub async fn serve(&self, accepted: Accepted) {
        let GatedParts {
            rules,
            census,
            closing,
            metrics,
        } = &self.parts;
        let rules = rules.load_full();
        let GateRules { limits, tls, .. } = &*rules;
        let address = accepted.address();
        let place = match census.enter(address.filter(|address| !rules.is_proxy(*address))) {
            Ok(place) => place,
            Err(crowded) => {
                return metrics.connection_refused(crowded.label());
            }
        };
        let client = match Client::new(accepted, tls.is_some()) {
            Ok(client) => client,
            Err(error) => return tracing::error!(%error, "a connection cannot be served"),
        };
        let stream: Stream = match tls {
            None => Box::new(client),
            Some(tls) => match tls.accept(client, limits.header_timeout).await {
                Ok(stream) => stream,
                Err(failed) => return metrics.connection_refused(failed.label()),
            },
        };
        let patience = Patience {
            head: HeadLimits {
                bytes: limits.header_bytes,
                count: limits.header_count,
            },
            head_timeout: limits.header_timeout,
            idle_timeout: limits.idle_timeout,
            body_rate: limits.body_rate,
            body_grace: limits.body_grace,
        };
        match Gate::new(stream, patience, place) {
            // pingora serves a whole connection in one go and gives none back.
            Ok(gate) => drop(self.app.process_new(Box::new(gate), closing).await),
            Err(error) => tracing::error!(%error, "a connection cannot be served"),
        }
    }

    /// To be called when no more connections come.
    pub async fn close(&self) {
        self.app.cleanup().await;
    }
}
