//! The layer over the file: `SIDECAR__SECTION__KEY` variables.
//!
//! The `config` crate's own environment source is not used: it cannot reach into lists, guesses types from how a text
//! looks, and forgets which variable a value came from. Here a variable's text keeps no type until the key that it is for
//! is known (see `strict`), and its name is the value's origin.

use config::{Value, ValueKind};

use super::problems::Problem;
use super::read;
use super::spans::{self, Place, Places};

/// What the names of our variables begin with. `SIDECAR_` alone is left to others: Kubernetes makes such variables for a
/// service that is called `sidecar`.
const PREFIX: &str = "SIDECAR__";

/// A part of a variable's name, numbers as numbers so that `10` comes after `9`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Index(usize),
    Key(String),
}

/// Why a variable fits nowhere.
#[derive(Debug)]
struct Misfit {
    key: String,
    message: String,
    hint: String,
}

/// Lays the variables over the tree, and says which of them fit nowhere.
pub(super) fn lay_over(
    name: &str,
    tree: &mut Value,
    places: &mut Places,
    variables: impl IntoIterator<Item = (String, String)>,
) -> Vec<Problem> {
    let mut ours: Vec<_> = variables
        .into_iter()
        .filter_map(|(variable, text)| Some((parts(&variable)?, variable, text)))
        .collect();
    ours.sort();
    let mut problems = Vec::new();
    let mut last: Option<(Vec<Part>, String)> = None;
    for (parts, variable, text) in ours {
        let result = match &last {
            Some((same, other)) if *same == parts => {
                let hint = "upper and lower case are the same here; keep one of them";
                Err(misfit("", format!("names the same key as {other}"), hint))
            }
            _ => set(tree, places, &parts, &variable, text),
        };
        if let Err(misfit) = result {
            let place = Place::Variable(variable.clone());
            problems.push(read::problem(
                name,
                &misfit.key,
                place,
                misfit.message,
                Some(misfit.hint),
            ));
        }
        last = Some((parts, variable));
    }
    problems
}

/// The key that a variable's name stands for; `None` if the variable is not ours.
fn parts(variable: &str) -> Option<Vec<Part>> {
    let (start, rest) = variable.split_at_checked(PREFIX.len())?;
    let part = |text: &str| match text.parse() {
        Ok(index) if text.chars().all(|c| c.is_ascii_digit()) => Part::Index(index),
        _ => Part::Key(text.to_lowercase()),
    };
    start
        .eq_ignore_ascii_case(PREFIX)
        .then(|| rest.split("__").map(part).collect())
}

/// Puts a variable's text at its place in the tree and makes what is missing on the way.
fn set(
    tree: &mut Value,
    places: &mut Places,
    parts: &[Part],
    variable: &str,
    text: String,
) -> Result<(), Misfit> {
    if parts.contains(&Part::Key(String::new())) {
        let hint = "names are SIDECAR__SECTION__KEY, such as SIDECAR__LOG__LEVEL";
        return Err(misfit("", "names no key", hint));
    }
    let origin = variable.to_owned();
    let mut node = tree;
    let mut path = String::new();
    for part in parts {
        let (below, fresh);
        (below, path, fresh) = descend(node, &path, part)?;
        node = below;
        if fresh {
            places.set_variable(&path, variable);
        }
    }
    if matches!(node.kind, ValueKind::Table(_)) {
        let hint = format!("set its keys one by one: {}__…", origin.to_uppercase());
        return Err(misfit(&path, "is a section and no value", hint));
    }
    places.set_variable(&path, variable);
    *node = Value::new(Some(&origin), text);
    Ok(())
}

/// One step down: the value that `part` names, its path, and whether it was made just now.
fn descend<'a>(
    node: &'a mut Value,
    path: &str,
    part: &Part,
) -> Result<(&'a mut Value, String, bool), Misfit> {
    match (&node.kind, part) {
        (ValueKind::Table(_) | ValueKind::Array(_), _) => {}
        (ValueKind::Nil, _) | (_, _) if node.origin().is_none() => {
            // Nothing, or a wrong value of the file that the environment corrects.
            node.kind = match part {
                Part::Index(_) => ValueKind::Array(Vec::new()),
                Part::Key(_) => ValueKind::Table(Default::default()),
            };
        }
        _ => {
            let other = node.origin().unwrap_or_default();
            return Err(misfit(
                path,
                format!("is set as a whole by {other}"),
                "keep one of the two",
            ));
        }
    }
    match (&mut node.kind, part) {
        (ValueKind::Array(list), Part::Index(number)) => {
            let path = spans::index(path, *number);
            let length = list.len();
            if *number > length {
                let hint = format!("elements count from 0, and the next one is {length}");
                return Err(misfit(&path, "leaves a gap in the list", hint));
            }
            if *number == length {
                list.push(Value::new(None, ValueKind::Nil));
            }
            Ok((&mut list[*number], path, *number == length))
        }
        (ValueKind::Table(table), part) => {
            let key = match part {
                Part::Index(number) => number.to_string(),
                Part::Key(key) => key.clone(),
            };
            let path = spans::join(path, &key);
            let fresh = !table.contains_key(&key);
            let value = table
                .entry(key)
                .or_insert_with(|| Value::new(None, ValueKind::Nil));
            Ok((value, path, fresh))
        }
        _ => {
            let hint = "write which element is meant, from 0, such as SIDECAR__ROUTES__0__PATH";
            Err(misfit(
                path,
                "is a list, and the name gives no number",
                hint,
            ))
        }
    }
}

