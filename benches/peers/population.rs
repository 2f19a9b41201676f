//! The visitors: their cookies, their tokens, and the files in which the systems find both.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dressipi_sidecar::clock::{Clock, SystemClock, Timestamp};
use dressipi_sidecar::oauth::{AccessToken, RefreshToken, TokenSet};
use dressipi_sidecar::secret::Secret;
use dressipi_sidecar::server::keys_beside;
use dressipi_sidecar::session::{Keyring, RedbStore, Settings, State, Vault, VisitorSession};
use dressipi_sidecar::visitor::{CookieJar, CookieSettings, Namespace, VisitorKey};
use futures::{StreamExt, stream};

use crate::support::load::next_random;
use crate::support::requests::Requests;

/// As long as Dressipi's.
const TOKEN: usize = 600;
const REFRESH_TOKEN: usize = 64;
/// Of redb, while the file is filled.
const PAGE_CACHE: usize = 64 << 20;

/// So many visitors whom every system knows.
pub(crate) struct Population {
    pub(crate) number: usize,
    pub(crate) requests: Arc<Requests>,
    /// The sidecar's store, with its key beside it.
    pub(crate) store: PathBuf,
    /// A line for each visitor: cookie and token.
    pub(crate) tokens: PathBuf,
    /// The same as nginx's configuration has it.
    pub(crate) tokens_nginx: PathBuf,
}

// === impl Population ===

impl Population {
    /// Makes `number` visitors and writes them into files in `folder`.
    pub(crate) fn new(folder: &Path, number: usize) -> Self {
        let [store, tokens, tokens_nginx] =
            ["redb", "tokens", "nginx"].map(|ending| folder.join(format!("{number}.{ending}")));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let cookies = runtime.block_on(fill(&store, number));
        let [mut plain, mut nginx] = [&tokens, &tokens_nginx]
            .map(|path| BufWriter::with_capacity(1 << 20, File::create(path).unwrap()));
        for (visitor, cookie) in cookies.iter().enumerate() {
            let (_, value) = cookie.split_once('=').unwrap();
            let token = token(visitor, TOKEN);
            writeln!(plain, "{value} {token}").unwrap();
            writeln!(nginx, "{value} {token};").unwrap();
        }
        plain.flush().unwrap();
        nginx.flush().unwrap();
        let requests = match cookies.first() {
            Some(first) => Requests::of_many(cookies.concat().into_bytes(), first.len()),
            // Somebody who has opted out: nobody looks for a visitor.
            None => Requests::of_one(Some("dressipi_dnt=1")),
        };
        Self {
            number,
            requests: Arc::new(requests),
            store,
            tokens,
            tokens_nginx,
        }
    }

    /// The token that the upstream must get for a visitor.
    pub(crate) fn token(visitor: usize) -> String {
        token(visitor, TOKEN)
    }
}

/// Stores a session for each visitor as the sidecar would; their cookies as `name=value`.
async fn fill(path: &Path, number: usize) -> Vec<String> {
    let store = RedbStore::open(path, PAGE_CACHE).unwrap();
    let (keyring, _) = Keyring::load_or_create(&keys_beside(path)).unwrap();
    let settings = CookieSettings {
        name: "visitor".to_owned(),
        secure: false,
        ..CookieSettings::default()
    };
    let jar = CookieJar::new(settings, keyring.cookie_keys());
    let vault = Vault::new(Arc::new(store), keyring, Settings::default().idle_timeout);
    let now = SystemClock.now();
    let identity = vault.identity_key(now).await.unwrap();
    let mint = |visitor: usize| {
        let mut random = visitor as u64;
        let words = [(); 2].map(|()| next_random(&mut random).to_be_bytes());
        let minted = jar.mint(words.concat().try_into().unwrap(), now).unwrap();
        let (pair, _) = minted.set_cookie.split_once(';').unwrap();
        let key = identity.visitor_key(Namespace::Minted, minted.id.as_bytes());
        (pair.to_owned(), key)
    };
    let (vault_, mint_) = (&vault, &mint);
    let cookies = stream::iter(0..number)
        .map(|visitor| async move {
            let (cookie, key) = mint_(visitor);
            save(vault_, &key, visitor, now).await;
            cookie
        })
        .buffered(4096)
        .collect()
        .await;
    vault.store().close().await;
    cookies
}

async fn save(vault: &Vault, key: &VisitorKey, visitor: usize, now: Timestamp) {
    let session = VisitorSession {
        created_at: now,
        profiles: 1,
        losses: 0,
        state: State::Active(TokenSet {
            access: AccessToken::new(Secret::new(token(visitor, TOKEN))),
            refresh: RefreshToken::new(Secret::new(token(visitor, REFRESH_TOKEN))),
            obtained_at: now,
            // Nothing is refreshed while the benchmark runs.
            expires_at: now + Duration::from_secs(24 * 3600),
            generation: 1,
        }),
    };
    vault.save(key, None, &session, now).await.unwrap();
}

/// A token of its own for each visitor, of characters that a token has.
fn token(visitor: usize, length: usize) -> String {
    const CHARACTERS: &[u8; 64] =
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut random = !(visitor as u64);
    let mut token = String::with_capacity(length + 8);
    while token.len() < length {
        let word = next_random(&mut random).to_be_bytes();
        token.extend(word.map(|byte| char::from(CHARACTERS[usize::from(byte % 64)])));
    }
    token.truncate(length);
    token
}
