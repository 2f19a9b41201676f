//! Upstream addresses: resolved in the background, never inside a request; and the peers that pingora connects to.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use pingora::protocols::ALPN;
use pingora::upstreams::peer::HttpPeer;
use pingora::utils::tls::{CertKey, WrappedX509, parse_x509};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::hops;
use super::snapshot::Snapshot;
use super::upgrade::WriterFirst;
use crate::config::Upstream;
use crate::dressipi::Settings;
use crate::tls::{ClientIdentity, FilesError};

/// Where connections go, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Destination {
    name: String,
    host: String,
    port: u16,
    tls: Option<Tls>,
    upgrades: bool,
    connect_timeout: Duration,
    read_timeout: Duration,
    idle_timeout: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Tls {
    server_name: String,
    ca_file: Option<PathBuf>,
    client: Option<ClientIdentity>,
    http2: bool,
}

/// A destination with its present addresses.
pub(super) struct Pool {
    destination: Destination,
    ca: Option<Arc<[WrappedX509]>>,
    /// Our certificate, which is shown where it is asked for.
    client: Option<Shown>,
    /// Tells the connections of this pool from all others, and those for upgrades from the rest.
    groups: [u64; 2],
    addresses: ArcSwap<Vec<SocketAddr>>,
    next: AtomicUsize,
}

/// A certificate of ours, and when it ends.
struct Shown {
    certificate: Arc<CertKey>,
    ends: SystemTime,
}

/// Why an upstream cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// The bundle of certificate authorities cannot be read or holds no usable certificate.
    #[error(
        "upstream `{upstream}`: {path} cannot be used as a bundle of certificate authorities: {reason}"
    )]
    Ca {
        /// The upstream's name.
        upstream: String,
        /// The bundle's path.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Our certificate cannot be used.
    #[error("upstream `{upstream}`: {source}")]
    Client {
        /// The upstream's name.
        upstream: String,
        /// What is wrong with it.
        source: FilesError,
    },
    /// TLS without a name to verify: pingora would switch verification off.
    #[error("upstream `{0}` speaks TLS and has no server name to verify the certificate against")]
    NoServerName(String),
}

/// How long an answer of Dressipi's resource endpoints may stay silent.
const DRESSIPI_READ_TIMEOUT: Duration = Duration::from_secs(30);
const DRESSIPI_IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// How soon resolution is tried again while an upstream has no address at all.
const UNRESOLVED_INTERVAL: Duration = Duration::from_secs(1);

// === impl Destination ===

impl Destination {
    pub(super) fn of_dressipi(settings: &Settings) -> Self {
        let url = &settings.base_url;
        Self {
            name: "dressipi".into(),
            host: url.server_name().to_owned(),
            port: url.port(),
            tls: url.tls().then(|| Tls {
                server_name: url.server_name().to_owned(),
                ca_file: settings.ca_file.clone(),
                client: settings.client_identity.clone(),
                http2: true,
            }),
            upgrades: false,
            connect_timeout: settings.connect_timeout,
            read_timeout: DRESSIPI_READ_TIMEOUT,
            idle_timeout: DRESSIPI_IDLE_TIMEOUT,
        }
    }

    pub(super) fn of_app(upstream: &Upstream) -> Self {
        Self {
            name: upstream.name.clone(),
            host: upstream.host.clone(),
            port: upstream.port,
            tls: upstream.tls.as_ref().map(|tls| Tls {
                server_name: tls.server_name.clone(),
                ca_file: tls.ca_file.clone(),
                client: tls.client.clone(),
                http2: tls.http2,
            }),
            upgrades: true,
            connect_timeout: upstream.connect_timeout,
            read_timeout: upstream.read_timeout,
            idle_timeout: upstream.idle_timeout,
        }
    }
}

// === impl Pool ===

