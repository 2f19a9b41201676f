//! The recovery cookie: what rides with the visitor brings the visitor back where the store has lost everything, and is of no
//! use to anybody else or at any other time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dressipi_sidecar::session::generate_key_line;
use dressipi_sidecar::simulator::ExpiredAs;
use reqwest::Method;

use crate::support::redis::RedisServer;
use crate::support::{ADMIN_KEYS, App, Dressipi, Sidecar, SidecarBuilder, json, profile, seen};

const TOP: &str = "/api/items/top?client_id=demo";
const RECOVERY: &str = "visitor-recovery";

/// A sidecar on a file of its own, with the keyring elsewhere.
struct Place {
    folder: tempfile::TempDir,
}

/// A browser's cookies.
#[derive(Clone, Default)]
struct Browser(BTreeMap<String, String>);

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("keys"), generate_key_line()).unwrap();
        Self { folder }
    }

    fn keys_file(&self) -> PathBuf {
        self.folder.path().join("keys")
    }

    fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    fn sidecar(&self, dressipi: &Dressipi) -> SidecarBuilder {
        let (path, keys_file) = (self.store().join("sessions.redb"), self.keys_file());
        Sidecar::behind(dressipi)
            .session(&format!("path = {path:?}\nkeys_file = {keys_file:?}"))
            .cookie("recovery = true")
    }

    /// All is lost but the keyring.
    fn lose_store(&self) {
        std::fs::remove_dir_all(self.store()).unwrap();
    }
}

impl Browser {
    fn header(&self) -> String {
        let pairs = self.0.iter().map(|(name, value)| format!("{name}={value}"));
        pairs.collect::<Vec<_>>().join("; ")
    }

    /// Sends the cookies along, and keeps those that come back.
    async fn get(&mut self, sidecar: &Sidecar, path: &str) -> reqwest::Response {
        self.get_with(sidecar, path, "x-nothing").await
    }

    async fn get_with(&mut self, sidecar: &Sidecar, path: &str, header: &str) -> reqwest::Response {
        let request = sidecar.browser(path).header("cookie", self.header());
        let answer = request.header(header, "1").send().await.unwrap();
        for cookie in answer.headers().get_all("set-cookie") {
            let cookie = cookie.to_str().unwrap();
            let (name, rest) = cookie.split_once('=').unwrap();
            let (value, attributes) = rest.split_once(';').unwrap_or((rest, ""));
            match attributes.contains("Max-Age=0;") {
                true => self.0.remove(name),
                false => self.0.insert(name.into(), value.into()),
            };
        }
        answer
    }

    async fn profile(&mut self, sidecar: &Sidecar) -> Option<String> {
        profile(self.get(sidecar, TOP).await).await
    }

    fn recovery(&self) -> &str {
        &self.0[RECOVERY]
    }
}

