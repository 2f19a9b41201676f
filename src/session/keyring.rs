//! The keyring: seals what goes into a store, and opens what comes out of it.
//!
//! Decides the sealed format and which key does what: the first key seals, all of them open, so that keys rotate without
//! losing a visitor. Each visitor has a key of its own, derived, so that random nonces cannot run out under any key. A
//! value opens only for the visitor it was sealed for. Knows nothing of what it seals, and prints no key.
//!
//! ```text
//! sealed  = format (1) ‖ key id (4) ‖ nonce (12) ‖ AES-256-GCM(plaintext) ‖ tag (16)
//! key     = HKDF-SHA-256(salt, line of the keyring), expanded with "seal v1" ‖ context      (RFC 5869)
//! aad     = format ‖ key id ‖ context
//! ```

use std::fmt;

use bytes::Bytes;
use ring::rand::{SecureRandom, SystemRandom};
use ring::{aead, digest, hkdf, hmac};
use zeroize::Zeroizing;

pub use super::keyring_file::{Created, KeyringError, LineError, generate_key_line, loose_mode};

/// The first byte of everything sealed at present.
const FORMAT: u8 = 1;
const ID_LEN: usize = 4;
const NONCE_LEN: usize = aead::NONCE_LEN;
const HEADER_LEN: usize = 1 + ID_LEN + NONCE_LEN;
const TAG_LEN: usize = 16;
const CONTEXT_LEN: usize = 32;

const SALT: &[u8] = b"dressipi-sidecar keyring v1";
const ID_DOMAIN: &[u8] = b"dressipi-sidecar key id v1\0";
const SEAL_INFO: &[u8] = b"seal v1";
const COOKIE_INFO: &[u8] = b"visitor-cookie v1";

/// The length of a key of the keyring, in bytes.
pub(super) const KEY_LEN: usize = 32;

/// Sealing keys in order: the first one seals, all of them open. Never empty.
#[derive(Clone)]
pub struct Keyring {
    keys: Vec<SealingKey>,
    /// Whether the keys exist in this process only.
    ephemeral: bool,
}

/// Why a sealed value does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// It was sealed with a key that is not in the keyring.
    #[error(
        "sealed with the key {:08x}, which is not in the keyring; put that key back, after the first one",
        u32::from_be_bytes(*id)
    )]
    UnknownKey {
        /// The id of the key that sealed it.
        id: [u8; 4],
    },
    /// It was sealed by a later version of the sidecar, or is no sealed value at all.
    #[error("sealed in format {0}, which this version does not know")]
    UnknownFormat(u8),
    /// It is too short to be a sealed value.
    #[error("too short to be a sealed value")]
    Truncated,
    /// It was altered, or sealed for another visitor.
    #[error("altered since it was sealed, or sealed for another visitor")]
    Forged,
}

/// One key of the ring: its name, and what the other keys are derived from.
#[derive(Clone)]
pub(super) struct SealingKey {
    id: [u8; ID_LEN],
    root: hkdf::Prk,
}

// === impl Keyring ===

impl Keyring {
    /// A ring of these keys; the caller has made sure that there is one and that no two have the same id.
    pub(super) fn from_keys(keys: Vec<SealingKey>) -> Self {
        Self {
            keys,
            ephemeral: false,
        }
    }

    /// A ring of one new key that nobody else has: what it seals ends with this process.
    pub fn ephemeral() -> Self {
        let mut key = Zeroizing::new([0; KEY_LEN]);
        SystemRandom::new()
            .fill(&mut *key)
            .expect("the operating system's random generator does not fail once it has started");
        Self {
            keys: vec![SealingKey::new(&key)],
            ephemeral: true,
        }
    }

    /// Whether the keys exist in this process only, so that nobody else will ever open what they seal.
    pub fn is_ephemeral(&self) -> bool {
        self.ephemeral
    }

    /// Whether `sealed` says that the first key sealed it.
    pub(super) fn is_current(&self, sealed: &[u8]) -> bool {
        sealed.get(1..=ID_LEN) == Some(&self.keys[0].id[..])
    }

