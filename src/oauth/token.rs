//! Codes, tokens, and what a token set knows about its own life.

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use super::pkce::CodeVerifier;
use crate::clock::Timestamp;
use crate::hex::write_hex;
use crate::secret::Secret;

/// An access token (RFC 6749 §1.4): opaque text that happens to be a JWT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessToken(Secret);

/// A refresh token (RFC 6749 §1.5): the only way back to a visitor's profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefreshToken(Secret);

/// An authorization code (RFC 6749 §1.3.1). Good for one exchange, hence not `Clone`.
#[derive(Debug, PartialEq, Eq)]
pub struct AuthorizationCode(Secret);

/// The authorization code with the verifier that redeems it, before it is exchanged.
#[derive(Debug, PartialEq, Eq)]
pub struct Grant {
    /// The code.
    pub code: AuthorizationCode,
    /// The verifier whose challenge was sent for it.
    pub verifier: CodeVerifier,
}

/// Access token, refresh token and expiry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenSet {
    /// The access token.
    pub access: AccessToken,
    /// The refresh token that comes next.
    pub refresh: RefreshToken,
    /// When the access token arrived, on our clock.
    pub obtained_at: Timestamp,
    /// When it ends, on our clock.
    pub expires_at: Timestamp,
    /// How many refreshes lie between this set and the exchange.
    pub generation: u32,
}

/// Eight bytes of the SHA-256 of a token: tells tokens apart without being one.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenFingerprint([u8; 8]);

/// What our own token says about itself. Information, never proof: nobody verified it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// `exp` − `iat`, where both are there and make sense.
    pub lifetime: Option<Duration>,
    /// `subn`: the Snowplow network user id that tracking should use.
    pub subn: Option<String>,
}

/// The claims that are looked at.
#[derive(serde::Deserialize)]
struct RawClaims {
    exp: Option<f64>,
    iat: Option<f64>,
    subn: Option<String>,
}

/// The longest `subn` that is believed: a UUID has 36 characters.
const MAX_SUBN: usize = 128;

/// No token is believed to live longer than this.
pub(super) const MAX_LIFETIME: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

// === impl AccessToken ===

impl AccessToken {
    /// Wraps a token's text.
    pub fn new(text: Secret) -> Self {
        Self(text)
    }

    /// The text, for the header and the sealed store.
    pub fn secret(&self) -> &Secret {
        &self.0
    }

    /// Tells this token from others.
    pub fn fingerprint(&self) -> TokenFingerprint {
        TokenFingerprint::of(&self.0)
    }

    /// Reads the claims (RFC 7519 §4) without verifying anything; a token that is no JWT has none.
    pub fn claims(&self) -> Claims {
        self.read_claims().unwrap_or_default()
    }

    /// When the token ends by its own words, and how long it lives in all; `None` if it does not say when.
    pub(super) fn claimed_end(&self) -> Option<(Timestamp, Option<Duration>)> {
        let raw = self.raw_claims()?;
        let since_epoch = Duration::try_from_secs_f64(raw.exp?).ok()?;
        let millis = u64::try_from(since_epoch.as_millis()).ok()?;
        Some((Timestamp::from_millis(millis), raw.lifetime()))
    }

    fn raw_claims(&self) -> Option<RawClaims> {
        let mut parts = self.0.expose().split('.');
        let payload = parts.nth(1)?;
        let json = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
        serde_json::from_slice(&json).ok()
    }

    fn read_claims(&self) -> Option<Claims> {
        let raw = self.raw_claims()?;
        let lifetime = raw.lifetime();
        let visible = |text: &String| {
            !text.is_empty()
                && text.len() <= MAX_SUBN
                && text.bytes().all(|byte| byte.is_ascii_graphic())
        };
        Some(Claims {
            lifetime,
            subn: raw.subn.filter(visible),
        })
    }
}

// === impl RawClaims ===

impl RawClaims {
    fn lifetime(&self) -> Option<Duration> {
        match (self.exp, self.iat) {
            (Some(exp), Some(iat)) if exp > iat => Duration::try_from_secs_f64(exp - iat).ok(),
            _ => None,
        }
    }
}

