//! PURE: visitor sessions as JSON. What is not there is left out; times are RFC 3339 in UTC.

use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;

use crate::clock::Timestamp;
use crate::session::{InMemory, Overview, StateTag, TokenFacts};
use crate::visitor::VisitorKey;

/// One visitor, with what this process has in memory.
#[derive(Serialize)]
pub(super) struct VisitorView {
    #[serde(flatten)]
    pub(super) session: SessionView,
    pub(super) memory: MemoryView,
}

/// Everything that is kept about a visitor.
#[derive(Serialize)]
pub(super) struct ExportView {
    visitor: String,
    exported_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<SessionView>,
    memory: MemoryView,
}

#[derive(Serialize)]
pub(super) struct SessionView {
    visitor: String,
    logged: String,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    stored_until: Option<String>,
    #[serde(flatten)]
    facts: Option<FactsView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unreadable: Option<String>,
}

#[derive(Serialize)]
struct FactsView {
    created_at: String,
    profiles: u32,
    losses: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens: Option<TokensView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    granted_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lost_at: Option<String>,
    /// Authorize calls in vain.
    attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_before: Option<String>,
}

#[derive(Serialize)]
struct TokensView {
    fingerprint: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_fingerprint: Option<String>,
    obtained_at: String,
    expires_at: String,
    generation: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    subn: Option<String>,
}

#[derive(Serialize)]
pub(super) struct MemoryView {
    cached: bool,
    unsaved: bool,
    flow_under_way: bool,
    being_erased: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    rejected_fingerprint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backing_off_until: Option<String>,
}

/// How much of a token set is told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Detail {
    /// For a list.
    Brief,
    /// For one visitor.
    Full,
    /// For the visitor themselves.
    Everything,
}

// === impl SessionView ===

impl SessionView {
    pub(super) fn brief(overview: Overview) -> Self {
        Self::with(overview, Detail::Brief)
    }

    pub(super) fn full(overview: Overview) -> Self {
        Self::with(overview, Detail::Full)
    }

    fn with(overview: Overview, detail: Detail) -> Self {
        let (facts, unreadable) = match overview.facts {
            Ok(facts) => (Some(facts), None),
            Err(problem) => (None, Some(problem)),
        };
        Self {
            visitor: overview.visitor.to_hex(),
            logged: overview.visitor.to_string(),
            state: match overview.state {
                // That of a later version of the sidecar.
                StateTag::Internal => "unknown",
                state => state.label(),
            },
            stored_until: overview.stored_until.map(time),
            facts: facts.map(|facts| FactsView {
                created_at: time(facts.created_at),
                profiles: facts.profiles,
                losses: facts.losses,
                tokens: facts.tokens.map(|tokens| TokensView::new(tokens, detail)),
                granted_at: facts.granted_at.map(time),
                lost_at: facts.lost_at.map(time),
                attempts: facts.attempts,
                not_before: facts.not_before.map(time),
            }),
            unreadable,
        }
    }
}

// === impl TokensView ===

impl TokensView {
    fn new(tokens: TokenFacts, detail: Detail) -> Self {
        let everything = detail == Detail::Everything;
        Self {
            fingerprint: tokens.access.to_string(),
            refresh_fingerprint: everything.then(|| tokens.refresh.to_string()),
            obtained_at: time(tokens.obtained_at),
            expires_at: time(tokens.expires_at),
            generation: tokens.generation,
            subn: tokens.subn.filter(|_| detail != Detail::Brief),
        }
    }
}

// === impl MemoryView ===

impl MemoryView {
    pub(super) fn of(memory: InMemory) -> Self {
        Self {
            cached: memory.cached,
            unsaved: memory.unsaved,
            flow_under_way: memory.flow_under_way,
            being_erased: memory.being_erased,
            rejected_fingerprint: memory.rejected.map(|token| token.to_string()),
            backing_off_until: memory.backing_off_until.map(time),
        }
    }
}

// === impl ExportView ===

impl ExportView {
    pub(super) fn new(
        visitor: VisitorKey,
        session: Option<Overview>,
        memory: InMemory,
        now: Timestamp,
    ) -> Self {
        Self {
            visitor: visitor.to_hex(),
            exported_at: time(now),
            session: session.map(|session| SessionView::with(session, Detail::Everything)),
            memory: MemoryView::of(memory),
        }
    }
}

/// The last time that has a four-digit year.
const LAST: Timestamp = Timestamp::from_secs(253_402_300_799);

fn time(time: Timestamp) -> String {
    let since_epoch = Duration::from_millis(time.min(LAST).as_millis());
    humantime::format_rfc3339_millis(UNIX_EPOCH + since_epoch).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_however_late() {
        assert_eq!(
            time(Timestamp::from_millis(1_700_000_000_123)),
            "2023-11-14T22:13:20.123Z"
        );
        assert_eq!(
            time(Timestamp::from_millis(u64::MAX)),
            "9999-12-31T23:59:59.000Z"
        );
    }
}