    /// Seals `plaintext` for the visitor `context`, with the first key.
    pub fn seal(&self, context: &[u8; 32], plaintext: &[u8]) -> Bytes {
        let key = &self.keys[0];
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new()
            .fill(&mut nonce)
            .expect("the operating system's random generator does not fail once it has started");
        // Whole from the start: a buffer that grew would leave plaintext behind in memory.
        let mut sealed = Vec::with_capacity(HEADER_LEN + plaintext.len() + TAG_LEN);
        sealed.push(FORMAT);
        sealed.extend_from_slice(&key.id);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plaintext);
        let tag = key
            .aead(context)
            .seal_in_place_separate_tag(
                aead::Nonce::assume_unique_for_key(nonce),
                key.aad(context),
                &mut sealed[HEADER_LEN..],
            )
            .expect("AES-GCM refuses only plaintexts of 64 GiB and more");
        sealed.extend_from_slice(tag.as_ref());
        Bytes::from(sealed)
    }

    /// Opens what [`Keyring::seal`] sealed for the visitor `context`, with whichever key sealed it.
    pub fn open(&self, context: &[u8; 32], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let (&format, rest) = sealed.split_first().ok_or(OpenError::Truncated)?;
        if format != FORMAT {
            return Err(OpenError::UnknownFormat(format));
        }
        let (id, rest) = rest
            .split_first_chunk::<ID_LEN>()
            .ok_or(OpenError::Truncated)?;
        let (nonce, ciphertext) = rest
            .split_first_chunk::<NONCE_LEN>()
            .filter(|(_, ciphertext)| ciphertext.len() >= TAG_LEN)
            .ok_or(OpenError::Truncated)?;
        let key = self
            .keys
            .iter()
            .find(|key| key.id == *id)
            .ok_or(OpenError::UnknownKey { id: *id })?;
        let mut buffer = Zeroizing::new(ciphertext.to_vec());
        let length = key
            .aead(context)
            .open_in_place(
                aead::Nonce::assume_unique_for_key(*nonce),
                key.aad(context),
                &mut buffer,
            )
            .map_err(|_| OpenError::Forged)?
            .len();
        buffer.truncate(length);
        Ok(buffer)
    }

    /// The keys that authenticate visitor cookies, with their ids, in the order of the ring: the first one signs, all of
    /// them verify.
    pub fn cookie_keys(&self) -> Vec<([u8; 4], hmac::Key)> {
        self.keys
            .iter()
            .map(|key| (key.id, key.expand(&[COOKIE_INFO], hmac::HMAC_SHA256).into()))
            .collect()
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keyring({} [secret])", self.keys.len())
    }
}

// === impl SealingKey ===

impl SealingKey {
    pub(super) fn new(bytes: &[u8; KEY_LEN]) -> Self {
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(ID_DOMAIN);
        hash.update(bytes);
        let mut id = [0; ID_LEN];
        id.copy_from_slice(&hash.finish().as_ref()[..ID_LEN]);
        Self {
            id,
            root: hkdf::Salt::new(hkdf::HKDF_SHA256, SALT).extract(bytes),
        }
    }

    pub(super) fn id(&self) -> [u8; ID_LEN] {
        self.id
    }

    /// The key of one visitor.
    fn aead(&self, context: &[u8; CONTEXT_LEN]) -> aead::LessSafeKey {
        aead::LessSafeKey::new(
            self.expand(&[SEAL_INFO, context], &aead::AES_256_GCM)
                .into(),
        )
    }

