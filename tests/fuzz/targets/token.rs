//! The token endpoint's answer.

use std::time::Duration;

use dressipi_sidecar::clock::Timestamp;
use dressipi_sidecar::oauth::{Answer, RefreshToken, TokenSet, parse_token};
use dressipi_sidecar::secret::Secret;

use super::Target;

pub const TARGET: Target = Target {
    name: "token",
    words: &[
        "\"access_token\":",
        "\"refresh_token\":",
        "\"expires_in\":",
        "\"token_type\":",
        "\"Bearer\"",
        "\"\"",
        "null",
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "900",
        "-1",
        "0",
        "1.5",
        "1e9",
        "\"900\"",
        "true",
        "\\u0000",
        "\\ud800",
        "\\n",
        "\u{fc}",
        "\"error\":\"invalid_grant\"",
        "\"error\":{}",
        "eyJhbGciOiJub25lIn0.e30.",
    ],
    check,
};

const LONGEST: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

fn check(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    for status in [200, 204, 302, 400, 401, 429, 500] {
        let answer = Answer {
            status,
            retry_after: None,
            body: Ok(Secret::new(&*text)),
        };
        let tokens = parse_token(answer);
        let shown = format!("{tokens:?}");
        let Ok(tokens) = tokens else { continue };
        assert_eq!(status, 200, "no other status brings tokens");
        assert!(tokens.expires_in > Duration::ZERO && tokens.expires_in <= LONGEST);
        let refresh = tokens.refresh.as_ref().map(|token| token.secret());
        for token in [Some(tokens.access.secret()), refresh]
            .into_iter()
            .flatten()
        {
            assert!(token.expose().bytes().all(|byte| byte.is_ascii_graphic()));
            assert!(!token.is_empty(), "an empty token");
            let long = token.expose().len() >= 24;
            assert!(!long || !shown.contains(token.expose()), "a token is shown");
        }
        let refresh = tokens
            .refresh
            .unwrap_or_else(|| RefreshToken::new(Secret::new("r")));
        let (said, now) = (tokens.expires_in, Timestamp::from_millis(1_760_000_000_000));
        let set = TokenSet::arrived(tokens.access, refresh, said, 1, now);
        assert!(
            set.lifetime() <= said,
            "it lives longer than the answer says"
        );
    }
}
