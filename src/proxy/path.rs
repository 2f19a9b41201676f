//! PURE: paths that one server reads in another way than the next.
//!
//! The path that is matched is the path that is forwarded, byte for byte. An upstream may still decode it, merge its slashes, take
//! `\` for `/` or drop `;parameters`. Where any such reading leaves its directory (dot segments) the path is refused, and where
//! one takes another route, too ([`super::route::RouteTable`]). Everything else passes as it came, `%2F` included.

/// Whether `path` can be read in one way only. Nearly every path, so this is quick: letters, digits and little more, no dot at the
/// beginning of a segment, no empty segment.
pub(super) fn is_plain(path: &[u8]) -> bool {
    let mut before = b' ';
    for byte in path {
        let odd = match byte {
            b'%' | b'\\' | b';' => true,
            b'/' | b'.' => before == b'/',
            _ => false,
        };
        if odd {
            return false;
        }
        before = *byte;
    }
    true
}

/// All the readings of `path`, the one as it came first; `None`: one of them has a dot segment or a control byte.
pub(super) fn readings(path: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut readings = vec![path.to_vec()];
    for change in [decode, decode, turn_slashes, drop_parameters, merge_slashes] {
        for index in 0..readings.len() {
            let changed = change(&readings[index]);
            if !readings.contains(&changed) {
                readings.push(changed);
            }
        }
    }
    let is_dots = |segment: &[u8]| matches!(segment, b"." | b"..");
    let is_clear = |reading: &Vec<u8>| {
        !reading.iter().any(u8::is_ascii_control)
            && !reading.split(|byte| *byte == b'/').any(is_dots)
    };
    readings.iter().all(is_clear).then_some(readings)
}

fn decode(path: &[u8]) -> Vec<u8> {
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((first, after)) = rest.split_first() {
        match (first, after) {
            (b'%', [high, low, after @ ..])
                if let (Some(high), Some(low)) = (digit(*high), digit(*low)) =>
            {
                decoded.push(high << 4 | low);
                rest = after;
            }
            _ => {
                decoded.push(*first);
                rest = after;
            }
        }
    }
    decoded
}

fn turn_slashes(path: &[u8]) -> Vec<u8> {
    path.iter()
        .map(|byte| if *byte == b'\\' { b'/' } else { *byte })
        .collect()
}

fn drop_parameters(path: &[u8]) -> Vec<u8> {
    let segments = path.split(|byte| *byte == b'/');
    let kept = segments.map(|segment| {
        segment
            .split(|byte| *byte == b';')
            .next()
            .unwrap_or_default()
    });
    kept.collect::<Vec<_>>().join(&b'/')
}

fn merge_slashes(path: &[u8]) -> Vec<u8> {
    let mut merged = path.to_vec();
    merged.dedup_by(|next, before| *next == b'/' && *before == b'/');
    merged
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nearly_every_path_is_plain() {
        for path in [
            "/",
            "/api/v2/items/similar",
            "/a.b/c-d_e~f",
            "/img/x..jpg",
            "/caf\u{e9}",
            "*",
            "/a=b,c:d@e+f",
        ] {
            assert!(is_plain(path.as_bytes()), "{path}");
        }
        for path in [
            "//",
            "/a//b",
            "/.well-known",
            "/..",
            "/a%20b",
            "/a;b",
            "/a\\b",
        ] {
            assert!(!is_plain(path.as_bytes()), "{path}");
        }
    }

    #[test]
    fn no_reading_leaves_its_directory() {
        for path in [
            "/..",
            "/.",
            "/api/../x",
            "/api/./x",
            "/api/..",
            "/api/%2e%2e/x",
            "/api/.%2E/x",
            "/api/..%2fx",
            "/api/%2e%2e%2fx",
            "/api/..%5cx",
            "/api/..\\x",
            "/api\\..\\x",
            "/api/..;/x",
            "/api/..;a=b/x",
            "/api/%2e%2e%3b/x",
            "/api/%252e%252e/x",
            "/api/..%252fx",
            "/api//../x",
            "/api/%00",
            "/api/x%0d%0a",
            "/api/%7f",
            "/api/%2500",
        ] {
            assert_eq!(readings(path.as_bytes()), None, "{path}");
        }
        for path in [
            "/.well-known/x",
            "/a%20b",
            "/a..b",
            "/...",
            "/a%2fb",
            "/a;v=1",
            "/100%",
            "/%zz",
            "/a%25b",
        ] {
            assert!(readings(path.as_bytes()).is_some(), "{path}");
        }
    }

    #[test]
    fn every_reading_is_found() {
        let found = readings(b"//api%2Fa;b%5C").unwrap();
        for reading in [
            "//api%2Fa;b%5C",
            "//api/a;b\\",
            "/api/a",
            "/api/a;b/",
            "/api%2Fa",
        ] {
            assert!(found.contains(&reading.as_bytes().to_vec()), "{reading}");
        }
    }

    proptest! {
        #[test]
        fn a_plain_path_has_one_reading(path in "(/[a-z.%;/\\\\0-9]{0,4}){1,6}") {
            if is_plain(path.as_bytes()) {
                prop_assert_eq!(readings(path.as_bytes()), Some(vec![path.clone().into_bytes()]));
            }
        }
    }
}
