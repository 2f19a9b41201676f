//! What a system needs: a load, an upstream, a Dressipi, a configuration.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

use super::load::Surrounding;
use super::processes::{Core, Process};

/// What all systems talk to.
pub(super) struct Surroundings {
    pub(super) load: Surrounding,
    simulator: Process,
    pub(super) folder: tempfile::TempDir,
}

impl Surroundings {
    pub(super) fn start() -> Self {
        let me = std::env::current_exe().unwrap();
        Self {
            load: Surrounding::start(),
            simulator: Process::start(Command::new(&me).arg("simulator"), Core::Load),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// The bare proxy; `tool` runs it.
    pub(super) fn bare(&self, tool: &[String]) -> Process {
        let me = std::env::current_exe().unwrap();
        let upstream = self.load.upstream.to_string();
        Process::start(under(tool, &me).args(["bare", &upstream]), Core::Proxy)
    }

    /// A sidecar with so many worker threads; `tool` runs it.
    pub(super) fn sidecar(
        &self,
        tool: &[String],
        name: &str,
        access: bool,
        threads: usize,
    ) -> Process {
        let path = self.folder.path().join(format!("{name}.toml"));
        let store = self.folder.path().join(format!("{name}.redb"));
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address: SocketAddr = socket.local_addr().unwrap();
        drop(socket);
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
        let binary = Path::new(env!("CARGO_BIN_EXE_dressipi-sidecar"));
        Process::serve(under(tool, binary).args(["serve", "--config"]).arg(path))
    }
}

fn under(tool: &[String], binary: &Path) -> Command {
    match tool {
        [] => Command::new(binary),
        [tool, arguments @ ..] => {
            let mut command = Command::new(tool);
            command.args(arguments).arg(binary);
            command
        }
    }
}
