//! Where the sessions are: in a store that can be opened, or with a running sidecar.

use anyhow::Context;

use super::remote::Remote;
use crate::config::Config;
use crate::server::{self, StartError};
use crate::session::{OpenStoreError, StoreSettings, Vault};

pub(super) enum Place {
    /// Nobody else has it: opened here.
    Store(Vault),
    /// A running sidecar has it.
    Process(Remote),
}

/// What the store must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// It must be there.
    Existing,
    /// It may be made.
    Any,
}

impl Place {
    pub(super) async fn find(
        config: &Config,
        admin: Option<&str>,
        expected: Expected,
    ) -> anyhow::Result<Self> {
        if let Some(url) = admin {
            return Remote::at(url, config).map(Self::Process);
        }
        match &config.store {
            StoreSettings::Memory { .. } => return Remote::of(config).map(Self::Process),
            StoreSettings::Redb { path, .. } => {
                if expected == Expected::Existing && !path.exists() {
                    anyhow::bail!(
                        "{} does not exist: there is no store to export",
                        path.display()
                    );
                }
            }
            StoreSettings::Redis { .. } => {}
        }
        match server::open_store(&config.store).await {
            Ok((store, keyring)) => {
                let vault = Vault::new(store, keyring, config.session.idle_timeout);
                Ok(Self::Store(vault))
            }
            Err(StartError::Store(OpenStoreError::InUse { path })) => {
                let remote = Remote::of(config).with_context(|| {
                    format!(
                        "{} is in use, and the sidecar that has it cannot be asked",
                        path.display()
                    )
                })?;
                eprintln!(
                    "{} is in use: asking the sidecar at {remote}",
                    path.display()
                );
                Ok(Self::Process(remote))
            }
            Err(error) => Err(error.into()),
        }
    }
}
