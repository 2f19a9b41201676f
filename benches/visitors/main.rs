//! What visitors take: memory in the cache, space in the redb file, the time to open it, and what a visitor costs who is stored and not
//! cached.
//!
//! ```text
//! cargo bench --bench visitors                             # 1,000,000 visitors
//! cargo bench --bench visitors -- --visitors 10000000      # needs 15 GB of disk in the temporary folder
//! cargo bench --bench visitors -- --quick                  # 50,000
//! ```
//! Tokens are as long as Dressipi's: 600 bytes the access token, 64 the refresh token. All is done through the session manager, the vault
//! and the store that the sidecar runs with, fsync included. Memory is what the process has resident (`VmRSS`), with the sidecar's
//! allocator; the cache's part is the growth from a tenth of the visitors to all of them, so that what is there anyway does not count.

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark fails loudly")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use dressipi_sidecar::clock::{Clock, SystemClock};
use dressipi_sidecar::oauth::{
    AccessToken, AuthorizationServer, AuthorizeError, Grant, RefreshToken, TokenAnswer, TokenError,
    TokenSet,
};
use dressipi_sidecar::secret::Secret;
use dressipi_sidecar::session::{
    Keyring, Manager, Parts, RedbStore, Settings, State, Unobserved, Vault, VisitorSession,
};
use dressipi_sidecar::visitor::{IdentityKey, Namespace, VisitorKey};
use futures::StreamExt;
use futures::stream;
use http::HeaderValue;

/// As the sidecar's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ACCESS_TOKEN: usize = 600;
const REFRESH_TOKEN: usize = 64;
/// Of redb, as the sidecar's default.
const PAGE_CACHE: usize = 64 << 20;
const MISSES: usize = 50_000;
const AT_ONCE: usize = 32;

/// Nobody here needs a new token.
struct Unneeded;

#[async_trait]
impl AuthorizationServer for Unneeded {
    async fn authorize(&self) -> Result<Grant, AuthorizeError> {
        unreachable!("everybody is known")
    }

    async fn exchange(&self, _: Grant) -> Result<TokenAnswer, TokenError> {
        unreachable!("everybody has tokens")
    }

    async fn refresh(&self, _: RefreshToken) -> Result<TokenAnswer, TokenError> {
        unreachable!("all tokens are fresh")
    }
}

struct Bench {
    identity: IdentityKey,
    keyring: Arc<dyn Fn() -> Keyring>,
    folder: tempfile::TempDir,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let given = |name: &str| arguments.iter().position(|argument| argument == name);
    let visitors = match (given("--quick"), given("--visitors")) {
        (Some(_), _) => 50_000,
        (None, Some(at)) => arguments[at + 1].parse().unwrap(),
        (None, None) => 1_000_000,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(Bench::new().run(visitors));
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let keys = folder.path().join("keys");
        std::fs::write(&keys, dressipi_sidecar::session::generate_key_line()).unwrap();
        Self {
            identity: IdentityKey::new(&[7; 32]),
            keyring: Arc::new(move || Keyring::load(&keys).unwrap()),
            folder,
        }
    }

    async fn run(&self, visitors: u64) {
        let path = self.folder.path().join("sessions.redb");
        let begun = Instant::now();
        let vault = self.vault(&path);
        self.fill(&vault, visitors).await;
        let filled = begun.elapsed().as_secs_f64();
        vault.store().close().await;
        drop(vault);
        let bytes = std::fs::metadata(&path).unwrap().len();
        println!("visitors                     {visitors:>12}");
        println!(
            "  stored in                  {filled:>12.1} s ({:.0}/s, each durable)",
            visitors as f64 / filled
        );
        println!(
            "  file, bytes a visitor      {:>12.0}",
            bytes as f64 / visitors as f64
        );

        let begun = Instant::now();
        let vault = self.vault(&path);
        vault.store().check().await.unwrap();
        vault.census().await.unwrap();
        println!(
            "  opened in                  {:>12.1} ms",
            millis(begun.elapsed())
        );

        self.misses(&vault, visitors).await;
        self.cached(&vault, visitors).await;
        vault.store().close().await;
    }

