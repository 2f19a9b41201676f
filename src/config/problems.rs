//! What is wrong with a configuration: where, what, and how to mend it.
//!
//! A problem never holds the value of a secret key: the checks that make problems do not put one in.

use std::fmt;

use super::excerpt::{Excerpt, Lines};
use super::spans::Position;

/// One thing that is wrong, or, among the warnings, doubtful.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The configuration file, as it was named.
    pub file: String,
    /// The line in the file, from 1, where it is known: always in TOML, for other formats only in syntax errors.
    pub line: Option<usize>,
    /// The column in that line, in characters from 1.
    pub column: Option<usize>,
    /// How many characters are meant, as far as they are in that line. `None` for secrets, too: their length is nobody's business.
    pub length: Option<usize>,
    /// That line, as far as it may be shown.
    pub excerpt: Option<Excerpt>,
    /// What holds the value: the file, or something that has no line there.
    pub origin: Origin,
    /// The path of the key, such as `routes[1].upstream`; empty if the file as a whole is meant.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// How to mend it, where that is not plain.
    pub hint: Option<String>,
    /// The bytes of the file that are meant.
    pub(super) position: Option<Position>,
}

/// What holds a value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// The configuration file.
    File,
    /// A secret's file, which the configuration names.
    SecretFile(String),
    /// An environment variable.
    Variable(String),
}

/// Everything that is wrong: never empty, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    all: Vec<Problem>,
    unreadable: bool,
}

// === impl Problem ===

impl Problem {
    /// A problem of the file as a whole.
    pub(super) fn of_file(file: &str, message: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line: None,
            column: None,
            length: None,
            excerpt: None,
            origin: Origin::File,
            key: String::new(),
            message: message.into(),
            hint: None,
            position: None,
        }
    }

    /// At a place of the file.
    pub(super) fn at(mut self, position: Position) -> Self {
        self.line = Some(position.line);
        self.column = Some(position.column);
        self.position = Some(position);
        self
    }

    /// The name of what holds the value.
    pub fn origin_name(&self) -> &str {
        match &self.origin {
            Origin::File => &self.file,
            Origin::SecretFile(name) | Origin::Variable(name) => name,
        }
    }

    /// With advice.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Lines of the file first, then what has no line, then secrets' files, then the environment.
    fn order(&self) -> (&Origin, usize, usize) {
        let end = usize::MAX;
        (
            &self.origin,
            self.line.unwrap_or(end),
            self.column.unwrap_or(end),
        )
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.origin_name())?;
        for number in [self.line, self.column].into_iter().flatten() {
            write!(f, ":{number}")?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "; hint: {hint}"),
            None => Ok(()),
        }
    }
}

// === impl Problems ===

impl Problems {
    /// Sorts them; `None` if there are none.
    pub(super) fn new(mut problems: Vec<Problem>) -> Option<Self> {
        sort(&mut problems);
        (!problems.is_empty()).then_some(Self::of(problems))
    }

    /// The file cannot be read at all.
    pub(super) fn unreadable(problem: Problem) -> Self {
        Self {
            unreadable: true,
            ..problem.into()
        }
    }

    /// All of them, in the order of the file.
    pub fn as_slice(&self) -> &[Problem] {
        &self.all
    }

    /// Whether nothing is known of the configuration, since its file cannot be read.
    pub fn is_unreadable(&self) -> bool {
        self.unreadable
    }

    /// With the lines that are meant.
    pub(super) fn quoted(mut self, lines: &Lines<'_>) -> Self {
        quote(&mut self.all, lines);
        self
    }

    fn of(all: Vec<Problem>) -> Self {
        Self {
            all,
            unreadable: false,
        }
    }

    /// One by one, in the order of the file.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.all.iter()
    }
}

/// Puts problems, or warnings, into the order of the file.
pub(super) fn sort(problems: &mut [Problem]) {
    problems.sort_by(|a, b| a.order().cmp(&b.order()));
}

/// Gives problems, or warnings, the lines that they mean.
pub(super) fn quote(problems: &mut [Problem], lines: &Lines<'_>) {
    for problem in problems {
        let quoted = problem.position.and_then(|position| lines.quote(position));
        if let Some(quoted) = quoted {
            problem.length = quoted.length;
            problem.excerpt = quoted.excerpt;
        }
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self::of(vec![problem])
    }
}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.all.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
