//! `dressipi-sidecar`: an authenticating reverse proxy for the Dressipi API. One visitor, one profile, whatever happens.
//!
//! Imports point one way, and `tests/layers.rs` holds that:
//! `hex → clock, secret, tls, trace → oauth, visitor → session → dressipi → config → telemetry → gate → proxy, admin → server → cli`.
//! The `simulator` stands apart: it shares nothing with the client that it tests.

pub mod admin;
pub mod cli;
pub mod clock;
pub mod config;
pub mod dressipi;
pub mod gate;
mod hex;
pub mod oauth;
pub mod proxy;
mod scheduling;
pub mod secret;
pub mod server;
pub mod session;
pub mod simulator;
pub mod telemetry;
pub mod tls;
pub mod trace;
pub mod visitor;

/// What `tests/fuzz` needs beyond the public interface. No promise is made of it.
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::gate::{Verdict, judge_connection};
}
