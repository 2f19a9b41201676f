//! What operators see of visitor sessions: the store's records, and the newer ones that wait to be written. It decides nothing and
//! begins nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use super::Manager;
use crate::session::overview::{InMemory, Overview, SessionFacts};
use crate::session::record::VisitorSession;
use crate::session::store::{Found, StoreError};
use crate::session::vault::is_visitor;
use crate::visitor::{VisitorKey, VisitorName};

/// A part of all visitor sessions, in the order of their keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionPage {
    /// The sessions.
    pub sessions: Vec<Overview>,
    /// Behind whom the next part begins; `None`: this was the last one.
    pub next: Option<VisitorKey>,
}

/// Why a name leads to nobody.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// Nothing is known of such a visitor.
    #[error("nothing is known of such a visitor")]
    Unknown,
    /// Several visitors are logged by that name.
    #[error("several visitors are logged by that name; give all 64 digits")]
    Ambiguous,
    /// The store could not be asked.
    #[error("the store cannot be asked: {0}")]
    Store(#[from] StoreError),
}

const LAST: VisitorKey = VisitorKey::from_bytes([0xff; 32]);
/// After so many records that were opened others have their turn.
const OPENED_AT_ONCE: usize = 32;

// === impl Manager ===

impl Manager {
    /// At most `limit` sessions, behind `after` in the order of keys. Who is there all the while comes exactly once.
    pub async fn sessions(
        &self,
        after: Option<VisitorKey>,
        limit: usize,
    ) -> Result<SessionPage, StoreError> {
        let after = after.unwrap_or(VisitorKey::from_bytes([0; 32]));
        let Some(first) = after.successor() else {
            let sessions = Vec::new();
            return Ok(SessionPage {
                sessions,
                next: None,
            });
        };
        // One more tells whether there are more.
        let mut sessions = self
            .overviews(first..=LAST, limit.saturating_add(1))
            .await?;
        let more = sessions.len() > limit;
        sessions.truncate(limit);
        let last = sessions.last().map(|session| session.visitor);
        let next = last.filter(|_| more);
        Ok(SessionPage { sessions, next })
    }

    /// One visitor's session; `None`: there is none.
    pub async fn session(&self, key: &VisitorKey) -> Result<Option<Overview>, StoreError> {
        if !is_visitor(key) {
            return Ok(None);
        }
        Ok(self.overviews(*key..=*key, 1).await?.pop())
    }

    /// The visitor whom `name` means. A whole key is one, whether anything is known of it or not.
    pub async fn find(&self, name: VisitorName) -> Result<VisitorKey, FindError> {
        let range = match name {
            VisitorName::Key(key) if is_visitor(&key) => return Ok(key),
            VisitorName::Key(_) => return Err(FindError::Unknown),
            VisitorName::Logged(_) => name.keys(),
        };
        let inner = &self.0;
        let performer = &inner.performer;
        // Who is not stored may be about to be.
        let mut keys: BTreeSet<_> = inner.flights.within(&range).into_iter().collect();
        let unsaved = performer.unsaved.within(&range);
        keys.extend(unsaved.iter().map(|(key, _)| *key));
        let store = performer.vault.store();
        let found = store.list(range, 3, performer.clock.now()).await?;
        keys.extend(found.iter().map(|found| found.key));
        keys.retain(is_visitor);
        match (keys.pop_first(), keys.is_empty()) {
            (None, _) => Err(FindError::Unknown),
            (Some(key), true) => Ok(key),
            (Some(_), false) => Err(FindError::Ambiguous),
        }
    }

    /// What this process has of the visitor in memory.
    pub fn in_memory(&self, key: &VisitorKey) -> InMemory {
        let inner = &self.0;
        let now = inner.performer.clock.now();
        InMemory {
            cached: inner.cache.get(key, now).is_some(),
            rejected: inner.rejected(key),
            backing_off_until: inner.back_offs.until(key, now),
            unsaved: inner.performer.unsaved.contains(key),
            flow_under_way: inner.flights.current(key).is_some(),
            being_erased: inner.erasures.is_pending(key),
        }
    }

    /// The first `limit` sessions of a range of keys.
    async fn overviews(
        &self,
        range: RangeInclusive<VisitorKey>,
        limit: usize,
    ) -> Result<Vec<Overview>, StoreError> {
        let performer = &self.0.performer;
        let now = performer.clock.now();
        let store = performer.vault.store();
        let found = store.list(range.clone(), limit, now).await?;
        // Behind the last one there may be others that come first.
        let end = match found.last() {
            Some(last) if found.len() >= limit => last.key,
            _ => *range.end(),
        };
        let unsaved = performer.unsaved.within(&(*range.start()..=end));
        let mut unsaved: BTreeMap<VisitorKey, VisitorSession> = unsaved.into_iter().collect();
        let mut overviews = BTreeMap::new();
        for (number, found) in found.into_iter().enumerate() {
            let unsaved = unsaved.remove(&found.key);
            overviews.insert(found.key, self.overview(found, unsaved));
            if number % OPENED_AT_ONCE == OPENED_AT_ONCE - 1 {
                tokio::task::yield_now().await;
            }
        }
        for (key, session) in unsaved {
            overviews.insert(key, waiting(key, &session));
        }
        Ok(overviews.into_values().take(limit).collect())
    }

    fn overview(&self, found: Found, unsaved: Option<VisitorSession>) -> Overview {
        let Found { key, entry, .. } = found;
        let stored = self.0.performer.vault.open(&key, &entry.sealed);
        if let (Ok(stored), Some(unsaved)) = (&stored, &unsaved)
            && unsaved.is_to_be_written_over(stored)
        {
            return waiting(key, unsaved);
        }
        Overview {
            visitor: key,
            state: entry.state,
            stored_until: Some(entry.expires_at),
            facts: match &stored {
                Ok(session) => Ok(SessionFacts::of(session)),
                Err(error) => Err(error.to_string()),
            },
        }
    }
}

/// A session that could not be written yet.
fn waiting(key: VisitorKey, session: &VisitorSession) -> Overview {
    Overview {
        visitor: key,
        state: session.tag(),
        stored_until: None,
        facts: Ok(SessionFacts::of(session)),
    }
}
