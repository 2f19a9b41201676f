//! The store in Redis or Valkey, for several replicas: what each call asks, and what the answers mean.
//!
//! A call is one round trip: reads are single commands, everything that decides is a script, since only inside one nothing
//! comes between looking and writing. What Redis itself cannot promise is written in the README: replication is asynchronous.
//!
//! **A write that too few replicas confirm in time does not count.** It is reported as an error, though it may have landed: the
//! caller keeps the newer session and writes it again. Counting it would call saved what the next failover may lose.

use std::ops::RangeInclusive;
use std::sync::Arc;

use async_trait::async_trait;
use rand::TryRng;
use rand::rngs::SysRng;
use redis::Value;

use super::redis_keys::{self, Bucket, Keys, Record, STATES, Sender, bucket};
use super::redis_link::{Confirm, Link};
use super::redis_news::Subscription;
use super::redis_outcome::{Answer, Failure};
use super::redis_scan::{Place, STEPS};
use super::redis_scripts::{FORGET, PUT, REMOVE, Request};
use super::store::{
    Census, Cursor, Entry, Found, News, Page, PutError, SharedStore, StateTag, Store, StoreError,
    Stored, Version,
};
use crate::clock::Timestamp;
use crate::visitor::VisitorKey;

/// How long Redis keeps a record beyond its expiry: a writer who names its version may hold the only copy of a rotated
/// refresh token.
const KEPT_LONGER: u64 = 24 * 3600 * 1000;
/// What expires later than this is not given an expiry in Redis; the sweep forgets it.
const LONGEST_EXPIRY: u64 = 20 * 366 * 24 * 3600 * 1000;
/// How many records one round trip forgets.
const SWEEP_CHUNK: usize = 256;

/// A store in Redis or Valkey.
pub struct RedisStore {
    pub(super) link: Arc<Link>,
    pub(super) keys: Keys,
    pub(super) sender: Sender,
    pub(super) subscription: Subscription,
}

// === impl RedisStore ===

impl RedisStore {
    /// How many exchanges of request and answer with Redis the calls of this store have made.
    pub fn round_trips(&self) -> u64 {
        self.link.round_trips()
    }

    pub(super) async fn ask(
        &self,
        operation: &'static str,
        request: Request,
    ) -> Result<Value, StoreError> {
        let answer = self.link.one(operation, request, Confirm::No).await?;
        Ok(answer.value)
    }

    pub(super) async fn ask_all(
        &self,
        operation: &'static str,
        requests: Vec<Request>,
    ) -> Result<Vec<Value>, StoreError> {
        let answers = self.link.all(operation, requests, Confirm::No).await?;
        Ok(answers.into_iter().map(|answer| answer.value).collect())
    }

    pub(super) fn nonsense(&self, operation: &'static str, what: &'static str) -> StoreError {
        self.link.error(operation, Failure::Nonsense(what))
    }

    /// A record, of the answer to `GET`.
    pub(super) fn record(
        &self,
        operation: &'static str,
        answer: Value,
    ) -> Result<Option<Record>, StoreError> {
        match answer {
            Value::Nil => Ok(None),
            Value::BulkString(value) => match Record::parse(value) {
                Some(record) => Ok(Some(record)),
                None => Err(self.nonsense(operation, "the key holds no record of ours")),
            },
            _ => Err(self.nonsense(operation, "a record was expected")),
        }
    }

    pub(super) fn number(
        &self,
        operation: &'static str,
        answer: &Value,
    ) -> Result<u64, StoreError> {
        match answer {
            Value::Int(number) if *number >= 0 => Ok(number.unsigned_abs()),
            _ => Err(self.nonsense(operation, "a number was expected")),
        }
    }

    pub(super) fn message(&self, news: News) -> Vec<u8> {
        redis_keys::message(&self.sender, news)
    }

    /// The bucket's indexes, in the order that the scripts know.
    fn indexes(&self, bucket: Bucket) -> [String; 5] {
        STATES.map(|state| self.keys.index(bucket, state))
    }

