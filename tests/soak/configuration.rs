//! The configuration, in as many forms as reloads go through.

use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::options::Scale;

/// The proxy before the sidecar, which is believed in what it says of its clients.
pub const PROXY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// What the admin listener asks for.
pub const ADMIN_TOKEN: &str = "a-token-that-nobody-guesses";

/// Where it is written, and what it is about.
pub struct Configuration {
    pub path: PathBuf,
    pub folder: PathBuf,
    pub dressipi: SocketAddr,
    pub app: SocketAddr,
    pub scale: Scale,
}

/// What becomes of a configuration that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is taken into use.
    Used,
    /// It is malformed.
    Refused,
    /// It changes what only a restart can.
    NeedsRestart,
}

/// So many forms, one after the other, then from the beginning: what a configuration may name, such as routes, has series of
/// metrics, and an operator has not ever more of them.
const FORMS: u32 = 8;

impl Configuration {
    /// Writes the form of that number in place of the one before, as editors do; says what will become of it.
    pub fn write(&self, number: u32) -> Fate {
        let form = number % FORMS;
        let fate = match form {
            5 => Fate::Refused,
            7 => Fate::NeedsRestart,
            _ => Fate::Used,
        };
        let text = match fate {
            Fate::Used => self.text(form, 1),
            Fate::Refused => format!("{}\nroutes = \"everywhere\"\n", self.text(form, 1)),
            Fate::NeedsRestart => self.text(form, 2),
        };
        let new = self.folder.join("new.toml");
        std::fs::write(&new, text).expect("the folder can be written");
        std::fs::rename(&new, &self.path).expect("a folder of our own");
        fate
    }

    fn text(&self, form: u32, idle_factor: u64) -> String {
        let Self {
            dressipi,
            app,
            scale,
            ..
        } = self;
        let is = |bit: u32| form & bit != 0;
        let level = match form {
            1 => "info,dressipi_sidecar::session=debug",
            6 => "debug,dressipi_sidecar::proxy=info",
            _ => "warn",
        };
        let mut text = format!(
            r#"
[[listeners]]
address = "127.0.0.1:0"
visitor = ["cookie"]
trusted_proxies = ["{PROXY}"]
[admin]
address = "127.0.0.1:0"
token = "{ADMIN_TOKEN}"
[log]
format = "json"
level = "{level},dressipi_sidecar::cli::serve=info"
access = {access}
access_sample = 0.05
[server]
drain_delay = "0s"
threads = 2
token_state_header = {tell}
server_timing = {tell}
[limits]
connections = {connections}
idle_timeout = "{idle}s"
header_timeout = "3s"
body_grace = "3s"
[cookie]
name = "visitor"
secure = false
[creation]
per_client = "{per_client}/1m"
overall = "unlimited"
extra_bots = ["{bot}"]
[dressipi]
base_url = "http://{dressipi}"
client_id = "demo"
api_key = "demo-api-key"
connect_timeout = "1s"
timeout = "2s"
[session]
store = "redb"
path = {store:?}
page_cache = "8 MiB"
cache_capacity = {cache}
idle_timeout = "{session}s"
max_wait = "6s"
min_backoff = "100ms"
max_backoff = "1s"
unconfirmed_pause = "200ms"
max_unconfirmed = 100
rejection_pause = "1s"
[[routes]]
path = "/api/"
upstream = "dressipi"
[[routes]]
path = "/t/"
upstream = "dressipi"
credentials = "none"
[[routes]]
path = "/"
upstream = "app"
[[upstreams]]
name = "app"
address = "{app}"
connect_timeout = "1s"
read_timeout = "{read}s"
"#,
            access = is(2),
            tell = is(4),
            connections = 4000 + form * 100,
            idle = 4 + form % 2,
            per_client = 1000 + form,
            bot = if is(1) { "somebot" } else { "otherbot" },
            store = store(&self.folder),
            cache = scale.cache,
            session = scale.idle_timeout.as_secs() * idle_factor,
            read = 2 + form % 2,
        );
        for route in 0..form {
            let reject = if route % 2 == 0 {
                "reject"
            } else {
                "anonymous"
            };
            let _ = write!(
                text,
                "[[routes]]\npath = \"/section-{route}/\"\nupstream = \"app\"\non_unavailable = \"{reject}\"\n"
            );
        }
        text
    }
}

/// The store's file in that folder.
pub fn store(folder: &Path) -> PathBuf {
    folder.join("sessions.redb")
}
