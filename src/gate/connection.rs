//! PURE: the gate's verdict on a whole connection, for the fuzzer: `stream` without the sockets.

use std::ops::Range;

use super::framing::Framing;
use super::head::{Head, HeadLimits};
use super::refusal::Refusal;

/// What is let through of a connection.
#[derive(Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Where each whole request lies: its head, and all of it.
    pub requests: Vec<(Range<usize>, Range<usize>)>,
    /// Why the rest is not; `None`: it is nothing, or the beginning of a request, or after the last one.
    pub refusal: Option<Refusal>,
}

/// Judges `bytes` that arrive in pieces which end at `cuts` (in rising order) and at their end.
///
/// # Panics
/// If a body takes nothing of the bytes that are there.
pub fn judge_connection(
    bytes: &[u8],
    cuts: &[usize],
    head_bytes: usize,
    head_count: usize,
) -> Verdict {
    let limits = HeadLimits {
        bytes: head_bytes,
        count: head_count,
    };
    let mut framing = Framing::new(limits);
    let mut requests = Vec::new();
    // Where the request begins that is being read, where its head ends, and what was handed over.
    let (mut start, mut head_end, mut at) = (0, 0, 0);
    let ends = cuts.iter().copied().filter(|cut| *cut < bytes.len());
    for end in ends.chain([bytes.len()]) {
        while at < end && (framing.in_body() || !framing.is_last()) {
            let read = match framing.in_body() {
                true => framing.body(&bytes[at..end]).map(Some),
                false => framing.head(&bytes[at..end]),
            };
            match read {
                Err(refusal) => {
                    return Verdict {
                        requests,
                        refusal: Some(refusal),
                    };
                }
                Ok(None) => break,
                Ok(Some(length)) => {
                    assert!(length > 0, "nothing was taken at {at}");
                    if head_end <= start {
                        let head = Head::default().read(&bytes[start..], limits);
                        head_end = head
                            .ok()
                            .flatten()
                            .map_or(start, |(length, _)| start + length);
                    }
                    at += length;
                }
            }
            if !framing.in_body() {
                requests.push((start..head_end, start..at));
                (start, head_end) = (at, at);
            }
        }
    }
    Verdict {
        requests,
        refusal: None,
    }
}
