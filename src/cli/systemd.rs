//! What systemd is told, where it started the process (`Type=notify`): when it is ready, and that it is on its way out.

use sd_notify::NotifyState;

/// Tells it, if it wants to know.
pub(super) fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "systemd could not be told");
    }
}
