//! The bounded in-process cache of usable tokens: what a known visitor's request looks at, and nothing else.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use http::HeaderValue;

use super::freshness::{Freshness, Schedule};
use super::policy::Policy;
use super::table::{OfVisitor, VisitorTable};
use crate::clock::Timestamp;
use crate::oauth::{TokenFingerprint, TokenSet, VendorToken};
use crate::secret::Secret;
use crate::visitor::VisitorKey;

/// Turns an access token into the header value that carries it; `None` where no header can.
pub type RenderToken = Arc<dyn Fn(&Secret) -> Option<HeaderValue> + Send + Sync>;

/// The right to send a visitor's token, now. Only the session manager makes one, from a stored and unexpired token set, or from the
/// token that the visitor's own request carries; and only from one can the token header be injected.
#[derive(Clone)]
pub struct Authorized(Arc<Usable>);

/// A usable token, as the cache holds it.
pub(super) struct Usable {
    key: VisitorKey,
    header: HeaderValue,
    /// Boxed: where a token names none it takes no room.
    subn: Option<Box<HeaderValue>>,
    fingerprint: TokenFingerprint,
    generation: u32,
    schedule: Schedule,
    rejected: AtomicBool,
    /// Whether the visitor's own request carried it.
    adopted: bool,
    /// When the store said so, in milliseconds; 0 when it is known to say something else by now.
    checked_at: AtomicU64,
}

/// The cache.
pub(super) struct TokenCache {
    tokens: VisitorTable<Usable>,
    /// How long what the store said is believed; `None`: for ever, since nobody else writes to it.
    validity: Option<Duration>,
    /// What was said before this is not believed any more, in milliseconds.
    believed_from: AtomicU64,
}

/// A token that may be sent, as far as this process knows.
pub(super) struct Cached {
    pub(super) authorized: Authorized,
    pub(super) freshness: Freshness,
    pub(super) standing: Standing,
}

/// Whether the store has to be asked whether the token is still the visitor's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Not now.
    Good,
    /// Soon: better while nobody waits for it.
    CheckSoon,
    /// Yes; if it does not answer, the token will do.
    Outdated,
}

// === impl Authorized ===

impl Authorized {
    /// The value for the token header, marked sensitive.
    pub fn header(&self) -> &HeaderValue {
        &self.0.header
    }

    /// The visitor's Snowplow network user id, where the token names one.
    pub fn subn(&self) -> Option<&HeaderValue> {
        self.0.subn.as_deref()
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

    /// The right to send, on the very request that carried it, the token that its visitor brought along; `None` if no header can carry
    /// it. It goes into no cache, so nobody else can get at it, and of its claims only the end is believed.
    pub(super) fn adopted(
        key: VisitorKey,
        token: &VendorToken,
        policy: &Policy,
        render: &RenderToken,
    ) -> Option<Self> {
        Some(Self(Arc::new(Usable {
            key,
            header: render(token.access.secret())?,
            subn: None,
            fingerprint: token.access.fingerprint(),
            generation: 0,
            schedule: Schedule::of_vendor_token(token, policy),
            rejected: AtomicBool::new(false),
            adopted: true,
            checked_at: AtomicU64::new(0),
        })))
    }

    /// Whether the visitor's own request carried it: the store knows nothing of it.
    pub fn is_adopted(&self) -> bool {
        self.0.adopted
    }

    /// How many refreshes lie between it and the exchange.
    pub(super) fn generation(&self) -> u32 {
        self.0.generation
    }
}

impl fmt::Debug for Authorized {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authorized({})", self.0.key)
    }
}

// === impl Usable ===

impl OfVisitor for Usable {
    fn visitor(&self) -> &VisitorKey {
        &self.key
    }
}

// === impl TokenCache ===

impl TokenCache {
    pub(super) fn new(capacity: u64, validity: Option<Duration>) -> Self {
        Self {
            tokens: VisitorTable::new(capacity),
            validity,
            believed_from: AtomicU64::new(0),
        }
    }

