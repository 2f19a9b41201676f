//! PURE: the one table from a failure to the answer that the client sees. Nothing of an error's own text gets out.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use pingora::http::ResponseHeader;
use pingora::{Error, ErrorSource, ErrorType};

use super::headers::SIDECAR;
use super::identity::AnonymousReason;
use crate::gate::{Refusal, refused_by_stream};

/// An answer that the sidecar gives by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rescue {
    /// The HTTP status; 0: the client is gone, and nothing is sent.
    pub(super) status: u16,
    /// The error type of `Proxy-Status` (RFC 9209 §2.3).
    pub(super) error: &'static str,
    /// What people read (RFC 9457 `title`).
    pub(super) title: &'static str,
    /// Why a call could not be authenticated, where that is the reason.
    pub(super) reason: Option<AnonymousReason>,
    /// Why the request was refused, where that is the reason.
    pub(super) refusal: Option<Refusal>,
}

/// How soon a rejected call may be tried again.
const RETRY_AFTER_SECS: u64 = 5;

const fn rescue(status: u16, error: &'static str, title: &'static str) -> Rescue {
    Rescue {
        status,
        error,
        title,
        reason: None,
        refusal: None,
    }
}

impl Rescue {
    /// No route takes the path.
    pub(super) const NO_ROUTE: Self = rescue(
        404,
        "destination_not_found",
        "No route is configured for this path",
    );
    /// The upstream's name has not been resolved.
    pub(super) const UNRESOLVED: Self =
        rescue(502, "dns_error", "The upstream's name cannot be resolved");

    /// A visitor's token is required here and there is none.
    pub(super) const fn unavailable(reason: AnonymousReason) -> Self {
        Self {
            status: 503,
            error: "proxy_internal_response",
            title: "The visitor's Dressipi token is not available at present",
            reason: Some(reason),
            refusal: None,
        }
    }

    /// The gate lets the request not pass.
    pub(super) fn refused(refusal: Refusal) -> Self {
        Self {
            refusal: Some(refusal),
            ..rescue(refusal.status(), "http_request_error", refusal.title())
        }
    }

    /// The answer for one of pingora's errors.
    pub(super) fn of(error: &Error) -> Self {
        use ErrorType as Type;
        if let Some(refusal) = refused_by_stream(error) {
            return Self::refused(refusal);
        }
        match (error.esource(), error.etype()) {
            (_, Type::HTTPStatus(413)) => {
                rescue(413, "http_request_error", "The request is too large")
            }
            (
                ErrorSource::Downstream,
                Type::ConnectionClosed | Type::WriteError | Type::ReadError | Type::WriteTimedout,
            ) => rescue(0, "http_request_error", "The client is gone"),
            (ErrorSource::Downstream, Type::ReadTimedout) => rescue(
                408,
                "http_request_error",
                "The request did not arrive in time",
            ),
            (ErrorSource::Downstream, _) => rescue(
                400,
                "http_request_error",
                "The request cannot be understood",
            ),
            (_, Type::ConnectTimedout) => rescue(
                504,
                "connection_timeout",
                "The upstream did not accept a connection in time",
            ),
            (_, Type::ConnectRefused) => rescue(
                502,
                "connection_refused",
                "The upstream refuses connections",
            ),
            (_, Type::ConnectNoRoute) => rescue(
                502,
                "destination_ip_unroutable",
                "There is no network route to the upstream",
            ),
            (_, Type::TLSHandshakeFailure) if is_certificate_error(error) => rescue(
                502,
                "tls_certificate_error",
                "The upstream's certificate is not accepted",
            ),
            (
                _,
                Type::TLSHandshakeFailure | Type::TLSWantX509Lookup | Type::TLSHandshakeTimedout,
            ) => rescue(502, "tls_protocol_error", "TLS with the upstream failed"),
            (_, Type::InvalidCert) => rescue(
                502,
                "tls_certificate_error",
                "The upstream's certificate is not accepted",
            ),
            (
                _,
                Type::ConnectError
                | Type::ConnectProxyFailure
                | Type::SocketError
                | Type::BindError,
            ) => rescue(
                502,
                "destination_unavailable",
                "The upstream cannot be reached",
            ),
            (_, Type::ReadTimedout | Type::WriteTimedout) => rescue(
                504,
                "http_response_timeout",
                "The upstream did not answer in time",
            ),
            (_, Type::ReadError | Type::WriteError | Type::ConnectionClosed) => rescue(
                502,
                "connection_terminated",
                "The upstream closed the connection",
            ),
            (_, Type::InvalidHTTPHeader | Type::H1Error | Type::H2Error | Type::InvalidH2) => {
                rescue(
                    502,
                    "http_protocol_error",
                    "The upstream's answer cannot be understood",
                )
            }
            (ErrorSource::Upstream, _) => rescue(
                502,
                "destination_unavailable",
                "The upstream cannot be reached",
            ),
            _ => rescue(500, "proxy_internal_error", "The sidecar failed"),
        }
    }

