//! `[dressipi]`: the account, its endpoints, and how the headers are called.

use std::time::Duration;

use super::report::{Report, key};
use super::{client_identity, files, names};
use crate::config::file;
use crate::dressipi::{BaseUrl, Headers, REDIRECT_URI, Settings, TokenTemplate};

/// What the other sections need to know of this one, even if it has problems.
pub(super) struct Parsed {
    /// The settings, if they make sense.
    pub(super) settings: Option<Settings>,
    /// The headers, with defaults for those that make no sense.
    pub(super) headers: Headers,
    /// Whether an API key is given, usable or not.
    pub(super) has_api_key: bool,
}

/// The Dressipi settings.
pub(super) fn parse(report: &mut Report<'_>, raw: Option<file::Dressipi>) -> Parsed {
    let Some(raw) = raw else {
        report.missing("dressipi", "add [dressipi] with base_url and client_id");
        return Parsed {
            settings: None,
            headers: Headers::default(),
            has_api_key: true,
        };
    };
    let at = |name| key("dressipi", name);
    let base_url = base_url(report, &at("base_url"), raw.base_url.as_deref());

    let client_given = raw.client_id.is_some() || raw.client_id_file.is_some();
    if !client_given && !report.broken(&at("client_id_file")) {
        report.missing(
            &at("client_id"),
            "the OAuth client identifier; or client_id_file, a file that holds it",
        );
    }
    let client_id = files::secret(
        report,
        "dressipi",
        "client_id",
        raw.client_id,
        raw.client_id_file,
    );
    let has_api_key = raw.api_key.is_some() || raw.api_key_file.is_some();
    let has_api_key =
        has_api_key || report.broken(&at("api_key")) || report.broken(&at("api_key_file"));
    let api_key = files::secret(report, "dressipi", "api_key", raw.api_key, raw.api_key_file);

    let redirect_uri = raw.redirect_uri.unwrap_or_else(|| REDIRECT_URI.to_owned());
    if redirect_uri.trim().is_empty() {
        report.problem(
            &at("redirect_uri"),
            "is empty",
            format!("leave it out for {REDIRECT_URI}"),
        );
    }
    let authorize_path = raw
        .authorize_path
        .unwrap_or_else(|| "/api/oauth/authorize".to_owned());
    names::url_path(report, &at("authorize_path"), &authorize_path);
    let token_path = raw
        .token_path
        .unwrap_or_else(|| "/api/oauth/token".to_owned());
    names::url_path(report, &at("token_path"), &token_path);

    let connect_timeout = report.positive(
        &at("connect_timeout"),
        raw.connect_timeout,
        Duration::from_secs(2),
    );
    let timeout = report.positive(&at("timeout"), raw.timeout, Duration::from_secs(10));
    let ca_file = raw
        .ca_file
        .map(|file| files::ca_bundle(report, &at("ca_file"), &file));
    let client = client_identity::Typed {
        certificate: raw.client_certificate_file.as_deref(),
        key: raw.client_key_file.as_deref(),
    };
    let client_identity = if base_url.as_ref().is_some_and(|url| !url.tls()) {
        let given = std::iter::once(("ca_file", ca_file.is_some())).chain(client.given());
        for (name, _) in given.filter(|(_, given)| *given) {
            report.problem(
                &at(name),
                "has no meaning, since base_url is not https",
                "use https://, or leave it out",
            );
        }
        None
    } else {
        client_identity::parse(report, "dressipi", client)
    };
    let headers = headers(report, raw.headers.unwrap_or_default());

    let settings = base_url
        .zip(client_id)
        .map(|(base_url, client_id)| Settings {
            base_url,
            client_id: client_id.expose().to_owned(),
            api_key,
            redirect_uri,
            authorize_path,
            token_path,
            connect_timeout,
            timeout,
            ca_file,
            client_identity,
            headers: headers.clone(),
        });
    Parsed {
        settings,
        headers,
        has_api_key,
    }
}

fn base_url(report: &mut Report<'_>, path: &str, text: Option<&str>) -> Option<BaseUrl> {
    let Some(text) = text else {
        report.missing(
            path,
            "the retailer's own Dressipi host, such as \"https://dressipi.shop.example\"",
        );
        return None;
    };
    match BaseUrl::parse(text.trim()) {
        Ok(url) => Some(url),
        // The text is not repeated: it may hold a password.
        Err(error) => {
            report.problem(
                path,
                error.to_string(),
                "scheme, host and port only, such as \"https://dressipi.shop.example\"",
            );
            None
        }
    }
}

fn headers(report: &mut Report<'_>, raw: file::Headers) -> Headers {
    let at = |name| key("dressipi.headers", name);
    let mut headers = Headers::default();
    if let Some(name) = raw.api_key
        && let Some(name) = names::header(report, &at("api_key"), &name)
    {
        headers.api_key = name;
    }
    if let Some(name) = raw.token
        && let Some(name) = names::header(report, &at("token"), &name)
    {
        headers.token = name;
    }
    if names::same_header(&headers.api_key, &headers.token) {
        let message = format!("`{}` is the API key's header too", headers.token);
        report.problem(&at("token"), message, "give the token a header of its own");
    }
    if let Some(text) = raw.token_value {
        match TokenTemplate::parse(&text) {
            Ok(template) => headers.token_template = template,
            Err(error) => report.problem(
                &at("token_value"),
                error.to_string(),
                "such as \"{token}\" or \"Bearer {token}\"",
            ),
        }
    }
    headers
}
