//! Opens the store that is configured, with its keyring.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::StartError;
use crate::session::{
    Created, GuardedStore, Keyring, KeyringError, MemoryStore, RedbStore, RedisStore, Store,
    StoreSettings, loose_mode,
};

/// Opens the store and its keyring; chooses the process's TLS provider before anything connects.
pub async fn open_store(settings: &StoreSettings) -> Result<(Arc<dyn Store>, Keyring), StartError> {
    choose_tls_provider();
    match settings.clone() {
        StoreSettings::Memory {
            max_visitors,
            keys_file,
        } => {
            let keyring = match keys_file {
                Some(keys_file) => Keyring::load(&keys_file)?,
                None => Keyring::ephemeral(),
            };
            Ok((Arc::new(MemoryStore::new(max_visitors)), keyring))
        }
        StoreSettings::Redb {
            path,
            keys_file,
            cache_bytes,
        } => {
            // Opening may read much of a file.
            let open = move || open_file(&path, keys_file.as_deref(), cache_bytes);
            let opened = tokio::task::spawn_blocking(open).await;
            opened.map_err(|_| StartError::Interrupted)?
        }
        StoreSettings::Redis {
            settings,
            keys_file,
        } => {
            let keyring = Keyring::load(&keys_file)?;
            let store = Arc::new(RedisStore::open(&settings).await?);
            // The store keeps to its own bound; a cluster's check may need it twice.
            let store = GuardedStore::new(store, settings.timeout * 2);
            Ok((Arc::new(store), keyring))
        }
    }
}

pub(super) fn choose_tls_provider() {
    // Fails only where one is installed already, and then that one will do.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

fn open_file(
    path: &Path,
    keys_file: Option<&Path>,
    cache_bytes: usize,
) -> Result<(Arc<dyn Store>, Keyring), StartError> {
    // The store first: it makes the folder, and refuses a second process before anything is written.
    let store = Arc::new(RedbStore::open(path, cache_bytes)?);
    let keyring = match keys_file {
        Some(keys_file) => Keyring::load(keys_file)?,
        None => {
            let keys_file = keys_beside(path);
            let (keyring, created) = Keyring::load_or_create(&keys_file)?;
            if created == Created::Yes {
                tracing::warn!(
                    path = %keys_file.display(),
                    "a sealing key was made beside the store: keep it with the store, without it the store cannot be read; \
                     or name a keyring of your own in session.keys_file"
                );
            } else if let Some(mode) = loose_mode(&keys_file) {
                tracing::warn!(path = %keys_file.display(), "the store's sealing key is open to other users (mode {mode:04o}): run `chmod 600` on it");
            }
            keyring
        }
    };
    Ok((store, keyring))
}

/// Where the key of a store is made that has no keyring configured.
pub fn keys_beside(store: &Path) -> PathBuf {
    let mut name = store.as_os_str().to_owned();
    name.push(".keys");
    PathBuf::from(name)
}

/// The keyring as its file is now; `None`: there is no file.
pub(super) fn read_keyring(settings: &StoreSettings) -> Result<Option<Keyring>, KeyringError> {
    let keys_file = match settings {
        StoreSettings::Memory { keys_file, .. } => keys_file.clone(),
        StoreSettings::Redb {
            path, keys_file, ..
        } => Some(keys_file.clone().unwrap_or_else(|| keys_beside(path))),
        StoreSettings::Redis { keys_file, .. } => Some(keys_file.clone()),
    };
    keys_file.map(|file| Keyring::load(&file)).transpose()
}
