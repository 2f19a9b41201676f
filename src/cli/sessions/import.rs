//! `sessions import`: from a file into a store or a running sidecar.
//!
//! A file is looked through before anything of it is imported. What comes over standard input cannot be: where it breaks off,
//! what came before has been imported, and the exit code says that it was not all.

use std::io::{self, Seek};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use bytes::{Bytes, BytesMut};
use futures::stream::{self, Stream};
use tokio::fs::File;
use tokio::io::AsyncReadExt;

use super::Progress;
use super::place::{Expected, Place};
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::session::moving::{self, Adoption, Summary};

pub(super) async fn run(
    config: &Config,
    admin: Option<&str>,
    input: Option<&Path>,
) -> anyhow::Result<()> {
    let input = match input {
        None => std::fs::File::from(io::stdin().as_fd().try_clone_to_owned()?),
        Some(path) => checked(path)?,
    };
    let summary = import(config, admin, File::from_std(input)).await?;
    eprintln!("imported {summary}");
    match summary.unreadable {
        0 => Ok(()),
        unreadable => {
            anyhow::bail!("{unreadable} records could not be read and were not imported")
        }
    }
}

async fn import(config: &Config, admin: Option<&str>, input: File) -> anyhow::Result<Summary> {
    match Place::find(config, admin, Expected::Any).await? {
        Place::Process(remote) => remote.import(pieces(input)).await,
        Place::Store(vault) => {
            let clock: Arc<dyn Clock> = Arc::new(SystemClock);
            let mut progress = Progress::default();
            let progress = |done: &Summary| progress.at(done.records(), "imported");
            let adoption = Adoption::IfEmpty;
            let result = moving::import(&vault, &clock, adoption, pieces(input), progress).await;
            vault.store().close().await;
            Ok(result?)
        }
    }
}

/// A file that is a whole export.
fn checked(path: &Path) -> anyhow::Result<std::fs::File> {
    let name = || path.display().to_string();
    let mut file = std::fs::File::open(path).with_context(name)?;
    let whole = moving::check(&file).with_context(name)?;
    whole.with_context(|| format!("{}: nothing was imported", name()))?;
    file.rewind().with_context(name)?;
    Ok(file)
}

fn pieces(input: File) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    stream::try_unfold(input, |mut input| async {
        let mut piece = BytesMut::with_capacity(64 * 1024);
        let length = input.read_buf(&mut piece).await?;
        Ok((length > 0).then(|| (piece.freeze(), input)))
    })
}
