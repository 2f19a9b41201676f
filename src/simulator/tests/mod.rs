//! The simulator over real connections. Requests are written byte by byte, so that no client library hides anything.

mod faults;
mod oauth;
mod resource;
mod shop;
mod support;
