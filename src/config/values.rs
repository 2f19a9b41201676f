//! The kinds of value that TOML has no type for: durations, amounts of memory, and names out of a few.

use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

/// Between what is wrong with a value and how to mend it, in the one text that serde lets an error be.
pub(super) const HINT: &str = "; hint: ";

/// A duration, written `"30s"`, `"1h 30m"` or `"400d"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) Duration);

/// An amount of memory, written `"64 MiB"` or as a number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) u64);

/// A rate, written `"600/1m"`: so many at once, and so many again within each such time; or `"unlimited"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rate {
    /// As many as come.
    Unlimited,
    /// So many.
    Limited {
        /// How many.
        count: u32,
        /// In what time.
        per: Duration,
    },
}

/// A part of one, from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio(f64);

/// Where visitor sessions are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum StoreKind {
    /// Memory: forgotten on exit, for demonstrations and tests only.
    Memory,
    /// One file, for one replica.
    Redb,
    /// Redis 7 or Valkey, for several replicas.
    Redis,
}

/// What the Redis servers are to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum RedisMode {
    /// One server.
    Standalone,
    /// A master and its replicas, watched by sentinels.
    Sentinel,
    /// A Redis Cluster.
    Cluster,
}

/// Whether clients show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ClientAuth {
    /// They are not asked.
    None,
    /// They may show one, which must be good then.
    Optional,
    /// They must show a good one.
    Required,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub(crate) enum TlsVersion {
    /// TLS 1.2.
    #[serde(rename = "1.2")]
    Tls12,
    /// TLS 1.3.
    #[serde(rename = "1.3")]
    Tls13,
}

/// `SameSite` of the visitor cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SameSite {
    /// They carry it where the visitor follows a link.
    Lax,
    /// They never carry it.
    Strict,
    /// They always carry it: a shop inside frames of other sites.
    None,
}

/// On which request a new visitor may cost a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Create {
    /// The first one.
    FirstRequest,
    /// The first one that fetches a page.
    Navigation,
    /// The first one that brings the visitor cookie back: clients that keep no cookies cost nothing.
    Returning,
}

/// What happens to a visitor whose token set is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum OnLost {
    /// A new profile.
    Recreate,
    /// Anonymous from then on.
    Anonymous,
}

/// What a route adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Credentials {
    /// The visitor's access token, and to Dressipi the API key.
    Visitor,
    /// The API key alone, on routes to Dressipi.
    ApiKey,
    /// Nothing.
    None,
}

/// What happens when the token is wanting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum OnUnavailable {
    /// The request goes on without one, and Dressipi answers with what everybody gets.
    Anonymous,
    /// The answer is 503.
    Reject,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// Text, for people.
    Text,
    /// JSON, one object a line.
    Json,
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Span;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration with its unit, such as \"30s\" or \"10m\"")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
                let wrong = |why| {
                    E::custom(format_args!(
                        "{text:?} is not a duration: {why}{HINT}a number and its unit, such as \"500ms\", \"30s\", \"10m\" or \"400d\""
                    ))
                };
                humantime::parse_duration(text.trim())
                    .map(Span)
                    .map_err(wrong)
            }
        }
        deserializer.deserialize_any(Text)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Amount;
        impl Visitor<'_> for Amount {
            type Value = Bytes;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an amount such as \"64 MiB\", or a number of bytes")
            }
            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<Bytes, E> {
                Ok(Bytes(bytes))
            }
            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<Bytes, E> {
                let negative =
                    |_| E::custom(format_args!("must not be negative{HINT}such as \"64 MiB\""));
                u64::try_from(bytes).map(Bytes).map_err(negative)
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Bytes, E> {
                let wrong = || {
                    E::custom(format_args!(
                        "{text:?} is not an amount of memory{HINT}a whole number and its unit, such as \"64 MiB\""
                    ))
                };
                parse_bytes(text).map(Bytes).ok_or_else(wrong)
            }
        }
        deserializer.deserialize_any(Amount)
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Rate;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a rate such as \"600/1m\", or \"unlimited\"")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Rate, E> {
                let wrong = || {
                    E::custom(format_args!(
                        "{text:?} is not a rate{HINT}so many in such a time, as \"600/1m\"; or \"unlimited\""
                    ))
                };
                parse_rate(text).ok_or_else(wrong)
            }
        }
        deserializer.deserialize_any(Text)
    }
}

// === impl Ratio ===

impl Ratio {
    /// All.
    pub const ALL: Self = Self(1.0);

    /// The ratio, if it is one.
    pub fn new(value: f64) -> Option<Self> {
        (0.0..=1.0).contains(&value).then_some(Self(value))
    }

    /// The number.
    pub fn value(self) -> f64 {
        self.0
    }
}

/// It is never NaN.
impl Eq for Ratio {}

impl<'de> Deserialize<'de> for Ratio {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Part;
        fn checked<E: de::Error>(value: Option<f64>, typed: impl fmt::Display) -> Result<Ratio, E> {
            let wrong = || {
                E::custom(format_args!(
                    "{typed} cannot be: it must be a number from 0 to 1{HINT}such as 0.01 for one in a hundred"
                ))
            };
            value.and_then(Ratio::new).ok_or_else(wrong)
        }
        impl Visitor<'_> for Part {
            type Value = Ratio;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number from 0 to 1, such as 0.01")
            }
            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Ratio, E> {
                checked(Some(value), value)
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Ratio, E> {
                checked(Some(value as f64), value)
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Ratio, E> {
                checked(Some(value as f64), value)
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Ratio, E> {
                checked(text.trim().parse().ok(), format_args!("{text:?}"))
            }
        }
        deserializer.deserialize_any(Part)
    }
}

/// A number from 1 on, a slash, and a duration of at least a millisecond.
fn parse_rate(text: &str) -> Option<Rate> {
    if text.trim() == "unlimited" {
        return Some(Rate::Unlimited);
    }
    let (count, per) = text.split_once('/')?;
    let count = count.trim().parse().ok().filter(|count| *count > 0)?;
    let per = humantime::parse_duration(per.trim()).ok()?;
    (Duration::from_millis(1)..=Duration::from_secs(400 * 86_400))
        .contains(&per)
        .then_some(Rate::Limited { count, per })
}

/// A whole number and a unit; the units with `i` count in 1024s (IEC 80000-13), the others in 1000s.
fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let factor: u64 = match text[end..].trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        _ => return None,
    };
    text[..end].parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_a_number_in_a_time() {
        let per = Duration::from_secs(60);
        assert_eq!(
            parse_rate("600/1m"),
            Some(Rate::Limited { count: 600, per })
        );
        assert_eq!(
            parse_rate("600 / 1m"),
            Some(Rate::Limited { count: 600, per })
        );
        assert_eq!(parse_rate("unlimited"), Some(Rate::Unlimited));
        for bad in [
            "", "600", "0/1m", "-1/1m", "5/0s", "5/m", "1.5/1s", "5/1m/1m", "5/1000d",
        ] {
            assert_eq!(parse_rate(bad), None, "{bad}");
        }
    }

    #[test]
    fn amounts_have_units_of_1000_and_of_1024() {
        assert_eq!(parse_bytes("64 MiB"), Some(64 << 20));
        assert_eq!(parse_bytes("64MB"), Some(64_000_000));
        assert_eq!(parse_bytes("1024"), Some(1024));
        for bad in ["", "MiB", "1.5 GiB", "-1", "64 M", "99999999999 GiB"] {
            assert_eq!(parse_bytes(bad), None, "{bad}");
        }
    }
}
