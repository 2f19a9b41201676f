//! PURE: `traceparent` (W3C Trace Context §3.2). A valid one passes as it is, so that the trace goes on behind the sidecar;
//! what is not valid, or there twice, is dropped with its `tracestate`, as the specification asks.

use http::{HeaderMap, HeaderName};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const LENGTH: usize = 55;

/// Whether a header is the one that decides.
pub(super) fn is_parent(name: &str) -> bool {
    name == TRACEPARENT.as_str()
}

/// Makes sure that a request has no `traceparent` or a valid one.
pub(super) fn apply(headers: &mut HeaderMap) {
    let mut values = headers.get_all(&TRACEPARENT).iter();
    let valid = match (values.next(), values.next()) {
        (None, _) => return,
        (Some(value), None) => is_valid(value.as_bytes()),
        (Some(_), Some(_)) => false,
    };
    if !valid {
        headers.remove(&TRACEPARENT);
        headers.remove(&TRACESTATE);
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

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn applied(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("tracestate", "a=b".parse().unwrap());
        for value in values {
            headers.append("traceparent", value.parse().unwrap());
        }
        apply(&mut headers);
        headers
    }

    #[test]
    fn a_valid_parent_passes_with_its_state() {
        let headers = applied(&[GOOD]);
        assert_eq!(headers["traceparent"], GOOD);
        assert!(headers.contains_key("tracestate"));
    }

    #[test]
    fn an_invalid_or_doubled_parent_is_dropped_with_its_state() {
        let zero = "00-00000000000000000000000000000000-00f067aa0ba902b7-01";
        let upper = "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01";
        for values in [&[GOOD, GOOD][..], &["x"], &[zero], &[upper], &[&GOOD[..54]]] {
            assert!(applied(values).is_empty(), "{values:?}");
        }
    }
}
