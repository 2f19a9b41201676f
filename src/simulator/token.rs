//! PURE. Values that the simulator hands out and knows again: codes, refresh tokens and access tokens.
//!
//! All of them carry what they stand for, sealed with the simulator's key, so that nothing has to be stored for each
//! token: memory grows with profiles, never with refreshes. A value that the key did not make is *foreign*.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

const HEADER: &str = r#"{"typ":"JWT","alg":"HS256"}"#;
const TAG: usize = 24;

/// The secret behind every value of one simulator.
pub(super) struct SigningKey([u8; 32]);

/// The claims of an access token. `jti` is opaque to others: it seals what the simulator itself goes by.
#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    subn: String,
    aud: String,
    scope: String,
    iat: u64,
    exp: u64,
    jti: String,
}

/// What an access token says when it is made.
pub(super) struct NewAccessToken<'a> {
    pub(super) issuer: &'a str,
    pub(super) client_id: &'a str,
    pub(super) profile_id: &'a str,
    pub(super) subn: &'a str,
    /// Unix seconds.
    pub(super) issued_at: u64,
    /// Unix seconds.
    pub(super) expires_at: u64,
    pub(super) known: AccessToken,
}

/// What the simulator knows of an access token when it comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AccessToken {
    /// Counts up with every access token issued.
    pub(super) serial: u64,
    /// Index of the profile.
    pub(super) profile: u64,
    /// The moment from which the token is expired, Unix milliseconds.
    pub(super) valid_until_ms: u64,
}

// === impl SigningKey ===

impl SigningKey {
    pub(super) fn new(secret: [u8; 32]) -> Self {
        Self(secret)
    }

    /// Makes an opaque, random-looking string from numbers; only [`Self::open`] with the same `purpose` reads it.
    pub(super) fn seal<const N: usize>(&self, purpose: &str, numbers: [u64; N]) -> String {
        let mut plain: Vec<u8> = numbers
            .iter()
            .flat_map(|number| number.to_be_bytes())
            .collect();
        let tag = self.mac(&[purpose.as_bytes(), b":tag:", &plain]);
        self.mask(&mut plain, &tag[..TAG]);
        URL_SAFE_NO_PAD.encode([&tag[..TAG], &plain].concat())
    }

    /// The numbers that were sealed, or `None` if this key did not seal them for this purpose.
    pub(super) fn open<const N: usize>(&self, purpose: &str, sealed: &str) -> Option<[u64; N]> {
        let mut bytes = URL_SAFE_NO_PAD
            .decode(sealed)
            .ok()
            .filter(|bytes| bytes.len() == TAG + 8 * N)?;
        let mut plain = bytes.split_off(TAG);
        self.mask(&mut plain, &bytes);
        let tag = self.mac(&[purpose.as_bytes(), b":tag:", &plain]);
        let mut numbers = [0; N];
        for (number, chunk) in numbers.iter_mut().zip(plain.chunks_exact(8)) {
            *number = u64::from_be_bytes(chunk.try_into().ok()?);
        }
        (tag[..TAG] == bytes[..]).then_some(numbers)
    }

