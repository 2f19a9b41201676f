//! What replicas on one Redis share beside records: leases, news, and its clock.

use std::time::Duration;

use async_trait::async_trait;
use redis::Value;
use tokio::sync::broadcast;

use super::redis_keys::bucket;
use super::redis_link::Confirm;
use super::redis_scripts::{ACQUIRE, RELEASE, RENEW, Request};
use super::redis_store::RedisStore;
use super::store::{Acquired, LeaseOwner, News, SharedStore, StoreError};
use crate::clock::Timestamp;
use crate::oauth::TokenFingerprint;
use crate::visitor::VisitorKey;

#[async_trait]
impl SharedStore for RedisStore {
    async fn acquire(
        &self,
        key: &VisitorKey,
        owner: &LeaseOwner,
        term: Duration,
        now: Timestamp,
    ) -> Result<Acquired, StoreError> {
        let request = ACQUIRE.request(
            bucket(key),
            [self.keys.lease(key), self.keys.record(key)],
            [owner.as_bytes().to_vec(), millis(term)],
        );
        let nonsense = || self.nonsense("take a lease", "a lease was expected");
        self.link.may_be_confirmed("take a lease")?;
        // What follows builds on the record that comes along, which somebody may have written without a confirmation: a replica that
        // has the lease has that, too.
        let answer = self.link.one("take a lease", request, Confirm::Yes).await?;
        let confirmed = self.link.confirmed("take a lease", &answer);
        let Value::Array(fields) = answer.value else {
            return Err(nonsense());
        };
        // A script's list ends at its first nil: no record.
        let mut fields = fields.into_iter();
        match (fields.next(), fields.next()) {
            (Some(Value::Int(1)), record) => {
                if let Err(error) = confirmed {
                    let _ = self.release(key, owner).await;
                    return Err(error);
                }
                let record = self.record("read", record.unwrap_or(Value::Nil))?;
                Ok(Acquired::Ours(
                    record.and_then(|record| record.visible(now)),
                ))
            }
            (Some(Value::Int(0)), Some(Value::Int(left))) => {
                let left = u64::try_from(left).unwrap_or(0);
                Ok(Acquired::Theirs(Duration::from_millis(left)))
            }
            _ => Err(nonsense()),
        }
    }

    async fn renew(
        &self,
        key: &VisitorKey,
        owner: &LeaseOwner,
        term: Duration,
    ) -> Result<bool, StoreError> {
        let args = [owner.as_bytes().to_vec(), millis(term)];
        let request = RENEW.request(bucket(key), [self.keys.lease(key)], args);
        let answer = self.ask("renew a lease", request).await?;
        Ok(self.number("renew a lease", &answer)? == 1)
    }

    async fn release(&self, key: &VisitorKey, owner: &LeaseOwner) -> Result<(), StoreError> {
        let args = [
            owner.as_bytes().to_vec(),
            self.keys.channel().into_bytes(),
            self.message(News::Released(*key)),
        ];
        let request = RELEASE.request(bucket(key), [self.keys.lease(key)], args);
        self.ask("release a lease", request).await?;
        Ok(())
    }

    async fn announce_rejection(
        &self,
        key: &VisitorKey,
        token: TokenFingerprint,
    ) -> Result<(), StoreError> {
        let message = self.message(News::Rejected(*key, token));
        let request = Request::publish(bucket(key), &self.keys.channel(), &message);
        self.ask("tell the others", request).await?;
        Ok(())
    }

    fn news(&self) -> broadcast::Receiver<News> {
        self.subscription.receiver()
    }

    async fn time(&self) -> Result<Timestamp, StoreError> {
        // In a cluster every master has a clock; all replicas ask the one that has the first bucket.
        let answer = self
            .ask("tell the time", Request::command(0, "TIME", &[]))
            .await?;
        let number = |value: &Value| match value {
            Value::BulkString(digits) => std::str::from_utf8(digits).ok()?.parse::<u64>().ok(),
            _ => None,
        };
        let time = match &answer {
            Value::Array(fields) => match fields.as_slice() {
                [secs, micros] => number(secs).zip(number(micros)),
                _ => None,
            },
            _ => None,
        };
        let (secs, micros) =
            time.ok_or_else(|| self.nonsense("tell the time", "a time was expected"))?;
        Ok(Timestamp::from_millis(secs * 1000 + micros / 1000))
    }
}

/// A term as Redis takes it: at least one millisecond.
fn millis(term: Duration) -> Vec<u8> {
    term.as_millis().max(1).to_string().into_bytes()
}
