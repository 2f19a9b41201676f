//! `serve`: read, start, say so, wait for the signal, drain.

use std::path::{Path, PathBuf};

use anyhow::Context;

use sd_notify::NotifyState;

use super::{StopSignals, confine, systemd};
use crate::server::{self, Offer, Running, Stopped, Taken};
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
    if loaded.config.server.huge_pages
        && let Err(error) = confine::allow_huge_pages()
    {
        tracing::warn!(%error, "server.huge_pages: the system does not allow them");
    }
    let mut taken = None;
    if upgrade {
        taken = Some(take_over(&loaded.config)?);
    }
    // Exchanges have threads of their own.
    let runtime = super::runtime(1).context("the runtime cannot be started")?;
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
    // Whoever wants it to stop is heard from the beginning.
    let mut signals = StopSignals::listen().context("signals cannot be received")?;
    let running = tokio::select! {
        running = server::start_with(config, taken.as_mut()) => running?,
        signal = signals.recv() => {
            tracing::info!(signal, "stopped before it had started");
            return Ok(());
        }
    };
    let offer = config.server.upgrade_socket.as_deref();
    let offer = offer.and_then(|path| offer_sockets(&running, path));
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
    let reason = tokio::select! {
        () = succeeded(offer) => "a successor",
        signal = signals.recv() => signal,
        () = running.told_to_quit() => "POST /quit",
    };
    following.abort();
    systemd::tell(&[NotifyState::Stopping]);
    tracing::info!(signal = reason, "draining");
    // The second signal is for those who cannot wait.
    tokio::select! {
        Stopped { cut_off, unsaved } = running.stop() => {
            if unsaved > 0 {
                anyhow::bail!("{unsaved} visitor sessions could not be written to the store before the end");
            }
            tracing::info!(cut_off, "stopped");
        }
        _ = signals.recv() => tracing::warn!("stopped at once by a second signal"),
    }
    Ok(())
}

fn offer_sockets(running: &Running, path: &Path) -> Option<Offer> {
    let offer = running.offer(path).inspect_err(|error| {
        tracing::error!(
            path = %path.display(), %error,
            "server.upgrade_socket cannot be offered: no successor can take over"
        );
    });
    offer.ok()
}

/// Waits for a successor, where one may come.
async fn succeeded(offer: Option<Offer>) {
    if let Some(offer) = offer {
        match offer.taken().await {
            Ok(()) => return,
            Err(error) => tracing::error!(%error, "no successor can take over any more"),
        }
    }
    std::future::pending().await
}
