//! What the fuzzer starts from, and what it once found: each a test.

use crate::fuzz_targets::{TARGETS, kept};

#[test]
fn what_the_fuzzer_keeps_holds() {
    for target in TARGETS {
        for (path, input) in kept(target.name) {
            println!("{}", path.display());
            (target.check)(&input);
        }
    }
}
