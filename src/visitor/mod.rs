//! Who a visitor is, whether they consent, and when they may cost a profile.
//!
//! PURE: takes header values and a `now`; knows neither the store nor OAuth.

mod bots;
mod consent;
mod cookie;
mod cookies;
mod creation;
mod id;
mod known;
mod limits;
mod name;
mod pattern;
mod rules;
mod source;

pub use consent::{Consent, Seen, consent};
pub use cookie::{CookieJar, Issued, Minted, is_ours};
pub use cookies::{Change, Cookies, Lookup, Place};
pub use creation::{Arrival, Withheld, is_no_person, may_create};
pub use id::{IdentityKey, Namespace, VisitorId, VisitorKey};
pub use known::{KnownCookies, KnownVisitor};
pub use limits::{Client, CreationLimits, Limit, Rate, Spent};
pub use name::VisitorName;
pub use pattern::ValuePattern;
pub use rules::{
    ConsentPlace, ConsentRules, CookieSettings, CreateOn, CreationRules, RequiredConsent, SameSite,
};
pub use source::{VisitorSource, app_cookie_id, header_id, is_app_cookie_id, is_header_id};
