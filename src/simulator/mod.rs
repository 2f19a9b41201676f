//! A strict stand-in for Dressipi, and a demo shop to go with it.
//!
//! Strict means: whatever a careful server may refuse, this one refuses, and whatever Dressipi does silently (ignore an
//! expired token, prefer a cookie, create one more profile), this one does too and counts. It is built from the published
//! description alone and shares nothing with the OAuth client: what both got wrong together, no test would find.
//!
//! ```text
//! clock ─► config, token, pkce, refresh, requests ─► model (PURE) ─┐
//!                            faults, tally, catalogue ────┼─► handle ─► oauth, resource, control ─► http
//!                                                         └──────────────────────────────────────► shop
//! ```
//!
//! Use it in-process through [`Simulator`], or over HTTP through `/__sim/…` on the same listener.

mod answer;
mod catalogue;
mod clock;
mod config;
mod control;
mod faults;
mod handle;
mod headers;
mod http;
mod ledger;
mod mask;
mod model;
mod oauth;
mod pkce;
mod refresh;
mod requests;
mod resource;
mod shop;
mod tally;
mod token;

#[cfg(test)]
mod tests;

pub use clock::{Clock, system_clock};
pub use config::{RefreshReuse, Settings, SettingsPatch, SimulatorConfig};
pub use faults::{Endpoint, Fault, FaultError, FaultKind};
pub use handle::Simulator;
pub use ledger::{Ledger, MaxConcurrent, ProfileEntry, RequestEntry, ResourceTotals, Totals};
pub use mask::{fingerprint, mask};
pub use model::ExpiredAs;
pub use shop::{SHOP_HOST, Shop, is_own_host};
