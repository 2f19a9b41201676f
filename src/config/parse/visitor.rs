//! `[cookie]`, `[consent]` and `[creation]`: who is a visitor, and who may cost a profile.

use std::time::Duration;

use super::names;
use super::report::{Report, element, key};
use crate::config::file;
use crate::config::model::Listener;
use crate::config::values;
use crate::session::StoreSettings;
use crate::visitor::{
    ConsentPlace, ConsentRules, CookieSettings, CreateOn, CreationLimits, CreationRules, Rate,
    RequiredConsent, SameSite, ValuePattern, VisitorSource, is_ours,
};

/// As good as no budget.
const MOST_DAILY: u64 = 1_000_000_000_000;
/// What browsers cap a cookie's life at (RFC 6265bis §5.5).
const LONGEST_LIFE: Duration = Duration::from_secs(400 * 24 * 3600);

/// The visitor cookie.
pub(super) fn cookie(report: &mut Report<'_>, raw: file::Cookie) -> CookieSettings {
    let at = |name| key("cookie", name);
    let default = CookieSettings::default();
    let max_age = report.positive(&at("max_age"), raw.max_age, default.max_age);
    let cookie = CookieSettings {
        name: raw.name.unwrap_or(default.name),
        secure: raw.secure.unwrap_or(default.secure),
        same_site: raw
            .same_site
            .map_or(default.same_site, |same_site| match same_site {
                values::SameSite::Lax => SameSite::Lax,
                values::SameSite::Strict => SameSite::Strict,
                values::SameSite::None => SameSite::None,
            }),
        max_age,
        max_life: raw
            .max_life
            .map(|life| report.positive(&at("max_life"), Some(life), LONGEST_LIFE)),
        renew_after: report.positive(&at("renew_after"), raw.renew_after, max_age / 10),
        domain: raw.domain,
        path: raw.path.unwrap_or(default.path),
        recovery: raw.recovery.unwrap_or(default.recovery),
    };
    names::cookie(report, &at("name"), &cookie.name);
    names::url_path(report, &at("path"), &cookie.path);
    if cookie.path.contains(';') {
        report.problem(
            &at("path"),
            "has a `;`, which ends the attribute",
            "write it percent-encoded, or another path",
        );
    }
    if cookie.max_age > LONGEST_LIFE {
        report.problem(
            &at("max_age"),
            "is longer than browsers keep a cookie",
            "400d at most",
        );
    } else if !cookie.max_age.is_zero() && cookie.max_age.subsec_nanos() > 0 {
        report.problem(
            &at("max_age"),
            "must be whole seconds, as the cookie's Max-Age is",
            "such as \"400d\"",
        );
    }
    lives(report, &cookie);
    let host = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
    if let Some(domain) = &cookie.domain
        && (domain.is_empty() || domain.starts_with('.') || !domain.chars().all(host))
    {
        let message = format!("{domain:?} is not a domain");
        report.problem(
            &at("domain"),
            message,
            "such as \"shop.example\", with no dot before it",
        );
    }
    prefixes(report, &cookie);
    if cookie.same_site == SameSite::None && !cookie.secure {
        report.problem(
            &at("same_site"),
            "\"none\" needs a secure cookie; browsers drop the others",
            "leave out secure = false, or use \"lax\"",
        );
    }
    cookie
}

/// Whether the cookie's lives fit together.
fn lives(report: &mut Report<'_>, cookie: &CookieSettings) {
    if cookie.renew_after >= cookie.max_age && !cookie.max_age.is_zero() {
        report.problem(
            "cookie.renew_after",
            "is no shorter than max_age: the cookie would be over before it is set anew",
            "leave it out for a tenth of max_age",
        );
    }
}

