//! The scripts, and what is asked of Redis: each request is one command or one script, all of whose keys lie in one bucket.
//!
//! Scripts go by their hash (`EVALSHA`). They are loaded on every new connection, so that a request costs one round trip;
//! where a server has forgotten them (`SCRIPT FLUSH`, a failover), the request is sent once more with the script's text.

use std::sync::LazyLock;

use redis::Cmd;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use super::redis_keys::Bucket;

/// A Lua script.
#[derive(Debug)]
pub(super) struct Script {
    text: &'static str,
    /// Its name in Redis: the hash of its text. Nothing depends on it being hard to forge.
    hash: LazyLock<String>,
}

macro_rules! scripts {
    ($($name:ident = $file:literal),* $(,)?) => {
        $(pub(super) static $name: Script = Script {
            text: include_str!(concat!("redis_scripts/", $file)),
            hash: LazyLock::new(|| hash(include_str!(concat!("redis_scripts/", $file)))),
        };)*
        /// All of them.
        pub(super) static SCRIPTS: &[&Script] = &[$(&$name),*];
    };
}

scripts! {
    PUT = "put.lua",
    REMOVE = "remove.lua",
    FORGET = "forget.lua",
    ACQUIRE = "acquire.lua",
    RENEW = "renew.lua",
    RELEASE = "release.lua",
}

/// One thing asked of the server that has a bucket.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) bucket: Bucket,
    what: What,
}

#[derive(Debug)]
enum What {
    Command(Cmd),
    Script {
        script: &'static Script,
        keys: usize,
        args: Vec<Vec<u8>>,
    },
}

/// How a script is named in a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Naming {
    /// By its hash.
    #[default]
    Hash,
    /// By its text.
    Text,
}

fn hash(text: &str) -> String {
    let digest = digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    let digits = digest.as_ref().iter().map(|byte| format!("{byte:02x}"));
    digits.collect()
}

// === impl Script ===

impl Script {
    /// Has a server learn it.
    pub(super) fn load(&self) -> Cmd {
        let mut load = redis::cmd("SCRIPT");
        load.arg("LOAD").arg(self.text);
        load
    }

    /// To be run with keys, all of them in `bucket`, and arguments.
    pub(super) fn request<const K: usize>(
        &'static self,
        bucket: Bucket,
        keys: [String; K],
        args: impl IntoIterator<Item = Vec<u8>>,
    ) -> Request {
        let keys = keys.into_iter().map(String::into_bytes);
        let args = keys.chain(args).collect();
        let what = What::Script {
            script: self,
            keys: K,
            args,
        };
        Request { bucket, what }
    }
}

// === impl Request ===

impl Request {
    /// A command whose keys, if it has any, lie in `bucket`.
    pub(super) fn command(bucket: Bucket, name: &str, args: &[&str]) -> Self {
        let mut command = redis::cmd(name);
        command.arg(args);
        let what = What::Command(command);
        Self { bucket, what }
    }

    /// A message on a channel, sent by the server that has `bucket`.
    pub(super) fn publish(bucket: Bucket, channel: &str, message: &[u8]) -> Self {
        let mut command = redis::cmd("PUBLISH");
        command.arg(channel).arg(message);
        let what = What::Command(command);
        Self { bucket, what }
    }

    /// As it is sent.
    pub(super) fn to_command(&self, naming: Naming) -> Cmd {
        match &self.what {
            What::Command(command) => command.clone(),
            What::Script { script, keys, args } => {
                let mut command = match naming {
                    Naming::Hash => redis::cmd("EVALSHA"),
                    Naming::Text => redis::cmd("EVAL"),
                };
                command.arg(match naming {
                    Naming::Hash => script.hash.as_str(),
                    Naming::Text => script.text,
                });
                command.arg(*keys);
                for arg in args {
                    command.arg(arg.as_slice());
                }
                command
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_the_one_that_redis_makes() {
        assert_eq!(hash("return 1"), "e0e1f9fabfc9d4800c877a703b823ac0578ff8db");
    }

    #[test]
    fn a_request_is_sent_by_hash_or_by_text() {
        let request = RENEW.request(1, ["key".to_owned()], [b"owner".to_vec(), b"9".to_vec()]);
        let sent =
            |naming| String::from_utf8(request.to_command(naming).get_packed_command()).unwrap();
        assert!(sent(Naming::Hash).starts_with("*6\r\n$7\r\nEVALSHA\r\n$40\r\n"));
        assert!(sent(Naming::Text).contains("PEXPIRE"));
        assert!(sent(Naming::Text).ends_with("$3\r\nkey\r\n$5\r\nowner\r\n$1\r\n9\r\n"));
    }
}
