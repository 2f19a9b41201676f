//! What the flood consists of: requests without a cookie, of those who may cost a profile and of those who never may.

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

/// A sort of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Browsers, as they say, from anywhere: IPv4 addresses and IPv6 networks that hardly ever come twice.
    Anywhere,
    /// Browsers that all have one IPv4 address.
    OneAddress,
    /// Browsers with addresses of one IPv6 network, which somebody may have to himself.
    OneNetwork,
    /// Crawlers and tools, and who does not say what it is.
    Bot,
    /// Health probes.
    Probe,
    /// Browsers that fetch ahead of a visit.
    Prefetch,
    /// By methods by which nobody visits.
    Method,
}

/// The one address, from which some of the known visitors come, too.
pub const ADDRESS: &str = "203.0.113.7";
pub const BROWSER: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";

const SHARES: [(Kind, u32); 7] = [
    (Kind::Anywhere, 35),
    (Kind::OneAddress, 20),
    (Kind::OneNetwork, 15),
    (Kind::Bot, 15),
    (Kind::Probe, 5),
    (Kind::Prefetch, 5),
    (Kind::Method, 5),
];
const BOTS: [&str; 5] = [
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "Mozilla/5.0 (compatible; AhrefsBot/7.0; +http://ahrefs.com/robot/)",
    "python-requests/2.32.3",
    "curl/8.5.0",
    "",
];
const PROBES: [&str; 3] = ["kube-probe/1.31", "ELB-HealthChecker/2.0", "GoogleHC/1.0"];
const AHEAD: [&str; 3] = [
    "sec-purpose: prefetch;prerender\r\n",
    "purpose: prefetch\r\n",
    "x-moz: prefetch\r\n",
];
/// One in so many goes to Dressipi, the others to the shop.
const TO_DRESSIPI: u32 = 8;

impl Kind {
    pub fn all() -> impl Iterator<Item = Self> {
        SHARES.iter().map(|(kind, _)| *kind)
    }

    /// Any, as often as there are of them.
    pub fn draw(dice: &mut StdRng) -> Self {
        let all = SHARES.iter().map(|(_, share)| share).sum();
        let mut point = dice.random_range(0..all);
        for (kind, share) in SHARES {
            if point < share {
                return kind;
            }
            point -= share;
        }
        Kind::Anywhere
    }

    /// What the table calls it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Anywhere => "browsers from anywhere",
            Self::OneAddress => "browsers, one IPv4 address",
            Self::OneNetwork => "browsers, one IPv6 /64",
            Self::Bot => "bots",
            Self::Probe => "health probes",
            Self::Prefetch => "prefetches",
            Self::Method => "HEAD and OPTIONS",
        }
    }

    /// The one reason with which it must be anonymous, where it may never make a profile.
    pub fn withheld(self) -> Option<&'static str> {
        match self {
            Self::Anywhere | Self::OneAddress | Self::OneNetwork => None,
            Self::Bot => Some("bot"),
            Self::Probe => Some("probe"),
            Self::Prefetch => Some("prefetch"),
            Self::Method => Some("method"),
        }
    }

    /// Whether a limit for one client is the limit of all of them.
    pub fn is_one_client(self) -> bool {
        matches!(self, Self::OneAddress | Self::OneNetwork)
    }

    /// Writes a request of this kind in place of what is in `text`; says whether its answer has no body.
    pub fn write(self, dice: &mut StdRng, text: &mut String) -> bool {
        let method = match self {
            Self::Method => ["HEAD", "OPTIONS"].choose(dice).expect("there are some"),
            _ => "GET",
        };
        let target = match dice.random_ratio(1, TO_DRESSIPI) {
            true => "/api/items/top?client_id=demo",
            false => "/shop/health",
        };
        text.clear();
        let _ = write!(
            text,
            "{method} {target} HTTP/1.1\r\nhost: shop.example\r\naccept: text/html,*/*\r\n"
        );
        let agent = match self {
            Self::Bot => BOTS.choose(dice),
            Self::Probe => PROBES.choose(dice),
            _ => Some(&BROWSER),
        };
        if let Some(agent) = agent.filter(|agent| !agent.is_empty()) {
            let _ = write!(text, "user-agent: {agent}\r\n");
        }
        if self == Self::Prefetch {
            text.push_str(AHEAD.choose(dice).expect("there are some"));
        }
        text.push_str("x-forwarded-for: ");
        let _ = match self {
            Self::OneAddress => write!(text, "{ADDRESS}"),
            // What stands to the left is the client's own word.
            Self::OneNetwork => {
                write!(text, "{}, {}", anybody(dice), network(0x42, dice.random()))
            }
            _ if dice.random_bool(0.5) => write!(text, "{}", network(dice.random(), 1)),
            _ => write!(text, "{}", anybody(dice)),
        };
        text.push_str("\r\n\r\n");
        method == "HEAD"
    }
}

/// An address of IPv4 that is no proxy's.
fn anybody(dice: &mut StdRng) -> Ipv4Addr {
    Ipv4Addr::from_bits(dice.random_range(0x0100_0000..0x7f00_0000))
}

/// An address in one of the /64 networks of 2001:db8::/32.
fn network(number: u32, host: u64) -> Ipv6Addr {
    let net = 0x2001_0db8_u128 << 96 | u128::from(number) << 64;
    Ipv6Addr::from_bits(net | u128::from(host))
}
