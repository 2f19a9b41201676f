//! The schemas of the values that are read by hand.
//!
//! `patternErrorMessage` is a word of Visual Studio Code, which others pass over.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::patterns::{BYTES, RATE, SECRET, SPAN};
use crate::config::values::{Bytes, Rate, Ratio, Span};
use crate::secret::Secret;

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": SPAN,
            "patternErrorMessage": "a duration with its unit, such as \"500ms\", \"30s\", \"1h 30m\" or \"400d\"",
            "examples": ["30s", "1h 30m"],
        })
    }
}

impl JsonSchema for Bytes {
    fn schema_name() -> Cow<'static, str> {
        "Bytes".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "integer"],
            "minimum": 1,
            "pattern": BYTES,
            "patternErrorMessage": "a number of bytes, or one with a unit: kB, MB, GB, KiB, MiB, GiB",
        })
    }
}

impl JsonSchema for Rate {
    fn schema_name() -> Cow<'static, str> {
        "Rate".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": RATE,
            "patternErrorMessage": "a number in a duration, such as \"600/1m\", or \"unlimited\"",
            "examples": ["600/1m", "unlimited"],
        })
    }
}

impl JsonSchema for Ratio {
    fn schema_name() -> Cow<'static, str> {
        "Ratio".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "number",
            "minimum": 0,
            "maximum": 1,
        })
    }
}

impl JsonSchema for Secret {
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": SECRET,
            "patternErrorMessage": "visible ASCII characters, and no spaces",
        })
    }
}
