//! Where each key stands: a line and column of the file, or an environment variable.
//!
//! Keys are looked up by their written path (`routes[1].upstream`). A key that stands nowhere, because it is missing, is
//! at the place of the section or list element that should hold it.

use std::collections::HashMap;
use std::ops::Range;

use toml::de::{DeTable, DeValue};

/// The places of all keys.
#[derive(Clone, Debug, Default)]
pub(super) struct Places {
    keys: HashMap<String, Position>,
    values: HashMap<String, Position>,
    variables: HashMap<String, String>,
    written: Vec<Written>,
}

/// Line and column, both from 1, the column in characters; and the bytes from there on that are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) line: usize,
    pub(super) column: usize,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// A key or a value as the file has it, whether a variable lies over it or not.
#[derive(Clone, Debug)]
pub(super) struct Written {
    /// The path of the key.
    pub(super) path: String,
    /// Its bytes.
    pub(super) span: Range<usize>,
    /// What it is.
    pub(super) part: Part,
}

/// A part of what is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// A key's name.
    Key,
    /// A value with nothing below.
    Scalar,
    /// A section or a list.
    Whole,
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
    /// The position of some bytes.
    pub(super) fn of(text: &str, span: Range<usize>) -> Self {
        let before = text.get(..span.start.min(text.len())).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            start: span.start,
            end: span.end,
        }
    }

    /// The position of one character, by line and column.
    pub(super) fn at(text: &str, line: usize, column: usize) -> Self {
        let lines = text.split_inclusive('\n');
        let start: usize = lines
            .clone()
            .take(line.saturating_sub(1))
            .map(str::len)
            .sum();
        let rest = text.get(start..).unwrap_or_default();
        let characters = rest.chars().take(column.saturating_sub(1));
        let start = start + characters.map(char::len_utf8).sum::<usize>();
        let length = text.get(start..).and_then(|rest| rest.chars().next());
        Self {
            line,
            column,
            start,
            end: start + length.map_or(0, char::len_utf8),
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

    /// Everything that is written in the file.
    pub(super) fn written(&self) -> &[Written] {
        &self.written
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
                .insert(path.clone(), Position::of(text, key.span()));
            self.write(&path, key.span(), Part::Key);
            self.add_value(text, &path, value.span(), value.get_ref());
        }
    }

    fn add_value(&mut self, text: &str, path: &str, span: Range<usize>, value: &DeValue<'_>) {
        self.values
            .insert(path.to_owned(), Position::of(text, span.clone()));
        let part = match value {
            DeValue::Table(_) | DeValue::Array(_) => Part::Whole,
            _ => Part::Scalar,
        };
        self.write(path, span, part);
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

    fn write(&mut self, path: &str, span: Range<usize>, part: Part) {
        let path = path.to_owned();
        self.written.push(Written { path, span, part });
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

    fn at(line: usize, column: usize) -> (usize, usize) {
        (line, column)
    }

    fn line_and_column(place: Place) -> (usize, usize) {
        match place {
            Place::File(position) => (position.line, position.column),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn keys_values_and_list_elements_have_their_own_places() {
        let places = places();
        assert_eq!(line_and_column(places.key("log.level")), at(2, 1));
        assert_eq!(line_and_column(places.value("log.level")), at(2, 9));
        assert_eq!(
            line_and_column(places.value("routes[1].cookies[1]")),
            at(7, 17)
        );
    }

    #[test]
    fn a_missing_key_is_where_its_section_is() {
        assert_eq!(
            line_and_column(places().value("routes[1].upstream")),
            at(6, 1)
        );
        assert_eq!(line_and_column(places().value("log.format")), at(1, 1));
        assert_eq!(places().value("admin.address"), Place::Nowhere);
    }

    #[test]
    fn a_variable_hides_the_file_and_everything_below() {
        let mut places = places();
        places.set_variable("routes[1].cookies", "SIDECAR__ROUTES__1__COOKIES");
        let variable = Place::Variable("SIDECAR__ROUTES__1__COOKIES".into());
        assert_eq!(places.value("routes[1].cookies[0]"), variable);
        assert_eq!(places.key("routes[1].cookies"), variable);
        assert_eq!(line_and_column(places.value("routes[1]")), at(6, 1));
    }

    #[test]
    fn columns_count_characters_and_ends_are_safe() {
        let of = |byte| line_and_column(Place::File(Position::of("aé\nb", byte..byte)));
        assert_eq!(of(3), at(1, 3));
        assert_eq!(of(99), at(2, 2));
        let position = Position::at("aé\nbé", 2, 2);
        assert_eq!((position.start, position.end), (5, 7));
        let end = Position::at("a", 7, 9);
        assert_eq!((end.start, end.end), (1, 1));
    }

    #[test]
    fn odd_keys_are_quoted() {
        assert_eq!(join("", "log.level"), "\"log.level\"");
        assert_eq!(join("log", "level"), "log.level");
    }
}