fn misfit(key: &str, message: impl Into<String>, hint: impl Into<String>) -> Misfit {
    Misfit {
        key: key.to_owned(),
        message: message.into(),
        hint: hint.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::config::{Format, formats};

    fn layered(text: &str, variables: &[(&str, &str)]) -> (Value, Places, Vec<String>) {
        let (mut tree, mut places) = formats::read("t.toml", text, Format::Toml).unwrap();
        let variables = variables
            .iter()
            .map(|(name, text)| (name.to_string(), text.to_string()));
        let problems = lay_over("t.toml", &mut tree, &mut places, variables);
        (
            tree,
            places,
            problems.iter().map(ToString::to_string).collect(),
        )
    }

    fn at<'a>(tree: &'a Value, path: &[&str]) -> &'a Value {
        path.iter().fold(tree, |value, key| match &value.kind {
            ValueKind::Table(table) => &table[*key],
            ValueKind::Array(list) => &list[key.parse::<usize>().unwrap()],
            _ => panic!("nothing below {value:?}"),
        })
    }

    #[test]
    fn variables_replace_values_and_make_sections() {
        let (tree, places, problems) = layered(
            "[log]\nlevel = 'info'\n",
            &[
                ("SIDECAR__LOG__LEVEL", "debug"),
                ("sidecar__admin__address", "[::1]:1"),
            ],
        );
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(at(&tree, &["log", "level"]).kind, ValueKind::from("debug"));
        assert_eq!(
            at(&tree, &["admin", "address"]).origin(),
            Some("sidecar__admin__address")
        );
        let place = places.value("log.level");
        assert_eq!(place, Place::Variable("SIDECAR__LOG__LEVEL".into()));
    }

    #[test]
    fn list_elements_are_replaced_and_appended_in_numerical_order() {
        let variables: Vec<_> = (1..12)
            .map(|n| (format!("SIDECAR__ROUTES__{n}__PATH"), format!("/{n}")))
            .collect();
        let variables: Vec<_> = variables
            .iter()
            .map(|(name, path)| (name.as_str(), path.as_str()))
            .collect();
        let (tree, _, problems) = layered("[[routes]]\npath = '/'\n", &variables);
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(
            at(&tree, &["routes", "0", "path"]).kind,
            ValueKind::from("/")
        );
        assert_eq!(
            at(&tree, &["routes", "11", "path"]).kind,
            ValueKind::from("/11")
        );
    }

    #[test]
    fn a_variable_with_single_underscores_is_not_ours() {
        let variables = [
            ("SIDECAR_PORT", "tcp://10.0.0.1:80"),
            ("SIDECAR_LOG__LEVEL", "x"),
            ("PATH", "/"),
        ];
        let (tree, _, problems) = layered("", &variables);
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(tree, layered("", &[]).0);
    }

    #[test]
    fn whatever_fits_nowhere_is_named() {
        let (_, _, problems) = layered(
            "[[routes]]\n[log]\n",
            &[
                ("SIDECAR__ROUTES__2__PATH", "/"),
                ("SIDECAR__ROUTES__PATH", "/"),
                ("SIDECAR__LOG", "debug"),
                ("SIDECAR__", "x"),
                ("SIDECAR__COOKIE__NAME", "a"),
                ("sidecar__cookie__name", "b"),
                ("SIDECAR__ADMIN", "127.0.0.1:1"),
                ("SIDECAR__ADMIN__ADDRESS", "127.0.0.1:1"),
            ],
        );
        let starts = [
            "SIDECAR__ROUTES__2__PATH: routes[2]: leaves a gap",
            "SIDECAR__: names no key",
            "SIDECAR__ADMIN__ADDRESS: admin: is set as a whole by SIDECAR__ADMIN",
            "sidecar__cookie__name: names the same key as SIDECAR__COOKIE__NAME",
            "SIDECAR__LOG: log: is a section",
            "SIDECAR__ROUTES__PATH: routes: is a list",
        ];
        assert_eq!(problems.len(), starts.len(), "{problems:#?}");
        for start in starts {
            assert!(
                problems.iter().any(|problem| problem.starts_with(start)),
                "{start}: {problems:#?}"
            );
        }
    }
}
