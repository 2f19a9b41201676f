//! `[session.redis]`: the Redis servers, who we are to them, and how long they may take.

use std::path::PathBuf;
use std::time::Duration;

use url::{Host, Url};

use super::report::{Report, duration, element, key};
use super::{client_identity, files};
use crate::config::file;
use crate::config::values::RedisMode;
use crate::config::warnings::is_loopback;
use crate::session::{
    RedisAddress, RedisLogin, RedisServers, RedisSettings, RedisTls, RedisWait, StoreSettings,
};

const SECTION: &str = "session.redis";
const SERVER_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;
/// More databases, or replicas to wait for, than anybody has.
const MANY: u32 = 10_000;

/// The settings of the Redis store; `None` if they make no sense.
pub(super) fn parse(report: &mut Report<'_>, raw: &mut file::Session) -> Option<StoreSettings> {
    let foreign = [
        ("path", raw.path.is_some()),
        ("page_cache", raw.page_cache.is_some()),
        ("max_visitors", raw.max_visitors.is_some()),
    ];
    for (name, _) in foreign.into_iter().filter(|(_, given)| *given) {
        let message = "has no meaning for the redis store";
        report.problem(&key("session", name), message, "leave it out");
    }
    let keys_file = keys_file(report, raw);
    let Some(mut raw) = raw.redis.take() else {
        let hint = "add [session.redis] with url, such as \"redis://127.0.0.1:6379\"";
        report.missing(SECTION, hint);
        return None;
    };
    let mode = raw.mode.unwrap_or(RedisMode::Standalone);
    let urls = urls(report, &mut raw, mode);
    let tls = tls(report, &raw, &urls);
    let login = login(report, &mut raw, &urls);
    let servers = servers(report, &mut raw, mode, &urls);
    let defaults = RedisSettings::new(RedisServers::Cluster { seeds: Vec::new() });
    let at = |name| key(SECTION, name);
    let database = raw.database.unwrap_or(0);
    if database > MANY {
        report.problem(
            &at("database"),
            format!("must be from 0 to {MANY}"),
            "leave it out for 0",
        );
    } else if database > 0 && mode == RedisMode::Cluster {
        let message = "has no meaning in a cluster, which has one database";
        report.problem(&at("database"), message, "leave it out");
    }
    let key_prefix = raw.key_prefix.take().unwrap_or(defaults.key_prefix);
    if key_prefix.contains(['{', '}']) || !key_prefix.bytes().all(|byte| byte.is_ascii_graphic()) {
        let message = "has a character that a key cannot begin with";
        let hint = "ASCII without spaces, { and }: braces decide where a cluster keeps a key";
        report.problem(&at("key_prefix"), message, hint);
    }
    let connect_timeout = report.positive(
        &at("connect_timeout"),
        raw.connect_timeout,
        defaults.connect_timeout,
    );
    let timeout = report.positive(&at("timeout"), raw.timeout, defaults.timeout);
    let wait = wait(report, &raw, timeout);
    let settings = RedisSettings {
        servers: servers?,
        tls,
        login,
        database,
        key_prefix,
        connect_timeout,
        timeout,
        wait,
    };
    Some(StoreSettings::Redis {
        settings: Box::new(settings),
        keys_file: keys_file?,
    })
}

fn keys_file(report: &mut Report<'_>, raw: &mut file::Session) -> Option<PathBuf> {
    let path = key("session", "keys_file");
    let Some(file) = raw.keys_file.take() else {
        let hint = "with Redis the keys are never made by themselves: every replica needs the same ones; \
                    `dressipi-sidecar keygen` makes one";
        report.missing(&path, hint);
        return None;
    };
    // Only whether it is there: the keyring judges what is in it.
    files::read_secret(report, &path, &file);
    Some(report.file_path(&file))
}

/// What the URLs say.
struct Urls {
    addresses: Vec<RedisAddress>,
    /// Whether TLS is spoken; `None`: there is no URL that says.
    tls: Option<bool>,
    /// Whether all were understood.
    complete: bool,
    /// The key that they stand at.
    at: &'static str,
}

