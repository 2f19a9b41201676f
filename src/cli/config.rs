//! `config show`: what is in force, and where each value came from.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::{Value, json};

use super::print;
use crate::config::{self, Entry, Shown};

/// What can be done with a configuration beside checking it and serving with it.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Print every key with the value that is in force and where it came from; secrets are masked.
    Show {
        /// The configuration file.
        #[arg(short, long, value_name = "FILE", env = "SIDECAR_CONFIG")]
        config: PathBuf,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
}

/// Values are not padded beyond this.
const WIDEST_VALUE: usize = 40;

pub(super) fn run(command: Command) -> anyhow::Result<()> {
    let Command::Show { config: path, json } = command;
    let entries = config::show(&config::load(&path, std::env::vars())?);
    match json {
        true => print(&format!("{:#}\n", object(&path, &entries))),
        false => print(&lines(&entries)),
    }
    Ok(())
}

/// One line a key: `key = value  # origin`, in columns.
fn lines(entries: &[Entry]) -> String {
    let rows: Vec<_> = entries
        .iter()
        .map(|entry| (&entry.key, entry.value.to_string(), &entry.origin))
        .collect();
    let widest = |widths: &mut dyn Iterator<Item = usize>| widths.max().unwrap_or_default();
    let keys = widest(&mut rows.iter().map(|(key, ..)| key.chars().count()));
    let values = widest(&mut rows.iter().map(|(_, value, _)| value.chars().count()));
    let values = values.min(WIDEST_VALUE);
    rows.iter()
        .map(|(key, value, origin)| format!("{key:keys$} = {value:values$}  # {origin}\n"))
        .collect()
}

/// For programs. The value of a secret is null, and `secret` says so.
fn object(path: &Path, entries: &[Entry]) -> Value {
    let entry = |entry: &Entry| {
        let (value, secret, file) = match &entry.value {
            Shown::Value(value) => (value.clone(), false, None),
            Shown::Nothing => (Value::Null, false, None),
            Shown::Secret => (Value::Null, true, None),
            Shown::SecretOf(file) => (Value::Null, true, Some(file.display().to_string())),
        };
        json!({
            "key": entry.key,
            "value": value,
            "origin": entry.origin,
            "secret": secret,
            "secret_file": file,
        })
    };
    let keys: Vec<_> = entries.iter().map(entry).collect();
    json!({ "file": path.display().to_string(), "keys": keys })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &str, value: impl Into<Shown>, origin: &str) -> Entry {
        Entry {
            key: key.to_owned(),
            value: value.into(),
            origin: origin.to_owned(),
        }
    }

    #[test]
    fn a_line_has_key_value_and_origin_in_columns() {
        let entries = [
            entry("log.level", "info", "default"),
            entry(
                "admin.token",
                Shown::SecretOf("/run/secrets/x".into()),
                "SIDECAR__ADMIN__TOKEN_FILE",
            ),
            entry("a", "x".repeat(60), "sidecar.toml:1"),
        ];
        let expected = format!(
            "log.level   = \"info\"                                    # default\n\
             admin.token = (secret, from /run/secrets/x)             # SIDECAR__ADMIN__TOKEN_FILE\n\
             a           = \"{}\"  # sidecar.toml:1\n",
            "x".repeat(60)
        );
        assert_eq!(lines(&entries), expected);
    }

    #[test]
    fn programs_are_told_what_is_secret() {
        let entries = [
            entry("limits.body_rate", 100_u64, "default"),
            entry("admin.token", Shown::SecretOf("/x".into()), "t.toml:1"),
        ];
        let expected = json!({"file": "t.toml", "keys": [
            {"key": "limits.body_rate", "value": 100, "origin": "default", "secret": false, "secret_file": null},
            {"key": "admin.token", "value": null, "origin": "t.toml:1", "secret": true, "secret_file": "/x"},
        ]});
        assert_eq!(object(Path::new("t.toml"), &entries), expected);
    }
}
