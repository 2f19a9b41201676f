//! Holds the shipped configuration files against the code: they load, and the reference names every key and its default.

use std::collections::BTreeSet;
use std::path::Path;

use config::{Value, ValueKind};
use serde::Deserialize;
use serde_path_to_error::Track;
use toml::de::{DeTable, DeValue};

use super::file::File;
use super::strict::{Refusal, Strict};
use super::{Config, Format, Loaded, load, load_text};
use crate::session::StoreSettings;

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config")
}

fn shipped(name: &str) -> Loaded {
    load(&folder().join(name), []).unwrap_or_else(|problems| panic!("{problems}"))
}

/// The keys that a section takes, found by asking for one that no section has. `None`: no section, but a value.
fn keys_of(section: &[(&'static str, bool)]) -> Option<&'static [&'static str]> {
    let wrong = "no such key";
    let table = |key: &str, value: Value| {
        Value::new(None, config::Map::from_iter([(key.to_owned(), value)]))
    };
    let innermost = table(wrong, Value::new(None, true));
    let tree = section
        .iter()
        .rev()
        .fold(innermost, |value, (key, list)| match list {
            true => table(key, Value::new(None, vec![value])),
            false => table(key, value),
        });
    let mut track = Track::new();
    let deserializer = serde_path_to_error::Deserializer::new(Strict(&tree), &mut track);
    match File::deserialize(deserializer) {
        Err(Refusal::UnknownKey { expected }) if track.path().to_string().ends_with(wrong) => {
            Some(expected)
        }
        _ => None,
    }
}

/// The written names of all keys below a section, without the numbers of list elements.
fn all_keys(section: &mut Vec<(&'static str, bool)>, prefix: &str, found: &mut BTreeSet<String>) {
    for key in keys_of(section).unwrap_or_default() {
        let path = format!("{prefix}{key}");
        found.insert(path.clone());
        for list in [false, true] {
            section.push((key, list));
            all_keys(section, &format!("{path}."), found);
            section.pop();
        }
    }
}

/// The written names of all keys that have values, without the numbers of list elements.
pub(super) fn leaves() -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    all_keys(&mut Vec::new(), "", &mut known);
    let sections = known.clone();
    let below = |key: &String| {
        let prefix = format!("{key}.");
        sections.iter().any(|other| other.starts_with(&prefix))
    };
    known.retain(|key| !below(key));
    known
}

fn named_keys(table: &DeTable<'_>, prefix: &str, found: &mut BTreeSet<String>) {
    for (key, value) in table {
        let path = format!("{prefix}{}", key.get_ref());
        let elements = match value.get_ref() {
            DeValue::Array(list) => list.iter().map(|value| value.get_ref()).collect(),
            value => vec![value],
        };
        for value in elements {
            if let DeValue::Table(table) = value {
                named_keys(table, &format!("{path}."), found);
            }
        }
        found.insert(path);
    }
}

#[test]
fn every_shipped_file_loads() {
    let warnings = |name| {
        shipped(name)
            .warnings
            .iter()
            .map(|w| w.key.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(warnings("reference.toml"), ["session.keys_file"]);
    assert_eq!(warnings("minimal.toml"), ["session.keys_file", "admin"]);
    assert_eq!(warnings("demo.toml"), ["session.store", "cookie.secure"]);
}

#[test]
fn the_redis_example_loads_where_its_secrets_are() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "hunter2\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&secret, mode).unwrap();
    let at_home = |key: &str| (key.to_owned(), secret.display().to_string());
    let variables = [
        at_home("SIDECAR__SESSION__KEYS_FILE"),
        at_home("SIDECAR__SESSION__REDIS__PASSWORD_FILE"),
    ];
    let loaded = load(&self::folder().join("redis.toml"), variables)
        .unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(loaded.warnings.len(), 0, "{:?}", loaded.warnings);
    assert!(!format!("{:?}", loaded.config).contains("hunter2"));
    let StoreSettings::Redis { settings, .. } = loaded.config.store else {
        panic!("{:?}", loaded.config.store);
    };
    assert!(settings.tls.is_some() && settings.wait.is_some());
    assert_eq!(settings.login.password.unwrap().expose(), "hunter2");
}

/// Whoever adds an example adds it to the tests above.
#[test]
fn every_shipped_file_is_known_here() {
    let files = std::fs::read_dir(folder()).unwrap();
    let mut names: Vec<_> = files
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "demo.toml",
            "minimal.toml",
            "redis.toml",
            "reference.toml",
            "sidecar.schema.json"
        ]
    );
}

#[test]
fn every_shipped_configuration_tells_editors_of_the_schema() {
    for name in ["demo.toml", "minimal.toml", "redis.toml", "reference.toml"] {
        let text = std::fs::read_to_string(folder().join(name)).unwrap();
        assert!(
            text.starts_with("#:schema ./sidecar.schema.json\n"),
            "{name}"
        );
    }
}

/// The keys that `reference.toml` names, written out or behind a `#`.
pub(super) fn keys_of_the_reference() -> BTreeSet<String> {
    let text = std::fs::read_to_string(folder().join("reference.toml")).unwrap();
    let is_key =
        |line: &str| line.starts_with(|c: char| c.is_ascii_lowercase()) && line.contains(" = ");
    let uncommented = text.lines().map(|line| {
        line.strip_prefix('#')
            .filter(|rest| is_key(rest))
            .unwrap_or(line)
    });
    let uncommented = uncommented.collect::<Vec<_>>().join("\n");
    let mut named = BTreeSet::new();
    named_keys(
        DeTable::parse(&uncommented).unwrap().get_ref(),
        "",
        &mut named,
    );
    named
}

#[test]
fn the_reference_names_every_key_and_no_other() {
    let mut known = BTreeSet::new();
    all_keys(&mut Vec::new(), "", &mut known);
    assert!(known.contains("dressipi.headers.token_value") && known.contains("routes.subn_header"));
    assert_eq!(keys_of_the_reference(), known);
}

#[test]
fn the_reference_shows_the_defaults() {
    let required = r#"
        listeners = [{ address = "0.0.0.0:8080" }]
        dressipi = { base_url = "https://dressipi.shop.example", client_id = "your-client-id" }
        session.path = "/var/lib/dressipi-sidecar/sessions.redb"
        routes = [{ path = "/api/", upstream = "dressipi" }, { path = "/", upstream = "shop" }]
        upstreams = [{ name = "shop", address = "127.0.0.1:3000" }]
        admin.address = "127.0.0.1:9901"
    "#;
    let defaults = load_text("required.toml", required, Format::Toml, &folder(), []).unwrap();
    let debug = |config: &Config| format!("{config:#?}");
    assert_eq!(
        debug(&shipped("reference.toml").config),
        debug(&defaults.config)
    );
}

#[test]
fn the_defaults_are_those_of_the_parts() {
    let config = shipped("minimal.toml").config;
    assert_eq!(config.session, crate::session::Settings::default());
    assert_eq!(config.cookie, crate::visitor::CookieSettings::default());
    assert_eq!(config.consent, crate::visitor::ConsentRules::default());
    assert_eq!(config.creation, crate::visitor::CreationRules::default());
    assert_eq!(config.dressipi.headers, crate::dressipi::Headers::default());
    assert!(
        matches!(config.store, StoreSettings::Redb { cache_bytes, .. } if cache_bytes == 64 << 20)
    );
}

#[test]
fn the_demonstration_is_on_localhost() {
    let config = shipped("demo.toml").config;
    assert_eq!(
        config.listeners[0].address,
        crate::config::ListenAddress::Tcp("127.0.0.1:8080".parse().unwrap())
    );
    assert_eq!(
        config.admin.map(|admin| admin.address),
        "127.0.0.1:9901".parse().ok()
    );
    assert_eq!(config.dressipi.base_url.authority(), "127.0.0.1:8090");
    assert_eq!(config.cookie.name, "dressipi-visitor");
    assert!(!config.cookie.secure);
    let paths: Vec<_> = config
        .routes
        .iter()
        .map(|route| route.path.as_str())
        .collect();
    assert_eq!(paths, ["/api/", "/t/", "/"]);
}

#[test]
fn the_key_finder_knows_sections_from_values() {
    assert!(keys_of(&[("log", false)]).is_some());
    assert!(keys_of(&[("log", false), ("level", false)]).is_none());
    assert!(keys_of(&[("routes", false)]).is_none());
    let nothing = ValueKind::Nil;
    assert!(File::deserialize(Strict(&Value::new(None, nothing))).is_err());
}
