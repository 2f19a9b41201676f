//! Counts what happens for ever, and keeps the last 200 requests in detail.
//!
//! Cheap at high rates: a request costs a clone of its header map; masking waits until somebody reads. Nothing here grows
//! with the number of requests.

use std::collections::VecDeque;

use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, header};

use super::faults::Endpoint;
use super::ledger::{MaxConcurrent, RequestEntry, Totals};
use super::mask::masked_headers;
use super::model::Verdict;

/// Requests kept in detail.
const KEPT: usize = 200;

/// What the log and the counts are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Authorize,
    Token,
    Resource,
    Tracking,
    Other,
}

/// What a handler found out about its request, on its way to the ledger.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    pub(super) call: Option<Endpoint>,
    pub(super) profile: Option<String>,
    pub(super) event_id: Option<String>,
    pub(super) personalised: Option<bool>,
    pub(super) faults: Vec<&'static str>,
    pub(super) dropped: bool,
}

/// The running ledger.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) totals: Totals,
    in_flight: MaxConcurrent,
    log: VecDeque<Logged>,
    next_seq: u64,
}

struct Logged {
    seq: u64,
    at_ms: u64,
    method: Method,
    path: Box<str>,
    query: Option<Box<str>>,
    headers: HeaderMap,
    status: Option<StatusCode>,
    outcome: Outcome,
}

// === impl Class ===

impl Class {
    pub(super) fn of(path: &str) -> Self {
        match path {
            "/api/oauth/authorize" => Self::Authorize,
            "/api/oauth/token" => Self::Token,
            "/t/t" => Self::Tracking,
            _ if path.starts_with("/api/") => Self::Resource,
            _ => Self::Other,
        }
    }
}

// === impl MaxConcurrent ===

impl MaxConcurrent {
    fn of(&mut self, class: Class) -> Option<&mut u64> {
        match class {
            Class::Authorize => Some(&mut self.authorize),
            Class::Token => Some(&mut self.token),
            Class::Resource => Some(&mut self.resource),
            Class::Tracking | Class::Other => None,
        }
    }
}

// === impl Tally ===

impl Tally {
    /// Notes a request and returns its number.
    pub(super) fn arrive(&mut self, class: Class, request: &Parts, at_ms: u64) -> u64 {
        match class {
            Class::Authorize => self.totals.authorize_calls += 1,
            Class::Resource => self.totals.resource.calls += 1,
            Class::Tracking => self.totals.tracking_calls += 1,
            Class::Token | Class::Other => {}
        }
        let api = matches!(class, Class::Authorize | Class::Token | Class::Resource);
        self.totals.cookies_received +=
            u64::from(api && request.headers.contains_key(header::COOKIE));
        let query = request.uri.query();
        self.totals.token_parameters_in_query +=
            u64::from(class == Class::Token && query.is_some());
        if let (Some(now), Some(max)) = (
            self.in_flight.of(class),
            self.totals.max_concurrent.of(class),
        ) {
            *now += 1;
            *max = (*max).max(*now);
        }
        let seq = self.next_seq;
        self.next_seq += 1;
        if self.log.len() == KEPT {
            self.log.pop_front();
        }
        let public = !request.uri.path().starts_with("/api/oauth/");
        self.log.push_back(Logged {
            seq,
            at_ms,
            method: request.method.clone(),
            path: request.uri.path().into(),
            query: query.filter(|_| public).map(Into::into),
            headers: request.headers.clone(),
            status: None,
            outcome: Outcome::default(),
        });
        seq
    }

    /// Notes the answer to a request.
    pub(super) fn answer(&mut self, seq: u64, class: Class, status: StatusCode, outcome: Outcome) {
        for name in &outcome.faults {
            *self.totals.faults.entry(name).or_default() += 1;
        }
        if class == Class::Resource && !outcome.dropped {
            let resource = &mut self.totals.resource;
            *resource.by_status.entry(status.as_u16()).or_default() += 1;
            resource.personalised += u64::from(outcome.personalised == Some(true));
            resource.unpersonalised += u64::from(outcome.personalised == Some(false));
        }
        let first = self.log.front().map_or(0, |logged| logged.seq);
        let place = seq
            .checked_sub(first)
            .and_then(|place| usize::try_from(place).ok());
        if let Some(logged) = place.and_then(|place| self.log.get_mut(place)) {
            logged.status = (!outcome.dropped).then_some(status);
            logged.outcome = outcome;
        }
    }

