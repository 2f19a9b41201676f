//! What the operator decided about visitors: the cookie's attributes, consent, and when a visitor may cost a profile.

use std::time::Duration;

use http::HeaderName;

use super::limits::CreationLimits;
use super::pattern::ValuePattern;

/// The visitor cookie's name and attributes (RFC 6265bis §4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookieSettings {
    /// The name. With the `__Host-` prefix the browser insists on `Secure`, `Path=/` and no domain.
    pub name: String,
    /// Whether the browser may send it over TLS only.
    pub secure: bool,
    /// When the browser sends it on requests from other sites.
    pub same_site: SameSite,
    /// How long it lives after it was last set; an older one is the same as none.
    pub max_age: Duration,
    /// How long the visitor is known by it in all, from the first minting; `None`: for as long as they come back in time.
    pub max_life: Option<Duration>,
    /// How old it is when it is set anew.
    pub renew_after: Duration,
    /// The domain, where subdomains share the visitor.
    pub domain: Option<String>,
    /// The path.
    pub path: String,
    /// Whether the recovery cookie rides beside it, with the same attributes.
    pub recovery: bool,
}

/// The `SameSite` attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSite {
    /// Top-level navigations from other sites carry the cookie.
    Lax,
    /// Only requests from the same site carry it.
    Strict,
    /// Every request carries it (embedded shops); needs `Secure`.
    None,
}

/// What counts as consent. Without it, no profile is made and none is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsentRules {
    /// Cookies whose mere presence means that the visitor opted out.
    pub opt_out_cookies: Vec<String>,
    /// What must be there, if the shop asks for consent first.
    pub required: Option<RequiredConsent>,
    /// Whether `Sec-GPC: 1` (Global Privacy Control) counts as an opt-out.
    pub honour_gpc: bool,
}

/// What must be there before a visitor may cost a profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequiredConsent {
    /// Where it stands.
    pub place: ConsentPlace,
    /// The values that give consent; `None`: any but the empty one.
    pub given: Option<ValuePattern>,
    /// The values that refuse or withdraw it; `None`: none does. Every other value is no answer yet.
    pub refused: Option<ValuePattern>,
}

/// Where consent stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConsentPlace {
    /// In the cookie of this name.
    Cookie(String),
    /// In this header.
    Header(HeaderName),
}

// === impl ConsentRules ===

impl ConsentRules {
    /// The consent cookie's name, if that is where consent stands.
    pub(super) fn cookie(&self) -> Option<&str> {
        match &self.required.as_ref()?.place {
            ConsentPlace::Cookie(name) => Some(name),
            ConsentPlace::Header(_) => None,
        }
    }
}

/// When a visitor whom the store does not know may cost a profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreationRules {
    /// On which request.
    pub create: CreateOn,
    /// Whether known crawlers and tools are left anonymous.
    pub exclude_bots: bool,
    /// Further parts of a `User-Agent` that mark a bot, in lower case.
    pub extra_bots: Vec<String>,
    /// The cookie in which a visitor may carry a token of the vendor's, which then serves in place of a new profile.
    pub adopt_cookie: Option<String>,
    /// How many profiles may be made.
    pub limits: CreationLimits,
}

/// Which request of a client without a visitor cookie creates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum CreateOn {
    /// The first one.
    #[default]
    FirstRequest,
    /// The first that fetches a document (`Sec-Fetch-Mode: navigate`, or `Accept: text/html` where that is not sent).
    Navigation,
    /// The first that brings the visitor cookie back: clients that keep no cookies cost nothing.
    Returning,
}

impl Default for CookieSettings {
    fn default() -> Self {
        Self {
            name: "__Host-dressipi-visitor".into(),
            secure: true,
            same_site: SameSite::Lax,
            max_age: Duration::from_secs(400 * 24 * 3600),
            max_life: None,
            renew_after: Duration::from_secs(40 * 24 * 3600),
            domain: None,
            path: "/".into(),
            recovery: false,
        }
    }
}

impl Default for ConsentRules {
    fn default() -> Self {
        Self {
            opt_out_cookies: vec!["dressipi_dnt".into()],
            required: None,
            honour_gpc: true,
        }
    }
}

impl Default for CreationRules {
    fn default() -> Self {
        Self {
            create: CreateOn::FirstRequest,
            exclude_bots: true,
            extra_bots: Vec::new(),
            adopt_cookie: None,
            limits: CreationLimits::default(),
        }
    }
}
