//! Proof Key for Code Exchange (RFC 7636), method S256, and the `state` parameter (RFC 6749 §10.12).

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::TryRng;
use rand::rngs::SysRng;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::secret::Secret;

/// The code verifier: 43 characters of base64url over 32 random bytes (RFC 7636 §4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeVerifier(Secret);

/// The S256 code challenge: base64url without padding of SHA-256 of the verifier (RFC 7636 §4.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeChallenge(String);

/// The `state` of one authorize call: random, compared in constant time.
#[derive(Clone)]
pub struct State(String);

/// The system's random generator failed; nothing may be begun without it.
#[derive(Debug, thiserror::Error)]
#[error("the system's random generator failed: {0}")]
pub struct RandomError(#[source] Box<dyn std::error::Error + Send + Sync>);

fn random_text<const BYTES: usize>() -> Result<String, RandomError> {
    let mut bytes = [0_u8; BYTES];
    SysRng
        .try_fill_bytes(&mut bytes)
        .map_err(|error| RandomError(error.into()))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

// === impl CodeVerifier ===

impl CodeVerifier {
    /// A fresh verifier from 32 bytes of the system's generator.
    pub fn generate() -> Result<Self, RandomError> {
        random_text::<32>().map(|text| Self(Secret::new(text)))
    }

    /// A verifier read back from a store.
    pub fn from_stored(text: Secret) -> Self {
        Self(text)
    }

    /// The challenge that the authorize call carries.
    pub fn challenge(&self) -> CodeChallenge {
        let digest = Sha256::digest(self.0.expose().as_bytes());
        CodeChallenge(URL_SAFE_NO_PAD.encode(digest))
    }

    /// The verifier's text, for the token request and the sealed store.
    pub fn secret(&self) -> &Secret {
        &self.0
    }
}

// === impl CodeChallenge ===

impl CodeChallenge {
    /// The challenge's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

// === impl State ===

impl State {
    /// A fresh state from 32 bytes of the system's generator.
    pub fn generate() -> Result<Self, RandomError> {
        random_text::<32>().map(Self)
    }

    /// The state's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `returned` is this state, in time that does not depend on where they differ.
    pub fn matches(&self, returned: &str) -> bool {
        self.0.as_bytes().ct_eq(returned.as_bytes()).into()
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("State([secret])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn challenge(verifier: &str) -> String {
        CodeVerifier::from_stored(Secret::new(verifier))
            .challenge()
            .0
    }

    #[test]
    fn the_published_challenge_vectors_hold() {
        // Dressipi's reference.
        assert_eq!(
            challenge("1tBnEmtSImyCykPHxHYBdzpSFhKEj0Q1LuiHd4fdDlY"),
            "p7CN1Zi4o5ARn1mYNvNFvj2r5cKkr2k6y7a573eHJXQ"
        );
        // RFC 7636 appendix B.
        assert_eq!(
            challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
        );
    }

    #[test]
    fn a_verifier_has_43_unreserved_characters_and_is_never_the_same_twice() {
        let one = CodeVerifier::generate().unwrap();
        let other = CodeVerifier::generate().unwrap();
        assert_eq!(one.secret().expose().len(), 43);
        assert!(
            one.secret()
                .expose()
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
        );
        assert_ne!(one, other);
    }

    #[test]
    fn a_state_matches_itself_only() {
        let state = State::generate().unwrap();
        assert!(state.matches(state.as_str()));
        assert!(!state.matches(&state.as_str()[1..]));
        assert!(!state.matches(""));
        assert!(!state.matches(State::generate().unwrap().as_str()));
    }
}
