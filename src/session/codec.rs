//! PURE: a visitor session as bytes, before they are sealed.
//!
//! One version byte, then JSON. A version once written is read for ever; the tests below hold one record of each.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::record::{State, VisitorSession};
use crate::clock::Timestamp;
use crate::oauth::{AccessToken, AuthorizationCode, CodeVerifier, Grant, RefreshToken, TokenSet};
use crate::secret::Secret;

const VERSION: u8 = 1;

/// Why bytes are no visitor session.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Nothing there.
    #[error("the record is empty")]
    Empty,
    /// Written by a newer sidecar.
    #[error(
        "the record has version {0}, which this version of the sidecar does not know; it reads up to {VERSION}"
    )]
    Version(u8),
    /// The version is known, the content is not what it should be.
    #[error("the record of version {0} cannot be read")]
    Content(u8),
}

#[derive(Serialize, Deserialize)]
struct RecordV1<'a> {
    created: u64,
    profiles: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    losses: u32,
    #[serde(borrow)]
    state: StateV1<'a>,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "lowercase")]
enum StateV1<'a> {
    Unconfirmed {
        attempts: u32,
        not_before: u64,
    },
    Granted {
        #[serde(borrow)]
        code: Cow<'a, str>,
        #[serde(borrow)]
        verifier: Cow<'a, str>,
        at: u64,
        #[serde(default, skip_serializing_if = "is_zero")]
        attempts: u32,
    },
    Active {
        #[serde(borrow)]
        tokens: TokensV1<'a>,
    },
    Lost {
        #[serde(borrow)]
        tokens: TokensV1<'a>,
        at: u64,
        attempts: u32,
        not_before: u64,
    },
}

#[derive(Serialize, Deserialize)]
struct TokensV1<'a> {
    #[serde(borrow)]
    access: Cow<'a, str>,
    #[serde(borrow)]
    refresh: Cow<'a, str>,
    obtained: u64,
    expires: u64,
    generation: u32,
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// The bytes of `session`.
pub fn encode(session: &VisitorSession) -> Zeroizing<Vec<u8>> {
    let state = match &session.state {
        State::Unconfirmed {
            attempts,
            not_before,
        } => StateV1::Unconfirmed {
            attempts: *attempts,
            not_before: not_before.as_millis(),
        },
        State::Granted {
            grant,
            granted_at,
            attempts,
        } => StateV1::Granted {
            code: grant.code.secret().expose().into(),
            verifier: grant.verifier.secret().expose().into(),
            at: granted_at.as_millis(),
            attempts: *attempts,
        },
        State::Active(tokens) => StateV1::Active {
            tokens: TokensV1::of(tokens),
        },
        State::Lost {
            tokens,
            lost_at,
            attempts,
            not_before,
        } => StateV1::Lost {
            tokens: TokensV1::of(tokens),
            at: lost_at.as_millis(),
            attempts: *attempts,
            not_before: not_before.as_millis(),
        },
    };
    let record = RecordV1 {
        created: session.created_at.as_millis(),
        profiles: session.profiles,
        losses: session.losses,
        state,
    };
    // Room for two large tokens: a buffer that grew would leave unzeroed copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(2048));
    bytes.push(VERSION);
    serde_json::to_writer(&mut *bytes, &record).expect("writing plain data to memory cannot fail");
    bytes
}

/// The session in `bytes`.
pub fn decode(bytes: &[u8]) -> Result<VisitorSession, DecodeError> {
    let (&version, content) = bytes.split_first().ok_or(DecodeError::Empty)?;
    if version != VERSION {
        return Err(DecodeError::Version(version));
    }
    let record: RecordV1<'_> =
        serde_json::from_slice(content).map_err(|_| DecodeError::Content(version))?;
    let state = match record.state {
        StateV1::Unconfirmed {
            attempts,
            not_before,
        } => State::Unconfirmed {
            attempts,
            not_before: Timestamp::from_millis(not_before),
        },
        StateV1::Granted {
            code,
            verifier,
            at,
            attempts,
        } => State::Granted {
            grant: Grant {
                code: AuthorizationCode::new(Secret::new(code.into_owned())),
                verifier: CodeVerifier::from_stored(Secret::new(verifier.into_owned())),
            },
            granted_at: Timestamp::from_millis(at),
            attempts,
        },
        StateV1::Active { tokens } => State::Active(tokens.into_set()),
        StateV1::Lost {
            tokens,
            at,
            attempts,
            not_before,
        } => State::Lost {
            tokens: tokens.into_set(),
            lost_at: Timestamp::from_millis(at),
            attempts,
            not_before: Timestamp::from_millis(not_before),
        },
    };
    Ok(VisitorSession {
        created_at: Timestamp::from_millis(record.created),
        profiles: record.profiles,
        losses: record.losses,
        state,
    })
}

