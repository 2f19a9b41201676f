//! PURE: the configuration that is in force, key by key, with where each value came from.
//!
//! Every key has a line, also those that nobody typed: their value is the default. A secret's value is never among them; what is
//! shown in its place says where it is.

mod keys;
mod session;
mod value;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use config::{Value, ValueKind};

use super::Loaded;
use super::spans::{self, Place, Places};

pub use value::Shown;
pub(super) use value::time as written_time;

/// One key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its path, such as `routes[0].path`.
    pub key: String,
    /// What is in force.
    pub value: Shown,
    /// Where it came from: `sidecar.toml:12`, the name of an environment variable, or `default`.
    pub origin: String,
}

/// Where the values of a configuration came from. Holds none of them, but for the names of files.
#[derive(Clone, Debug, Default)]
pub struct Origins {
    file: String,
    base_dir: PathBuf,
    places: Places,
    typed: HashSet<String>,
    file_names: HashMap<String, String>,
}

/// The configuration, key by key, in the order of `config/reference.toml`.
pub fn show(loaded: &Loaded) -> Vec<Entry> {
    let mut rows = Rows {
        origins: &loaded.origins,
        entries: Vec::new(),
    };
    keys::all(&mut rows, &loaded.config);
    rows.entries
}

/// What entries are written into.
struct Rows<'a> {
    origins: &'a Origins,
    entries: Vec<Entry>,
}

// === impl Rows ===

impl Rows<'_> {
    /// The value of a key of a section.
    fn put(&mut self, section: &str, name: &str, value: impl Into<Shown>) {
        let key = spans::join(section, name);
        self.entries.push(Entry {
            origin: self.origins.of(&key),
            key,
            value: value.into(),
        });
    }

    /// A secret that is given in the configuration or in a file beside it, and both keys of it. `value` is shown where there is no
    /// file: nothing, or that there is one.
    fn put_secret(&mut self, section: &str, name: &str, value: impl Into<Shown>) {
        let file_name = format!("{name}_file");
        let file_key = spans::join(section, &file_name);
        match self.origins.file_names.get(&file_key) {
            None => self.put(section, name, value),
            Some(file) => self.entries.push(Entry {
                key: spans::join(section, name),
                value: Shown::SecretOf(self.origins.base_dir.join(file)),
                origin: self.origins.of(&file_key),
            }),
        }
        let file = self.origins.file_names.get(&file_key).cloned();
        self.put(section, &file_name, file);
    }
}

// === impl Origins ===

impl Origins {
    /// Those of a tree that was read.
    pub(super) fn new(file: &str, base_dir: &Path, tree: &Value, places: Places) -> Self {
        let mut origins = Self {
            file: file.to_owned(),
            base_dir: base_dir.to_owned(),
            places,
            ..Self::default()
        };
        origins.note("", tree);
        origins
    }

    fn note(&mut self, path: &str, value: &Value) {
        match &value.kind {
            ValueKind::Nil => return,
            ValueKind::Table(table) => {
                for (key, value) in table {
                    self.note(&spans::join(path, key), value);
                }
            }
            ValueKind::Array(list) => {
                for (number, value) in list.iter().enumerate() {
                    self.note(&spans::index(path, number), value);
                }
            }
            ValueKind::String(file) if path.ends_with("_file") => {
                self.file_names.insert(path.to_owned(), file.clone());
            }
            _ => {}
        }
        self.typed.insert(path.to_owned());
    }

    /// Where the value of `path` came from. The elements of a list may have come from several places.
    fn of(&self, path: &str) -> String {
        if !self.typed.contains(path) {
            return "default".to_owned();
        }
        let elements = (0..).map(|number| spans::index(path, number));
        let elements = elements.take_while(|element| self.typed.contains(element));
        let mut names = vec![self.place(path)];
        for name in elements.map(|element| self.place(&element)) {
            // Lines within the list are where the list is.
            if !names.contains(&name) && !name.starts_with(&self.file) {
                names.push(name);
            }
        }
        names.join(", ")
    }

