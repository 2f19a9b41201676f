//! What the benches share whose clients go by a timetable: a Dressipi that answers at once, those clients,
//! and what they saw.
#![allow(dead_code, reason = "no bench needs all of it")]

#[path = "../../tests/support/child.rs"]
pub mod child;
#[path = "../../tests/flood/http.rs"]
pub mod client;
pub mod clients;
pub mod configuration;
pub mod latencies;
pub mod mock;
pub mod options;
pub mod place;
#[path = "../../tests/flood/sidecar.rs"]
pub mod sidecar;

use tokio::runtime::{Builder, Handle, Runtime};

/// As browsers call themselves.
pub const BROWSER: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";

/// A request for a page, as a browser sends it, with a cookie if there is one.
pub fn page(cookie: Option<&str>) -> Vec<u8> {
    let cookie = cookie.map(|cookie| format!("cookie: {cookie}\r\n"));
    let cookie = cookie.unwrap_or_default();
    format!("GET /women/dresses?page=2 HTTP/1.1\r\nhost: shop.example\r\nuser-agent: {BROWSER}\r\naccept: text/html,*/*\r\n{cookie}\r\n")
        .into_bytes()
}

/// A runtime with one thread, which is the caller's.
pub fn runtime() -> Runtime {
    let mut builder = Builder::new_current_thread();
    builder.enable_all().build().expect("a runtime")
}

/// A runtime on a thread of its own, which ends with the process.
pub fn thread(name: &str) -> Handle {
    let runtime = runtime();
    let handle = runtime.handle().clone();
    let thread = std::thread::Builder::new().name(name.to_owned());
    let forever = move || runtime.block_on(std::future::pending::<()>());
    thread.spawn(forever).expect("one thread more");
    handle
}
