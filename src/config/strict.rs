//! A deserialiser that takes values as they are.
//!
//! The `config` crate's own one is obliging: it reads `timeout = 1` as a text and `"yes"` as a boolean, so a YAML
//! `client_id: 0123` becomes another client. Here a type is what the file says, and only texts from the environment, which
//! have no types, are read as what the key needs. Errors name kinds of values and never the values themselves.

use std::fmt;

use config::{FileFormat, Format, Value, ValueKind};
use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{self, Deserializer, Expected, IntoDeserializer, Unexpected, Visitor};
use serde::forward_to_deserialize_any;

use super::suggest;
use super::values::HINT;

/// The origin of the value that stands in for one that was wrong and is reported: it is read as nothing in particular.
const STAND_IN: &str = "stand-in";

/// A value to be read.
#[derive(Clone, Copy)]
pub(super) struct Strict<'a>(pub(super) &'a Value);

/// Why a value is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The key does not exist.
    UnknownKey {
        /// The keys that do.
        expected: &'static [&'static str],
    },
    /// A text from the environment stands where a list is needed: replace it by its [`list_of`] and read again.
    NotYetAList,
    /// The value is wrong.
    Value {
        /// In what way.
        message: String,
        /// What was probably meant.
        hint: Option<String>,
    },
}

/// The value that is put in the place of a wrong one, so that reading can go on.
pub(super) fn stand_in() -> Value {
    Value::new(Some(&STAND_IN.to_owned()), ValueKind::Nil)
}

/// The list that a text from the environment holds: a JSON or TOML array, or texts between commas.
pub(super) fn list_of(value: &Value) -> Option<Value> {
    let ValueKind::String(text) = &value.kind else {
        return None;
    };
    let text = text.trim();
    let origin = value.origin().map(str::to_owned);
    if text.starts_with('[') {
        let json = || FileFormat::Json.parse(None, &format!("{{\"list\":{text}}}"));
        let toml = |_| FileFormat::Toml.parse(None, &format!("list = {text}"));
        let list = json().or_else(toml).ok()?.remove("list")?;
        return matches!(list.kind, ValueKind::Array(_)).then_some(list);
    }
    let texts = text.split(',').filter(|_| !text.is_empty());
    let texts = texts.map(|part| Value::new(origin.as_ref(), part.trim()));
    Some(Value::new(origin.as_ref(), texts.collect::<Vec<_>>()))
}

// === impl Strict ===

impl<'a> Strict<'a> {
    fn is_stand_in(self) -> bool {
        self.0.origin() == Some(STAND_IN)
    }

    /// The text, if it came from the environment.
    fn untyped(self) -> Option<&'a str> {
        match (&self.0.kind, self.0.origin()) {
            (ValueKind::String(text), Some(_)) => Some(text),
            _ => None,
        }
    }

    fn refuse<T>(self, expected: &str) -> Result<T, Refusal> {
        let found = match &self.0.kind {
            ValueKind::Nil => "nothing",
            ValueKind::Boolean(_) => "a boolean",
            ValueKind::I64(_) | ValueKind::I128(_) | ValueKind::U64(_) | ValueKind::U128(_) => {
                "a number"
            }
            ValueKind::Float(_) => "a decimal number",
            ValueKind::String(_) => "a string",
            ValueKind::Table(_) => "a section",
            ValueKind::Array(_) => "a list",
        };
        Err(Refusal::kind(expected, found))
    }

    fn unsigned(self) -> Result<u64, Refusal> {
        let number = match &self.0.kind {
            ValueKind::I64(number) => u64::try_from(*number).ok(),
            ValueKind::U64(number) => Some(*number),
            _ => match self.untyped() {
                Some(text) => text.trim().parse().ok(),
                None => return self.refuse("a whole number"),
            },
        };
        number.ok_or_else(|| Refusal::value("expected a whole number, zero or more", "such as 64"))
    }
}