impl Pool {
    pub(super) fn new(destination: Destination) -> Result<Self, PeerError> {
        static GROUPS: AtomicU64 = AtomicU64::new(1);
        let ca = match &destination.tls {
            Some(tls) if tls.server_name.is_empty() => {
                return Err(PeerError::NoServerName(destination.name));
            }
            Some(Tls {
                ca_file: Some(path),
                ..
            }) => Some(read_ca(&destination.name, path)?),
            _ => None,
        };
        let client = destination.tls.as_ref().and_then(|tls| tls.client.as_ref());
        let client = client.map(shown).transpose();
        let client = client.map_err(|source| PeerError::Client {
            upstream: destination.name.clone(),
            source,
        })?;
        let literal = destination.host.parse::<IpAddr>().ok();
        let addresses = literal.map(|address| SocketAddr::new(address, destination.port));
        Ok(Self {
            addresses: ArcSwap::from_pointee(Vec::from_iter(addresses)),
            ca,
            client,
            groups: [(); 2].map(|()| GROUPS.fetch_add(1, Ordering::Relaxed)),
            next: AtomicUsize::new(0),
            destination,
        })
    }

    /// Whether another pool leads to the same place in the same way, its files read anew included.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let authorities = |pool: &Self| -> Option<Vec<Vec<u8>>> {
            let ca = pool.ca.as_ref()?;
            Some(ca.iter().map(|one| one.borrow_raw_cert().clone()).collect())
        };
        let identity = |pool: &Self| -> Option<Vec<Vec<u8>>> {
            let ours = &pool.client.as_ref()?.certificate;
            let chain = std::iter::once(ours.leaf()).chain(ours.intermediates());
            Some(chain.map(|one| one.borrow_raw_cert().clone()).collect())
        };
        self.destination == other.destination
            && authorities(self) == authorities(other)
            && identity(self) == identity(other)
    }

    pub(super) fn name(&self) -> &str {
        &self.destination.name
    }

    /// When the certificate ends that is shown there.
    pub(super) fn client_certificate_ends(&self) -> Option<SystemTime> {
        self.client.as_ref().map(|shown| shown.ends)
    }

    /// Where it is, as it was configured.
    pub(super) fn place(&self) -> String {
        let Destination { host, port, .. } = &self.destination;
        match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        }
    }

    /// Scheme, host and port.
    pub(super) fn server(&self) -> (&'static str, &str, u16) {
        let Destination {
            host, port, tls, ..
        } = &self.destination;
        let scheme = match tls {
            Some(_) => "https",
            None => "http",
        };
        (scheme, host, *port)
    }

    /// How many addresses there are.
    pub(super) fn len(&self) -> usize {
        self.addresses.load().len()
    }

    /// Where an exchange begins in the list of addresses.
    pub(super) fn turn(&self) -> usize {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// A peer for an exchange's `turn`, plus the number of addresses that it found dead; `None` while the name has not been
    /// resolved. `hop_by_hop`: whether the request has headers that go no further.
    pub(super) fn peer(&self, turn: usize, hop_by_hop: bool) -> Option<Box<HttpPeer>> {
        Some(Box::new(self.peer_at(self.address(turn)?, hop_by_hop)))
    }

    /// The same for an upgrade request, which needs HTTP/1.1 and a connection of its own.
    pub(super) fn upgrade_peer(&self, turn: usize) -> Option<Box<HttpPeer>> {
        let mut peer = self.peer_at(self.address(turn)?, true);
        peer.group_key = self.groups[1];
        peer.options.alpn = ALPN::H1;
        peer.options.custom_l4 = Some(Arc::new(WriterFirst));
        Some(Box::new(peer))
    }

    fn address(&self, turn: usize) -> Option<SocketAddr> {
        let addresses = self.addresses.load();
        addresses.get(turn % addresses.len().max(1)).copied()
    }

    #[allow(
        clippy::disallowed_methods,
        reason = "a socket address: nothing is resolved and nothing unwrapped"
    )]
    fn peer_at(&self, address: SocketAddr, hop_by_hop: bool) -> HttpPeer {
        let Destination {
            tls,
            upgrades,
            connect_timeout,
            read_timeout,
            idle_timeout,
            ..
        } = &self.destination;
        let server_name = tls
            .as_ref()
            .map(|tls| tls.server_name.clone())
            .unwrap_or_default();
        let mut peer = HttpPeer::new(address, tls.is_some(), server_name);
        peer.group_key = self.groups[0];
        peer.client_cert_key = self.client.as_ref().map(|shown| shown.certificate.clone());
        let options = &mut peer.options;
        options.connection_timeout = Some(*connect_timeout);
        options.total_connection_timeout = Some(*connect_timeout);
        options.read_timeout = Some(*read_timeout);
        options.write_timeout = Some(*read_timeout);
        options.idle_timeout = Some(*idle_timeout);
        options.ca = self.ca.clone();
        options.verify_cert = true;
        options.verify_hostname = true;
        if tls.as_ref().is_some_and(|tls| tls.http2) {
            options.alpn = ALPN::H2H1;
            options.max_h2_streams = 128;
        }
        options.http_upstream_request_policy = hops::policy(hop_by_hop, *upgrades);
        peer
    }

    /// Resolves the name by `lookup`. What was known stays if that fails.
    async fn resolve(&self, lookup: impl AsyncFnOnce(&str, u16) -> io::Result<Vec<SocketAddr>>) {
        let Destination {
            name, host, port, ..
        } = &self.destination;
        if host.parse::<IpAddr>().is_ok() {
            return;
        }
        match lookup(host, *port).await {
            Ok(mut found) => {
                found.sort_unstable();
                found.dedup();
                if found.is_empty() {
                    tracing::warn!(upstream = %name, %host, "the name has no address; the ones known stay in use");
                } else if found != **self.addresses.load() {
                    tracing::info!(upstream = %name, %host, addresses = found.len(), "resolved");
                    self.addresses.store(Arc::new(found));
                }
            }
            Err(error) => {
                tracing::warn!(upstream = %name, %host, %error, "the name cannot be resolved; the addresses known stay in use");
            }
        }
    }
}

