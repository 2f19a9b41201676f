//! `check`: every problem at once.

use std::path::Path;
use std::process::ExitCode;

use super::{EX_CONFIG, live, print, report};
use crate::config;

/// `live`: ask what it names, too, and whether a profile may be made without asking.
pub(super) fn run(path: &Path, json: bool, live: Option<bool>) -> ExitCode {
    let checked = config::load(path, std::env::vars());
    let file = path.display().to_string();
    if json {
        print(&format!("{:#}\n", report::json(&file, &checked)));
    } else {
        let look = report::Look::present();
        match &checked {
            Ok(loaded) => {
                eprint!("{}", report::warnings(loaded, look));
                print(&report::verdict(&file, loaded));
            }
            Err(problems) => eprint!("{}", report::problems(problems, look)),
        }
    }
    match checked {
        Ok(loaded) => match live.map(|yes| live::run(&loaded.config, yes)) {
            None | Some(Ok(true)) => ExitCode::SUCCESS,
            Some(Ok(false)) => ExitCode::FAILURE,
            Some(Err(error)) => {
                eprintln!("dressipi-sidecar: {error:#}");
                ExitCode::FAILURE
            }
        },
        Err(problems) if problems.is_unreadable() => ExitCode::FAILURE,
        Err(_) => ExitCode::from(EX_CONFIG),
    }
}
