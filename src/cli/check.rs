//! `check`: every problem at once.

use std::path::Path;
use std::process::ExitCode;

use super::{EX_CONFIG, print, report};
use crate::config;

pub(super) fn run(path: &Path, json: bool) -> ExitCode {
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
        Ok(_) => ExitCode::SUCCESS,
        Err(problems) if problems.is_unreadable() => ExitCode::FAILURE,
        Err(_) => ExitCode::from(EX_CONFIG),
    }
}
