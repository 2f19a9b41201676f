//! What a whole configuration comes to: values after both layers, files beside it, and nothing secret in any output.

use std::path::Path;
use std::time::Duration;

use super::{Config, Format, Loaded, Problems, UpstreamRef, load, load_text};
use crate::session::StoreSettings;
use crate::visitor::VisitorSource;

const BASE: &str = r#"
[[listeners]]
address = "127.0.0.1:8080"

[dressipi]
base_url = "https://dressipi.shop.example"
client_id = "shop"

[session]
path = "sessions.redb"

[[routes]]
path = "/api/"
upstream = "dressipi"
"#;

fn with(variables: &[(&str, &str)]) -> Result<Loaded, Problems> {
    let variables = variables
        .iter()
        .map(|(name, text)| (name.to_string(), text.to_string()));
    load_text(
        "t.toml",
        BASE,
        Format::Toml,
        Path::new("/etc/sidecar"),
        variables,
    )
}

fn config(variables: &[(&str, &str)]) -> Config {
    with(variables)
        .unwrap_or_else(|problems| panic!("{problems}"))
        .config
}

fn header(name: &'static str) -> VisitorSource {
    VisitorSource::Header(http::HeaderName::from_static(name))
}

#[test]
fn a_variable_takes_the_type_of_its_key() {
    let config = config(&[
        ("SIDECAR__DRESSIPI__CLIENT_ID", "0123"),
        ("SIDECAR__DRESSIPI__API_KEY", "[true"),
        ("SIDECAR__SERVER__THREADS", "3"),
        ("SIDECAR__CONSENT__HONOUR_GPC", "False"),
        ("SIDECAR__SESSION__MAX_WAIT", "1500ms"),
        ("SIDECAR__SESSION__PAGE_CACHE", "1048576"),
        ("SIDECAR__SESSION__MAX_UNCONFIRMED", "7"),
        ("SIDECAR__LOG__FORMAT", "json"),
    ]);
    assert_eq!(config.dressipi.client_id, "0123");
    assert_eq!(config.dressipi.api_key.unwrap().expose(), "[true");
    assert_eq!(config.server.threads, 3);
    assert!(!config.consent.honour_gpc);
    assert_eq!(config.session.max_wait, Duration::from_millis(1500));
    assert_eq!(config.session.policy.max_unconfirmed, 7);
    assert!(matches!(
        config.store,
        StoreSettings::Redb {
            cache_bytes: 1_048_576,
            ..
        }
    ));
    assert_eq!(config.log.format, super::LogFormat::Json);
}

#[test]
fn a_list_is_written_with_commas_or_as_an_array() {
    let both = vec![VisitorSource::Cookie, header("x-visitor-id")];
    for text in [
        "cookie,header:x-visitor-id",
        " cookie , header:x-visitor-id ",
        r#"["cookie", "header:x-visitor-id"]"#,
        "['cookie', 'header:x-visitor-id',]",
    ] {
        let config = config(&[("SIDECAR__LISTENERS__0__VISITOR", text)]);
        assert_eq!(config.listeners[0].visitor, both, "{text}");
    }
    let none = config(&[("SIDECAR__CONSENT__OPT_OUT_COOKIES", "")]);
    assert!(none.consent.opt_out_cookies.is_empty());
    let sections = r#"[{"path": "/t/", "upstream": "dressipi", "credentials": "none"}]"#;
    assert_eq!(
        config(&[("SIDECAR__ROUTES", sections)]).routes[0].path,
        "/t/"
    );
}

#[test]
fn variables_add_elements_and_change_single_ones() {
    let config = config(&[
        ("SIDECAR__ROUTES__1__PATH", "/"),
        ("SIDECAR__ROUTES__1__UPSTREAM", "shop"),
        ("SIDECAR__UPSTREAMS__0__NAME", "shop"),
        ("SIDECAR__UPSTREAMS__0__ADDRESS", "[::1]:3000"),
        ("SIDECAR__LISTENERS__0__VISITOR__0", "header:x-a"),
        ("SIDECAR__LISTENERS__0__VISITOR__1", "header:x-b"),
    ]);
    assert_eq!(config.routes[1].upstream, UpstreamRef::App(0));
    assert_eq!(
        (config.upstreams[0].host.as_str(), config.upstreams[0].port),
        ("::1", 3000)
    );
    assert_eq!(config.listeners[0].visitor, [header("x-a"), header("x-b")]);
}

#[test]
fn paths_begin_at_the_folder_of_the_file() {
    let StoreSettings::Redb {
        path, keys_file, ..
    } = config(&[]).store
    else {
        panic!("the default store is redb");
    };
    assert_eq!(path, Path::new("/etc/sidecar/sessions.redb"));
    assert_eq!(keys_file, None);

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sidecar.toml");
    std::fs::write(
        &file,
        BASE.replace("client_id = \"shop\"", "client_id_file = \"id\""),
    )
    .unwrap();
    std::fs::write(folder.path().join("id"), "from-a-file\n").unwrap();
    assert_eq!(
        load(&file, []).unwrap().config.dressipi.client_id,
        "from-a-file"
    );
}

#[test]
fn a_file_that_cannot_be_read_is_one_problem() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["nowhere.toml", "sidecar.conf", "sidecar"] {
        let problems = load(&folder.path().join(name), []).unwrap_err();
        assert_eq!(problems.iter().count(), 1, "{problems}");
        assert!(problems.to_string().contains(name), "{problems}");
    }
}

#[test]
fn secrets_show_in_no_output() {
    let loaded = with(&[("SIDECAR__DRESSIPI__API_KEY", "hunter2")]).unwrap();
    assert!(!format!("{loaded:?}").contains("hunter2"));
    let problems = [
        with(&[("SIDECAR__DRESSIPI__API_KEY", "hunter2 hunter2")]),
        with(&[
            ("SIDECAR__DRESSIPI__API_KEY__X", "hunter2"),
            ("SIDECAR__DRESSIPI__API_KEY", "hunter2"),
        ]),
        with(&[
            ("SIDECAR__DRESSIPI__BASE_URL", "https://hunter2@x"),
            ("SIDECAR__DRESSIPI", "hunter2"),
        ]),
    ];
    for problems in problems {
        let problems = problems.unwrap_err();
        assert!(
            !format!("{problems} {problems:?}").contains("hunter2"),
            "{problems}"
        );
    }
}

#[test]
fn a_number_beyond_64_bits_has_a_place() {
    let text = "[server]\nthreads = 99999999999999999999\n";
    let problems = load_text("t.toml", text, Format::Toml, Path::new(""), []).unwrap_err();
    assert_eq!(
        problems.to_string(),
        "t.toml:2:11: the number is too large; hint: 64 bits are the most"
    );
}

#[test]
fn problems_are_in_the_order_of_the_file() {
    let text = "[[routes]]\npath = 'a'\n[log]\nlevel = 'inof'\n[lag]\n";
    let env = [("SIDECAR__COOKIE__PATH".to_owned(), "x".to_owned())];
    let problems = load_text("t.toml", text, Format::Toml, Path::new(""), env).unwrap_err();
    let keys: Vec<_> = problems
        .iter()
        .map(|problem| problem.key.as_str())
        .collect();
    let in_order = ["routes[0].upstream", "routes[0].path", "log.level", "lag"];
    assert_eq!(keys[..4], in_order);
    assert_eq!(keys.last(), Some(&"cookie.path"));
}