    /// The answer's head and body: a problem document (RFC 9457).
    pub(super) fn answer(&self) -> Option<(ResponseHeader, Bytes)> {
        let mut problem = serde_json::json!({ "title": self.title, "status": self.status });
        if let Some(reason) = self.reason {
            problem["reason"] = reason.label().into();
        }
        if let Some(refusal) = self.refusal {
            problem["reason"] = refusal.label().into();
        }
        let body = Bytes::from(problem.to_string());
        let mut head = ResponseHeader::build(self.status, Some(8)).ok()?;
        head.insert_header(CONTENT_TYPE, "application/problem+json")
            .ok()?;
        head.insert_header(CONTENT_LENGTH, body.len()).ok()?;
        head.insert_header(CACHE_CONTROL, "private, no-store")
            .ok()?;
        head.insert_header(
            "proxy-status",
            format!("dressipi-sidecar; error={}", self.error),
        )
        .ok()?;
        if self.status == 503 {
            head.insert_header(RETRY_AFTER, RETRY_AFTER_SECS).ok()?;
        }
        if let Some(reason) = self.reason {
            head.insert_header(SIDECAR, format!("rejected; reason={}", reason.label()))
                .ok()?;
        }
        Some((head, body))
    }
}

/// pingora's rustls backend keeps nothing of a handshake's error but its text. It decides no more than a word here, and
/// `tests/tls.rs` notices if the text changes.
fn is_certificate_error(error: &Error) -> bool {
    error.to_string().contains("invalid peer certificate")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_tells_the_client_what_and_nothing_else() {
        let mut error = Error::explain(
            ErrorType::ConnectRefused,
            "10.1.2.3:443 with token eyJhbGciOi",
        );
        error.as_up();
        let (head, body) = Rescue::of(&error).answer().unwrap();
        assert_eq!(head.status, 502);
        assert_eq!(
            head.headers["proxy-status"],
            "dressipi-sidecar; error=connection_refused"
        );
        assert_eq!(head.headers["content-type"], "application/problem+json");
        assert_eq!(
            body,
            r#"{"status":502,"title":"The upstream refuses connections"}"#
        );
    }

    #[test]
    fn a_rejected_call_names_the_reason_and_when_to_come_back() {
        let reason = AnonymousReason::Unavailable(crate::session::Unavailable::Store);
        let (head, body) = Rescue::unavailable(reason).answer().unwrap();
        assert_eq!(head.status, 503);
        assert_eq!(head.headers["retry-after"], "5");
        assert_eq!(head.headers["dressipi-sidecar"], "rejected; reason=store");
        assert!(
            std::str::from_utf8(&body)
                .unwrap()
                .contains(r#""reason":"store""#)
        );
    }

    /// Every answer that there is, as status and error type.
    fn all() -> std::collections::BTreeSet<(u16, &'static str)> {
        use ErrorType as Type;
        let types = [
            Type::ConnectTimedout,
            Type::ConnectRefused,
            Type::ConnectNoRoute,
            Type::TLSHandshakeFailure,
            Type::TLSHandshakeTimedout,
            Type::InvalidCert,
            Type::ConnectError,
            Type::SocketError,
            Type::BindError,
            Type::ReadTimedout,
            Type::WriteTimedout,
            Type::ReadError,
            Type::WriteError,
            Type::ConnectionClosed,
            Type::InvalidHTTPHeader,
            Type::H1Error,
            Type::H2Error,
            Type::InternalError,
            Type::HTTPStatus(413),
        ];
        let sources = [
            ErrorSource::Upstream,
            ErrorSource::Downstream,
            ErrorSource::Internal,
        ];
        let mut rescues = vec![Rescue::NO_ROUTE, Rescue::UNRESOLVED];
        rescues.push(Rescue::unavailable(AnonymousReason::NoVisitor));
        for etype in types {
            for source in &sources {
                let mut error = Error::new(etype.clone());
                error.esource = source.clone();
                rescues.push(Rescue::of(&error));
            }
        }
        rescues.extend(Refusal::all().map(Rescue::refused));
        let answers = rescues.iter().filter(|rescue| rescue.status > 0);
        answers
            .map(|rescue| (rescue.status, rescue.error))
            .collect()
    }

    #[test]
    fn the_readme_lists_every_answer_that_the_sidecar_gives_by_itself() {
        let readme = include_str!("../../README.md");
        let row = |line: &'static str| {
            let mut cells = line.split('|').map(str::trim).skip(1);
            let status = cells.next()?.parse::<u16>().ok()?;
            let error = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
            Some((status, error))
        };
        let listed: std::collections::BTreeSet<_> = readme.lines().filter_map(row).collect();
        assert_eq!(listed, all());
    }
}
