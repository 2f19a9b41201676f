//! PURE. Proof Key for Code Exchange as the server checks it (RFC 7636), `S256` only.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

/// Whether this can be an `S256` challenge: 43 characters of base64url, which encode exactly 32 bytes.
pub(super) fn is_challenge(text: &str) -> bool {
    text.len() == 43
        && URL_SAFE_NO_PAD
            .decode(text)
            .is_ok_and(|bytes| bytes.len() == 32)
}

/// Whether this can be a verifier: 43 to 128 unreserved characters (RFC 7636 §4.1).
pub(super) fn is_verifier(text: &str) -> bool {
    (43..=128).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~'))
}

/// Whether the challenge was made from the verifier (RFC 7636 §4.6).
pub(super) fn matches(verifier: &str, challenge: &str) -> bool {
    URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes())) == challenge
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_published_vectors_match() {
        for (verifier, challenge) in [
            (
                "1tBnEmtSImyCykPHxHYBdzpSFhKEj0Q1LuiHd4fdDlY",
                "p7CN1Zi4o5ARn1mYNvNFvj2r5cKkr2k6y7a573eHJXQ",
            ),
            (
                "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
                "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
            ),
        ] {
            assert!(is_verifier(verifier) && is_challenge(challenge));
            assert!(matches(verifier, challenge));
            assert!(!matches(challenge, verifier));
        }
    }

    #[test]
    fn shapes_outside_the_rfc_are_refused() {
        assert!(!is_verifier(&"a".repeat(42)) && !is_verifier(&"a".repeat(129)));
        assert!(is_verifier(&"~".repeat(43)) && is_verifier(&"a".repeat(128)));
        assert!(!is_verifier(&"+".repeat(43)));
        assert!(!is_challenge(&"a".repeat(42)) && !is_challenge(&"=".repeat(43)));
        // The last of 43 characters carries four bits: "b" would leave a bit over.
        assert!(is_challenge(&"A".repeat(43)) && !is_challenge(&format!("{}B", "A".repeat(42))));
    }
}
