use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use dressipi_sidecar::config::{self, Config, Format};
use dressipi_sidecar::server::{self, ReloadError, Running, Stopped};
use reqwest::RequestBuilder;

use super::{App, Dressipi, canary, client, eventually};

/// A sidecar in this process. Listener 0 knows visitors by cookie, listener 1 by `x-visitor-id`.
pub struct Sidecar {
    running: Running,
    pub client: reqwest::Client,
}

/// A configuration in the making.
pub struct SidecarBuilder {
    base_url: String,
    app: Option<SocketAddr>,
    session: String,
    extra: String,
    cookie: String,
    admin: String,
    server: String,
    routes: String,
    threads: u8,
}

impl Sidecar {
    pub fn behind(dressipi: &Dressipi) -> SidecarBuilder {
        SidecarBuilder {
            base_url: format!("http://{}", dressipi.address),
            app: None,
            session: "store = \"memory\"".into(),
            extra: String::new(),
            cookie: String::new(),
            admin: String::new(),
            server: String::new(),
            routes: "[[routes]]\npath = \"/api/\"\nupstream = \"dressipi\"\n".into(),
            threads: 2,
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.listener(0)
    }

    /// The address of the listener that stands there in the configuration.
    pub fn listener(&self, index: usize) -> SocketAddr {
        self.running.addresses()[index].tcp().unwrap()
    }

    /// The listener that knows visitors by header.
    pub fn trusted_address(&self) -> SocketAddr {
        self.listener(1)
    }

    /// A request of a browser, which is known by its cookie.
    pub fn browser(&self, path: &str) -> RequestBuilder {
        self.client
            .get(format!("http://{}{path}", self.running.addresses()[0]))
    }

    /// A request of an app, which names the visitor.
    pub fn visitor(&self, id: &str, path: &str) -> RequestBuilder {
        self.visitor_request(reqwest::Method::GET, id, path)
    }

    pub fn visitor_request(&self, method: reqwest::Method, id: &str, path: &str) -> RequestBuilder {
        let url = format!("http://{}{path}", self.running.addresses()[1]);
        self.client.request(method, url).header("x-visitor-id", id)
    }

    pub fn admin_address(&self) -> SocketAddr {
        self.running.admin().unwrap()
    }

    pub async fn admin(&self, path: &str) -> reqwest::Response {
        let url = format!("http://{}{path}", self.running.admin().unwrap());
        self.client.get(url).send().await.unwrap()
    }

    /// The sum of a metric over all label sets that contain `labels`.
    pub async fn metric(&self, name: &str, labels: &str) -> f64 {
        let text = self.admin("/metrics").await.text().await.unwrap();
        canary::search("the metrics", &text);
        let name = format!("dressipi_sidecar_{name}");
        let lines = text.lines().filter(|line| {
            line.strip_prefix(&name)
                .is_some_and(|rest| rest.starts_with(['{', ' ']) && rest.contains(labels))
        });
        lines
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    }

    /// Waits until a counter has reached `least`: requests are counted after the client has its answer.
    pub async fn counts(&self, name: &str, labels: &str, least: f64) {
        let what = format!("{name}{{{labels}}} reaches {least}");
        eventually(&what, async || self.metric(name, labels).await >= least).await;
    }

    /// Takes another configuration into use.
    pub async fn reload(&self, text: &str) -> Result<(), ReloadError> {
        let loaded = config::load_text("test.toml", text, Format::Toml, Path::new("/"), []);
        let config = loaded.map(|loaded| loaded.config);
        self.running.reloader().apply(config).await
    }

    pub async fn stop(self) -> Stopped {
        self.running.stop().await
    }
}

impl SidecarBuilder {
    /// Another store than memory, or other keys of `[session]`.
    pub fn session(mut self, keys: &str) -> Self {
        keys.clone_into(&mut self.session);
        self
    }

    pub fn redb(self, folder: &Path) -> Self {
        let path = folder.join("sessions.redb");
        self.session(&format!("store = \"redb\"\npath = {path:?}"))
    }

    /// Further sections.
    pub fn extra(mut self, text: &str) -> Self {
        self.extra.push_str(text);
        self.extra.push('\n');
        self
    }

    /// Further keys of `[cookie]`.
    pub fn cookie(mut self, keys: &str) -> Self {
        keys.clone_into(&mut self.cookie);
        self
    }

    /// Further keys of `[admin]`.
    pub fn admin_keys(mut self, keys: &str) -> Self {
        keys.clone_into(&mut self.admin);
        self
    }

    /// Workers, each with upstream connections of its own: where a test counts these, it has one worker.
    pub fn threads(mut self, threads: u8) -> Self {
        self.threads = threads;
        self
    }

    /// Further keys of `[server]`.
    pub fn server(mut self, keys: &str) -> Self {
        keys.clone_into(&mut self.server);
        self
    }

    /// Other routes than `/api/` to Dressipi (and `/` to the app, if there is one).
    pub fn routes(mut self, text: &str) -> Self {
        text.clone_into(&mut self.routes);
        self
    }

    pub fn app(self, app: &App) -> Self {
        self.app_at(app.address)
    }

    /// An app that is no [`App`].
    pub fn app_at(mut self, address: SocketAddr) -> Self {
        self.app = Some(address);
        self
    }

    pub fn base_url(mut self, url: String) -> Self {
        self.base_url = url;
        self
    }

    pub fn text(&self) -> String {
        let Self {
            base_url,
            session,
            extra,
            cookie,
            server,
            routes,
            admin,
            threads,
            ..
        } = self;
        // A busy machine must not make a visitor anonymous.
        let patience = match session.contains("max_wait") {
            true => "",
            false => "max_wait = \"15s\"",
        };
        let mut text = format!(
            r#"
            [[listeners]]
            address = "127.0.0.1:0"
            visitor = ["cookie"]
            [[listeners]]
            address = "127.0.0.1:0"
            visitor = ["header:x-visitor-id"]
            [admin]
            address = "127.0.0.1:0"
            {admin}
            [log]
            access = false
            [server]
            drain_delay = "0s"
            threads = {threads}
            {server}
            [cookie]
            name = "visitor"
            secure = false
            {cookie}
            [dressipi]
            base_url = "{base_url}"
            client_id = "demo"
            api_key = "demo-api-key"
            connect_timeout = "20s"
            timeout = "20s"
            [session]
            {session}
            {patience}
            {extra}
            {routes}
            "#
        );
        if let Some(app) = self.app {
            text.push_str(&format!(
                "\n[[upstreams]]\nname = \"app\"\naddress = \"{app}\"\n"
            ));
            if !routes.contains("\"/\"") {
                text.push_str("\n[[routes]]\npath = \"/\"\nupstream = \"app\"\n");
            }
        }
        text
    }

    /// Writes the configuration for the real binary.
    pub fn write(&self, folder: &Path) -> PathBuf {
        let path = folder.join("sidecar.toml");
        let text = self.text().replace("[log]", "[log]\nformat = \"json\"");
        std::fs::write(&path, text).unwrap();
        path
    }

    pub async fn start(self) -> Sidecar {
        let text = self.text();
        self.start_text(&text).await
    }

    /// Starts with `text` for what this builder would have written.
    pub async fn start_text(self, text: &str) -> Sidecar {
        let running = server::start(&config_of(text)).await.unwrap();
        Sidecar {
            running,
            client: client(),
        }
    }
}

fn config_of(text: &str) -> Config {
    match config::load_text("test.toml", text, Format::Toml, Path::new("/"), []) {
        Ok(loaded) => loaded.config,
        Err(problems) => panic!("{problems}\n{text}"),
    }
}
