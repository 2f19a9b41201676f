//! What compare-and-set and expiry mean, decided once for every store that decides in this process.
//!
//! Pure: takes values and a `now`, touches no storage.

use super::store::Version;
use crate::clock::Timestamp;

/// What a decision needs to know of a stored record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) version: Version,
    pub(super) expires_at: Timestamp,
}

/// Whether a record that may be forgotten after `expires_at` is as good as forgotten at `now`.
pub(super) fn has_expired(expires_at: Timestamp, now: Timestamp) -> bool {
    expires_at < now
}

/// Whether a writer who expects `expected` may write where `stored` lies; if not, the version that a reader would find.
///
/// Whoever names the version of an expired record that nobody has touched since may write it: what they hold may be a
/// refresh token that exists nowhere else.
pub(super) fn admit(
    expected: Option<Version>,
    stored: Option<Seen>,
    now: Timestamp,
) -> Result<(), Option<Version>> {
    if expected.is_some() && expected == stored.map(|seen| seen.version) {
        return Ok(());
    }
    let current = stored
        .filter(|seen| !has_expired(seen.expires_at, now))
        .map(|seen| seen.version);
    match (expected, current) {
        (None, None) => Ok(()),
        (_, current) => Err(current),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1000);

    fn seen(version: u64, expires_at: u64) -> Option<Seen> {
        Some(Seen {
            version: Version(version),
            expires_at: Timestamp::from_secs(expires_at),
        })
    }

    #[test]
    fn a_record_lives_through_the_moment_of_its_expiry() {
        assert!(!has_expired(NOW, NOW));
        assert!(has_expired(Timestamp::from_millis(999_999), NOW));
    }

    #[test]
    fn a_create_needs_an_absent_or_expired_record() {
        assert_eq!(admit(None, None, NOW), Ok(()));
        assert_eq!(admit(None, seen(7, 999), NOW), Ok(()));
        assert_eq!(admit(None, seen(7, 1001), NOW), Err(Some(Version(7))));
    }

    #[test]
    fn a_replacement_needs_the_very_version() {
        let expected = Some(Version(7));
        assert_eq!(admit(expected, seen(7, 1001), NOW), Ok(()));
        assert_eq!(admit(expected, seen(7, 999), NOW), Ok(()));
        assert_eq!(admit(expected, seen(8, 1001), NOW), Err(Some(Version(8))));
        assert_eq!(admit(expected, seen(8, 999), NOW), Err(None));
        assert_eq!(admit(expected, None, NOW), Err(None));
    }
}
