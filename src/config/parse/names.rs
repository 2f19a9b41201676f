//! Names that go into HTTP: headers, cookies, paths.

use http::HeaderName;
use http::header::AUTHORIZATION;

use super::report::Report;
use crate::dressipi::Headers;

/// Headers that frame a message, name a hop or are written by the sidecar itself: whoever set one of these to carry
/// something else would break every request (RFC 9110 §7.6.1, RFC 9112 §6).
const TAKEN: [&str; 22] = [
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "date",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "set-cookie",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
];

/// A header that may carry something of ours.
pub(super) fn header(report: &mut Report<'_>, path: &str, text: &str) -> Option<HeaderName> {
    let Ok(name) = HeaderName::try_from(text.trim()) else {
        report.problem(
            path,
            format!("{text:?} is not a header name"),
            "letters, digits and - only, such as x-visitor-id",
        );
        return None;
    };
    let folded = folded(&name);
    if TAKEN.contains(&folded.as_str()) || folded.starts_with("x-forwarded-") {
        report.problem(
            path,
            format!("the header `{name}` has a meaning of its own in HTTP"),
            "choose another name, such as one that begins with x-",
        );
        return None;
    }
    Some(name)
}

/// Whether servers may take two names for the same: many do not tell `_` from `-`.
pub(super) fn same_header(a: &HeaderName, b: &HeaderName) -> bool {
    folded(a) == folded(b)
}

/// Whether a header carries credentials: ours, Dressipi's whatever ours are called, or the client's.
pub(super) fn is_credential(name: &HeaderName, ours: &Headers) -> bool {
    let vendor = Headers::default();
    let known = [
        &ours.api_key,
        &ours.token,
        &vendor.api_key,
        &vendor.token,
        &AUTHORIZATION,
    ];
    known.into_iter().any(|known| same_header(known, name))
}

fn folded(name: &HeaderName) -> String {
    let fold = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    name.as_str().chars().map(fold).collect()
}

/// Whether a text is a cookie's name: a token (RFC 6265 §4.1.1, RFC 9110 §5.6.2).
pub(super) fn is_token(text: &str) -> bool {
    let special = |c: char| "!#$%&'*+-.^_`|~".contains(c);
    !text.is_empty()
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || special(c))
}

/// A cookie's name.
pub(super) fn cookie(report: &mut Report<'_>, path: &str, text: &str) {
    if !is_token(text) {
        report.problem(
            path,
            format!("{text:?} is not a cookie name"),
            "letters, digits and - _ . only; no spaces, `=`, `;` or `,` (RFC 6265)",
        );
    }
}

/// The path of a URL: from `/` on, without query.
pub(super) fn url_path(report: &mut Report<'_>, path: &str, text: &str) {
    let fits = |c: char| c.is_ascii_graphic() && !"?#\\\"<>".contains(c);
    let dots = |segment: &str| segment == "." || segment == "..";
    if !text.starts_with('/') {
        report.problem(
            path,
            format!("{text:?} does not start with /"),
            format!("write {:?}", format!("/{text}")),
        );
    } else if text.contains(['?', '#']) {
        report.problem(
            path,
            format!("{text:?} has more than a path"),
            "leave out the query and the fragment",
        );
    } else if !text.chars().all(fits) {
        report.problem(
            path,
            format!("{text:?} has characters that no path may have"),
            "percent-encode them",
        );
    } else if text.split('/').any(dots) || text.contains("//") {
        report.problem(
            path,
            format!("{text:?} has an empty segment or one of dots"),
            "write it plainly, such as \"/api/\"",
        );
    }
}
