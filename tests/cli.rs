//! The command line, as users type it.

use std::path::Path;

use crate::support::Process;

fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Process::command().args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn every_shipped_configuration_passes_check() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    names.sort();
    assert_eq!(names.len(), 3, "demo, minimal, reference");
    for path in names {
        let (code, out, err) = run(&["check", "--config", path.to_str().unwrap()]);
        assert_eq!(code, Some(0), "{}: {err}", path.display());
        assert!(out.ends_with(": ok\n"), "{out}");
    }
}

#[test]
fn a_wrong_configuration_exits_78_with_file_line_and_key_of_every_problem() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sidecar.toml");
    std::fs::write(&path, "[dressipi]\nbase_url = 7\nclient = \"x\"\n").unwrap();
    for command in ["check", "serve"] {
        let (code, _, err) = run(&[command, "--config", path.to_str().unwrap()]);
        assert_eq!(code, Some(78), "{err}");
        for expected in [
            "sidecar.toml:2:",
            "dressipi.base_url",
            "sidecar.toml:3:",
            "dressipi.client",
            "listeners",
            "routes",
        ] {
            assert!(err.contains(expected), "{expected} is not in:\n{err}");
        }
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let (code, _, err) = run(&["check", "--config", "/nowhere/sidecar.toml"]);
    assert_eq!(code, Some(78));
    assert!(err.contains("/nowhere/sidecar.toml"), "{err}");
}

#[test]
fn a_wrong_command_line_exits_2_and_help_says_what_to_do_first() {
    assert_eq!(run(&["dance"]).0, Some(2));
    let (code, out, _) = run(&["--help"]);
    assert_eq!(code, Some(0));
    for expected in [
        "demo",
        "check",
        "serve",
        "simulator",
        "keygen",
        "First steps",
    ] {
        assert!(out.contains(expected), "{expected}");
    }
    let (code, out, _) = run(&["--version"]);
    assert_eq!(code, Some(0));
    assert_eq!(
        out.trim(),
        format!("dressipi-sidecar {}", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn keygen_prints_a_key_that_a_keyring_takes() {
    let (code, out, err) = run(&["keygen"]);
    assert_eq!(code, Some(0), "{err}");
    assert_ne!(out, run(&["keygen"]).1, "a new one each time");
    dressipi_sidecar::session::Keyring::parse(&out).unwrap();
}
