//! PURE: W3C Trace Context (level 2): who is whose span, as it stands in `traceparent` and `tracestate`.
//!
//! What is malformed, or there twice, counts as none: a trace is better begun anew than joined to the wrong one. Nothing here makes
//! ids or decides what is sampled.

use std::fmt;

use http::header::AsHeaderName;
use http::{HeaderMap, HeaderName};

use crate::hex::write_hex;

/// The header that says which span a request comes from.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// The header with what tracing systems add to it.
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The id of a trace; never zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId([u8; 16]);

/// The id of a span; never zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId([u8; 8]);

/// A span, as those know it who get a request from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanContext {
    /// Its trace.
    pub trace: TraceId,
    /// Its own id.
    pub span: SpanId,
    /// Whether it is recorded.
    pub sampled: bool,
    /// Whether the trace's id is random (level 2): samplers may go by it.
    pub random: bool,
}

/// What a request says of the trace that it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parent {
    /// The span that it comes from.
    pub context: SpanContext,
    /// `tracestate`, if it is well-formed and not empty: all of its headers in one.
    pub state: Option<String>,
}

/// The length of version 00.
const LENGTH: usize = 55;
const SAMPLED: u8 = 1;
const RANDOM: u8 = 2;
/// `tracestate` has no more members.
const MEMBERS: usize = 32;
/// Nor is a longer one passed on; the specification asks for 512 at least.
const LONGEST_STATE: usize = 8 * 1024;

// === impl TraceId ===

impl TraceId {
    /// An id; `None`: zero is none.
    pub fn from_bytes(bytes: [u8; 16]) -> Option<Self> {
        (bytes != [0; 16]).then_some(Self(bytes))
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

// === impl SpanId ===

impl SpanId {
    /// An id; `None`: zero is none.
    pub fn from_bytes(bytes: [u8; 8]) -> Option<Self> {
        (bytes != [0; 8]).then_some(Self(bytes))
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

// === impl SpanContext ===

impl SpanContext {
    /// Reads a `traceparent` (§3.2). Of later versions what version 00 knows is read (§3.2.4).
    pub fn parse(value: &[u8]) -> Option<Self> {
        if value.len() < LENGTH || [2, 35, 52].iter().any(|dash| value[*dash] != b'-') {
            return None;
        }
        let [version] = hex::<1>(&value[..2])?;
        let goes_on = value.get(LENGTH);
        if version == 0xff || (version == 0 && goes_on.is_some()) {
            return None;
        }
        if goes_on.is_some_and(|next| *next != b'-') {
            return None;
        }
        let [flags] = hex::<1>(&value[53..55])?;
        Some(Self {
            trace: TraceId::from_bytes(hex(&value[3..35])?)?,
            span: SpanId::from_bytes(hex(&value[36..52])?)?,
            sampled: flags & SAMPLED != 0,
            random: flags & RANDOM != 0,
        })
    }

    /// The flags that version 00 knows; others may not be passed on (§3.2.2.5).
    pub fn flags(&self) -> u8 {
        (u8::from(self.sampled) * SAMPLED) | (u8::from(self.random) * RANDOM)
    }
}

/// As a `traceparent` of version 00.
impl fmt::Display for SpanContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace, self.span, self.flags())
    }
}

/// Digits of a number, of which only the small letters count.
fn hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

// === impl Parent ===

impl Parent {
    /// What a request's headers say; `None`: nothing, or nothing that can be believed.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(TRACEPARENT).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return None;
        };
        Some(Self {
            context: SpanContext::parse(value.as_bytes())?,
            state: state(headers, TRACESTATE),
        })
    }
}

/// A `tracestate` (§3.3). What is malformed is dropped as a whole; the parent holds without it.
fn state(headers: &HeaderMap, name: impl AsHeaderName) -> Option<String> {
    let values = headers.get_all(name).iter();
    let values: Option<Vec<&str>> = values.map(|value| value.to_str().ok()).collect();
    let joined = values?.join(",");
    let members: Vec<&str> = joined
        .split(',')
        .map(|member| member.trim_matches([' ', '\t']))
        .filter(|member| !member.is_empty())
        .collect();
    let mut keys = Vec::new();
    for member in &members {
        let (key, value) = member.split_once('=')?;
        if !is_key(key) || !is_value(value) || keys.contains(&key) {
            return None;
        }
        keys.push(key);
    }
    let fits = (1..=MEMBERS).contains(&members.len()) && joined.len() <= LONGEST_STATE;
    fits.then(|| members.join(","))
}

fn is_key(key: &str) -> bool {
    let simple = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let mut bytes = key.bytes();
    key.len() <= 256
        && bytes.next().is_some_and(simple)
        && bytes.all(|byte| simple(byte) || b"_-*/@".contains(&byte))
}

