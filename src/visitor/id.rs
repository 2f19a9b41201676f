//! What a visitor is called: an opaque id of ours, and the key under which a visitor session is stored.

use std::fmt::{self, Write};

use super::name::{LOGGED, read_hex};
use crate::hex::write_hex;

/// The identifier that the sidecar mints for a visitor: 128 random bits, meaningless outside the visitor cookie.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct VisitorId([u8; 16]);

/// A keyed hash (HMAC-SHA-256) of a visitor's identity: what stores, caches and logs know of a visitor.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VisitorKey([u8; 32]);

/// The secret that turns identities into [`VisitorKey`]s; one for the life of a store, so that keys never move.
#[derive(Clone)]
pub struct IdentityKey(ring::hmac::Key);

/// Where an identity came from: part of the hash, so that a header cannot name a cookie's visitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Namespace {
    /// Ids minted here and carried by the visitor cookie.
    Minted,
    /// Ids that the app names in a header.
    Header,
    /// Ids that a cookie of the app's holds.
    AppCookie,
}

// === impl VisitorId ===

impl VisitorId {
    /// An id from 16 bytes of the system's random generator.
    pub const fn from_random(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes, for the visitor cookie.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for VisitorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VisitorId([secret])")
    }
}

// === impl VisitorKey ===

impl VisitorKey {
    /// A key from its bytes, as a store holds them.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, for stores.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key of 64 hexadecimal digits; `None` if they are none.
    pub fn from_hex(digits: impl AsRef<[u8]>) -> Option<Self> {
        let mut bytes = [0; 32];
        read_hex(digits.as_ref(), &mut bytes).then_some(Self(bytes))
    }

    /// All its 64 digits, for names in stores and for operators. Nobody finds out by them who it is.
    pub fn to_hex(&self) -> String {
        let digits = String::with_capacity(2 * self.0.len());
        self.0.iter().fold(digits, |mut digits, byte| {
            let _ = write!(digits, "{byte:02x}");
            digits
        })
    }

    /// The next one in order; `None` after the last.
    pub fn successor(&self) -> Option<Self> {
        let mut bytes = self.0;
        for byte in bytes.iter_mut().rev() {
            *byte = byte.wrapping_add(1);
            if *byte != 0 {
                return Some(Self(bytes));
            }
        }
        None
    }

    /// The bytes in words, for tables in memory: keys are keyed hashes already, evenly spread, and nobody outside can choose
    /// them.
    pub fn words(&self) -> [u64; 4] {
        let mut words = [0; 4];
        for (word, bytes) in words.iter_mut().zip(self.0.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        words
    }
}

/// Twelve hexadecimal digits: enough to follow one visitor through a log, useless to find out who it is.
impl fmt::Display for VisitorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0[..LOGGED])
    }
}

impl fmt::Debug for VisitorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VisitorKey({self})")
    }
}

// === impl IdentityKey ===

impl IdentityKey {
    /// A key from 32 random bytes.
    pub fn new(bytes: &[u8; 32]) -> Self {
        Self(ring::hmac::Key::new(ring::hmac::HMAC_SHA256, bytes))
    }

    /// The key of the visitor whom `id` names in `namespace`.
    pub fn visitor_key(&self, namespace: Namespace, id: &[u8]) -> VisitorKey {
        let mut context = ring::hmac::Context::with_key(&self.0);
        context.update(match namespace {
            Namespace::Minted => &b"minted\0"[..],
            Namespace::Header => b"header\0",
            Namespace::AppCookie => b"app-cookie\0",
        });
        context.update(id);
        let tag = context.sign();
        let mut bytes = [0; 32];
        bytes.copy_from_slice(tag.as_ref());
        VisitorKey(bytes)
    }
}

impl fmt::Debug for IdentityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdentityKey([secret])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_id_in_another_namespace_is_another_visitor() {
        let key = IdentityKey::new(&[7; 32]);
        let id = [1; 16];
        let namespaces = [Namespace::Minted, Namespace::Header, Namespace::AppCookie];
        let keys = namespaces.map(|namespace| key.visitor_key(namespace, &id));
        assert!(keys[0] != keys[1] && keys[0] != keys[2] && keys[1] != keys[2]);
        assert_eq!(
            key.visitor_key(Namespace::Minted, &id),
            key.visitor_key(Namespace::Minted, &id)
        );
    }

    #[test]
    fn another_identity_key_gives_another_visitor_key() {
        let id = [1; 16];
        assert_ne!(
            IdentityKey::new(&[7; 32]).visitor_key(Namespace::Minted, &id),
            IdentityKey::new(&[8; 32]).visitor_key(Namespace::Minted, &id)
        );
    }

    #[test]
    fn a_key_is_its_digits_and_has_a_successor() {
        let key = VisitorKey::from_bytes(std::array::from_fn(|at| 0xff - at as u8));
        assert_eq!(VisitorKey::from_hex(key.to_hex()), Some(key));
        assert!(key.to_hex().starts_with(&key.to_string()));
        let mut bytes = [0xff; 32];
        assert_eq!(VisitorKey::from_bytes(bytes).successor(), None);
        bytes[0] = 7;
        let mut next = [0; 32];
        next[0] = 8;
        let next = VisitorKey::from_bytes(next);
        assert_eq!(VisitorKey::from_bytes(bytes).successor(), Some(next));
    }

    #[test]
    fn a_key_is_its_words() {
        let key = VisitorKey::from_bytes(std::array::from_fn(|at| at as u8));
        let words = key.words();
        assert_eq!(words[0], 0x0706_0504_0302_0100);
        assert_eq!(words.map(u64::to_le_bytes).as_flattened(), key.as_bytes());
    }
}
