//! The recovery cookie's value: a visitor session that rides with its visitor, so that even a wiped store costs no profile.
//!
//! ```text
//! marker (16 characters) ‖ "." ‖ base64url(sealed session)
//! ```
//!
//! The marker says which token set is inside, so that one look tells whether the visitor carries the present one; nothing else
//! depends on it. The session is sealed for the visitor's own id and not for the key under which stores know them: that one
//! is made with a secret that would be wiped along with the store.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::cache::Authorized;
use super::codec;
use super::keyring::Keyring;
use super::record::{State, VisitorSession};
use crate::oauth::{AccessToken, TokenFingerprint, TokenSet};
use crate::secret::Secret;
use crate::visitor::VisitorId;

/// Which token set a recovery cookie holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker([u8; MARKER]);

/// What a request brings to bring a session back with.
#[derive(Clone, Copy, Debug)]
pub struct Recovery<'a> {
    /// Whose session it must be.
    pub id: VisitorId,
    /// The cookie's value.
    pub value: &'a [u8],
}

/// Twelve bytes: the access token's fingerprint and the number of refreshes before it.
const MARKER: usize = 16;
/// Browsers drop cookies beyond 4,096 bytes, name and attributes included (RFC 6265bis §5.5).
const MAX_VALUE: usize = 3800;
const CONTEXT: &[u8; 16] = b"recovery cookie\0";

// === impl Marker ===

impl Marker {
    /// The marker of a cookie's value.
    pub fn of_value(value: &[u8]) -> Option<Self> {
        let (marker, rest) = value.split_first_chunk()?;
        rest.starts_with(b".").then_some(Self(*marker))
    }

    /// The marker that the cookie of a visitor with this token has.
    pub fn of(authorized: &Authorized) -> Self {
        Self::new(authorized.fingerprint(), authorized.generation())
    }

    fn new(fingerprint: TokenFingerprint, generation: u32) -> Self {
        let mut bytes = [0; MARKER / 4 * 3];
        let (head, tail) = bytes.split_at_mut(8);
        head.copy_from_slice(fingerprint.as_bytes());
        tail.copy_from_slice(&generation.to_be_bytes());
        let mut marker = [0; MARKER];
        // Twelve bytes are sixteen characters.
        let _ = URL_SAFE_NO_PAD.encode_slice(bytes, &mut marker);
        Self(marker)
    }
}

/// The cookie's value for a session; `None` if it has no tokens, or more than a cookie can hold. An access token that makes it too
/// long is left behind: it takes a refresh to get another one, and the refresh token is what counts.
pub(super) fn seal(keyring: &Keyring, id: &VisitorId, session: &VisitorSession) -> Option<String> {
    let tokens = session.tokens()?;
    let marker = Marker::new(tokens.access.fingerprint(), tokens.generation);
    let whole = value(marker, keyring, id, session);
    if whole.len() <= MAX_VALUE {
        return Some(whole);
    }
    let short = VisitorSession {
        state: State::Active(TokenSet {
            access: AccessToken::new(Secret::new("")),
            expires_at: tokens.obtained_at,
            ..tokens.clone()
        }),
        ..*session
    };
    let short = value(marker, keyring, id, &short);
    (short.len() <= MAX_VALUE).then_some(short)
}

fn value(
    Marker(marker): Marker,
    keyring: &Keyring,
    id: &VisitorId,
    session: &VisitorSession,
) -> String {
    let sealed = keyring.seal(&context(id), &codec::encode(session));
    let mut value = String::with_capacity(MARKER + 1 + sealed.len().div_ceil(3) * 4);
    value.extend(marker.map(char::from));
    value.push('.');
    URL_SAFE_NO_PAD.encode_string(sealed, &mut value);
    value
}

/// The session that a cookie holds; `None` if it is not this visitor's, not ours, or no session with tokens.
pub(super) fn open(keyring: &Keyring, recovery: Recovery<'_>) -> Option<VisitorSession> {
    let Recovery { id, value } = recovery;
    if value.len() > MAX_VALUE {
        return None;
    }
    Marker::of_value(value)?;
    let sealed = URL_SAFE_NO_PAD.decode(&value[MARKER + 1..]).ok()?;
    let plain = keyring.open(&context(&id), &sealed).ok()?;
    let session = codec::decode(&plain).ok()?;
    session.tokens().is_some().then_some(session)
}

