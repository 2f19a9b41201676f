//! The schema's defaults and bounds are the true ones, what loads validates, and what is wrong in form does not.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Validator, keys, root, schema};
use crate::config::strict::Strict;
use crate::config::{Format, Problems, formats, load_text};

/// What is in a file, as an editor sees it.
fn typed(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap();
    let (tree, _) = formats::read("t", &text, Format::of(path).unwrap()).unwrap();
    Value::deserialize(Strict(&tree)).unwrap()
}

/// The case of `tests/config`: its input, and whether it loads.
fn case(folder: &Path) -> (PathBuf, bool) {
    let names = ["input.toml", "input.yaml", "input.json"];
    let mut inputs = names.iter().map(|name| folder.join(name));
    let answer = std::fs::read_to_string(folder.join("expected.txt")).unwrap();
    (
        inputs.find(|path| path.exists()).unwrap(),
        // The last line is the verdict.
        answer.lines().next_back().unwrap().contains(": ok"),
    )
}

/// Writes a value into a configuration, and the sections around it where they are missing.
fn put(config: &mut Value, pointer: &str, value: Value) {
    let (section, key) = pointer.rsplit_once('/').unwrap();
    if config.pointer(section).is_none() {
        put(config, section, json!({}));
    }
    match config.pointer_mut(section).unwrap() {
        Value::Array(list) => list.push(value),
        section => section[key] = value,
    }
}

/// Configurations in which, together, every key has a meaning.
fn bases(folder: &Path) -> Vec<Value> {
    let certificate = rcgen::generate_simple_self_signed(["shop.example".to_owned()]).unwrap();
    let write = |name, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&path, mode).unwrap();
    };
    write("keys", "of no matter");
    write("tls.crt", &certificate.cert.pem());
    write("tls.key", &certificate.signing_key.serialize_pem());
    let base = |session: Value| {
        json!({
            "listeners": [{ "address": "127.0.0.1:8080" }],
            "dressipi": { "base_url": "https://dressipi.shop.example", "client_id": "shop" },
            "session": session,
            "routes": [{ "path": "/", "upstream": "shop" }],
            "upstreams": [{ "name": "shop", "address": "127.0.0.1:3000" }],
            "admin": { "address": "127.0.0.1:9901" },
        })
    };
    let mut socket = base(json!({ "path": "sessions.redb" }));
    socket["listeners"] = json!([{
        "address": "unix:http.sock",
        "tls": { "cert_file": "tls.crt", "key_file": "tls.key" },
    }]);
    let redis = json!({ "url": "redis://127.0.0.1" });
    vec![
        socket,
        base(json!({ "path": "sessions.redb" })),
        base(json!({ "store": "memory" })),
        base(json!({ "store": "redis", "keys_file": "keys", "redis": redis })),
    ]
}

/// What the reader makes of a configuration.
fn meaning(config: &Value, folder: &Path) -> Result<String, Problems> {
    let loaded = load_text("t.json", &config.to_string(), Format::Json, folder, [])?;
    Ok(format!("{:#?}", loaded.config))
}

#[test]
fn a_default_is_what_happens_without_the_key() {
    let folder = tempfile::tempdir().unwrap();
    let bases = bases(folder.path());
    let meaning = |config: &Value| meaning(config, folder.path());
    let without: Vec<_> = bases.iter().map(|base| meaning(base).unwrap()).collect();
    let mut seen = 0;
    keys(&schema(), "", "", &mut |name, pointer, key, _| {
        let Some(default) = key.get("default") else {
            return;
        };
        let with = bases.iter().map(|base| {
            let mut config = base.clone();
            put(&mut config, pointer, default.clone());
            meaning(&config)
        });
        // Where it has no meaning it is refused.
        let pairs = with.zip(&without).filter(|(with, _)| with.is_ok());
        let pairs: Vec<_> = pairs
            .map(|(with, without)| with.unwrap() == *without)
            .collect();
        let differ = pairs.iter().filter(|same| !**same).count();
        // The store itself: the default one is another than that of the last two.
        let allowed = if name == "session.store" { 2 } else { 0 };
        assert!(!pairs.is_empty() && differ <= allowed, "{name}: {default}");
        seen += 1;
    });
    assert!(seen > 70, "{seen} defaults");
}

