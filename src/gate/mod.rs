//! The gate before pingora: every byte of an HTTP/1.x client passes it, and what is ambiguous or malformed goes no further.
//!
//! What a request is, where it ends and what is wrong with it is decided by PURE modules (`head`, `body`, `framing`, `fields`)
//! that take bytes. `stream` applies them to a connection: pingora gets one whole request at a time, or a marker in place of a
//! refused one, and never a byte that follows a refused one. HTTP/2 has its own framing; its requests are judged by their
//! fields ([`judge_http2`]).

mod app;
mod body;
mod census;
mod client;
mod connection;
mod fields;
mod framing;
mod head;
mod line;
mod refusal;
mod stream;
mod tls;

pub use app::{GateRules, Gated, GatedParts, refused_connections};
pub use census::Census;
pub use client::Accepted;
#[doc(hidden)]
pub use connection::{Verdict, judge_connection};
pub use fields::{is_http2_offer, judge_http2};
pub use line::Line;
pub use refusal::{Refusal, refused_by_marker, refused_by_stream};
pub use tls::Tls;