    /// Notes that a request is over, answered or not.
    pub(super) fn leave(&mut self, class: Class) {
        if let Some(now) = self.in_flight.of(class) {
            *now = now.saturating_sub(1);
        }
    }

    pub(super) fn verdict(&mut self, verdict: &Verdict) {
        match verdict {
            Verdict::Absent | Verdict::Valid(_) => {}
            Verdict::Expired => self.totals.expired_tokens_received += 1,
            Verdict::Foreign => self.totals.foreign_tokens_received += 1,
            Verdict::Unauthorized | Verdict::Ignored => self.totals.revoked_tokens_received += 1,
        }
    }

    pub(super) fn authorize_result(&mut self, result: &'static str) {
        *self.totals.authorize_results.entry(result).or_default() += 1;
    }

    pub(super) fn token_result(&mut self, grant: &'static str, result: &'static str) {
        *self
            .totals
            .token_calls
            .entry(grant)
            .or_default()
            .entry(result)
            .or_default() += 1;
    }

    /// Forgets everything but the requests in flight, which will still leave.
    pub(super) fn reset(&mut self) {
        let Self {
            in_flight,
            next_seq,
            ..
        } = *self;
        *self = Self {
            in_flight,
            next_seq,
            ..Self::default()
        };
    }

    /// The requests kept, secrets masked.
    pub(super) fn requests(&self) -> Vec<RequestEntry> {
        self.log.iter().map(Logged::entry).collect()
    }

    /// The request whose answer carried this event id.
    pub(super) fn request_of_event(&self, event_id: &str) -> Option<RequestEntry> {
        let found = |logged: &&Logged| logged.outcome.event_id.as_deref() == Some(event_id);
        self.log.iter().rev().find(found).map(Logged::entry)
    }
}

// === impl Logged ===

impl Logged {
    fn entry(&self) -> RequestEntry {
        RequestEntry {
            seq: self.seq,
            at_ms: self.at_ms,
            method: self.method.to_string(),
            path: self.path.to_string(),
            query: self.query.as_deref().map(ToOwned::to_owned),
            call: self.outcome.call,
            headers: masked_headers(&self.headers),
            status: self.status.map(|status| status.as_u16()),
            profile: self.outcome.profile.clone(),
            event_id: self.outcome.event_id.clone(),
            personalised: self.outcome.personalised,
            faults: self.outcome.faults.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test may panic")]
    use super::*;

    fn arrive(tally: &mut Tally, uri: &str) -> u64 {
        let request = http::Request::builder()
            .uri(uri)
            .header("x-api-key", "secret")
            .body(())
            .unwrap();
        tally.arrive(
            Class::of(uri.split('?').next().unwrap()),
            &request.into_parts().0,
            0,
        )
    }

    #[test]
    fn the_log_keeps_the_last_200_and_hides_secrets() {
        let mut tally = Tally::default();
        let first = arrive(&mut tally, "/api/oauth/authorize?state=secret");
        assert!(
            !serde_json::to_string(&tally.requests())
                .unwrap()
                .contains("secret")
        );
        for _ in 0..KEPT {
            arrive(&mut tally, "/api/items/top?client_id=demo");
        }
        tally.answer(first, Class::Authorize, StatusCode::OK, Outcome::default());
        let requests = tally.requests();
        assert_eq!((requests.len(), requests[0].seq), (KEPT, 1));
        assert_eq!(requests[0].query.as_deref(), Some("client_id=demo"));
        assert_eq!(requests[0].status, None);
    }

    #[test]
    fn the_most_requests_in_flight_are_remembered_even_through_a_reset() {
        let mut tally = Tally::default();
        arrive(&mut tally, "/api/items/1");
        arrive(&mut tally, "/api/items/1");
        assert_eq!(tally.totals.max_concurrent.resource, 2);
        tally.reset();
        tally.leave(Class::Resource);
        tally.leave(Class::Resource);
        arrive(&mut tally, "/api/items/1");
        assert_eq!(tally.totals.max_concurrent.resource, 1);
    }
}
