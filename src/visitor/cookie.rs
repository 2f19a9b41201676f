//! The visitor cookie: minted, authenticated and read here, without a look at the store.
//!
//! ```text
//! base64url( version 1 ‖ key id 4 ‖ visitor id 16 ‖ issued at, seconds, 8 ‖ HMAC-SHA-256 over name and all that, 16 )
//! ```
//! Whatever does not verify is the same as no cookie at all.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use subtle::ConstantTimeEq;

use super::id::VisitorId;
use super::rules::{CookieSettings, SameSite};
use crate::clock::Timestamp;

/// Mints and reads visitor cookies.
#[derive(Debug)]
pub struct CookieJar {
    settings: CookieSettings,
    /// The recovery cookie's name.
    recovery: String,
    /// The first one authenticates what is minted, all are accepted.
    keys: Vec<([u8; 4], hmac::Key)>,
    attributes: String,
}

/// A visitor cookie that has just been minted.
#[derive(Debug)]
pub struct Minted {
    /// Whom it names.
    pub id: VisitorId,
    /// The `Set-Cookie` value.
    pub set_cookie: String,
}

/// What an authentic cookie says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Verified {
    pub(super) id: VisitorId,
    pub(super) issued: Issued,
}

/// When a cookie was issued, in seconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Issued(u64);

const VERSION: u8 = 1;
const BODY: usize = 1 + 4 + 16 + 8;
const TAG: usize = 16;
/// The length of the encoded cookie: 60 characters.
pub(super) const ENCODED: usize = (BODY + TAG).div_ceil(3) * 4;
/// What the recovery cookie is called, after the visitor cookie.
const RECOVERY_SUFFIX: &str = "-recovery";
/// A cookie from a clock that runs a little ahead of ours is no forgery.
const CLOCK_SKEW_SECS: u64 = 600;

/// Whether a cookie of this name is the sidecar's own, where the visitor cookie is called `visitor_cookie`: that one, and the
/// recovery cookie, which browsers may still have where it has been switched off.
pub fn is_ours(name: &[u8], visitor_cookie: &[u8]) -> bool {
    name.strip_prefix(visitor_cookie)
        .is_some_and(|rest| rest.is_empty() || rest == RECOVERY_SUFFIX.as_bytes())
}

impl CookieJar {
    /// A jar with `keys` in the order of the keyring; at least one.
    pub fn new(settings: CookieSettings, keys: Vec<([u8; 4], hmac::Key)>) -> Self {
        let mut attributes = String::new();
        if let Some(domain) = &settings.domain {
            let _ = write!(attributes, "; Domain={domain}");
        }
        let _ = write!(attributes, "; Path={}", settings.path);
        if settings.secure {
            attributes.push_str("; Secure");
        }
        attributes.push_str("; HttpOnly; SameSite=");
        attributes.push_str(match settings.same_site {
            SameSite::Lax => "Lax",
            SameSite::Strict => "Strict",
            SameSite::None => "None",
        });
        Self {
            recovery: format!("{}{RECOVERY_SUFFIX}", settings.name),
            settings,
            keys,
            attributes,
        }
    }

    /// The cookie's name.
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// The recovery cookie's name, where there is one.
    pub fn recovery_name(&self) -> Option<&str> {
        self.settings.recovery.then_some(&*self.recovery)
    }

    /// A cookie for a new visitor whose id is made of `random`.
    pub fn mint(&self, random: [u8; 16], now: Timestamp) -> Option<Minted> {
        let id = VisitorId::from_random(random);
        let (key_id, key) = self.keys.first()?;
        let mut bytes = [0; BODY + TAG];
        bytes[0] = VERSION;
        bytes[1..5].copy_from_slice(key_id);
        bytes[5..21].copy_from_slice(id.as_bytes());
        bytes[21..BODY].copy_from_slice(&now.as_secs().to_be_bytes());
        let tag = self.tag(key, &bytes[..BODY]);
        bytes[BODY..].copy_from_slice(&tag);
        let set_cookie = self.set(&self.settings.name, &URL_SAFE_NO_PAD.encode(bytes));
        Some(Minted { id, set_cookie })
    }

    /// The `Set-Cookie` value of a recovery cookie.
    pub fn set_recovery(&self, value: &str) -> String {
        self.set(&self.recovery, value)
    }

    fn set(&self, name: &str, value: &str) -> String {
        let max_age = self.settings.max_age.as_secs();
        format!("{name}={value}; Max-Age={max_age}{}", self.attributes)
    }

    /// Whom a cookie's value names; `None` if it is forged, foreign, expired, oversized or not ours at all.
    pub fn read(&self, value: &[u8], now: Timestamp) -> Option<VisitorId> {
        let verified = self.verify(value)?;
        self.is_current(verified.issued, now).then_some(verified.id)
    }