// === impl TokensV1 ===

impl<'a> TokensV1<'a> {
    fn of(tokens: &'a TokenSet) -> Self {
        Self {
            access: tokens.access.secret().expose().into(),
            refresh: tokens.refresh.secret().expose().into(),
            obtained: tokens.obtained_at.as_millis(),
            expires: tokens.expires_at.as_millis(),
            generation: tokens.generation,
        }
    }

    fn into_set(self) -> TokenSet {
        TokenSet {
            access: AccessToken::new(Secret::new(self.access.into_owned())),
            refresh: RefreshToken::new(Secret::new(self.refresh.into_owned())),
            obtained_at: Timestamp::from_millis(self.obtained),
            expires_at: Timestamp::from_millis(self.expires),
            generation: self.generation,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> TokenSet {
        TokenSet {
            access: AccessToken::new(Secret::new("eyJ.a.b")),
            refresh: RefreshToken::new(Secret::new("r")),
            obtained_at: Timestamp::from_millis(1_700_000_000_123),
            expires_at: Timestamp::from_millis(1_700_000_900_123),
            generation: 7,
        }
    }

    fn session(state: State) -> VisitorSession {
        VisitorSession {
            created_at: Timestamp::from_millis(1_700_000_000_000),
            profiles: 1,
            losses: 0,
            state,
        }
    }

    /// One record of each state, as version 1 wrote it. These lines never change.
    fn version_1() -> Vec<(VisitorSession, &'static str)> {
        let later = Timestamp::from_millis(1_700_000_030_000);
        vec![
            (
                session(State::Unconfirmed {
                    attempts: 1,
                    not_before: later,
                }),
                "\u{1}{\"created\":1700000000000,\"profiles\":1,\"state\":{\"is\":\"unconfirmed\",\"attempts\":1,\"not_before\":1700000030000}}",
            ),
            (
                session(State::Granted {
                    grant: Grant {
                        code: AuthorizationCode::new(Secret::new("c")),
                        verifier: CodeVerifier::from_stored(Secret::new("v")),
                    },
                    granted_at: later,
                    attempts: 0,
                }),
                "\u{1}{\"created\":1700000000000,\"profiles\":1,\"state\":{\"is\":\"granted\",\"code\":\"c\",\"verifier\":\"v\",\"at\":1700000030000}}",
            ),
            (
                session(State::Active(tokens())),
                "\u{1}{\"created\":1700000000000,\"profiles\":1,\"state\":{\"is\":\"active\",\"tokens\":{\"access\":\"eyJ.a.b\",\"refresh\":\"r\",\"obtained\":1700000000123,\"expires\":1700000900123,\"generation\":7}}}",
            ),
            (
                VisitorSession {
                    losses: 1,
                    ..session(State::Lost {
                        tokens: tokens(),
                        lost_at: later,
                        attempts: 0,
                        not_before: later,
                    })
                },
                "\u{1}{\"created\":1700000000000,\"profiles\":1,\"losses\":1,\"state\":{\"is\":\"lost\",\"tokens\":{\"access\":\"eyJ.a.b\",\"refresh\":\"r\",\"obtained\":1700000000123,\"expires\":1700000900123,\"generation\":7},\"at\":1700000030000,\"attempts\":0,\"not_before\":1700000030000}}",
            ),
        ]
    }

    #[test]
    fn records_of_version_1_are_read_and_written_to_the_letter() {
        for (session, bytes) in version_1() {
            assert_eq!(decode(bytes.as_bytes()).unwrap(), session);
            assert_eq!(std::str::from_utf8(&encode(&session)).unwrap(), bytes);
        }
    }

    #[test]
    fn tokens_with_quotes_and_backslashes_survive() {
        let odd = TokenSet {
            refresh: RefreshToken::new(Secret::new(r#"a"b\c/d"#)),
            ..tokens()
        };
        let session = session(State::Active(odd));
        assert_eq!(decode(&encode(&session)).unwrap(), session);
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        assert!(matches!(decode(b""), Err(DecodeError::Empty)));
        assert!(matches!(decode(b"\x02{}"), Err(DecodeError::Version(2))));
        assert!(matches!(decode(b"\x01{}"), Err(DecodeError::Content(1))));
    }
}
