//! `serve`: read, start, say so, wait for the signal, drain.

use std::path::{Path, PathBuf};

use anyhow::Context;

use sd_notify::NotifyState;

use super::{confine, systemd};
use crate::server::{self, Running, Stopped, Taken};
use crate::session::StoreSettings;
use crate::{config, telemetry};

pub(super) fn run(path: &Path, upgrade: bool) -> anyhow::Result<()> {
    let env: Vec<_> = std::env::vars().collect();
    let loaded = config::load(path, env.clone())?;
    telemetry::init_logs(&loaded.config.log)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    if loaded.config.server.core_dumps {
        confine::allow_core_dumps().context("core dumps cannot be allowed")?;
    }
    let mut taken = None;
    if upgrade {
        taken = Some(take_over(&loaded.config)?);
    }
    let runtime =
        super::runtime(loaded.config.server.threads).context("the runtime cannot be started")?;
    let following = Following {
        path: path.to_owned(),
        env,
        files: loaded.files,
    };
    runtime.block_on(serve(&loaded.config, following, taken))?;
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

/// Takes the place of the process that runs.
fn take_over(config: &config::Config) -> anyhow::Result<Taken> {
    let path = config.server.upgrade_socket.as_ref().context(
        "--upgrade needs server.upgrade_socket, where the running process offers its sockets",
    )?;
    if !matches!(config.store, StoreSettings::Redis { .. }) {
        anyhow::bail!(
            "--upgrade needs the redis store: both processes serve for a moment, and the others are one process's alone; \
             stop the running one first"
        );
    }
    Ok(Taken::from(path)?)
}

async fn serve(
    config: &config::Config,
    following: Following,
    mut taken: Option<Taken>,
) -> anyhow::Result<()> {
    let running = server::start_with(config, taken.as_mut()).await?;
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
    if taken.is_some() {
        // This is another process than the one that systemd started.
        systemd::tell(&[NotifyState::MainPid(std::process::id())]);
    }
    systemd::tell(&[NotifyState::Ready]);
    if let Some(taken) = taken {
        match taken.started() {
            Ok(()) => tracing::info!("the process before is told to go"),
            Err(error) => tracing::warn!(%error, "the process before could not be told to go"),
        }
    }
    let upgrade_socket = config.server.upgrade_socket.clone();
    let reason = tokio::select! {
        () = succeeded(&running, upgrade_socket) => "a successor",
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

/// Waits for a successor, where one may come.
async fn succeeded(running: &Running, path: Option<PathBuf>) {
    if let Some(path) = path {
        match running.succeeded(&path).await {
            Ok(()) => return,
            Err(error) => tracing::error!(
                path = %path.display(), %error,
                "server.upgrade_socket cannot be offered: no successor can take over"
            ),
        }
    }
    std::future::pending().await
}
