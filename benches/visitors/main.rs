//! What visitors take: memory in the cache, space in the redb file, the time to open it, and what a visitor costs who is stored and not
//! cached.
//!
//! ```text
//! cargo bench --bench visitors                             # 1,000,000 visitors
//! cargo bench --bench visitors -- --visitors 10000000      # three minutes, and 12 GB of disk in the temporary folder
//! cargo bench --bench visitors -- --quick                  # 50,000
//! cargo bench --bench visitors -- --check                  # fails where a target of `TARGETS` is missed
//! ```
//! Tokens are as long as Dressipi's: 600 bytes the access token, 64 the refresh token. All is done through the session manager, the vault
//! and the store that the sidecar runs with, fsync included. The file is filled by a process of its own, so that its memory does not count;
//! beyond a million visitors in the order of their keys, since at random it would take an hour: the tree gets as deep. Who is not cached
//! is asked for in two ways: by a timetable, as visitors come, and by as many at once as the store reads at once, which is as fast as the
//! machine can. Memory is what the process has resident (`VmRSS`), with the sidecar's
//! allocator; the cache's part is the growth from a tenth of the visitors to all of them, so that what is there anyway does not count.

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark fails loudly")]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
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
/// By the timetable: visitors a second who are not cached, and how long they come.
const RATE: usize = 1_000;
const TIMETABLE: Duration = Duration::from_secs(20);
/// Beyond so many the file is filled in the order of the keys.
const AT_RANDOM: u64 = 1_000_000;

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

/// What must hold: bytes for each visitor in the cache, milliseconds until the file is open and who is not cached has been found (at
/// 99 %, by the timetable), megabytes resident with a bounded cache.
struct Targets {
    cached: f64,
    opened: f64,
    missed: f64,
    resident: f64,
}

const TARGETS: Targets = Targets {
    cached: 850.0,
    opened: 2000.0,
    missed: 3.0,
    resident: 250.0,
};

struct Bench {
    identity: IdentityKey,
    keyring: Arc<dyn Fn() -> Keyring>,
    folder: PathBuf,
}

fn main() -> ExitCode {
    // As `serve` does before anything else.
    nix::sys::prctl::set_thp_disable(true).unwrap();
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
    if let Some(at) = given("--fill") {
        let bench = Bench::at(Path::new(&arguments[at + 1]));
        runtime.block_on(bench.fill(visitors));
        return ExitCode::SUCCESS;
    }
    let folder = tempfile::tempdir().unwrap();
    let keys = dressipi_sidecar::session::generate_key_line();
    std::fs::write(folder.path().join("keys"), keys).unwrap();
    let found = runtime.block_on(Bench::at(folder.path()).run(visitors));
    match given("--check").is_some() && !found.meets(&TARGETS) {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}

impl Targets {
    /// Says what is missed.
    fn meets(&self, wanted: &Self) -> bool {
        let judged = [
            ("bytes a cached visitor", self.cached, wanted.cached),
            ("MB resident", self.resident, wanted.resident),
            ("ms to open", self.opened, wanted.opened),
            ("ms for who is not cached, p99", self.missed, wanted.missed),
        ];
        for (what, found, wanted) in judged.iter().filter(|(_, found, most)| found > most) {
            println!("missed: {what}: {found:.1}, at most {wanted}");
        }
        judged.iter().all(|(_, found, wanted)| found <= wanted)
    }
}

impl Bench {
    fn at(folder: &Path) -> Self {
        let keys = folder.join("keys");
        Self {
            identity: IdentityKey::new(&[7; 32]),
            keyring: Arc::new(move || Keyring::load(&keys).unwrap()),
            folder: folder.to_owned(),
        }
    }

    async fn run(&self, visitors: u64) -> Targets {
        let begun = Instant::now();
        let filled = Command::new(std::env::current_exe().unwrap())
            .arg("--fill")
            .arg(&self.folder)
            .args(["--visitors", &visitors.to_string()])
            .status();
        assert!(filled.unwrap().success(), "the file was not filled");
        let filled = begun.elapsed().as_secs_f64();
        let bytes = std::fs::metadata(self.file()).unwrap().len();
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
        let vault = self.vault();
        vault.store().check().await.unwrap();
        vault.census().await.unwrap();
        let opened = millis(begun.elapsed());
        println!("  opened in                  {opened:>12.1} ms");

        let missed = self.misses(&vault, visitors).await;
        let resident = resident() / 1e6;
        println!("  resident, 10,000 cached    {resident:>12.1} MB");
        let cached = self.cached(&vault, visitors).await;
        vault.store().close().await;
        Targets {
            cached,
            opened,
            missed,
            resident,
        }
    }

    fn file(&self) -> PathBuf {
        self.folder.join("sessions.redb")
    }

    fn vault(&self) -> Vault {
        let store = RedbStore::open(&self.file(), PAGE_CACHE).unwrap();
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

    async fn fill(&self, visitors: u64) {
        let (vault, now) = (self.vault(), SystemClock.now());
        let mut keys: Vec<(VisitorKey, u64)> = (0..visitors)
            .map(|number| (self.key(number), number))
            .collect();
        if visitors > AT_RANDOM {
            keys.sort_unstable();
        }
        let vault = &vault;
        stream::iter(keys)
            .for_each_concurrent(4096, |(key, number)| async move {
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
                vault.save(&key, None, &session, now).await.unwrap();
            })
            .await;
        vault.store().close().await;
    }

    /// What a request of a visitor costs who is in the file and not in the cache: milliseconds at 99 %, by the timetable.
    async fn misses(&self, vault: &Vault, visitors: u64) -> f64 {
        let manager = self.manager(vault, 10_000);
        // All over the file, and nobody again as long as they are cached.
        let ask = |number: usize| {
            let visitor = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) % visitors;
            let (manager, key) = (manager.clone(), self.key(visitor));
            async move {
                let begun = Instant::now();
                manager.ensure(&key, false).await.unwrap();
                begun.elapsed()
            }
        };
        let planned = RATE * TIMETABLE.as_secs() as usize;
        let (mut asked, mut took) = (Vec::with_capacity(planned), Vec::new());
        let begun = Instant::now();
        while asked.len() < planned {
            let due = (begun.elapsed().as_secs_f64() * RATE as f64) as usize;
            for number in asked.len()..due.min(planned) {
                asked.push(tokio::spawn(ask(number)));
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        for answer in asked {
            took.push(answer.await.unwrap());
        }
        let missed = told(&format!("not cached, {RATE} a second"), took);
        let at_once = stream::iter(planned..planned + MISSES)
            .map(ask)
            .buffer_unordered(AT_ONCE);
        told(
            &format!("not cached, {AT_ONCE} at once"),
            at_once.collect().await,
        );
        missed
    }

    /// How much the process grows for each visitor in the cache.
    async fn cached(&self, vault: &Vault, visitors: u64) -> f64 {
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
        grown
    }
}

/// Prints how long something took and returns the milliseconds at 99 %.
fn told(what: &str, mut took: Vec<Duration>) -> f64 {
    took.sort_unstable();
    let at = |share: f64| millis(took[((took.len() - 1) as f64 * share) as usize]);
    println!(
        "  {what:<26} {:>12.3} ms p50, {:.3} p99, {:.3} at most",
        at(0.50),
        at(0.99),
        at(1.0)
    );
    at(0.99)
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
