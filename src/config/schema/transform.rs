//! From what `schemars` makes to what editors show well.

use schemars::Schema;
use serde_json::{Map, Value, json};

/// Makes an optional value one that is there or not: `Option` means that a key may be left out. A section may be `null` as well:
/// so it is in YAML when all of its keys are commented out.
pub(super) fn without_null(schema: &mut Schema) {
    let Some(object) = schema.as_object_mut() else {
        return;
    };
    let section = object.contains_key("properties");
    if let Some(Value::Array(kinds)) = object.get_mut("type").filter(|_| !section) {
        kinds.retain(|kind| kind != "null");
        if let [kind] = &mut kinds[..] {
            let kind = kind.take();
            object.insert("type".to_owned(), kind);
        }
    }
    if let Some(Value::Array(words)) = object.get_mut("enum") {
        words.retain(|word| !word.is_null());
    }
    if let Some(Value::Object(mut only)) = object.get_mut("anyOf").and_then(something_or_null) {
        object.remove("anyOf");
        if only.contains_key("properties") {
            only.insert("type".to_owned(), json!(["object", "null"]));
        }
        for (key, value) in only {
            // What is said of the key goes before what is said of its type.
            object.entry(key).or_insert(value);
        }
    }
}

fn something_or_null(any_of: &mut Value) -> Option<Value> {
    match &mut any_of.as_array_mut()?[..] {
        [something, null] if null["type"] == "null" => Some(something.take()),
        _ => None,
    }
}

/// Makes one list of words of an alternative of constants: editors complete from it, and say what the words are where none
/// fits. What they mean stands in `enumDescriptions`.
pub(super) fn words(schema: &mut Schema) {
    let Some(object) = schema.as_object_mut() else {
        return;
    };
    let Some(alternatives) = object.get("oneOf").and_then(Value::as_array) else {
        return;
    };
    let words: Option<Vec<_>> = alternatives.iter().map(|one| one.get("const")).collect();
    let Some(words) = words else {
        return;
    };
    let words: Value = words.into_iter().cloned().collect();
    let meanings = alternatives.iter().map(|one| one["description"].clone());
    let meanings = meanings.collect();
    object.remove("oneOf");
    object.insert("type".to_owned(), "string".into());
    object.insert("enum".to_owned(), words);
    object.insert("enumDescriptions".to_owned(), meanings);
}

/// Writes descriptions in one line, takes the default from them, and drops formats that are names of Rust's.
pub(super) fn described(schema: &mut Schema) {
    let Some(object) = schema.as_object_mut() else {
        return;
    };
    object.remove("format");
    let Some(Value::String(text)) = object.get_mut("description") else {
        return;
    };
    *text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some(literal) = default_in(text) {
        let default = value_of(literal, object);
        object.insert("default".to_owned(), default);
    }
}

/// The literal of ``Default: `…`.``; another text there, such as "none", is no value.
fn default_in(description: &str) -> Option<String> {
    let (_, rest) = description.split_once("Default: `")?;
    let (literal, _) = rest.split_once('`')?;
    Some(literal.to_owned())
}

/// A literal as a value of the schema's type: a text stands there without quotes.
fn value_of(literal: String, schema: &Map<String, Value>) -> Value {
    let of_type = |kind: &str| match &schema["type"] {
        Value::Array(kinds) => kinds.iter().any(|one| one == kind),
        only => only == kind,
    };
    match serde_json::from_str(&literal) {
        Ok(value) if !of_type("string") => value,
        _ => literal.into(),
    }
}