fn urls(report: &mut Report<'_>, raw: &mut file::Redis, mode: RedisMode) -> Urls {
    let at = |name| key(SECTION, name);
    let (name, texts) = match (raw.url.take(), raw.urls.take()) {
        (Some(_), Some(_)) => {
            let message = "is given together with `url`";
            report.problem(&at("urls"), message, "keep one of the two");
            return Urls::none("urls");
        }
        (Some(url), None) => ("url", vec![(at("url"), url)]),
        (None, Some(list)) => {
            let list = list.into_iter().enumerate();
            let list = list.map(|(number, url)| (element(&at("urls"), number), url));
            ("urls", list.collect())
        }
        (None, None) => {
            if !report.broken(&at("urls")) {
                let hint = match mode {
                    RedisMode::Standalone => "the server, such as \"redis://127.0.0.1:6379\"",
                    RedisMode::Sentinel => "the sentinels: urls = [\"redis://…:26379\"]",
                    RedisMode::Cluster => "some servers: urls = [\"redis://…:6379\"]",
                };
                report.missing(&at("url"), hint);
            }
            return Urls::none("url");
        }
    };
    if texts.is_empty() {
        report.problem(&at(name), "is empty", "such as [\"redis://10.0.0.1:6379\"]");
    }
    let given = texts.len();
    if mode == RedisMode::Standalone && given > 1 && !report.broken(&at("mode")) {
        let hint = "mode = \"sentinel\" or mode = \"cluster\", or one url";
        report.problem(&at(name), "names several servers without a mode", hint);
    }
    let mut urls = Urls::none(name);
    for (path, text) in &texts {
        let Some((address, tls)) = url(report, path, text.trim(), mode) else {
            continue;
        };
        if urls.tls.is_some_and(|before| before != tls) {
            let hint = "all of them redis:// or all of them rediss://";
            report.problem(path, "does not agree with the others about TLS", hint);
        }
        urls.tls = Some(tls);
        urls.addresses.push(address);
    }
    urls.complete = given > 0 && urls.addresses.len() == given;
    urls
}

/// The address, and whether TLS is spoken. The text is not repeated: it may hold a password.
fn url(
    report: &mut Report<'_>,
    path: &str,
    text: &str,
    mode: RedisMode,
) -> Option<(RedisAddress, bool)> {
    let Ok(url) = Url::parse(text) else {
        report.problem(path, "is not a URL", "such as \"redis://127.0.0.1:6379\"");
        return None;
    };
    let tls = match url.scheme() {
        "redis" => false,
        "rediss" => true,
        _ => {
            let hint = "redis://, or rediss:// for TLS";
            report.problem(path, "is no URL of Redis", hint);
            return None;
        }
    };
    let mut fits = true;
    if !url.username().is_empty() || url.password().is_some() {
        let hint = "use username and password_file: a URL ends up in logs";
        report.problem(path, "holds a user or a password", hint);
        fits = false;
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        let hint = "host and port only; the database's number goes into `database`";
        report.problem(path, "goes on after the port", hint);
        fits = false;
    }
    // Of schemes that it does not know, `url` leaves the host as it was typed.
    let host = match url.host().map(|host| Host::parse(&host.to_string())) {
        Some(Ok(Host::Ipv6(ip))) => ip.to_string(),
        Some(Ok(host)) => host.to_string(),
        _ => {
            report.problem(
                path,
                "has no host name or IP address",
                "such as \"redis://127.0.0.1:6379\"",
            );
            return None;
        }
    };
    let port = url.port().unwrap_or(match mode {
        RedisMode::Sentinel => SENTINEL_PORT,
        RedisMode::Standalone | RedisMode::Cluster => SERVER_PORT,
    });
    fits.then(|| (RedisAddress::new(host, port), tls))
}

fn servers(
    report: &mut Report<'_>,
    raw: &mut file::Redis,
    mode: RedisMode,
    urls: &Urls,
) -> Option<RedisServers> {
    let at = |name| key(SECTION, name);
    let given = raw.sentinel_password.is_some() || raw.sentinel_password_file.is_some();
    let sentinel = RedisLogin {
        username: raw.sentinel_username.take(),
        password: files::secret(
            report,
            SECTION,
            "sentinel_password",
            raw.sentinel_password.take(),
            raw.sentinel_password_file.take(),
        ),
    };
    if report.broken(&at("mode")) {
        return None;
    }
    let servers = match mode {
        RedisMode::Sentinel => {
            let master_name = raw.master_name.take().unwrap_or_default();
            if master_name.trim().is_empty() {
                let hint = "what the sentinels call the master, often \"mymaster\"";
                report.missing(&at("master_name"), hint);
            }
            let (name, password) = ("sentinel_username", "sentinel_password");
            username(report, name, password, given, &sentinel);
            RedisServers::Sentinel {
                sentinels: urls.addresses.clone(),
                master_name,
                login: sentinel,
            }
        }
        RedisMode::Standalone | RedisMode::Cluster => {
            let foreign = [
                ("master_name", raw.master_name.is_some()),
                ("sentinel_username", sentinel.username.is_some()),
                ("sentinel_password", sentinel.password.is_some()),
            ];
            for (name, _) in foreign.into_iter().filter(|(_, given)| *given) {
                let hint = "set mode = \"sentinel\", or leave it out";
                report.problem(&at(name), "has no meaning without sentinels", hint);
            }
            let seeds = urls.addresses.clone();
            match (mode, seeds.first()) {
                (RedisMode::Cluster, _) => RedisServers::Cluster { seeds },
                (_, first) => RedisServers::Standalone(first?.clone()),
            }
        }
    };
    urls.complete.then_some(servers)
}

