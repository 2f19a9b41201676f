//! The OAuth client: sends the requests that `oauth` builds and hands back the answers that `oauth` reads.
//!
//! It bounds time and size, follows no redirect, retries nothing, and tells "never got out" from "the answer was lost":
//! that difference decides whether a profile may have been made.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use http::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue};
use zeroize::Zeroizing;

use super::settings::Settings;
use crate::oauth::{
    Answer, AuthorizationServer, AuthorizeError, AuthorizeRequest, CodeVerifier, Disturbance,
    Grant, Misshapen, RefreshToken, State, TokenAnswer, TokenError, TokenRequest, parse_authorize,
    parse_token,
};
use crate::secret::Secret;
use crate::tls::FilesError;

/// Dressipi's OAuth endpoints over HTTP.
pub struct Client {
    http: reqwest::Client,
    authorize_url: String,
    token_url: String,
    client_id: String,
    redirect_uri: String,
}

/// Why no client could be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The bundle of certificate authorities cannot be read.
    #[error("dressipi.ca_file: {path} cannot be read: {source}")]
    ReadCa {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The bundle of certificate authorities holds no usable certificate.
    #[error("dressipi.ca_file: {path} is no PEM bundle of certificates: {source}")]
    ParseCa {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: reqwest::Error,
    },
    /// Our certificate cannot be used.
    #[error("dressipi: {0}")]
    Client(#[from] FilesError),
    /// The API key cannot stand in a header.
    #[error("dressipi.api_key has characters that a header may not have")]
    ApiKey,
    /// The TLS library refused.
    #[error("the HTTP client cannot be built: {0}")]
    Http(#[source] reqwest::Error),
}

/// An OAuth answer has a few hundred bytes; no honest one is larger than this.
const MAX_BODY: usize = 64 * 1024;

impl Client {
    /// A client for `settings`. Its connections live on the runtime that calls it.
    pub fn new(settings: &Settings) -> Result<Self, BuildError> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(key) = &settings.api_key {
            headers.insert(
                settings.headers.api_key.clone(),
                api_key_value(key).ok_or(BuildError::ApiKey)?,
            );
        }
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("dressipi-sidecar/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .retry(reqwest::retry::never())
            .connect_timeout(settings.connect_timeout)
            .timeout(settings.timeout)
            // As many as there were calls at once, which `session.max_flows` bounds.
            .pool_idle_timeout(Duration::from_secs(60));
        if let Some(path) = &settings.ca_file {
            let pem = std::fs::read(path).map_err(|source| BuildError::ReadCa {
                path: path.clone(),
                source,
            })?;
            let parse = |source| BuildError::ParseCa {
                path: path.clone(),
                source,
            };
            builder =
                builder.tls_certs_only(reqwest::Certificate::from_pem_bundle(&pem).map_err(parse)?);
        }
        if let Some(identity) = &settings.client_identity {
            let pem = identity.load()?.pem;
            let identity = reqwest::Identity::from_pem(&pem).map_err(BuildError::Http)?;
            builder = builder.identity(identity);
        }
        Ok(Self {
            http: builder.build().map_err(BuildError::Http)?,
            authorize_url: format!("{}{}", settings.base_url, settings.authorize_path),
            token_url: format!("{}{}", settings.base_url, settings.token_path),
            client_id: settings.client_id.clone(),
            redirect_uri: settings.redirect_uri.clone(),
        })
    }

    async fn token(&self, request: TokenRequest<'_>) -> Result<TokenAnswer, TokenError> {
        let body = request.body(&self.client_id, &self.redirect_uri);
        let request = self
            .http
            .post(&self.token_url)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(body.expose().to_owned());
        match send(request).await {
            Ok(answer) => parse_token(answer),
            Err(disturbance) => Err(TokenError::Disturbed(disturbance)),
        }
    }
}

/// The header value of the API key, marked sensitive.
pub(crate) fn api_key_value(key: &Secret) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(key.expose()).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[async_trait]
impl AuthorizationServer for Client {
    async fn authorize(&self) -> Result<Grant, AuthorizeError> {
        let verifier = CodeVerifier::generate().map_err(|_| AuthorizeError::NoRandomness)?;
        let state = State::generate().map_err(|_| AuthorizeError::NoRandomness)?;
        let request = AuthorizeRequest {
            client_id: &self.client_id,
            redirect_uri: &self.redirect_uri,
            state: &state,
            challenge: &verifier.challenge(),
        };
        let url = format!("{}?{}", self.authorize_url, request.query());
        let answer = send(self.http.get(url))
            .await
            .map_err(AuthorizeError::Disturbed)?;
        let code = parse_authorize(answer, &state)?;
        Ok(Grant { code, verifier })
    }

    async fn exchange(&self, grant: Grant) -> Result<TokenAnswer, TokenError> {
        self.token(TokenRequest::AuthorizationCode(&grant)).await
    }

    async fn refresh(&self, token: RefreshToken) -> Result<TokenAnswer, TokenError> {
        self.token(TokenRequest::RefreshToken(&token)).await
    }
}

async fn send(request: reqwest::RequestBuilder) -> Result<Answer, Disturbance> {
    let mut response = request.send().await.map_err(|error| disturbance(&error))?;
    let status = response.status().as_u16();
    let retry_after = retry_after(response.headers());
    let mut body = Zeroizing::new(Vec::with_capacity(4096));
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| disturbance(&error))?
    {
        if body.len() + chunk.len() > MAX_BODY {
            return Ok(Answer {
                status,
                retry_after,
                body: Err(Misshapen::TooLarge),
            });
        }
        body.extend_from_slice(&chunk);
    }
    let body = std::str::from_utf8(&body)
        .map(Secret::new)
        .map_err(|_| Misshapen::NotJson);
    Ok(Answer {
        status,
        retry_after,
        body,
    })
}

fn disturbance(error: &reqwest::Error) -> Disturbance {
    if error.is_connect() || error.is_builder() {
        Disturbance::NotSent
    } else if error.is_timeout() {
        Disturbance::TimedOut
    } else {
        Disturbance::AnswerLost
    }
}

/// `Retry-After` in seconds (RFC 9110 §10.2.3); its date form is not used by such APIs and is passed over.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers
        .get(RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()
        .map(Duration::from_secs)
}
