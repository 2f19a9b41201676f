//! An access token that the visitor brings along: the vendor's own scripts keep one in a cookie. Nobody here has asked for it, and nobody
//! can check its signature, so it is a text of bounded length and known characters with an end, and nothing else is believed of it.

use std::time::Duration;

use super::token::{AccessToken, MAX_LIFETIME};
use crate::clock::Timestamp;
use crate::secret::Secret;

/// A token that a visitor carries: good for that visitor's own requests, and only until it ends. There is no refresh token to it.
#[derive(Debug)]
pub struct VendorToken {
    /// The token.
    pub access: AccessToken,
    /// When it ends, as it says itself.
    pub expires_at: Timestamp,
    /// How long it lives in all, or from now on where it does not say.
    pub lifetime: Duration,
}

/// A cookie has 4,096 bytes, name and attributes included.
const LONGEST: usize = 4096;

// === impl VendorToken ===

impl VendorToken {
    /// The token in a cookie's value; `None` if it is no JWT (RFC 7519 §3) that says when it ends, or has ended at `now`.
    pub fn read(value: &[u8], now: Timestamp) -> Option<Self> {
        if value.len() > LONGEST {
            return None;
        }
        let text = std::str::from_utf8(value).ok()?;
        let mut parts = text.split('.');
        let encoded = |part: &str| {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
            !part.is_empty() && part.bytes().all(fits)
        };
        if parts.clone().count() != 3 || !parts.all(encoded) {
            return None;
        }
        let access = AccessToken::new(Secret::new(text));
        let (expires_at, lifetime) = access.claimed_end()?;
        let left = expires_at.since(now);
        if left.is_zero() || left > MAX_LIFETIME {
            return None;
        }
        Some(Self {
            access,
            expires_at,
            lifetime: lifetime.unwrap_or(left).min(MAX_LIFETIME),
        })
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

    fn jwt(claims: &str) -> String {
        format!("eyJ9.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
    }

    fn read(text: &str) -> Option<VendorToken> {
        VendorToken::read(text.as_bytes(), NOW)
    }

    #[test]
    fn a_jwt_says_when_it_ends_and_nothing_else_is_read() {
        let text = jwt(r#"{"exp":1700000100,"iat":1699999900,"subn":"x","sub":"y"}"#);
        let token = read(&text).unwrap();
        assert_eq!(token.expires_at, NOW + Duration::from_secs(100));
        assert_eq!(token.lifetime, Duration::from_secs(200));
        assert_eq!(token.access.secret().expose(), text);
        let token = read(&jwt(r#"{"exp":1700000100.5,"iat":1800000000}"#)).unwrap();
        assert_eq!(token.lifetime, Duration::from_millis(100_500));
        assert!(!format!("{token:?}").contains("eyJ9"));
    }

    #[test]
    fn what_has_ended_or_has_no_end_or_is_no_jwt_is_none() {
        let good = jwt(r#"{"exp":1700000100}"#);
        for claims in [
            r#"{"exp":1700000000}"#,
            r#"{"exp":1}"#,
            r#"{"exp":-1}"#,
            r#"{"exp":1e300}"#,
            r#"{"exp":9000000000000}"#,
            r#"{"exp":"1700000100"}"#,
            r#"{"exp":null}"#,
            "{}",
            "[]",
            "",
        ] {
            assert!(read(&jwt(claims)).is_none(), "{claims}");
        }
        for text in [
            String::new(),
            "..".into(),
            good.replace("c2ln", ""),
            format!("{good}.x"),
            format!("{good} "),
            format!("{good}\""),
            good.replace("c2ln", &"A".repeat(4096)),
        ] {
            assert!(read(&text).is_none(), "{text}");
        }
        assert!(read(&good).is_some());
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_fail(text in "\\PC*", claims in "\\PC*") {
            read(&text);
            read(&jwt(&claims));
        }
    }
}
