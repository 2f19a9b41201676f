//! Imports point one way, from the right to the left of this list.

use std::path::Path;

const ORDER: [&[&str]; 11] = [
    &["hex"],
    &["clock", "scheduling", "secret", "tls", "trace"],
    &["oauth", "visitor"],
    &["session"],
    &["dressipi"],
    &["config"],
    &["telemetry"],
    &["gate"],
    &["proxy", "admin"],
    &["server"],
    &["cli"],
];

/// The simulator shares nothing with the client; only the command line starts it.
const APART: &str = "simulator";

fn layer(module: &str) -> usize {
    let found = ORDER.iter().position(|layer| layer.contains(&module));
    found.unwrap_or_else(|| panic!("`{module}` has no place in the order of modules"))
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| {
            if path.is_dir() {
                files(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}

/// The modules that a source text names by `crate::…`, in `use` declarations and elsewhere.
fn imports(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let code = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n");
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            // `use crate::{a, b::c}`: the first segment of each member at the top level.
            let mut depth = 0;
            let mut member = String::new();
            for letter in group.chars() {
                match letter {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => found.push(std::mem::take(&mut member)),
                    _ if depth == 0 => member.push(letter),
                    _ => {}
                }
            }
            found.push(member);
        } else {
            found.push(rest.to_owned());
        }
    }
    let first_segment = |path: String| {
        path.trim()
            .split(|c: char| !c.is_alphanumeric() && c != '_')
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    found
        .into_iter()
        .map(first_segment)
        .filter(|name| !name.is_empty())
        .collect()
}

#[test]
fn imports_point_one_way() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut checked = 0;
    for path in files(&source) {
        let relative = path.strip_prefix(&source).unwrap();
        let module = relative
            .iter()
            .next()
            .unwrap()
            .to_str()
            .unwrap()
            .trim_end_matches(".rs");
        if matches!(module, "lib" | "main") || path.extension().is_none_or(|ending| ending != "rs")
        {
            continue;
        }
        for import in imports(&std::fs::read_to_string(&path).unwrap()) {
            checked += 1;
            let allowed = match (module, import.as_str()) {
                (one, other) if one == other => true,
                (APART, _) => false,
                (user, APART) => user == "cli",
                (user, used) => layer(used) < layer(user),
            };
            assert!(
                allowed,
                "{}: `{module}` may not use `{import}`",
                relative.display()
            );
        }
    }
    assert!(checked > 100, "the scan finds imports: {checked}");
}

#[test]
fn the_scan_sees_what_it_should() {
    assert_eq!(imports("use crate::{a, b::{c, d}, e};"), ["a", "b", "e"]);
    assert_eq!(
        imports("use crate::config::Route; let x = crate::proxy::f(); // crate::no"),
        ["config", "proxy"]
    );
}

/// The pure modules take values and `now`; they touch neither clock, network nor disk.
#[test]
fn pure_modules_do_no_io() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let pure = [
        "oauth",
        "visitor",
        "session/flow",
        "session/freshness.rs",
        "session/record.rs",
        "session/overview.rs",
        "session/codec.rs",
        "session/moving/format.rs",
        "session/moving/summary.rs",
        "gate/body.rs",
        "gate/connection.rs",
        "gate/fields.rs",
        "gate/framing.rs",
        "gate/head.rs",
        "gate/line.rs",
        "gate/refusal.rs",
        "proxy/path.rs",
        "proxy/route.rs",
        "proxy/edit.rs",
        "proxy/headers.rs",
        "proxy/names.rs",
        "proxy/forwarded.rs",
        "proxy/identity.rs",
        "proxy/replay.rs",
        "proxy/rescue.rs",
        "trace.rs",
        "telemetry/openmetrics.rs",
        "telemetry/traces/otlp.rs",
    ];
    let forbidden = [
        "SystemTime",
        "Instant",
        "std::fs",
        "std::net::Tcp",
        "tokio::",
        "reqwest",
        ".now()",
        "std::env",
    ];
    for place in pure {
        let path = source.join(place);
        let paths = if path.is_dir() {
            files(&path)
        } else {
            vec![path]
        };
        for path in paths {
            let text = std::fs::read_to_string(&path).unwrap();
            for word in forbidden {
                assert!(!text.contains(word), "{}: {word}", path.display());
            }
        }
    }
}
