//! Clients that are no visitors: crawlers, tools, probes, and browsers that fetch ahead of a visit.

use std::sync::LazyLock;

use aho_corasick::AhoCorasick;
use http::HeaderMap;
use http::header::USER_AGENT;

/// Parts of `User-Agent` values that crawlers, preview fetchers, monitors and HTTP tools use, in lower case.
const MARKERS: &[&str] = &[
    "bot",
    "crawl",
    "spider",
    "slurp",
    "archiver",
    "facebookexternalhit",
    "embedly",
    "quora link preview",
    "bingpreview",
    "mediapartners-google",
    "google-read-aloud",
    "feedfetcher",
    "lighthouse",
    "pagespeed",
    "gtmetrix",
    "headlesschrome",
    "phantomjs",
    "pingdom",
    "uptime",
    "statuscake",
    "newrelicpinger",
    "datadog",
    "site24x7",
    "catchpoint",
    "wget",
    "curl/",
    "libwww",
    "python-requests",
    "python-urllib",
    "aiohttp",
    "httpx",
    "go-http-client",
    "java/",
    "apache-httpclient",
    "scrapy",
    "httrack",
    "nutch",
    "zgrab",
    "masscan",
    "nmap",
    "nikto",
];

/// Parts of `User-Agent` values of health probes: Kubernetes, load balancers and monitors, in lower case.
const PROBES: &[&str] = &[
    "kube-probe",
    "elb-healthchecker",
    "googlehc",
    "google-hc",
    "envoy/hc",
    "route 53 health check",
    "route53-health-check",
    "azure traffic manager",
    "health check service",
    "consul health check",
    "haproxy",
    "healthcheck",
    "health-check",
    "prometheus",
    "blackbox",
];

static ANY_MARKER: LazyLock<AhoCorasick> = LazyLock::new(|| any_of(MARKERS));
static ANY_PROBE: LazyLock<AhoCorasick> = LazyLock::new(|| any_of(PROBES));

/// Finds any of the words in one pass.
fn any_of(words: &[&str]) -> AhoCorasick {
    let mut builder = AhoCorasick::builder();
    builder.ascii_case_insensitive(true);
    builder.build(words).expect("a few short words")
}

/// Whether a health probe asks: it does so every few seconds, for ever, and keeps no cookies.
pub(super) fn is_probe(headers: &HeaderMap) -> bool {
    headers
        .get(USER_AGENT)
        .is_some_and(|agent| ANY_PROBE.is_match(agent.as_bytes()))
}

fn has(agent: &[u8], marker: &str) -> bool {
    let marker = marker.as_bytes();
    agent
        .windows(marker.len())
        .any(|window| window.eq_ignore_ascii_case(marker))
}

/// Whether the client names itself as something else than a person's browser, or does not name itself at all.
pub(super) fn is_bot(headers: &HeaderMap, extra: &[String]) -> bool {
    let Some(agent) = headers.get(USER_AGENT) else {
        return true;
    };
    let agent = agent.as_bytes();
    if agent.is_empty() {
        return true;
    }
    ANY_MARKER.is_match(agent)
        || extra
            .iter()
            .any(|marker| !marker.is_empty() && has(agent, marker))
}

/// Whether the request fetches ahead of a visit (`Sec-Purpose`, and the older `Purpose` and `X-Moz`).
pub(super) fn is_prefetch(headers: &HeaderMap) -> bool {
    ["sec-purpose", "purpose", "x-purpose", "x-moz"]
        .iter()
        .any(|name| {
            headers
                .get(*name)
                .and_then(|value| value.to_str().ok())
                .is_some_and(|value| {
                    let value = value.to_ascii_lowercase();
                    value.contains("prefetch")
                        || value.contains("prerender")
                        || value.contains("preview")
                })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(USER_AGENT, value.parse().unwrap())])
    }

    #[test]
    fn invariant_9_bots_and_tools_are_known_and_browsers_are_not_taken_for_them() {
        for bot in [
            "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
            "curl/8.5.0",
            "facebookexternalhit/1.1",
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/120.0 Safari/537.36",
            "",
        ] {
            assert!(is_bot(&agent(bot), &[]), "{bot}");
        }
        assert!(is_bot(&HeaderMap::new(), &[]));
        for browser in [
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36",
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Mobile/15E148 Safari/604.1",
            "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
        ] {
            assert!(!is_bot(&agent(browser), &[]), "{browser}");
            assert!(is_bot(&agent(browser), &["gecko".into()]));
        }
    }

    #[test]
    fn invariant_9_health_probes_are_known() {
        for probe in [
            "kube-probe/1.30",
            "ELB-HealthChecker/2.0",
            "GoogleHC/1.0",
            "Envoy/HC",
            "Blackbox Exporter/0.25.0",
        ] {
            assert!(is_probe(&agent(probe)), "{probe}");
        }
        assert!(!is_probe(&agent("Mozilla/5.0 (X11; Linux x86_64)")));
        assert!(!is_probe(&HeaderMap::new()));
    }

    #[test]
    fn invariant_9_prefetches_are_known() {
        let purpose = |name: &'static str, value: &'static str| {
            HeaderMap::from_iter([(http::HeaderName::from_static(name), value.parse().unwrap())])
        };
        assert!(is_prefetch(&purpose("sec-purpose", "prefetch;prerender")));
        assert!(is_prefetch(&purpose("purpose", "prefetch")));
        assert!(is_prefetch(&purpose("x-moz", "prefetch")));
        assert!(!is_prefetch(&HeaderMap::new()));
    }
}
