//! What a flow and the manager say to each other.

use std::time::Duration;

use super::Flow;
use crate::clock::Timestamp;
use crate::oauth::{
    AuthorizeError, Grant, RefreshToken, TokenAnswer, TokenError, TokenFingerprint, TokenSet,
};
use crate::session::record::VisitorSession;
use crate::session::store::Version;
use crate::visitor::Limit;

/// What a flow is to bring about: a token that can be used now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Want {
    /// Whether an authorize call may be made for it.
    pub create: bool,
    /// Whether a token that is due for refresh is to be refreshed.
    pub renew: bool,
    /// The token that a resource endpoint rejected: it counts as expired.
    pub rejected: Option<TokenFingerprint>,
}

/// What the flow needs done.
#[derive(Debug)]
pub enum Command {
    /// Load the newest record that there is of the visitor: the store's, or one in memory that waits to be written.
    Load,
    /// Load the store's own record.
    Reload,
    /// Take the visitor's lease, and load the newest record as of then.
    Acquire,
    /// Wait until the lease's holder is done or a while has passed, and load the newest record.
    Await,
    /// Make an authorize call. This creates a profile.
    Authorize,
    /// Exchange the code.
    Exchange(Grant),
    /// Refresh.
    Refresh(RefreshToken),
    /// Write [`Flow::session_to_save`] if the store has `expected`.
    Save {
        /// The version that must be there.
        expected: Option<Version>,
    },
}

/// What came of a [`Command`].
#[derive(Debug)]
pub enum Event {
    /// The record, or that there truly is none.
    Loaded(Option<Loaded>),
    /// The store could not say.
    LoadFailed,
    /// The lease is ours, and this is the record, or there truly is none.
    Acquired(Option<Loaded>),
    /// Another flow has the lease.
    Held,
    /// The call was not made: the lease has ended meanwhile.
    LeaseEnded,
    /// No authorize call was made, since the store could not hold its result.
    AuthorizeWithheld,
    /// The authorize call's result.
    Authorized(Result<Grant, AuthorizeError>),
    /// The exchange's result, and when it was asked for: a token's life may begin there.
    Exchanged(Result<TokenAnswer, TokenError>, Timestamp),
    /// The refresh's result, and when it was asked for.
    Refreshed(Result<TokenAnswer, TokenError>, Timestamp),
    /// The write is confirmed.
    Saved(Version),
    /// Another version was there; nothing was written.
    SaveConflict,
    /// Nothing can be said of whether it was written.
    SaveFailed,
}

/// A visitor's record, as [`Command::Load`] and [`Command::Reload`] find it.
#[derive(Debug)]
pub struct Loaded {
    /// What it holds.
    pub session: VisitorSession,
    /// The version that the store has; none if it has no record, or does not answer.
    pub version: Option<Version>,
    /// Whether this is what the store has, rather than something newer that waits in memory to be written.
    pub is_stored: bool,
}

/// Either the next command, or the end.
#[derive(Debug)]
pub enum Step {
    /// Do this and come back.
    Do(Flow, Command),
    /// The flow is over.
    Done(Done),
}

/// How a flow ended.
#[derive(Debug)]
pub struct Done {
    /// The usable token set, or why there is none.
    pub result: Result<TokenSet, Unavailable>,
    /// A session newer than the store's, whose write failed: to be kept in memory and written later.
    pub unsaved: Option<VisitorSession>,
    /// Dressipi did not do its part: back off. The duration is what `Retry-After` asked for.
    pub back_off: Option<Option<Duration>>,
    /// What happened on the way, for counting.
    pub notes: Vec<Note>,
}

/// Why there is no usable token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unavailable {
    /// The visitor has no profile, and this request may not make one.
    NotCreated,
    /// The visitor has no profile, and a limit on making them is reached.
    Limited(Limit),
    /// Too many profiles are being made already.
    CreationsBusy,
    /// The store cannot be read or written.
    Store,
    /// Dressipi did not do its part.
    Dressipi,
    /// An authorize answer was lost; no other call is made yet, or none any more.
    Unconfirmed,
    /// The token set was declared dead, and policy leaves the visitor anonymous.
    Lost,
    /// The visitor was erased while the flow ran.
    Erased,
    /// The token did not come within the time that a request may wait.
    TimedOut,
    /// The only token is one that a resource endpoint rejected while the flow ran.
    Rejected,
    /// Too many flows are waiting already.
    Busy,
    /// The sidecar's own fault.
    Internal,
}

/// Something worth counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// A code arrived: a profile was made.
    ProfileCreated,
    /// An authorize answer was lost: a profile may have been made that nobody holds a token for.
    AuthorizeUnconfirmed,
    /// A code of ours was not needed, or was refused, or grew too old.
    ProfileWasted,
    /// The server declared a token set dead.
    TokenSetLost,
    /// The server declared a token set dead that another replica had replaced meanwhile.
    TokenSetReplacedElsewhere,
    /// An unreadable answer held a refresh token, which was kept.
    RefreshTokenSalvaged,
    /// The store had no record of a visitor who carried one.
    SessionRecovered,
    /// A visitor's record was removed at their wish.
    Erased,
    /// It could not be removed yet.
    ErasurePostponed,
}

// === impl Note ===

impl Note {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::ProfileCreated,
        Self::AuthorizeUnconfirmed,
        Self::ProfileWasted,
        Self::TokenSetLost,
        Self::TokenSetReplacedElsewhere,
        Self::RefreshTokenSalvaged,
        Self::SessionRecovered,
        Self::Erased,
        Self::ErasurePostponed,
    ];

    /// The word for metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::ProfileCreated => "profile_created",
            Self::AuthorizeUnconfirmed => "authorize_unconfirmed",
            Self::ProfileWasted => "profile_wasted",
            Self::TokenSetLost => "token_set_lost",
            Self::TokenSetReplacedElsewhere => "token_set_replaced_elsewhere",
            Self::RefreshTokenSalvaged => "refresh_token_salvaged",
            Self::SessionRecovered => "session_recovered",
            Self::Erased => "erased",
            Self::ErasurePostponed => "erasure_postponed",
        }
    }
}

// === impl Unavailable ===

impl Unavailable {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::NotCreated,
        Self::Limited(Limit::Client),
        Self::Limited(Limit::Overall),
        Self::Limited(Limit::Daily),
        Self::CreationsBusy,
        Self::Store,
        Self::Dressipi,
        Self::Unconfirmed,
        Self::Lost,
        Self::Erased,
        Self::TimedOut,
        Self::Rejected,
        Self::Busy,
        Self::Internal,
    ];

    /// The word for metrics and for the `Dressipi-Sidecar` response header.
    pub fn label(self) -> &'static str {
        match self {
            Self::NotCreated => "not-created",
            Self::Limited(limit) => limit.label(),
            Self::CreationsBusy => "creations-busy",
            Self::Store => "store",
            Self::Dressipi => "dressipi",
            Self::Unconfirmed => "unconfirmed",
            Self::Lost => "lost",
            Self::Erased => "erased",
            Self::TimedOut => "timeout",
            Self::Rejected => "rejected",
            Self::Busy => "busy",
            Self::Internal => "internal",
        }
    }
}
