//! What comes of a request, and whether asking again helps. The same for all three modes.
//!
//! A server that is loading, has no master, is being failed over or is moving a slot is asked again; a broken connection is
//! made anew. Full memory, missing rights and all else is an error at once.

use redis::{ErrorKind, RedisError, ServerErrorKind, Value};

use super::redis_settings::RedisAddress;

/// What a server said.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) value: Value,
    /// How many replicas have what was written, if they were waited for.
    pub(super) replicas: Option<i64>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("{0}")]
    Redis(#[from] RedisError),
    #[error("no answer in time")]
    Silent,
    #[error("{confirmed} of {wanted} replicas have confirmed a write in time")]
    Unconfirmed { confirmed: i64, wanted: u32 },
    #[error("the answer makes no sense: {0}")]
    Nonsense(&'static str),
}

/// What is to be done about a request.
pub(super) enum Outcome {
    Answered(Answer),
    /// At once, with the text of the script.
    Text(RedisError),
    /// At once, at its new owner.
    Moved(RedisAddress, RedisError),
    /// At once, there, this once.
    Ask(RedisAddress, RedisError),
    /// After a pause.
    Again(RedisError),
    Failed(Failure),
}

/// Whether a connection that failed, or could not be made, is worth another try.
pub(super) fn judge_connection(error: RedisError) -> Outcome {
    match error.kind() {
        ErrorKind::AuthenticationFailed
        | ErrorKind::InvalidClientConfig
        | ErrorKind::Server(ServerErrorKind::NoPerm) => Outcome::Failed(error.into()),
        _ => Outcome::Again(error),
    }
}

/// Whether an error that the server at `asked` has answered is worth another try.
pub(super) fn judge_answer(error: RedisError, asked: &RedisAddress) -> Outcome {
    let redirection = || {
        let (address, _) = error.redirect_node()?;
        RedisAddress::of_answer(address, asked)
    };
    match error.kind() {
        ErrorKind::Server(ServerErrorKind::NoScript) => Outcome::Text(error),
        ErrorKind::Server(ServerErrorKind::Moved) => match redirection() {
            Some(address) => Outcome::Moved(address, error),
            None => Outcome::Again(error),
        },
        ErrorKind::Server(ServerErrorKind::Ask) => match redirection() {
            Some(address) => Outcome::Ask(address, error),
            None => Outcome::Again(error),
        },
        ErrorKind::Server(
            ServerErrorKind::BusyLoading
            | ServerErrorKind::MasterDown
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::TryAgain
            | ServerErrorKind::ReadOnly,
        ) => Outcome::Again(error),
        _ => match error.code() {
            // Somebody's script is running for long.
            Some("BUSY") => Outcome::Again(error),
            _ => Outcome::Failed(error.into()),
        },
    }
}
