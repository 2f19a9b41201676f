//! How the sidecar is configured here: as somebody does whose shop takes what comes, without limits on new visitors.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// What differs from bench to bench.
pub struct Configuration<'a> {
    /// Dressipi and the shop.
    pub upstream: SocketAddr,
    /// Lines of `[session]`: which store, and what else.
    pub session: String,
    /// Worker threads; as many as there are processors without it.
    pub threads: Option<usize>,
    /// Where files go.
    pub folder: &'a Path,
}

impl Configuration<'_> {
    /// Writes it under this name.
    pub fn write(&self, name: &str) -> PathBuf {
        let path = self.folder.join(format!("{name}.toml"));
        let threads = self.threads.map(|threads| format!("threads = {threads}\n"));
        let text = format!(
            r#"
[[listeners]]
address = "127.0.0.1:0"
[admin]
address = "127.0.0.1:0"
[log]
access = false
format = "json"
level = "warn,dressipi_sidecar::cli::serve=info"
[server]
drain_delay = "0s"
{threads}[limits]
connections = 50000
[cookie]
name = "visitor"
secure = false
[creation]
per_client = "unlimited"
overall = "unlimited"
daily = 1000000000
[dressipi]
base_url = "http://{upstream}"
client_id = "demo"
api_key = "demo-api-key"
[session]
{session}
[[routes]]
path = "/"
upstream = "shop"
[[upstreams]]
name = "shop"
address = "{upstream}"
"#,
            threads = threads.unwrap_or_default(),
            upstream = self.upstream,
            session = self.session,
        );
        std::fs::write(&path, text).expect("the folder can be written");
        path
    }
}
