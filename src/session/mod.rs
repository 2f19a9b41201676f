//! Visitor sessions: their states, their store, and the manager that keeps each visitor at one profile.

mod backoff;
mod breaker;
mod cache;
mod cas;
pub mod codec;
mod creations;
mod erasures;
mod files;
mod flights;
pub mod flow;
mod flow_runtime;
mod freshness;
mod keyring;
mod keyring_file;
mod lease;
mod manager;
mod memory;
mod memory_shared;
pub mod moving;
mod observer;
mod overview;
mod performer;
mod policy;
mod record;
mod recovery;
mod redb_batch;
mod redb_file;
mod redb_readers;
mod redb_shared;
mod redb_store;
mod redb_tables;
mod redb_writer;
mod redis_connect;
mod redis_keys;
mod redis_line;
mod redis_link;
mod redis_list;
mod redis_map;
mod redis_news;
mod redis_nodes;
mod redis_open;
mod redis_outcome;
mod redis_scan;
mod redis_scripts;
mod redis_settings;
mod redis_shared;
mod redis_store;
mod store;
mod table;
mod tombstone;
mod unsaved;
mod vault;
mod waiters;
mod waiting;

pub use breaker::GuardedStore;
pub use cache::{Authorized, RenderToken};
pub use creations::Creation;
pub use erasures::Remember;
pub use flow::{Note, Unavailable};
pub use flow_runtime::FlowRuntime;
pub use freshness::{Freshness, Schedule};
pub use keyring::{
    Created, Keyring, KeyringError, LineError, OpenError, generate_key_line, loose_mode,
};
pub use manager::{
    FindError, Life, Manager, Parts, Rejection, RevokeError, SessionPage, TokenLife,
};
pub use memory::MemoryStore;
pub use memory_shared::SharedMemoryStore;
pub use observer::{Call, LeaseEvent, Observer, StoreCall, Unobserved};
pub use overview::{InMemory, Overview, SessionFacts, TokenFacts};
pub use policy::{OnLost, Policy, Replicas, Settings, StoreSettings};
pub use record::{Age, State, VisitorSession};
pub use recovery::{Marker, Recovery};
pub use redb_file::OpenStoreError;
pub use redb_store::RedbStore;
pub use redis_connect::TlsFileError;
pub use redis_open::OpenRedisError;
pub use redis_settings::{
    RedisAddress, RedisLogin, RedisServers, RedisSettings, RedisTls, RedisWait,
};
pub use redis_store::RedisStore;
pub use store::{
    Acquired, Census, Cursor, Entry, Found, LeaseOwner, News, Page, PutError, SharedStore,
    StateTag, Store, StoreError, Stored, Version,
};
pub use vault::{SaveError, Vault, VaultError};
pub use waiting::on_behalf_of;
