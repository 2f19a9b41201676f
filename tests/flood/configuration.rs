//! How the sidecar is configured, as somebody would who expects a flood, and what follows from that.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use crate::options::Options;

/// The proxy before the sidecar, which is believed in what it says of its clients.
pub const PROXY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// So many at once, and so many again in each such time.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    pub count: u64,
    pub per: Duration,
}

/// What the flood may take.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub per_client: Rate,
    pub overall: Rate,
    pub daily: u64,
    /// Flows at once, and of them those that make profiles.
    pub flows: usize,
    pub creations: usize,
    pub connections: usize,
    pub header_timeout: Duration,
    pub body_grace: Duration,
    pub client_timeout: Duration,
    pub token_lifetime: Duration,
}

/// Where the upstreams are.
#[derive(Clone, Copy, Debug)]
pub struct Upstreams {
    pub dressipi: SocketAddr,
    pub shop: SocketAddr,
}

impl Rate {
    /// The most that come in `elapsed`, if the bucket is full at first.
    pub fn within(&self, elapsed: Duration) -> u64 {
        let again = elapsed.as_nanos() * u128::from(self.count) / self.per.as_nanos();
        self.count + u64::try_from(again).unwrap_or(u64::MAX)
    }

    fn text(&self) -> String {
        format!("{}/{}s", self.count, self.per.as_secs())
    }
}

impl Bounds {
    /// Every limit is met in the time that there is.
    pub fn of(options: &Options) -> Self {
        let seconds = Duration::from_secs;
        let rate = |count| Rate {
            count,
            per: seconds(60),
        };
        Self {
            per_client: rate(6),
            overall: rate(120),
            daily: if options.quick { 135 } else { 600 },
            flows: 16,
            creations: 4,
            // Everybody has room, and a sixth more.
            connections: (options.visitors + options.slow) * 6 / 5,
            header_timeout: seconds(if options.quick { 3 } else { 10 }),
            body_grace: seconds(if options.quick { 3 } else { 5 }),
            client_timeout: seconds(if options.quick { 4 } else { 15 }),
            // Everybody is refreshed while the flood is on: more than once in the full form.
            token_lifetime: seconds(if options.quick { 12 } else { 150 }),
        }
    }

    /// The most profiles that the flood may make, when the first of its requests and the last answer are `elapsed` apart and
    /// fall on so many days.
    pub fn profiles(&self, elapsed: Duration, days: u64) -> u64 {
        self.overall.within(elapsed).min(self.daily * days)
    }
}

/// Writes the configuration: with all of `bounds` where the flood is expected, and without limits where the known visitors are made.
pub fn write(path: &Path, folder: &Path, upstreams: Upstreams, bounds: &Bounds, expected: bool) {
    let limits = match expected {
        false => "[creation]\nper_client = \"unlimited\"\noverall = \"unlimited\"\n".to_owned(),
        true => format!(
            r#"[creation]
per_client = "{per_client}"
overall = "{overall}"
daily = {daily}
[limits]
connections = {connections}
header_timeout = "{header}s"
body_grace = "{grace}s"
"#,
            per_client = bounds.per_client.text(),
            overall = bounds.overall.text(),
            daily = bounds.daily,
            connections = bounds.connections,
            header = bounds.header_timeout.as_secs(),
            grace = bounds.body_grace.as_secs(),
        ),
    };
    // No access log: its reader would be this process.
    let text = format!(
        r#"
[[listeners]]
address = "127.0.0.1:0"
visitor = ["cookie"]
trusted_proxies = ["{PROXY}"]
[admin]
address = "127.0.0.1:0"
[log]
access = false
format = "json"
level = "warn,dressipi_sidecar::cli::serve=info"
[server]
drain_delay = "0s"
client_timeout = "{client}s"
[cookie]
name = "visitor"
secure = false
{limits}
[dressipi]
base_url = "http://{dressipi}"
client_id = "demo"
api_key = "demo-api-key"
[session]
store = "redb"
path = {store:?}
max_flows = {flows}
max_creations = {creations}
[[routes]]
path = "/api/"
upstream = "dressipi"
[[routes]]
path = "/t/"
upstream = "dressipi"
credentials = "none"
[[routes]]
path = "/"
upstream = "shop"
[[upstreams]]
name = "shop"
address = "{shop}"
"#,
        dressipi = upstreams.dressipi,
        shop = upstreams.shop,
        client = bounds.client_timeout.as_secs(),
        flows = bounds.flows,
        creations = bounds.creations,
        store = folder.join("sessions.redb"),
    );
    std::fs::write(path, text).unwrap();
}
