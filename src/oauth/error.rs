//! What can go wrong with an OAuth call, by what follows from it.
//!
//! Only [`TokenError::InvalidGrant`] ends anything. No variant carries text from the server: it could echo a secret.

use std::fmt;
use std::time::Duration;

use super::token::RefreshToken;

/// An error code of RFC 6749 §4.1.2.1 or §5.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// `invalid_request`.
    InvalidRequest,
    /// `invalid_client`.
    InvalidClient,
    /// `invalid_grant`.
    InvalidGrant,
    /// `unauthorized_client`.
    UnauthorizedClient,
    /// `unsupported_grant_type`.
    UnsupportedGrantType,
    /// `unsupported_response_type`.
    UnsupportedResponseType,
    /// `invalid_scope`.
    InvalidScope,
    /// `access_denied`.
    AccessDenied,
    /// `server_error`.
    ServerError,
    /// `temporarily_unavailable`.
    TemporarilyUnavailable,
    /// Anything else, or none at all.
    Other,
}

/// A call that brought no OAuth answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Disturbance {
    /// The request did not get out: name resolution, connecting, TLS. Certainly nothing happened at the server.
    #[error("Dressipi could not be reached")]
    NotSent,
    /// The request got out and no whole answer came back: anything may have happened at the server.
    #[error("the answer was lost on its way")]
    AnswerLost,
    /// The time for the call ran out after the request got out: anything may have happened at the server.
    #[error("Dressipi did not answer in time")]
    TimedOut,
    /// The server answered that it cannot serve: 429, 5xx, or another status without an OAuth error.
    #[error("Dressipi answered {status}")]
    Unavailable {
        /// The HTTP status.
        status: u16,
        /// `Retry-After`, where it was given in seconds.
        retry_after: Option<Duration>,
    },
}

/// What is wrong with an answer of status 200.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misshapen {
    /// Larger than an OAuth answer may be.
    #[error("the answer is too large")]
    TooLarge,
    /// Not a JSON object.
    #[error("the answer is not a JSON object")]
    NotJson,
    /// A member is missing, empty, of another type, or has characters that it may not have.
    #[error("the answer's `{0}` is missing or has a form that it may not have")]
    Member(&'static str),
}

/// Why an authorize call gave no code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorizeError {
    /// The server refused; no profile was made.
    #[error("the authorization endpoint refused with `{0}`")]
    Refused(ErrorCode),
    /// No answer, or one that is not about OAuth.
    #[error("authorize: {0}")]
    Disturbed(Disturbance),
    /// Success that cannot be read: a profile exists that nobody holds a token for.
    #[error("authorize: {0}")]
    Misshapen(Misshapen),
    /// Success for another call than ours: discarded, and no token is asked for.
    #[error("authorize: the returned `state` is not the one that was sent")]
    StateMismatch,
    /// No random numbers; nothing was sent.
    #[error("authorize: the system's random generator failed")]
    NoRandomness,
}

/// Why a token call gave no usable tokens.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The code or refresh token is dead for good: the only error that ends a token set.
    #[error("the token endpoint answered `invalid_grant`")]
    InvalidGrant,
    /// The server refused for another reason: the sidecar is misconfigured, the tokens are not at fault.
    #[error("the token endpoint refused with `{0}`")]
    Refused(ErrorCode),
    /// No answer, or one that is not about OAuth.
    #[error("token: {0}")]
    Disturbed(Disturbance),
    /// Success that cannot be read.
    #[error("token: {problem}")]
    Misshapen {
        /// What is wrong with it.
        problem: Misshapen,
        /// The refresh token that was in it nonetheless: it may be the only one that is still good.
        refresh: Option<RefreshToken>,
    },
}

// === impl ErrorCode ===

impl ErrorCode {
    /// All of them.
    const ALL: [Self; 11] = [
        Self::InvalidRequest,
        Self::InvalidClient,
        Self::InvalidGrant,
        Self::UnauthorizedClient,
        Self::UnsupportedGrantType,
        Self::UnsupportedResponseType,
        Self::InvalidScope,
        Self::AccessDenied,
        Self::ServerError,
        Self::TemporarilyUnavailable,
        Self::Other,
    ];

