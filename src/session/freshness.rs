//! PURE: whether a token may be used now, on our clock.

use std::time::Duration;

use super::policy::Policy;
use crate::clock::Timestamp;
use crate::oauth::{TokenSet, VendorToken};

/// What may be done with an access token now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Use it.
    Fresh,
    /// Use it, and refresh in the background.
    RefreshDue,
    /// Never send it; wait for the refresh.
    Expired,
}

/// The moments that decide, worked out once for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Before this the token cannot have been ours yet: our clock went back, and says nothing about the token's end.
    pub usable_from: Timestamp,
    /// From here on a refresh is due.
    pub refresh_from: Timestamp,
    /// From here on the token counts as expired.
    pub expired_from: Timestamp,
}

/// Claims are whole seconds, so no token is trusted in its last one.
const LEAST_MARGIN: Duration = Duration::from_secs(1);

impl Schedule {
    /// The schedule of `tokens`: margin and window, each capped as a fraction of the token's lifetime. The window's second
    /// half begins at a place of the token's own, so that tokens of one age are not all refreshed at once.
    pub fn new(tokens: &TokenSet, policy: &Policy) -> Self {
        let lifetime = tokens.lifetime();
        let margin = margin(lifetime, policy);
        let window = policy.refresh_ahead.min(lifetime / 5);
        let expired_from = tokens.expires_at - margin;
        let place = f64::from(tokens.access.fingerprint().as_bytes()[0]) / 255.0;
        Self {
            usable_from: tokens.obtained_at - margin,
            refresh_from: expired_from - window.mul_f64(1.0 - place / 2.0),
            expired_from,
        }
    }

    /// The schedule of a token that the visitor brought along: the same margin, and no refresh.
    pub fn of_vendor_token(token: &VendorToken, policy: &Policy) -> Self {
        let margin = margin(token.lifetime, policy);
        let expired_from = token.expires_at - margin;
        Self {
            usable_from: Timestamp::default(),
            refresh_from: expired_from,
            expired_from,
        }
    }

    /// What may be done at `now`.
    pub fn at(&self, now: Timestamp) -> Freshness {
        if now >= self.expired_from || now < self.usable_from {
            Freshness::Expired
        } else if now >= self.refresh_from {
            Freshness::RefreshDue
        } else {
            Freshness::Fresh
        }
    }
}

fn margin(lifetime: Duration, policy: &Policy) -> Duration {
    policy.expiry_margin.min(lifetime / 10).max(LEAST_MARGIN)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::oauth::{AccessToken, RefreshToken};
    use crate::secret::Secret;

    const NOW: Timestamp = Timestamp::from_secs(1_000_000);

    fn tokens(lifetime: Duration) -> TokenSet {
        TokenSet {
            access: AccessToken::new(Secret::new("a")),
            refresh: RefreshToken::new(Secret::new("r")),
            obtained_at: NOW,
            expires_at: NOW + lifetime,
            generation: 0,
        }
    }

    #[test]
    fn a_long_token_has_the_configured_margin_and_window() {
        let schedule = Schedule::new(&tokens(Duration::from_secs(3600)), &Policy::default());
        assert_eq!(schedule.expired_from, NOW + Duration::from_secs(3570));
        let window = NOW + Duration::from_secs(3510)..=NOW + Duration::from_secs(3540);
        assert!(window.contains(&schedule.refresh_from), "{schedule:?}");
    }

    #[test]
    fn tokens_that_end_together_are_refreshed_one_after_another() {
        let refreshes: std::collections::BTreeSet<_> = (0..1000)
            .map(|number| {
                let access = AccessToken::new(Secret::new(format!("token-{number}")));
                let tokens = TokenSet {
                    access,
                    ..tokens(Duration::from_secs(3600))
                };
                Schedule::new(&tokens, &Policy::default()).refresh_from
            })
            .collect();
        assert!(refreshes.len() > 200, "{}", refreshes.len());
    }

    #[test]
    fn a_token_from_the_future_is_not_trusted_by_a_clock_that_went_back() {
        let schedule = Schedule::new(&tokens(Duration::from_secs(3600)), &Policy::default());
        assert_eq!(
            schedule.at(NOW - Duration::from_secs(300)),
            Freshness::Expired
        );
        assert_eq!(schedule.at(NOW - Duration::from_secs(5)), Freshness::Fresh);
    }

    #[test]
    fn a_token_of_two_seconds_works_for_one() {
        let schedule = Schedule::new(&tokens(Duration::from_secs(2)), &Policy::default());
        assert_eq!(schedule.at(NOW), Freshness::Fresh);
        assert_eq!(
            schedule.at(NOW + Duration::from_millis(801)),
            Freshness::RefreshDue
        );
        assert_eq!(
            schedule.at(NOW + Duration::from_millis(1000)),
            Freshness::Expired
        );
    }

    proptest! {
        /// Invariant 5: whatever the lifetime and the settings, no token is used in its last second.
        #[test]
        fn invariant_5_no_token_is_used_in_its_last_second(
            lifetime in 0_u64..1_000_000_000, margin in 0_u64..10_000_000, window in 0_u64..10_000_000, at in 0_u64..2_000_000_000
        ) {
            let policy = Policy {
                expiry_margin: Duration::from_millis(margin),
                refresh_ahead: Duration::from_millis(window),
                ..Policy::default()
            };
            let schedule = Schedule::new(&tokens(Duration::from_millis(lifetime)), &policy);
            prop_assert!(schedule.refresh_from <= schedule.expired_from);
            if at + 1000 >= lifetime {
                prop_assert_eq!(schedule.at(NOW + Duration::from_millis(at)), Freshness::Expired);
            }
        }
    }
}
