//! What can go wrong on demand, as plain values; `queue` decides which request it meets.

mod queue;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(super) use queue::{FaultQueue, Plan};

/// Which requests a fault can meet. No request is of two classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    /// `GET /api/oauth/authorize`.
    Authorize,
    /// `POST /api/oauth/token`, except for refreshes.
    Token,
    /// `POST /api/oauth/token` with `grant_type=refresh_token`.
    Refresh,
    /// Everything else under `/api/`.
    Resource,
}

/// A fault and how often it happens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Whom it meets.
    pub endpoint: Endpoint,
    /// What goes wrong.
    pub kind: FaultKind,
    /// How many requests it meets; `None`: all, until cleared.
    #[serde(default)]
    pub times: Option<u64>,
    /// The chance, 0 to 1, that it meets a request it could meet.
    #[serde(default = "certain")]
    pub probability: f64,
    /// How long after it was added it ends, in milliseconds; `None`: never.
    #[serde(default)]
    pub for_ms: Option<u64>,
}

/// What goes wrong. *Commit* is the moment when the state changes: the profile exists, the code is spent, the refresh
/// token is rotated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum FaultKind {
    /// Waits before the commit.
    Delay {
        /// For how long.
        ms: u64,
    },
    /// Waits after the commit: a client that gives up has missed an answer that counts.
    DelayAfterCommit {
        /// For how long.
        ms: u64,
    },
    /// Answers this status and commits nothing.
    Status {
        /// 200 to 999.
        code: u16,
        /// Value of `Retry-After` in seconds.
        #[serde(default)]
        retry_after: Option<u64>,
        /// The body; JSON if it begins with a brace.
        #[serde(default)]
        body: Option<String>,
    },
    /// Answers 400 with this OAuth error and commits nothing.
    OauthError {
        /// The `error` member.
        error: String,
    },
    /// Answers 403 and commits nothing.
    Forbid,
    /// Answers the presented access token 401, now and ever after.
    RejectToken,
    /// Closes the connection without a byte and commits nothing.
    DropBeforeCommit,
    /// Commits, then closes the connection without a byte.
    DropAfterCommit,
    /// Commits, then answers 200 with a web page.
    Html,
    /// Commits, then answers with a body of about this size.
    Huge {
        /// Size of the padding.
        bytes: u64,
    },
    /// Commits, then answers with another `state`.
    WrongState,
    /// Commits, then answers without this member.
    MissingField {
        /// Its name.
        name: String,
    },
    /// Commits, then tells this as `expires_in`.
    ExpiresIn {
        /// Any JSON value.
        value: Value,
    },
}

/// A fault that cannot be queued.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum FaultError {
    /// A chance is a number from 0 to 1.
    #[error("probability {0} is not between 0 and 1")]
    Probability(f64),
}

fn certain() -> f64 {
    1.0
}

// === impl Fault ===

impl Fault {
    /// A fault that meets every request until it is cleared.
    pub fn always(endpoint: Endpoint, kind: FaultKind) -> Self {
        Self {
            endpoint,
            kind,
            times: None,
            probability: 1.0,
            for_ms: None,
        }
    }

    /// A fault that meets this many requests.
    pub fn times(endpoint: Endpoint, kind: FaultKind, times: u64) -> Self {
        Self {
            times: Some(times),
            ..Self::always(endpoint, kind)
        }
    }

    /// A fault that meets one request.
    pub fn once(endpoint: Endpoint, kind: FaultKind) -> Self {
        Self::times(endpoint, kind, 1)
    }

    /// The same fault, ending by itself.
    pub fn lasting(self, duration: Duration) -> Self {
        Self {
            for_ms: Some(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)),
            ..self
        }
    }

    /// The same fault, but left to chance.
    pub fn with_probability(self, probability: f64) -> Self {
        Self {
            probability,
            ..self
        }
    }

    pub(super) fn validate(&self) -> Result<(), FaultError> {
        let sound = (0.0..=1.0).contains(&self.probability);
        sound
            .then_some(())
            .ok_or(FaultError::Probability(self.probability))
    }
}

// === impl FaultKind ===

impl FaultKind {
    /// A status without a body.
    pub fn status(code: u16) -> Self {
        Self::Status {
            code,
            retry_after: None,
            body: None,
        }
    }

    /// The name as the control endpoint and the ledger spell it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Delay { .. } => "delay",
            Self::DelayAfterCommit { .. } => "delay_after_commit",
            Self::Status { .. } => "status",
            Self::OauthError { .. } => "oauth_error",
            Self::Forbid => "forbid",
            Self::RejectToken => "reject_token",
            Self::DropBeforeCommit => "drop_before_commit",
            Self::DropAfterCommit => "drop_after_commit",
            Self::Html => "html",
            Self::Huge { .. } => "huge",
            Self::WrongState => "wrong_state",
            Self::MissingField { .. } => "missing_field",
            Self::ExpiresIn { .. } => "expires_in",
        }
    }
}

#[cfg(test)]
mod tests;
