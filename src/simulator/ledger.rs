//! What the simulator tells of what it has seen, as plain values.
//!
//! No token, key or OAuth query stands here unmasked.

use std::collections::BTreeMap;

use serde::Serialize;

use super::faults::Endpoint;

/// Everything the simulator knows, at one moment.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Ledger {
    /// Counts since the start or the last reset.
    pub totals: Totals,
    /// All profiles in the order of their creation; empty in a summary.
    pub profiles: Vec<ProfileEntry>,
    /// The last 200 requests, oldest first; empty in a summary.
    pub requests: Vec<RequestEntry>,
}

/// Counts since the start or the last reset.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Totals {
    /// Profiles created.
    pub profiles: u64,
    /// Authorize calls that arrived, whatever became of them.
    pub authorize_calls: u64,
    /// Authorize calls by result: `ok`, an OAuth error code, or `fault` if a fault prevented the commit.
    pub authorize_results: BTreeMap<&'static str, u64>,
    /// Token calls by grant (`authorization_code`, `refresh_token`, `other`) and then by result as above.
    pub token_calls: BTreeMap<&'static str, BTreeMap<&'static str, u64>>,
    /// Calls of resource endpoints.
    pub resource: ResourceTotals,
    /// Calls of the collector.
    pub tracking_calls: u64,
    /// Calls of the collector that carried an access token, which it has no use for.
    pub tracking_calls_with_token: u64,
    /// Access tokens that had expired by the simulator's clock when they arrived.
    pub expired_tokens_received: u64,
    /// Access tokens that were not the simulator's.
    pub foreign_tokens_received: u64,
    /// Access tokens that had been revoked, rejected, or expired by request.
    pub revoked_tokens_received: u64,
    /// Requests under `/api/` that carried a cookie.
    pub cookies_received: u64,
    /// Requests under `/api/` refused for their API key.
    pub api_keys_refused: u64,
    /// Token calls that put parameters into the URL.
    pub token_parameters_in_query: u64,
    /// Codes that came a second time.
    pub code_reuse: u64,
    /// Refresh tokens that were refused because their replacement had been issued.
    pub refresh_reuse: u64,
    /// Refresh tokens that worked once more, although their replacement had been issued.
    pub refresh_again: u64,
    /// Faults that met a request, by name.
    pub faults: BTreeMap<&'static str, u64>,
    /// The most requests ever in flight together.
    pub max_concurrent: MaxConcurrent,
}

/// Calls of resource endpoints.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ResourceTotals {
    /// Calls that arrived.
    pub calls: u64,
    /// Successful answers made for a profile.
    pub personalised: u64,
    /// Successful answers made for nobody.
    pub unpersonalised: u64,
    /// Answers by status; dropped connections are not answers.
    pub by_status: BTreeMap<u16, u64>,
}

/// The most requests ever in flight together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MaxConcurrent {
    /// Of the authorize endpoint.
    pub authorize: u64,
    /// Of the token endpoint.
    pub token: u64,
    /// Of the resource endpoints.
    pub resource: u64,
}

/// One profile.
#[derive(Clone, Debug, Serialize)]
pub struct ProfileEntry {
    /// Its id: the `sub` of its access tokens.
    pub id: String,
    /// Unix milliseconds.
    pub created_at_ms: u64,
    /// Authorize calls for it: one, by nature.
    pub authorizes: u64,
    /// Codes exchanged for it.
    pub exchanges: u64,
    /// Refreshes that succeeded.
    pub refreshes: u64,
    /// Personalised answers.
    pub visits: u64,
    /// Fingerprint of the access token issued last.
    pub last_access_token: Option<String>,
}

/// One request as it arrived, secrets masked.
#[derive(Clone, Debug, Serialize)]
pub struct RequestEntry {
    /// Counts up with each request.
    pub seq: u64,
    /// Unix milliseconds.
    pub at_ms: u64,
    /// The method.
    pub method: String,
    /// What was asked for; `None`: neither OAuth nor a resource.
    pub call: Option<Endpoint>,
    /// The path, without the query.
    pub path: String,
    /// The query; withheld for OAuth endpoints.
    pub query: Option<String>,
    /// Header names and values.
    pub headers: Vec<(String, String)>,
    /// The answer's status; `None`: no answer (yet).
    pub status: Option<u16>,
    /// The profile that it concerned.
    pub profile: Option<String>,
    /// The answer's event id.
    pub event_id: Option<String>,
    /// Whether a resource answer was personalised.
    pub personalised: Option<bool>,
    /// Names of the faults that it met.
    pub faults: Vec<&'static str>,
}

// === impl Totals ===

impl Totals {
    /// Token calls of a grant (`authorization_code`, `refresh_token`, `other`) with a result (`ok`, `invalid_grant`, …).
    pub fn token_calls_of(&self, grant: &str, result: &str) -> u64 {
        self.token_calls
            .get(grant)
            .and_then(|results| results.get(result))
            .copied()
            .unwrap_or(0)
    }
}
