//! Where Dressipi is and how to talk to it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use crate::secret::Secret;
use crate::tls::ClientIdentity;

/// The only redirect URI that the API knows: no redirect takes place.
pub const REDIRECT_URI: &str = "urn:ietf:wg:oauth:2.0:oob:auto";

/// The partner's Dressipi account and its endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Scheme, host and port.
    pub base_url: BaseUrl,
    /// The OAuth client identifier.
    pub client_id: String,
    /// The partner's API key, sent on every call where it is set.
    pub api_key: Option<Secret>,
    /// The redirect URI of the OAuth calls.
    pub redirect_uri: String,
    /// The path of the authorization endpoint.
    pub authorize_path: String,
    /// The path of the token endpoint.
    pub token_path: String,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How long a whole OAuth call may take.
    pub timeout: Duration,
    /// A PEM bundle of certificate authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Our certificate, for a Dressipi that asks for one.
    pub client_identity: Option<ClientIdentity>,
    /// How the headers are called.
    pub headers: Headers,
}

/// An `http` or `https` origin: no path, no user, no query.
#[derive(Clone, PartialEq, Eq)]
pub struct BaseUrl {
    tls: bool,
    host: String,
    port: u16,
}

/// The names of the headers that carry our credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Headers {
    /// The API key's header.
    pub api_key: HeaderName,
    /// The access token's header.
    pub token: HeaderName,
    /// What the token header holds: a text before and one after the token.
    pub token_template: TokenTemplate,
}

/// `"{token}"`, or `"Bearer {token}"`, or another text around the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenTemplate {
    prefix: String,
    suffix: String,
}

/// Why a text is no [`BaseUrl`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BaseUrlError {
    /// Not a URL at all.
    #[error("is not a URL: {0}")]
    Syntax(#[from] url::ParseError),
    /// Neither http nor https.
    #[error("has the scheme `{0}`, which is neither https nor http")]
    Scheme(String),
    /// No host.
    #[error("has no host")]
    NoHost,
    /// User, path, query or fragment.
    #[error("has a {0}")]
    Extra(&'static str),
}

/// Why a text is no [`TokenTemplate`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The placeholder is missing or there twice.
    #[error("must hold {{token}} exactly once")]
    Placeholder,
    /// Not fit for a header.
    #[error("holds characters that a header value may not have")]
    Characters,
}

// === impl BaseUrl ===

impl BaseUrl {
    /// Parses `https://host[:port]`.
    pub fn parse(text: &str) -> Result<Self, BaseUrlError> {
        let url = url::Url::parse(text)?;
        let tls = match url.scheme() {
            "https" => true,
            "http" => false,
            other => return Err(BaseUrlError::Scheme(other.to_owned())),
        };
        let host = url.host_str().filter(|host| !host.is_empty());
        let host = host.ok_or(BaseUrlError::NoHost)?.to_owned();
        if !url.username().is_empty() || url.password().is_some() {
            return Err(BaseUrlError::Extra("user or password"));
        }
        if url.path() != "/" {
            return Err(BaseUrlError::Extra("path"));
        }
        if url.query().is_some() {
            return Err(BaseUrlError::Extra("query"));
        }
        if url.fragment().is_some() {
            return Err(BaseUrlError::Extra("fragment"));
        }
        let port = url.port().unwrap_or(if tls { 443 } else { 80 });
        Ok(Self { tls, host, port })
    }

    /// Whether TLS is spoken.
    pub fn tls(&self) -> bool {
        self.tls
    }

    /// The host, with brackets around an IPv6 address.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, the scheme's own where none was given.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The host as the certificate must name it: no brackets.
    pub fn server_name(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    /// The `Host` header's value: host, and port unless it is the scheme's own (RFC 9110 §7.2).
    pub fn authority(&self) -> String {
        match (self.tls, self.port) {
            (true, 443) | (false, 80) => self.host.clone(),
            _ => format!("{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority())
    }
}

impl fmt::Debug for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BaseUrl({self})")
    }
}

// === impl TokenTemplate ===

impl TokenTemplate {
    /// Parses a text that holds `{token}` once.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let (prefix, suffix) = text
            .split_once("{token}")
            .ok_or(TemplateError::Placeholder)?;
        if suffix.contains("{token}") {
            return Err(TemplateError::Placeholder);
        }
        if HeaderValue::from_str(prefix).is_err() || HeaderValue::from_str(suffix).is_err() {
            return Err(TemplateError::Characters);
        }
        Ok(Self {
            prefix: prefix.to_owned(),
            suffix: suffix.to_owned(),
        })
    }

    /// The template as it is written.
    pub fn text(&self) -> String {
        format!("{}{{token}}{}", self.prefix, self.suffix)
    }

    /// The header value for `token`, marked sensitive; `None` if the token has characters that no header may hold.
    pub fn render(&self, token: &Secret) -> Option<HeaderValue> {
        let mut value = if self.prefix.is_empty() && self.suffix.is_empty() {
            HeaderValue::from_str(token.expose()).ok()?
        } else {
            let text = format!("{}{}{}", self.prefix, token.expose(), self.suffix);
            HeaderValue::try_from(text).ok()?
        };
        value.set_sensitive(true);
        Some(value)
    }
}

impl Default for Headers {
    fn default() -> Self {
        Self {
            api_key: HeaderName::from_static("x-api-key"),
            token: HeaderName::from_static("x-dressipi-jwt"),
            token_template: TokenTemplate {
                prefix: String::new(),
                suffix: String::new(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_is_scheme_host_and_port_only() {
        let url = BaseUrl::parse("https://dressipi.shop.example").unwrap();
        assert_eq!(
            (url.tls(), url.host(), url.port()),
            (true, "dressipi.shop.example", 443)
        );
        assert_eq!(url.authority(), "dressipi.shop.example");
        assert_eq!(
            BaseUrl::parse("http://127.0.0.1:9999").unwrap().authority(),
            "127.0.0.1:9999"
        );
        assert_eq!(
            BaseUrl::parse("https://[::1]:8443").unwrap().server_name(),
            "::1"
        );
        for bad in [
            "ftp://a",
            "https://u@a",
            "https://a/api",
            "https://a?x=1",
            "https://a#f",
            "a.example",
        ] {
            assert!(BaseUrl::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_template_holds_the_token_once_and_renders_a_sensitive_value() {
        let template = TokenTemplate::parse("Bearer {token}").unwrap();
        let value = template.render(&Secret::new("abc")).unwrap();
        assert_eq!(value, "Bearer abc");
        assert!(value.is_sensitive());
        for bad in ["Bearer", "{token}{token}", "a\n{token}"] {
            assert!(TokenTemplate::parse(bad).is_err(), "{bad}");
        }
        assert!(template.render(&Secret::new("a\nb")).is_none());
    }
}
