//! PURE: what cannot change while the sidecar runs.

use super::Config;
use crate::session::StoreSettings;

/// The keys in which `new` differs from what runs, and which only a restart can change. Empty: `new` can be taken into use.
pub fn needs_restart(running: &Config, new: &Config) -> Vec<String> {
    let mut keys = Vec::new();
    let mut note = |key: &str, differs: bool| {
        if differs {
            keys.push(key.to_owned());
        }
    };
    let count = running.listeners.len().max(new.listeners.len());
    for index in 0..count {
        let [one, other] =
            [running, new].map(|config| config.listeners.get(index).map(|one| &one.address));
        note(&format!("listeners[{index}].address"), one != other);
    }
    let [one, other] = [running, new].map(|config| config.admin.as_ref().map(|one| one.address));
    note("admin.address", one != other);
    let [one, other] = [running, new].map(|config| without_keys(&config.store));
    note("session", one != other || running.session != new.session);
    let [one, other] = [running, new].map(|config| &config.dressipi.headers.token_template);
    note("dressipi.headers.token_value", one != other);
    note("log.format", running.log.format != new.log.format);
    // pingora has these from the start.
    let [one, other] = [running, new].map(|config| &config.limits);
    note(
        "limits.requests_per_connection",
        one.requests_per_connection != other.requests_per_connection,
    );
    note(
        "limits.header_bytes",
        one.header_bytes != other.header_bytes,
    );
    note(
        "limits.idle_timeout",
        one.idle_timeout != other.idle_timeout,
    );
    let [one, other] = [running, new].map(|config| &config.server);
    note("server.threads", one.threads != other.threads);
    note(
        "server.keepalive_pool",
        one.keepalive_pool != other.keepalive_pool,
    );
    note("server.core_dumps", one.core_dumps != other.core_dumps);
    note("server.huge_pages", one.huge_pages != other.huge_pages);
    note(
        "server.upgrade_socket",
        one.upgrade_socket != other.upgrade_socket,
    );
    keys
}

/// Where visitor sessions are, whichever keys seal them.
fn without_keys(store: &StoreSettings) -> StoreSettings {
    let mut store = store.clone();
    match &mut store {
        StoreSettings::Memory { keys_file, .. } | StoreSettings::Redb { keys_file, .. } => {
            // That there are some at all does not change.
            if let Some(file) = keys_file {
                file.clear();
            }
        }
        StoreSettings::Redis { keys_file, .. } => keys_file.clear(),
    }
    store
}
