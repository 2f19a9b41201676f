//! The integration tests: one binary.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "tests")]

mod cli;
mod config_cases;
mod connections;
mod crashes;
mod identity;
mod layers;
mod moving;
mod moving_live;
mod outages;
mod profiles;
mod state_machine;
mod store_contract;
mod store_redb;
mod streams;
mod support;
mod tls;
