//! How values look: as they are typed, in the largest unit that fits.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::HeaderName;
use serde_json::Value;

use crate::secret::Secret;

/// The value of a key, as it may be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// As it is.
    Value(Value),
    /// There is none.
    Nothing,
    /// A secret in the configuration.
    Secret,
    /// A secret in a file.
    SecretOf(PathBuf),
}

/// Units of time and their milliseconds, the largest first.
const TIMES: [(&str, u128); 4] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
];
/// Units of memory and their bytes, the largest first.
const SIZES: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// A duration in its largest unit.
pub(in crate::config) fn time(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis == 0 && duration.is_zero() {
        return "0s".to_owned();
    }
    if Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX)) != duration {
        return humantime::format_duration(duration).to_string();
    }
    match TIMES
        .into_iter()
        .find(|(_, unit)| millis.is_multiple_of(*unit))
    {
        Some((name, unit)) => format!("{}{name}", millis / unit),
        None => format!("{millis}ms"),
    }
}

/// An amount of memory in its largest unit.
pub(super) fn size(bytes: usize) -> Shown {
    let bytes = bytes as u64;
    let fits = |(_, unit): &(&str, u64)| bytes > 0 && bytes.is_multiple_of(*unit);
    match SIZES.into_iter().find(fits) {
        Some((name, unit)) => format!("{} {name}", bytes / unit).into(),
        None => bytes.into(),
    }
}

/// Texts of whatever can be written.
pub(super) fn list<T: fmt::Display>(values: impl IntoIterator<Item = T>) -> Shown {
    let texts = values.into_iter().map(|value| value.to_string().into());
    Shown::Value(Value::Array(texts.collect()))
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(Value::Array(values)) => {
                let texts: Vec<_> = values.iter().map(Value::to_string).collect();
                write!(f, "[{}]", texts.join(", "))
            }
            Self::Value(value) => value.fmt(f),
            Self::Nothing => f.write_str("(none)"),
            Self::Secret => f.write_str("(secret)"),
            Self::SecretOf(file) => write!(f, "(secret, from {})", file.display()),
        }
    }
}

impl From<&str> for Shown {
    fn from(text: &str) -> Self {
        Self::Value(text.into())
    }
}

impl From<String> for Shown {
    fn from(text: String) -> Self {
        Self::Value(text.into())
    }
}

impl From<&String> for Shown {
    fn from(text: &String) -> Self {
        text.as_str().into()
    }
}

impl From<&Path> for Shown {
    fn from(path: &Path) -> Self {
        path.display().to_string().into()
    }
}

impl From<&PathBuf> for Shown {
    fn from(path: &PathBuf) -> Self {
        path.as_path().into()
    }
}

impl From<&HeaderName> for Shown {
    fn from(name: &HeaderName) -> Self {
        name.as_str().into()
    }
}

impl From<bool> for Shown {
    fn from(value: bool) -> Self {
        Self::Value(value.into())
    }
}

impl From<u64> for Shown {
    fn from(number: u64) -> Self {
        Self::Value(number.into())
    }
}

impl From<u32> for Shown {
    fn from(number: u32) -> Self {
        Self::Value(number.into())
    }
}

impl From<usize> for Shown {
    fn from(number: usize) -> Self {
        Self::Value(number.into())
    }
}

impl From<f64> for Shown {
    fn from(number: f64) -> Self {
        Self::Value(number.into())
    }
}

impl From<Duration> for Shown {
    fn from(duration: Duration) -> Self {
        time(duration).into()
    }
}

impl From<&Secret> for Shown {
    fn from(_: &Secret) -> Self {
        Self::Secret
    }
}

impl<T: Into<Shown>> From<Option<T>> for Shown {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Nothing, Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_in_their_largest_unit() {
        let of_millis = |millis| time(Duration::from_millis(millis));
        assert_eq!(of_millis(0), "0s");
        assert_eq!(of_millis(1500), "1500ms");
        assert_eq!(of_millis(90_000), "90s");
        assert_eq!(of_millis(540_000), "9m");
        assert_eq!(of_millis(400 * 86_400_000), "400d");
        assert_eq!(time(Duration::from_micros(1500)), "1ms 500us");
        assert_eq!(size(64 << 20).to_string(), "\"64 MiB\"");
        assert_eq!(size(5000).to_string(), "5000");
        assert_eq!(size(0).to_string(), "0");
    }
}
