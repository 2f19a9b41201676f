//! Makes inputs of what is kept: some mutations each, of any kind.

use std::fmt::Write;

use rand::rngs::StdRng;
use rand::{Rng, RngExt};
use sha2::{Digest, Sha256};

/// No input is longer: what is slow finds little.
const MAX: usize = 64 * 1024;
const BYTES: [u8; 12] = *b"\0\t\n\r \"%0;\x7f\x80\xff";
const NUMBERS: [&str; 10] = [
    "0",
    "-1",
    "+1",
    "00",
    "4294967296",
    "9223372036854775807",
    "18446744073709551615",
    "18446744073709551616",
    "1e309",
    "0x10",
];

/// An input like one of `corpus`.
pub fn mutate(corpus: &[Vec<u8>], words: &[&str], dice: &mut StdRng) -> Vec<u8> {
    let pick = |dice: &mut StdRng| corpus[dice.random_range(0..corpus.len())].clone();
    let mut input = pick(dice);
    for _ in 0..dice.random_range(1..=6) {
        let at = dice.random_range(0..=input.len());
        let end = dice.random_range(at..=input.len().min(at + 40));
        match dice.random_range(0..10) {
            0 if at < input.len() => input[at] ^= 1 << dice.random_range(0..8),
            1 => input.insert(at, BYTES[dice.random_range(0..BYTES.len())]),
            2 => input.insert(at, dice.next_u32() as u8),
            3 => drop(input.drain(at..end)),
            4 => {
                let part = input[at..end].to_vec();
                drop(input.splice(at..at, part));
            }
            5 => {
                let other = pick(dice);
                let from = dice.random_range(0..=other.len());
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            6 | 7 if !words.is_empty() => {
                let word = words[dice.random_range(0..words.len())];
                // In place of something, or beside it.
                let end = if dice.random() { end } else { at };
                drop(input.splice(at..end, word.bytes()));
            }
            8 => {
                let number = NUMBERS[dice.random_range(0..NUMBERS.len())];
                let digit = |byte: &u8| byte.is_ascii_digit();
                // In place of the next number.
                let begin = input[at..]
                    .iter()
                    .position(digit)
                    .map_or(at, |next| at + next);
                let digits = input[begin..].iter().take_while(|byte| digit(byte)).count();
                drop(input.splice(begin..begin + digits, number.bytes()));
            }
            9 if dice.random_range(0..8) == 0 => match dice.random_range(0..3) {
                0 => input.clear(),
                1 => input.truncate(at),
                _ => {
                    let byte = input.get(at).copied().unwrap_or(b'a');
                    let length = 1 << dice.random_range(4..15);
                    drop(input.splice(at..at, std::iter::repeat_n(byte, length)));
                }
            },
            _ => {}
        }
    }
    input.truncate(MAX);
    input
}

/// What a kept input is called.
pub fn name(input: &[u8]) -> String {
    let hash = Sha256::digest(input);
    hash.iter().take(8).fold(String::new(), |mut name, byte| {
        let _ = write!(name, "{byte:02x}");
        name
    })
}
