//! What the access log says of a request.
//!
//! Every request has a line, and what `tracing-subscriber` takes to write one as JSON was a fifth of what a request takes in all. So
//! where the process logs JSON, a line is written here, byte for byte as it would be there; whether it is written is for the log's
//! filter to say in either case.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use serde::{Serialize, Serializer};
use tracing::Level;

use super::lines::{Batch, Shown};
use super::logs::logs_json;
use crate::clock::Timestamp;
use crate::trace::TraceId;
use crate::visitor::VisitorKey;

/// One line about one request.
#[derive(Debug)]
pub struct AccessLine {
    /// When the request ended.
    pub at: Timestamp,
    /// The method.
    pub method: http::Method,
    /// The path, without its query.
    pub path: String,
    /// The status that the client got, if it got one.
    pub status: Option<u16>,
    /// The route.
    pub route: Option<Arc<str>>,
    /// The visitor.
    pub visitor: Option<VisitorKey>,
    /// What token went along.
    pub token: &'static str,
    /// How long it took.
    pub took: Duration,
    /// How long the upstream took to answer the last attempt, from connecting to the head of its answer.
    pub upstream: Option<Duration>,
    /// The trace, where it is recorded.
    pub trace: Option<TraceId>,
    /// Bytes of the answer's body.
    pub sent: usize,
    /// The kind of failure, if one ended it.
    pub error: Option<String>,
}

/// Calls a macro of `tracing`'s with the line as an event: `event` logs it, `event_enabled` asks whether that is wanted. Filters may
/// name fields, so both are given them.
macro_rules! with_fields {
    ($verb:ident, $line:expr) => {
        tracing::$verb!(
            target: "access",
            Level::INFO,
            method = $line.method.as_str(),
            path = $line.path,
            status = $line.status,
            route = $line.route.as_deref(),
            visitor = $line.visitor.map(tracing::field::display),
            token = $line.token,
            took_us = micros($line.took),
            upstream_us = $line.upstream.map(micros),
            trace_id = $line.trace.map(tracing::field::display),
            sent = $line.sent,
            error = $line.error,
        )
    };
}

/// What is written as it is displayed.
struct Text<T>(T);

fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}

// === impl AccessLine ===

impl AccessLine {
    /// Logs it with `batch`, if the log's filter wants it.
    pub(super) fn log(&self, batch: &Batch) {
        if logs_json() {
            self.log_json(batch);
        } else {
            self.log_event(batch);
        }
    }

    fn log_event(&self, batch: &Batch) {
        batch.set_time(self.at);
        with_fields!(event, self);
    }

    fn log_json(&self, batch: &Batch) {
        if with_fields!(event_enabled, self) {
            batch.add(|text| self.write_json(text));
        }
    }

