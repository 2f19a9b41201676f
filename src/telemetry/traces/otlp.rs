//! PURE: OTLP in protobuf, as much of it as spans need (opentelemetry-proto, `collector/trace/v1` and `trace/v1`), and what a
//! collector answers. Tests read it with the types that OpenTelemetry publishes.

use super::span::{Kind, Span, Value};
use crate::trace::SpanContext;

/// What stands above the spans.
pub(super) struct Resource<'a> {
    /// `service.name` and what else there is.
    pub(super) attributes: &'a [(String, String)],
}

/// When a span began and ended, in nanoseconds since 1970.
pub(super) type Times = (u64, u64);

const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const BYTES: u32 = 2;
const FIXED32: u32 = 5;

/// That it is said whether the parent is another process's, and that it is.
const HAS_IS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;
const STATUS_ERROR: u64 = 2;

/// An `ExportTraceServiceRequest`.
pub(super) fn request(resource: &Resource<'_>, spans: &[(Span, Times)]) -> Vec<u8> {
    let mut out = Vec::with_capacity(spans.len() * 512 + 256);
    message(&mut out, 1, |out| {
        message(out, 1, |out| {
            for (key, value) in resource.attributes {
                attribute(out, 1, key, |out| text(out, 1, value));
            }
        });
        message(out, 2, |out| {
            message(out, 1, |out| {
                text(out, 1, env!("CARGO_PKG_NAME"));
                text(out, 2, env!("CARGO_PKG_VERSION"));
            });
            for (span, times) in spans {
                message(out, 2, |out| self::span(out, span, *times));
            }
        });
    });
    out
}

fn span(out: &mut Vec<u8>, span: &Span, (begun, ended): Times) {
    let SpanContext {
        trace, span: id, ..
    } = span.context;
    bytes(out, 1, trace.as_bytes());
    bytes(out, 2, id.as_bytes());
    if let Some(state) = &span.state {
        text(out, 3, state);
    }
    let mut flags = u32::from(span.context.flags()) | HAS_IS_REMOTE;
    if let Some((parent, is_remote)) = span.parent {
        bytes(out, 4, parent.as_bytes());
        flags |= if is_remote { IS_REMOTE } else { 0 };
    }
    text(out, 5, &span.name);
    number(
        out,
        6,
        match span.kind {
            Kind::Server => 2,
            Kind::Client => 3,
        },
    );
    fixed64(out, 7, begun);
    fixed64(out, 8, ended.max(begun));
    for (key, value) in &span.attributes {
        attribute(out, 9, key, |out| match value {
            Value::Text(value) => text(out, 1, value),
            Value::Number(value) => number(out, 3, value.cast_unsigned()),
        });
    }
    if span.failed {
        message(out, 15, |out| number(out, 3, STATUS_ERROR));
    }
    varint(out, u64::from(16 << 3 | FIXED32));
    out.extend(flags.to_le_bytes());
}

/// A `KeyValue`, with the `AnyValue` that `value` writes.
fn attribute(out: &mut Vec<u8>, field: u32, key: &str, value: impl FnOnce(&mut Vec<u8>)) {
    message(out, field, |out| {
        text(out, 1, key);
        message(out, 2, value);
    });
}

/// Writes what `write` writes, with its length before it.
fn message(out: &mut Vec<u8>, field: u32, write: impl FnOnce(&mut Vec<u8>)) {
    varint(out, u64::from(field << 3 | BYTES));
    let start = out.len();
    write(out);
    let mut length = Vec::with_capacity(10);
    varint(&mut length, (out.len() - start) as u64);
    out.splice(start..start, length);
}

fn bytes(out: &mut Vec<u8>, field: u32, value: &[u8]) {
    varint(out, u64::from(field << 3 | BYTES));
    varint(out, value.len() as u64);
    out.extend(value);
}

fn text(out: &mut Vec<u8>, field: u32, value: &str) {
    bytes(out, field, value.as_bytes());
}

fn number(out: &mut Vec<u8>, field: u32, value: u64) {
    varint(out, u64::from(field << 3 | VARINT));
    varint(out, value);
}

fn fixed64(out: &mut Vec<u8>, field: u32, value: u64) {
    varint(out, u64::from(field << 3 | FIXED64));
    out.extend(value.to_le_bytes());
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// How many spans a collector says in its answer that it did not take; what cannot be read says nothing.
pub(super) fn rejected_spans(answer: &[u8]) -> u64 {
    let partial = fields(answer).find_map(|(field, value)| match value {
        Field::Bytes(bytes) if field == 1 => Some(bytes),
        _ => None,
    });
    let rejected = fields(partial.unwrap_or_default()).find_map(|(field, value)| match value {
        Field::Varint(value) if field == 1 => Some(value),
        _ => None,
    });
    // Of a negative one nobody knows what it means.
    rejected
        .filter(|count| i64::try_from(*count).is_ok())
        .unwrap_or(0)
}

enum Field<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    Fixed,
}

/// The fields of a message, up to what is malformed.
fn fields(mut rest: &[u8]) -> impl Iterator<Item = (u64, Field<'_>)> {
    std::iter::from_fn(move || {
        let tag = read_varint(&mut rest)?;
        let field = match u32::try_from(tag & 7).ok()? {
            VARINT => Field::Varint(read_varint(&mut rest)?),
            FIXED64 => rest.split_off(..8).map(|_| Field::Fixed)?,
            FIXED32 => rest.split_off(..4).map(|_| Field::Fixed)?,
            BYTES => {
                let length = usize::try_from(read_varint(&mut rest)?).ok()?;
                Field::Bytes(rest.split_off(..length)?)
            }
            _ => return None,
        };
        Some((tag >> 3, field))
    })
}

fn read_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *rest.split_off_first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_collector_rejected_is_read() {
        assert_eq!(rejected_spans(b""), 0);
        assert_eq!(rejected_spans(b"\x0a\x02\x08\x03"), 3);
        assert_eq!(rejected_spans(b"\x0a\x07\x12\x03no!\x08\x2c"), 44);
        assert_eq!(
            rejected_spans(b"\x0a\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
            0
        );
        assert_eq!(rejected_spans(b"<html>"), 0);
    }

    proptest! {
        #[test]
        fn any_answer_is_survived(answer in proptest::collection::vec(any::<u8>(), 0..64)) {
            rejected_spans(&answer);
        }
    }
}
