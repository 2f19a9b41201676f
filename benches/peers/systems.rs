//! The systems: how each is called, what it is made of, and how it is started.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use dressipi_sidecar::server::keys_beside;

use crate::population::Population;
use crate::support::processes::{Core, Process, free_address, program, sidecar_binary, under};

/// What stands between client and upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum System {
    Direct,
    Pingora,
    Sidecar,
    /// Another build of it, where one is named.
    OtherSidecar,
    NginxMap,
    NginxLua,
    Haproxy,
    Envoy,
    Traefik,
    Caddy,
}

/// The key that goes along with the token.
pub(crate) const API_KEY: &str = "demo-api-key";

/// What a system is started with.
pub(crate) struct Site<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) upstream: SocketAddr,
    pub(crate) population: &'a Population,
    /// What runs it, such as valgrind, with its arguments.
    pub(crate) tool: &'a [String],
}

// === impl System ===

impl System {
    pub(crate) const ALL: [Self; 9] = [
        Self::Direct,
        Self::Pingora,
        Self::Sidecar,
        Self::NginxMap,
        Self::NginxLua,
        Self::Haproxy,
        Self::Envoy,
        Self::Traefik,
        Self::Caddy,
    ];

    /// As `--only` calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Pingora => "pingora",
            Self::Sidecar => "sidecar",
            Self::OtherSidecar => "other-sidecar",
            Self::NginxMap => "nginx-map",
            Self::NginxLua => "nginx-lua",
            Self::Haproxy => "haproxy",
            Self::Envoy => "envoy",
            Self::Traefik => "traefik",
            Self::Caddy => "caddy",
        }
    }

    /// As the table calls it.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Direct => "direct, no proxy",
            Self::Pingora => "pingora, passing through",
            Self::Sidecar => "**sidecar**",
            Self::OtherSidecar => "sidecar, `OTHER_SIDECAR_BINARY`",
            Self::NginxMap => "nginx, `map`",
            Self::NginxLua => "nginx, Lua shared dict",
            Self::Haproxy => "HAProxy, map file",
            Self::Envoy => "Envoy, Lua table",
            Self::Traefik => "Traefik, fixed headers",
            Self::Caddy => "Caddy, fixed headers",
        }
    }

    /// Which headers it adds: the visitor's token, and the key.
    pub(crate) fn adds(self) -> [bool; 2] {
        match self {
            Self::Direct | Self::Pingora => [false, false],
            // An app has no use for the key, and does not get it.
            Self::Sidecar | Self::OtherSidecar => [true, false],
            _ => [true, true],
        }
    }

    /// Whether it looks for the visitor; others add the same to every request, or nothing.
    pub(crate) fn looks_up(self) -> bool {
        self.adds()[0] && !matches!(self, Self::Traefik | Self::Caddy)
    }

    /// Whether valgrind can run it.
    pub(crate) fn is_countable(self) -> bool {
        !matches!(
            self,
            Self::Direct | Self::Envoy | Self::Traefik | Self::Caddy
        )
    }

    /// What `install` calls the program; none where it is built here.
    pub(crate) fn peer(self) -> Option<&'static str> {
        match self {
            Self::Direct | Self::Pingora | Self::Sidecar | Self::OtherSidecar => None,
            Self::NginxMap | Self::NginxLua => Some("nginx"),
            Self::Haproxy | Self::Envoy | Self::Traefik | Self::Caddy => Some(self.name()),
        }
    }

    /// Where its program is; none where that is not installed.
    pub(crate) fn program(self) -> Option<String> {
        let peer = self.peer()?;
        let bin = peers_folder().join("bin");
        let file = match self {
            Self::NginxMap | Self::Haproxy => return program(peer),
            Self::NginxLua => {
                return program(peer).filter(|_| Path::new(NGINX_MODULES).join(LUA).exists());
            }
            // Its package starts it by a script; the program itself is elsewhere.
            Self::Envoy => python_packages()?.join("envoy/_bin/envoy"),
            _ => bin.join(peer),
        };
        file.exists().then(|| file.to_string_lossy().into_owned())
    }

    /// Starts it; `None` where there is nothing to start. An error is what it says.
    pub(crate) fn start(self, site: &Site) -> Result<Option<Process>, String> {
        match self {
            Self::Direct => return Ok(None),
            Self::Pingora => {
                let me = std::env::current_exe().unwrap();
                let mut command = under(site.tool, &me);
                let command = command.args(["bare", &site.upstream.to_string()]);
                return Ok(Some(Process::start(command, Core::Proxy)));
            }
            _ => {}
        }
        let address = free_address();
        let words = self.words(site, address);
        let file = |name: &str, text: &str| {
            let path = site.folder.join(name);
            std::fs::write(&path, filled(text, &words)).unwrap();
            path.to_string_lossy().into_owned()
        };
        let sidecar = match self {
            Self::Sidecar => Some(sidecar_binary()),
            Self::OtherSidecar => other_sidecar_binary(),
            _ => None,
        };
        if let Some(binary) = sidecar {
            let config = format!("{}.toml", self.name());
            let config = file(&config, include_str!("conf/sidecar.toml"));
            let mut command = under(site.tool, &binary);
            let command = command.args(["serve", "--config", &config]);
            return Ok(Some(Process::serve(command)));
        }
        let program = self.program().ok_or("it is not installed")?;
        let mut environment = Vec::new();
        let arguments = match self {
            Self::NginxMap | Self::NginxLua => {
                let text = match self {
                    Self::NginxMap => include_str!("conf/nginx_map.conf"),
                    _ => include_str!("conf/nginx_lua.conf"),
                };
                let config = file(&format!("{}.conf", self.name()), text);
                let folder = site.folder.to_string_lossy().into_owned();
                vec!["-p".to_owned(), folder, "-c".to_owned(), config]
            }
            Self::Haproxy => {
                let config = file("haproxy.cfg", include_str!("conf/haproxy.cfg"));
                vec!["-db".to_owned(), "-f".to_owned(), config]
            }
            Self::Envoy => {
                let config = file("envoy.yaml", include_str!("conf/envoy.yaml"));
                let more = "--concurrency 1 --disable-hot-restart -l error".split(' ');
                let begin = ["-c".to_owned(), config];
                begin.into_iter().chain(more.map(str::to_owned)).collect()
            }
            Self::Traefik => {
                file(
                    "traefik-routes.yaml",
                    include_str!("conf/traefik_routes.yaml"),
                );
                let config = file("traefik.yaml", include_str!("conf/traefik.yaml"));
                environment.push("GOMAXPROCS=1".to_owned());
                vec![format!("--configFile={config}")]
            }
            _ => {
                let config = file("Caddyfile", include_str!("conf/Caddyfile"));
                environment.push("GOMAXPROCS=1".to_owned());
                // Where it would keep certificates.
                environment.push(format!("XDG_DATA_HOME={}", site.folder.display()));
                let arguments = ["run", "--adapter", "caddyfile", "--config", &config];
                arguments.map(str::to_owned).to_vec()
            }
        };
        let mut command = vec!["env".to_owned()];
        command.extend(environment);
        command.extend(site.tool.iter().cloned());
        command.push(program);
        command.extend(arguments);
        // nginx's master ends its worker when it is asked to end, and cannot when it is killed.
        let signal = if self.peer() == Some("nginx") {
            "TERM"
        } else {
            "KILL"
        };
        let log = site.folder.join(format!("{}.log", self.name()));
        Process::keep(&command, signal, address, &log).map(Some)
    }

    /// The store that it opens. A file is one process's.
    fn store(self, population: &Population) -> PathBuf {
        let store = &population.store;
        if self != Self::OtherSidecar {
            return store.clone();
        }
        let own = store.with_extension("other.redb");
        for (from, to) in [(store, &own), (&keys_beside(store), &keys_beside(&own))] {
            std::fs::copy(from, to).unwrap();
        }
        own
    }

    /// What stands for the words between `@` in the files of `conf`.
    fn words(self, site: &Site, listen: SocketAddr) -> HashMap<&'static str, String> {
        let visitors = site.population.number;
        // Under a tool nginx is one process: the tool counts that.
        let master = if site.tool.is_empty() {
            ""
        } else {
            "master_process off;"
        };
        HashMap::from([
            ("name", self.name().to_owned()),
            ("listen", listen.to_string()),
            ("listen_host", listen.ip().to_string()),
            ("listen_port", listen.port().to_string()),
            ("upstream", site.upstream.to_string()),
            ("upstream_host", site.upstream.ip().to_string()),
            ("upstream_port", site.upstream.port().to_string()),
            ("folder", site.folder.display().to_string()),
            ("store", self.store(site.population).display().to_string()),
            ("tokens", site.population.tokens.display().to_string()),
            (
                "tokens_nginx",
                site.population.tokens_nginx.display().to_string(),
            ),
            ("token", Population::token(0)),
            ("key", API_KEY.to_owned()),
            ("master", master.to_owned()),
            ("modules", NGINX_MODULES.to_owned()),
            // Twice as many as there are visitors, so that nobody is put out.
            ("cache", (2 * visitors).max(100_000).to_string()),
            // nginx looks for a size up to this one that suits its buckets.
            ("slots", (4 * visitors).max(2048).to_string()),
            // A visitor takes a kilobyte of nginx's slabs.
            ("shared_megabytes", (visitors / 800 + 16).to_string()),
        ])
    }
}

/// Another build of the sidecar, to be measured beside it: `OTHER_SIDECAR_BINARY`.
pub(crate) fn other_sidecar_binary() -> Option<PathBuf> {
    std::env::var_os("OTHER_SIDECAR_BINARY").map(PathBuf::from)
}

/// Where Debian has nginx's modules.
const NGINX_MODULES: &str = "/usr/lib/nginx/modules";
const LUA: &str = "ngx_http_lua_module.so";

/// Where `install` puts what does not come from Debian.
fn peers_folder() -> PathBuf {
    target_folder().join("peers")
}

/// The folder of the build.
pub(crate) fn target_folder() -> PathBuf {
    let folder = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)
}

fn python_packages() -> Option<PathBuf> {
    let versions = std::fs::read_dir(peers_folder().join("lib")).ok()?;
    let mut found = versions
        .flatten()
        .map(|version| version.path().join("site-packages"));
    found.find(|path| path.exists())
}

/// `text` with its words filled in.
fn filled(text: &str, words: &HashMap<&str, String>) -> String {
    words.iter().fold(text.to_owned(), |text, (word, value)| {
        text.replace(&format!("@{word}@"), value)
    })
}
