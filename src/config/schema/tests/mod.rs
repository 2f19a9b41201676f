//! Holds the schema against the committed copy, the reference and itself; `reader` holds it against the reader.

mod reader;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::config::shipped;

/// A compiled schema.
pub(super) struct Validator(boon::Schemas, boon::SchemaIndex);

impl Validator {
    pub(super) fn new(schema: Value) -> Self {
        let (mut compiler, mut schemas) = (boon::Compiler::new(), boon::Schemas::new());
        compiler.add_resource("schema.json", schema).unwrap();
        let index = compiler.compile("schema.json", &mut schemas);
        Self(schemas, index.unwrap_or_else(|error| panic!("{error:#}")))
    }

    pub(super) fn check(&self, value: &Value) -> Result<(), String> {
        let checked = self.0.validate(value, self.1);
        checked.map_err(|error| error.to_string())
    }
}

fn schema() -> Value {
    super::schema().to_value()
}

fn root(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)
}

/// Calls `each` with the written name of every key, without the numbers of list elements, the way to the first such key in a
/// configuration, and what the schema says of it. `true`: the section that it is in requires it.
fn keys(schema: &Value, name: &str, pointer: &str, each: &mut dyn FnMut(&str, &str, &Value, bool)) {
    for (key, of_key) in schema["properties"].as_object().into_iter().flatten() {
        let required = schema["required"].as_array();
        let required = required.is_some_and(|keys| keys.iter().any(|other| other == key));
        let (name, pointer) = (format!("{name}{key}"), format!("{pointer}/{key}"));
        each(&name, &pointer, of_key, required);
        keys(of_key, &format!("{name}."), &pointer, each);
        let first = format!("{pointer}/0");
        keys(&of_key["items"], &format!("{name}."), &first, each);
    }
}

#[test]
fn the_committed_schema_is_that_of_the_program() {
    let committed = std::fs::read_to_string(root("config/sidecar.schema.json")).unwrap();
    assert!(
        committed == super::json_schema(),
        "the configuration has changed; write its schema anew, and read the difference:\n\
         cargo run -- schema > target/schema.json && mv target/schema.json config/sidecar.schema.json"
    );
}

#[test]
fn the_schema_names_every_key_of_the_reference_and_no_other() {
    let mut named = BTreeSet::new();
    keys(&schema(), "", "", &mut |name, _, _, _| {
        named.insert(name.to_owned());
    });
    assert_eq!(named, shipped::keys_of_the_reference());
}

#[test]
fn every_key_says_what_it_is_for_and_what_holds_without_it() {
    keys(&schema(), "", "", &mut |name, _, key, required| {
        let text = key["description"].as_str().unwrap_or_default();
        assert!(
            text.ends_with('.') && !text.contains('\n'),
            "{name}: {text}"
        );
        let says_so = text.ends_with("Required.") || text.ends_with("Required in this section.");
        assert_eq!(says_so, required, "{name}: {text}");
        let section = key.get("properties").is_some() || key["items"].get("properties").is_some();
        let known = ["Default: ", "equired", "in place of"];
        assert!(
            section || known.iter().any(|words| text.contains(words)),
            "{name}: {text}"
        );
    });
}

#[test]
fn sections_take_no_other_keys() {
    let closed = |section: &Value| section["additionalProperties"] == json!(false);
    assert!(closed(&schema()));
    keys(&schema(), "", "", &mut |name, _, key, _| {
        for section in [key, &key["items"]] {
            assert!(
                section.get("properties").is_none() || closed(section),
                "{name}"
            );
        }
        // An empty section of YAML is `null`; no other key is.
        let section = key.get("properties").is_some();
        let or_null = json!(["object", "null"]);
        let kinds = &key["type"];
        assert!(
            kinds.is_string()
                || name.ends_with("_cache")
                || name.ends_with("_bytes")
                || (section && *kinds == or_null),
            "{name}: {kinds}"
        );
    });
}
