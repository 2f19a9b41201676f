//! Going through all records of a Redis store: index by index, each with `ZSCAN`, which misses no member that is there all
//! the while.
//!
//! A record that changes its state meanwhile is written meanwhile, and may come or not. The states are gone through in the
//! order in which a visitor goes through them, so that most of those come too.

use bytes::Bytes;
use redis::Value;

use super::redis_keys::{self, Bucket, STATES};
use super::redis_scripts::Request;
use super::redis_store::RedisStore;
use super::store::{Cursor, Found, StoreError};
use crate::clock::Timestamp;
use crate::visitor::VisitorKey;

/// How many indexes one round trip goes on in, at most.
pub(super) const STEPS: usize = 64;

/// Where a scan goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    bucket: Bucket,
    /// Which of [`STATES`].
    state: usize,
    /// Redis' own cursor in that index.
    inside: u64,
}

// === impl Place ===

impl Place {
    pub(super) const FIRST: Self = Self {
        bucket: 0,
        state: 0,
        inside: 0,
    };

    pub(super) fn cursor(self) -> Cursor {
        let mut bytes = vec![self.bucket, self.state as u8];
        bytes.extend_from_slice(&self.inside.to_be_bytes());
        Cursor(Bytes::from(bytes))
    }

    pub(super) fn of_cursor(cursor: &Cursor) -> Option<Self> {
        let (&[bucket, state], inside) = cursor.0.split_first_chunk::<2>()?;
        let place = Self {
            bucket,
            state: usize::from(state),
            inside: u64::from_be_bytes(inside.try_into().ok()?),
        };
        (place.state < STATES.len()).then_some(place)
    }

    /// The beginning of the next index.
    fn next(self) -> Option<Self> {
        let (bucket, state) = match self.state + 1 {
            state if state < STATES.len() => (self.bucket, state),
            _ => (self.bucket.checked_add(1)?, 0),
        };
        Some(Self {
            bucket,
            state,
            inside: 0,
        })
    }
}

// === impl RedisStore ===

impl RedisStore {
    /// Reads on from `place` in as many indexes as `steps` says; returns where to go on.
    pub(super) async fn scan_from(
        &self,
        place: Place,
        steps: usize,
        count: usize,
        now: Timestamp,
        found: &mut Vec<Found>,
    ) -> Result<Option<Place>, StoreError> {
        let places: Vec<_> = std::iter::successors(Some(place), |place| place.next())
            .take(steps)
            .collect();
        let requests = places.iter().map(|place| {
            let index = self.keys.index(place.bucket, STATES[place.state]);
            let (inside, count) = (place.inside.to_string(), count.max(1).to_string());
            Request::command(place.bucket, "ZSCAN", &[&index, &inside, "COUNT", &count])
        });
        let answers = self.ask_all("scan", requests.collect()).await?;
        let mut members = Vec::new();
        let mut last = None;
        for (place, answer) in places.iter().zip(answers) {
            let (inside, part) =
                members_of(answer).ok_or_else(|| self.nonsense("scan", "members were expected"))?;
            members.extend(part);
            let rest = Place { inside, ..*place };
            last = Some(rest);
            // The others begin anew after this one.
            if inside != 0 {
                break;
            }
        }
        let keys = members
            .iter()
            .filter_map(|member| redis_keys::visitor(member));
        self.read_all(keys.collect(), now, found).await?;
        Ok(last.and_then(|last| match last.inside {
            0 => last.next(),
            _ => Some(last),
        }))
    }

    /// Reads the records of `keys`, in that order.
    pub(super) async fn read_all(
        &self,
        keys: Vec<VisitorKey>,
        now: Timestamp,
        found: &mut Vec<Found>,
    ) -> Result<(), StoreError> {
        if keys.is_empty() {
            return Ok(());
        }
        let requests = keys.iter().map(|key| {
            let name = self.keys.record(key);
            Request::command(redis_keys::bucket(key), "GET", &[&name])
        });
        let answers = self.ask_all("scan", requests.collect()).await?;
        for (key, answer) in keys.into_iter().zip(answers) {
            let Some(record) = self.record("scan", answer)? else {
                continue;
            };
            if super::cas::has_expired(record.entry.expires_at, now) {
                continue;
            }
            found.push(Found {
                key,
                version: record.version,
                entry: record.entry,
            });
        }
        Ok(())
    }
}

/// Redis' cursor and the members, of an answer to `ZSCAN`: members and scores by turns.
pub(super) fn members_of(answer: Value) -> Option<(u64, Vec<Vec<u8>>)> {
    let Value::Array(fields) = answer else {
        return None;
    };
    let Ok([Value::BulkString(inside), Value::Array(pairs)]) = <[Value; 2]>::try_from(fields)
    else {
        return None;
    };
    let inside = std::str::from_utf8(&inside).ok()?.parse().ok()?;
    let members = pairs.into_iter().step_by(2).map(|member| match member {
        Value::BulkString(member) => Some(member),
        _ => None,
    });
    Some((inside, members.collect::<Option<_>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_leads_back_to_its_place() {
        let place = Place {
            bucket: 7,
            state: 4,
            inside: u64::MAX - 1,
        };
        assert_eq!(Place::of_cursor(&place.cursor()), Some(place));
        for bad in [&b""[..], &[1], &[0, 5, 0, 0, 0, 0, 0, 0, 0, 0], &[0; 11]] {
            assert_eq!(Place::of_cursor(&Cursor(Bytes::from(bad))), None);
        }
    }

    #[test]
    fn the_places_end_after_the_last_index_of_the_last_bucket() {
        let places = std::iter::successors(Some(Place::FIRST), |place| place.next());
        assert_eq!(places.count(), 256 * 5);
    }
}
