//! PURE: the line of the file that a problem means, as far as it may be shown: beside a problem nobody may read a secret.
//!
//! Of a file that was understood it is known what is a secret: the values of secret keys, and those of keys that do not exist
//! and may be misspelt ones. They are replaced, and comments are cut off. Of a file that was not understood a line is shown only
//! if it is plain that it holds nothing but the value of a key that is no secret.

use std::collections::HashSet;
use std::ops::Range;

use super::spans::{Part, Places, Position, Written};

/// A line of the file, as it may be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excerpt {
    /// The line, without its end.
    pub line: String,
    /// The bytes of it that are meant.
    pub marked: Range<usize>,
}

/// What is known of a position.
pub(super) struct Quoted {
    /// How many characters are meant; `None` for secrets.
    pub(super) length: Option<usize>,
    /// The line, if it may be shown.
    pub(super) excerpt: Option<Excerpt>,
}

/// The lines of a file.
pub(super) struct Lines<'a> {
    text: &'a str,
    /// What is never shown; `None`: nobody knows.
    hidden: Option<Vec<Range<usize>>>,
    /// Keys and values, in which a `#` begins no comment.
    solid: Vec<Range<usize>>,
}

/// Secret keys, wherever they stand but among the names of headers.
const SECRETS: [&str; 5] = [
    "api_key",
    "client_id",
    "password",
    "sentinel_password",
    "token",
];
/// A secret key whose name is that of a section elsewhere.
const COLLECTOR_HEADERS: &str = "traces.headers";
/// Where keys with the same names hold the names of headers.
const HEADERS: &str = "dressipi.headers.";
/// Keys whose values may hold a password although they should not.
const URLS: [&str; 4] = ["base_url", "url", "urls", "endpoint"];
/// What stands for a value that is not shown.
const HIDDEN: &str = "(hidden)";
/// Where all keys are written.
const REFERENCE: &str = include_str!("../../config/reference.toml");
/// What a line of which little is known must not mention.
const SUSPICIOUS: [&str; 7] = ["key", "token", "pass", "secret", "client", "auth", "@"];

// === impl Lines ===

impl<'a> Lines<'a> {
    /// Those of a file that was understood; `private`: the paths of further keys that may be secret.
    pub(super) fn parsed(text: &'a str, places: &Places, private: &[String]) -> Self {
        let all = places.written();
        let hidden = all
            .iter()
            .filter(|written| is_hidden(text, written, all, private));
        let solid = all.iter().filter(|written| written.part != Part::Whole);
        Self {
            text,
            hidden: Some(hidden.map(|written| written.span.clone()).collect()),
            solid: solid.map(|written| written.span.clone()).collect(),
        }
    }

    /// Those of a file that was not understood.
    pub(super) fn unparsed(text: &'a str) -> Self {
        Self {
            text,
            hidden: None,
            solid: Vec::new(),
        }
    }

    /// What is known of the line at `position`.
    pub(super) fn quote(&self, position: Position) -> Option<Quoted> {
        let Position { start, end, .. } = position;
        let before = self.text.get(..start)?;
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        let line = self.text[line_start..].split('\n').next()?;
        let line = line.strip_suffix('\r').unwrap_or(line);
        let line = &line[..self.comment(line, line_start)];
        let end = end.clamp(start, (line_start + line.len()).max(start));
        let meant = self.text.get(start..end)?;
        let none = Vec::new();
        let hidden = match &self.hidden {
            Some(hidden) => hidden,
            None if is_harmless(line) => &none,
            None => {
                let (length, excerpt) = (None, None);
                return Some(Quoted { length, excerpt });
            }
        };
        let within = |span: &&Range<usize>| span.start < end && start < span.end;
        let secret = hidden.iter().any(|span| within(&span));
        let length = (!secret).then(|| meant.chars().count().max(1));
        let excerpt =
            (!line.trim().is_empty()).then(|| redact(line, line_start, start..end, hidden));
        Some(Quoted { length, excerpt })
    }

    /// Where the comment of a line begins, or the white space before it.
    fn comment(&self, line: &str, line_start: usize) -> usize {
        let is_solid = |byte| self.solid.iter().any(|span| span.contains(&byte));
        let begin = line
            .match_indices('#')
            .map(|(at, _)| at)
            .find(|at| !is_solid(line_start + at));
        match begin {
            Some(at) => line[..at].trim_end().len(),
            None => line.len(),
        }
    }
}

