//! Follows the configuration file and the files that it names, and takes what is new into use.
//!
//! The folders are watched, and not the files: editors and Kubernetes (`..data`) put another file in a file's place. Whatever the watch
//! says or does not say (network file systems say nothing), what the files hold decides, looked at every few seconds at least.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use sha2::{Digest, Sha256};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use super::reload::Reloader;
use crate::config::{self, Loaded};

/// Why files cannot be followed at all.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// SIGHUP cannot be received.
    #[error("SIGHUP cannot be received: {0}")]
    Signal(#[source] io::Error),
}

/// How often the files are looked at, whatever the watch says.
const POLL_INTERVAL: Duration = Duration::from_secs(5);
/// Files that are written one after the other are taken together when nothing has changed for so long.
const SETTLED: Duration = Duration::from_millis(200);
/// So many times that is waited for.
const SETTLE_ATTEMPTS: usize = 25;
/// However often something changes in the folders, the files are looked at no more often.
const PAUSE: Duration = Duration::from_millis(100);

/// What files held: nothing is kept of it but a hash.
type Print = [u8; 32];

/// Follows the configuration at `path` and the files that were read for it; until it is dropped. SIGHUP has it read anew whether
/// anything has changed or not. `env` are the variables that lie over the file, as they were when the process began.
pub async fn follow(
    path: PathBuf,
    env: Vec<(String, String)>,
    files: Vec<PathBuf>,
    reloader: Reloader,
) -> Result<(), FollowError> {
    let mut hangup = signal(SignalKind::hangup()).map_err(FollowError::Signal)?;
    let mut follower = Follower::new(path, env, files);
    loop {
        let ordered = follower.wait(&mut hangup).await;
        if follower.is_new().await || ordered {
            follower.read(&reloader).await;
        }
    }
}

struct Follower {
    path: PathBuf,
    env: Vec<(String, String)>,
    files: BTreeSet<PathBuf>,
    used: Print,
    events: mpsc::Receiver<()>,
    watcher: Option<RecommendedWatcher>,
    folders: BTreeSet<PathBuf>,
}

impl Follower {
    fn new(path: PathBuf, env: Vec<(String, String)>, files: Vec<PathBuf>) -> Self {
        // One is enough to look.
        let (sender, events) = mpsc::channel(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // To look at the files is an event too.
            if event.is_ok_and(|event| !event.kind.is_access()) {
                let _ = sender.try_send(());
            }
        });
        let watcher = watcher.inspect_err(|error| {
            tracing::warn!(%error, "files cannot be watched; they are looked at every few seconds");
        });
        let mut follower = Self {
            path,
            env,
            files: BTreeSet::new(),
            used: [0; 32],
            events,
            watcher: watcher.ok(),
            folders: BTreeSet::new(),
        };
        follower.follow_files(files);
        let files: Vec<_> = std::iter::once(&follower.path)
            .chain(&follower.files)
            .cloned()
            .collect();
        follower.used = print(&files);
        follower
    }

    /// Whether SIGHUP ordered it.
    async fn wait(&mut self, hangup: &mut Signal) -> bool {
        tokio::select! {
            Some(()) = hangup.recv() => true,
            Some(()) = self.events.recv() => {
                // A store's file in the same folder changes all the time.
                pingora::time::sleep(PAUSE).await;
                false
            }
            () = pingora::time::sleep(POLL_INTERVAL) => false,
        }
    }

    /// Whether the files hold something else than what was read; waits until they do not change any more.
    async fn is_new(&self) -> bool {
        let mut before = self.print().await;
        for _ in 0..SETTLE_ATTEMPTS {
            if before == self.used {
                return false;
            }
            pingora::time::sleep(SETTLED).await;
            let now = self.print().await;
            if now == before {
                break;
            }
            before = now;
        }
        before != self.used
    }

    /// What the files hold now.
    async fn print(&self) -> Print {
        let files: Vec<_> = std::iter::once(&self.path)
            .chain(&self.files)
            .cloned()
            .collect();
        let print = tokio::task::spawn_blocking(move || print(&files)).await;
        // The runtime ends: nothing is new any more.
        print.unwrap_or(self.used)
    }

    /// Reads the configuration and has it taken into use.
    async fn read(&mut self, reloader: &Reloader) {
        // Before they are read: what changes meanwhile is new the next time.
        let before = self.print().await;
        let (path, env) = (self.path.clone(), self.env.clone());
        let Ok(loaded) = tokio::task::spawn_blocking(move || config::load(&path, env)).await else {
            return;
        };
        let mut followed = None;
        let (config, warnings) = match loaded {
            Ok(Loaded {
                config,
                warnings,
                files,
                ..
            }) => {
                followed = Some(files);
                (Ok(config), warnings)
            }
            Err(problems) => (Err(problems), Vec::new()),
        };
        self.used = before;
        if let Some(files) = followed
            && self.follow_files(files)
        {
            self.used = self.print().await;
        }
        match reloader.apply(config).await {
            Ok(()) => {
                for warning in warnings {
                    tracing::warn!("{warning}");
                }
                tracing::info!(path = %self.path.display(), "the new configuration is in use");
            }
            Err(error) => tracing::error!(
                path = %self.path.display(), %error,
                "the new configuration cannot be used; the one before stays in use"
            ),
        }
    }

    /// Follows these besides the configuration itself, and no longer those of before. Whether they are others.
    fn follow_files(&mut self, files: Vec<PathBuf>) -> bool {
        let before = std::mem::replace(&mut self.files, files.into_iter().collect());
        let folder = |file: &PathBuf| match file.parent() {
            Some(folder) if folder != Path::new("") => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        let followed = self.files.iter().chain([&self.path]);
        let folders: BTreeSet<_> = followed.map(folder).collect();
        if let Some(watcher) = &mut self.watcher {
            for gone in self.folders.difference(&folders) {
                let _ = watcher.unwatch(gone);
            }
            for new in folders.difference(&self.folders) {
                if let Err(error) = watcher.watch(new, RecursiveMode::NonRecursive) {
                    tracing::debug!(folder = %new.display(), %error, "a folder cannot be watched");
                }
            }
        }
        self.folders = folders;
        before != self.files
    }
}

fn print(files: &[PathBuf]) -> Print {
    let mut hash = Sha256::new();
    for file in files {
        match std::fs::read(file).map(Zeroizing::new) {
            Ok(bytes) => {
                hash.update((bytes.len() as u64).to_be_bytes());
                hash.update(&*bytes);
            }
            Err(error) => hash.update(error.kind().to_string()),
        }
    }
    hash.finalize().into()
}
