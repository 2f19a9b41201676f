//! What is wrong with a configuration: where, what, and how to mend it.
//!
//! A problem never holds the value of a secret key: the checks that make problems do not put one in.

use std::fmt;

/// One thing that is wrong, or, among the warnings, doubtful.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The configuration file, as it was named.
    pub file: String,
    /// The line in the file, from 1, where it is known: always in TOML, for other formats only in syntax errors.
    pub line: Option<usize>,
    /// The column in that line, in characters from 1.
    pub column: Option<usize>,
    /// The environment variable that the value came from, instead of a line.
    pub variable: Option<String>,
    /// The path of the key, such as `routes[1].upstream`; empty if the file as a whole is meant.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// How to mend it, where that is not plain.
    pub hint: Option<String>,
}

/// Everything that is wrong: never empty, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

// === impl Problem ===

impl Problem {
    /// A problem of the file as a whole.
    pub(super) fn of_file(file: &str, message: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line: None,
            column: None,
            variable: None,
            key: String::new(),
            message: message.into(),
            hint: None,
        }
    }

    /// With advice.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Lines of the file first, then what has no line, then the environment.
    fn order(&self) -> (Option<&str>, usize, usize) {
        let end = usize::MAX;
        (
            self.variable.as_deref(),
            self.line.unwrap_or(end),
            self.column.unwrap_or(end),
        )
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.variable {
            Some(variable) => f.write_str(variable)?,
            None => f.write_str(&self.file)?,
        }
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
        (!problems.is_empty()).then_some(Self(problems))
    }

    /// One by one, in the order of the file.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.0.iter()
    }
}

/// Puts problems, or warnings, into the order of the file.
pub(super) fn sort(problems: &mut [Problem]) {
    problems.sort_by(|a, b| a.order().cmp(&b.order()));
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
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
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