    fn place(&self, path: &str) -> String {
        match self.places.value(path) {
            Place::File(position) => format!("{}:{}", self.file, position.line),
            Place::Variable(variable) => variable,
            Place::Nowhere => self.file.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::collections::BTreeSet;

    use crate::config::{Format, load, load_text, shipped};

    fn folder() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("config")
    }

    fn shown(text: &str, folder: &Path, variables: &[(&str, &str)]) -> Vec<Entry> {
        show(&loaded(text, folder, variables))
    }

    fn loaded(text: &str, folder: &Path, variables: &[(&str, &str)]) -> Loaded {
        let variables = variables
            .iter()
            .map(|(name, text)| (name.to_string(), text.to_string()));
        load_text("t.toml", text, Format::Toml, folder, variables)
            .unwrap_or_else(|problems| panic!("{problems}"))
    }

    fn entry<'a>(entries: &'a [Entry], key: &str) -> &'a Entry {
        let mut found = entries.iter().filter(|entry| entry.key == key);
        let first = found.next().unwrap_or_else(|| panic!("{key} is missing"));
        assert!(found.next().is_none(), "{key} is there twice");
        first
    }

    const BASE: &str = "[[listeners]]\naddress = '127.0.0.1:0'\nvisitor = ['cookie']\n\
        [dressipi]\nbase_url = 'https://d.example'\nclient_id = 'shop'\napi_key = 's3cr3t-inline'\n\
        [session]\npath = 'x.redb'\n[[routes]]\npath = '/'\nupstream = 'dressipi'\n";

    #[test]
    fn every_key_of_the_reference_has_one_line() {
        let entries = show(&load(&folder().join("reference.toml"), []).unwrap());
        let keys: BTreeSet<_> = entries.iter().map(|entry| entry.key.as_str()).collect();
        assert_eq!(keys.len(), entries.len(), "a key is there twice");
        let without_numbers: BTreeSet<String> = keys
            .iter()
            .map(|key| key.replace("[0]", "").replace("[1]", ""))
            .collect();
        assert_eq!(without_numbers, shipped::leaves());
    }

    #[test]
    fn what_is_shown_is_what_is_in_force() {
        for name in ["reference.toml", "minimal.toml", "demo.toml"] {
            let config = load(&folder().join(name), []).unwrap();
            assert_says_everything(&config);
        }
        let secrets = tempfile::tempdir().unwrap();
        for file in ["keys", "password"] {
            std::fs::write(secrets.path().join(file), "s3cr3t").unwrap();
        }
        std::fs::write(secrets.path().join("headers"), "x-team=s3cr3t").unwrap();
        std::fs::write(secrets.path().join("ca"), "-----BEGIN CERTIFICATE-----").unwrap();
        let of_redis = BASE.replace(
            "path = 'x.redb'",
            "store = 'redis'\nkeys_file = 'keys'\nlease_term = '20s'\n\
             redis = { mode = 'sentinel', urls = ['rediss://[::1]:1', 'rediss://h'], master_name = 'm', wait_replicas = 1, \
             username = 'u', password_file = 'password' }\n\
             [cookie]\nsame_site = 'strict'\nmax_life = '730d'\ndomain = 'd.example'\nname = 'v'\n\
             [consent]\nrequired_header = 'x-consent'\nrequired_value = '*a*'\nrefused_value = 'b'\n\
             [creation]\nper_client = 'unlimited'\noverall = '7/1500ms'\nadopt_cookie = 'a'\nextra_bots = ['x']\n\
             [limits]\nheader_bytes = 5000\n[log]\nformat = 'text'\naccess_sample = 0.25\n\
             [server]\nserver_timing = true\ntoken_state_header = true\n\
             [traces]\nendpoint = 'https://c.example/x'\nheaders_file = 'headers'\nsample_ratio = 0.001\nservice_name = 'n'\n\
             resource_attributes = 'a.b=c%2Cd e,f%3D=g'\nca_file = 'ca'\ntimeout = '3s'\nqueue = 7",
        );
        let config = loaded(&of_redis, secrets.path(), &[]);
        assert_says_everything(&config);
        let in_memory = BASE
            .replace("path = 'x.redb'", "store = 'memory'\non_lost = 'anonymous'")
            .replace(
                "127.0.0.1:0'",
                "127.0.0.1:1'\nidentity_peers = ['10.0.0.0/8']",
            )
            .replace("['cookie']", "['app-cookie:sid', 'header:x-v', 'cookie']")
            + "credentials = 'api-key'\n[[listeners]]\naddress = 'unix:/s'\ntrusted_proxies = ['unix:']\n\
               [[routes]]\npath = '/a/'\nupstream = 'a'\nupstream_path = '/b/'\nsubn_header = 'x-subn'\n\
               [[upstreams]]\nname = 'a'\naddress = '[::1]:9'\ntls = true\nserver_name = 'n'\nhttp2 = true\n";
        let config = loaded(&in_memory, secrets.path(), &[]);
        assert_says_everything(&config);
    }

    /// Whoever types all that is shown, and the one secret that no file holds, has the same configuration.
    fn assert_says_everything(loaded: &Loaded) {
        let typed = show(loaded).into_iter().filter_map(|entry| {
            let text = match entry.value {
                Shown::Value(serde_json::Value::String(text)) => text,
                Shown::Value(value) => value.to_string(),
                Shown::Nothing | Shown::Secret | Shown::SecretOf(_) => return None,
            };
            let name = entry
                .key
                .replace('[', "__")
                .replace(']', "")
                .replace('.', "__");
            Some((format!("SIDECAR__{name}"), text))
        });
        let api_key = loaded.config.dressipi.api_key.iter();
        let api_key = api_key.map(|key| ("SIDECAR__DRESSIPI__API_KEY".into(), key.expose().into()));
        let folder = &loaded.origins.base_dir;
        let again = load_text("again.toml", "", Format::Toml, folder, typed.chain(api_key))
            .unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(again.config, loaded.config);
    }

    #[test]
    fn a_secret_is_never_shown_but_where_it_is() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), "s3cr3t-in-a-file-0").unwrap();
        std::fs::write(folder.path().join("id"), "s3cr3t-id").unwrap();
        let text = BASE.replace("client_id = 'shop'", "client_id_file = 'id'")
            + "[admin]\naddress = '127.0.0.1:0'\n";
        let token = ("SIDECAR__ADMIN__TOKEN_FILE", "token");
        let entries = shown(&text, folder.path(), &[token]);
        let all = format!("{entries:?}");
        assert!(!all.contains("s3cr3t"), "{all}");
        let key = entry(&entries, "dressipi.api_key");
        assert_eq!(
            (&key.value, key.origin.as_str()),
            (&Shown::Secret, "t.toml:7")
        );
        let token = entry(&entries, "admin.token");
        assert_eq!(token.value, Shown::SecretOf(folder.path().join("token")));
        assert_eq!(token.origin, "SIDECAR__ADMIN__TOKEN_FILE");
        let id = entry(&entries, "dressipi.client_id");
        assert_eq!(id.value, Shown::SecretOf(folder.path().join("id")));
        let file = entry(&entries, "admin.token_file");
        assert_eq!(file.value.to_string(), "\"token\"");
        let none = entry(&entries, "session.redis.password");
        assert_eq!(
            (none.value.to_string().as_str(), none.origin.as_str()),
            ("(none)", "default")
        );
    }

    #[test]
    fn an_origin_is_a_line_a_variable_or_the_default() {
        let variables = [
            ("SIDECAR__SESSION__MAX_WAIT", "1500ms"),
            ("SIDECAR__LISTENERS__0__VISITOR__1", "header:x-v"),
            ("SIDECAR__ROUTES__1__PATH", "/t/"),
            ("SIDECAR__ROUTES__1__UPSTREAM", "dressipi"),
        ];
        let entries = shown(BASE, Path::new("/"), &variables);
        for (key, value, origin) in [
            ("listeners[0].address", "\"127.0.0.1:0\"", "t.toml:2"),
            (
                "listeners[0].visitor",
                "[\"cookie\", \"header:x-v\"]",
                "t.toml:3, SIDECAR__LISTENERS__0__VISITOR__1",
            ),
            (
                "session.max_wait",
                "\"1500ms\"",
                "SIDECAR__SESSION__MAX_WAIT",
            ),
            ("session.idle_timeout", "\"400d\"", "default"),
            ("routes[1].path", "\"/t/\"", "SIDECAR__ROUTES__1__PATH"),
            ("routes[1].credentials", "\"visitor\"", "default"),
            ("limits.header_bytes", "\"64 KiB\"", "default"),
            ("cookie.renew_after", "\"40d\"", "default"),
        ] {
            let entry = entry(&entries, key);
            assert_eq!(
                (entry.value.to_string().as_str(), entry.origin.as_str()),
                (value, origin)
            );
        }
    }

    #[test]
    fn formats_without_lines_are_named_alone() {
        let text = r#"{"listeners": [{"address": "127.0.0.1:0"}], "session": {"path": "x"},
            "dressipi": {"base_url": "https://d.example", "client_id": "c"},
            "routes": [{"path": "/", "upstream": "dressipi"}]}"#;
        let loaded = load_text("t.json", text, Format::Json, Path::new("/"), []).unwrap();
        assert_eq!(entry(&show(&loaded), "routes[0].path").origin, "t.json");
    }
}
