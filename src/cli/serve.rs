//! `serve`: read, start, say so, wait for the signal, drain.

use std::path::{Path, PathBuf};

use anyhow::Context;

use sd_notify::NotifyState;

use super::{confine, systemd};
use crate::server::{self, Stopped};
use crate::{config, telemetry};

pub(super) fn run(path: &Path) -> anyhow::Result<()> {
    let env: Vec<_> = std::env::vars().collect();
    let loaded = config::load(path, env.clone())?;
    telemetry::init_logs(&loaded.config.log)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    if loaded.config.server.core_dumps {
        confine::allow_core_dumps().context("core dumps cannot be allowed")?;
    }
    let runtime =
        super::runtime(loaded.config.server.threads).context("the runtime cannot be started")?;
    let following = Following {
        path: path.to_owned(),
        env,
        files: loaded.files,
    };
    runtime.block_on(serve(&loaded.config, following))?;
    // Tasks that were cut off must not hold up the end.
    runtime.shutdown_background();
    Ok(())
}

/// What the configuration came from.
struct Following {
    path: PathBuf,
    env: Vec<(String, String)>,
    files: Vec<PathBuf>,
}

async fn serve(config: &config::Config, following: Following) -> anyhow::Result<()> {
    let running = server::start(config).await?;
    let Following { path, env, files } = following;
    let following = server::follow(path, env, files, running.reloader().clone());
    let following = tokio::spawn(async move {
        if let Err(error) = following.await {
            tracing::error!(%error, "the configuration file is not followed");
        }
    });
    for address in running.addresses() {
        tracing::info!(%address, "listening");
    }
    if let Some(address) = running.admin() {
        tracing::info!(%address, "admin listening");
    }
    systemd::tell(&[NotifyState::Ready]);
    let reason = tokio::select! {
        signal = super::stop_signal() => signal.context("signals cannot be received")?,
        () = running.told_to_quit() => "POST /quit",
    };
    following.abort();
    systemd::tell(&[NotifyState::Stopping]);
    tracing::info!(signal = reason, "draining");
    let again = async {
        // The second signal is for those who cannot wait.
        let _ = super::stop_signal().await;
    };
    tokio::select! {
        Stopped { cut_off, unsaved } = running.stop() => {
            if unsaved > 0 {
                anyhow::bail!("{unsaved} visitor sessions could not be written to the store before the end");
            }
            tracing::info!(cut_off, "stopped");
        }
        () = again => tracing::warn!("stopped at once by a second signal"),
    }
    Ok(())
}
