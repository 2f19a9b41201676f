//! The probes themselves: each asks the thing itself, once and with a bound.

use std::path::Path;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Finding, Group};
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, Upstream, UpstreamTls};
use crate::dressipi::{Client, Settings};
use crate::oauth::AuthorizationServer;
use crate::server::{self, StartError, keys_beside};
use crate::session::{OpenStoreError, StoreSettings, Vault};

/// How long a store may take.
const STORE_BOUND: Duration = Duration::from_secs(10);

/// All of them, one after the other. A profile is made only if somebody `agreed`.
pub(super) async fn all(config: &Config, agreed: bool) -> Vec<Group> {
    let mut groups = vec![
        Group {
            name: "store".to_owned(),
            findings: vec![store(config).await],
        },
        Group {
            name: "Dressipi".to_owned(),
            findings: dressipi(&config.dressipi, agreed).await,
        },
    ];
    for upstream in &config.upstreams {
        groups.push(Group {
            name: format!("upstream {}", upstream.name),
            findings: app(upstream).await,
        });
    }
    groups
}

// === store ===

async fn store(config: &Config) -> Finding {
    match &config.store {
        StoreSettings::Memory { .. } => {
            return Finding::Skipped("memory: it is there when the sidecar is".to_owned());
        }
        // To open it would make it.
        StoreSettings::Redb { path, .. } if !path.exists() => return folder(path),
        StoreSettings::Redb {
            path,
            keys_file: None,
            ..
        } if !keys_beside(path).exists() => {
            return Finding::Bad(
                format!(
                    "{} is there, and its keyring {} is not",
                    path.display(),
                    keys_beside(path).display()
                ),
                "put the keyring back: without it the store cannot be read".to_owned(),
            );
        }
        StoreSettings::Redb { .. } | StoreSettings::Redis { .. } => {}
    }
    match timeout(STORE_BOUND, open(config)).await {
        Ok(Ok(what)) => Finding::Good(what),
        Ok(Err(StartError::Store(OpenStoreError::InUse { path }))) => Finding::Skipped(format!(
            "{}: a running sidecar has it, so it was not opened",
            path.display()
        )),
        Ok(Err(error)) => Finding::Bad(
            error.to_string(),
            "look at [session]: the address or path, the login, the keys".to_owned(),
        ),
        Err(_) => Finding::Bad(
            format!(
                "the store does not answer within {} s",
                STORE_BOUND.as_secs()
            ),
            "look at the address in [session.redis], and at the network".to_owned(),
        ),
    }
}

async fn open(config: &Config) -> Result<String, StartError> {
    let (store, keyring) = server::open_store(&config.store).await?;
    store
        .check()
        .await
        .map_err(crate::session::VaultError::from)?;
    let now = match store.shared() {
        Some(shared) => shared
            .time()
            .await
            .map_err(crate::session::VaultError::from)?,
        None => SystemClock.now(),
    };
    let vault = Vault::new(store.clone(), keyring.clone(), config.session.idle_timeout);
    vault.admits(&keyring, now).await?;
    let census = store.census().await.ok();
    store.close().await;
    let held = census.map_or(String::new(), |census| {
        format!(
            ", and holds {} visitor sessions",
            census.active + census.granted + census.lost
        )
    });
    Ok(format!("it answers, and the keyring opens it{held}"))
}

fn folder(path: &Path) -> Finding {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let probe = folder.join(format!(".dressipi-sidecar-check.{}", std::process::id()));
    if !folder.exists() {
        return Finding::Skipped(format!("{} will be made, with its folder", path.display()));
    }
    match std::fs::write(&probe, b"") {
        Ok(()) => {
            let _ = std::fs::remove_file(&probe);
            Finding::Good(format!("{} can be made", path.display()))
        }
        Err(error) => Finding::Bad(
            format!("{} cannot be written to: {error}", folder.display()),
            "the user of the sidecar must be able to write there".to_owned(),
        ),
    }
}

// === Dressipi ===

async fn dressipi(settings: &Settings, agreed: bool) -> Vec<Finding> {
    let url = &settings.base_url;
    let mut findings = connected(url.server_name(), url.port(), settings.connect_timeout).await;
    if findings
        .iter()
        .any(|finding| matches!(finding, Finding::Bad(..)))
    {
        return findings;
    }
    if !agreed {
        findings.push(Finding::Skipped(
            "authorize and token calls were not made, since they make a profile: --yes makes them"
                .to_owned(),
        ));
        return findings;
    }
    findings.extend(flow(settings).await);
    findings
}

