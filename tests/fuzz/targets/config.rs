//! The configuration file, in every format.

use std::fmt::Write;
use std::path::Path;

use dressipi_sidecar::cli::report::{self, Look};
use dressipi_sidecar::config::{Format, load_text, show};

use super::Target;

pub const TARGET: Target = Target {
    name: "config",
    words: &[
        "\n",
        "[",
        "]",
        "[[",
        "]]",
        "{",
        "}",
        "=",
        ":",
        ",",
        "\"",
        "'",
        "\"\"\"",
        "#",
        "- ",
        "  ",
        "true",
        "null",
        "[]",
        "{}",
        "[dressipi]\n",
        "[session]\n",
        "[[routes]]\n",
        "[[listeners]]\n",
        "[[upstreams]]\n",
        "[admin]\n",
        "[visitor]\n",
        "client_id = ",
        "api_key = ",
        "token = ",
        "redis.password = ",
        "path = ",
        "upstream = ",
        "address = ",
        "name = ",
        "store = \"redis\"\n",
        "\"127.0.0.1:0\"",
        "\"[::1]:8080\"",
        "\"https://\"",
        "\"redis://u:p@h\"",
        "\"0s\"",
        "\"1y\"",
        "\\u0000",
        "\u{fc}",
        "&a ",
        "*a",
        "!!binary ",
        "<<: ",
    ],
    check,
};

const LOOK: Look = Look { colour: false };

/// What the corpus gives to secret keys.
const CANARY: &str = "s3cr3t";
/// `client_id` is not among them: OAuth's client identifier is public, and shown.
const SECRET_KEYS: [&str; 4] = ["api_key", "password", "sentinel_password", "token"];
/// No folder: files that a text names are not there.
const NOWHERE: &str = "/nonexistent/fuzz";

fn check(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let secret = is_secret(&text);
    for format in [Format::Toml, Format::Yaml, Format::Json] {
        let loaded = load_text("f", &text, format, Path::new(NOWHERE), None);
        let mut answer = String::new();
        match &loaded {
            Ok(loaded) => {
                let _ = write!(answer, "{:?}{:?}", loaded.config, show(loaded));
                answer += &report::warnings(loaded, LOOK);
                for warning in &loaded.warnings {
                    let _ = writeln!(answer, "{warning}");
                }
            }
            Err(problems) => {
                assert!(problems.iter().next().is_some(), "refused, and no reason");
                answer += &report::problems(problems, LOOK);
                for problem in problems.iter() {
                    assert!(!problem.message.is_empty());
                    let _ = writeln!(answer, "{problem}");
                }
            }
        }
        let _ = write!(answer, "{}", report::json("f", &loaded));
        assert!(!secret || !answer.contains(CANARY), "{format:?}: {answer}");
    }
}

/// Whether the canary stands only where a secret does: alone on a line, as the text of such a key.
fn is_secret(text: &str) -> bool {
    let of_secret_key = |line: &str| {
        let line = line.trim().trim_end_matches(',');
        let Some((key, value)) = line.split_once(['=', ':']) else {
            return false;
        };
        let key = key.trim().trim_matches('"');
        let key = key.strip_prefix("redis.").unwrap_or(key);
        let value = value.trim().strip_prefix('"');
        let value = value.and_then(|value| value.strip_suffix('"'));
        SECRET_KEYS.contains(&key)
            && value.is_some_and(|value| value.bytes().all(|byte| byte.is_ascii_alphanumeric()))
    };
    let mut lines = text.lines().filter(|line| line.contains(CANARY)).peekable();
    lines.peek().is_some() && lines.all(of_secret_key)
}
