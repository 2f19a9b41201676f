//! Watches for secrets in what all suites log, at the most talkative level: every line of sidecars in this process, and of those
//! that run as processes of their own. The first secret ends the test run.

use std::io::{self, Write};
use std::sync::Once;

use dressipi_sidecar::telemetry::log_filter;
use tracing_subscriber::util::SubscriberInitExt;

/// What the suites have in secret places.
const KNOWN: [&str; 5] = [
    "demo-api-key",
    "hunter2",
    "-canary",
    // JSON Web Tokens: `{"typ` and `{"alg` in base64.
    "eyJ0eXAi",
    "eyJhbGci",
];

/// Codes, verifiers, refresh tokens, cookies and keys have no name; they are this long, and a word of ours is not.
const LONG: usize = 40;

/// Has everything that is logged in this process searched from here on.
pub fn watch() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // The clients of the tests are none of ours.
        let filter = log_filter("trace,tungstenite=off,tokio_tungstenite=off").unwrap();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(false)
            .with_writer(|| Searched);
        subscriber.finish().try_init().unwrap();
    });
}

/// Ends the test run if there is a secret in `text`, which was found at `place`.
pub fn search(place: &str, text: &str) {
    if let Some(secret) = find(text) {
        let told = format!("\n{secret:?} is in {place}:\n{text}\n");
        let _ = io::stderr().write_all(told.as_bytes());
        // A panic would end the thread that logs, and no test would notice.
        std::process::abort();
    }
}

/// The first secret in `text`.
pub fn find(text: &str) -> Option<&str> {
    let known = KNOWN
        .iter()
        .find_map(|known| text.find(known).map(|at| &text[at..at + known.len()]));
    known.or_else(|| {
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && !"_-".contains(c));
        let mut long = words.filter(|word| word.len() >= LONG);
        long.find(|word| {
            let has = |kind: fn(&u8) -> bool| word.as_bytes().iter().any(kind);
            has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase) && has(u8::is_ascii_digit)
        })
    })
}

struct Searched;

impl Write for Searched {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        search("the log", &String::from_utf8_lossy(line));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_secret_of_any_kind_is_found_and_ordinary_lines_pass() {
    for secret in [
        "{\"api_key\":\"demo-api-key\"}",
        "cookie: own=cookie-canary",
        "token eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.e30.x",
        "code=3q2-7wQb1ZpXk0m9cVtLr5sHy8uNj4aGd6fEiOoPqRs1T2v3",
        "authorization: Bearer client-canary",
    ] {
        assert!(find(secret).is_some(), "{secret}");
    }
    for line in [
        "visitor=3f2a9c0d1b4e5f60 call=\"refresh\" an OAuth call failed",
        "/tmp/.tmpAb12Cd/sessions.redb",
        "dressipi_sidecar::session::performer::a_very_long_name_of_something_that_is_no_secret",
        "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    ] {
        assert_eq!(find(line), None, "{line}");
    }
}