/// Asks the system's resolver.
async fn lookup(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok(tokio::net::lookup_host((host, port)).await?.collect())
}

/// Resolves the upstreams' names of a snapshot once.
pub async fn resolve_once(snapshot: &Snapshot) {
    let pools = snapshot.pools().to_vec();
    futures::future::join_all(pools.iter().map(|pool| pool.resolve(lookup))).await;
}

/// Resolves those of its names that have no address yet.
pub async fn resolve_new(snapshot: &Snapshot) {
    let pools = snapshot.pools().iter().filter(|pool| pool.len() == 0);
    futures::future::join_all(pools.map(|pool| pool.resolve(lookup))).await;
}

/// Keeps the upstreams' addresses of the present snapshot up to date; until it is dropped.
pub async fn resolve_forever(snapshot: Arc<ArcSwap<Snapshot>>) {
    loop {
        let present = snapshot.load_full();
        let unresolved = present.pools().iter().any(|pool| pool.len() == 0);
        let interval = present.resolve_interval;
        drop(present);
        pingora::time::sleep(if unresolved {
            interval.min(UNRESOLVED_INTERVAL)
        } else {
            interval
        })
        .await;
        let present = snapshot.load_full();
        resolve_once(&present).await;
    }
}

/// pingora panics on a certificate or a key that it cannot read; these have been judged.
fn shown(identity: &ClientIdentity) -> Result<Shown, FilesError> {
    let ours = identity.load()?;
    let chain = ours.chain.iter().map(|certificate| certificate.to_vec());
    let key = ours.key.secret_der().to_vec();
    Ok(Shown {
        certificate: Arc::new(CertKey::new(chain.collect(), key)),
        ends: ours.expires,
    })
}

