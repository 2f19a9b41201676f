//! What the sections' parsers write to, and the questions that they all ask.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::problems::{self, Origin, Problem, Problems};
use crate::config::read::{self, Read};
use crate::config::show::{Origins, written_time};
use crate::config::spans::{self, Places};
use crate::config::values::Span;
use crate::config::warnings;
use crate::config::{Config, Loaded};

/// Collects problems and warnings of one file.
pub(super) struct Report<'a> {
    name: &'a str,
    base_dir: &'a Path,
    places: &'a Places,
    read: Read,
    warnings: Vec<Problem>,
    files: Vec<PathBuf>,
}

// === impl Report ===

impl<'a> Report<'a> {
    /// A report that goes on from the problems of form.
    pub(super) fn new(name: &'a str, base_dir: &'a Path, read: Read, places: &'a Places) -> Self {
        Self {
            name,
            base_dir,
            places,
            read,
            warnings: Vec::new(),
            files: Vec::new(),
        }
    }

    /// The raw file, once.
    pub(super) fn take_file(&mut self) -> crate::config::file::File {
        std::mem::take(&mut self.read.file)
    }

    /// The value of `path` is wrong, and this is how to mend it.
    pub(super) fn problem(
        &mut self,
        path: &str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let problem = self.at(path, message.into(), Some(hint.into()));
        self.read.problems.push(problem);
    }

    /// What the secret's file `file`, which `path` names, holds is wrong.
    pub(super) fn problem_in(
        &mut self,
        file: &Path,
        path: &str,
        message: impl Into<String>,
        hint: &str,
    ) {
        self.read.problems.push(Problem {
            key: path.to_owned(),
            hint: Some(hint.to_owned()),
            origin: Origin::SecretFile(file.display().to_string()),
            ..Problem::of_file(self.name, message)
        });
    }

    /// `path` is allowed and still doubtful.
    pub(super) fn warning(
        &mut self,
        path: &str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let warning = self.at(path, message.into(), Some(hint.into()));
        self.warnings.push(warning);
    }

    /// `path` must be there. Silent if it was there in a wrong form: that is reported already.
    pub(super) fn missing(&mut self, path: &str, hint: impl Into<String>) {
        if !self.broken(path) {
            self.problem(path, "is missing", hint);
        }
    }

    /// Whether `path` was there, but so wrong that nothing can be said about its value.
    pub(super) fn broken(&self, path: &str) -> bool {
        self.read.broken(path)
    }

    /// A duration that must not be zero, or its default.
    pub(super) fn positive(
        &mut self,
        path: &str,
        value: Option<Span>,
        default: Duration,
    ) -> Duration {
        let duration = duration(value, default);
        // A default that is zero is so because of another key, and that one is reported.
        if value.is_some() && duration.is_zero() {
            let example = if default.is_zero() {
                "1s".to_owned()
            } else {
                written_time(default)
            };
            self.problem(
                path,
                "must be longer than zero",
                format!("such as {example:?}"),
            );
        }
        duration
    }

    /// A number from 1 to `most`, or its default.
    pub(super) fn count<N>(&mut self, path: &str, value: Option<N>, default: N, most: N) -> N
    where
        N: Copy + PartialOrd + From<u8> + std::fmt::Display,
    {
        let hint = format!("leave it out for {default}");
        self.count_or(path, value, default, most, hint)
    }

    /// The same, with what to do about another number.
    pub(super) fn count_or<N>(
        &mut self,
        path: &str,
        value: Option<N>,
        default: N,
        most: N,
        hint: impl Into<String>,
    ) -> N
    where
        N: Copy + PartialOrd + From<u8> + std::fmt::Display,
    {
        let value = value.unwrap_or(default);
        if value < N::from(1) || value > most {
            self.problem(path, format!("must be from 1 to {most}"), hint);
        }
        value
    }

    /// A file's path, from the configuration file's folder if it is relative.
    pub(super) fn file_path(&self, file: &str) -> PathBuf {
        self.base_dir.join(file)
    }

    /// The same for a file that is read now, and means something else when it holds something else.
    pub(super) fn file_to_read(&mut self, file: &str) -> PathBuf {
        let path = self.file_path(file);
        self.files.push(path.clone());
        path
    }

    /// The result: a configuration if there are no problems, and all of them otherwise.
    pub(super) fn finish(mut self, config: Option<Config>) -> Result<Loaded, Problems> {
        for risk in config.iter().flat_map(warnings::risks) {
            self.warning(&risk.path, risk.message, risk.hint);
        }
        problems::sort(&mut self.warnings);
        match (Problems::new(self.read.problems), config) {
            (None, Some(config)) => Ok(Loaded {
                config,
                warnings: self.warnings,
                files: self.files,
                origins: Origins::default(),
            }),
            (Some(problems), _) => Err(problems),
            // A parser gave up and did not say why: a fault of ours, and no reason to run without a configuration.
            (None, None) => Err(Problem::of_file(
                self.name,
                "cannot be used, for a reason that was not found",
            )
            .into()),
        }
    }

    fn at(&self, path: &str, message: String, hint: Option<String>) -> Problem {
        read::problem(self.name, path, self.places.value(path), message, hint)
    }
}

/// A duration that may be zero, or its default.
pub(super) fn duration(value: Option<Span>, default: Duration) -> Duration {
    value.map_or(default, |Span(duration)| duration)
}

/// The path of a key: `section.key`.
pub(super) fn key(section: &str, key: &str) -> String {
    spans::join(section, key)
}

/// The path of a list's element: `list[0]`.
pub(super) fn element(list: &str, number: usize) -> String {
    spans::index(list, number)
}