    /// What a cookie's value says, if a key of ours says so too; it may have expired.
    pub(super) fn verify(&self, value: &[u8]) -> Option<Verified> {
        if value.len() != ENCODED {
            return None;
        }
        let mut bytes = [0; BODY + TAG];
        let length = URL_SAFE_NO_PAD.decode_slice(value, &mut bytes).ok()?;
        if length != bytes.len() || bytes[0] != VERSION {
            return None;
        }
        let (_, key) = self
            .keys
            .iter()
            .find(|(key_id, _)| key_id == &bytes[1..5])?;
        let tag = self.tag(key, &bytes[..BODY]);
        if !bool::from(tag.ct_eq(&bytes[BODY..])) {
            return None;
        }
        let mut issued = [0; 8];
        issued.copy_from_slice(&bytes[21..BODY]);
        let mut id = [0; 16];
        id.copy_from_slice(&bytes[5..21]);
        Some(Verified {
            id: VisitorId::from_random(id),
            issued: Issued(u64::from_be_bytes(issued)),
        })
    }

    /// Whether a cookie that was issued then is to be believed at `now`.
    pub(super) fn is_current(&self, Issued(issued): Issued, now: Timestamp) -> bool {
        let now = now.as_secs();
        issued <= now + CLOCK_SKEW_SECS
            && now.saturating_sub(issued) <= self.settings.max_age.as_secs()
    }

    /// The `Set-Cookie` values that make a browser forget all of ours.
    pub fn expire(&self) -> impl Iterator<Item = String> {
        let names = std::iter::once(self.name()).chain(self.recovery_name());
        names.map(|name| format!("{name}=; Max-Age=0{}", self.attributes))
    }

    fn tag(&self, key: &hmac::Key, body: &[u8]) -> [u8; TAG] {
        let mut context = hmac::Context::with_key(key);
        context.update(self.settings.name.as_bytes());
        context.update(b"\0");
        context.update(body);
        let mut tag = [0; TAG];
        tag.copy_from_slice(&context.sign().as_ref()[..TAG]);
        tag
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

    fn key(number: u8) -> ([u8; 4], hmac::Key) {
        (
            [number; 4],
            hmac::Key::new(hmac::HMAC_SHA256, &[number; 32]),
        )
    }

    fn jar(keys: &[u8]) -> CookieJar {
        CookieJar::new(
            CookieSettings::default(),
            keys.iter().copied().map(key).collect(),
        )
    }

    fn value(minted: &Minted) -> &str {
        let (_, rest) = minted.set_cookie.split_once('=').unwrap();
        rest.split_once(';').unwrap().0
    }

    #[test]
    fn a_minted_cookie_names_its_visitor_and_has_all_attributes() {
        let jar = jar(&[1]);
        let minted = jar.mint([9; 16], NOW).unwrap();
        assert_eq!(jar.read(value(&minted).as_bytes(), NOW), Some(minted.id));
        assert_eq!(value(&minted).len(), ENCODED);
        assert!(minted.set_cookie.starts_with("__Host-dressipi-visitor="));
        assert!(
            minted
                .set_cookie
                .ends_with("; Max-Age=34560000; Path=/; Secure; HttpOnly; SameSite=Lax")
        );
    }

    #[test]
    fn a_rotated_key_still_reads_its_cookies() {
        let old = jar(&[1]).mint([9; 16], NOW).unwrap();
        assert_eq!(jar(&[2, 1]).read(value(&old).as_bytes(), NOW), Some(old.id));
    }

    #[test]
    fn invariant_8_foreign_expired_and_future_cookies_are_none() {
        let minted = jar(&[1]).mint([9; 16], NOW).unwrap();
        let value = value(&minted).as_bytes();
        assert_eq!(jar(&[2]).read(value, NOW), None, "another deployment's key");
        let renamed = CookieSettings {
            name: "other".into(),
            ..CookieSettings::default()
        };
        assert_eq!(
            CookieJar::new(renamed, vec![key(1)]).read(value, NOW),
            None,
            "another cookie's value"
        );
        let late = NOW + CookieSettings::default().max_age + Duration::from_secs(1);
        assert_eq!(jar(&[1]).read(value, late), None, "expired");
        assert_eq!(
            jar(&[1]).read(value, NOW - Duration::from_secs(3600)),
            None,
            "from the future"
        );
        assert_eq!(jar(&[1]).read(&value.repeat(2), NOW), None, "oversized");
    }

    proptest! {
        /// Invariant 8: no change to any character gives a cookie that verifies.
        #[test]
        fn invariant_8_a_changed_cookie_is_none(at in 0..ENCODED, to in "[A-Za-z0-9_=.+/-]") {
            let jar = jar(&[1]);
            let minted = jar.mint([9; 16], NOW).unwrap();
            let mut changed = value(&minted).to_owned();
            changed.replace_range(at..=at, &to);
            prop_assume!(changed != value(&minted));
            prop_assert_eq!(jar.read(changed.as_bytes(), NOW), None);
        }

        #[test]
        fn invariant_8_no_text_makes_the_reader_fail(text in "\\PC*") {
            prop_assert_eq!(jar(&[1]).read(text.as_bytes(), NOW), None);
        }
    }
}
