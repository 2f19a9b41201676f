//! PURE: `traceparent` (W3C Trace Context §3.2). A valid one passes as it is; where there is none, the trace begins here.

use http::{HeaderName, HeaderValue};
use pingora::http::RequestHeader;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const LENGTH: usize = 55;

/// Makes sure that the request has exactly one valid `traceparent`.
pub(super) fn apply(request: &mut RequestHeader) {
    let mut values = request.headers.get_all(&TRACEPARENT).iter();
    let first = values.next();
    if values.next().is_none() && first.is_some_and(|value| is_valid(value.as_bytes())) {
        return;
    }
    // A state without a trace that it belongs to means nothing.
    request.remove_header(&TRACESTATE);
    if let Ok(value) = HeaderValue::from_bytes(&fresh(rand::random())) {
        let _ = request.insert_header("traceparent", value);
    }
}

fn is_valid(value: &[u8]) -> bool {
    let hex = |range: std::ops::Range<usize>| {
        value[range]
            .iter()
            .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let zero = |range: std::ops::Range<usize>| value[range].iter().all(|b| *b == b'0');
    value.len() >= LENGTH
        && (value.len() == LENGTH || (&value[..2] != b"00" && value[LENGTH] == b'-'))
        && [2, 35, 52].iter().all(|dash| value[*dash] == b'-')
        && [0..2, 3..35, 36..52, 53..55].into_iter().all(hex)
        && &value[..2] != b"ff"
        && !zero(3..35)
        && !zero(36..52)
}

/// A new trace, not sampled: whether it is worth recording is not ours to say.
fn fresh(random: [u8; 24]) -> [u8; LENGTH] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut value = *b"00-00000000000000000000000000000000-0000000000000000-00";
    let places = (3..35).chain(36..52);
    let digits = random.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    for (place, digit) in places.zip(digits) {
        value[place] = DIGITS[usize::from(digit)];
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn applied(values: &[&str]) -> RequestHeader {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        request.insert_header("tracestate", "a=b").unwrap();
        for value in values {
            request.append_header("traceparent", *value).unwrap();
        }
        apply(&mut request);
        request
    }

    #[test]
    fn a_valid_parent_passes_with_its_state() {
        let request = applied(&[GOOD]);
        assert_eq!(request.headers["traceparent"], GOOD);
        assert!(request.headers.contains_key("tracestate"));
    }

    #[test]
    fn an_invalid_doubled_or_missing_parent_begins_a_new_trace() {
        let zero = "00-00000000000000000000000000000000-00f067aa0ba902b7-01";
        let upper = "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01";
        for values in [
            &[][..],
            &[GOOD, GOOD],
            &["x"],
            &[zero],
            &[upper],
            &[&GOOD[..54]],
        ] {
            let request = applied(values);
            let parents: Vec<_> = request.headers.get_all("traceparent").iter().collect();
            assert_eq!(parents.len(), 1);
            assert!(
                is_valid(parents[0].as_bytes()) && parents[0] != GOOD,
                "{values:?}"
            );
            assert!(!request.headers.contains_key("tracestate"));
        }
    }
}
