//! Cookies that have been authenticated a moment ago. To read one takes two HMACs, and a visitor sends the same one with every
//! request; so the visitor to whom an exact value belongs is kept for a while.
//!
//! Only what verified gets in, so a forged cookie finds nothing here, pushes nobody out, and takes the long way. A whole value is
//! compared, in constant time. Its age is looked at every time. One table belongs to one jar and one identity key: with other
//! keys comes another table.

use parking_lot::Mutex;
use subtle::ConstantTimeEq;

use super::cookie::{Age, CookieJar, ENCODED, Issued};
use super::id::{IdentityKey, Namespace, VisitorId, VisitorKey};
use crate::clock::Timestamp;

/// The table: each value has one place, and the last one there stays.
pub struct KnownCookies(Box<[Mutex<Option<Known>>]>);

#[derive(Clone, Copy)]
struct Known {
    value: Words,
    issued: Issued,
    key: VisitorKey,
    id: VisitorId,
}

/// A visitor who is known by a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownVisitor {
    /// What stores and logs know of them.
    pub key: VisitorKey,
    /// What the cookie says.
    pub id: VisitorId,
    /// How old the cookie is, if it is due to be set anew.
    pub renewal: Option<Issued>,
}

/// A value as eight words.
type Words = [u64; WORDS];

const WORDS: usize = ENCODED.div_ceil(8);
/// About 2 MB. A shop with more visitors at once computes some HMACs again, that is all.
const PLACES: usize = 1 << 14;

// === impl KnownCookies ===

impl KnownCookies {
    /// An empty table.
    pub fn new() -> Self {
        Self::with_places(PLACES)
    }

    fn with_places(places: usize) -> Self {
        Self((0..places).map(|_| Mutex::new(None)).collect())
    }

    /// The visitor whom a cookie's value names, read by `jar`; `None` where that one gives none. Call it with one jar and one
    /// key only.
    pub fn visitor(
        &self,
        value: &[u8],
        now: Timestamp,
        jar: &CookieJar,
        identity_key: &IdentityKey,
    ) -> Option<KnownVisitor> {
        let words = words(value)?;
        let place = self.place(&words);
        // Whoever finds the place taken does not wait for it.
        let known = place.try_lock().and_then(|known| *known);
        if let Some(known) = known
            && bool::from(known.value.ct_eq(&words))
        {
            return known.at(now, jar);
        }
        let verified = jar.verify(value)?;
        if jar.age(verified.issued, now) == Age::Over {
            return None;
        }
        let visitor = Known {
            value: words,
            issued: verified.issued,
            key: identity_key.visitor_key(Namespace::Minted, verified.id.as_bytes()),
            id: verified.id,
        };
        if let Some(mut known) = place.try_lock() {
            *known = Some(visitor);
        }
        visitor.at(now, jar)
    }

    /// The place of a value: its last characters are the MAC's, which spreads authentic ones evenly. A forger may choose a
    /// place, and gains nothing by it.
    fn place(&self, words: &Words) -> &Mutex<Option<Known>> {
        let hash = (words[WORDS - 3] ^ words[WORDS - 2]).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        &self.0[(hash >> 32) as usize % self.0.len()]
    }
}

impl Known {
    fn at(self, now: Timestamp, jar: &CookieJar) -> Option<KnownVisitor> {
        let Self {
            issued, key, id, ..
        } = self;
        let renewal = match jar.age(issued, now) {
            Age::Good => None,
            Age::RenewalDue => Some(issued),
            Age::Over => return None,
        };
        Some(KnownVisitor { key, id, renewal })
    }
}

impl Default for KnownCookies {
    fn default() -> Self {
        Self::new()
    }
}