async fn recovered(sidecar: &Sidecar) -> f64 {
    let labels = "event=\"session_recovered\"";
    sidecar.metric("visitor_events_total", labels).await
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_2_a_wiped_store_costs_no_profile() {
    let dressipi = Dressipi::start().await;
    let place = Place::new();
    let mut browsers = vec![Browser::default(); 20];
    let mut before = Vec::new();
    let sidecar = place.sidecar(&dressipi).start().await;
    for browser in &mut browsers {
        before.push(browser.profile(&sidecar).await.unwrap());
    }
    sidecar.stop().await;
    place.lose_store();
    let sidecar = place.sidecar(&dressipi).start().await;
    for (browser, before) in browsers.iter_mut().zip(&before) {
        assert_eq!(browser.profile(&sidecar).await.as_ref(), Some(before));
    }
    assert_eq!(dressipi.profiles(), 20);
    assert_eq!(recovered(&sidecar).await, 20.0);
    // And they can be refreshed from then on.
    dressipi.simulator.expire_tokens(ExpiredAs::Unauthorized);
    for (browser, before) in browsers.iter_mut().zip(&before) {
        assert_eq!(browser.profile(&sidecar).await.as_ref(), Some(before));
    }
    let totals = dressipi.simulator.totals();
    assert_eq!((totals.profiles, totals.refresh_reuse), (20, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_1_a_visitor_whom_the_store_has_lost_comes_with_fifty_requests_at_once() {
    let dressipi = Dressipi::start().await;
    let place = Place::new();
    let mut browser = Browser::default();
    let sidecar = place.sidecar(&dressipi).start().await;
    let before = browser.profile(&sidecar).await;
    sidecar.stop().await;
    place.lose_store();
    let sidecar = place.sidecar(&dressipi).start().await;
    let requests = (0..50).map(|_| {
        let mut browser = browser.clone();
        let sidecar = &sidecar;
        async move { browser.profile(sidecar).await }
    });
    let profiles = futures::future::join_all(requests).await;
    assert!(profiles.iter().all(|profile| *profile == before));
    assert_eq!((dressipi.profiles(), recovered(&sidecar).await), (1, 1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_set_when_the_token_set_changes_and_at_no_other_time() {
    let dressipi = Dressipi::start().await;
    let app = App::start().await;
    let place = Place::new();
    let sidecar = place.sidecar(&dressipi).app(&app).start().await;
    let mut browser = Browser::default();
    let first = browser.get(&sidecar, "/cached").await;
    assert_eq!(first.headers().get_all("set-cookie").iter().count(), 2);
    // Invariant 16.
    let cache_control: Vec<_> = first.headers().get_all("cache-control").iter().collect();
    assert_eq!(cache_control, ["private, no-store"]);
    let value = browser.recovery().to_owned();
    let again = browser.get(&sidecar, "/cached").await;
    assert!(!again.headers().contains_key("set-cookie"));
    assert_eq!(again.headers()["cache-control"], "public, max-age=31536000");
    // A token that is rejected is replaced within the request, and so is the cookie.
    dressipi.simulator.expire_tokens(ExpiredAs::Unauthorized);
    let answer = browser.get(&sidecar, TOP).await;
    assert_eq!(answer.headers().get_all("set-cookie").iter().count(), 1);
    assert_ne!(browser.recovery(), value);
    let value = browser.recovery().to_owned();
    browser.get(&sidecar, TOP).await;
    assert_eq!(browser.recovery(), value);
    // Whoever carries an old one gets the present one.
    browser.0.insert(RECOVERY.into(), "stale".into());
    browser.get(&sidecar, TOP).await;
    assert!(browser.recovery().len() > 100);
    for secret in ["eyJ", "refresh"] {
        assert!(!browser.recovery().contains(secret), "it is sealed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_7_it_reaches_no_upstream() {
    let dressipi = Dressipi::start().await;
    let app = App::start().await;
    let place = Place::new();
    let routes = "[[routes]]\npath = \"/api/\"\nupstream = \"dressipi\"\ncookies = [\"own\", \"visitor-recovery\"]\n";
    let sidecar = place.sidecar(&dressipi).app(&app).routes(routes);
    let sidecar = sidecar.start().await;
    let mut browser = Browser::default();
    browser.get(&sidecar, TOP).await;
    browser.0.insert("own".into(), "1".into());
    for path in ["/api/echo", "/anything"] {
        let echo = json(browser.get(&sidecar, path).await).await;
        assert_eq!(seen(&echo, "cookie"), ["own=1"], "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_3_it_is_not_used_where_the_store_has_a_record() {
    let dressipi = Dressipi::start().await;
    let place = Place::new();
    let sidecar = place.sidecar(&dressipi).start().await;
    let mut browser = Browser::default();
    let before = browser.profile(&sidecar).await;
    let old = browser.recovery().to_owned();
    dressipi.simulator.expire_tokens(ExpiredAs::Unauthorized);
    browser.profile(&sidecar).await;
    sidecar.stop().await;
    // Nothing is cached, and the cookie's refresh token has been replaced.
    let sidecar = place.sidecar(&dressipi).start().await;
    browser.0.insert(RECOVERY.into(), old.clone());
    assert_eq!(browser.profile(&sidecar).await, before);
    assert_ne!(browser.recovery(), old);
    let totals = dressipi.simulator.totals();
    assert_eq!((totals.profiles, totals.refresh_reuse), (1, 0));
    assert_eq!(recovered(&sidecar).await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_4_a_stale_one_ends_in_one_refresh_attempt() {
    let dressipi = Dressipi::start().await;
    let place = Place::new();
    let sidecar = place.sidecar(&dressipi).start().await;
    let mut browser = Browser::default();
    browser.profile(&sidecar).await;
    let old = browser.recovery().to_owned();
    dressipi.simulator.expire_tokens(ExpiredAs::Unauthorized);
    browser.profile(&sidecar).await;
    sidecar.stop().await;
    place.lose_store();
    dressipi.simulator.expire_tokens(ExpiredAs::Unauthorized);
    let sidecar = place.sidecar(&dressipi).start().await;
    browser.0.insert(RECOVERY.into(), old);
    for _ in 0..3 {
        assert!(browser.profile(&sidecar).await.is_some());
    }
    let totals = dressipi.simulator.totals();
    assert_eq!((totals.profiles, totals.refresh_reuse), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_8_a_forged_or_foreign_one_is_as_none() {
    let dressipi = Dressipi::start().await;
    let place = Place::new();
    let sidecar = place.sidecar(&dressipi).start().await;
    let (mut ada, mut eve) = (Browser::default(), Browser::default());
    let ada_before = ada.profile(&sidecar).await;
    eve.profile(&sidecar).await;
    sidecar.stop().await;
    place.lose_store();
    let sidecar = place.sidecar(&dressipi).start().await;
    // Eve comes with Ada's token set, and is not Ada.
    let stolen = ada.recovery().to_owned();
    eve.0.insert(RECOVERY.into(), stolen.clone());
    let eve_after = eve.profile(&sidecar).await;
    assert!(eve_after.is_some() && eve_after != ada_before);
    // Without the visitor cookie it is worth nothing either.
    let mut nobody = Browser::default();
    nobody.0.insert(RECOVERY.into(), stolen);
    let nobody_after = nobody.profile(&sidecar).await;
    assert!(nobody_after.is_some() && nobody_after != ada_before);
    assert_eq!((dressipi.profiles(), recovered(&sidecar).await), (4, 0.0));
    assert_eq!(ada.profile(&sidecar).await, ada_before);
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_9_who_opts_out_loses_both_cookies() {
    let dressipi = Dressipi::start().await;
    let place = Place::new();
    let sidecar = place.sidecar(&dressipi).start().await;
    let mut browser = Browser::default();
    browser.profile(&sidecar).await;
    let mut other_tab = browser.clone();
    browser.get_with(&sidecar, TOP, "sec-gpc").await;
    assert_eq!(browser.header(), "");
    // While the visitor opts out, not even the cookie brings anything back.
    let answer = other_tab.get_with(&sidecar, TOP, "sec-gpc").await;
    assert_eq!(profile(answer).await, None);
    assert_eq!((dressipi.profiles(), recovered(&sidecar).await), (1, 0.0));
}

/// The browser kept both cookies, whatever the answer said: with them comes somebody new.
#[tokio::test(flavor = "multi_thread")]
async fn invariant_9_who_was_erased_is_not_brought_back_by_a_recovery_cookie() {
    let dressipi = Dressipi::start().await;
    let place = Place::new();
    let sidecar = place.sidecar(&dressipi).start().await;
    let mut browser = Browser::default();
    let before = browser.profile(&sidecar).await;
    let mut kept = browser.clone();
    let answer = browser.get_with(&sidecar, TOP, "sec-gpc").await;
    assert_eq!(answer.headers()["cache-control"], "private, no-store");
    let expired = answer.headers().get_all("set-cookie").iter();
    for (set_cookie, name) in expired.zip(["visitor", RECOVERY]) {
        let expected = format!("{name}=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax");
        assert_eq!(set_cookie.to_str().unwrap(), expected);
    }
    sidecar
        .counts("visitor_events_total", "\"erased\"", 1.0)
        .await;
    let after = kept.profile(&sidecar).await;
    assert!(after.is_some() && after != before);
    assert_eq!((dressipi.profiles(), recovered(&sidecar).await), (2, 0.0));
    // Whoever consents again is a visitor like any other: what they carry from then on is good.
    assert_eq!(kept.profile(&sidecar).await, after);
}

/// Who is erased by an operator is told nothing: the browser comes with both cookies as if nothing had been. The next
/// process on the store does not bring them back either.
#[tokio::test(flavor = "multi_thread")]
async fn invariant_9_whom_an_operator_erased_no_later_process_brings_back() {
    let dressipi = Dressipi::start().await;
    let place = Place::new();
    let start = async || {
        place
            .sidecar(&dressipi)
            .admin_keys(ADMIN_KEYS)
            .start()
            .await
    };
    let sidecar = start().await;
    let mut browser = Browser::default();
    let before = browser.profile(&sidecar).await;
    let mut unchanged = browser.clone();
    let erased = serde_json::json!({ "cookie": browser.0["visitor"] }).to_string();
    let found = sidecar.sessions_with(Method::POST, "/find", erased).await;
    let visitor = format!("/{}", found.body["visitor"].as_str().unwrap());
    assert_eq!(sidecar.sessions(Method::DELETE, &visitor).await.status, 204);
    sidecar.stop().await;

    let sidecar = start().await;
    let listed = sidecar.sessions(Method::GET, "").await;
    assert_eq!(
        listed.body["sessions"],
        serde_json::json!([]),
        "a tombstone is nobody"
    );
    let after = browser.profile(&sidecar).await;
    assert!(after.is_some() && after != before);
    assert_eq!((dressipi.profiles(), recovered(&sidecar).await), (2, 0.0));
    // The store has the visitor again, and what a second browser kept is not looked at.
    assert_eq!(unchanged.profile(&sidecar).await, after);
    sidecar.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn visitors_whom_the_app_names_carry_nothing() {
    let dressipi = Dressipi::start().await;
    let place = Place::new();
    let sidecar = place.sidecar(&dressipi).start().await;
    let answer = sidecar.visitor("ada", TOP).send().await.unwrap();
    assert!(!answer.headers().contains_key("set-cookie"));
    assert!(profile(answer).await.is_some());
}

/// Two sidecars on a Redis that loses everything while they run, which they learn when they look again.
#[tokio::test(flavor = "multi_thread")]
async fn invariant_2_replicas_bring_back_whom_redis_has_lost() {
    let dressipi = Dressipi::start().await;
    let place = Place::new();
    let redis = RedisServer::start();
    let start = async |folder: &Path| {
        let (keys_file, url) = (folder.join("keys"), redis.url());
        let session = format!(
            "store = \"redis\"\nkeys_file = {keys_file:?}\ncache_validity = \"1ms\"\nredis.url = {url:?}\nredis.timeout = \"10s\""
        );
        let sidecar = Sidecar::behind(&dressipi).session(&session);
        sidecar.cookie("recovery = true").start().await
    };
    let sidecars = [
        start(place.folder.path()).await,
        start(place.folder.path()).await,
    ];
    let mut browsers = vec![Browser::default(); 10];
    let mut before = Vec::new();
    for browser in &mut browsers {
        before.push(browser.profile(&sidecars[0]).await.unwrap());
        assert_eq!(browser.profile(&sidecars[1]).await, before.last().cloned());
    }
    for round in 0..3 {
        redis.cli(&["FLUSHALL"]);
        let requests = browsers.iter_mut().enumerate().map(|(number, browser)| {
            let mut other = browser.clone();
            let (first, second) = (&sidecars[number % 2], &sidecars[(number + round) % 2]);
            async move { tokio::join!(browser.profile(first), other.profile(second)) }
        });
        let profiles = futures::future::join_all(requests).await;
        for ((here, there), before) in profiles.into_iter().zip(&before) {
            assert_eq!(
                (here.as_ref(), there.as_ref()),
                (Some(before), Some(before))
            );
        }
    }
    assert_eq!(dressipi.profiles(), 10);
    assert!(recovered(&sidecars[0]).await + recovered(&sidecars[1]).await >= 30.0);
}