impl<'de> IntoDeserializer<'de, Refusal> for Strict<'de> {
    type Deserializer = Self;
    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Strict<'de> {
    type Error = Refusal;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        match &self.0.kind {
            ValueKind::Nil => visitor.visit_unit(),
            ValueKind::Boolean(value) => visitor.visit_bool(*value),
            ValueKind::I64(value) => visitor.visit_i64(*value),
            ValueKind::I128(value) => visitor.visit_i128(*value),
            ValueKind::U64(value) => visitor.visit_u64(*value),
            ValueKind::U128(value) => visitor.visit_u128(*value),
            ValueKind::Float(value) => visitor.visit_f64(*value),
            ValueKind::String(value) => visitor.visit_borrowed_str(value),
            ValueKind::Table(_) => self.deserialize_map(visitor),
            ValueKind::Array(_) => self.deserialize_seq(visitor),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        match (
            &self.0.kind,
            self.untyped().map(|text| text.trim().to_lowercase()),
        ) {
            (ValueKind::Boolean(value), _) => visitor.visit_bool(*value),
            (_, Some(text)) if text == "true" => visitor.visit_bool(true),
            (_, Some(text)) if text == "false" => visitor.visit_bool(false),
            (_, Some(_)) => Err(Refusal::value(
                "expected true or false, found another string",
                "write true or false",
            )),
            _ => self.refuse("true or false"),
        }
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        visitor.visit_u64(self.unsigned()?)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        match u32::try_from(self.unsigned()?) {
            Ok(number) => visitor.visit_u32(number),
            Err(_) => Err(Refusal::value(
                "is too large a number",
                "4294967295 is the largest",
            )),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        match &self.0.kind {
            ValueKind::String(text) => visitor.visit_borrowed_str(text),
            _ if self.is_stand_in() => visitor.visit_str(""),
            _ => self.refuse("a string"),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        match self.0.kind {
            ValueKind::Nil => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        if let ValueKind::Array(values) = &self.0.kind {
            return visitor.visit_seq(SeqDeserializer::new(values.iter().map(Strict)));
        }
        match self.untyped() {
            Some(_) => Err(Refusal::NotYetAList),
            None => self.refuse("a list"),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        match &self.0.kind {
            ValueKind::Table(table) => {
                let mut entries: Vec<_> = table.iter().collect();
                entries.sort_by_key(|(key, _)| *key);
                let entries = entries
                    .into_iter()
                    .map(|(key, value)| (key.as_str(), Strict(value)));
                visitor.visit_map(MapDeserializer::new(entries))
            }
            _ if self.is_stand_in() => {
                let nothing = std::iter::empty::<(&str, Strict<'de>)>();
                visitor.visit_map(MapDeserializer::new(nothing))
            }
            _ => self.refuse("a section with keys of its own"),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        match &self.0.kind {
            ValueKind::String(text) => visitor.visit_enum(text.as_str().into_deserializer()),
            _ => self.refuse(&suggest::one_of(variants)),
        }
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u128 f32 f64 char bytes byte_buf unit unit_struct newtype_struct tuple
        tuple_struct identifier ignored_any
    }
}

// === impl Refusal ===

impl Refusal {
    /// What was probably meant.
    pub(super) fn hint(self) -> Option<String> {
        match self {
            Self::Value { hint, .. } => hint,
            Self::NotYetAList => {
                Some("write strings with commas between them, or a JSON array".to_owned())
            }
            Self::UnknownKey { .. } => None,
        }
    }

    fn value(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Value {
            message: message.into(),
            hint: Some(hint.into()),
        }
    }

    /// Another kind of value is needed.
    fn kind(expected: &str, found: &str) -> Self {
        let hint = match (expected, found) {
            (_, "nothing") => "give it a value, or leave it out",
            ("true or false" | "a whole number", _) => "write it without quotes",
            ("a list", _) => "such as [\"a\", \"b\"]; of sections: [[name]] above each of them",
            (_, "a list" | "a section") => "write one value, between quotes",
            ("a section with keys of its own", _) => "write its keys below a line [name]",
            _ => "write it between quotes",
        };
        Self::value(format!("expected {expected}, found {found}"), hint)
    }
}

impl de::Error for Refusal {
    fn custom<T: fmt::Display>(message: T) -> Self {
        let message = message.to_string();
        match message.rsplit_once(HINT) {
            Some((message, hint)) => Self::value(message, hint),
            None => Self::Value {
                message,
                hint: None,
            },
        }
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let found = match unexpected {
            Unexpected::Bool(_) => "a boolean",
            Unexpected::Unsigned(_) | Unexpected::Signed(_) => "a number",
            Unexpected::Float(_) => "a decimal number",
            Unexpected::Char(_) | Unexpected::Str(_) => "a string",
            Unexpected::Seq => "a list",
            Unexpected::Map => "a section",
            _ => "nothing",
        };
        Self::kind(&expected.to_string(), found)
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let nearest = suggest::nearest(variant, expected.iter().copied());
        Self::Value {
            message: format!("{variant:?} is not one of {}", suggest::one_of(expected)),
            hint: Some(match nearest {
                Some(name) => format!("did you mean {name:?}?"),
                None => "write one of them".to_owned(),
            }),
        }
    }

    fn unknown_field(_: &str, expected: &'static [&'static str]) -> Self {
        Self::UnknownKey { expected }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownKey { .. } => "unknown key",
            Self::NotYetAList => "is not a list",
            Self::Value { message, .. } => message,
        })
    }
}

impl std::error::Error for Refusal {}