fn login(report: &mut Report<'_>, raw: &mut file::Redis, urls: &Urls) -> RedisLogin {
    let given = raw.password.is_some() || raw.password_file.is_some();
    let login = RedisLogin {
        username: raw.username.take(),
        password: files::secret(
            report,
            SECTION,
            "password",
            raw.password.take(),
            raw.password_file.take(),
        ),
    };
    username(report, "username", "password", given, &login);
    let remote = urls.addresses.iter().any(|at| !is_loopback(&at.host));
    if login.password.is_some() && urls.tls == Some(false) && remote {
        let message = "is plain TCP: the password can be read on the way";
        report.warning(&key(SECTION, urls.at), message, "use rediss://");
    }
    login
}

fn username(report: &mut Report<'_>, name: &str, password: &str, given: bool, login: &RedisLogin) {
    let path = key(SECTION, name);
    let broken = report.broken(&key(SECTION, password))
        || report.broken(&key(SECTION, &format!("{password}_file")));
    match &login.username {
        Some(username) if username.trim().is_empty() => report.problem(
            &path,
            "is empty",
            "leave it out for the user called \"default\"",
        ),
        Some(_) if !given && !broken => {
            let hint = format!("add {password}_file");
            report.problem(&path, "is given without a password", hint);
        }
        _ => {}
    }
}

fn tls(report: &mut Report<'_>, raw: &file::Redis, urls: &Urls) -> Option<RedisTls> {
    let at = |name| key(SECTION, name);
    let client = client_identity::Typed {
        certificate: raw.client_certificate_file.as_deref(),
        key: raw.client_key_file.as_deref(),
    };
    if urls.tls == Some(false) {
        let given = std::iter::once(("ca_file", raw.ca_file.is_some())).chain(client.given());
        for (name, _) in given.filter(|(_, given)| *given) {
            let hint = "use rediss://, or leave it out";
            report.problem(&at(name), "has no meaning without TLS", hint);
        }
        return None;
    }
    let ca_file = raw.ca_file.as_ref();
    let ca_file = ca_file.map(|file| files::ca_bundle(report, &at("ca_file"), file));
    let client = client_identity::parse(report, SECTION, client);
    (urls.tls == Some(true)).then_some(RedisTls { ca_file, client })
}

fn wait(report: &mut Report<'_>, raw: &file::Redis, timeout: Duration) -> Option<RedisWait> {
    let at = |name| key(SECTION, name);
    let replicas = raw.wait_replicas.unwrap_or(0);
    if replicas > MANY {
        report.problem(
            &at("wait_replicas"),
            format!("must be from 0 to {MANY}"),
            "leave it out for 0",
        );
    }
    let wait_timeout = duration(raw.wait_timeout, timeout / 2);
    if replicas == 0 {
        if raw.wait_timeout.is_some() && !report.broken(&at("wait_replicas")) {
            let hint = "add wait_replicas, or leave it out";
            report.problem(&at("wait_timeout"), "waits for no replica", hint);
        }
        return None;
    }
    if !timeout.is_zero() && (wait_timeout.is_zero() || wait_timeout >= timeout) {
        let message = format!(
            "must be longer than zero and shorter than timeout ({})",
            humantime::format_duration(timeout)
        );
        report.problem(
            &at("wait_timeout"),
            message,
            "leave it out for half of timeout",
        );
    }
    Some(RedisWait {
        replicas,
        timeout: wait_timeout,
    })
}

// === impl Urls ===

impl Urls {
    fn none(at: &'static str) -> Self {
        Self {
            addresses: Vec::new(),
            tls: None,
            complete: false,
            at,
        }
    }
}
