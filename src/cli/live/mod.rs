//! `check --live`: what a configuration names is really there. Says so in groups, as `linkerd check` does.
//!
//! It writes nothing to the store. It makes a profile only if somebody agrees: each authorize call does.

mod probes;

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};

use crate::config::Config;

/// What one probe found.
pub(super) enum Finding {
    /// As it should be.
    Good(String),
    /// Not looked at, and why.
    Skipped(String),
    /// Not as it should be; with how to mend it.
    Bad(String, String),
}

/// Probes of one kind.
pub(super) struct Group {
    pub(super) name: String,
    pub(super) findings: Vec<Finding>,
}

/// Looks at everything, and says whether it is as it should be. `yes`: a profile may be made without asking.
pub(super) fn run(config: &Config, yes: bool) -> anyhow::Result<bool> {
    // Nobody is asked who could not answer.
    let agreed = yes || (io::stdin().is_terminal() && io::stderr().is_terminal() && agrees()?);
    // Fails only where one is installed already, and then that one will do.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let groups = super::runtime(1)?.block_on(probes::all(config, agreed));
    super::print(&told(&groups));
    let bad = |finding: &Finding| matches!(finding, Finding::Bad(..));
    Ok(!groups.iter().any(|group| group.findings.iter().any(bad)))
}

fn agrees() -> io::Result<bool> {
    eprint!(
        "A real authorize call makes one profile in your Dressipi account, which nobody will use. Make it? [y/N] "
    );
    io::stderr().flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// As people read it.
fn told(groups: &[Group]) -> String {
    let mut text = String::new();
    let mut bad = 0;
    for group in groups {
        let _ = writeln!(
            text,
            "{}\n{}",
            group.name,
            "-".repeat(group.name.chars().count())
        );
        for finding in &group.findings {
            let _ = match finding {
                Finding::Good(what) => writeln!(text, "√ {what}"),
                Finding::Skipped(what) => writeln!(text, "- {what}"),
                Finding::Bad(what, hint) => {
                    bad += 1;
                    writeln!(text, "× {what}\n    hint: {hint}")
                }
            };
        }
        text.push('\n');
    }
    let _ = match bad {
        0 => writeln!(text, "Everything is as it should be."),
        1 => writeln!(text, "One thing is not as it should be."),
        many => writeln!(text, "{many} things are not as they should be."),
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_told_in_groups_with_a_verdict() {
        let groups = [
            Group {
                name: "store".into(),
                findings: vec![Finding::Good("redis answers".into())],
            },
            Group {
                name: "upstream shop".into(),
                findings: vec![
                    Finding::Bad("127.0.0.1:1 refuses".into(), "is it running?".into()),
                    Finding::Skipped("TLS: not spoken".into()),
                ],
            },
        ];
        assert_eq!(
            told(&groups),
            "store\n-----\n√ redis answers\n\n\
             upstream shop\n-------------\n× 127.0.0.1:1 refuses\n    hint: is it running?\n- TLS: not spoken\n\n\
             One thing is not as it should be.\n"
        );
        assert!(told(&groups[..1]).ends_with("Everything is as it should be.\n"));
    }
}
