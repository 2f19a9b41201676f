//! The visitor cookie: minted, authenticated and read here, without a look at the store.
//!
//! ```text
//! base64url( version 1 ‖ key id 4 ‖ visitor id 16 ‖ minted at 4 ‖ set at 4 ‖ HMAC-SHA-256 over name and all that, 16 )
//! ```
//! Times are whole seconds. Version 2; version 1 has the one time of its minting, in 8 bytes. Whatever does not verify is the same as no
//! cookie at all.

use std::fmt::Write;
use std::time::Duration;

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

/// The two ages of a cookie, in seconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Issued {
    /// When the visitor got their first one.
    minted: u32,
    /// When this one was set.
    set: u32,
}

/// What may be done with an authentic cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Age {
    /// Believe it.
    Good,
    /// Believe it, and set it anew.
    RenewalDue,
    /// It has outlived its idle or its absolute life.
    Over,
}

const VERSION: u8 = 2;
/// The version that was never set anew.
const VERSION_UNRENEWED: u8 = 1;
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
        let now = seconds(now)?;
        let issued = Issued {
            minted: now,
            set: now,
        };
        let set_cookie = self.sign(id, issued)?;
        Some(Minted { id, set_cookie })
    }

    /// The `Set-Cookie` value of a cookie that takes the place of one which was `issued` before: the same visitor, the same absolute
    /// life, a new idle life.
    pub fn renew(&self, id: VisitorId, issued: Issued, now: Timestamp) -> Option<String> {
        let set = seconds(now)?.max(issued.set);
        self.sign(id, Issued { set, ..issued })
    }

    /// Signs with the first key of the ring.
    fn sign(&self, id: VisitorId, issued: Issued) -> Option<String> {
        let (key_id, key) = self.keys.first()?;
        let mut bytes = [0; BODY + TAG];
        bytes[0] = VERSION;
        bytes[1..5].copy_from_slice(key_id);
        bytes[5..21].copy_from_slice(id.as_bytes());
        bytes[21..25].copy_from_slice(&issued.minted.to_be_bytes());
        bytes[25..BODY].copy_from_slice(&issued.set.to_be_bytes());
        let tag = self.tag(key, &bytes[..BODY]);
        bytes[BODY..].copy_from_slice(&tag);
        let settings = &self.settings;
        let left = settings.max_life.map(|life| {
            let spent = issued.set.saturating_sub(issued.minted);
            life.as_secs().saturating_sub(u64::from(spent))
        });
        let max_age = left.map_or(settings.max_age.as_secs(), |left| {
            left.min(settings.max_age.as_secs())
        });
        Some(self.set(&settings.name, &URL_SAFE_NO_PAD.encode(bytes), max_age))
    }

    /// The `Set-Cookie` value of a recovery cookie.
    pub fn set_recovery(&self, value: &str) -> String {
        self.set(&self.recovery, value, self.settings.max_age.as_secs())
    }

    fn set(&self, name: &str, value: &str, max_age: u64) -> String {
        format!("{name}={value}; Max-Age={max_age}{}", self.attributes)
    }

    /// Whom a cookie's value names; `None` if it is forged, foreign, expired, oversized or not ours at all.
    pub fn read(&self, value: &[u8], now: Timestamp) -> Option<VisitorId> {
        let verified = self.verify(value)?;
        (self.age(verified.issued, now) != Age::Over).then_some(verified.id)
    }

    /// The same, however old the cookie is: for operators, who look for somebody's records.
    pub fn read_of_any_age(&self, value: &[u8]) -> Option<VisitorId> {
        Some(self.verify(value)?.id)
    }

    /// What a cookie's value says, if a key of ours says so too; it may have expired.
    pub(super) fn verify(&self, value: &[u8]) -> Option<Verified> {
        if value.len() != ENCODED {
            return None;
        }
        let mut bytes = [0; BODY + TAG];
        let length = URL_SAFE_NO_PAD.decode_slice(value, &mut bytes).ok()?;
        if length != bytes.len() || !matches!(bytes[0], VERSION | VERSION_UNRENEWED) {
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
        let [a, b, c, d, e, f, g, h] = *bytes[21..BODY].first_chunk()?;
        let (first, second) = (
            u32::from_be_bytes([a, b, c, d]),
            u32::from_be_bytes([e, f, g, h]),
        );
        let minted = match bytes[0] {
            VERSION => first,
            _ if first == 0 => second,
            _ => return None,
        };
        let mut id = [0; 16];
        id.copy_from_slice(&bytes[5..21]);
        Some(Verified {
            id: VisitorId::from_random(id),
            issued: Issued {
                minted,
                set: second,
            },
        })
    }

    /// What may be done at `now` with a cookie that was issued then.
    pub(super) fn age(&self, issued: Issued, now: Timestamp) -> Age {
        let now = now.as_secs();
        let (minted, set) = (u64::from(issued.minted), u64::from(issued.set));
        let idle = now.saturating_sub(set);
        let is_over = |life: Duration| now.saturating_sub(minted) > life.as_secs();
        if set > now + CLOCK_SKEW_SECS
            || idle > self.settings.max_age.as_secs()
            || self.settings.max_life.is_some_and(is_over)
        {
            Age::Over
        } else if idle >= self.settings.renew_after.as_secs() {
            Age::RenewalDue
        } else {
            Age::Good
        }
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

/// Seconds since the Unix epoch as a cookie has them: until 2106.
fn seconds(now: Timestamp) -> Option<u32> {
    now.as_secs().try_into().ok()
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn a_browser_is_told_to_forget_each_cookie_where_it_was_set() {
        let settings = CookieSettings {
            name: "__Secure-v".into(),
            domain: Some("shop.example".into()),
            path: "/shop".into(),
            recovery: true,
            ..CookieSettings::default()
        };
        let jar = CookieJar::new(settings, vec![key(1)]);
        let place = "Domain=shop.example; Path=/shop; Secure; HttpOnly; SameSite=Lax";
        let minted = jar.mint([9; 16], NOW).unwrap().set_cookie;
        assert!(minted.ends_with(place), "{minted}");
        let names = ["__Secure-v", "__Secure-v-recovery"];
        let expected = names.map(|name| format!("{name}=; Max-Age=0; {place}"));
        assert_eq!(jar.expire().collect::<Vec<_>>(), expected);
    }

    fn lasting(max_age: u64, max_life: Option<u64>, renew_after: u64) -> CookieJar {
        let settings = CookieSettings {
            max_age: Duration::from_secs(max_age),
            max_life: max_life.map(Duration::from_secs),
            renew_after: Duration::from_secs(renew_after),
            ..CookieSettings::default()
        };
        CookieJar::new(settings, vec![key(1)])
    }

    fn text(set_cookie: &str) -> &str {
        let (_, rest) = set_cookie.split_once('=').unwrap();
        rest.split_once(';').unwrap().0
    }

    #[test]
    fn a_cookie_of_the_first_version_is_read_and_its_renewal_is_of_this_one() {
        let jar = lasting(100, None, 50);
        let mut bytes = [0; BODY + TAG];
        bytes[0] = VERSION_UNRENEWED;
        bytes[1..5].copy_from_slice(&[1; 4]);
        bytes[5..21].copy_from_slice(&[9; 16]);
        bytes[21..BODY].copy_from_slice(&NOW.as_secs().to_be_bytes());
        let tag = jar.tag(&key(1).1, &bytes[..BODY]);
        bytes[BODY..].copy_from_slice(&tag);
        let old = URL_SAFE_NO_PAD.encode(bytes);
        let verified = jar.verify(old.as_bytes()).unwrap();
        assert_eq!(jar.age(verified.issued, NOW), Age::Good);
        let later = NOW + Duration::from_secs(50);
        assert_eq!(jar.age(verified.issued, later), Age::RenewalDue);
        let renewed = jar.renew(verified.id, verified.issued, later).unwrap();
        let renewed = jar.verify(text(&renewed).as_bytes()).unwrap();
        assert_eq!(renewed.id, verified.id);
        assert_eq!(renewed.issued.minted, verified.issued.minted);
        assert_eq!(jar.age(renewed.issued, later), Age::Good);
    }

    #[test]
    fn a_renewal_is_signed_with_the_first_key() {
        let old = jar(&[1]).mint([9; 16], NOW).unwrap();
        let both = jar(&[2, 1]);
        let verified = both.verify(value(&old).as_bytes()).unwrap();
        let renewed = both.renew(verified.id, verified.issued, NOW).unwrap();
        assert_eq!(jar(&[2]).read(text(&renewed).as_bytes(), NOW), Some(old.id));
    }

    proptest! {
        /// Whoever comes within each idle life keeps their id until the absolute life is over, and no longer; whoever stays away
        /// longer than an idle life is nobody.
        #[test]
        fn a_visitor_is_known_for_as_long_as_both_lives_last(
            waits in proptest::collection::vec(0_u64..130, 1..30), life in proptest::option::of(1_u64..1000)
        ) {
            let jar = lasting(100, life, 30);
            let minted = jar.mint([9; 16], NOW).unwrap();
            let mut cookie = value(&minted).to_owned();
            let (mut now, mut set) = (NOW, NOW);
            for wait in waits {
                now = now + Duration::from_secs(wait);
                let idle = now.since(set).as_secs();
                let lives = idle <= 100 && life.is_none_or(|life| now.since(NOW).as_secs() <= life);
                prop_assert_eq!(jar.read(cookie.as_bytes(), now), lives.then_some(minted.id));
                if !lives {
                    break;
                }
                let verified = jar.verify(cookie.as_bytes()).unwrap();
                let due = jar.age(verified.issued, now) == Age::RenewalDue;
                prop_assert_eq!(due, idle >= 30);
                if due {
                    let renewed = jar.renew(verified.id, verified.issued, now).unwrap();
                    let left = life.map_or(100, |life| (life - now.since(NOW).as_secs()).min(100));
                    let expected = format!("; Max-Age={left};");
                    prop_assert!(renewed.contains(&expected), "{} in {}", expected, renewed);
                    (cookie, set) = (text(&renewed).to_owned(), now);
                }
            }
        }

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
