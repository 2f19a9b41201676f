//! `completions`: what a shell completes by, made of the same definition that reads the command line.

use clap::CommandFactory;
use clap_complete::Shell;

use super::Arguments;
use super::schema::print;

pub(super) fn run(shell: Shell) -> anyhow::Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(
        shell,
        &mut Arguments::command(),
        "dressipi-sidecar",
        &mut text,
    );
    Ok(print(&text)?)
}