    fn vault(&self, path: &Path) -> Vault {
        let store = RedbStore::open(path, PAGE_CACHE).unwrap();
        let settings = Settings::default();
        Vault::new(Arc::new(store), (self.keyring)(), settings.idle_timeout)
    }

    fn manager(&self, vault: &Vault, cache_capacity: u64) -> Manager {
        Manager::new(Parts {
            vault: vault.clone(),
            server: Arc::new(Unneeded),
            clock: Arc::new(SystemClock),
            settings: Settings {
                cache_capacity,
                ..Settings::default()
            },
            render: Arc::new(|token| {
                let mut value = HeaderValue::from_bytes(token.expose().as_bytes()).ok()?;
                value.set_sensitive(true);
                Some(value)
            }),
            observer: Arc::new(Unobserved),
            runtime: tokio::runtime::Handle::current(),
        })
    }

    fn key(&self, number: u64) -> VisitorKey {
        self.identity
            .visitor_key(Namespace::Header, &number.to_be_bytes())
    }

    async fn fill(&self, vault: &Vault, visitors: u64) {
        let now = SystemClock.now();
        stream::iter(0..visitors)
            .for_each_concurrent(4096, |number| async move {
                let session = VisitorSession {
                    created_at: now,
                    profiles: 1,
                    losses: 0,
                    state: State::Active(TokenSet {
                        access: AccessToken::new(token(number, ACCESS_TOKEN)),
                        refresh: RefreshToken::new(token(number, REFRESH_TOKEN)),
                        obtained_at: now,
                        expires_at: now + Duration::from_secs(24 * 3600),
                        generation: 1,
                    }),
                };
                let key = self.key(number);
                vault.save(&key, None, &session, now).await.unwrap();
            })
            .await;
    }

    /// What a request of a visitor costs who is in the file and not in the cache.
    async fn misses(&self, vault: &Vault, visitors: u64) {
        let manager = self.manager(vault, 10_000);
        let mut took: Vec<Duration> = stream::iter(0..MISSES)
            .map(|number| {
                // All over the file, and nobody twice.
                let visitor = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) % visitors;
                let (manager, key) = (manager.clone(), self.key(visitor));
                async move {
                    let begun = Instant::now();
                    manager.ensure(&key, false).await.unwrap();
                    begun.elapsed()
                }
            })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        took.sort_unstable();
        let at = |share: f64| millis(took[((took.len() - 1) as f64 * share) as usize]);
        println!(
            "  not cached, {AT_ONCE} at once     {:>12.3} ms p50, {:.3} p99, {:.3} at most",
            at(0.50),
            at(0.99),
            at(1.0)
        );
        println!("  resident, 10,000 cached    {:>12.1} MB", resident() / 1e6);
    }

    /// How much the process grows for each visitor in the cache.
    async fn cached(&self, vault: &Vault, visitors: u64) {
        let wanted = visitors.min(1_000_000);
        let manager = self.manager(vault, wanted * 2);
        let load = async |from: u64, to: u64| {
            stream::iter(from..to)
                .for_each_concurrent(AT_ONCE, |number| {
                    let (manager, key) = (manager.clone(), self.key(number));
                    async move { drop(manager.ensure(&key, false).await.unwrap()) }
                })
                .await;
        };
        load(0, wanted / 10).await;
        let before = resident();
        load(wanted / 10, wanted).await;
        let grown = (resident() - before) / (wanted - wanted / 10) as f64;
        println!("  cached, bytes a visitor    {grown:>12.0} ({ACCESS_TOKEN} of them the token)");
        println!(
            "  resident, {wanted:>9} cached {:>12.1} MB",
            resident() / 1e6
        );
        let now = SystemClock.now();
        let known = (0..wanted).filter(|number| manager.current(&self.key(*number), now).is_some());
        assert_eq!(known.count() as u64, wanted, "everybody is in the cache");
    }
}

fn token(number: u64, length: usize) -> Secret {
    Secret::new(format!("{number:0length$}"))
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// In bytes.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<f64>()
        .unwrap()
        * 1024.0
}
