//! `check`: every problem at once.

use std::path::Path;

use crate::config;

pub(super) fn run(path: &Path) -> anyhow::Result<()> {
    let loaded = config::load(path, std::env::vars())?;
    for warning in &loaded.warnings {
        println!("warning: {warning}");
    }
    println!("{}: ok", path.display());
    Ok(())
}
