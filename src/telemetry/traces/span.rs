//! What a span holds: what OpenTelemetry's semantic conventions for HTTP ask for, and nothing that could be a secret.

use std::borrow::Cow;
use std::time::Instant;

use http::Method;

use crate::trace::{SpanContext, SpanId};

/// A span that has ended.
#[derive(Clone, Debug)]
pub struct Span {
    /// Its ids.
    pub context: SpanContext,
    /// The span that it belongs to, and whether that is another process's.
    pub parent: Option<(SpanId, bool)>,
    /// `tracestate` that came with it.
    pub state: Option<String>,
    /// Its name, one of a few.
    pub name: String,
    /// Which side of a call it is.
    pub kind: Kind,
    /// When it began.
    pub begun: Instant,
    /// When it ended.
    pub ended: Instant,
    /// What is said of it.
    pub attributes: Vec<(&'static str, Value)>,
    /// Whether it failed.
    pub failed: bool,
}

/// Which side of a call a span is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Who is called.
    Server,
    /// Who calls.
    Client,
}

/// What an attribute says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A text.
    Text(Cow<'static, str>),
    /// A number.
    Number(i64),
}

/// Texts of clients are cut off after so many bytes, so that a queue of spans stays small.
const LONGEST: usize = 512;

/// The methods that the conventions name.
const METHODS: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
];

/// A method as the conventions have it: whatever else a client writes is `_OTHER`.
pub fn method(method: &Method) -> &'static str {
    let known = METHODS.into_iter().find(|known| *known == method.as_str());
    known.unwrap_or("_OTHER")
}

/// A span's name: the method, and the route if there is one.
pub fn name(method: &'static str, route: Option<&str>) -> String {
    let method = match method {
        "_OTHER" => "HTTP",
        known => known,
    };
    match route {
        Some(route) => format!("{method} {route}"),
        None => method.to_owned(),
    }
}

// === impl Value ===

impl Value {
    /// A text that somebody else wrote.
    pub fn cut(text: &str) -> Self {
        let mut end = text.len().min(LONGEST);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        Self::Text(text[..end].to_owned().into())
    }
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<u16> for Value {
    fn from(number: u16) -> Self {
        Self::Number(number.into())
    }
}
