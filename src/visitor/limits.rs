//! PURE: how many profiles may be made: for each client address, in all, and in a day.
//!
//! The state is bounded whatever comes: a fixed table of buckets, in sets of a few. A bucket is one number (the generic cell rate
//! algorithm): when it will be full again. Whoever is not in the table has a full bucket. Where a set has no room, the bucket that is
//! nearest to full makes room; what its owner gains by that is bounded by the limit over all addresses.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::Duration;

use crate::clock::Timestamp;

/// A token bucket: `count` at once, and `count` again within each `per`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub count: u32,
    /// In what time.
    pub per: Duration,
}

/// How many profiles may be made. `None`: as many as come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreationLimits {
    /// For one client address; of IPv6 for one /64.
    pub per_client: Option<Rate>,
    /// For all of them.
    pub overall: Option<Rate>,
    /// In one day of UTC.
    pub daily: Option<u64>,
}

/// Which limit a request has met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// That of its client's address.
    Client,
    /// That of all addresses.
    Overall,
    /// That of the day.
    Daily,
}

/// Whose bucket: an IPv4 address, or the /64 that an IPv6 host has to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Client(u64);

/// What has been spent.
#[derive(Debug)]
pub struct Spent {
    clients: Vec<[Bucket; WAYS]>,
    hasher: RandomState,
    overall: Fullness,
    day: u64,
    today: u64,
}

/// When a bucket will be full again, in nanoseconds since the epoch. A 64-bit number lasts until the year 2554.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Fullness(u64);

#[derive(Clone, Copy, Debug)]
struct Bucket {
    client: Client,
    full_at: Fullness,
}

/// The buckets of a set, all of which are looked at.
const WAYS: usize = 8;
/// 65,536 buckets of 16 bytes: one MiB.
const SETS: usize = 8192;
const NANOS_PER_MILLI: u64 = 1_000_000;
const DAY: u64 = 86_400;

impl Default for CreationLimits {
    fn default() -> Self {
        Self {
            per_client: Some(Rate {
                count: 600,
                per: Duration::from_secs(60),
            }),
            overall: Some(Rate {
                count: 6000,
                per: Duration::from_secs(60),
            }),
            daily: Some(1_000_000),
        }
    }
}

// === impl Limit ===

impl Limit {
    /// The word for metrics and for the `Dressipi-Sidecar` response header.
    pub fn label(self) -> &'static str {
        match self {
            Self::Client => "rate-limited",
            Self::Overall => "rate-limited-overall",
            Self::Daily => "budget",
        }
    }
}

// === impl Client ===

impl Client {
    /// The client behind `address`.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            // No /64 of the Internet begins with 32 zero bits.
            IpAddr::V4(address) => Self(u64::from(address.to_bits())),
            IpAddr::V6(address) => Self((address.to_bits() >> 64) as u64),
        }
    }
}

// === impl Spent ===

impl Spent {
    /// Nothing has been spent.
    pub fn new() -> Self {
        Self::with_sets(SETS)
    }

    fn with_sets(sets: usize) -> Self {
        let empty = Bucket {
            client: Client(0),
            full_at: Fullness(0),
        };
        Self {
            clients: vec![[empty; WAYS]; sets],
            hasher: RandomState::new(),
            overall: Fullness(0),
            day: 0,
            today: 0,
        }
    }

    /// Spends one profile of `client` at `now`, from every limit or from none. Without a client (an app vouches for its visitors,
    /// who all come from its one address) that limit is not asked.
    pub fn spend(
        &mut self,
        client: Option<Client>,
        limits: &CreationLimits,
        now: Timestamp,
    ) -> Result<(), Limit> {
        let set = client.map(|client| {
            let sets = self.clients.len() as u64;
            (self.hasher.hash_one(client) % sets.max(1)) as usize
        });
        let now_ns = now.as_millis().saturating_mul(NANOS_PER_MILLI);
        let bucket = match (
            client,
            set.and_then(|set| self.clients.get_mut(set)),
            limits.per_client,
        ) {
            (Some(client), Some(set), Some(rate)) => {
                let known = set.iter().position(|bucket| bucket.client == client);
                let full_at = known.map_or(Fullness(0), |known| set[known].full_at);
                let full_at = full_at.take(rate, now_ns).ok_or(Limit::Client)?;
                let slot = match known {
                    Some(known) => set.get_mut(known),
                    None => set.iter_mut().min_by_key(|bucket| bucket.full_at),
                };
                slot.map(|slot| (slot, Bucket { client, full_at }))
            }
            _ => None,
        };
        let overall = match limits.overall {
            Some(rate) => self.overall.take(rate, now_ns).ok_or(Limit::Overall)?,
            None => self.overall,
        };
        // A clock that is set back does not give a day twice.
        let day = (now.as_secs() / DAY).max(self.day);
        let today = if day == self.day { self.today } else { 0 };
        if limits.daily.is_some_and(|daily| today >= daily) {
            return Err(Limit::Daily);
        }
        if let Some((slot, bucket)) = bucket {
            *slot = bucket;
        }
        self.overall = overall;
        self.day = day;
        self.today = today + 1;
        Ok(())
    }

    /// How many profiles were spent in the day of `now`.
    pub fn today(&self, now: Timestamp) -> u64 {
        let is_over = now.as_secs() / DAY > self.day;
        if is_over { 0 } else { self.today }
    }
}

impl Default for Spent {
    fn default() -> Self {
        Self::new()
    }
}