    /// A JSON Web Token (RFC 7519), signed with HS256.
    pub(super) fn mint(&self, new: &NewAccessToken<'_>) -> String {
        let AccessToken {
            serial,
            profile,
            valid_until_ms,
        } = new.known;
        let claims = Claims {
            iss: new.issuer.to_owned(),
            sub: new.profile_id.to_owned(),
            subn: new.subn.to_owned(),
            aud: new.client_id.to_owned(),
            scope: "items recommendations".to_owned(),
            iat: new.issued_at,
            exp: new.expires_at,
            jti: self.seal("access", [serial, profile, valid_until_ms]),
        };
        let claims = serde_json::to_vec(&claims).expect("strings and integers always serialise");
        let mut token = URL_SAFE_NO_PAD.encode(HEADER);
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(claims));
        let signature = self.mac(&[token.as_bytes()]);
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(signature));
        token
    }

    /// Knows an access token again, expired or not. `None`: garbage, or another issuer's.
    pub(super) fn recognise(&self, token: &str) -> Option<AccessToken> {
        let (signed, signature) = token.rsplit_once('.')?;
        if URL_SAFE_NO_PAD.decode(signature).ok()? != self.mac(&[signed.as_bytes()]) {
            return None;
        }
        let (_, claims) = signed.split_once('.')?;
        let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
        let [serial, profile, valid_until_ms] = self.open("access", &claims.jti)?;
        Some(AccessToken {
            serial,
            profile,
            valid_until_ms,
        })
    }

    /// A stable identifier for the profile at an index.
    pub(super) fn profile_id(&self, index: u64) -> String {
        hex(&self.mac(&[b"profile:", &index.to_be_bytes()])[..12])
    }

    /// The network user id of the profile at an index, in the form of a version 4 UUID.
    pub(super) fn network_user_id(&self, index: u64) -> String {
        uuid(&self.mac(&[b"subn:", &index.to_be_bytes()]))
    }

    fn mask(&self, data: &mut [u8], tag: &[u8]) {
        let stream = self.mac(&[b"mask:", tag]);
        for (byte, mask) in data.iter_mut().zip(stream) {
            *byte ^= mask;
        }
    }

    /// HMAC-SHA-256 (RFC 2104) over the parts, one after the other.
    fn mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        let block = |pad: u8| {
            let mut block = [pad; 64];
            for (byte, key) in block.iter_mut().zip(self.0) {
                *byte ^= key;
            }
            block
        };
        let mut inner = Sha256::new_with_prefix(block(0x36));
        for part in parts {
            inner.update(part);
        }
        Sha256::new_with_prefix(block(0x5c))
            .chain_update(inner.finalize())
            .finalize()
            .into()
    }
}

/// Formats the first 16 of these bytes as a version 4 UUID.
pub(super) fn uuid(bytes: &[u8; 32]) -> String {
    let mut id = [0; 16];
    id.copy_from_slice(&bytes[..16]);
    id[6] = id[6] & 0x0f | 0x40;
    id[8] = id[8] & 0x3f | 0x80;
    let text = hex(&id);
    format!(
        "{}-{}-{}-{}-{}",
        &text[..8],
        &text[8..12],
        &text[12..16],
        &text[16..20],
        &text[20..]
    )
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test may panic")]
    use super::*;

    #[test]
    fn the_signature_is_the_hmac_of_rfc_4231() {
        let mut key = [0; 32];
        key[..4].copy_from_slice(b"Jefe");
        let mac = SigningKey::new(key).mac(&[b"what do ya want ", b"for nothing?"]);
        assert_eq!(
            hex(&mac),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn a_sealed_value_opens_only_with_its_key_and_for_its_purpose() {
        let key = SigningKey::new([7; 32]);
        let sealed = key.seal("code", [42, 1]);
        assert_eq!(key.open("code", &sealed), Some([42, 1]));
        assert_eq!(key.open::<2>("refresh", &sealed), None);
        assert_eq!(key.open::<1>("code", &sealed), None);
        assert_eq!(SigningKey::new([8; 32]).open::<2>("code", &sealed), None);
        assert_eq!(key.open::<2>("code", "garbage"), None);
    }

    #[test]
    fn an_access_token_is_known_again_and_a_changed_one_is_not() {
        let key = SigningKey::new([7; 32]);
        let known = AccessToken {
            serial: 3,
            profile: 9,
            valid_until_ms: 1_000,
        };
        let token = key.mint(&NewAccessToken {
            issuer: "https://dressipi.example",
            client_id: "demo",
            profile_id: &key.profile_id(9),
            subn: &key.network_user_id(9),
            issued_at: 1_700_000_000,
            expires_at: 1_700_000_900,
            known,
        });
        assert!(
            (400..600).contains(&token.len()),
            "{} bytes: {token}",
            token.len()
        );
        assert_eq!(key.recognise(&token), Some(known));
        assert_eq!(key.recognise(&token[..token.len() - 4]), None);
        assert_eq!(SigningKey::new([8; 32]).recognise(&token), None);
    }
}
