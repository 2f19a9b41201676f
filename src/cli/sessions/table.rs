//! Visitor sessions for people, or as JSON for programs: then one object a line.

use std::io::{self, Write};

use serde_json::Value;

/// Rows of a table that comes in parts.
pub(super) struct Sessions {
    as_json: bool,
    has_head: bool,
}

/// The heads of the columns, with where in a session they are.
const COLUMNS: [(&str, usize, &str); 6] = [
    ("VISITOR", 12, "/logged"),
    ("STATE", 11, "/state"),
    ("REFRESHES", 9, "/tokens/generation"),
    ("TOKEN ENDS", 24, "/tokens/expires_at"),
    ("STORED UNTIL", 24, "/stored_until"),
    ("TOKEN", 16, "/tokens/fingerprint"),
];

// === impl Sessions ===

impl Sessions {
    pub(super) fn new(as_json: bool) -> Self {
        let has_head = as_json;
        Self { as_json, has_head }
    }

    pub(super) fn print(&mut self, sessions: &[Value]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if !std::mem::replace(&mut self.has_head, true) {
            row(&mut out, |(head, _, _)| (*head).to_owned())?;
        }
        for session in sessions {
            match self.as_json {
                true => writeln!(out, "{session}")?,
                false => row(&mut out, |(_, _, place)| {
                    session.pointer(place).map_or_else(|| "-".to_owned(), text)
                })?,
            }
        }
        Ok(())
    }
}

fn row(out: &mut impl Write, cell: impl Fn(&(&str, usize, &str)) -> String) -> io::Result<()> {
    let mut line = String::new();
    for column in &COLUMNS {
        let width = column.1;
        line.push_str(&format!("{:<width$}  ", cell(column)));
    }
    writeln!(out, "{}", line.trim_end())
}

/// One visitor, a line for each fact.
pub(super) fn print_one(visitor: &Value, as_json: bool) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    if as_json {
        writeln!(out, "{visitor}")?;
        return Ok(());
    }
    let mut facts = Vec::new();
    collect("", visitor, &mut facts);
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in facts {
        writeln!(out, "{name:<width$}  {value}")?;
    }
    Ok(())
}

fn collect(name: &str, value: &Value, facts: &mut Vec<(String, String)>) {
    match value {
        Value::Object(members) => {
            for (member, value) in members {
                let name = match name {
                    "" => member.replace('_', " "),
                    name => format!("{name}: {}", member.replace('_', " ")),
                };
                collect(&name, value, facts);
            }
        }
        value => facts.push((name.to_owned(), text(value))),
    }
}

/// What a terminal shows of a value; nothing that comes from elsewhere moves its cursor.
fn text(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        other => other.to_string(),
    };
    text.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_row_has_a_place_for_each_column_and_a_dash_for_what_is_not_there() {
        let session =
            json!({"logged": "0123456789ab", "state": "granted", "tokens": {"generation": 3}});
        let mut out = Vec::new();
        row(&mut out, |(_, _, place)| {
            session.pointer(place).map_or("-".to_owned(), text)
        })
        .unwrap();
        let line = String::from_utf8(out).unwrap();
        assert_eq!(
            line.split_whitespace().collect::<Vec<_>>(),
            ["0123456789ab", "granted", "3", "-", "-", "-"]
        );
    }

    #[test]
    fn the_facts_of_a_visitor_are_named_by_their_places() {
        let mut facts = Vec::new();
        collect(
            "",
            &json!({"logged": "a\u{1b}[2J", "tokens": {"expires_at": "then"}, "memory": {"cached": true}}),
            &mut facts,
        );
        facts.sort();
        let facts: Vec<_> = facts
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        assert_eq!(
            facts,
            [
                ("logged", "a[2J"),
                ("memory: cached", "yes"),
                ("tokens: expires at", "then")
            ]
        );
    }
}