    /// Keys are written as they stand here: none has anything to escape, and nobody looks for it.
    fn write_json(&self, text: &mut Vec<u8>) {
        member(text, r#"{"timestamp":"#, Text(Shown(self.at)));
        member(text, r#","level":"INFO","method":"#, self.method.as_str());
        member(text, r#","path":"#, &self.path);
        member_if(text, r#","status":"#, self.status);
        member_if(text, r#","route":"#, self.route.as_deref());
        member_if(text, r#","visitor":"#, self.visitor.map(Text));
        member(text, r#","token":"#, self.token);
        member(text, r#","took_us":"#, micros(self.took));
        member_if(text, r#","upstream_us":"#, self.upstream.map(micros));
        member_if(text, r#","trace_id":"#, self.trace.map(Text));
        member(text, r#","sent":"#, self.sent);
        member_if(text, r#","error":"#, self.error.as_deref());
        text.extend_from_slice(b",\"target\":\"access\"}\n");
    }
}

/// Appends a key, with what stands before and after it, and its value.
fn member(text: &mut Vec<u8>, key: &str, value: impl Serialize) {
    text.extend_from_slice(key.as_bytes());
    serde_json::to_writer(text, &value).expect("writing plain data to memory cannot fail");
}

/// The same, where there is a value.
fn member_if(text: &mut Vec<u8>, key: &str, value: Option<impl Serialize>) {
    if let Some(value) = value {
        member(text, key, value);
    }
}

// === impl Text ===

impl<T: Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tracing::subscriber::with_default;

    use super::*;
    use crate::telemetry::lines::gather;
    use crate::telemetry::log_filter;
    use crate::telemetry::logs::json_lines;

    /// Anything, and often what JSON escapes or might.
    fn texts() -> impl Strategy<Value = String> {
        let odd = "\"\\/\0\u{1}\u{8}\t\n\u{c}\r\u{1b}\u{1f}\u{7f}\u{80}\u{9f}\u{2028}\u{2029}\u{feff}\u{fffd}ß€😀%?";
        let odd: Vec<char> = odd.chars().collect();
        let letter = prop_oneof![
            any::<char>(),
            prop::sample::select(odd),
            prop::char::range(' ', '~')
        ];
        prop::collection::vec(letter, 0..40).prop_map(String::from_iter)
    }

    fn durations() -> impl Strategy<Value = Duration> {
        let any = (any::<u64>(), 0..1_000_000_000_u32);
        prop_oneof![
            (0..10_000_000_u64).prop_map(Duration::from_micros),
            any.prop_map(|(secs, nanos)| Duration::new(secs, nanos)),
            Just(Duration::MAX),
        ]
    }

    fn times() -> impl Strategy<Value = Timestamp> {
        let millis = prop_oneof![
            0..253_402_300_800_000_u64,
            1_700_000_000_000..1_700_000_010_000_u64,
            any::<u64>()
        ];
        millis.prop_map(Timestamp::from_millis)
    }

    prop_compose! {
        fn lines()(
            at in times(),
            method in "[A-Z]{3,7}|[!#$%&'*+.^_`|~0-9a-z-]{1,40}",
            path in texts(),
            status in any::<Option<u16>>(),
            route in prop::option::of(texts()),
            visitor in any::<Option<[u8; 32]>>(),
            token in prop::sample::select(vec!["visitor", "none", "app \"own\"\n"]),
            took in durations(),
            upstream in prop::option::of(durations()),
            trace in any::<Option<[u8; 16]>>(),
            sent in any::<usize>(),
            error in prop::option::of(texts()),
        ) -> AccessLine {
            AccessLine {
                at,
                method: method.parse().unwrap(),
                path,
                status,
                route: route.map(Arc::from),
                visitor: visitor.map(VisitorKey::from_bytes),
                token,
                took,
                upstream,
                trace: trace.and_then(TraceId::from_bytes),
                sent,
                error,
            }
        }
    }

    #[test]
    fn a_line_is_written_as_tracing_would_write_it() {
        let subscriber = json_lines(log_filter("info").unwrap()).finish();
        with_default(subscriber, || {
            proptest!(|(lines in prop::collection::vec(lines(), 1..4))| {
                let direct = gather(|batch| lines.iter().for_each(|line| line.log_json(batch)));
                let events = gather(|batch| lines.iter().for_each(|line| line.log_event(batch)));
                let [direct, events] = [direct, events].map(|text| String::from_utf8(text).unwrap());
                prop_assert_eq!(direct.lines().count(), lines.len());
                prop_assert_eq!(direct, events);
            });
        });
    }

    #[test]
    fn what_the_filter_keeps_out_is_not_written_whatever_it_was_before() {
        let line = AccessLine {
            at: Timestamp::from_secs(1),
            method: http::Method::GET,
            path: "/".into(),
            status: None,
            route: None,
            visitor: None,
            token: "none",
            took: Duration::ZERO,
            upstream: None,
            trace: None,
            sent: 0,
            error: None,
        };
        let builder = json_lines(log_filter("off").unwrap()).with_filter_reloading();
        let handle = builder.reload_handle();
        with_default(builder.finish(), || {
            for (filter, written) in [
                ("info", true),
                ("warn", false),
                ("trace", true),
                ("off", false),
                ("info,access=warn", false),
                ("access=off", false),
                ("warn,access=info", true),
                ("off,acc=debug", true),
                ("off,access::within=info", false),
                ("off,access[{status}]=info", true),
                ("off,access[{nothing}]=info", false),
                ("info,access[{took_us}]=off", false),
                ("info,access[{nothing}]=off", true),
                ("off,access[a_span]=info", false),
                ("off,access[{status=200}]=info", false),
            ] {
                handle.reload(log_filter(filter).unwrap()).unwrap();
                let direct = gather(|batch| line.log_json(batch));
                assert_eq!(!direct.is_empty(), written, "{filter}");
                assert_eq!(direct, gather(|batch| line.log_event(batch)), "{filter}");
            }
        });
    }
}
