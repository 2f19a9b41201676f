//! Numbers that many threads add to, in as many places as there may be threads: none takes a line of the cache from another one.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crossbeam_utils::CachePadded;

/// As many places as that; further threads share them.
const SHARDS: usize = 16;

/// `N` numbers.
#[derive(Debug)]
pub(super) struct Sharded<const N: usize>([CachePadded<[AtomicU64; N]>; SHARDS]);

/// Where a thread adds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shard(usize);

// === impl Shard ===

impl Shard {
    /// That of this thread.
    pub(super) fn here() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static HERE: usize = NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS;
        }
        Self(HERE.with(|here| *here))
    }
}

// === impl Sharded ===

impl<const N: usize> Sharded<N> {
    pub(super) fn new() -> Self {
        Self([(); SHARDS].map(|()| CachePadded::new([(); N].map(|()| AtomicU64::new(0)))))
    }

    /// The numbers of one thread.
    pub(super) fn at(&self, shard: Shard) -> &[AtomicU64; N] {
        &self.0[shard.0]
    }

    /// The sums over all threads.
    pub(super) fn sums(&self) -> [u64; N] {
        let mut sums = [0_u64; N];
        for shard in &self.0 {
            for (sum, number) in sums.iter_mut().zip(shard.iter()) {
                *sum = sum.wrapping_add(number.load(Ordering::Relaxed));
            }
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_add_in_different_places_and_nothing_is_lost() {
        let numbers = Sharded::<2>::new();
        let places: Vec<usize> = std::thread::scope(|scope| {
            let threads = [(); 8].map(|()| {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        let [one, two] = numbers.at(Shard::here());
                        one.fetch_add(1, Ordering::Relaxed);
                        two.fetch_add(3, Ordering::Relaxed);
                    }
                    Shard::here().0
                })
            });
            threads.map(|thread| thread.join().unwrap()).to_vec()
        });
        assert_eq!(numbers.sums(), [80_000, 240_000]);
        // Other tests' threads take places, too: eight in a row may not be had, but never the same for all.
        let first = places[0];
        assert!(places.iter().any(|place| *place != first), "{places:?}");
        let of_one = |place: &usize| numbers.at(Shard(*place))[0].load(Ordering::Relaxed);
        assert!(places.iter().all(|place| of_one(place) >= 10_000));
    }

    #[test]
    fn each_place_has_lines_of_its_own() {
        assert!(align_of::<CachePadded<[AtomicU64; 1]>>() >= 64);
        assert_eq!(size_of::<Sharded<1>>() % (SHARDS * 64), 0);
    }
}
