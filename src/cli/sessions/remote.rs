//! A running sidecar, asked through its admin listener.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use futures::Stream;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Body, Response};
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

use crate::cli::reachable;
use crate::config::Config;
use crate::secret::Secret;
use crate::session::moving::Summary;

/// The admin listener of a running sidecar.
#[derive(Debug)]
pub(super) struct Remote {
    base: Url,
    token: Secret,
    client: reqwest::Client,
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

impl Remote {
    /// The one at `url`.
    pub(super) fn new(url: &str, token: Secret) -> anyhow::Result<Self> {
        let base = Url::parse(url).with_context(|| format!("--admin: {url} is no URL"))?;
        if !matches!(base.scheme(), "http" | "https") || !base.has_host() {
            anyhow::bail!(
                "--admin: {url} is no URL of an admin listener, such as http://127.0.0.1:9901"
            );
        }
        // Fails only where one is installed already, and then that one will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Self {
            base,
            token,
            client,
        })
    }

    /// The one that listens on `address`.
    pub(super) fn listening(address: SocketAddr, token: Secret) -> anyhow::Result<Self> {
        Self::new(&format!("http://{}", reachable(address)?), token)
    }

    /// The one at `url`, with the configuration's token.
    pub(super) fn at(url: &str, config: &Config) -> anyhow::Result<Self> {
        let token = config.admin.as_ref().and_then(|admin| admin.token.clone());
        let token = token.context(
            "the admin listener asks for a token: set admin.token_file in the configuration of the sidecar and in this one",
        )?;
        Self::new(url, token)
    }

    /// The one that the configuration names.
    pub(super) fn of(config: &Config) -> anyhow::Result<Self> {
        let admin = config
            .admin
            .as_ref()
            .context("the configuration has no [admin] listener; name one with --admin")?;
        Self::at(&format!("http://{}", reachable(admin.address)?), config)
    }

    pub(super) async fn list(&self, limit: usize, cursor: Option<&str>) -> anyhow::Result<Value> {
        let mut url = self.url("sessions")?;
        url.query_pairs_mut()
            .append_pair("limit", &limit.to_string());
        if let Some(cursor) = cursor {
            url.query_pairs_mut().append_pair("cursor", cursor);
        }
        self.json(self.client.get(url)).await
    }

    /// The visitor whom an id names.
    pub(super) async fn find(&self, wanted: &Value) -> anyhow::Result<Value> {
        let request = self.client.post(self.url("sessions/find")?);
        let request = request.header(CONTENT_TYPE, "application/json");
        self.json(request.body(wanted.to_string())).await
    }

    pub(super) async fn show(&self, visitor: &str) -> anyhow::Result<Value> {
        let url = self.url(&format!("sessions/{visitor}"))?;
        self.json(self.client.get(url)).await
    }

    pub(super) async fn access(&self, visitor: &str) -> anyhow::Result<Value> {
        let url = self.url(&format!("sessions/{visitor}/export"))?;
        self.json(self.client.get(url)).await
    }

    pub(super) async fn revoke(&self, visitor: &str) -> anyhow::Result<()> {
        let url = self.url(&format!("sessions/{visitor}/revoke"))?;
        self.send(self.client.post(url)).await.map(drop)
    }

    pub(super) async fn erase(&self, visitor: &str) -> anyhow::Result<()> {
        let url = self.url(&format!("sessions/{visitor}"))?;
        self.send(self.client.delete(url)).await.map(drop)
    }

    pub(super) async fn export(&self) -> anyhow::Result<Response> {
        let request = self.client.get(self.url("sessions/export")?);
        self.send(request).await
    }

    pub(super) async fn import(
        &self,
        pieces: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> anyhow::Result<Summary> {
        let request = self.client.post(self.url("sessions/import")?);
        self.json(request.body(Body::wrap_stream(pieces))).await
    }

    async fn json<T: DeserializeOwned>(
        &self,
        request: reqwest::RequestBuilder,
    ) -> anyhow::Result<T> {
        let answer = self.send(request).await?;
        let body = answer.bytes().await?;
        serde_json::from_slice(&body).with_context(|| format!("{self}: the answer cannot be read"))
    }

    fn url(&self, path: &str) -> anyhow::Result<Url> {
        Ok(self.base.join(path)?)
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> anyhow::Result<Response> {
        let answer = request.bearer_auth(self.token.expose()).send().await;
        let answer =
            answer.with_context(|| format!("{self}: the admin listener does not answer"))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let body = answer.bytes().await.unwrap_or_default();
        let problem: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        match problem["detail"].as_str() {
            Some(detail) => anyhow::bail!("{self}: {detail}"),
            None => anyhow::bail!("{self}: the admin listener answered {status}"),
        }
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_on_every_interface_is_reached_over_loopback() {
        for (configured, reached) in [
            ("0.0.0.0:9901", "127.0.0.1:9901"),
            ("[::]:9901", "[::1]:9901"),
            ("10.0.0.7:9901", "10.0.0.7:9901"),
        ] {
            let address = reachable(configured.parse().unwrap()).unwrap();
            assert_eq!(address.to_string(), reached);
        }
        assert!(reachable("127.0.0.1:0".parse().unwrap()).is_err());
    }
}
