//! `[traces]`: the collector, and what is sent to it.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;
use url::Url;

use super::files;
use super::report::{Report, key};
use crate::config::values::Ratio;
use crate::config::{Traces, file};

/// What OTLP adds to an endpoint (OpenTelemetry protocol exporter, "Endpoint URLs for OTLP/HTTP").
const SIGNAL: &str = "/v1/traces";
/// What the exporter sets by itself.
const OURS: [&str; 4] = ["content-type", "content-length", "host", "user-agent"];

/// Where traces go; `None`: nowhere, or it makes no sense, which is reported.
pub(super) fn parse(report: &mut Report<'_>, raw: file::Traces) -> Option<Traces> {
    let at = |name| key("traces", name);
    let from_file = raw.headers_file.as_ref().map(|file| report.file_path(file));
    let named = match from_file {
        Some(_) => "headers_file",
        None => "headers",
    };
    let secret = files::secret(report, "traces", "headers", raw.headers, raw.headers_file);
    let headers = match secret.as_ref().map(|secret| headers(secret.expose())) {
        None => HeaderMap::new(),
        Some(Ok(headers)) => headers,
        // The text is not repeated: it is a secret.
        Some(Err(what)) => {
            let hint = "name=value,name=value, with %20 for a space and %2C for a comma";
            files::wrong(report, from_file.as_deref(), &at(named), what, hint);
            HeaderMap::new()
        }
    };
    let text = raw.resource_attributes.unwrap_or_default();
    let attributes = pairs(&text).unwrap_or_else(|| {
        let hint = "key=value,key=value, such as \"deployment.environment.name=production\"";
        report.problem(&at("resource_attributes"), "cannot be understood", hint);
        Vec::new()
    });
    let service_name = raw
        .service_name
        .unwrap_or_else(|| "dressipi-sidecar".into());
    if service_name.trim().is_empty() {
        let hint = "leave it out for \"dressipi-sidecar\"";
        report.problem(&at("service_name"), "is empty", hint);
    }
    let timeout = report.positive(&at("timeout"), raw.timeout, Duration::from_secs(10));
    let queue = report.count(&at("queue"), raw.queue, 4096, 1_000_000);
    let ca_file = raw
        .ca_file
        .map(|file| files::ca_bundle(report, &at("ca_file"), &file));
    let endpoint = endpoint(report, &at("endpoint"), raw.endpoint?.trim())?;
    if ca_file.is_some() && !endpoint.starts_with("https://") {
        let message = "has no meaning, since endpoint is not https";
        report.problem(&at("ca_file"), message, "use https://, or leave it out");
    }
    Some(Traces {
        endpoint,
        headers,
        sample_ratio: raw.sample_ratio.unwrap_or(Ratio::ALL),
        service_name: service_name.trim().to_owned(),
        resource_attributes: attributes,
        ca_file,
        timeout,
        queue: usize::try_from(queue).unwrap_or(usize::MAX),
    })
}

fn endpoint(report: &mut Report<'_>, path: &str, text: &str) -> Option<String> {
    let url = Url::parse(text).ok().filter(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
    });
    match url {
        Some(url) => {
            let base = url.as_str().trim_end_matches('/');
            let base = base.strip_suffix(SIGNAL).unwrap_or(base);
            Some(format!("{base}{SIGNAL}"))
        }
        // Nor is this: somebody may have written a password into it.
        None => {
            let message =
                "is no URL of a collector: http:// or https://, without user, query and fragment";
            report.problem(path, message, "such as \"http://collector:4318\"");
            None
        }
    }
}

/// Pairs between commas, percent-encoded where they must be (W3C Baggage, as OpenTelemetry has it).
fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let decoded = |text: &str| {
        let text = percent_decode_str(text.trim()).decode_utf8().ok()?;
        Some(text.into_owned())
    };
    text.split(',')
        .filter(|pair| !pair.trim().is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=')?;
            let key = decoded(key).filter(|key| !key.is_empty())?;
            Some((key, decoded(value)?))
        })
        .collect()
}

fn headers(text: &str) -> Result<HeaderMap, &'static str> {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs(text).ok_or("cannot be understood")? {
        let name: HeaderName = name.parse().map_err(|_| "has a name that no header has")?;
        if OURS.contains(&name.as_str()) {
            return Err("has a header that the sidecar sets by itself");
        }
        let value = HeaderValue::try_from(value);
        let mut value = value.map_err(|_| "has a value that no header has")?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_written_as_opentelemetry_has_them() {
        let read = headers("Authorization=Bearer%20a%2Cb==,x-team = t ,").unwrap();
        assert_eq!(read["authorization"], "Bearer a,b==");
        assert!(read["authorization"].is_sensitive());
        assert_eq!(read["x-team"], "t");
        for bad in ["x", "=a", "a b=c", "x=%0a", "x=%ff", "Content-Type=a"] {
            assert!(headers(bad).is_err(), "{bad}");
        }
    }
}
