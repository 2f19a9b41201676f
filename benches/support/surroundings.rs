//! What the sidecar and the bare proxy talk to: a Dressipi, an app, and the clients.

use std::process::Command;

use super::load::Surrounding;
use super::processes::{Core, Process, free_address, sidecar_binary, under};

/// What all systems talk to.
pub(crate) struct Surroundings {
    pub(crate) load: Surrounding,
    simulator: Process,
    pub(crate) folder: tempfile::TempDir,
}

/// How a sidecar is to be set up.
#[derive(Clone, Copy)]
pub(crate) struct Wanted {
    /// Whether it writes an access log.
    pub(crate) access: bool,
    pub(crate) threads: usize,
}

impl Surroundings {
    pub(crate) fn start() -> Self {
        let me = std::env::current_exe().unwrap();
        Self {
            load: Surrounding::start(),
            simulator: Process::start(Command::new(&me).arg("simulator"), Core::Load),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// The bare proxy, which is a part of the benchmark's own program; `tool` runs it.
    pub(crate) fn bare(&self, tool: &[String]) -> Process {
        let me = std::env::current_exe().unwrap();
        let upstream = self.load.upstream.to_string();
        Process::start(under(tool, &me).args(["bare", &upstream]), Core::Proxy)
    }

    /// A sidecar; `tool` runs it.
    pub(crate) fn sidecar(&self, tool: &[String], name: &str, wanted: &Wanted) -> Process {
        let Wanted { access, threads } = *wanted;
        let path = self.folder.path().join(format!("{name}.toml"));
        let store = self.folder.path().join(format!("{name}.redb"));
        let address = free_address();
        let text = format!(
            r#"
            [[listeners]]
            address = "{address}"
            [dressipi]
            base_url = "http://{}"
            client_id = "demo"
            api_key = "demo-api-key"
            [session]
            path = {store:?}
            max_wait = "30s"
            [cookie]
            name = "visitor"
            secure = false
            [[routes]]
            path = "/"
            upstream = "app"
            [[routes]]
            path = "/api/"
            upstream = "dressipi"
            [[upstreams]]
            name = "app"
            address = "{}"
            [log]
            access = {access}
            format = "json"
            [server]
            threads = {threads}
            drain_delay = "0s"
            "#,
            self.simulator.address, self.load.upstream
        );
        std::fs::write(&path, text).unwrap();
        let binary = sidecar_binary();
        Process::serve(under(tool, &binary).args(["serve", "--config"]).arg(path))
    }
}
