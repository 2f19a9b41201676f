//! PURE. How secrets are shown: enough to tell two apart, too little to use.

use http::{HeaderMap, HeaderName};
use sha2::{Digest, Sha256};

use super::token::hex;

/// Names a secret without telling it: `sha256:` and the first eight hexadecimal digits of its digest.
pub fn fingerprint(secret: &str) -> String {
    format!("sha256:{}", hex(&Sha256::digest(secret.as_bytes())[..4]))
}

/// Shows a secret as `eyJh…c9Q (sha256:ab12cd34)`; a short one only by its fingerprint.
pub fn mask(secret: &str) -> String {
    let shown = secret.is_ascii() && secret.len() >= 40;
    let (head, tail) = if shown {
        (&secret[..4], &secret[secret.len() - 3..])
    } else {
        ("", "")
    };
    format!("{head}…{tail} ({})", fingerprint(secret))
}

/// Header names and values, the secret ones masked.
pub(super) fn masked_headers(headers: &HeaderMap) -> Vec<(String, String)> {
    let show = |(name, value): (&HeaderName, &http::HeaderValue)| {
        (
            name.to_string(),
            masked_value(name.as_str(), &String::from_utf8_lossy(value.as_bytes())),
        )
    };
    headers.iter().map(show).collect()
}

fn masked_value(name: &str, value: &str) -> String {
    match name.replace('_', "-").as_str() {
        "x-api-key" | "x-dressipi-jwt" => mask(value),
        "authorization" | "proxy-authorization" => match value.split_once(' ') {
            Some((scheme, secret)) => format!("{scheme} {}", mask(secret)),
            None => mask(value),
        },
        "cookie" => value
            .split(';')
            .map(masked_cookie)
            .collect::<Vec<_>>()
            .join("; "),
        _ if looks_like_jwt(value) => mask(value),
        _ => value.to_owned(),
    }
}

fn masked_cookie(pair: &str) -> String {
    match pair.trim().split_once('=') {
        Some((name, secret)) => format!("{name}={}", mask(secret)),
        None => mask(pair.trim()),
    }
}

fn looks_like_jwt(value: &str) -> bool {
    value.contains("eyJ") && value.matches('.').count() >= 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_secret_shows_its_ends_and_a_short_one_does_not() {
        let token = format!("eyJh{}c9Q", "x".repeat(100));
        assert!(mask(&token).starts_with("eyJh…c9Q (sha256:"));
        assert!(mask("demo-api-key").starts_with("… (sha256:"));
        assert_eq!(fingerprint("").len(), "sha256:".len() + 8);
    }

    #[test]
    fn credentials_in_any_header_are_masked() {
        for (name, value) in [
            ("x-dressipi-jwt", "secret"),
            ("x_api_key", "secret"),
            ("authorization", "Bearer secret"),
            ("cookie", "a=secret; b=secret; secret"),
            ("x-other", "eyJsecret.secret.secret"),
        ] {
            assert!(!masked_value(name, value).contains("secret"), "{name}");
        }
        assert_eq!(masked_value("accept", "text/html"), "text/html");
    }
}
