//! A bounded table of what visitors have in memory, made for one thing: to find what is there at the least cost.
//!
//! Visitor keys are keyed hashes, evenly spread, so a part of the key chooses a set, and the few entries of a set lie in the order
//! in which they were last used. What is found takes one lock that nobody else is likely to hold, and no clock, no
//! counting of uses and no queue that somebody has to work off. When the table is full, a newcomer takes the place of the
//! entry of its set that has been unused for longest: nearly the one of all.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::visitor::VisitorKey;

/// The table.
pub(super) struct VisitorTable<T> {
    sets: Box<[Mutex<Set<T>>]>,
    capacity: usize,
    length: AtomicUsize,
}

/// Entries with the tags of their keys, the one used last first.
type Set<T> = Vec<(u64, Arc<T>)>;

/// What knows its visitor.
pub(super) trait OfVisitor {
    /// Whose it is.
    fn visitor(&self) -> &VisitorKey;
}

/// So many entries share a set when the table is full.
const ENTRIES_PER_SET: usize = 16;

// === impl VisitorTable ===

impl<T: OfVisitor> VisitorTable<T> {
    /// A table of at most `capacity` entries.
    pub(super) fn new(capacity: u64) -> Self {
        let capacity = usize::try_from(capacity).unwrap_or(usize::MAX).max(1);
        let sets = (0..capacity.div_ceil(ENTRIES_PER_SET)).map(|_| Mutex::new(Vec::new()));
        Self {
            sets: sets.collect(),
            capacity,
            length: AtomicUsize::new(0),
        }
    }

    /// What there is of the visitor.
    pub(super) fn get(&self, key: &VisitorKey) -> Option<Arc<T>> {
        let (set, tag) = self.place(key);
        let mut entries = self.sets[set].lock();
        let at = find(&entries, tag, key)?;
        if at > 0 {
            entries[..=at].rotate_right(1);
        }
        entries.first().map(|(_, entry)| entry.clone())
    }

    /// Puts `entry` in, in the place of its visitor's last one.
    pub(super) fn insert(&self, entry: Arc<T>) {
        let (set, tag) = self.place(entry.visitor());
        let mut entries = self.sets[set].lock();
        if let Some(at) = find(&entries, tag, entry.visitor()) {
            entries.remove(at);
            entries.insert(0, (tag, entry));
            return;
        }
        entries.insert(0, (tag, entry));
        if self.length.fetch_add(1, Ordering::Relaxed) < self.capacity {
            return;
        }
        let own = (entries.len() > 1).then(|| entries.pop()).flatten();
        drop(entries);
        if own.is_some() || self.evict_after(set) {
            self.length.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Evicts an entry of the next set that has one.
    fn evict_after(&self, set: usize) -> bool {
        let sets = self.sets.len();
        (1..=sets).any(|step| self.sets[(set + step) % sets].lock().pop().is_some())
    }

    /// Removes what there is of the visitor.
    pub(super) fn remove(&self, key: &VisitorKey) {
        let (set, tag) = self.place(key);
        let mut entries = self.sets[set].lock();
        if let Some(at) = find(&entries, tag, key) {
            entries.remove(at);
            self.length.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.length.load(Ordering::Relaxed)
    }

    /// The set of a key, and its tag in there.
    fn place(&self, key: &VisitorKey) -> (usize, u64) {
        let [choice, tag, ..] = key.words();
        let choice = u128::from(choice) * self.sets.len() as u128;
        ((choice >> 64) as usize, tag)
    }
}

fn find<T: OfVisitor>(entries: &Set<T>, tag: u64, key: &VisitorKey) -> Option<usize> {
    let is_it = |(other, entry): &(u64, Arc<T>)| *other == tag && entry.visitor() == key;
    entries.iter().position(is_it)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Entry(VisitorKey, u32);

    impl OfVisitor for Entry {
        fn visitor(&self) -> &VisitorKey {
            &self.0
        }
    }

    /// Keys as a keyed hash gives them.
    fn key(number: u32) -> VisitorKey {
        crate::visitor::IdentityKey::new(&[1; 32])
            .visitor_key(crate::visitor::Namespace::Minted, &number.to_le_bytes())
    }

    fn put(table: &VisitorTable<Entry>, number: u32, value: u32) {
        table.insert(Arc::new(Entry(key(number), value)));
    }

    fn get(table: &VisitorTable<Entry>, number: u32) -> Option<u32> {
        table.get(&key(number)).map(|entry| entry.1)
    }

    #[test]
    fn invariant_10_it_holds_no_more_than_it_may_and_the_newest_are_there() {
        for capacity in [1, 2, 15, 16, 17, 100, 1000] {
            let table = VisitorTable::new(capacity);
            for number in 0..3000 {
                put(&table, number, number);
                assert_eq!(get(&table, number), Some(number));
                assert_eq!(table.len() as u64, capacity.min(u64::from(number) + 1));
            }
            let held = table.sets.iter().map(|set| set.lock().len());
            assert_eq!(held.sum::<usize>(), table.len());
        }
    }

    #[test]
    fn who_comes_often_stays() {
        let table = VisitorTable::new(320);
        for number in 0..10_000 {
            put(&table, number + 10, 0);
            for regular in 0..10 {
                if get(&table, regular).is_none() {
                    assert_eq!(number, 0, "{regular} was put out");
                    put(&table, regular, 1);
                }
            }
        }
    }

    #[test]
    fn many_threads_leave_it_whole() {
        let table = VisitorTable::new(50);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let table = &table;
                scope.spawn(move || {
                    for number in 0..500 {
                        put(table, (number * 7 + thread) % 80, number);
                        get(table, number % 80);
                        table.remove(&key((number * 3) % 80));
                    }
                });
            }
        });
        let held: usize = table.sets.iter().map(|set| set.lock().len()).sum();
        assert_eq!(held, table.len());
        assert!(held <= 50);
    }

    proptest! {
        /// As long as there is room it is a map.
        #[test]
        fn with_room_it_is_a_map(steps in proptest::collection::vec((0_u32..40, 0_u32..3), 0..200)) {
            let (table, mut map) = (VisitorTable::new(40), std::collections::HashMap::new());
            for (value, (number, step)) in (0..).zip(steps) {
                match step {
                    0 => {
                        put(&table, number, value);
                        map.insert(number, value);
                    }
                    1 => {
                        table.remove(&key(number));
                        map.remove(&number);
                    }
                    _ => prop_assert_eq!(get(&table, number), map.get(&number).copied()),
                }
                prop_assert_eq!(table.len(), map.len());
            }
        }
    }
}
