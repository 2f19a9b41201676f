//! From the tree of values to [`File`], with every problem of form in it: unknown keys, wrong types, values that do not
//! parse.
//!
//! Serde stops at the first error. So each error is noted, the value that caused it is taken out, and the tree is read
//! again, until it passes. Whoever goes on to look at the result asks [`Read::broken`] before calling a key missing.

use std::collections::HashSet;

use config::{Value, ValueKind};
use serde::Deserialize;
use serde_path_to_error::{Segment, Track};

use super::excerpt;
use super::file::File;
use super::problems::{Origin, Problem};
use super::spans::{self, Place, Places};
use super::strict::{self, Refusal, Strict};
use super::suggest;

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Read {
    /// The keys that could be read.
    pub(super) file: File,
    /// The paths of those that could not.
    pub(super) broken: HashSet<String>,
    /// Why.
    pub(super) problems: Vec<Problem>,
    /// The paths of keys that do not exist and may have been meant for a secret.
    pub(super) private: Vec<String>,
}

/// Reads the tree. Takes it apart on the way.
pub(super) fn read(name: &str, tree: &mut Value, places: &Places) -> Read {
    let mut read = Read::default();
    // Each round takes one value out of the tree or opens one list; a tree has no more of them than this.
    for _ in 0..=2 * count(tree) {
        let (steps, refusal) = match attempt(tree) {
            Ok(file) => {
                read.file = file;
                break;
            }
            Err(refused) => refused,
        };
        let path = written(&steps);
        let message = refusal.to_string();
        match refusal {
            Refusal::NotYetAList if open_list(tree, &steps) => {}
            Refusal::UnknownKey { expected } => {
                let place = places.key(&path);
                let meant = meant(&steps, expected);
                let hint = unknown_hint(&steps, meant, expected, &place);
                let problem = problem(name, &path, place, message, Some(hint));
                read.problems.push(problem);
                // The key that was meant is not missing as well.
                let meant = meant.map(|key| beside(&path, key));
                if meant.as_deref().is_none_or(excerpt::is_secret) {
                    read.private.push(path);
                }
                read.broken.extend(meant);
                remove(tree, &steps);
            }
            refusal => {
                let problem = problem(name, &path, places.value(&path), message, refusal.hint());
                read.problems.push(problem);
                read.broken.insert(path);
                if let Some(value) = node(tree, &steps) {
                    *value = strict::stand_in();
                }
            }
        }
    }
    read
}

fn attempt(tree: &Value) -> Result<File, (Vec<Segment>, Refusal)> {
    let mut track = Track::new();
    let deserializer = serde_path_to_error::Deserializer::new(Strict(tree), &mut track);
    let file = File::deserialize(deserializer);
    file.map_err(|refusal| (track.path().iter().cloned().collect(), refusal))
}

/// Makes a list of a text from the environment; `false` if the text is none.
fn open_list(tree: &mut Value, steps: &[Segment]) -> bool {
    let value = node(tree, steps);
    let opened = value.and_then(|value| strict::list_of(value).map(|list| *value = list));
    opened.is_some()
}

/// A problem of the key `path` at `place`.
pub(super) fn problem(
    name: &str,
    path: &str,
    place: Place,
    message: String,
    hint: Option<String>,
) -> Problem {
    let mut problem = Problem {
        key: path.to_owned(),
        hint,
        ..Problem::of_file(name, message)
    };
    match place {
        Place::File(position) => problem = problem.at(position),
        Place::Variable(name) => problem.origin = Origin::Variable(name),
        Place::Nowhere => {}
    }
    problem
}

// === impl Read ===

impl Read {
    /// Whether `path`, or whatever holds it, was there but wrong.
    pub(super) fn broken(&self, path: &str) -> bool {
        let mut path = Some(path);
        while let Some(here) = path {
            if self.broken.contains(here) {
                return true;
            }
            path = spans::parent(here);
        }
        false
    }
}

fn written(steps: &[Segment]) -> String {
    steps.iter().fold(String::new(), |path, step| match step {
        Segment::Seq { index } => spans::index(&path, *index),
        Segment::Map { key } => spans::join(&path, key),
        Segment::Enum { .. } | Segment::Unknown => path,
    })
}

/// The key that an unknown one is a likely misspelling of.
fn meant<'a>(steps: &[Segment], expected: &[&'a str]) -> Option<&'a str> {
    match steps.last() {
        Some(Segment::Map { key }) => suggest::nearest(key, expected.iter().copied()),
        _ => None,
    }
}

/// The path of another key of the same section.
fn beside(path: &str, key: &str) -> String {
    spans::join(spans::parent(path).unwrap_or_default(), key)
}

/// What to write instead of an unknown key; for the environment, as a variable.
fn unknown_hint(
    steps: &[Segment],
    meant: Option<&str>,
    expected: &[&str],
    place: &Place,
) -> String {
    match (meant, place) {
        (Some(meant), Place::Variable(variable)) => {
            let mut parts: Vec<_> = variable.split("__").collect();
            // The first part is the prefix.
            if let Some(part) = parts.get_mut(steps.len()) {
                *part = meant;
            }
            format!("did you mean {}?", parts.join("__").to_uppercase())
        }
        (Some(meant), _) => format!("did you mean `{meant}`?"),
        (None, Place::Variable(_)) if steps.len() == 1 => {
            "section and key have two underscores between them, as in SIDECAR__LOG__LEVEL"
                .to_owned()
        }
        (None, _) => format!("the keys here are {}", expected.join(", ")),
    }
}

fn node<'a>(tree: &'a mut Value, steps: &[Segment]) -> Option<&'a mut Value> {
    let keys_and_numbers =
        |step: &&Segment| matches!(step, Segment::Map { .. } | Segment::Seq { .. });
    let mut steps = steps.iter().filter(keys_and_numbers);
    steps.try_fold(tree, |value, step| match (step, &mut value.kind) {
        (Segment::Map { key }, ValueKind::Table(table)) => table.get_mut(key),
        (Segment::Seq { index }, ValueKind::Array(list)) => list.get_mut(*index),
        _ => None,
    })
}

fn remove(tree: &mut Value, steps: &[Segment]) {
    if let Some((Segment::Map { key }, section)) = steps.split_last()
        && let Some(section) = node(tree, section)
        && let ValueKind::Table(table) = &mut section.kind
    {
        table.remove(key);
    }
}

/// How many values there are in a tree; a text counts as the list that it may turn out to be.
fn count(value: &Value) -> usize {
    1 + match &value.kind {
        ValueKind::Table(table) => table.values().map(count).sum(),
        ValueKind::Array(list) => list.iter().map(count).sum(),
        ValueKind::String(text) => text.len(),
        _ => 0,
    }
}