/// A value of the right length, in words.
fn words(value: &[u8]) -> Option<Words> {
    let value: &[u8; ENCODED] = value.try_into().ok()?;
    let mut padded = [0; WORDS * 8];
    padded[..ENCODED].copy_from_slice(value);
    let mut words = [0; WORDS];
    for (word, bytes) in words.iter_mut().zip(padded.as_chunks::<8>().0) {
        *word = u64::from_ne_bytes(*bytes);
    }
    Some(words)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use ring::hmac;

    use super::*;
    use crate::visitor::CookieSettings;

    const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

    fn jar(keys: &[u8]) -> CookieJar {
        let key = |number: &u8| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, &[*number; 32]);
            ([*number; 4], key)
        };
        CookieJar::new(CookieSettings::default(), keys.iter().map(key).collect())
    }

    fn identity_key() -> IdentityKey {
        IdentityKey::new(&[7; 32])
    }

    fn minted(jar: &CookieJar, random: u8) -> (String, VisitorKey) {
        let minted = jar.mint([random; 16], NOW).unwrap();
        let (_, rest) = minted.set_cookie.split_once('=').unwrap();
        let key = identity_key().visitor_key(Namespace::Minted, minted.id.as_bytes());
        (rest.split_once(';').unwrap().0.to_owned(), key)
    }

    fn read(
        table: &KnownCookies,
        jar: &CookieJar,
        value: &str,
        now: Timestamp,
    ) -> Option<VisitorKey> {
        let known = table.visitor(value.as_bytes(), now, jar, &identity_key())?;
        assert_eq!(
            identity_key().visitor_key(Namespace::Minted, known.id.as_bytes()),
            known.key
        );
        Some(known.key)
    }

    #[test]
    fn a_known_cookie_names_the_visitor_whom_it_named_and_needs_no_key() {
        let (table, jar) = (KnownCookies::new(), jar(&[1]));
        let (value, key) = minted(&jar, 1);
        for _ in 0..2 {
            assert_eq!(read(&table, &jar, &value, NOW), Some(key));
        }
        // A jar whose keys accept nothing shows that nothing was computed.
        let keyless = CookieJar::new(CookieSettings::default(), Vec::new());
        assert_eq!(read(&table, &keyless, &value, NOW), Some(key));
    }

    #[test]
    fn invariant_8_a_known_cookie_expires_as_any_other() {
        let (table, jar) = (KnownCookies::new(), jar(&[1]));
        let (value, key) = minted(&jar, 1);
        let last = NOW + CookieSettings::default().max_age;
        assert_eq!(read(&table, &jar, &value, NOW), Some(key));
        assert_eq!(read(&table, &jar, &value, last), Some(key));
        assert_eq!(
            read(&table, &jar, &value, last + Duration::from_secs(1)),
            None
        );
        assert_eq!(
            read(&table, &jar, &value, NOW - Duration::from_secs(3600)),
            None
        );
        // What has expired is not kept either.
        let fresh = KnownCookies::new();
        assert_eq!(
            read(&fresh, &jar, &value, last + Duration::from_secs(1)),
            None
        );
        assert!(fresh.0.iter().all(|place| place.lock().is_none()));
    }

    #[test]
    fn invariant_8_with_other_keys_comes_another_table() {
        let (value, key) = minted(&jar(&[1]), 1);
        assert_eq!(
            read(&KnownCookies::new(), &jar(&[2, 1]), &value, NOW),
            Some(key)
        );
        assert_eq!(read(&KnownCookies::new(), &jar(&[2]), &value, NOW), None);
    }

    #[test]
    fn two_visitors_in_one_place_are_not_mixed_up() {
        let (table, jar) = (KnownCookies::with_places(1), jar(&[1]));
        let visitors = [1, 2, 3].map(|random| minted(&jar, random));
        for (value, key) in visitors.iter().chain(&visitors) {
            assert_eq!(read(&table, &jar, value, NOW), Some(*key));
            assert_eq!(read(&table, &jar, value, NOW), Some(*key));
        }
    }

    #[test]
    fn a_place_that_is_taken_is_not_waited_for() {
        let (table, jar) = (KnownCookies::with_places(1), jar(&[1]));
        let (value, key) = minted(&jar, 1);
        let _taken = table.0[0].lock();
        assert_eq!(read(&table, &jar, &value, NOW), Some(key));
    }

    proptest! {
        /// Invariant 8: whatever a forged cookie has in common with a known one, it is none, and the known one stays.
        #[test]
        fn invariant_8_a_forged_cookie_is_none_beside_a_known_one(
            at in 0..ENCODED, to in "[A-Za-z0-9_=.+/-]{1,60}", places in 1_usize..4
        ) {
            let (table, jar) = (KnownCookies::with_places(places), jar(&[1]));
            let (value, key) = minted(&jar, 1);
            prop_assert_eq!(read(&table, &jar, &value, NOW), Some(key));
            let mut forged = value.clone();
            let end = (at + to.len()).min(ENCODED);
            forged.replace_range(at..end, &to);
            prop_assume!(forged != value);
            prop_assert_eq!(read(&table, &jar, &forged, NOW), None);
            let keyless = CookieJar::new(CookieSettings::default(), Vec::new());
            prop_assert_eq!(read(&table, &keyless, &value, NOW), Some(key));
        }
    }
}
