//! `sessions list|show|access|revoke|erase`: one visitor or all of them, through the admin listener of a running sidecar, which has the
//! caches and the flows under way that the store alone does not know of.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use serde_json::json;

use super::export::create;
use super::remote::Remote;
use super::{load, table};
use crate::secret::Secret;

/// Which sidecar.
#[derive(Debug, Args)]
pub(in crate::cli) struct At {
    /// The admin listener. Default: the configuration's.
    #[arg(long, value_name = "URL", required_unless_present = "config")]
    admin: Option<String>,
    /// A file with its token. Default: the configuration's.
    #[arg(long, value_name = "FILE", required_unless_present = "config")]
    token_file: Option<PathBuf>,
    /// The configuration file, for what is not given above.
    #[arg(short, long, value_name = "FILE", env = "SIDECAR_CONFIG")]
    config: Option<PathBuf>,
}

/// Which visitor. In place of an id or a cookie, `-` reads it from standard input: command lines are for everybody to see.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(in crate::cli) struct Who {
    /// The visitor's key, or the 12 digits of it that are logged.
    visitor: Option<String>,
    /// The id that the app names in its header.
    #[arg(long, value_name = "ID")]
    header_id: Option<String>,
    /// The value of the visitor cookie.
    #[arg(long, value_name = "VALUE")]
    cookie: Option<String>,
    /// The value of the app's own cookie.
    #[arg(long, value_name = "VALUE")]
    app_cookie: Option<String>,
}

const MOST_ON_A_PAGE: usize = 1000;

// === impl At ===

impl At {
    fn remote(&self) -> anyhow::Result<Remote> {
        let is_whole = self.admin.is_some() && self.token_file.is_some();
        let config = self.config.as_deref().filter(|_| !is_whole);
        let config = config.map(load).transpose()?;
        let configured = config.as_ref().and_then(|config| config.admin.as_ref());
        let token = match &self.token_file {
            Some(file) => read_token(file)?,
            None => configured
                .and_then(|admin| admin.token.clone())
                .context("the admin listener asks for a token: name a file with --token-file, or set admin.token_file")?,
        };
        match (&self.admin, configured) {
            (Some(url), _) => Remote::new(url, token),
            (None, Some(admin)) => Remote::listening(admin.address, token),
            (None, None) => {
                anyhow::bail!("the configuration has no [admin] listener; name one with --admin")
            }
        }
    }
}

fn read_token(file: &Path) -> anyhow::Result<Secret> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("--token-file: {} cannot be read", file.display()))?;
    let token = text.trim_end_matches(['\r', '\n']);
    if token.is_empty() || !token.chars().all(|c| c.is_ascii_graphic()) {
        anyhow::bail!("--token-file: {} holds no token", file.display());
    }
    Ok(Secret::new(token))
}

// === impl Who ===

impl Who {
    /// What the path calls the visitor.
    async fn name(&self, remote: &Remote) -> anyhow::Result<String> {
        let named = [
            ("header", &self.header_id),
            ("cookie", &self.cookie),
            ("app_cookie", &self.app_cookie),
        ];
        let named = named
            .into_iter()
            .find_map(|(kind, id)| Some((kind, id.as_ref()?)));
        let Some((kind, id)) = named else {
            let name = self.visitor.clone().unwrap_or_default();
            // It becomes a part of a path.
            if name.is_empty() || !name.chars().all(|c| c.is_ascii_hexdigit()) {
                anyhow::bail!(
                    "visitors are named by 64 hexadecimal digits, or by the 12 that are logged; ids go with --header-id, \
                     --cookie or --app-cookie"
                );
            }
            return Ok(name);
        };
        let id = match id.as_str() {
            "-" => read_line()?,
            id => id.to_owned(),
        };
        let found = remote.find(&json!({ kind: id })).await?;
        let visitor = found["visitor"].as_str();
        Ok(visitor.context("the answer names no visitor")?.to_owned())
    }
}

fn read_line() -> anyhow::Result<String> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// All sessions or the first `limit` of them, as they come.
pub(super) async fn list(at: &At, limit: Option<usize>, as_json: bool) -> anyhow::Result<()> {
    let remote = at.remote()?;
    let mut left = limit.unwrap_or(usize::MAX);
    let mut cursor = None;
    let mut rows = table::Sessions::new(as_json);
    while left > 0 {
        let page = remote
            .list(left.min(MOST_ON_A_PAGE), cursor.as_deref())
            .await?;
        let sessions = page["sessions"].as_array().map_or(&[][..], Vec::as_slice);
        left = left.saturating_sub(sessions.len());
        rows.print(sessions)?;
        cursor = page["next"].as_str().map(str::to_owned);
        if cursor.is_none() {
            break;
        }
    }
    if cursor.is_some() {
        eprintln!("there are more");
    }
    Ok(())
}

pub(super) async fn show(at: &At, who: &Who, as_json: bool) -> anyhow::Result<()> {
    let remote = at.remote()?;
    let name = who.name(&remote).await?;
    let visitor = remote.show(&name).await?;
    table::print_one(&visitor, as_json)
}

/// Everything that is kept about the visitor, to a new file or standard output.
pub(super) async fn access(at: &At, who: &Who, output: Option<&Path>) -> anyhow::Result<()> {
    let remote = at.remote()?;
    let name = who.name(&remote).await?;
    let kept = serde_json::to_string_pretty(&remote.access(&name).await?)?;
    let Some(path) = output else {
        return Ok(writeln!(io::stdout().lock(), "{kept}")?);
    };
    let mut file = create(path)?;
    writeln!(file, "{kept}")?;
    file.sync_all()?;
    Ok(())
}

pub(super) async fn revoke(at: &At, who: &Who, as_json: bool) -> anyhow::Result<()> {
    let remote = at.remote()?;
    let name = who.name(&remote).await?;
    remote.revoke(&name).await?;
    done(&name, "revoked", as_json)
}

/// Asks before it does it, unless `yes`.
pub(super) async fn erase(at: &At, who: &Who, yes: bool, as_json: bool) -> anyhow::Result<()> {
    let remote = at.remote()?;
    let name = who.name(&remote).await?;
    if !yes && !confirmed(&name)? {
        anyhow::bail!("nothing was erased");
    }
    remote.erase(&name).await?;
    done(&name, "erased", as_json)
}

fn done(name: &str, done: &str, as_json: bool) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match as_json {
        true => writeln!(out, "{}", json!({ "visitor": name, done: true }))?,
        false => writeln!(out, "visitor {name}: {done}")?,
    }
    Ok(())
}

fn confirmed(name: &str) -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        anyhow::bail!("nobody can be asked here: say --yes to erase visitor {name}");
    }
    eprint!(
        "Erase visitor {name} at every replica? The customer history is lost for good: another visit makes a new profile. [y/N] "
    );
    io::stderr().flush()?;
    Ok(is_yes(&read_line()?))
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_yes_is_one() {
        assert!([" y ", "Y", "yes", "YES"].into_iter().all(is_yes));
        assert!(!["", "n", "no", "yeah", "ye"].into_iter().any(is_yes));
    }
}
