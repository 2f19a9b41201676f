//! The stored record: what is sealed, and what is in it.

use std::sync::LazyLock;

use dressipi_sidecar::session::{Keyring, codec};

use super::{Target, number};

pub const TARGET: Target = Target {
    name: "record",
    words: &[
        "\"created\":",
        "\"profiles\":",
        "\"losses\":",
        "\"state\":",
        "\"is\":",
        "\"active\"",
        "\"lost\"",
        "\"granted\"",
        "\"unconfirmed\"",
        "\"tokens\":",
        "\"access\":",
        "\"refresh\":",
        "\"obtained\":",
        "\"expires\":",
        "\"generation\":",
        "\"attempts\":",
        "\"not_before\":",
        "\"at\":",
        "{",
        "}",
        ",",
        "\"\"",
        "null",
        "\\u0000",
        "\\ud800",
        "\x01",
        "\x02",
    ],
    check,
};

static KEYRING: LazyLock<Keyring> = LazyLock::new(Keyring::ephemeral);

fn check(input: &[u8]) {
    if let Ok(session) = codec::decode(input) {
        let bytes = codec::encode(&session);
        let again = codec::decode(&bytes).expect("what was written is read");
        assert_eq!(session, again);
        assert_eq!(
            *bytes,
            *codec::encode(&again),
            "written twice, and differently"
        );
    }

    assert!(KEYRING.open(&[7; 32], input).is_err(), "nobody sealed this");
    let sealed = KEYRING.seal(&[7; 32], input);
    let opened = KEYRING.open(&[7; 32], &sealed).expect("ours");
    assert_eq!(*opened, input);
    assert!(
        KEYRING.open(&[8; 32], &sealed).is_err(),
        "another visitor's"
    );
    let number = number(input);
    let at = (number >> 3) as usize % sealed.len();
    let mut flipped = sealed.to_vec();
    flipped[at] ^= 1 << (number & 7);
    let (before, after) = sealed.split_at(at);
    for mutated in [
        flipped,
        before.to_vec(),
        [before, &after[1..]].concat(),
        [before, &[0], after].concat(),
        [&sealed[..], &[0]].concat(),
    ] {
        assert!(KEYRING.open(&[7; 32], &mutated).is_err(), "mutated at {at}");
    }
}