fn read_ca(upstream: &str, path: &PathBuf) -> Result<Arc<[WrappedX509]>, PeerError> {
    let error = |reason: String| PeerError::Ca {
        upstream: upstream.to_owned(),
        path: path.clone(),
        reason,
    };
    let pem = std::fs::read(path).map_err(|source| error(source.to_string()))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let certificates = certificates.map_err(|source| error(source.to_string()))?;
    if certificates.is_empty() {
        return Err(error("it holds no certificate".into()));
    }
    // pingora's own parser panics on what it cannot read, so each one is checked by the verifier's first.
    let mut roots = rustls::RootCertStore::empty();
    for certificate in &certificates {
        roots
            .add(certificate.clone())
            .map_err(|source| error(source.to_string()))?;
    }
    Ok(certificates
        .iter()
        .map(|certificate| WrappedX509::new(certificate.to_vec(), parse_x509))
        .collect())
}

#[cfg(test)]
mod tests {
    use pingora::upstreams::peer::Peer;

    use super::*;

    fn pool(host: &str) -> Pool {
        let upstream = Upstream {
            name: "shop".into(),
            host: host.into(),
            port: 80,
            tls: None,
            connect_timeout: Duration::from_secs(1),
            read_timeout: Duration::from_secs(1),
            idle_timeout: Duration::from_secs(1),
        };
        Pool::new(Destination::of_app(&upstream)).unwrap()
    }

    #[test]
    fn an_exchange_tries_each_address_whatever_others_do_meanwhile() {
        let pool = pool("shop.example");
        assert!(pool.peer(0, false).is_none() && pool.upgrade_peer(0).is_none());
        let addresses: Vec<SocketAddr> = ["[::1]:80", "127.0.0.1:80"]
            .map(|address| address.parse().unwrap())
            .into();
        pool.addresses.store(Arc::new(addresses.clone()));
        let turns = [pool.turn(), pool.turn()];
        let tried: Vec<_> = [0, 1]
            .iter()
            .flat_map(|failed| turns.map(|turn| pool.peer(turn + failed, false).unwrap()))
            .map(|peer| *peer.address().as_inet().unwrap())
            .collect();
        assert_eq!(
            tried,
            [addresses[0], addresses[1], addresses[1], addresses[0]]
        );
    }

    #[test]
    fn upgrades_have_connections_of_their_own() {
        let (one, other) = (pool("127.0.0.1"), pool("127.0.0.1"));
        let hashes = [
            one.peer(0, false).unwrap().reuse_hash(),
            one.upgrade_peer(0).unwrap().reuse_hash(),
            other.peer(0, false).unwrap().reuse_hash(),
            other.upgrade_peer(0).unwrap().reuse_hash(),
        ];
        for (index, hash) in hashes.iter().enumerate() {
            assert!(!hashes[..index].contains(hash));
        }
        assert_eq!(one.peer(0, false).unwrap().reuse_hash(), hashes[0]);
    }

    #[tokio::test]
    async fn a_changed_address_is_picked_up_and_a_failed_look_up_changes_nothing() {
        let pool = pool("shop.example");
        let address = |last: u8| SocketAddr::from(([10, 0, 0, last], 80));
        let used = || {
            let peers = (0..pool.len()).map(|turn| pool.peer(turn, false).unwrap());
            let mut used: Vec<_> = peers
                .map(|peer| *peer.address().as_inet().unwrap())
                .collect();
            used.sort_unstable();
            used
        };
        let failed = || Err(io::Error::other("no resolver"));
        for (answer, expected) in [
            (failed(), vec![]),
            (Ok(vec![address(1)]), vec![address(1)]),
            (failed(), vec![address(1)]),
            (Ok(vec![]), vec![address(1)]),
            (Ok(vec![address(2)]), vec![address(2)]),
            (
                Ok(vec![address(4), address(3), address(4)]),
                vec![address(3), address(4)],
            ),
            (Ok(vec![address(3)]), vec![address(3)]),
        ] {
            let asked = std::cell::Cell::new(false);
            pool.resolve(async |host, port| {
                assert_eq!((host, port), ("shop.example", 80));
                asked.set(true);
                answer
            })
            .await;
            assert!(asked.get());
            assert_eq!(used(), expected);
        }
    }
}
