//! Where a listener looks for a visitor's identity.

use std::ops::RangeInclusive;

use http::{HeaderMap, HeaderName};

use super::cookies::{Cookies, Lookup};

/// One place to look; a listener has an ordered list of them, and the first that names a visitor wins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VisitorSource {
    /// The cookie that the sidecar mints. Written `cookie`.
    Cookie,
    /// A header that a trusted app sets. Written `header:<name>`.
    Header(HeaderName),
    /// A cookie of the app's own, such as that of its sessions. Written `app-cookie:<name>`.
    AppCookie(String),
}

/// The longest id that a header may name: longer ones are no ids.
const LONGEST_HEADER_ID: usize = 256;
/// What an app's cookie may be to be a visitor's id. Shorter ones could be guessed, and words such as `deleted` or `undefined` would be
/// one visitor for everybody who carries them; longer ones hold data, and change with it.
const APP_COOKIE_LENGTHS: RangeInclusive<usize> = 16..=1024;

/// The id that a header names: it is there once, bounded, and visible ASCII.
pub fn header_id<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let mut values = headers.get_all(name).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    Some(value.as_bytes()).filter(|id| is_header_id(id))
}

/// Whether a header may name a visitor so.
pub fn is_header_id(id: &[u8]) -> bool {
    !id.is_empty() && id.len() <= LONGEST_HEADER_ID && is_visible(id)
}

/// The id that an app's cookie holds: it is there once, bounded, and visible ASCII.
pub fn app_cookie_id<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let Lookup::One(id) = Cookies::new(headers).find(name.as_bytes()) else {
        return None;
    };
    is_app_cookie_id(id).then_some(id)
}

/// Whether a cookie of the app's may name a visitor so.
pub fn is_app_cookie_id(id: &[u8]) -> bool {
    APP_COOKIE_LENGTHS.contains(&id.len()) && is_visible(id)
}

fn is_visible(id: &[u8]) -> bool {
    id.iter().all(u8::is_ascii_graphic)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, values: &[&str]) -> HeaderMap {
        let name = HeaderName::from_static(name);
        let values = values.iter();
        values
            .map(|value| (name.clone(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn an_app_cookie_is_an_id_if_it_is_there_once_bounded_and_visible() {
        let find = |cookies: &[&str]| {
            let headers = headers("cookie", cookies);
            app_cookie_id(&headers, "sid").map(<[u8]>::to_vec)
        };
        let (id, longest) = ("0123456789abcdef", "x".repeat(1024));
        assert_eq!(find(&[&format!("a=1; sid={id}")]).unwrap(), id.as_bytes());
        assert_eq!(
            find(&[&format!("sid={longest}")]).unwrap(),
            longest.as_bytes()
        );
        for none in [
            &[][..],
            &["sid"],
            &["sid="],
            &["sid=deleted"],
            &["SID=0123456789abcdef"],
            &["sid=0123456789 abcdef"],
            &["sid=0123456789abcdef; sid=0123456789abcdef"],
            &["sid=0123456789abcdef", "sid=fedcba9876543210"],
        ] {
            assert_eq!(find(none), None, "{none:?}");
        }
        assert_eq!(find(&[&format!("sid={longest}x")]), None);
    }
}
