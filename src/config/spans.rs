//! Where each key stands: a line and column of the file, or an environment variable.
//!
//! Keys are looked up by their written path (`routes[1].upstream`). A key that stands nowhere, because it is missing, is
//! at the place of the section or list element that should hold it.

use std::collections::HashMap;
use std::ops::Range;

use toml::de::{DeTable, DeValue};

/// The places of all keys.
#[derive(Debug, Default)]
pub(super) struct Places {
    keys: HashMap<String, Position>,
    values: HashMap<String, Position>,
    variables: HashMap<String, String>,
}

/// Line and column, both from 1, the column in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) line: usize,
    pub(super) column: usize,
}

/// The answer to "where is this key?".
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In the file.
    File(Position),
    /// In an environment variable.
    Variable(String),
    /// Unknown, or nowhere.
    Nowhere,
}

/// The path of a key of a section. Of a key that is none of ours by its looks, no more than its first word: in a file that is read
/// in another way than it was written, half of it may be one key, with a secret in it.
pub(super) fn join(section: &str, key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let is_word = |c: char| c.is_alphanumeric() || "_-.".contains(c);
    let key = match key.find(|c: char| !is_word(c)) {
        None if !key.is_empty() && key.chars().all(bare) => key.to_owned(),
        None => format!("{key:?}"),
        Some(end) => format!("{:?}", format!("{}…", &key[..end])),
    };
    match section.is_empty() {
        true => key,
        false => format!("{section}.{key}"),
    }
}

/// The path of an element of a list.
pub(super) fn index(list: &str, index: usize) -> String {
    format!("{list}[{index}]")
}

/// The path of whatever holds `path`; `None` at the root.
pub(super) fn parent(path: &str) -> Option<&str> {
    path.rfind(['.', '[']).map(|end| &path[..end])
}

// === impl Position ===

impl Position {
    /// The position of a byte.
    pub(super) fn of(text: &str, byte: usize) -> Self {
        let before = text.get(..byte.min(text.len())).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

// === impl Places ===

impl Places {
    /// The places of all keys of a TOML document.
    pub(super) fn of_toml(text: &str, document: &DeTable<'_>) -> Self {
        let mut places = Self::default();
        places.add_table(text, "", document);
        places
    }

    /// Notes that the value of `path` came from `variable`, whatever the file says.
    pub(super) fn set_variable(&mut self, path: &str, variable: &str) {
        let below = |key: &String| {
            key.strip_prefix(path)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        self.keys.retain(|key, _| !below(key));
        self.values.retain(|key, _| !below(key));
        self.variables.insert(path.to_owned(), variable.to_owned());
    }

    /// Where the value of `path` is, or should be.
    pub(super) fn value(&self, path: &str) -> Place {
        self.find(&self.values, path)
    }

    /// Where the key of `path` is, or should be.
    pub(super) fn key(&self, path: &str) -> Place {
        match self.keys.get(path) {
            Some(position) => Place::File(*position),
            None => self.value(path),
        }
    }

    fn find(&self, positions: &HashMap<String, Position>, path: &str) -> Place {
        let mut path = Some(path);
        while let Some(here) = path {
            if let Some(variable) = self.variables.get(here) {
                return Place::Variable(variable.clone());
            }
            if let Some(position) = positions.get(here) {
                return Place::File(*position);
            }
            path = parent(here);
        }
        Place::Nowhere
    }

    fn add_table(&mut self, text: &str, path: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let path = join(path, key.get_ref());
            self.keys
                .insert(path.clone(), Position::of(text, key.span().start));
            self.add_value(text, &path, value.span(), value.get_ref());
        }
    }

    fn add_value(&mut self, text: &str, path: &str, span: Range<usize>, value: &DeValue<'_>) {
        self.values
            .insert(path.to_owned(), Position::of(text, span.start));
        match value {
            DeValue::Table(table) => self.add_table(text, path, table),
            DeValue::Array(array) => {
                for (number, value) in array.iter().enumerate() {
                    self.add_value(text, &index(path, number), value.span(), value.get_ref());
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "[log]\nlevel = 'info'\n\n[[routes]]\npath = '/'\n[[routes]]\ncookies = ['é', 'b']\n";

    fn places() -> Places {
        Places::of_toml(TEXT, DeTable::parse(TEXT).unwrap().get_ref())
    }

    fn at(line: usize, column: usize) -> Place {
        Place::File(Position { line, column })
    }

    #[test]
    fn keys_values_and_list_elements_have_their_own_places() {
        let places = places();
        assert_eq!(places.key("log.level"), at(2, 1));
        assert_eq!(places.value("log.level"), at(2, 9));
        assert_eq!(places.value("routes[1].cookies[1]"), at(7, 17));
    }

    #[test]
    fn a_missing_key_is_where_its_section_is() {
        assert_eq!(places().value("routes[1].upstream"), at(6, 1));
        assert_eq!(places().value("log.format"), at(1, 1));
        assert_eq!(places().value("admin.address"), Place::Nowhere);
    }

    #[test]
    fn a_variable_hides_the_file_and_everything_below() {
        let mut places = places();
        places.set_variable("routes[1].cookies", "SIDECAR__ROUTES__1__COOKIES");
        let variable = Place::Variable("SIDECAR__ROUTES__1__COOKIES".into());
        assert_eq!(places.value("routes[1].cookies[0]"), variable);
        assert_eq!(places.key("routes[1].cookies"), variable);
        assert_eq!(places.value("routes[1]"), at(6, 1));
    }

    #[test]
    fn columns_count_characters_and_ends_are_safe() {
        assert_eq!(Position::of("aé\nb", 3), Position { line: 1, column: 3 });
        assert_eq!(Position::of("aé\nb", 99), Position { line: 2, column: 2 });
    }

    #[test]
    fn odd_keys_are_quoted() {
        assert_eq!(join("", "log.level"), "\"log.level\"");
        assert_eq!(join("log", "level"), "log.level");
    }
}
