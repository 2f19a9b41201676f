//! How the sidecars are configured: terms and pauses short enough for such a run.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::options::Options;
use crate::replica::Replica;
use crate::store::Redis;
use crate::witness::Witness;

/// The lease of a visitor: short, so that slow answers outlive it.
pub const LEASE_TERM: Duration = Duration::from_millis(400);
/// How long the sidecar waits for an OAuth answer: longer than ten lease terms.
pub const OAUTH_TIMEOUT: Duration = Duration::from_secs(6);
/// How long a replica that holds the newest tokens has to find its way to the store: longer than anything here keeps it away.
pub const LOST_GRACE: Duration = Duration::from_secs(12);

/// The sidecars, not yet started, each with a way to the store and one to Dressipi of its own.
pub fn replicas(
    options: &Options,
    folder: &Path,
    redis: Option<&Redis>,
    witness: &Arc<Witness>,
) -> Vec<Replica> {
    let keys = folder.join("keys");
    std::fs::write(
        &keys,
        format!("{}\n", dressipi_sidecar::session::generate_key_line()),
    )
    .unwrap();
    let level = if options.keep {
        "info"
    } else {
        "warn,dressipi_sidecar::cli::serve=info"
    };
    (0..options.replicas)
        .map(|number| {
            let (links, store) = match redis {
                Some(redis) => redis.links(),
                None => (
                    Vec::new(),
                    format!("store = \"redb\"\npath = {:?}\n", folder.join("store.redb")),
                ),
            };
            let text = format!(
                r#"
[[listeners]]
address = "127.0.0.1:0"
visitor = ["cookie"]
[[listeners]]
address = "127.0.0.1:0"
visitor = ["header:x-visitor-id"]
[admin]
address = "127.0.0.1:0"
[log]
access = false
format = "json"
level = "{level}"
[server]
threads = 2
drain_delay = "0s"
[cookie]
name = "visitor"
secure = false
[creation]
create = "returning"
[dressipi]
base_url = "http://{dressipi}"
client_id = "demo"
api_key = "demo-api-key"
timeout = "{timeout}s"
[session]
keys_file = {keys:?}
{store}
# As many pauses as such a time needs.
unconfirmed_pause = "500ms"
max_unconfirmed = 100
min_backoff = "200ms"
max_backoff = "2s"
{lease}
[[routes]]
path = "/api/"
upstream = "dressipi"
"#,
                dressipi = witness.serve(number),
                timeout = OAUTH_TIMEOUT.as_secs(),
                lease = match redis {
                    Some(_) => format!(
                        "lease_term = \"{}ms\"\nlost_grace = \"{}s\"",
                        LEASE_TERM.as_millis(),
                        LOST_GRACE.as_secs()
                    ),
                    None => String::new(),
                },
            );
            Replica::new(number, folder, &text, links, witness)
        })
        .collect()
}