fn is_value(value: &str) -> bool {
    let fits = |byte: u8| (0x20..=0x7e).contains(&byte) && byte != b',' && byte != b'=';
    (1..=256).contains(&value.len()) && value.bytes().all(fits) && !value.ends_with(' ')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn parent(parents: &[&str], states: &[&str]) -> Option<Parent> {
        let mut headers = HeaderMap::new();
        for (name, values) in [(TRACEPARENT, parents), (TRACESTATE, states)] {
            for value in values {
                headers.append(&name, value.parse().unwrap());
            }
        }
        Parent::of(&headers)
    }

    #[test]
    fn a_valid_parent_is_read_with_its_state() {
        let read = parent(&[GOOD], &["a=b, c@d=e f", " x=y"]).unwrap();
        assert_eq!(read.context.to_string(), GOOD);
        assert_eq!(read.state.as_deref(), Some("a=b,c@d=e f,x=y"));
        assert!(read.context.sampled && !read.context.random);
    }

    #[test]
    fn of_later_versions_and_flags_what_is_known_is_read() {
        let later = format!("cc{}-what=ever", &GOOD[2..GOOD.len() - 2].to_owned());
        assert_eq!(
            SpanContext::parse(later.as_bytes()),
            None,
            "the flags are missing"
        );
        for later in [
            format!("cc{}", &GOOD[2..]),
            format!("01{}-more", &GOOD[2..]),
            format!("{}ff", &GOOD[..53]),
        ] {
            let read = SpanContext::parse(later.as_bytes()).unwrap();
            assert!(read.sampled, "{later}");
            assert!(read.to_string().starts_with("00-4bf9"), "{later}");
            assert!(read.flags() <= 3, "{later}");
        }
    }

    #[test]
    fn what_is_malformed_or_there_twice_counts_as_none() {
        for bad in [
            "",
            "x",
            &GOOD[..54],
            &format!("{GOOD}-"),
            &format!("{GOOD}-more"),
            &format!("01{}more", &GOOD[2..]),
            &format!("ff{}", &GOOD[2..]),
            &GOOD.to_uppercase(),
            &GOOD.replace('-', "_"),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        ] {
            assert_eq!(parent(&[bad], &["a=b"]), None, "{bad}");
        }
        assert_eq!(parent(&[GOOD, GOOD], &[]), None);
    }

    #[test]
    fn a_malformed_state_is_dropped_and_the_parent_holds() {
        let many = (0..33)
            .map(|n| format!("k{n}=v"))
            .collect::<Vec<_>>()
            .join(",");
        for bad in [
            "a",
            "A=b",
            "a=b,a=c",
            "=b",
            "a=",
            "a=b=c",
            "a\u{20}=b",
            "a=b,\u{7f}=c",
            &many,
        ] {
            let Ok(value) = bad.parse::<http::HeaderValue>() else {
                continue;
            };
            let mut headers = HeaderMap::new();
            headers.insert(TRACEPARENT, GOOD.parse().unwrap());
            headers.insert(TRACESTATE, value);
            let read = Parent::of(&headers).unwrap();
            assert_eq!(read.state, None, "{bad}");
        }
        assert_eq!(parent(&[GOOD], &["", " , "]).unwrap().state, None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(trace: [u8; 16], span: [u8; 8], sampled: bool, random: bool) {
            prop_assume!(trace != [0; 16] && span != [0; 8]);
            let context = SpanContext {
                trace: TraceId::from_bytes(trace).unwrap(),
                span: SpanId::from_bytes(span).unwrap(),
                sampled,
                random,
            };
            prop_assert_eq!(SpanContext::parse(context.to_string().as_bytes()), Some(context));
        }

        /// Written from the grammar of the specification, and not from the parser.
        #[test]
        fn nothing_but_the_grammar_is_read(value in "[0-9a-f]{2}-[0-9a-fA-F]{31,33}-[0-9a-f]{15,17}-[0-9a-f]{2}(-[a-z]*|[a-z]*)") {
            let parts: Vec<&str> = value.splitn(5, '-').collect();
            let lower = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
            let zero = |text: &str| text.bytes().all(|b| b == b'0');
            let valid = parts[0] != "ff"
                && parts[1].len() == 32 && lower(parts[1]) && !zero(parts[1])
                && parts[2].len() == 16 && lower(parts[2]) && !zero(parts[2])
                && parts[3].len() == 2
                && (parts.len() == 4 || parts[0] != "00");
            prop_assert_eq!(SpanContext::parse(value.as_bytes()).is_some(), valid, "{}", value);
        }

        #[test]
        fn any_bytes_are_survived(value in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Some(read) = SpanContext::parse(&value) {
                prop_assert_eq!(read.to_string().as_bytes()[3..52].to_vec(), value[3..52].to_vec());
            }
        }
    }
}
