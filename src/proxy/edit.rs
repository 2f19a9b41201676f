//! PURE: pingora's headers, edited as the plain maps that they are.
//!
//! pingora keeps the spelling of names in a second map beside the headers, and parses the name again at each change. Names are
//! case-insensitive (RFC 9110 §5.1) and leave in lower case, as they do from Envoy and over HTTP/2: without the second map every
//! edit and every copy is a good deal cheaper. What a header holds besides (target, reason phrase) stays as it came.

use http::{HeaderMap, HeaderName};
use pingora::http::{RequestHeader, ResponseHeader};

/// Lets go of the spelling of a request's header names.
pub(super) fn forget_spelling(request: &mut RequestHeader) {
    if request.has_case() && is_plain(request) {
        edit_plain(request, |_| {});
    }
}

/// Edits a request's headers.
pub(super) fn edit_request(request: &mut RequestHeader, edit: impl FnOnce(&mut HeaderMap)) {
    if is_plain(request) {
        return edit_plain(request, edit);
    }
    let mut headers = request.headers.clone();
    edit(&mut headers);
    let before: Vec<_> = request.headers.keys().cloned().collect();
    for name in &before {
        request.remove_header(name);
    }
    for (name, value) in &headers {
        let _ = request.append_header(name, value.clone());
    }
}

/// Whether the target is what the URI says of it, byte for byte, so that nothing is lost with pingora's own copy.
fn is_plain(request: &RequestHeader) -> bool {
    let target = request.uri.path_and_query();
    target.is_some_and(|target| target.as_str().as_bytes() == request.raw_path())
}

fn edit_plain(request: &mut RequestHeader, edit: impl FnOnce(&mut HeaderMap)) {
    let send_end_stream = request.send_end_stream();
    let (nothing, ()) = http::Request::new(()).into_parts();
    let taken = std::mem::replace(request, RequestHeader::from(nothing));
    let mut parts = http::request::Parts::from(taken);
    edit(&mut parts.headers);
    forget(std::mem::replace(request, RequestHeader::from(parts)));
    if let Some(send_end_stream) = send_end_stream {
        request.set_send_end_stream(send_end_stream);
    }
}

/// Drops what stood in for a header while that was edited. It owns no memory, so to find that out for each of its fields is
/// work for nothing.
fn forget<T>(nothing: T) {
    std::mem::forget(nothing);
}

/// Edits an answer's headers, and lets go of their spelling.
pub(super) fn edit_answer(answer: &mut ResponseHeader, edit: impl FnOnce(&mut HeaderMap)) {
    let reason = answer.get_reason_phrase();
    let reason = match reason == answer.status.canonical_reason() {
        true => None,
        false => reason.map(str::to_owned),
    };
    let (nothing, ()) = http::Response::new(()).into_parts();
    let taken = std::mem::replace(answer, ResponseHeader::from(nothing));
    let mut parts = http::response::Parts::from(taken);
    edit(&mut parts.headers);
    forget(std::mem::replace(answer, ResponseHeader::from(parts)));
    if reason.is_some() {
        let _ = answer.set_reason_phrase(reason.as_deref());
    }
}

/// Removes every header whose name `matches`.
pub(super) fn remove_all(headers: &mut HeaderMap, matches: impl Fn(&str) -> bool) {
    let is_wanted = |name: &HeaderName| matches(name.as_str());
    if headers.keys().any(is_wanted) {
        remove_some(headers, is_wanted);
    }
}

/// Seldom needed.
#[cold]
fn remove_some(headers: &mut HeaderMap, is_wanted: impl Fn(&HeaderName) -> bool) {
    let names: Vec<_> = headers
        .keys()
        .filter(|name| is_wanted(name))
        .cloned()
        .collect();
    for name in names {
        headers.remove(&name);
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Version};

    use super::*;

    fn request(target: &[u8]) -> RequestHeader {
        let mut request = RequestHeader::build("POST", target, None).unwrap();
        for (name, value) in [("Host", "shop.example"), ("X-One", "1"), ("x-one", "2")] {
            request.append_header(name, value).unwrap();
        }
        request
    }

    fn listed(headers: &HeaderMap) -> Vec<(&str, &[u8])> {
        headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .collect()
    }

    #[test]
    fn an_edit_changes_the_headers_and_nothing_else_whatever_the_target() {
        for target in [&b"/a?b"[..], b"*", b"http://other.example/a", b"/caf\xe9"] {
            let mut request = request(target);
            request.set_version(Version::HTTP_2);
            request.set_send_end_stream(false);
            let (raw, uri) = (request.raw_path().to_owned(), request.uri.clone());
            edit_request(&mut request, |headers| {
                headers.remove("host");
                headers.append("x-two", HeaderValue::from_static("3"));
            });
            assert_eq!(
                listed(&request.headers),
                [("x-one", &b"1"[..]), ("x-one", b"2"), ("x-two", b"3")],
            );
            assert_eq!((request.raw_path(), &request.uri), (&raw[..], &uri));
            assert_eq!(
                (request.method.as_str(), request.send_end_stream()),
                ("POST", Some(false))
            );
            let mut wire = Vec::new();
            request.header_to_h1_wire(&mut wire);
            assert_eq!(
                wire.to_ascii_lowercase(),
                b"x-one: 1\r\nx-one: 2\r\nx-two: 3\r\n"
            );
        }
    }

    #[test]
    fn forgetting_the_spelling_loses_nothing_else() {
        for (target, spelled) in [(&b"/a?b"[..], false), (b"/caf\xe9", true)] {
            let mut request = request(target);
            forget_spelling(&mut request);
            assert_eq!(request.has_case(), spelled);
            assert_eq!(request.raw_path(), target);
            assert_eq!(
                listed(&request.headers),
                [
                    ("host", &b"shop.example"[..]),
                    ("x-one", b"1"),
                    ("x-one", b"2")
                ]
            );
        }
    }

    #[test]
    fn an_answer_keeps_its_status_version_and_reason() {
        for reason in [None, Some("Just Fine"), Some("")] {
            let mut answer = ResponseHeader::build(203, None).unwrap();
            answer.set_version(Version::HTTP_10);
            answer.set_reason_phrase(reason).unwrap();
            let before = answer.get_reason_phrase().map(str::to_owned);
            answer.append_header("Set-Cookie", "a=1").unwrap();
            answer.append_header("set-cookie", "b=2").unwrap();
            answer.append_header("X-Gone", "1").unwrap();
            edit_answer(&mut answer, |headers| {
                headers.remove("x-gone");
            });
            assert_eq!(answer.get_reason_phrase(), before.as_deref());
            assert_eq!(
                (answer.status.as_u16(), answer.version),
                (203, Version::HTTP_10)
            );
            assert_eq!(
                listed(&answer.headers),
                [("set-cookie", &b"a=1"[..]), ("set-cookie", b"b=2")]
            );
        }
    }

    #[test]
    fn every_header_that_matches_goes() {
        let mut request = request(b"/");
        edit_request(&mut request, |headers| {
            remove_all(headers, |name| name == "x-one")
        });
        assert_eq!(listed(&request.headers), [("host", &b"shop.example"[..])]);
    }
}
