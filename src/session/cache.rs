//! The bounded in-process cache of usable tokens: what a known visitor's request looks at, and nothing else.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::HeaderValue;

use super::freshness::{Freshness, Schedule};
use super::policy::Policy;
use crate::clock::Timestamp;
use crate::oauth::{TokenFingerprint, TokenSet};
use crate::secret::Secret;
use crate::visitor::{VisitorKey, VisitorKeyHasher};

/// Turns an access token into the header value that carries it; `None` where no header can.
pub type RenderToken = Arc<dyn Fn(&Secret) -> Option<HeaderValue> + Send + Sync>;

/// The right to send a visitor's token, now. Only the session manager makes one, from a stored and unexpired token set,
/// and only from one can the token header be injected.
#[derive(Clone)]
pub struct Authorized(Arc<Usable>);

/// A usable token, as the cache holds it.
pub(super) struct Usable {
    key: VisitorKey,
    header: HeaderValue,
    subn: Option<HeaderValue>,
    fingerprint: TokenFingerprint,
    schedule: Schedule,
    rejected: AtomicBool,
}

/// The cache.
pub(super) struct TokenCache(moka::sync::Cache<VisitorKey, Arc<Usable>, KeyHash>);

type KeyHash = std::hash::BuildHasherDefault<VisitorKeyHasher>;

// === impl Authorized ===

impl Authorized {
    /// The value for the token header, marked sensitive.
    pub fn header(&self) -> &HeaderValue {
        &self.0.header
    }

    /// The visitor's Snowplow network user id, where the token names one.
    pub fn subn(&self) -> Option<&HeaderValue> {
        self.0.subn.as_ref()
    }

    /// Whose token it is.
    pub fn visitor(&self) -> &VisitorKey {
        &self.0.key
    }

    /// Whether the token may still be sent at `now`.
    pub fn is_usable(&self, now: Timestamp) -> bool {
        self.0.schedule.at(now) != Freshness::Expired && !self.0.rejected.load(Ordering::Relaxed)
    }

    /// Which token it is.
    pub fn fingerprint(&self) -> TokenFingerprint {
        self.0.fingerprint
    }
}

impl fmt::Debug for Authorized {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authorized({})", self.0.key)
    }
}

// === impl TokenCache ===

impl TokenCache {
    pub(super) fn new(capacity: u64) -> Self {
        let cache = moka::sync::Cache::builder().max_capacity(capacity);
        Self(cache.build_with_hasher(KeyHash::default()))
    }

    /// The visitor's token with its freshness, unless it is expired or rejected.
    pub(super) fn get(&self, key: &VisitorKey, now: Timestamp) -> Option<(Authorized, Freshness)> {
        let usable = self.0.get(key)?;
        if usable.rejected.load(Ordering::Relaxed) {
            return None;
        }
        match usable.schedule.at(now) {
            Freshness::Expired => None,
            freshness => Some((Authorized(usable), freshness)),
        }
    }

    /// Puts `tokens` in and gives the right to use them; `None` if no header can carry the token.
    pub(super) fn insert(
        &self,
        key: VisitorKey,
        tokens: &TokenSet,
        policy: &Policy,
        render: &RenderToken,
    ) -> Option<Authorized> {
        let header = render(tokens.access.secret())?;
        let subn = tokens.access.claims().subn;
        let usable = Arc::new(Usable {
            key,
            header,
            subn: subn.and_then(|subn| HeaderValue::try_from(subn).ok()),
            fingerprint: tokens.access.fingerprint(),
            schedule: Schedule::new(tokens, policy),
            rejected: AtomicBool::new(false),
        });
        self.0.insert(key, usable.clone());
        Some(Authorized(usable))
    }

    /// Marks exactly this token as rejected; a newer one of the same visitor stays good.
    pub(super) fn reject(&self, authorized: &Authorized) {
        authorized.0.rejected.store(true, Ordering::Relaxed);
    }

    /// Forgets the visitor.
    pub(super) fn remove(&self, key: &VisitorKey) {
        self.0.invalidate(key);
    }

    pub(super) fn len(&self) -> u64 {
        self.0.run_pending_tasks();
        self.0.entry_count()
    }
}

#[cfg(test)]
impl Authorized {
    /// A right for tests of header rules, which have no session manager.
    pub(crate) fn for_tests(token: &'static str, subn: Option<&'static str>) -> Self {
        use std::time::Duration;
        let mut header = HeaderValue::from_static(token);
        header.set_sensitive(true);
        let never = Timestamp::default() + Duration::MAX;
        Self(Arc::new(Usable {
            key: VisitorKey::from_bytes([0; 32]),
            header,
            subn: subn.map(HeaderValue::from_static),
            fingerprint: crate::oauth::AccessToken::new(Secret::new(token)).fingerprint(),
            schedule: Schedule {
                refresh_from: never,
                expired_from: never,
            },
            rejected: AtomicBool::new(false),
        }))
    }
}