// === impl Fullness ===

impl Fullness {
    /// Takes one; `None` if none is left.
    fn take(self, rate: Rate, now_ns: u64) -> Option<Self> {
        let per = u64::try_from(rate.per.as_nanos()).unwrap_or(u64::MAX);
        let one = (per / u64::from(rate.count.max(1))).max(1);
        // A clock that was set back, or a rate that was lowered, does not keep anybody waiting for longer than the rate's own time.
        let full_at = self.0.clamp(now_ns, now_ns.saturating_add(per));
        let next = full_at.saturating_add(one);
        (next <= now_ns.saturating_add(per)).then_some(Self(next))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    const UNLIMITED: CreationLimits = CreationLimits {
        per_client: None,
        overall: None,
        daily: None,
    };

    fn rate(count: u32, secs: u64) -> Rate {
        let per = Duration::from_secs(secs);
        Rate { count, per }
    }

    fn client(n: u32) -> Option<Client> {
        Some(Client::of(IpAddr::V4(n.into())))
    }

    #[test]
    fn invariant_10_a_bucket_gives_its_count_and_then_refills() {
        let limits = CreationLimits {
            per_client: Some(rate(3, 30)),
            ..UNLIMITED
        };
        let mut spent = Spent::with_sets(4);
        let at = |secs: u64| Timestamp::from_secs(1_700_000_000 + secs);
        for _ in 0..3 {
            assert_eq!(spent.spend(client(1), &limits, at(0)), Ok(()));
        }
        assert_eq!(spent.spend(client(1), &limits, at(9)), Err(Limit::Client));
        assert_eq!(spent.spend(client(2), &limits, at(9)), Ok(()));
        assert_eq!(spent.spend(client(1), &limits, at(10)), Ok(()));
        assert_eq!(spent.spend(client(1), &limits, at(10)), Err(Limit::Client));
    }

    #[test]
    fn invariant_10_the_budget_is_of_the_utc_day_and_a_clock_set_back_gives_none_twice() {
        let limits = CreationLimits {
            daily: Some(2),
            ..UNLIMITED
        };
        let mut spent = Spent::with_sets(4);
        let midnight = 20_000 * 86_400;
        for (secs, expected) in [
            (midnight - 1, Ok(())),
            (midnight, Ok(())),
            (midnight + 1, Ok(())),
            (midnight + 86_399, Err(Limit::Daily)),
            (midnight - 1, Err(Limit::Daily)),
            (midnight + 86_400, Ok(())),
        ] {
            let now = Timestamp::from_secs(secs);
            assert_eq!(spent.spend(client(1), &limits, now), expected, "{secs}");
        }
        let today = |day: u64| spent.today(Timestamp::from_secs(midnight + day * 86_400));
        assert_eq!([today(0), today(1), today(2)], [1, 1, 0]);
    }

    #[test]
    fn ipv6_clients_are_their_64_and_mapped_addresses_are_ipv4() {
        let of = |text: &str| Client::of(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:1.2.3.4"), of("1.2.3.4"));
        assert_ne!(of("1.2.3.4"), of("1.2.3.5"));
    }

    proptest! {
        /// In every span of time, one address gets no more than its bucket and what flowed in; all together no more than theirs,
        /// whatever is evicted; and a refusal spends nothing.
        #[test]
        fn invariant_10_no_flood_gets_more_than_the_limits(
            steps in prop::collection::vec((0_u32..40, 0_u64..3000), 1..400),
            per_client in 1_u32..6,
            overall in 1_u32..60,
            daily in 1_u64..300,
        ) {
            let limits = CreationLimits {
                per_client: Some(rate(per_client, 10)),
                overall: Some(rate(overall, 20)),
                daily: Some(daily),
            };
            // 40 addresses in 64 buckets of 8 sets: now and then one is evicted.
            let mut spent = Spent::with_sets(8);
            let mut now = 1_700_000_000_000;
            let mut all: Vec<u64> = Vec::new();
            let mut by_client: HashMap<u32, Vec<u64>> = HashMap::new();
            for (who, later) in steps {
                now += later;
                let before = (spent.overall, spent.today);
                match spent.spend(client(who), &limits, Timestamp::from_millis(now)) {
                    Ok(()) => {
                        all.push(now);
                        by_client.entry(who).or_default().push(now);
                    }
                    Err(limit) => {
                        prop_assert_eq!(before, (spent.overall, spent.today));
                        // Nobody is refused who has had nothing.
                        if limit == Limit::Client {
                            prop_assert!(by_client.contains_key(&who));
                        }
                    }
                }
            }
            let within = |times: &[u64], count: u64, per: u64| {
                (0..times.len()).all(|from| (from..times.len()).all(|to| {
                    let span = times[to] - times[from];
                    (to - from + 1) as u64 <= count + (span * count).div_ceil(per)
                }))
            };
            prop_assert!(within(&all, u64::from(overall), 20_000));
            let per_day = all.iter().fold(HashMap::new(), |mut days, at| {
                *days.entry(at / 86_400_000).or_insert(0_u64) += 1;
                days
            });
            prop_assert!(per_day.values().all(|day| *day <= daily));
            // Where there is room for everybody, each address keeps to its own.
            if by_client.len() <= WAYS {
                for times in by_client.values() {
                    prop_assert!(within(times, u64::from(per_client), 10_000));
                }
            }
            prop_assert_eq!(spent.clients.len(), 8);
        }
    }
}
