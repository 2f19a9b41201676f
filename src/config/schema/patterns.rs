//! How texts of the configuration look, as far as an editor can tell. What `parse` takes fits, but for odd ways of writing
//! (`"1 0s"`, a path with `HTTP://` in capitals); much that fits is still refused there, with a reason.
//!
//! ECMA-262, as JSON Schema has it, without what other engines lack.

/// An IP address and a port, or `unix:` and a path.
pub(in crate::config) const LISTEN: &str = r"^\s*(unix:.+|\S+:[0-9]+)\s*$";
/// An IP address and a port.
pub(in crate::config) const SOCKET: &str = r"^\s*\S+:[0-9]+\s*$";
/// A host and a port, and no URL.
pub(in crate::config) const HOST: &str = r"^\s*[^\s/]+:[0-9]+\s*$";
/// A file's permissions, in octal.
pub(in crate::config) const MODE: &str = r"^0*[0-7]{1,3}$";
/// What names a visitor.
pub(in crate::config) const SOURCE: &str = r"^\s*(cookie|header:.+|app-cookie:.+)$";
/// Scheme, host and port.
pub(in crate::config) const HTTP: &str = r"^\s*https?://[^/?#@]+/?\s*$";
/// Scheme, host, port and path.
pub(in crate::config) const OTLP: &str = r"^\s*https?://[^?#@\s]+\s*$";
/// A server of Redis, with or without TLS.
pub(in crate::config) const REDIS: &str = r"^\s*rediss?://[^/?#@]+/?\s*$";
/// The path of a URL, without query.
pub(in crate::config) const PATH: &str = r"^/[^\s?#]*$";
/// The name of a cookie: a token of RFC 9110 §5.6.2.
pub(in crate::config) const COOKIE: &str = r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$";
/// The name of a header: a token, too.
pub(in crate::config) const HEADER: &str = r"^\s*[!#$%&'*+.^_`|~0-9A-Za-z-]+\s*$";
/// A cookie's `Domain`, without a dot before it.
pub(in crate::config) const DOMAIN: &str = r"^[0-9A-Za-z-][0-9A-Za-z.-]*$";
/// What a token stands in.
pub(in crate::config) const TOKEN: &str = r"\{token\}";
/// What can be sent in a header or a form.
pub(super) const SECRET: &str = r"^[!-~]+$";
/// A number and a unit, as bytes are counted.
pub(super) const BYTES: &str = r"^\s*[0-9]+\s*(([KkMmGg][Ii]?)?[Bb])?\s*$";

/// Numbers with units, as `humantime` reads them.
macro_rules! span {
    () => {
        r"([0-9]+(\.[0-9]+)?\s*(ns|nsec|nanos|us|µs|usec|ms|msec|millis|s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?|w|wks?|weeks?|M|months?|y|yrs?|years?)\s*)+"
    };
}

/// A duration.
pub(super) const SPAN: &str = concat!(r"^\s*(0\s*|", span!(), ")$");
/// A number in a duration.
pub(super) const RATE: &str = concat!(r"^\s*(unlimited\s*|0*[1-9][0-9]*\s*/\s*", span!(), ")$");

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::super::tests::Validator;
    use super::*;
    use crate::config::values::{Bytes, Rate, Span};

    /// A pattern, whether the reader takes a text, and texts.
    type Kind<'a> = (&'a str, fn(&str) -> bool, &'a [&'a str]);

    #[test]
    fn texts_of_values_fit_where_they_are_read() {
        fn reads<'a, T: Deserialize<'a>>(text: &'a str) -> bool {
            let text: serde::de::value::StrDeserializer<'_, serde::de::value::Error> =
                serde::de::IntoDeserializer::into_deserializer(text);
            T::deserialize(text).is_ok()
        }
        let kinds: [Kind<'_>; 3] = [
            (
                SPAN,
                |text| reads::<Span>(text),
                &[
                    "0",
                    "0s",
                    "30s",
                    "1h 30m",
                    "1h30min",
                    "400d",
                    "500ms",
                    " 2 hours ",
                    "1.5h",
                    "30",
                    "",
                    "soon",
                    "5 x",
                    "-1s",
                    "1.s",
                    "10S",
                    "1d,2h",
                    "9us",
                    "9µs",
                    "1M 1y",
                    "3wks",
                    "2 sek",
                ],
            ),
            (
                BYTES,
                |text| reads::<Bytes>(text),
                &[
                    "64 MiB", "64MB", "1024", "1 gib", " 7kb ", "3 B", "", "MiB", "1.5 GiB", "-1",
                    "64 TiB",
                ],
            ),
            (
                RATE,
                |text| reads::<Rate>(text),
                &[
                    "600/1m",
                    "600 / 1m",
                    "007/1h 30m",
                    "unlimited",
                    " unlimited ",
                    "",
                    "600",
                    "0/1m",
                    "-1/1m",
                    "5/m",
                    "1.5/1s",
                    "5/1m/1m",
                    "Unlimited",
                ],
            ),
        ];
        for (pattern, reads, texts) in kinds {
            let validator = Validator::new(json!({ "pattern": pattern }));
            for text in texts {
                let fits = validator.check(&json!(text)).is_ok();
                assert_eq!(fits, reads(text), "{text:?}");
            }
        }
        // Whatever is read of what people may write.
        let spans = Validator::new(json!({ "pattern": SPAN }));
        proptest::proptest!(|(text in "([0-9]{1,3}(\\.[0-9])? ?[a-zµM]{1,7} ?){1,3}|[0-9smhdw. ]{0,4}[a-z]{0,2}")| {
            let spaced = text.split(' ').any(|part| part.bytes().all(|byte| byte.is_ascii_digit()));
            if reads::<Span>(&text) && !spaced {
                assert!(spans.check(&json!(text)).is_ok(), "{text:?}");
            }
        });
    }
}
