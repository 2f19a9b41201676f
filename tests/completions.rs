//! What the program says of itself: completions, manual, schema.

use std::io::Write;
use std::process::Stdio;

use crate::support::Process;

fn output(arguments: &[&str]) -> String {
    let output = Process::command().args(arguments).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
    assert!(error.is_empty(), "{arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// The subcommands that `--help` lists.
fn subcommands() -> Vec<String> {
    let help = output(&["--help"]);
    let list = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let list = list.take_while(|line| !line.is_empty());
    let names = list.filter_map(|line| line.split_whitespace().next());
    let names: Vec<_> = names
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect();
    assert!(
        names.len() >= 9 && names.contains(&"serve".to_owned()),
        "{names:?}"
    );
    names
}

#[test]
fn every_shell_completes_every_command() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let text = output(&["completions", shell]);
        assert!(text.contains("dressipi-sidecar"), "{shell}: {text}");
        for name in subcommands() {
            assert!(text.contains(&name), "{shell}: {name}");
        }
        // fish writes its options without dashes.
        assert!(
            text.contains("config") && text.contains("token-lifetime"),
            "{shell}"
        );
    }
}

#[test]
fn bash_reads_its_completions() {
    let mut bash = std::process::Command::new("bash");
    let mut bash = bash
        .arg("-n")
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let text = output(&["completions", "bash"]);
    bash.stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let read = bash.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&read.stderr);
    assert!(read.status.success() && error.is_empty(), "{error}");
}

#[test]
fn a_shell_that_nobody_has_is_a_wrong_command_line() {
    let output = Process::command()
        .args(["completions", "command.com"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn the_manual_has_a_page_for_every_command() {
    let page = output(&["man"]);
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("man1");
    assert_eq!(
        output(&["man", "--directory", folder.to_str().unwrap()]),
        ""
    );
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    for name in subcommands() {
        // In roff a hyphen that is meant has a backslash before it.
        let written = format!("dressipi\\-sidecar\\-{name}(1)");
        assert!(page.contains(&written), "{name}: {page}");
        assert!(
            read(&format!("dressipi-sidecar-{name}.1")).contains(&name),
            "{name}"
        );
    }
    assert_eq!(read("dressipi-sidecar.1"), page);
    let serve = read("dressipi-sidecar-serve.1");
    assert!(
        serve.contains("\\-\\-config") && serve.contains("SIDECAR_CONFIG"),
        "{serve}"
    );
    assert!(read("dressipi-sidecar-sessions-export.1").contains("\\-\\-output"));
}

#[test]
fn a_manual_that_cannot_be_written_says_where() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let output = Process::command()
        .args(["man", "--directory", path])
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains(path), "{error}");
}

#[test]
fn schema_prints_the_committed_one() {
    assert_eq!(
        output(&["schema"]),
        include_str!("../config/sidecar.schema.json")
    );
}

#[test]
fn whoever_reads_only_the_beginning_is_no_error() {
    let mut schema = Process::command();
    let mut schema = schema
        .arg("schema")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(schema.stdout.take());
    let ended = schema.wait_with_output().unwrap();
    assert!(
        ended.status.success() && ended.stderr.is_empty(),
        "{ended:?}"
    );
}