fn context(id: &VisitorId) -> [u8; 32] {
    let mut context = [0; 32];
    let (head, tail) = context.split_at_mut(16);
    head.copy_from_slice(CONTEXT);
    tail.copy_from_slice(id.as_bytes());
    context
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::oauth::RefreshToken;

    const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);
    const ALICE: VisitorId = VisitorId::from_random([1; 16]);
    const BOB: VisitorId = VisitorId::from_random([2; 16]);

    fn session(access: &str, generation: u32) -> VisitorSession {
        VisitorSession {
            created_at: NOW,
            profiles: 2,
            losses: 1,
            state: State::Active(TokenSet {
                access: AccessToken::new(Secret::new(access.to_owned())),
                refresh: RefreshToken::new(Secret::new("r")),
                obtained_at: NOW,
                expires_at: NOW + std::time::Duration::from_secs(900),
                generation,
            }),
        }
    }

    fn opened(keyring: &Keyring, id: VisitorId, value: &str) -> Option<VisitorSession> {
        let value = value.as_bytes();
        open(keyring, Recovery { id, value })
    }

    #[test]
    fn what_rides_with_a_visitor_opens_for_that_visitor_only() {
        let keyring = Keyring::ephemeral();
        let value = seal(&keyring, &ALICE, &session("eyJ.a.b", 7)).unwrap();
        assert_eq!(opened(&keyring, ALICE, &value), Some(session("eyJ.a.b", 7)));
        assert_eq!(opened(&keyring, BOB, &value), None);
        assert_eq!(opened(&Keyring::ephemeral(), ALICE, &value), None);
    }

    #[test]
    fn the_marker_tells_token_sets_apart() {
        let keyring = Keyring::ephemeral();
        let marker = |access, generation| {
            let value = seal(&keyring, &ALICE, &session(access, generation)).unwrap();
            Marker::of_value(value.as_bytes()).unwrap()
        };
        assert_eq!(marker("a", 1), marker("a", 1));
        assert_ne!(marker("a", 1), marker("a", 2));
        assert_ne!(marker("a", 1), marker("b", 1));
        for text in ["", "0123456789abcdef", "0123456789abcdefg"] {
            assert_eq!(Marker::of_value(text.as_bytes()), None);
        }
    }

    #[test]
    fn a_token_set_too_long_for_a_cookie_leaves_the_access_token_behind() {
        let keyring = Keyring::ephemeral();
        let long = session(&"x".repeat(4000), 7);
        let value = seal(&keyring, &ALICE, &long).unwrap();
        assert!(value.len() <= MAX_VALUE);
        let back = opened(&keyring, ALICE, &value).unwrap();
        let (long, back) = (long.tokens().unwrap(), back.tokens().unwrap());
        assert_eq!(back.refresh, long.refresh);
        assert_eq!(back.generation, long.generation);
        assert!(back.expires_at <= NOW, "what is left of it is not used");

        let refresh = RefreshToken::new(Secret::new("r".repeat(4000)));
        let tokens = TokenSet {
            refresh,
            ..long.clone()
        };
        let hopeless = VisitorSession {
            state: State::Active(tokens),
            ..session("", 0)
        };
        assert_eq!(seal(&keyring, &ALICE, &hopeless), None);
    }

    #[test]
    fn invariant_8_a_changed_recovery_cookie_is_none() {
        let keyring = Keyring::ephemeral();
        let value = seal(&keyring, &ALICE, &session("eyJ.a.b", 7)).unwrap();
        for at in MARKER..value.len() {
            let mut changed = value.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(opened(&keyring, ALICE, &changed), None, "at {at}");
        }
        assert_eq!(opened(&keyring, ALICE, &value[..value.len() - 1]), None);
        assert_eq!(opened(&keyring, ALICE, &value.repeat(9)), None);
    }

    #[test]
    fn only_tokens_are_worth_carrying() {
        let keyring = Keyring::ephemeral();
        let lost = VisitorSession {
            state: State::Unconfirmed {
                attempts: 1,
                not_before: NOW,
            },
            ..session("a", 0)
        };
        assert_eq!(seal(&keyring, &ALICE, &lost), None);
    }
}