    /// The visitor's token, unless it is expired or rejected.
    pub(super) fn get(&self, key: &VisitorKey, now: Timestamp) -> Option<Cached> {
        let usable = self.tokens.get(key)?;
        if usable.rejected.load(Ordering::Relaxed) {
            return None;
        }
        let freshness = match usable.schedule.at(now) {
            Freshness::Expired => return None,
            freshness => freshness,
        };
        let standing = match self.validity {
            None => Standing::Good,
            Some(validity) => self.standing(&usable, validity, now),
        };
        Some(Cached {
            authorized: Authorized(usable),
            freshness,
            standing,
        })
    }

    fn standing(&self, usable: &Usable, validity: Duration, now: Timestamp) -> Standing {
        let checked_at = usable.checked_at.load(Ordering::Relaxed);
        if checked_at < self.believed_from.load(Ordering::Relaxed).max(1) {
            return Standing::Outdated;
        }
        let age = now.since(Timestamp::from_millis(checked_at));
        if age > validity {
            Standing::Outdated
        } else if age > validity / 4 * 3 {
            Standing::CheckSoon
        } else {
            Standing::Good
        }
    }

    /// Another replica has written the visitor's record.
    pub(super) fn outdate(&self, key: &VisitorKey) {
        if let Some(usable) = self.tokens.get(key) {
            usable.checked_at.store(0, Ordering::Relaxed);
        }
    }

    /// Another replica may have written any record before `now`.
    pub(super) fn outdate_all(&self, now: Timestamp) {
        let from = now.as_millis().saturating_add(1);
        self.believed_from.fetch_max(from, Ordering::Relaxed);
    }

    /// Puts `tokens` in and gives the right to use them; `None` if no header can carry the token.
    pub(super) fn insert(
        &self,
        key: VisitorKey,
        tokens: &TokenSet,
        policy: &Policy,
        render: &RenderToken,
        checked_at: Timestamp,
    ) -> Option<Authorized> {
        let header = render(tokens.access.secret())?;
        let subn = tokens.access.claims().subn;
        let usable = Arc::new(Usable {
            key,
            header,
            subn: subn
                .and_then(|subn| HeaderValue::try_from(subn).ok())
                .map(Box::new),
            fingerprint: tokens.access.fingerprint(),
            generation: tokens.generation,
            schedule: Schedule::new(tokens, policy),
            rejected: AtomicBool::new(false),
            adopted: false,
            checked_at: AtomicU64::new(checked_at.as_millis()),
        });
        self.tokens.insert(usable.clone());
        Some(Authorized(usable))
    }

    /// Marks the visitor's token as rejected if it is exactly that one.
    pub(super) fn reject_if(&self, key: &VisitorKey, token: TokenFingerprint) {
        if let Some(usable) = self.tokens.get(key)
            && usable.fingerprint == token
        {
            usable.rejected.store(true, Ordering::Relaxed);
        }
    }

    /// Marks exactly this token as rejected; a newer one of the same visitor stays good.
    pub(super) fn reject(&self, authorized: &Authorized) {
        authorized.0.rejected.store(true, Ordering::Relaxed);
    }

    /// Forgets the visitor.
    pub(super) fn remove(&self, key: &VisitorKey) {
        self.tokens.remove(key);
    }

    pub(super) fn len(&self) -> u64 {
        self.tokens.len() as u64
    }
}

#[cfg(test)]
impl Authorized {
    /// A right for tests of header rules, which have no session manager.
    pub(crate) fn for_tests(token: &'static str, subn: Option<&'static str>) -> Self {
        let mut header = HeaderValue::from_static(token);
        header.set_sensitive(true);
        let never = Timestamp::default() + Duration::MAX;
        Self(Arc::new(Usable {
            key: VisitorKey::from_bytes([0; 32]),
            header,
            subn: subn.map(HeaderValue::from_static).map(Box::new),
            fingerprint: crate::oauth::AccessToken::new(Secret::new(token)).fingerprint(),
            generation: 0,
            schedule: Schedule {
                usable_from: Timestamp::default(),
                refresh_from: never,
                expired_from: never,
            },
            rejected: AtomicBool::new(false),
            adopted: false,
            checked_at: AtomicU64::new(0),
        }))
    }
}