/// One authorize and one token call.
async fn flow(settings: &Settings) -> Vec<Finding> {
    let account = "look at dressipi.client_id and api_key, and at the paths of the endpoints";
    let client = match Client::new(settings) {
        Ok(client) => client,
        Err(error) => {
            return vec![Finding::Bad(
                error.to_string(),
                "look at [dressipi]".to_owned(),
            )];
        }
    };
    let grant = match client.authorize().await {
        Ok(grant) => grant,
        Err(error) => {
            return vec![Finding::Bad(
                format!("the authorize call failed: {error}"),
                account.to_owned(),
            )];
        }
    };
    let mut findings = vec![Finding::Good(
        "the authorize call gave a code: one profile was made".to_owned(),
    )];
    findings.push(match client.exchange(grant).await {
        Ok(answer) => {
            let lifetime = humantime::format_duration(answer.expires_in);
            let refresh = match answer.refresh {
                Some(_) => "and a refresh token",
                None => {
                    "and no refresh token: every visitor will cost a profile whenever a token ends"
                }
            };
            Finding::Good(format!(
                "the token call gave an access token for {lifetime}, {refresh}"
            ))
        }
        Err(error) => Finding::Bad(
            format!("the token call failed: {error}"),
            account.to_owned(),
        ),
    });
    findings
}

// === apps ===

async fn app(upstream: &Upstream) -> Vec<Finding> {
    let mut findings = connected(&upstream.host, upstream.port, upstream.connect_timeout).await;
    if findings
        .iter()
        .any(|finding| matches!(finding, Finding::Bad(..)))
    {
        return findings;
    }
    if let Some(tls) = &upstream.tls {
        findings.push(handshake(upstream, tls).await);
    }
    findings
}

/// Whether the name resolves and the first address takes a connection.
async fn connected(host: &str, port: u16, bound: Duration) -> Vec<Finding> {
    let lookup = timeout(bound, tokio::net::lookup_host((host, port))).await;
    let addresses: Vec<_> = match lookup {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(error)) => {
            let hint = "look at the name, and at the resolver of this host";
            return vec![Finding::Bad(
                format!("{host} cannot be resolved: {error}"),
                hint.to_owned(),
            )];
        }
        Err(_) => {
            let hint = "look at the resolver of this host";
            return vec![Finding::Bad(
                format!("{host} was not resolved in time"),
                hint.to_owned(),
            )];
        }
    };
    let mut findings = Vec::new();
    if addresses.len() > 1
        || addresses
            .iter()
            .any(|address| address.ip().to_string() != host)
    {
        findings.push(Finding::Good(format!(
            "{host} has {} address(es)",
            addresses.len()
        )));
    }
    for address in &addresses {
        let hint = "is it running, and may this host connect to it?";
        findings.push(match timeout(bound, TcpStream::connect(address)).await {
            Ok(Ok(_)) => Finding::Good(format!("{address} takes connections")),
            Ok(Err(error)) => Finding::Bad(
                format!("{address} takes no connection: {error}"),
                hint.to_owned(),
            ),
            Err(_) => Finding::Bad(
                format!("{address} did not take a connection in time"),
                hint.to_owned(),
            ),
        });
    }
    findings
}

/// A request over TLS, verified as the proxied ones are; what is answered does not matter.
async fn handshake(upstream: &Upstream, tls: &UpstreamTls) -> Finding {
    let name = &tls.server_name;
    match ask(upstream, tls).await {
        Ok(()) => Finding::Good(format!("TLS: the certificate is accepted for {name}")),
        Err(error) => {
            let mut reason = error.to_string();
            let mut source = std::error::Error::source(&*error);
            while let Some(inner) = source {
                reason = inner.to_string();
                source = inner.source();
            }
            Finding::Bad(
                format!("TLS with {name} fails: {reason}"),
                "look at server_name, ca_file, client_certificate_file, and at the upstream's certificate".to_owned(),
            )
        }
    }
}

async fn ask(
    upstream: &Upstream,
    tls: &UpstreamTls,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut addresses = tokio::net::lookup_host((upstream.host.as_str(), upstream.port)).await?;
    let address = addresses.next().ok_or("no address")?;
    let mut builder = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(upstream.connect_timeout.max(Duration::from_secs(5)))
        .resolve(&tls.server_name, address);
    if let Some(path) = &tls.ca_file {
        let pem = std::fs::read(path)?;
        builder = builder.tls_certs_only(reqwest::Certificate::from_pem_bundle(&pem)?);
    }
    if let Some(identity) = &tls.client {
        let pem = identity.load()?.pem;
        builder = builder.identity(reqwest::Identity::from_pem(&pem)?);
    }
    let url = format!("https://{}:{}/", tls.server_name, address.port());
    builder.build()?.get(url).send().await?;
    Ok(())
}
