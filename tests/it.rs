//! The integration tests: one binary.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "tests")]

mod access_log;
mod adoption;
mod canary;
mod check_live;
mod cli;
mod completions;
mod config_cases;
mod connections;
mod crash_points;
mod crashes;
mod creation;
mod fuzz_corpus;
#[allow(dead_code, reason = "shared with the fuzzer, which mutates as well")]
#[path = "fuzz/targets/mod.rs"]
mod fuzz_targets;
mod identity;
mod layers;
mod lifecycle;
mod log_level;
mod malformed;
mod metrics;
mod moving;
mod moving_live;
mod outages;
mod profiles;
mod recovery;
mod redis_serving;
mod reload;
mod replicas;
mod scrape;
mod sessions_api;
mod sessions_cli;
mod sessions_described;
mod sessions_replicas;
mod slope;
mod smuggling;
mod state_machine;
mod status_page;
mod store_contract;
mod store_redb;
mod store_redis;
mod store_redis_failover;
mod streams;
mod support;
mod telling;
mod tls;
mod tls_listener;
mod traces;
mod unix_sockets;
mod visitor_sources;