    fn put_request(
        &self,
        key: &VisitorKey,
        expected: Option<Version>,
        entry: Entry,
        now: Timestamp,
    ) -> Result<Request, StoreError> {
        let mut nonce = [0; 4];
        SysRng
            .try_fill_bytes(&mut nonce)
            .map_err(|error| StoreError::Unavailable {
                operation: "write",
                source: Box::new(error),
            })?;
        let nonce = u32::from_le_bytes(nonce) & 0xf_ffff;
        let bucket = bucket(key);
        let [i0, i1, i2, i3, i4] = self.indexes(bucket);
        let keys = [
            self.keys.record(key),
            self.keys.version_clock(bucket),
            i0,
            i1,
            i2,
            i3,
            i4,
        ];
        // Relative, so that a clock of ours that is wrong does no harm in Redis.
        let left = entry.expires_at.as_millis().saturating_sub(now.as_millis());
        let expiry = match left {
            left if left > LONGEST_EXPIRY => String::new(),
            left => (left + KEPT_LONGER).to_string(),
        };
        let expected = expected.map(redis_keys::version_digits);
        let args = [
            expected.unwrap_or_default().into_bytes(),
            redis_keys::time_digits(now).into_bytes(),
            format!("{nonce:05x}").into_bytes(),
            redis_keys::time_digits(entry.expires_at).into_bytes(),
            (entry.state as u8).to_string().into_bytes(),
            entry.sealed.to_vec(),
            expiry.into_bytes(),
            redis_keys::member(key).into_bytes(),
            self.keys.channel().into_bytes(),
            self.message(News::Changed(*key)),
        ];
        Ok(PUT.request(bucket, keys, args))
    }

    /// What the script answers: whether it wrote, and the version that lies there now.
    fn put_answer(&self, answer: &Answer) -> Result<Version, PutError> {
        let nonsense = || self.nonsense("write", "a version was expected");
        let Value::Array(fields) = &answer.value else {
            return Err(nonsense().into());
        };
        let [Value::Int(wrote), Value::BulkString(version)] = fields.as_slice() else {
            return Err(nonsense().into());
        };
        let version = match version.is_empty() {
            true => None,
            false => Some(redis_keys::parse_version(version).ok_or_else(nonsense)?),
        };
        match (wrote, version) {
            (1, Some(version)) => {
                self.link.confirmed("write", answer)?;
                Ok(version)
            }
            (0, current) => Err(PutError::Conflict { current }),
            _ => Err(nonsense().into()),
        }
    }

    /// Members of the indexes that expired before `now`: at most `limit`.
    async fn expired(&self, now: Timestamp, limit: usize) -> Result<Vec<VisitorKey>, StoreError> {
        let before = format!("({}", now.as_millis());
        let each = limit.min(SWEEP_CHUNK).to_string();
        let requests = indexes().map(|(bucket, state)| {
            let index = self.keys.index(bucket, state);
            let range = [&index, "-inf", before.as_str(), "LIMIT", "0", each.as_str()];
            Request::command(bucket, "ZRANGEBYSCORE", &range)
        });
        let mut expired = Vec::new();
        for members in self.ask_all("sweep", requests.collect()).await? {
            let Value::Array(members) = members else {
                return Err(self.nonsense("sweep", "members were expected"));
            };
            expired.extend(members.iter().filter_map(|member| match member {
                Value::BulkString(member) => redis_keys::visitor(member),
                _ => None,
            }));
        }
        expired.truncate(limit);
        Ok(expired)
    }
}

/// Every index of every bucket.
fn indexes() -> impl Iterator<Item = (Bucket, StateTag)> {
    (0..=Bucket::MAX).flat_map(|bucket| STATES.map(|state| (bucket, state)))
}

#[async_trait]
impl Store for RedisStore {
    async fn load(&self, key: &VisitorKey, now: Timestamp) -> Result<Option<Stored>, StoreError> {
        let name = self.keys.record(key);
        let answer = self
            .ask("read", Request::command(bucket(key), "GET", &[&name]))
            .await?;
        let record = self.record("read", answer)?;
        Ok(record.and_then(|record| record.visible(now)))
    }

