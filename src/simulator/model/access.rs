//! PURE. What a presented access token is worth.

use serde::{Deserialize, Serialize};

use super::{Model, at};

/// Individually rejected access tokens that are remembered; beyond it the oldest are forgotten.
const REJECTED_KEPT: usize = 100_000;

/// How `expire-tokens` makes the resource endpoints answer a token that it expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExpiredAs {
    /// 401.
    Unauthorized,
    /// 200, but not personalised.
    Unpersonalised,
}

/// What the access token of a resource call is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::simulator) enum Verdict {
    /// No token came.
    Absent,
    /// A good one, of this profile.
    Valid(String),
    /// It expired by the clock.
    Expired,
    /// It was revoked: 401.
    Unauthorized,
    /// It was expired by request, to be ignored silently.
    Ignored,
    /// Not one of ours.
    Foreign,
}

// === impl Model ===

impl Model {
    /// What a presented access token is worth now.
    pub(in crate::simulator) fn judge(&self, presented: Option<&str>, now_ms: u64) -> Verdict {
        let Some(presented) = presented else {
            return Verdict::Absent;
        };
        let Some(token) = self.key.recognise(presented) else {
            return Verdict::Foreign;
        };
        let Some(profile) = usize::try_from(token.profile)
            .ok()
            .and_then(|index| self.profiles.get(index))
        else {
            return Verdict::Foreign;
        };
        let (expired_below, expired_as) = self.expired;
        if now_ms >= token.valid_until_ms {
            Verdict::Expired
        } else if profile.revoked || self.rejected.contains(&token.serial) {
            Verdict::Unauthorized
        } else if token.serial >= expired_below {
            Verdict::Valid(profile.id.clone())
        } else if expired_as == ExpiredAs::Unauthorized {
            Verdict::Unauthorized
        } else {
            Verdict::Ignored
        }
    }

    /// Counts a personalised answer for the profile of this token.
    pub(in crate::simulator) fn visit(&mut self, token: &str) {
        if let Some(profile) = self
            .key
            .recognise(token)
            .and_then(|token| at(&mut self.profiles, token.profile))
        {
            profile.visits += 1;
        }
    }

    /// The profile that a token value was issued for, whatever it is worth now.
    pub(in crate::simulator) fn profile_of(&self, token: &str) -> Option<String> {
        self.profile_at(self.key.recognise(token)?.profile)
    }

    /// The profile that a code was issued for, whatever it is worth now.
    pub(in crate::simulator) fn profile_of_code(&self, code: &str) -> Option<String> {
        let [index] = self.key.open("code", code)?;
        self.profile_at(index)
    }

    /// The profile that a refresh token was issued for, whatever it is worth now.
    pub(in crate::simulator) fn profile_of_refresh_token(&self, token: &str) -> Option<String> {
        let [index, _, _] = self.key.open("refresh", token)?;
        self.profile_at(index)
    }

    fn profile_at(&self, index: u64) -> Option<String> {
        self.profiles
            .get(usize::try_from(index).ok()?)
            .map(|profile| profile.id.clone())
    }

    /// Answers this one access token 401 from now on.
    pub(in crate::simulator) fn reject(&mut self, token: &str) {
        if let Some(known) = self.key.recognise(token) {
            self.rejected.insert(known.serial);
            if self.rejected.len() > REJECTED_KEPT {
                self.rejected.pop_first();
            }
        }
    }

    /// Makes all access tokens issued so far count as expired.
    pub(in crate::simulator) fn expire_tokens(&mut self, as_what: ExpiredAs) {
        self.expired = (self.next_serial, as_what);
    }
}