    fn expand<'a, L: hkdf::KeyType>(&'a self, info: &'a [&'a [u8]], length: L) -> hkdf::Okm<'a, L> {
        self.root
            .expand(info, length)
            .expect("HKDF-SHA-256 gives up to 8,160 bytes; 32 are asked for")
    }

    fn aad(&self, context: &[u8; CONTEXT_LEN]) -> aead::Aad<[u8; 1 + ID_LEN + CONTEXT_LEN]> {
        let mut aad = [FORMAT; 1 + ID_LEN + CONTEXT_LEN];
        aad[1..=ID_LEN].copy_from_slice(&self.id);
        aad[1 + ID_LEN..].copy_from_slice(context);
        aead::Aad::from(aad)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: [u8; 32] = [0xa1; 32];
    const BOB: [u8; 32] = [0xb0; 32];

    fn ring(keys: &[u8]) -> Keyring {
        Keyring::from_keys(
            keys.iter()
                .map(|key| SealingKey::new(&[*key; 32]))
                .collect(),
        )
    }

    #[test]
    fn what_was_sealed_opens_for_its_visitor() {
        for plaintext in [&b""[..], b"token", &[7; 65536]] {
            let sealed = ring(&[1]).seal(&ALICE, plaintext);
            assert_eq!(sealed.len(), 33 + plaintext.len());
            assert_eq!(*ring(&[1]).open(&ALICE, &sealed).unwrap(), plaintext);
        }
    }

    #[test]
    fn rotation_opens_what_older_keys_sealed() {
        let old = ring(&[1]).seal(&ALICE, b"token");
        let rotated = ring(&[2, 1]);
        assert_eq!(*rotated.open(&ALICE, &old).unwrap(), b"token");
        let new = rotated.seal(&ALICE, b"token");
        assert_eq!(*ring(&[2]).open(&ALICE, &new).unwrap(), b"token");
        let id = ring(&[2]).keys[0].id;
        assert_eq!(
            ring(&[1]).open(&ALICE, &new),
            Err(OpenError::UnknownKey { id })
        );
    }

    #[test]
    fn another_visitors_value_is_refused() {
        let sealed = ring(&[1]).seal(&ALICE, b"token");
        assert_eq!(ring(&[1]).open(&BOB, &sealed), Err(OpenError::Forged));
    }

    #[test]
    fn a_flipped_bit_is_refused_wherever_it_is() {
        let ring = ring(&[1, 2]);
        let sealed = ring.seal(&ALICE, b"token");
        for position in 0..sealed.len() {
            for bit in 0..8 {
                let mut altered = sealed.to_vec();
                altered[position] ^= 1 << bit;
                let error = ring.open(&ALICE, &altered).unwrap_err();
                match position {
                    0 => assert_eq!(error, OpenError::UnknownFormat(altered[0])),
                    1..5 => assert!(matches!(error, OpenError::UnknownKey { .. })),
                    _ => assert_eq!(error, OpenError::Forged),
                }
            }
        }
    }

    #[test]
    fn another_keys_name_is_refused() {
        let ring = ring(&[1, 2]);
        let mut sealed = ring.seal(&ALICE, b"token").to_vec();
        sealed[1..5].copy_from_slice(&ring.keys[1].id);
        assert_eq!(ring.open(&ALICE, &sealed), Err(OpenError::Forged));
    }

    #[test]
    fn a_truncated_value_is_refused_at_every_length() {
        let ring = ring(&[1]);
        let sealed = ring.seal(&ALICE, b"token");
        for length in 0..sealed.len() {
            let error = ring.open(&ALICE, &sealed[..length]).unwrap_err();
            let short = length < HEADER_LEN + TAG_LEN;
            assert_eq!(
                error,
                if short {
                    OpenError::Truncated
                } else {
                    OpenError::Forged
                }
            );
        }
    }

    #[test]
    fn the_same_plaintext_never_seals_the_same() {
        let ring = ring(&[1]);
        assert_ne!(ring.seal(&ALICE, b"token"), ring.seal(&ALICE, b"token"));
    }

    #[test]
    fn the_format_is_for_ever() {
        // Sealed by the first version: whoever breaks this loses every visitor session.
        const SEALED: [u8; 38] = [
            1, 198, 83, 106, 242, 210, 101, 93, 23, 183, 246, 67, 30, 203, 200, 99, 82, 8, 206,
            107, 33, 26, 140, 58, 33, 81, 26, 220, 62, 66, 54, 69, 187, 143, 144, 121, 233, 0,
        ];
        assert_eq!(*ring(&[1]).open(&ALICE, &SEALED).unwrap(), b"token");
    }

    #[test]
    fn each_key_of_the_ring_gives_one_cookie_key_in_order() {
        let keys = ring(&[1, 2]).cookie_keys();
        assert_eq!(
            keys.iter().map(|(id, _)| *id).collect::<Vec<_>>(),
            [1, 2].map(|key| ring(&[key]).keys[0].id)
        );
        let tag = hmac::sign(&keys[0].1, b"visitor");
        hmac::verify(&ring(&[1]).cookie_keys()[0].1, b"visitor", tag.as_ref()).unwrap();
        hmac::verify(&keys[1].1, b"visitor", tag.as_ref()).unwrap_err();
    }

    #[test]
    fn debug_prints_nothing_of_a_key() {
        assert_eq!(format!("{:?}", ring(&[1, 2])), "Keyring(2 [secret])");
    }
}