/// Whether recovery cookies would ever bring anybody back.
pub(super) fn recovery(
    report: &mut Report<'_>,
    cookie: &CookieSettings,
    store: Option<&StoreSettings>,
    listeners: &[Listener],
) {
    if !cookie.recovery {
        return;
    }
    let without_keys = match store {
        Some(StoreSettings::Memory { keys_file, .. } | StoreSettings::Redb { keys_file, .. }) => {
            keys_file.is_none() && !report.broken("session.keys_file")
        }
        Some(StoreSettings::Redis { .. }) | None => false,
    };
    if without_keys {
        report.problem(
            "cookie.recovery",
            "needs a keyring that outlives the store: with the key beside the store, whoever loses one loses the other",
            "name one in session.keys_file; `dressipi-sidecar keygen` makes it",
        );
    }
    let by_cookie = |listener: &Listener| listener.visitor.contains(&VisitorSource::Cookie);
    if !listeners.is_empty() && !listeners.iter().any(by_cookie) {
        report.problem(
            "cookie.recovery",
            "rides with the visitor cookie, by which no listener knows visitors",
            "leave it out, or give a listener visitor = [\"cookie\"]",
        );
    }
}

/// What browsers demand of names with a prefix (RFC 6265bis §4.1.3); they compare it without regard to case.
fn prefixes(report: &mut Report<'_>, cookie: &CookieSettings) {
    let name = cookie.name.to_ascii_lowercase();
    let (host, secure) = (name.starts_with("__host-"), name.starts_with("__secure-"));
    let other_name = "give the cookie another name, such as name = \"dressipi-visitor\"";
    if (host || secure) && !cookie.secure {
        let message = format!(
            "browsers drop a cookie called {:?} that is not secure",
            cookie.name
        );
        report.problem("cookie.secure", message, other_name);
    }
    if host && cookie.domain.is_some() {
        let message = format!(
            "browsers drop a cookie called {:?} with a domain",
            cookie.name
        );
        report.problem(
            "cookie.domain",
            message,
            "give it a name without __Host-, such as \"__Secure-dressipi-visitor\"",
        );
    }
    if host && cookie.path != "/" {
        let message = format!(
            "browsers drop a cookie called {:?} with a path but \"/\"",
            cookie.name
        );
        report.problem(
            "cookie.path",
            message,
            "give it a name without __Host-, such as \"__Secure-dressipi-visitor\"",
        );
    }
}

/// What counts as consent.
pub(super) fn consent(
    report: &mut Report<'_>,
    mut raw: file::Consent,
    cookie: &CookieSettings,
) -> ConsentRules {
    let at = |name| key("consent", name);
    let default = ConsentRules::default();
    let opt_out_cookies = raw
        .opt_out_cookies
        .take()
        .unwrap_or(default.opt_out_cookies);
    cookies(report, &at("opt_out_cookies"), &opt_out_cookies);
    if let Some(number) = opt_out_cookies.iter().position(|name| *name == cookie.name) {
        let path = element(&at("opt_out_cookies"), number);
        report.problem(
            &path,
            "is the visitor cookie: every visitor would have opted out",
            "leave it out of the list",
        );
    }
    let named = raw.required_cookie.is_some()
        || raw.required_header.is_some()
        || report.broken(&at("required_cookie"))
        || report.broken(&at("required_header"));
    let place = consent_place(report, &raw, cookie, &opt_out_cookies);
    let given = value_pattern(report, &at("required_value"), raw.required_value, named);
    let refused = value_pattern(report, &at("refused_value"), raw.refused_value, named);
    if refused.as_ref().is_some_and(ValuePattern::matches_all) {
        report.problem(
            &at("refused_value"),
            "is what every value matches: nobody could consent",
            "write what a refusal looks like, such as \"*C0003:0*\"",
        );
    }
    if refused.is_some() && refused == given {
        let message = "is the value that gives consent, too: nobody could consent";
        report.problem(&at("refused_value"), message, "write two different values");
    }
    ConsentRules {
        opt_out_cookies,
        required: place.map(|place| RequiredConsent {
            place,
            given,
            refused,
        }),
        honour_gpc: raw.honour_gpc.unwrap_or(default.honour_gpc),
    }
}