/// Whether a secret stands at `path`.
pub(super) fn is_secret(path: &str) -> bool {
    let mut names = path.split('.');
    let named = !path.starts_with(HEADERS) && names.any(|name| SECRETS.contains(&name));
    let below = path.strip_prefix(COLLECTOR_HEADERS);
    named || below.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// Whether what is written may be a secret.
fn is_hidden(text: &str, written: &Written, all: &[Written], private: &[String]) -> bool {
    let Written { path, span, part } = written;
    if *part == Part::Key {
        // A key that is none by its looks may hold anything: the file is read in another way than it was written.
        let is_word = |c: char| c.is_alphanumeric() || "_-.\"'".contains(c);
        return !text[span.clone()].chars().all(is_word);
    }
    let below = |private: &String| {
        path.strip_prefix(private.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    let plain = path.split('[').next().unwrap_or_default();
    let secret = is_secret(path);
    let url = *part == Part::Scalar
        && URLS.contains(&plain.rsplit('.').next().unwrap_or_default())
        && text[span.clone()].contains(['@', '?', '#']);
    let hidden = secret || url || private.iter().any(below);
    hidden && !is_head(written, all)
}

/// Whether the place of a section is its head, `[section]`, which has the name in it and nothing else.
fn is_head(section: &Written, all: &[Written]) -> bool {
    let within =
        |span: &Range<usize>| section.span.start <= span.start && span.end <= section.span.end;
    section.part == Part::Whole
        && all.iter().any(|other| {
            other.part == Part::Key && other.path == section.path && within(&other.span)
        })
}

/// The line without what is hidden, and what is meant in it.
fn redact(line: &str, line_start: usize, meant: Range<usize>, hidden: &[Range<usize>]) -> Excerpt {
    let mut shown = String::new();
    // Where each byte of the line has gone.
    let mut moved = Vec::new();
    let mut over: Option<&Range<usize>> = None;
    for (at, c) in line.char_indices() {
        let byte = line_start + at;
        if let Some(span) = hidden.iter().find(|span| span.contains(&byte)) {
            if over.is_none_or(|over| !over.contains(&byte)) {
                moved.push((byte, shown.len()));
                shown.push_str(HIDDEN);
                over = Some(span);
            }
            continue;
        }
        moved.push((byte, shown.len()));
        // What moves the cursor is for nobody's terminal.
        shown.push(match c {
            '\t' => ' ',
            c if c.is_control() => char::REPLACEMENT_CHARACTER,
            c => c,
        });
    }
    let at_end = shown.char_indices().last().map_or(0, |(at, _)| at);
    let begun = moved.iter().rev().find(|(byte, _)| *byte <= meant.start);
    let start = match begun {
        Some((_, at)) if meant.start < line_start + line.len() => *at,
        // What is missing at the end is marked at the last character.
        _ => at_end,
    };
    let ended = moved
        .iter()
        .find(|(byte, at)| *byte >= meant.end && *at > start);
    let end = ended.map_or(shown.len(), |(_, at)| *at);
    Excerpt {
        line: shown,
        marked: start..end,
    }
}

/// Whether a line of a file that was not understood can hold no secret.
fn is_harmless(line: &str) -> bool {
    let known = known_names();
    let words = |text: &str| -> Vec<String> {
        let within = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
        let words = text.split(|c| !within(c)).filter(|word| !word.is_empty());
        words.map(str::to_owned).collect()
    };
    let head = |c: char| c.is_ascii_alphanumeric() || "_-.[] ".contains(c);
    if line.trim_start().starts_with('[') && line.chars().all(head) {
        return true;
    }
    let Some((key, value)) = line.split_once(['=', ':']) else {
        let number = |word: &str| word.len() <= 5 && word.bytes().all(|c| c.is_ascii_digit());
        let harmless = |word: &String| known.contains(word.as_str()) || number(word);
        return words(line).iter().all(harmless);
    };
    let value = value.to_lowercase();
    // Which section the line is of is not known.
    let of_collector = COLLECTOR_HEADERS.rsplit('.').next();
    let may_be_secret = |name: &str| SECRETS.contains(&name) || Some(name) == of_collector;
    let harmless = |name: &String| known.contains(name.as_str()) && !may_be_secret(name);
    words(key).last().is_some_and(harmless) && !SUSPICIOUS.iter().any(|word| value.contains(word))
}

/// The names of all keys and sections.
fn known_names() -> HashSet<&'static str> {
    let name = |line: &'static str| {
        let line = line.strip_prefix('#').unwrap_or(line);
        let key = line.split_once(" = ").map(|(key, _)| key);
        let key = key.or_else(|| line.strip_prefix('['))?;
        let key = key.trim_matches(['[', ']']);
        let fits = |c: char| c.is_ascii_lowercase() || c == '_' || c == '.';
        (!key.is_empty() && key.chars().all(fits)).then_some(key)
    };
    REFERENCE
        .lines()
        .filter_map(name)
        .flat_map(|key| key.split('.'))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::config::{Format, formats};

    /// The line of the value of `path`, and what is marked in it.
    fn quote(text: &str, path: &str, unknown: &[&str]) -> (String, String, Option<usize>) {
        let (_, places) = formats::read("t.toml", text, Format::Toml).unwrap();
        let unknown: Vec<_> = unknown.iter().map(|path| (*path).to_owned()).collect();
        let lines = Lines::parsed(text, &places, &unknown);
        let crate::config::spans::Place::File(position) = places.value(path) else {
            panic!("{path} is nowhere");
        };
        let quoted = lines.quote(position).unwrap();
        let Excerpt { line, marked } = quoted.excerpt.unwrap();
        let marked = line[marked].to_owned();
        (line, marked, quoted.length)
    }

    #[test]
    fn a_value_is_marked_in_its_line_and_comments_are_cut_off() {
        let text = "[log]\nlevel = 'a#b' # s3cr3t\n";
        let (line, marked, length) = quote(text, "log.level", &[]);
        assert_eq!((line.as_str(), marked.as_str()), ("level = 'a#b'", "'a#b'"));
        assert_eq!(length, Some(5));
        let (line, marked, _) = quote("[log] # s3cr3t\n", "log", &[]);
        assert_eq!((line.as_str(), marked.as_str()), ("[log]", "[log]"));
    }

    #[test]
    fn secrets_and_the_values_of_unknown_keys_are_replaced() {
        let text = "dressipi = { api_key = 's3cr3t', 'é' = 's3cr3t', timeout = '7' }\n\
                    admin.token = '''s3cr3t\ns3cr3t'''\n\
                    session.redis.urls = ['redis://s3cr3t@h', 'redis://h']\n";
        let unknown = ["dressipi.\"é\""];
        let (line, marked, length) = quote(text, "dressipi.timeout", &unknown);
        assert_eq!(
            line,
            "dressipi = { api_key = (hidden), 'é' = (hidden), timeout = '7' }"
        );
        assert_eq!((marked.as_str(), length), ("'7'", Some(3)));
        let (_, marked, length) = quote(text, "dressipi.api_key", &unknown);
        assert_eq!((marked.as_str(), length), ("(hidden)", None));
        let (line, marked, length) = quote(text, "admin.token", &[]);
        assert_eq!(line, "admin.token = (hidden)");
        assert_eq!((marked.as_str(), length), ("(hidden)", None));
        let (line, marked, _) = quote(text, "session.redis.urls[1]", &[]);
        assert!(!line.contains("s3cr3t"), "{line}");
        assert_eq!(marked, "'redis://h'");
    }

    #[test]
    fn a_key_that_is_none_by_its_looks_is_replaced() {
        let text = "[log]\n\"level = s3cr3t\" = 1\n\"a.b\" = 2\n";
        let (line, ..) = quote(text, "log.\"level…\"", &[]);
        assert_eq!(line, "(hidden) = 1");
        let (line, ..) = quote(text, "log.\"a.b\"", &[]);
        assert_eq!(line, "\"a.b\" = 2");
    }

    #[test]
    fn the_names_of_headers_are_no_secrets() {
        let (line, ..) = quote(
            "[dressipi.headers]\ntoken = 'a b'\n",
            "dressipi.headers.token",
            &[],
        );
        assert_eq!(line, "token = 'a b'");
    }

    #[test]
    fn of_a_file_that_is_not_understood_plain_lines_are_shown_alone() {
        for shown in [
            "[log",
            "level = \"info",
            "  \"dressipi\" 1",
            "level: [",
            "[[rutes]",
        ] {
            assert!(is_harmless(shown), "{shown}");
        }
        for kept in [
            "api_key = \"s3cr3t",
            "apikey = 's3cr3t",
            "s3cr3t",
            "  s3cr3t: x",
            "dressipi = { level = 1, api_key = 's3cr3t' ]",
            "base_url = \"https://u:s3cr3t@h",
            "headers = \"x-team=s3cr3t",
            "{ \"level\": 1, \"token\": \"s3cr3t\"",
            "\"s3cr3t\", ]",
        ] {
            assert!(!is_harmless(kept), "{kept}");
        }
    }

    #[test]
    fn control_characters_do_not_reach_a_terminal() {
        let line = "level = \u{1b}[31m";
        let shown = redact(line, 0, 8..9, &[]);
        assert_eq!(shown.line, "level = \u{fffd}[31m");
        assert_eq!(&shown.line[shown.marked], "\u{fffd}");
    }
}