// === impl TokenFingerprint ===

impl TokenFingerprint {
    fn of(token: &Secret) -> Self {
        let digest = Sha256::digest(token.expose().as_bytes());
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&digest[..8]);
        Self(bytes)
    }

    /// A fingerprint that another replica has told.
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    /// As it is told to other replicas.
    pub const fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

// === impl RefreshToken ===

impl RefreshToken {
    /// Wraps a token's text.
    pub fn new(text: Secret) -> Self {
        Self(text)
    }

    /// The text, for the token request and the sealed store.
    pub fn secret(&self) -> &Secret {
        &self.0
    }

    /// Tells this token from others.
    pub fn fingerprint(&self) -> TokenFingerprint {
        TokenFingerprint::of(&self.0)
    }
}

// === impl AuthorizationCode ===

impl AuthorizationCode {
    /// Wraps a code's text.
    pub fn new(text: Secret) -> Self {
        Self(text)
    }

    /// The text, for the token request and the sealed store.
    pub fn secret(&self) -> &Secret {
        &self.0
    }
}

// === impl TokenSet ===

impl TokenSet {
    /// A token set that was asked for at `asked_at` and says that it lives for `expires_in`: it ends after the smaller of
    /// that and the JWT's own lifetime, on our clock, so that the server's clock does not matter. Its life is counted from
    /// the question and not from the answer, which may have been long on its way.
    pub fn arrived(
        access: AccessToken,
        refresh: RefreshToken,
        expires_in: Duration,
        generation: u32,
        asked_at: Timestamp,
    ) -> Self {
        let lifetime = match access.claims().lifetime {
            Some(own) => expires_in.min(own),
            None => expires_in,
        };
        Self {
            access,
            refresh,
            obtained_at: asked_at,
            expires_at: asked_at + lifetime.min(MAX_LIFETIME),
            generation,
        }
    }

    /// How long the access token lives in all.
    pub fn lifetime(&self) -> Duration {
        self.expires_at.since(self.obtained_at)
    }
}

// === impl TokenFingerprint ===

/// Sixteen hexadecimal digits.
impl fmt::Display for TokenFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for TokenFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jwt(payload: &str) -> AccessToken {
        let text = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload));
        AccessToken::new(Secret::new(text))
    }

    fn refresh() -> RefreshToken {
        RefreshToken::new(Secret::new("r"))
    }

    #[test]
    fn the_smaller_of_expires_in_and_the_own_lifetime_counts_on_our_clock() {
        let now = Timestamp::from_secs(1_000_000);
        // The server's clock is years away; only the difference counts.
        let token = jwt(r#"{"iat":100,"exp":160}"#);
        let set = TokenSet::arrived(token, refresh(), Duration::from_secs(900), 0, now);
        assert_eq!(set.expires_at, now + Duration::from_secs(60));
        let token = jwt(r#"{"iat":100,"exp":5000}"#);
        let set = TokenSet::arrived(token, refresh(), Duration::from_secs(900), 0, now);
        assert_eq!(set.expires_at, now + Duration::from_secs(900));
    }

    #[test]
    fn odd_claims_are_no_claims() {
        for payload in [
            "",
            "null",
            "[]",
            r#"{"exp":1}"#,
            r#"{"exp":1,"iat":2}"#,
            r#"{"exp":"x","iat":1}"#,
            r#"{"exp":1e300,"iat":0}"#,
            r#"{"exp":-1,"iat":-2e18}"#,
            r#"{"subn":""}"#,
            "{\"subn\":\"a\\nb\"}",
        ] {
            let claims = jwt(payload).claims();
            assert!(claims.subn.is_none(), "{payload}");
            assert!(
                claims.lifetime.is_none_or(|l| l > Duration::ZERO),
                "{payload}"
            );
        }
        assert_eq!(
            AccessToken::new(Secret::new("opaque")).claims(),
            Claims::default()
        );
        assert_eq!(
            jwt(r#"{"subn":"u-1"}"#).claims().subn.as_deref(),
            Some("u-1")
        );
    }
}
