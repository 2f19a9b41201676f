//! `sessions export`: from a store or a running sidecar to a file.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt};

use super::Progress;
use super::place::{Expected, Place};
use crate::clock::SystemClock;
use crate::config::Config;
use crate::session::moving::{Exporter, Reader};

pub(super) async fn run(
    config: &Config,
    admin: Option<&str>,
    output: Option<&Path>,
) -> anyhow::Result<()> {
    match Place::find(config, admin, Expected::Existing).await? {
        Place::Store(vault) => {
            let exporter = Exporter::of(vault.clone(), Arc::new(SystemClock)).await?;
            let pieces = stream::try_unfold(exporter, |mut exporter| async {
                let piece = exporter.next().await?;
                Ok(piece.map(|piece| (piece, exporter)))
            });
            let written = write(pieces, output).await;
            vault.store().close().await;
            written
        }
        Place::Process(remote) => {
            let answer = remote.export().await?;
            let pieces = stream::try_unfold(answer, |mut answer| async {
                let piece = answer.chunk().await.context("the sidecar broke off")?;
                Ok(piece.map(|piece| (piece, answer)))
            });
            write(pieces, output).await
        }
    }
}

async fn write(
    pieces: impl Stream<Item = anyhow::Result<Bytes>>,
    output: Option<&Path>,
) -> anyhow::Result<()> {
    let records = match output {
        None => copy(pieces, io::stdout().lock()).await?,
        Some(path) => {
            let file = create(path)?;
            let copied = copy(pieces, &file).await;
            let copied = copied.and_then(|records| Ok(file.sync_all().map(|()| records)?));
            if copied.is_err() {
                // Half an export is good for nothing.
                let _ = std::fs::remove_file(path);
            }
            copied?
        }
    };
    eprintln!("exported {records} records");
    Ok(())
}

/// For its owner alone. What is there already is somebody's, and stays.
pub(super) fn create(path: &Path) -> anyhow::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("{} cannot be made", path.display()))
}

/// Copies a whole export, or fails.
async fn copy(
    pieces: impl Stream<Item = anyhow::Result<Bytes>>,
    mut to: impl Write,
) -> anyhow::Result<u64> {
    let mut pieces = std::pin::pin!(pieces);
    let mut reader = Reader::default();
    let mut progress = Progress::default();
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        reader.pass(&piece)?;
        to.write_all(&piece)
            .context("the export cannot be written")?;
        progress.at(reader.records(), "exported");
    }
    to.flush().context("the export cannot be written")?;
    Ok(reader.finish()?)
}