    async fn put(
        &self,
        key: &VisitorKey,
        expected: Option<Version>,
        entry: Entry,
        now: Timestamp,
    ) -> Result<Version, PutError> {
        let request = self.put_request(key, expected, entry, now)?;
        let answer = self.link.one("write", request, Confirm::Yes).await?;
        self.put_answer(&answer)
    }

    async fn remove(&self, key: &VisitorKey) -> Result<bool, StoreError> {
        let bucket = bucket(key);
        let [i0, i1, i2, i3, i4] = self.indexes(bucket);
        let request = REMOVE.request(
            bucket,
            [self.keys.record(key), i0, i1, i2, i3, i4],
            [
                redis_keys::member(key).into_bytes(),
                self.keys.channel().into_bytes(),
                self.message(News::Erased(*key)),
            ],
        );
        let answer = self.link.one("remove", request, Confirm::Yes).await?;
        self.link.confirmed("remove", &answer)?;
        // A retry finds nothing where its first attempt has removed: then this says that there was none.
        Ok(self.number("remove", &answer.value)? == 1)
    }

    async fn check(&self) -> Result<(), StoreError> {
        // A write to each master, as far as writes must get.
        let buckets = self.link.representatives().await?.into_iter();
        let requests = buckets.map(|bucket| {
            let name = self.keys.check(bucket);
            Request::command(bucket, "SET", &[&name, "1", "PX", "60000"])
        });
        let requests = requests.collect();
        for answer in self.link.all("check", requests, Confirm::Yes).await? {
            self.link.confirmed("check", &answer)?;
        }
        Ok(())
    }

    async fn census(&self) -> Result<Census, StoreError> {
        let counted: Vec<_> = indexes()
            .filter(|(_, state)| *state != StateTag::Internal)
            .collect();
        let requests = counted.iter().map(|(bucket, state)| {
            let index = self.keys.index(*bucket, *state);
            Request::command(*bucket, "ZCARD", &[&index])
        });
        let answers = self.ask_all("count", requests.collect()).await?;
        let mut census = Census::default();
        for ((_, state), answer) in counted.iter().zip(&answers) {
            if let Some(count) = census.count_mut(*state) {
                *count += self.number("count", answer)?;
            }
        }
        Ok(census)
    }

    async fn scan(
        &self,
        cursor: Option<Cursor>,
        limit: usize,
        now: Timestamp,
    ) -> Result<Page, StoreError> {
        let mut place =
            match &cursor {
                None => Some(Place::FIRST),
                Some(cursor) => Some(Place::of_cursor(cursor).ok_or_else(|| {
                    self.nonsense("scan", "the cursor is not one of this store's")
                })?),
            };
        let mut found = Vec::new();
        while let Some(from) = place
            && found.len() < limit.max(1)
        {
            let steps = limit.clamp(1, STEPS);
            place = self.scan_from(from, steps, limit, now, &mut found).await?;
        }
        Ok(Page {
            found,
            next: place.map(Place::cursor),
        })
    }

    async fn list(
        &self,
        keys: RangeInclusive<VisitorKey>,
        limit: usize,
        now: Timestamp,
    ) -> Result<Vec<Found>, StoreError> {
        self.list_range(keys, limit, now).await
    }

    async fn sweep(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        let mut forgotten = 0;
        while forgotten < limit {
            let expired = self.expired(now, limit - forgotten).await?;
            let before = forgotten;
            for keys in expired.chunks(SWEEP_CHUNK) {
                let requests = keys.iter().map(|key| {
                    let bucket = bucket(key);
                    let [i0, i1, i2, i3, i4] = self.indexes(bucket);
                    let names = [self.keys.record(key), i0, i1, i2, i3, i4];
                    let args = [redis_keys::time_digits(now), redis_keys::member(key)];
                    FORGET.request(bucket, names, args.map(String::into_bytes))
                });
                for answer in self.ask_all("sweep", requests.collect()).await? {
                    forgotten += usize::from(self.number("sweep", &answer)? == 1);
                }
            }
            if forgotten == before {
                break;
            }
        }
        Ok(forgotten)
    }

    async fn close(&self) {
        self.subscription.end();
        self.link.close().await;
    }

    fn shared(&self) -> Option<&dyn SharedStore> {
        Some(self)
    }
}
