//! One folder of `tests/config` is one case: `input.toml` (or `.yaml`, `.json`), perhaps `env` (`NAME=value` lines) and other
//! files, and what `check` says of it in `expected.txt`, each problem beside its line.
//!
//! `UPDATE=1 cargo test config_cases` writes the answers anew; read the difference before you believe it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dressipi_sidecar::cli::report::{self, Look};
use dressipi_sidecar::config::{self, Format};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};

/// A value that the cases give to secret keys; no answer may show it.
const CANARY: &str = "s3cr3t";

#[test]
fn every_configuration_case_is_answered_as_expected() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config");
    let update = std::env::var_os("UPDATE").is_some();
    let mut wrong = Vec::new();
    for case in folders(&root) {
        let copy = tempfile::tempdir().unwrap();
        copy_files(&case, copy.path());
        make_certificates(copy.path());
        let answer = answer(copy.path());
        assert!(!answer.contains(CANARY), "{}: {answer}", case.display());
        let path = case.join("expected.txt");
        if update {
            fs::write(&path, &answer).unwrap();
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        if answer != expected {
            wrong.push(format!(
                "{}\nexpected:\n{expected}\nfound:\n{answer}",
                case.display()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn folders(root: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(root)
        .expect("the cases are in the repository")
        .map(|entry| entry.expect("the folder can be read").path());
    let mut folders: Vec<_> = entries.filter(|path| path.is_dir()).collect();
    folders.sort();
    assert!(folders.len() >= 120, "cases are missing");
    folders
}

/// What git does not keep: the files are for their owner alone, but for those that are called loose.
fn copy_files(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap();
        let copy = to.join(name);
        if path.is_dir() {
            fs::create_dir(&copy).unwrap();
            copy_files(&path, &copy);
            continue;
        }
        fs::copy(&path, &copy).unwrap();
        let mode = match name.to_string_lossy().starts_with("loose") {
            true => 0o644,
            false => 0o600,
        };
        fs::set_permissions(&copy, Permissions::from_mode(mode)).unwrap();
    }
}

/// What cannot be kept since it ends: a line `name days` of the file `certificates` stands for name.pem and name.key, which end in so
/// many days.
fn make_certificates(folder: &Path) {
    let list = fs::read_to_string(folder.join("certificates")).unwrap_or_default();
    #[allow(
        clippy::disallowed_methods,
        reason = "certificates end by the calendar"
    )]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    for line in list.lines() {
        let (name, days) = line.split_once(' ').unwrap();
        let days: i64 = days.parse().unwrap();
        // An hour more, so that a slow machine counts the same days.
        let left = days * 86_400 + 3600;
        let end = now.as_secs().checked_add_signed(left).unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(end);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let mode = match name.starts_with("loose") {
            true => 0o644,
            false => 0o600,
        };
        for (ending, pem) in [("pem", certificate.pem()), ("key", key.serialize_pem())] {
            let path = folder.join(format!("{name}.{ending}"));
            fs::write(&path, pem).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        }
    }
}

fn answer(case: &Path) -> String {
    let names = ["input.toml", "input.yaml", "input.json"];
    let name = names.into_iter().find(|name| case.join(name).exists());
    let name = name.unwrap_or_else(|| panic!("{} has no input", case.display()));
    let text = fs::read_to_string(case.join(name)).expect("the input exists");
    let format = Format::of(Path::new(name)).expect("the names have endings");
    let env = fs::read_to_string(case.join("env")).unwrap_or_default();
    let env = env.lines().filter_map(|line| line.split_once('='));
    let env = env.map(|(variable, value)| (variable.to_owned(), value.to_owned()));
    let checked = config::load_text(name, &text, format, case, env);
    if let Ok(loaded) = &checked {
        let debug = format!("{:?}{:?}", loaded.config, config::show(loaded));
        assert!(!debug.contains(CANARY), "{}: {debug}", case.display());
    }
    for problem in checked.iter().flat_map(|loaded| &loaded.warnings) {
        assert!(problem.hint.is_some(), "{problem}");
    }
    for problem in checked.as_ref().err().into_iter().flatten() {
        assert!(problem.hint.is_some(), "{problem}");
    }
    let json = report::json(name, &checked).to_string();
    assert!(!json.contains(CANARY), "{}: {json}", case.display());
    let look = Look { colour: false };
    let answer = match &checked {
        Ok(loaded) => report::warnings(loaded, look) + &report::verdict(name, loaded),
        Err(problems) => report::problems(problems, look),
    };
    // The same on every machine: full paths are cut where the case begins.
    answer.replace(&format!("{}/", case.display()), "")
}
