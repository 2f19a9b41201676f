//! PURE: what the fields of a request may hold, over HTTP/1.x and HTTP/2 alike.

use http::request::Parts;
use http::{HeaderMap, Method, header};

use super::refusal::Refusal;

/// What a byte is in a header's name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// A letter, a digit or a hyphen.
    Plain,
    /// Another token character, which servers behind a gateway interface may take for a hyphen.
    Odd,
    /// No token character.
    End,
}

const CLASSES: [Class; 256] = {
    let mut classes = [Class::End; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' => Class::Plain,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'.' | b'^' | b'_' | b'`'
            | b'|' | b'~' => Class::Odd,
            _ => Class::End,
        };
        byte += 1;
    }
    classes
};

/// The headers that decide where a request ends and who it is for.
const FRAMING: [&str; 12] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "proxy-connection",
    "keep-alive",
    "upgrade",
    "te",
    "trailer",
    "expect",
    "http2-settings",
    "content-encoding",
];

/// The headers that a client may not have removed by naming them in `Connection`, besides `x-forwarded-…`.
const NEEDED: [&str; 11] = [
    "host",
    "content-length",
    "transfer-encoding",
    "content-type",
    "content-encoding",
    "cookie",
    "authorization",
    "forwarded",
    "x-real-ip",
    "sec-gpc",
    "range",
];

/// The length of the header name that `line` begins with, up to its colon.
#[inline]
pub(super) fn name_length(line: &[u8]) -> Result<usize, Refusal> {
    let is_other = |byte: &u8| CLASSES[usize::from(*byte)] != Class::Plain;
    match line.iter().position(is_other) {
        Some(length) if length > 0 && line[length] == b':' => Ok(length),
        _ => odd_name_length(line),
    }
}

/// The same for a name that has other characters than letters, digits and hyphens, or is none.
#[cold]
fn odd_name_length(line: &[u8]) -> Result<usize, Refusal> {
    let is_end = |byte: &u8| CLASSES[usize::from(*byte)] == Class::End;
    match line.iter().position(is_end) {
        Some(0) if matches!(line[0], b' ' | b'\t') => Err(Refusal::FoldedLine),
        Some(length) if length > 0 && line[length] == b':' => match is_lookalike(&line[..length]) {
            true => Err(Refusal::Spelling),
            false => Ok(length),
        },
        _ => Err(Refusal::HeaderName),
    }
}

/// Whether `bytes` are a token (RFC 9110 §5.6.2).
pub(super) fn is_token(bytes: &[u8]) -> bool {
    let is_char = |byte: &u8| CLASSES[usize::from(*byte)] != Class::End;
    !bytes.is_empty() && bytes.iter().all(is_char)
}

/// Whether some server may take `name`, which is not spelled with letters, digits and hyphens alone, for a framing header.
fn is_lookalike(name: &[u8]) -> bool {
    FRAMING.iter().any(|known| is_same(name, known))
}

/// Whether two names differ at most in case and in what stands for a hyphen.
fn is_same(name: &[u8], known: &str) -> bool {
    name.len() == known.len() && name.iter().map(fold).eq(known.as_bytes().iter().map(fold))
}

fn fold(byte: &u8) -> u8 {
    match byte.to_ascii_lowercase() {
        plain @ (b'a'..=b'z' | b'0'..=b'9') => plain,
        _ => b'-',
    }
}

/// Checks a method.
pub(super) fn method(method: &[u8]) -> Result<(), Refusal> {
    if method == b"GET" || method == b"POST" {
        return Ok(());
    }
    let refused = ["CONNECT", "TRACE", "TRACK", "PRI"];
    let is_refused = refused
        .iter()
        .any(|word| method.eq_ignore_ascii_case(word.as_bytes()));
    match is_token(method) && !is_refused {
        true => Ok(()),
        false => Err(Refusal::Method),
    }
}

/// Checks a target: a path that begins with `/`, or `*` for OPTIONS. Control bytes but the tab are looked for elsewhere.
pub(super) fn target(target: &[u8], method: &[u8]) -> Result<(), Refusal> {
    if target.first() != Some(&b'/') && (target != b"*" || method != b"OPTIONS") {
        return Err(Refusal::TargetForm);
    }
    match memchr::memchr3(b'#', b'\t', b' ', target).map(|at| target[at]) {
        None => Ok(()),
        Some(b'#') => Err(Refusal::Fragment),
        Some(b'\t') => Err(Refusal::ControlByte),
        Some(_) => Err(Refusal::RequestLine),
    }
}

/// Checks a `Host`: a name or an address, and a port or none. Lists, paths and users are none.
#[inline]
pub(super) fn host(value: &[u8]) -> Result<(), Refusal> {
    let is_other = |byte: &u8| CLASSES[usize::from(*byte)] != Class::Plain && *byte != b'.';
    match value.iter().position(is_other) {
        None if !value.is_empty() => Ok(()),
        Some(colon) if colon > 0 && value[colon] == b':' && is_port(&value[colon + 1..]) => Ok(()),
        _ => odd_host(value),
    }
}

fn is_port(port: &[u8]) -> bool {
    port.len() <= 5 && port.iter().all(u8::is_ascii_digit)
}

/// The same for a host with other characters than those of a domain name.
fn odd_host(value: &[u8]) -> Result<(), Refusal> {
    let is_char = |byte: &u8| {
        byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'.' | b'_' | b'~' | b':' | b'[' | b']' | b'%')
    };
    let (name, port) = match value.iter().rposition(|byte| *byte == b':') {
        // The colons of an IPv6 address are inside brackets.
        Some(colon) if !value[colon..].contains(&b']') => (&value[..colon], &value[colon + 1..]),
        _ => (value, &b""[..]),
    };
    let bracketed = name.first() == Some(&b'[');
    let inner = match (bracketed, name.last()) {
        (true, Some(b']')) => &name[1..name.len() - 1],
        (true, _) => return Err(Refusal::Host),
        (false, _) => name,
    };
    let fits =
        |byte: &u8| is_char(byte) && !matches!(byte, b'[' | b']') && (bracketed || *byte != b':');
    match !inner.is_empty() && inner.iter().all(fits) && is_port(port) {
        true => Ok(()),
        false => Err(Refusal::Host),
    }
}

/// Reads a `Content-Length`: digits and nothing else.
pub(super) fn content_length(value: &[u8]) -> Result<u64, Refusal> {
    // 18 digits never overflow.
    if value.is_empty() || value.len() > 18 || !value.iter().all(u8::is_ascii_digit) {
        return Err(Refusal::ContentLength);
    }
    Ok(value
        .iter()
        .fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}

/// Checks a `Connection`: a list of tokens that names nothing which is needed. Whether the connection ends with this request.
pub(super) fn connection(value: &[u8]) -> Result<bool, Refusal> {
    if value.eq_ignore_ascii_case(b"keep-alive") {
        return Ok(false);
    }
    let mut closes = false;
    let options = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    for option in options.filter(|option| !option.is_empty()) {
        let forwarded = option.len() > 11 && is_same(&option[..12], "x-forwarded-");
        if !is_token(option) || forwarded || NEEDED.iter().any(|name| is_same(option, name)) {
            return Err(Refusal::ConnectionOption);
        }
        closes |= option.eq_ignore_ascii_case(b"close");
    }
    Ok(closes)
}

/// What an `Upgrade` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Another protocol.
    Tunnel,
    /// HTTP/2 and nothing else, which Java's client offers with every first request.
    Http2,
}

/// Whether an `Upgrade` offers HTTP/2 and nothing else: that is not taken up (RFC 9110 §7.8), here or further on.
pub fn is_http2_offer(value: &[u8]) -> bool {
    value.trim_ascii().eq_ignore_ascii_case(b"h2c")
}

/// Checks an `Upgrade`. HTTP/2 by upgrade would be a tunnel to the upstream past everything that is decided here.
pub(super) fn upgrade(value: &[u8]) -> Result<Asked, Refusal> {
    if is_http2_offer(value) {
        return Ok(Asked::Http2);
    }
    let mut protocols = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    let refused = |protocol: &[u8]| {
        let name = protocol
            .split(|byte| *byte == b'/')
            .next()
            .unwrap_or_default();
        name.is_empty()
            || ["h2c", "h2", "http", "tls"]
                .iter()
                .any(|no| name.eq_ignore_ascii_case(no.as_bytes()))
    };
    match protocols.any(refused) {
        true => Err(Refusal::Upgrade),
        false => Ok(Asked::Tunnel),
    }
}

/// Judges a request that came over HTTP/2, where framing is not a matter of fields, but what becomes of them upstream is.
pub fn judge_http2(request: &Parts, headers: usize) -> Result<(), Refusal> {
    method(request.method.as_str().as_bytes())?;
    let path = request
        .uri
        .path_and_query()
        .map_or("", |path| path.as_str());
    target(path.as_bytes(), request.method.as_str().as_bytes())?;
    if request.headers.len() > headers {
        return Err(Refusal::HeaderCount);
    }
    for name in request.headers.keys() {
        let name = name.as_str().as_bytes();
        let odd = |byte: &u8| CLASSES[usize::from(*byte)] == Class::Odd;
        if name.iter().any(odd) && is_lookalike(name) {
            return Err(Refusal::Spelling);
        }
    }
    let authority = request
        .uri
        .authority()
        .map(|authority| authority.as_str().as_bytes());
    let hosts: Vec<_> = request.headers.get_all(header::HOST).iter().collect();
    match (authority, hosts.as_slice()) {
        (None, []) => return Err(Refusal::MissingHost),
        (_, [_, _, ..]) => return Err(Refusal::DoubledHost),
        (Some(authority), []) => host(authority)?,
        (None, [only]) => host(only.as_bytes())?,
        (Some(authority), [only]) => {
            host(authority)?;
            if !authority.eq_ignore_ascii_case(only.as_bytes()) {
                return Err(Refusal::DoubledHost);
            }
        }
    }
    http2_framing(&request.headers)?;
    match request.method == Method::CONNECT {
        true => Err(Refusal::Method),
        false => Ok(()),
    }
}

fn http2_framing(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    if let Some(length) = lengths.next() {
        content_length(length.as_bytes())?;
        if lengths.next().is_some() {
            return Err(Refusal::ContentLength);
        }
    }
    if headers.contains_key(header::TRANSFER_ENCODING) {
        return Err(Refusal::TransferCoding);
    }
    match headers.contains_key(header::UPGRADE) {
        true => Err(Refusal::Upgrade),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn invariant_14_a_name_is_a_token_and_no_lookalike_of_a_framing_header() {
        assert_eq!(name_length(b"X-One: 1"), Ok(5));
        assert_eq!(name_length(b"x_one:"), Ok(5));
        assert_eq!(name_length(b"cookie:a:b"), Ok(6));
        for line in [
            &b""[..],
            b":",
            b": 1",
            b"x",
            b"x y: 1",
            b"x : 1",
            b"x\t: 1",
            b"x(: 1",
            b"\xe9: 1",
            b"x\0: 1",
        ] {
            assert_eq!(name_length(line), Err(Refusal::HeaderName), "{line:?}");
        }
        for line in [&b" x: 1"[..], b"\tx: 1", b" "] {
            assert_eq!(name_length(line), Err(Refusal::FoldedLine), "{line:?}");
        }
        for name in FRAMING {
            assert_eq!(name_length(format!("{name}: 1").as_bytes()), Ok(name.len()));
            if let Some((first, rest)) = name.split_once('-') {
                for odd in ["_", ".", "~", "!"] {
                    let line = format!("{}{odd}{}: 1", first.to_uppercase(), rest);
                    assert_eq!(
                        name_length(line.as_bytes()),
                        Err(Refusal::Spelling),
                        "{line}"
                    );
                }
            }
        }
    }

    #[test]
    fn invariant_14_methods_and_targets() {
        for word in [
            "GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH", "PROPFIND", "M-SEARCH",
        ] {
            assert_eq!(method(word.as_bytes()), Ok(()), "{word}");
        }
        for word in [
            "", "CONNECT", "connect", "TRACE", "Trace", "TRACK", "PRI", "G T", "GET:", "G\0T",
            "(GET)",
        ] {
            assert_eq!(method(word.as_bytes()), Err(Refusal::Method), "{word}");
        }
        for good in ["/", "/a?b", "/a//b", "/%00"] {
            assert_eq!(target(good.as_bytes(), b"GET"), Ok(()), "{good}");
        }
        assert_eq!(target(b"*", b"OPTIONS"), Ok(()));
        for bad in ["", "*", "a", "?host", "http://a/", "a:80", "//"] {
            let expected = if bad == "//" {
                Ok(())
            } else {
                Err(Refusal::TargetForm)
            };
            assert_eq!(target(bad.as_bytes(), b"GET"), expected, "{bad}");
        }
        assert_eq!(target(b"/a#b", b"GET"), Err(Refusal::Fragment));
        assert_eq!(target(b"/a\tb", b"GET"), Err(Refusal::ControlByte));
        assert_eq!(target(b"/a b", b"GET"), Err(Refusal::RequestLine));
    }

    #[test]
    fn invariant_14_a_host_is_one_host() {
        for good in [
            "a",
            "shop.example",
            "shop.example:8080",
            "127.0.0.1:1",
            "[::1]",
            "[::1]:80",
            "a_b",
            "a:",
        ] {
            assert_eq!(host(good.as_bytes()), Ok(()), "{good}");
        }
        for bad in [
            "", ":80", "a,b", "a b", "u@a", "a/b", "a\\b", "a?b", "a#b", "a:b", "a:80:80",
            "a:123456", "[::1", "::1", "[]", "a]",
        ] {
            assert_eq!(host(bad.as_bytes()), Err(Refusal::Host), "{bad}");
        }
    }

    #[test]
    fn invariant_14_a_length_is_one_number() {
        assert_eq!(content_length(b"0"), Ok(0));
        assert_eq!(content_length(b"007"), Ok(7));
        assert_eq!(
            content_length(b"999999999999999999"),
            Ok(999_999_999_999_999_999)
        );
        for bad in [
            "",
            "+1",
            "-1",
            "1,1",
            "1 ",
            " 1",
            "0x1",
            "1e1",
            "1.0",
            "\u{661}",
            "1000000000000000000",
        ] {
            assert_eq!(
                content_length(bad.as_bytes()),
                Err(Refusal::ContentLength),
                "{bad}"
            );
        }
    }

    #[test]
    fn invariant_14_connection_takes_nothing_away_that_is_needed() {
        for good in [
            "",
            "close",
            "te , Close",
            "Keep-Alive",
            "keep-alive, Upgrade",
            "te, , foo",
            "x-mine",
        ] {
            assert_eq!(
                connection(good.as_bytes()),
                Ok(good.contains("lose")),
                "{good}"
            );
        }
        for bad in [
            "Host",
            "close, cookie",
            "X-Forwarded-For",
            "x_forwarded_proto",
            "Forwarded",
            "content_length",
            "a b",
            "authorization",
        ] {
            assert_eq!(
                connection(bad.as_bytes()),
                Err(Refusal::ConnectionOption),
                "{bad}"
            );
        }
    }

    #[test]
    fn an_upgrade_leads_to_no_other_http() {
        assert_eq!(upgrade(b"websocket"), Ok(Asked::Tunnel));
        assert_eq!(upgrade(b"H2C"), Ok(Asked::Http2));
        for bad in ["", "websocket, h2c", "h2c, h2c", "HTTP/2.0", "TLS/1.0"] {
            assert_eq!(upgrade(bad.as_bytes()), Err(Refusal::Upgrade), "{bad}");
        }
    }

    fn judged(method: &str, uri: &str, fields: &[(&str, &str)]) -> Result<(), Refusal> {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        judge_http2(&request.body(()).unwrap().into_parts().0, 100)
    }

    #[test]
    fn invariant_14_http_2_brings_no_ambiguity_either() {
        let uri = "http://shop.example/a?b";
        assert_eq!(judged("GET", uri, &[("x_own", "1")]), Ok(()));
        assert_eq!(judged("GET", uri, &[("host", "shop.example")]), Ok(()));
        assert_eq!(judged("POST", uri, &[("content-length", "5")]), Ok(()));
        for (fields, refusal) in [
            (vec![("host", "other.example")], Refusal::DoubledHost),
            (
                vec![("host", "shop.example"), ("host", "shop.example")],
                Refusal::DoubledHost,
            ),
            (vec![("content_length", "5")], Refusal::Spelling),
            (vec![("transfer_encoding", "chunked")], Refusal::Spelling),
            (
                vec![("content-length", "5"), ("content-length", "5")],
                Refusal::ContentLength,
            ),
            (vec![("content-length", "+5")], Refusal::ContentLength),
            (
                vec![("transfer-encoding", "chunked")],
                Refusal::TransferCoding,
            ),
            (vec![("upgrade", "websocket")], Refusal::Upgrade),
        ] {
            assert_eq!(judged("GET", uri, &fields), Err(refusal), "{fields:?}");
        }
        assert_eq!(judged("TRACE", uri, &[]), Err(Refusal::Method));
        assert_eq!(judged("CONNECT", uri, &[]), Err(Refusal::Method));
        assert_eq!(judged("GET", "/a", &[]), Err(Refusal::MissingHost));
        let many: Vec<_> = (0..101).map(|_| ("x-a", "1")).collect();
        assert_eq!(judged("GET", uri, &many), Err(Refusal::HeaderCount));
    }
}
