//! How what is wrong with a configuration looks: for people, beside the line that is meant, and for programs, as JSON.
//!
//! The same input looks the same everywhere: nothing is wrapped, so no terminal's width matters, and [`Look`] alone decides
//! about colour. Lines come from the configuration's own excerpts, in which no secret is.

use std::fmt::{self, Write};
use std::io::IsTerminal;

use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteError,
    MietteSpanContents, Severity, SourceCode, SourceSpan, SpanContents, ThemeCharacters,
    ThemeStyles,
};
use serde_json::{Value, json};

use crate::config::{Loaded, Problem, Problems};

/// With what means problems are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Whether there is colour.
    pub colour: bool,
}

/// A problem or a warning, as `miette` draws it.
#[derive(Debug)]
struct Drawn<'a> {
    problem: &'a Problem,
    severity: Severity,
}

// === impl Look ===

impl Look {
    /// That of the present terminal. Without one there is no colour, nor where `NO_COLOR` is set (no-color.org).
    pub fn present() -> Self {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        let terminals = std::io::stdout().is_terminal() && std::io::stderr().is_terminal();
        Self {
            colour: terminals && !dumb && !set("NO_COLOR"),
        }
    }

    fn draw(self, all: &[Problem], severity: Severity) -> String {
        let styles = match self.colour {
            true => ThemeStyles::ansi(),
            false => ThemeStyles::none(),
        };
        let handler = GraphicalReportHandler::new_themed(GraphicalTheme {
            characters: ThemeCharacters::unicode(),
            styles,
        })
        .with_links(false)
        .with_wrap_lines(false)
        .with_context_lines(0);
        let mut text = String::new();
        for problem in all {
            let drawn = Drawn { problem, severity };
            if handler.render_report(&mut text, &drawn).is_err() {
                // Its line cannot be drawn; it can still be named.
                let _ = write!(text, "{problem}");
            }
            if !text.ends_with('\n') {
                text.push('\n');
            }
            text.push('\n');
        }
        text
    }
}

/// All problems, and how many they are.
pub fn problems(problems: &Problems, look: Look) -> String {
    let all = problems.as_slice();
    let file = all.first().map_or("", |problem| &problem.file);
    let drawn = look.draw(all, Severity::Error);
    format!("{drawn}{} in {file}\n", count(all.len(), "problem"))
}

/// All warnings; nothing if there are none.
pub fn warnings(loaded: &Loaded, look: Look) -> String {
    look.draw(&loaded.warnings, Severity::Warning)
}

/// The last line about a configuration that can be used.
pub fn verdict(file: &str, loaded: &Loaded) -> String {
    match loaded.warnings.len() {
        0 => format!("{file}: ok\n"),
        warnings => format!("{file}: ok, {}\n", count(warnings, "warning")),
    }
}

/// What came of `file`, for programs. The keys are documented in the README and stay.
pub fn json(file: &str, checked: &Result<Loaded, Problems>) -> Value {
    let (problems, warnings) = match checked {
        Ok(loaded) => (&[][..], &loaded.warnings[..]),
        Err(problems) => (problems.as_slice(), &[][..]),
    };
    let list = |all: &[Problem]| Value::Array(all.iter().map(object).collect());
    json!({
        "file": file,
        "ok": checked.is_ok(),
        "problems": list(problems),
        "warnings": list(warnings),
    })
}

fn object(problem: &Problem) -> Value {
    json!({
        "message": problem.message,
        "hint": problem.hint,
        "key": (!problem.key.is_empty()).then_some(&problem.key),
        "line": problem.line,
        "column": problem.column,
        "length": problem.length,
        "origin": problem.origin_name(),
    })
}

fn count(number: usize, of: &str) -> String {
    match number {
        1 => format!("1 {of}"),
        _ => format!("{number} {of}s"),
    }
}

impl fmt::Display for Drawn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let problem = self.problem;
        // Beside an excerpt its place is named already.
        if problem.excerpt.is_none() {
            f.write_str(problem.origin_name())?;
            for number in [problem.line, problem.column].into_iter().flatten() {
                write!(f, ":{number}")?;
            }
            f.write_str(": ")?;
        }
        if !problem.key.is_empty() {
            write!(f, "{}: ", problem.key)?;
        }
        f.write_str(&problem.message)
    }
}

impl std::error::Error for Drawn<'_> {}

impl Diagnostic for Drawn<'_> {
    fn severity(&self) -> Option<Severity> {
        Some(self.severity)
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        let hint = self.problem.hint.as_ref()?;
        Some(Box::new(hint))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.problem.excerpt.as_ref()?;
        Some(self)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let marked = &self.problem.excerpt.as_ref()?.marked;
        let label = LabeledSpan::new(None, marked.start, marked.len());
        Some(Box::new(std::iter::once(label)))
    }
}

/// The one line that is known.
impl SourceCode for Drawn<'_> {
    fn read_span<'a>(
        &'a self,
        _: &SourceSpan,
        _: usize,
        _: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let excerpt = self.problem.excerpt.as_ref();
        let line = excerpt.map_or("", |excerpt| &excerpt.line).as_bytes();
        let from_zero = |number: Option<usize>| number.unwrap_or(1).saturating_sub(1);
        Ok(Box::new(MietteSpanContents::new_named(
            self.problem.file.clone(),
            line,
            (0, line.len()).into(),
            from_zero(self.problem.line),
            from_zero(self.problem.column),
            1,
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::path::Path;

    use crate::config::{Format, load_text};

    fn drawn(text: &str, colour: bool) -> String {
        let problems = load_text("t.toml", text, Format::Toml, Path::new(""), []).unwrap_err();
        super::problems(&problems, Look { colour })
    }

    #[test]
    fn the_part_of_the_line_that_is_meant_is_underlined() {
        let drawn = drawn("[log]\nlevel = \"inof\" # note\n", false);
        let expected = "  × log.level: \"inof\" is not a log level\n   \
                        ╭─[t.toml:2:9]\n \
                        2 │ level = \"inof\"\n   \
                        ·         ──────\n   \
                        ╰────\n  \
                        help: did you mean \"info\"?\n\n";
        assert!(drawn.contains(expected), "{drawn}");
        assert!(drawn.ends_with(" problems in t.toml\n"), "{drawn}");
    }

    #[test]
    fn colour_is_there_only_where_it_is_asked_for() {
        let text = "[log]\nlevel = \"inof\"\n";
        assert!(drawn(text, true).contains('\u{1b}'));
        assert!(!drawn(text, false).contains('\u{1b}'));
    }

    #[test]
    fn one_problem_is_not_called_problems() {
        let text = "a = ";
        assert!(drawn(text, false).ends_with("\n1 problem in t.toml\n"));
    }
}
