//! The configuration in use, and what became of the last attempt to replace it: the reload writes it, people read it.

use std::sync::Arc;

use arc_swap::ArcSwap;
use sha2::{Digest, Sha256};

use crate::clock::Timestamp;
use crate::config::Config;

/// The configuration in use. Clones are handles to the same one.
#[derive(Clone)]
pub struct ConfigState(Arc<ArcSwap<Present>>);

/// What is in use, as of one moment.
#[derive(Clone)]
pub struct Present {
    /// The configuration.
    pub config: Arc<Config>,
    /// Tells configurations apart: the beginning of a hash over everything but secrets.
    pub version: String,
    /// Since when it is in use.
    pub since: Timestamp,
    /// A later one that was not taken into use.
    pub refused: Option<Refused>,
}

/// A configuration that was not taken into use.
#[derive(Clone)]
pub struct Refused {
    /// When.
    pub at: Timestamp,
    /// Why, with a line for each problem.
    pub reason: String,
}

// === impl ConfigState ===

impl ConfigState {
    /// `config` is in use from `now` on.
    pub fn new(config: Config, now: Timestamp) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(Present::new(config, now))))
    }

    /// What is in use.
    pub fn present(&self) -> Arc<Present> {
        self.0.load_full()
    }

    /// Another one is in use from `now` on.
    pub fn replace(&self, config: Config, now: Timestamp) {
        self.0.store(Arc::new(Present::new(config, now)));
    }

    /// Another one was not taken into use.
    pub fn refuse(&self, reason: String, now: Timestamp) {
        let mut present = Present::clone(&self.present());
        present.refused = Some(Refused { at: now, reason });
        self.0.store(Arc::new(present));
    }
}

impl Present {
    fn new(config: Config, since: Timestamp) -> Self {
        // Secrets print nothing.
        let hash = Sha256::digest(format!("{config:?}"));
        let version = hash[..4].iter().map(|byte| format!("{byte:02x}"));
        Self {
            version: version.collect(),
            config: Arc::new(config),
            since,
            refused: None,
        }
    }
}