#[test]
fn the_bounds_are_those_of_the_reader() {
    let folder = tempfile::tempdir().unwrap();
    let bases = bases(folder.path());
    let read = |pointer: &str, value: u64| {
        let answers = bases.iter().map(|base| {
            let mut config = base.clone();
            // So many that the others have room below it.
            put(&mut config, "/session/max_flows", json!(100_000));
            put(&mut config, pointer, json!(value));
            meaning(&config, folder.path())
        });
        answers.collect::<Vec<_>>()
    };
    let taken = |pointer: &str, value| read(pointer, value).iter().any(Result::is_ok);
    let refused = |pointer: &str, value| {
        let mut problems = read(pointer, value).into_iter().filter_map(Result::err);
        problems.any(|problems| problems.to_string().contains("must be "))
    };
    let mut seen = 0;
    keys(&schema(), "", "", &mut |name, pointer, key, _| {
        if let Some(most) = key["maximum"].as_u64() {
            assert!(taken(pointer, most), "{name}: {most}");
            assert!(refused(pointer, most + 1), "{name}: more than {most}");
            seen += 1;
        }
        if let Some(least) = key["minimum"].as_u64() {
            assert!(taken(pointer, least), "{name}: {least}");
            assert!(
                least == 0 || refused(pointer, least - 1),
                "{name}: less than {least}"
            );
        }
    });
    assert!(seen > 10, "{seen} bounds");
}

#[test]
fn every_configuration_that_loads_validates() {
    let validator = Validator::new(schema());
    let files = std::fs::read_dir(root("config")).unwrap();
    let shipped = files.map(|entry| entry.unwrap().path());
    let shipped = shipped.filter(|path| path.extension().unwrap() == "toml");
    let cases = std::fs::read_dir(root("tests/config")).unwrap();
    let cases = cases.map(|entry| entry.unwrap().path());
    // Of keys that variables add an editor knows nothing.
    let cases = cases.filter(|path| path.is_dir() && !path.join("env").exists());
    let good = cases.map(|path| case(&path)).filter(|(_, loads)| *loads);
    let files: Vec<_> = shipped.chain(good.map(|(input, _)| input)).collect();
    for path in &files {
        let checked = validator.check(&typed(path));
        checked.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
    assert!(files.len() > 20, "{} files", files.len());
}

#[test]
fn wrong_keys_types_and_words_do_not_validate() {
    let validator = Validator::new(schema());
    let folder = tempfile::tempdir().unwrap();
    let bases = bases(folder.path());
    for base in &bases {
        validator.check(base).unwrap();
    }
    for (pointer, value) in [
        ("/cokie", json!({})),
        ("/log/levle", json!("info")),
        ("/listeners/0/adress", json!("0.0.0.0:80")),
        ("/session/redis/sentinel", json!(true)),
        ("/listeners", json!("0.0.0.0:80")),
        ("/listeners", json!([])),
        ("/listeners/0/address", json!(8080)),
        ("/listeners/0/address", json!("localhost")),
        ("/listeners/0/visitor", json!("cookie")),
        ("/listeners/0/visitor", json!(["cokie"])),
        ("/listeners/0/tls", json!(true)),
        ("/dressipi/timeout", json!(10)),
        ("/dressipi/timeout", json!("10")),
        ("/dressipi/timeout", json!(null)),
        ("/dressipi/client_id", json!(123)),
        ("/dressipi/client_key_file", json!("key")),
        ("/dressipi/base_url", json!("dressipi.shop.example")),
        ("/session/store", json!("redd")),
        ("/session/page_cache", json!("64 M")),
        ("/session/page_cache", json!(-1)),
        ("/session/max_flows", json!("64")),
        ("/session/max_flows", json!(0)),
        ("/session/redis/mode", json!("sentinal")),
        ("/cookie/same_site", json!("Lax")),
        ("/cookie/secure", json!("yes")),
        ("/creation/create", json!("always")),
        ("/creation/per_client", json!("600")),
        ("/creation/per_client", json!("0/1m")),
        ("/routes/0/path", json!("api/")),
        ("/routes/0/credentials", json!("apikey")),
        ("/routes/0/on_unavailable", json!(503)),
        ("/log/format", json!("xml")),
        ("/log/access", json!(1)),
        ("/server/threads", json!(1.5)),
        ("/server/threads", json!(4096)),
    ] {
        for base in &bases {
            let mut config = base.clone();
            put(&mut config, pointer, value.clone());
            assert!(validator.check(&config).is_err(), "{pointer}: {value}");
            assert!(meaning(&config, folder.path()).is_err() || value.is_null());
        }
    }
    for name in [
        "empty",
        "empty_sections",
        "limits",
        "redb_without_path",
        "redis_certificate_without_key",
        "redis_without_section",
        "redis_without_servers",
        "redis_wrong_mode",
        "sections_of_the_wrong_kind",
        "unknown_keys",
        "values_that_do_not_parse",
        "wrong_types",
        "yaml_problems",
    ] {
        let (input, loads) = case(&root("tests/config").join(name));
        assert!(
            !loads && validator.check(&typed(&input)).is_err(),
            "{name} validates"
        );
    }
}
