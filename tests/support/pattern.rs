use std::sync::LazyLock;

use bytes::Bytes;

/// Odd, so that no lost, doubled or swapped buffer of a round size falls on the same bytes again.
const PERIOD: usize = 1_000_003;
const CHUNK: usize = 64 * 1024;

/// Two periods of noise: any chunk is one slice of it.
static NOISE: LazyLock<Bytes> = LazyLock::new(|| {
    let mut state = 1_u32;
    let period: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    })
    .take(PERIOD)
    .collect();
    [period.as_slice(), &period].concat().into()
});

/// A body of any length whose every byte is known from its place. Costs no memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pattern(u64);

impl Pattern {
    /// How many bytes have gone by.
    pub fn position(&self) -> u64 {
        self.0
    }

    /// The next chunk of a body of `length` bytes; `None` at its end.
    pub fn next_chunk(&mut self, length: u64) -> Option<Bytes> {
        let rest = usize::try_from(length - self.0).unwrap_or(usize::MAX);
        let chunk = self.peek(rest.min(CHUNK));
        self.0 += chunk.len() as u64;
        (!chunk.is_empty()).then_some(chunk)
    }

    /// Checks that `data` continues the pattern.
    #[track_caller]
    pub fn check(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            let expected = self.peek(data.len().min(PERIOD));
            let (head, rest) = data.split_at(expected.len());
            assert!(head == expected, "other bytes than sent, near {}", self.0);
            self.0 += head.len() as u64;
            data = rest;
        }
    }

    fn peek(&self, length: usize) -> Bytes {
        let place = usize::try_from(self.0 % PERIOD as u64).unwrap();
        NOISE.slice(place..place + length)
    }
}
