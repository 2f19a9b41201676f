//! How many connections there are, in all and from each address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use parking_lot::Mutex;

/// The count of connections over all listeners.
#[derive(Clone, Debug)]
pub struct Census(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    most: usize,
    most_per_address: usize,
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// Why a connection is closed at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Crowded {
    /// There are too many in all.
    All,
    /// There are too many from one address.
    Address,
}

/// A connection's place in the count.
#[derive(Debug)]
pub(super) struct Place {
    shared: Arc<Shared>,
    address: Option<IpAddr>,
}

impl Census {
    /// At most `most` connections, and `most_per_address` from one address.
    pub fn new(most: usize, most_per_address: usize) -> Self {
        let counts = Counts {
            most,
            most_per_address,
            ..Counts::default()
        };
        Self(Arc::new(Shared {
            counts: Mutex::new(counts),
        }))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.counts.lock().all
    }

    /// The limits from here on; connections that are there stay.
    pub fn set_limits(&self, most: usize, most_per_address: usize) {
        let mut counts = self.0.counts.lock();
        counts.most = most;
        counts.most_per_address = most_per_address;
    }

    /// Enters a connection; one without an `address` counts for the whole only.
    pub(super) fn enter(&self, address: Option<IpAddr>) -> Result<Place, Crowded> {
        let address = address.map(network);
        let mut counts = self.0.counts.lock();
        if counts.all >= counts.most {
            return Err(Crowded::All);
        }
        if let Some(address) = address {
            let most = counts.most_per_address;
            let count = counts.by_address.entry(address).or_default();
            if *count >= most {
                return Err(Crowded::Address);
            }
            *count += 1;
        }
        counts.all += 1;
        Ok(Place {
            shared: self.0.clone(),
            address,
        })
    }
}

impl Crowded {
    /// The word for metrics.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::All => "connections",
            Self::Address => "connections_per_address",
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.shared.counts.lock();
        counts.all -= 1;
        if let Some(address) = self.address
            && let Some(count) = counts.by_address.get_mut(&address)
        {
            *count -= 1;
            if *count == 0 {
                counts.by_address.remove(&address);
            }
        }
    }
}

/// What one client has: an IPv4 address, or a /64 network of IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_counted_in_all_and_for_each_client() {
        let census = Census::new(3, 2);
        let enter = |address: &str| census.enter(Some(address.parse().unwrap()));
        let first = enter("2001:db8::1").unwrap();
        let _second = enter("2001:db8::2").unwrap();
        assert_eq!(enter("2001:db8::3").unwrap_err(), Crowded::Address);
        drop(first);
        let third = enter("2001:db8::3").unwrap();
        let fourth = enter("10.0.0.1").unwrap();
        assert_eq!(enter("10.0.0.2").unwrap_err(), Crowded::All);
        assert_eq!(census.enter(None).unwrap_err(), Crowded::All);
        drop((third, fourth, _second));
        assert!(census.0.counts.lock().by_address.is_empty());
        let places: Vec<_> = (0..3).map(|_| census.enter(None).unwrap()).collect();
        assert_eq!(places.len(), 3);
    }

    #[test]
    fn an_ipv4_address_is_the_same_in_both_families() {
        let census = Census::new(9, 1);
        let _one = census
            .enter(Some("::ffff:10.0.0.1".parse().unwrap()))
            .unwrap();
        assert_eq!(
            census.enter(Some("10.0.0.1".parse().unwrap())).unwrap_err(),
            Crowded::Address
        );
    }
}
