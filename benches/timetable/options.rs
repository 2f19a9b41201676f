//! What the command line says.

use std::path::PathBuf;

/// The words behind `--`.
pub struct Options(Vec<String>);

impl Options {
    pub fn read() -> Self {
        // cargo adds `--bench` by itself.
        Self(std::env::args().skip(1).collect())
    }

    pub fn words(&self) -> Vec<&str> {
        self.0.iter().map(String::as_str).collect()
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|word| word == name)
    }

    /// What stands behind `name`.
    pub fn value(&self, name: &str) -> Option<&str> {
        let at = self.0.iter().position(|word| word == name)?;
        let value = self.0.get(at + 1).map(String::as_str);
        Some(value.unwrap_or_else(|| panic!("{name} needs a value")))
    }

    pub fn number(&self, name: &str) -> Option<usize> {
        let text = self.value(name)?;
        Some(
            text.parse()
                .unwrap_or_else(|_| panic!("{name} needs a number, and not {text}")),
        )
    }

    /// Writes the results to where `--json` says.
    pub fn write_json(&self, results: &serde_json::Value) {
        if let Some(path) = self.value("--json").map(PathBuf::from) {
            let text = serde_json::to_string_pretty(results).expect("it is JSON");
            std::fs::write(&path, text + "\n")
                .unwrap_or_else(|error| panic!("{} cannot be written: {error}", path.display()));
        }
    }
}
