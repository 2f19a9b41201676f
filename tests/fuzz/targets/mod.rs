//! What is fuzzed, and what must hold whatever the bytes are. A check panics where it does not.

mod config;
mod cookie;
mod gate;
mod record;
mod token;

use std::path::{Path, PathBuf};

/// Something that reads bytes of others.
pub struct Target {
    /// What it and its folders are called.
    pub name: &'static str,
    /// What its inputs are made of.
    pub words: &'static [&'static str],
    /// Panics if a property does not hold.
    pub check: fn(&[u8]),
}

pub const TARGETS: [Target; 5] = [
    cookie::TARGET,
    token::TARGET,
    config::TARGET,
    gate::TARGET,
    record::TARGET,
];

/// The folder of `kind` of a target.
pub fn folder(kind: &str, target: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
    root.join(kind).join(target)
}

/// Everything in the corpus of a target, and what once broke it, in the order of the names.
pub fn kept(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folders = [folder("corpus", target), folder("crashes", target)];
    let files = folders.iter().filter_map(|folder| folder.read_dir().ok());
    let mut paths: Vec<_> = files.flatten().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{target} has no corpus");
    let read = |path: PathBuf| {
        let input = std::fs::read(&path).unwrap();
        (path, input)
    };
    paths.into_iter().map(read).collect()
}

/// A number that depends on all of `input`: where it is cut, what is flipped.
fn number(input: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    input.iter().fold(0xcbf2_9ce4_8422_2325, step)
}
