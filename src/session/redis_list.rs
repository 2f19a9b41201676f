//! The records of a Redis store in the order of their keys. The indexes are in another order, so that whole buckets are read for a page;
//! but the buckets are in this one.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use super::redis_keys::{self, Bucket, STATES};
use super::redis_scan::members_of;
use super::redis_scripts::Request;
use super::redis_store::RedisStore;
use super::store::{Found, StateTag, StoreError};
use crate::clock::Timestamp;
use crate::visitor::VisitorKey;

/// How many buckets one round trip reads at most. It begins with one, which in a large store is enough.
const MOST_BUCKETS: usize = 32;
/// How many members of an index one round trip reads, about.
const MEMBERS: &str = "1000";

impl RedisStore {
    pub(super) async fn list_range(
        &self,
        range: RangeInclusive<VisitorKey>,
        limit: usize,
        now: Timestamp,
    ) -> Result<Vec<Found>, StoreError> {
        let mut found = Vec::new();
        let (first, last) = (range.start(), range.end());
        if first == last {
            self.read_all(vec![*first], now, &mut found).await?;
            found.retain(|found| found.entry.state != StateTag::Internal);
            return Ok(found);
        }
        let buckets: Vec<_> = (redis_keys::bucket(first)..=redis_keys::bucket(last)).collect();
        let (mut left, mut width) = (&buckets[..], 1);
        while !left.is_empty() && found.len() < limit {
            let (next, rest) = left.split_at(width.min(left.len()));
            let members = self.members(next).await?;
            let keys: Vec<_> = members.range(range.clone()).copied().collect();
            let mut keys = &keys[..];
            while !keys.is_empty() && found.len() < limit {
                // Of what an index names, the expired are left out.
                let (some, others) = keys.split_at(keys.len().min(limit - found.len()));
                self.read_all(some.to_vec(), now, &mut found).await?;
                keys = others;
            }
            (left, width) = (rest, (2 * width).min(MOST_BUCKETS));
        }
        Ok(found)
    }

    /// All visitors in these buckets.
    async fn members(&self, buckets: &[Bucket]) -> Result<BTreeSet<VisitorKey>, StoreError> {
        let mut members = BTreeSet::new();
        let indexes = buckets
            .iter()
            .flat_map(|bucket| STATES.map(|state| (*bucket, state)))
            .filter(|(_, state)| *state != StateTag::Internal);
        let mut places: Vec<(Bucket, StateTag, u64)> =
            indexes.map(|(bucket, state)| (bucket, state, 0)).collect();
        while !places.is_empty() {
            let requests = places.iter().map(|(bucket, state, inside)| {
                let (index, inside) = (self.keys.index(*bucket, *state), inside.to_string());
                Request::command(*bucket, "ZSCAN", &[&index, &inside, "COUNT", MEMBERS])
            });
            let answers = self.ask_all("list", requests.collect()).await?;
            let mut unfinished = Vec::new();
            for ((bucket, state, _), answer) in places.into_iter().zip(answers) {
                let (inside, part) = members_of(answer)
                    .ok_or_else(|| self.nonsense("list", "members were expected"))?;
                members.extend(part.iter().filter_map(|member| redis_keys::visitor(member)));
                if inside != 0 {
                    unfinished.push((bucket, state, inside));
                }
            }
            places = unfinished;
        }
        Ok(members)
    }
}