    /// The code of its name.
    pub fn parse(name: &str) -> Self {
        match name {
            "invalid_request" => Self::InvalidRequest,
            "invalid_client" => Self::InvalidClient,
            "invalid_grant" => Self::InvalidGrant,
            "unauthorized_client" => Self::UnauthorizedClient,
            "unsupported_grant_type" => Self::UnsupportedGrantType,
            "unsupported_response_type" => Self::UnsupportedResponseType,
            "invalid_scope" => Self::InvalidScope,
            "access_denied" => Self::AccessDenied,
            "server_error" => Self::ServerError,
            "temporarily_unavailable" => Self::TemporarilyUnavailable,
            _ => Self::Other,
        }
    }

    /// The name, as RFC 6749 spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::InvalidClient => "invalid_client",
            Self::InvalidGrant => "invalid_grant",
            Self::UnauthorizedClient => "unauthorized_client",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::UnsupportedResponseType => "unsupported_response_type",
            Self::InvalidScope => "invalid_scope",
            Self::AccessDenied => "access_denied",
            Self::ServerError => "server_error",
            Self::TemporarilyUnavailable => "temporarily_unavailable",
            Self::Other => "other",
        }
    }

    /// Whether it says "not now" rather than "never".
    fn is_transient(self) -> bool {
        matches!(self, Self::ServerError | Self::TemporarilyUnavailable)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

// === impl Disturbance ===

impl Disturbance {
    const LABELS: [&str; 5] = [
        "unreachable",
        "answer_lost",
        "timeout",
        "throttled",
        "server_error",
    ];

    /// Whether the server may have acted although no answer says so. Gateways answer 502 and 504 for servers that did.
    pub fn is_ambiguous(self) -> bool {
        match self {
            Self::NotSent => false,
            Self::AnswerLost | Self::TimedOut => true,
            Self::Unavailable { status, .. } => matches!(status, 200..=399 | 502 | 504),
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::NotSent => "unreachable",
            Self::AnswerLost => "answer_lost",
            Self::TimedOut => "timeout",
            Self::Unavailable { status: 429, .. } => "throttled",
            Self::Unavailable { .. } => "server_error",
        }
    }
}

// === impl AuthorizeError ===

impl AuthorizeError {
    /// All the words for metrics.
    pub fn labels() -> impl Iterator<Item = &'static str> {
        let own = ["misshapen", "state_mismatch", "no_randomness"];
        let refused = ErrorCode::ALL.map(ErrorCode::name);
        own.into_iter().chain(Disturbance::LABELS).chain(refused)
    }

    /// Whether a profile may exist that nobody holds a token for.
    pub fn is_ambiguous(&self) -> bool {
        match self {
            Self::Refused(_) | Self::NoRandomness => false,
            Self::Disturbed(disturbance) => disturbance.is_ambiguous(),
            Self::Misshapen(_) | Self::StateMismatch => true,
        }
    }

    /// A short word for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Refused(code) => code.name(),
            Self::Disturbed(disturbance) => disturbance.label(),
            Self::Misshapen(_) => "misshapen",
            Self::StateMismatch => "state_mismatch",
            Self::NoRandomness => "no_randomness",
        }
    }

    /// How long the server asked us to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Disturbed(Disturbance::Unavailable { retry_after, .. }) => *retry_after,
            _ => None,
        }
    }
}

// === impl TokenError ===

impl TokenError {
    /// All the words for metrics.
    pub fn labels() -> impl Iterator<Item = &'static str> {
        let refused = ErrorCode::ALL.map(ErrorCode::name);
        let own = std::iter::once("misshapen");
        own.chain(Disturbance::LABELS).chain(refused)
    }

    /// The error for an OAuth error code.
    pub(super) fn from_code(code: ErrorCode, status: u16) -> Self {
        match code {
            ErrorCode::InvalidGrant => Self::InvalidGrant,
            code if code.is_transient() => Self::Disturbed(Disturbance::Unavailable {
                status,
                retry_after: None,
            }),
            code => Self::Refused(code),
        }
    }

    /// A short word for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::InvalidGrant => "invalid_grant",
            Self::Refused(code) => code.name(),
            Self::Disturbed(disturbance) => disturbance.label(),
            Self::Misshapen { .. } => "misshapen",
        }
    }

    /// How long the server asked us to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Disturbed(Disturbance::Unavailable { retry_after, .. }) => *retry_after,
            _ => None,
        }
    }
}
