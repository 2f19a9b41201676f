//! The file: TOML, YAML or JSON into one tree of values, by the `config` crate, and for TOML the place of every key.

use std::error::Error;
use std::ops::Range;

use config::{Format as _, Value};
use toml::de::{DeTable, DeValue};

use super::Format;
use super::problems::{Problem, Problems};
use super::spans::{Places, Position};

/// What helps with most syntax errors.
const NEARBY: &str = "the mistake may be a little before this place";

/// Reads the file.
pub(super) fn read(name: &str, text: &str, format: Format) -> Result<(Value, Places), Problems> {
    let places = match format {
        Format::Toml => toml_places(name, text)?,
        Format::Yaml | Format::Json => Places::default(),
    };
    let table = match format {
        Format::Toml => config::FileFormat::Toml.parse(None, text),
        Format::Yaml => config::FileFormat::Yaml.parse(None, text),
        Format::Json => config::FileFormat::Json.parse(None, text),
    };
    match table {
        Ok(table) => Ok((Value::new(None, table), places)),
        Err(error) => Err(syntax(name, text, format, &*error).into()),
    }
}

/// Parses TOML for the places of its keys. One syntax error only: what follows it is mostly its consequence.
fn toml_places(name: &str, text: &str) -> Result<Places, Problems> {
    let (document, errors) = DeTable::parse_recoverable(text);
    let start = |error: &toml::de::Error| error.span().map_or(usize::MAX, |span| span.start);
    if let Some(error) = errors.iter().min_by_key(|error| start(error)) {
        let hint = match error.message() {
            "duplicate key" => "leave one of the two out",
            _ => NEARBY,
        };
        let message = format!("not valid TOML: {}", error.message());
        let problem = Problem::of_file(name, message).hint(hint);
        return Err(match error.span() {
            Some(span) => problem.at(Position::of(text, span)).into(),
            None => problem.into(),
        });
    }
    if let Some(span) = too_large(document.get_ref().values()) {
        let problem =
            Problem::of_file(name, "the number is too large").hint("64 bits are the most");
        return Err(problem.at(Position::of(text, span)).into());
    }
    Ok(Places::of_toml(text, document.get_ref()))
}

/// Where the first number is that no 64 bits can hold: valid TOML, and refused later without a place.
fn too_large<'a>(
    values: impl Iterator<Item = &'a toml::Spanned<DeValue<'a>>>,
) -> Option<Range<usize>> {
    for value in values {
        let found = match value.get_ref() {
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .is_err()
                .then(|| value.span()),
            DeValue::Table(table) => too_large(table.values()),
            DeValue::Array(array) => too_large(array.iter()),
            _ => None,
        };
        if found.is_some() {
            return found;
        }
    }
    None
}

/// A syntax error of another format, with what its parser says about the place.
fn syntax(name: &str, file: &str, format: Format, error: &(dyn Error + 'static)) -> Problem {
    let text = error.to_string();
    let (mut line, mut column) = (None, None);
    let mut message = text.as_str();
    if let Some((before, place)) = text.rsplit_once(" line ")
        && let Some((first, second)) = place.split_once(" column ")
    {
        (line, column) = (first.parse().ok(), second.parse().ok());
        message = before.trim_end_matches(" at");
        if let Some((before, _)) = message.rsplit_once(" at byte ") {
            message = before;
        }
    }
    let mut hint = NEARBY;
    // A whole file that is a text, a list or a number: its parser would repeat all of it, with the secrets in it.
    if message.starts_with("invalid type: ") {
        message = "it holds no table of keys";
        hint = "a configuration is a table of sections: listeners, dressipi, session, routes";
    }
    let language = match format {
        Format::Toml => "TOML",
        Format::Yaml => "YAML",
        Format::Json => "JSON",
    };
    let problem = Problem::of_file(name, format!("not valid {language}: {message}")).hint(hint);
    match (line, column) {
        (Some(line), Some(column)) => problem.at(Position::at(file, line, column)),
        _ => problem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_one_text_is_refused_and_not_repeated() {
        for (format, text) in [
            (Format::Yaml, "[dressipi]\napi_key = \"s3cr3t\"\n"),
            (Format::Yaml, "api_key = \"s3cr3t\"\n"),
            (Format::Json, "\"s3cr3t\""),
            (Format::Json, "[\"s3cr3t\"]"),
        ] {
            let problems = read("f", text, format).unwrap_err();
            let shown: String = problems.iter().map(ToString::to_string).collect();
            assert!(!shown.contains("s3cr3t") && !shown.is_empty(), "{shown}");
        }
    }

    #[test]
    fn syntax_errors_have_a_place_in_every_format() {
        let broken = [
            (Format::Toml, "a = 1\nb = = 2\n", 2),
            (Format::Yaml, "a: 1\nb: [1,\nc: 2\n", 3),
            (Format::Json, "{\"a\": 1,\n \"b\" 2}", 2),
        ];
        for (format, text, line) in broken {
            let problems = read("f", text, format).unwrap_err();
            let problem = problems.iter().next().unwrap();
            assert_eq!(problem.line, Some(line), "{problem}");
            assert!(
                problem.column.is_some() && !problem.message.contains("line"),
                "{problem}"
            );
        }
    }
}
