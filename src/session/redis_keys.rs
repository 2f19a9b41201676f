//! How records, leases and news look in Redis: names of keys, the head of a record, messages.
//!
//! All that belongs to one visitor lies in one of 256 buckets, by the first byte of its key. The bucket's number is the hash
//! tag of every key in it (`{3f}`), so that in a cluster a bucket lies on one server, and one script reaches a visitor's
//! record, its lease and the bucket's indexes. Names are hexadecimal: an operator finds a visitor by the digits in our log.
//!
//! | key | kind | what |
//! | --- | --- | --- |
//! | `<prefix>{3f}:r:<visitor>` | string | the record: a head of fixed width, then the sealed bytes |
//! | `<prefix>{3f}:l:<visitor>` | string with expiry | the lease: its owner |
//! | `<prefix>{3f}:i:<state>` | sorted set | the visitors in a state, by `expires_at` |
//! | `<prefix>{3f}:v` | string | the time part of the version last given in the bucket |
//! | `<prefix>{3f}:check` | string with expiry | what readiness writes |
//! | `<prefix>news` | channel | what replicas tell each other |

use bytes::Bytes;

use super::cas::has_expired;
use super::store::{Entry, News, StateTag, Stored, Version};
use crate::clock::Timestamp;
use crate::oauth::TokenFingerprint;
use crate::visitor::VisitorKey;

/// The number of a bucket: the first byte of the keys in it.
pub(super) type Bucket = u8;

/// The states that have an index, in the order of their numbers.
pub(super) const STATES: [StateTag; 5] = [
    StateTag::Internal,
    StateTag::Unconfirmed,
    StateTag::Granted,
    StateTag::Active,
    StateTag::Lost,
];

/// `1`, the version (16 hexadecimal digits), `expires_at` (20 decimal digits), the state (one digit). Digits of fixed width,
/// because Lua's numbers are doubles: scripts compare them as texts. The scripts know this number.
const HEAD: usize = 1 + 16 + 20 + 1;
const FORMAT: u8 = b'1';

/// The first byte of a message.
const MESSAGE: u8 = 1;
const CHANGED: u8 = b'c';
const ERASED: u8 = b'e';
const RELEASED: u8 = b'r';
const REJECTED: u8 = b'j';

/// Names everything in one database of Redis.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: String,
}

/// A random name for one store, by which it knows its own messages.
pub(super) type Sender = [u8; 16];

/// A record with what its head says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) version: Version,
    pub(super) entry: Entry,
}

// === impl Keys ===

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        let prefix = prefix.to_owned();
        Self { prefix }
    }

    pub(super) fn record(&self, key: &VisitorKey) -> String {
        self.of_visitor(key, "r")
    }

    pub(super) fn lease(&self, key: &VisitorKey) -> String {
        self.of_visitor(key, "l")
    }

    pub(super) fn index(&self, bucket: Bucket, state: StateTag) -> String {
        self.of_bucket(bucket, &format!("i:{}", state as u8))
    }

    pub(super) fn version_clock(&self, bucket: Bucket) -> String {
        self.of_bucket(bucket, "v")
    }

    pub(super) fn check(&self, bucket: Bucket) -> String {
        self.of_bucket(bucket, "check")
    }

    pub(super) fn channel(&self) -> String {
        format!("{}news", self.prefix)
    }

    /// What a cluster hashes of every key in the bucket.
    pub(super) fn tag(bucket: Bucket) -> String {
        format!("{bucket:02x}")
    }

    fn of_visitor(&self, key: &VisitorKey, kind: &str) -> String {
        let rest = format!("{kind}:{}", member(key));
        self.of_bucket(bucket(key), &rest)
    }

    fn of_bucket(&self, bucket: Bucket, rest: &str) -> String {
        format!("{}{{{}}}:{rest}", self.prefix, Self::tag(bucket))
    }
}

pub(super) fn bucket(key: &VisitorKey) -> Bucket {
    key.as_bytes()[0]
}

/// A visitor's name in keys and indexes.
pub(super) fn member(key: &VisitorKey) -> String {
    key.to_hex()
}

/// The visitor of that name.
pub(super) fn visitor(member: &[u8]) -> Option<VisitorKey> {
    VisitorKey::from_hex(member)
}

/// A time as scripts compare it.
pub(super) fn time_digits(time: Timestamp) -> String {
    format!("{:020}", time.as_millis())
}

pub(super) fn version_digits(version: Version) -> String {
    format!("{:016x}", version.0)
}

pub(super) fn parse_version(digits: &[u8]) -> Option<Version> {
    let digits = std::str::from_utf8(digits).ok()?;
    let version = u64::from_str_radix(digits, 16).ok()?;
    (digits.len() == 16).then_some(Version(version))
}

// === impl Record ===

impl Record {
    /// Of the bytes that lie in Redis; `None`: they are no record of ours.
    pub(super) fn parse(value: Vec<u8>) -> Option<Self> {
        let head = value.get(..HEAD)?;
        if head[0] != FORMAT {
            return None;
        }
        let version = parse_version(&head[1..17])?;
        let expires_at = std::str::from_utf8(&head[17..37]).ok()?.parse().ok()?;
        let state = StateTag::from_byte(head[37].wrapping_sub(b'0'))?;
        let entry = Entry {
            sealed: Bytes::from(value).slice(HEAD..),
            state,
            expires_at: Timestamp::from_millis(expires_at),
        };
        Some(Self { version, entry })
    }

