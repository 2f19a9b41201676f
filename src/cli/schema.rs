//! `schema`: the JSON Schema of the configuration.

use std::io::{self, ErrorKind, Write};

use crate::config;

pub(super) fn run() -> anyhow::Result<()> {
    Ok(print(config::json_schema().as_bytes())?)
}

/// Prints a whole text. Whoever reads only its beginning (`| head`) has what they want.
pub(super) fn print(text: &[u8]) -> io::Result<()> {
    let mut output = io::stdout().lock();
    match output.write_all(text).and_then(|()| output.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}
