//! The `Cookie` header, and the visitor cookie in it.

use std::sync::LazyLock;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use dressipi_sidecar::clock::Timestamp;
use dressipi_sidecar::visitor::{Change, CookieJar, CookieSettings, Cookies, SameSite, is_ours};
use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};
use memchr::memmem::Finder;
use ring::hmac;

use super::Target;

pub const TARGET: Target = Target {
    name: "cookie",
    words: &[
        "sid",
        "sid=",
        "sid-recovery=",
        "; ",
        ";",
        "=",
        "\"",
        ",",
        " ",
        "\t",
        "sidx=",
        "xsid=",
        "AWtleTEAAQIDBAUGBwgJCgsMDQ4PAAAAAGj",
        "AQ",
        "A",
        "-",
        "_",
        "+",
        "/",
        "==",
    ],
    check,
};

const NAME: &str = "sid";

fn jar(keys: &[[u8; 4]]) -> CookieJar {
    let settings = CookieSettings {
        name: NAME.to_owned(),
        secure: true,
        same_site: SameSite::Lax,
        max_age: Duration::from_secs(400 * 24 * 3600),
        domain: None,
        path: "/".to_owned(),
        recovery: true,
        max_life: Some(Duration::from_secs(800 * 24 * 3600)),
        renew_after: Duration::from_secs(40 * 24 * 3600),
    };
    let key = |id: &[u8; 4]| (*id, hmac::Key::new(hmac::HMAC_SHA256, id));
    CookieJar::new(settings, keys.iter().map(key).collect())
}

/// The jar that reads, and one for each of its keys, to mint with.
static JARS: LazyLock<(CookieJar, [CookieJar; 2])> = LazyLock::new(|| {
    let each = [jar(&[*b"key1"]), jar(&[*b"key2"])];
    (jar(&[*b"key1", *b"key2"]), each)
});

fn now() -> Timestamp {
    Timestamp::from_millis(1_760_000_000_000)
}

fn minted(jar: &CookieJar, id: [u8; 16], issued: Timestamp) -> String {
    let cookie = jar.mint(id, issued).unwrap().set_cookie;
    let value = cookie.split(['=', ';']).nth(1).unwrap();
    value.to_owned()
}

fn check(input: &[u8]) {
    // As a header: an input holds one value, or several in lines of their own, as HTTP/2 sends them.
    let mut headers = HeaderMap::new();
    for line in input.split(|byte| *byte == b'\n') {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(COOKIE, value);
        }
    }
    let all = pairs(&headers);
    for (_, value) in &all {
        genuine(value.as_deref().unwrap_or_default());
    }
    genuine(input);
    let cookies = Cookies::new(&headers);
    let theirs = |(name, _): &&Pair| !is_ours(name, NAME.as_bytes());
    let expected: Vec<_> = all.iter().filter(theirs).cloned().collect();
    for change in [
        cookies.without_ours(&Finder::new(NAME)),
        cookies.retain(|name| !is_ours(name, NAME.as_bytes())),
    ] {
        assert_eq!(pairs(&changed(&headers, change)), expected, "what is left");
    }

    // And one that is authentic, with the input as its randomness, and with one character of it changed.
    let mut id = [0; 16];
    let length = input.len().min(16);
    id[..length].copy_from_slice(&input[..length]);
    let (reads, mints) = &*JARS;
    for jar in mints {
        let value = minted(jar, id, now());
        let read = reads.read(value.as_bytes(), now()).expect("it is ours");
        assert_eq!(read.as_bytes(), &id);
        let mut forged = value.into_bytes();
        let at = super::number(input) as usize % forged.len();
        forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
        assert!(reads.read(&forged, now()).is_none(), "forged at {at}");
    }
}

/// A value that is believed was minted here: with a key of ours, over just these bytes, and spelled as we spell it.
fn genuine(value: &[u8]) {
    let Some(id) = JARS.0.read(value, now()) else {
        return;
    };
    let bytes = URL_SAFE_NO_PAD.decode(value).expect("it was read");
    assert_eq!(
        URL_SAFE_NO_PAD.encode(&bytes).as_bytes(),
        value,
        "two spellings"
    );
    assert_eq!(id.as_bytes(), &bytes[5..21]);
    let (body, tag) = bytes.split_at(bytes.len() - 16);
    let signed = [NAME.as_bytes(), b"\0", body].concat();
    let key = hmac::Key::new(hmac::HMAC_SHA256, &body[1..5]);
    let ours = [&b"key1"[..], b"key2"].contains(&&body[1..5]);
    let same = hmac::sign(&key, &signed).as_ref()[..16] == *tag;
    assert!(ours && same, "nobody minted this");
}

type Pair = (Vec<u8>, Option<Vec<u8>>);

fn pairs(headers: &HeaderMap) -> Vec<Pair> {
    let mut all = Vec::new();
    Cookies::new(headers).each(|name, value| {
        all.push((name.to_vec(), value.map(<[u8]>::to_vec)));
        false
    });
    all
}

fn changed(headers: &HeaderMap, change: Change) -> HeaderMap {
    let mut headers = headers.clone();
    match change {
        Change::None => {}
        Change::To(value) => drop(headers.insert(COOKIE, value)),
        Change::Remove => drop(headers.remove(COOKIE)),
    }
    headers
}
