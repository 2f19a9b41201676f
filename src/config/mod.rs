//! The configuration: from a file and the environment to a [`Config`] that is known to make sense, or to everything that
//! is wrong with it at once.
//!
//! ```text
//! file ── formats ──────► tree of values ── read ──► file::File ── parse ──► Config
//! variables ─ environment ┘  (spans: where)   form      as typed     sense     what it means
//! ```
//!
//! `read` finds what is wrong in form (unknown keys, wrong types), `parse` what makes no sense (an upstream that does not
//! exist); each names the key, its line or its variable, and how to mend it. Secrets are read from their files here, once,
//! and appear in no problem. `schema` tells editors what `file::File` looks like. Nothing here listens, connects or writes.

mod environment;
mod excerpt;
mod file;
mod fixed;
mod formats;
mod model;
mod parse;
mod problems;
mod read;
mod schema;
mod show;
mod spans;
mod strict;
mod suggest;
mod values;
mod warnings;

#[cfg(test)]
mod shipped;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

pub use excerpt::Excerpt;
pub use fixed::needs_restart;
pub use model::{
    Admin, Config, Credentials, IdentityPeers, Limits, ListenAddress, Listener, Log, LogFormat,
    OnUnavailable, Route, Server, Traces, TrustedProxies, Upstream, UpstreamRef, UpstreamTls,
};
pub use problems::{Origin, Problem, Problems};
pub use schema::json_schema;
pub use show::{Entry, Origins, Shown, show};
pub use values::Ratio;

use excerpt::Lines;

/// Checks what is written as a log level; what is wrong with it, and how to mend it.
pub fn check_log_level(level: &str) -> Result<(), (String, String)> {
    parse::check_level(level)
}

/// A valid configuration.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What it means.
    pub config: Config,
    /// What is allowed and still doubtful.
    pub warnings: Vec<Problem>,
    /// The files that were read for it: secrets, keys and authorities. Those of listeners' certificates, which are followed by
    /// themselves, are not among them.
    pub files: Vec<PathBuf>,
    /// Where each value came from.
    pub origins: Origins,
}

/// The format of a configuration file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `.toml`: the one whose problems have lines.
    Toml,
    /// `.yaml` and `.yml`.
    Yaml,
    /// `.json`.
    Json,
}

// === impl Format ===

impl Format {
    /// The format that a file's ending tells.
    pub fn of(path: &Path) -> Option<Self> {
        let ending = path.extension()?.to_str()?;
        match ending.to_ascii_lowercase().as_str() {
            "toml" => Some(Self::Toml),
            "yaml" | "yml" => Some(Self::Yaml),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// Loads the configuration file at `path`, with the `SIDECAR__…` variables of `env` over it.
pub fn load(
    path: &Path,
    env: impl IntoIterator<Item = (String, String)>,
) -> Result<Loaded, Problems> {
    let name = path.display().to_string();
    let Some(format) = Format::of(path) else {
        let problem = Problem::of_file(&name, "has no ending that names a format");
        return Err(problem.hint("call it .toml, .yaml, .yml or .json").into());
    };
    let text = std::fs::read_to_string(path).map_err(|error| {
        let message = format!("cannot be read: {error}");
        Problems::unreadable(Problem::of_file(&name, message))
    })?;
    let folder = path.parent().unwrap_or(Path::new(""));
    load_text(&name, &text, format, folder, env)
}

/// Loads a configuration from a text. `name` stands for the file in problems; relative paths begin at `base_dir`.
pub fn load_text(
    name: &str,
    text: &str,
    format: Format,
    base_dir: &Path,
    env: impl IntoIterator<Item = (String, String)>,
) -> Result<Loaded, Problems> {
    let (mut tree, mut places) = formats::read(name, text, format)
        .map_err(|problems| problems.quoted(&Lines::unparsed(text)))?;
    let misfits = environment::lay_over(name, &mut tree, &mut places, env);
    let mut read = read::read(name, &mut tree, &places);
    read.problems.extend(misfits);
    let lines = Lines::parsed(text, &places, &read.private);
    let parsed = parse::parse(name, base_dir, read, &places);
    let mut loaded = parsed.map_err(|problems| problems.quoted(&lines))?;
    problems::quote(&mut loaded.warnings, &lines);
    loaded.origins = Origins::new(name, base_dir, &tree, places);
    Ok(loaded)
}
