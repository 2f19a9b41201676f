//! The JSON Schema (2020-12) of the configuration, made of `file::File`: what editors complete, explain and underline by.
//!
//! It says what a file looks like: keys, types, words, numbers. What makes sense together only `parse` knows. Keys that are
//! required may come from variables instead, of which an editor knows nothing. `null`, which YAML has for a key with nothing
//! behind it, is read as if the key were left out; here it counts as a slip, unless the key is a section.
//!
//! There are no references in it: not every editor shows what is said beside one.

pub(super) mod patterns;
mod transform;
mod values;

#[cfg(test)]
mod tests;

use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;

use super::file::File;

/// What identifies the schema. Nothing is there to be fetched.
const ID: &str = "urn:dressipi-sidecar:configuration";
const TITLE: &str = "Configuration of dressipi-sidecar";
const DESCRIPTION: &str = "Where clients connect, the Dressipi account, how visitor sessions live, and where requests go. \
    Durations are texts with a unit (\"500ms\", \"30s\", \"400d\"); paths of files begin at the configuration's own folder. \
    `dressipi-sidecar check` finds what no schema can.";

/// The JSON Schema of the configuration, as a text.
pub fn json_schema() -> String {
    let mut text = serde_json::to_string_pretty(&schema()).expect("texts are its only keys");
    text.push('\n');
    text
}

fn schema() -> Schema {
    let settings = SchemaSettings::draft2020_12()
        .with(|settings| settings.inline_subschemas = true)
        .with_transform(RecursiveTransform(transform::without_null))
        .with_transform(RecursiveTransform(transform::words))
        .with_transform(RecursiveTransform(transform::described));
    let mut schema = settings.into_generator().into_root_schema_for::<File>();
    for (key, text) in [("$id", ID), ("title", TITLE), ("description", DESCRIPTION)] {
        schema.insert(key.to_owned(), text.into());
    }
    schema
}
