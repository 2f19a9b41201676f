//! Visitors who were there before the sidecar started: written into its store through the library, with the cookies that the sidecar
//! would have given them.

use std::sync::Arc;
use std::time::Duration;

use dressipi_sidecar::clock::{Clock, SystemClock, Timestamp};
use dressipi_sidecar::oauth::{AccessToken, RefreshToken, TokenSet};
use dressipi_sidecar::secret::Secret;
use dressipi_sidecar::server::open_store;
use dressipi_sidecar::session::{Settings, State, StoreSettings, Vault, VisitorSession};
use dressipi_sidecar::visitor::{CookieJar, CookieSettings, IdentityKey, Namespace};
use futures::{StreamExt, stream};

use crate::timetable::mock;

/// Writes visitors into a store that no sidecar has open.
pub(crate) struct Register {
    vault: Vault,
    identity: IdentityKey,
    jar: CookieJar,
    count: u64,
}

/// Cookies of visitors, as they send them.
pub(crate) type Cookies = Arc<Vec<String>>;

/// As redb's default.
const PAGE_CACHE: usize = 64 << 20;
const AT_ONCE: usize = 4096;
/// How long their tokens live; those that expire later live longer.
const LIFETIME: Duration = Duration::from_secs(3600);

// === impl Register ===

impl Register {
    /// Opens the store at `path` with the key beside it, both of which are made.
    pub(crate) async fn open(path: &std::path::Path) -> Self {
        let settings = StoreSettings::Redb {
            path: path.to_owned(),
            keys_file: None,
            cache_bytes: PAGE_CACHE,
        };
        let (store, keyring) = open_store(&settings).await.expect("a new store");
        let cookie = CookieSettings {
            name: "visitor".to_owned(),
            secure: false,
            ..CookieSettings::default()
        };
        let jar = CookieJar::new(cookie, keyring.cookie_keys());
        let vault = Vault::new(store, keyring, Settings::default().idle_timeout);
        let identity = vault.identity_key(SystemClock.now()).await;
        Self {
            vault,
            identity: identity.expect("a new store has room for its key"),
            jar,
            count: 0,
        }
    }

    /// `count` more visitors; `expired_from` says from when on the token of each counts as expired.
    pub(crate) async fn add(
        &mut self,
        count: usize,
        expired_from: impl Fn(usize) -> Timestamp,
    ) -> Cookies {
        let now = SystemClock.now();
        let margin = Settings::default().policy.expiry_margin;
        let first = self.count;
        self.count += count as u64;
        let register = &*self;
        let cookies = stream::iter(0..count).map(|place| {
            let number = first + place as u64;
            let expires_at = expired_from(place) + margin;
            register.write(number, expires_at, now)
        });
        Arc::new(cookies.buffered(AT_ONCE).collect().await)
    }

    async fn write(&self, number: u64, expires_at: Timestamp, now: Timestamp) -> String {
        let minted = self
            .jar
            .mint(rand::random(), now)
            .expect("a time after 1970");
        let key = self
            .identity
            .visitor_key(Namespace::Minted, minted.id.as_bytes());
        let session = VisitorSession {
            created_at: now,
            profiles: 1,
            losses: 0,
            state: State::Active(TokenSet {
                access: AccessToken::new(Secret::new(mock::access_token(number, 0))),
                refresh: RefreshToken::new(Secret::new(mock::refresh_token(number))),
                // One that came later than now would not be believed.
                obtained_at: now.min(expires_at - LIFETIME),
                expires_at,
                generation: 0,
            }),
        };
        let saved = self.vault.save(&key, None, &session, now).await;
        saved.expect("a new store has room");
        let (cookie, _) = minted
            .set_cookie
            .split_once(';')
            .expect("it has attributes");
        cookie.to_owned()
    }

    /// Closes the store, for the sidecar to open it.
    pub(crate) async fn close(self) {
        self.vault.store().close().await;
    }
}