/// Where consent stands, if the shop asks for it.
fn consent_place(
    report: &mut Report<'_>,
    raw: &file::Consent,
    cookie: &CookieSettings,
    opt_out_cookies: &[String],
) -> Option<ConsentPlace> {
    let at = |name| key("consent", name);
    if raw.required_cookie.is_some() && raw.required_header.is_some() {
        let hint = "leave out one of the two";
        report.problem(
            &at("required_header"),
            "is a second place for consent beside required_cookie",
            hint,
        );
    }
    if let Some(name) = &raw.required_header {
        return names::header(report, &at("required_header"), name).map(ConsentPlace::Header);
    }
    let name = raw.required_cookie.as_ref()?;
    names::cookie(report, &at("required_cookie"), name);
    if *name == cookie.name {
        let message = "is the visitor cookie, which is no consent";
        report.problem(
            &at("required_cookie"),
            message,
            "name the cookie that the consent manager sets",
        );
    }
    if opt_out_cookies.contains(name) {
        let message = format!("{name:?} is an opt-out cookie too: nobody could consent");
        report.problem(
            &at("required_cookie"),
            message,
            "leave it out of one of the two",
        );
    }
    Some(ConsentPlace::Cookie(name.clone()))
}

/// A pattern for the value of consent, which stands in a place that is `named`.
fn value_pattern(
    report: &mut Report<'_>,
    path: &str,
    text: Option<String>,
    named: bool,
) -> Option<ValuePattern> {
    let text = text?;
    if !named {
        report.problem(
            path,
            "is the value of nothing",
            "name the cookie in required_cookie, or the header in required_header",
        );
    }
    if text.is_empty() {
        report.problem(path, "is empty", "leave it out if it does not matter");
    }
    Some(ValuePattern::new(&text))
}

/// Names of cookies.
pub(super) fn cookies(report: &mut Report<'_>, path: &str, names: &[String]) {
    for (number, name) in names.iter().enumerate() {
        let path = element(path, number);
        if !report.broken(&path) {
            names::cookie(report, &path, name);
        }
    }
}

/// When a visitor may cost a profile.
pub(super) fn creation(
    report: &mut Report<'_>,
    raw: file::Creation,
    cookie: &CookieSettings,
) -> CreationRules {
    let default = CreationRules::default();
    let extra_bots = raw.extra_bots.unwrap_or(default.extra_bots);
    for (number, part) in extra_bots.iter().enumerate() {
        let path = element("creation.extra_bots", number);
        if part.trim().is_empty() && !report.broken(&path) {
            report.problem(
                &path,
                "is empty, which is a part of every User-Agent",
                "leave it out, or write a part of a name, such as \"monitor\"",
            );
        }
    }
    let limits = limits(report, raw.per_client, raw.overall, raw.daily);
    if let Some(name) = &raw.adopt_cookie {
        names::cookie(report, "creation.adopt_cookie", name);
        if is_ours(name.as_bytes(), cookie.name.as_bytes()) {
            let hint = "the vendor's is \"dressipi_jwt\"";
            report.problem(
                "creation.adopt_cookie",
                "is the sidecar's own cookie, which holds no token of the vendor's",
                hint,
            );
        }
    }
    CreationRules {
        adopt_cookie: raw.adopt_cookie,
        limits,
        create: raw.create.map_or(default.create, |create| match create {
            values::Create::FirstRequest => CreateOn::FirstRequest,
            values::Create::Navigation => CreateOn::Navigation,
            values::Create::Returning => CreateOn::Returning,
        }),
        exclude_bots: raw.exclude_bots.unwrap_or(default.exclude_bots),
        extra_bots: extra_bots
            .iter()
            .map(|part| part.trim().to_lowercase())
            .collect(),
    }
}

/// How many profiles may be made.
fn limits(
    report: &mut Report<'_>,
    per_client: Option<values::Rate>,
    overall: Option<values::Rate>,
    daily: Option<u64>,
) -> CreationLimits {
    let default = CreationLimits::default();
    let rate = |raw: Option<values::Rate>, default| match raw {
        None => default,
        Some(values::Rate::Unlimited) => None,
        Some(values::Rate::Limited { count, per }) => Some(Rate { count, per }),
    };
    let default_daily = default.daily.unwrap_or(MOST_DAILY);
    CreationLimits {
        per_client: rate(per_client, default.per_client),
        overall: rate(overall, default.overall),
        daily: Some(report.count("creation.daily", daily, default_daily, MOST_DAILY)),
    }
}