    /// What a reader sees of it at `now`.
    pub(super) fn visible(self, now: Timestamp) -> Option<Stored> {
        (!has_expired(self.entry.expires_at, now)).then_some(Stored {
            version: self.version,
            sealed: self.entry.sealed,
        })
    }
}

/// The message that tells the other replicas `news`.
pub(super) fn message(sender: &Sender, news: News) -> Vec<u8> {
    let mut message = vec![MESSAGE];
    message.extend_from_slice(sender);
    let (kind, key) = match &news {
        News::Changed(key) => (CHANGED, Some(key)),
        News::Erased(key) => (ERASED, Some(key)),
        News::Released(key) => (RELEASED, Some(key)),
        News::Rejected(key, _) => (REJECTED, Some(key)),
        // Never told: whoever has missed something notices it.
        News::Gap => (0, None),
    };
    message.push(kind);
    if let Some(key) = key {
        message.extend_from_slice(key.as_bytes());
    }
    if let News::Rejected(_, token) = &news {
        message.extend_from_slice(token.as_bytes());
    }
    message
}

/// What a message tells; `None`: it is our own. One that makes no sense, of a later version perhaps, is a gap.
pub(super) fn heard(message: &[u8], own: &Sender) -> Option<News> {
    let read = || {
        let (&format, rest) = message.split_first()?;
        let (sender, rest) = rest.split_first_chunk::<16>()?;
        let (&kind, rest) = rest.split_first()?;
        let (key, rest) = rest.split_first_chunk::<32>()?;
        let key = VisitorKey::from_bytes(*key);
        let news = match (format, kind) {
            (MESSAGE, CHANGED) => News::Changed(key),
            (MESSAGE, ERASED) => News::Erased(key),
            (MESSAGE, RELEASED) => News::Released(key),
            (MESSAGE, REJECTED) => {
                News::Rejected(key, TokenFingerprint::from_bytes(rest.try_into().ok()?))
            }
            _ => return None,
        };
        Some((*sender, news))
    };
    match read() {
        Some((sender, _)) if sender == *own => None,
        Some((_, news)) => Some(news),
        None => Some(News::Gap),
    }
}

/// The slot of a hash tag in a cluster: CRC16 (XMODEM) modulo 16384, as the cluster specification has it.
pub(super) fn slot(tag: &str) -> u16 {
    let crc = tag.bytes().fold(0u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
            let shifted = crc << 1;
            if crc & 0x8000 == 0 {
                shifted
            } else {
                shifted ^ 0x1021
            }
        })
    });
    crc % 16384
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: VisitorKey = VisitorKey::from_bytes([0x3f; 32]);
    const NOW: Timestamp = Timestamp::from_secs(1000);

    #[test]
    fn all_keys_of_a_visitor_have_one_hash_tag() {
        let keys = Keys::new("shop:");
        let member = "3f".repeat(32);
        assert_eq!(keys.record(&KEY), format!("shop:{{3f}}:r:{member}"));
        assert_eq!(keys.lease(&KEY), format!("shop:{{3f}}:l:{member}"));
        assert_eq!(keys.index(0x3f, StateTag::Active), "shop:{3f}:i:3");
        assert_eq!(keys.version_clock(0x3f), "shop:{3f}:v");
        assert_eq!(keys.channel(), "shop:news");
        assert_eq!(visitor(member.as_bytes()), Some(KEY));
        assert_eq!(visitor(b"+f"), None);
    }

    #[test]
    fn slots_are_those_of_the_cluster_specification() {
        assert_eq!(slot("123456789"), 0x31C3);
        assert_eq!(slot("foo"), 12182);
    }

    #[test]
    fn a_record_that_is_none_of_ours_is_refused() {
        let good = format!("1{:016x}{:020}3sealed", 77, 5_000_000);
        let record = Record::parse(good.clone().into_bytes()).unwrap();
        assert_eq!(record.version, Version(77));
        assert_eq!(record.entry.state, StateTag::Active);
        assert_eq!(record.entry.expires_at, Timestamp::from_secs(5000));
        assert_eq!(record.entry.sealed, "sealed");
        assert!(record.clone().visible(NOW).is_some());
        assert!(record.visible(Timestamp::from_secs(5001)).is_none());
        for bad in [
            "".to_owned(),
            good[..37].to_owned(),
            good.replacen('1', "2", 1),
            good.replacen("3sealed", "9sealed", 1),
            good.replacen("0000", "zzzz", 1),
        ] {
            assert_eq!(Record::parse(bad.clone().into_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_message_is_heard_by_everybody_but_its_sender() {
        let token = TokenFingerprint::from_bytes([9; 8]);
        for news in [
            News::Changed(KEY),
            News::Erased(KEY),
            News::Released(KEY),
            News::Rejected(KEY, token),
        ] {
            let message = message(&[1; 16], news);
            assert_eq!(heard(&message, &[2; 16]), Some(news));
            assert_eq!(heard(&message, &[1; 16]), None);
            let cut = &message[..message.len() - 1];
            assert_eq!(heard(cut, &[2; 16]), Some(News::Gap));
        }
        assert_eq!(heard(b"", &[2; 16]), Some(News::Gap));
    }
}
