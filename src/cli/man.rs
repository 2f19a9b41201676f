//! `man`: the manual, made of the same definition that reads the command line.

use std::path::Path;

use anyhow::Context;
use clap::CommandFactory;
use clap_mangen::Man;

use super::Arguments;
use super::schema::print;

/// Prints the page of the whole, or writes one page for each command into a folder, `dressipi-sidecar-serve.1` and so on.
pub(super) fn run(directory: Option<&Path>) -> anyhow::Result<()> {
    let Some(directory) = directory else {
        let mut text = Vec::new();
        let command = Arguments::command().disable_help_subcommand(true);
        Man::new(command).render(&mut text)?;
        return Ok(print(&text)?);
    };
    std::fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(Arguments::command(), directory))
        .with_context(|| format!("{}: the manual cannot be written", directory.display()))
}
