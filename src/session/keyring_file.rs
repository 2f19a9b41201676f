//! The keyring's file: one key a line, `#` begins a comment, blank lines are free.
//!
//! Decides what a key looks like, and how a sidecar that was given none makes one exactly once. Errors name the file and
//! the line and say how to mend it; they never repeat what stands there.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use super::files;
use super::keyring::{KEY_LEN, Keyring, SealingKey};

/// What every key begins with: so that a scanner finds a leaked one, and a mistaken file is told apart.
const PREFIX: &str = "dsk1_";

const NOTICE: &str = "# Sealing keys of dressipi-sidecar: the first one seals, all of them open.
# Without them nothing in the store can be read: back this file up, and keep it secret.
";

/// Why there is no keyring.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// The file cannot be read.
    #[error("cannot read the keyring {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file did not exist and cannot be made.
    #[error(
        "cannot create the keyring {}: {source}; make one with `dressipi-sidecar keygen` and name it in `session.keys_file`",
        path.display()
    )]
    Create {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A line is wrong.
    #[error("{origin}, line {line}: {problem}")]
    Line {
        /// The file, or "the keyring" for a text without one.
        origin: String,
        /// The number of the line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: LineError,
    },
    /// There is no key in it.
    #[error("{origin}: holds no key; make one with `dressipi-sidecar keygen`")]
    Empty {
        /// The file, or "the keyring" for a text without one.
        origin: String,
    },
}

/// What is wrong with a line of the keyring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// It is not a key of ours.
    #[error("a key begins with `dsk1_`; make one with `dressipi-sidecar keygen`")]
    NotAKey,
    /// What follows the prefix is not base64url.
    #[error(
        "the key is not base64url without padding; copy the whole line that `dressipi-sidecar keygen` printed"
    )]
    NotBase64,
    /// The key is too short or too long.
    #[error(
        "the key has {found} bytes and not 32; copy the whole line that `dressipi-sidecar keygen` printed"
    )]
    WrongLength {
        /// How many bytes it has.
        found: usize,
    },
    /// The key stands on an earlier line too.
    #[error("the same key as on line {first}; remove one of the two")]
    Duplicate {
        /// The earlier line.
        first: usize,
    },
}

/// Whether [`Keyring::load_or_create`] made the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// The file was there.
    No,
    /// The file was made with a new key: whoever runs the sidecar should hear of it.
    Yes,
}

/// A new key, as a line of a keyring (without its end).
pub fn generate_key_line() -> String {
    let mut key = Zeroizing::new([0; KEY_LEN]);
    SystemRandom::new()
        .fill(&mut *key)
        .expect("the operating system's random generator does not fail once it has started");
    format!(
        "{PREFIX}{}",
        Zeroizing::new(URL_SAFE_NO_PAD.encode(*key)).as_str()
    )
}

/// The mode of a file with a secret in it that others than its owner can read or change; `None` where they cannot. A group that may
/// read is not counted: that is how Kubernetes gives a secret to a container that does not run as root (`fsGroup`).
pub fn loose_mode(path: &Path) -> Option<u32> {
    let mode = fs::metadata(path).ok()?.permissions().mode() & 0o777;
    (mode & 0o027 != 0).then_some(mode)
}

// === impl Keyring ===

impl Keyring {
    /// The keyring that `text` spells.
    pub fn parse(text: &str) -> Result<Keyring, KeyringError> {
        parse("the keyring", text)
    }

    /// The keyring in the file at `path`.
    pub fn load(path: &Path) -> Result<Keyring, KeyringError> {
        let text = fs::read_to_string(path).map_err(|source| KeyringError::Read {
            path: path.to_owned(),
            source,
        })?;
        parse(&path.display().to_string(), &Zeroizing::new(text))
    }

    /// The keyring in the file at `path`; if there is no such file, one is made with a new key. Processes that do this at
    /// the same time end up with the same key, and a key that this returns outlives a power cut.
    pub fn load_or_create(path: &Path) -> Result<(Keyring, Created), KeyringError> {
        match Self::load(path) {
            Err(KeyringError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            loaded => return Ok((loaded?, Created::No)),
        }
        let created = create(path).map_err(|source| KeyringError::Create {
            path: path.to_owned(),
            source,
        })?;
        Ok((Self::load(path)?, created))
    }
}

fn parse(origin: &str, text: &str) -> Result<Keyring, KeyringError> {
    let mut keys: Vec<SealingKey> = Vec::new();
    let mut lines = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let number = index + 1;
        let wrong = |problem| KeyringError::Line {
            origin: origin.to_owned(),
            line: number,
            problem,
        };
        let key = parse_key(line).map_err(wrong)?;
        // Different keys of one id are one chance in four thousand million; a line copied twice is what happens.
        if let Some(earlier) = keys.iter().position(|earlier| earlier.id() == key.id()) {
            let first = lines[earlier];
            return Err(wrong(LineError::Duplicate { first }));
        }
        keys.push(key);
        lines.push(number);
    }
    if keys.is_empty() {
        return Err(KeyringError::Empty {
            origin: origin.to_owned(),
        });
    }
    Ok(Keyring::from_keys(keys))
}

fn parse_key(line: &str) -> Result<SealingKey, LineError> {
    let encoded = line.strip_prefix(PREFIX).ok_or(LineError::NotAKey)?;
    let bytes = URL_SAFE_NO_PAD
        .decode(encoded)
        .map(Zeroizing::new)
        .map_err(|_| LineError::NotBase64)?;
    let key: &[u8; KEY_LEN] = bytes
        .as_slice()
        .try_into()
        .map_err(|_| LineError::WrongLength { found: bytes.len() })?;
    Ok(SealingKey::new(key))
}

/// Makes the file with one new key, unless there is one by then.
///
/// It is written whole under another name and then linked to its own: a link, unlike a rename, never replaces a file, and
/// unlike a file made in place it is never seen half written, not even after a crash.
fn create(path: &Path) -> io::Result<Created> {
    files::create_parents(path)?;
    let draft = draft_path(path);
    let linked = write_draft(&draft).and_then(|()| fs::hard_link(&draft, path));
    // Best effort: a draft that stays behind is a key that nothing was ever sealed with.
    let _ = fs::remove_file(&draft);
    match linked {
        Ok(()) => files::sync_parent(path).map(|()| Created::Yes),
        // Another process was faster. Its entry must be durable before we seal with its key.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            files::sync_parent(path).map(|()| Created::No)
        }
        Err(error) => Err(error),
    }
}

fn write_draft(draft: &Path) -> io::Result<()> {
    let mut file = files::create_new(draft)?;
    let text = Zeroizing::new(format!(
        "{NOTICE}{}\n",
        Zeroizing::new(generate_key_line()).as_str()
    ));
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn draft_path(path: &Path) -> PathBuf {
    let mut random = [0; 8];
    SystemRandom::new()
        .fill(&mut random)
        .expect("the operating system's random generator does not fail once it has started");
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{:016x}.new", u64::from_be_bytes(random)));
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    const CONTEXT: [u8; 32] = [1; 32];

    fn problem(text: &str) -> (usize, LineError) {
        match Keyring::parse(text) {
            Err(KeyringError::Line { line, problem, .. }) => (line, problem),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn comments_and_blank_lines_are_free() {
        let (first, second) = (generate_key_line(), generate_key_line());
        let text = format!("# keys\r\n\r\n  {first}  # since May\r\n\n{second}\n");
        let ring = Keyring::parse(&text).unwrap();
        let sealed = Keyring::parse(&first).unwrap().seal(&CONTEXT, b"token");
        assert_eq!(*ring.open(&CONTEXT, &sealed).unwrap(), b"token");
        let sealed = ring.seal(&CONTEXT, b"token");
        Keyring::parse(&first)
            .unwrap()
            .open(&CONTEXT, &sealed)
            .unwrap();
        Keyring::parse(&second)
            .unwrap()
            .open(&CONTEXT, &sealed)
            .unwrap_err();
    }

    #[test]
    fn a_wrong_line_is_named_with_what_is_wrong() {
        let key = generate_key_line();
        assert_eq!(problem("# keys\nhunter2"), (2, LineError::NotAKey));
        assert_eq!(problem(&format!("{key}=")), (1, LineError::NotBase64));
        assert_eq!(
            problem(&key[..key.len() - 3]),
            (1, LineError::WrongLength { found: 30 })
        );
        assert_eq!(problem("dsk1_"), (1, LineError::WrongLength { found: 0 }));
        assert_eq!(
            problem(&format!("\n{key}\n\n{key}")),
            (4, LineError::Duplicate { first: 2 })
        );
    }

    #[test]
    fn a_keyring_without_keys_is_refused() {
        assert!(matches!(
            Keyring::parse("# none\n\n"),
            Err(KeyringError::Empty { .. })
        ));
    }

    #[test]
    fn errors_name_the_file_and_repeat_nothing_of_a_key() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        let key = generate_key_line();
        let spoiled = [
            key.replace("dsk1_", "dsk2_"),
            format!("{key}!"),
            format!("{key}\n{key}"),
        ];
        for text in spoiled {
            fs::write(&path, text).unwrap();
            let error = Keyring::load(&path).unwrap_err();
            let told = format!("{error} {error:?}");
            assert!(
                told.starts_with(&format!("{}, line ", path.display())),
                "{told}"
            );
            assert!(!told.contains(&key[5..15]), "{told}");
        }
    }

    #[test]
    fn a_missing_file_is_made_once_for_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state/keys");
        let (ring, created) = Keyring::load_or_create(&path).unwrap();
        assert_eq!(created, Created::Yes);
        assert_eq!(loose_mode(&path), None);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        let sealed = ring.seal(&CONTEXT, b"token");
        let (again, created) = Keyring::load_or_create(&path).unwrap();
        assert_eq!(created, Created::No);
        assert_eq!(*again.open(&CONTEXT, &sealed).unwrap(), b"token");
    }

    #[test]
    fn all_who_create_at_the_same_time_get_the_same_key() {
        let directory = tempfile::tempdir().unwrap();
        for round in 0..20 {
            let path = directory.path().join(format!("keys-{round}"));
            let start = Barrier::new(8);
            let rings: Vec<_> = std::thread::scope(|scope| {
                let create = || {
                    start.wait();
                    Keyring::load_or_create(&path).unwrap()
                };
                let threads: Vec<_> = (0..8).map(|_| scope.spawn(create)).collect();
                threads
                    .into_iter()
                    .map(|thread| thread.join().unwrap())
                    .collect()
            });
            assert_eq!(
                rings
                    .iter()
                    .filter(|(_, created)| *created == Created::Yes)
                    .count(),
                1
            );
            let sealed = rings[0].0.seal(&CONTEXT, b"token");
            assert!(
                rings
                    .iter()
                    .all(|(ring, _)| ring.open(&CONTEXT, &sealed).is_ok())
            );
        }
    }

    #[test]
    fn an_unreadable_or_broken_file_is_never_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        fs::write(&path, "").unwrap();
        assert!(matches!(
            Keyring::load_or_create(&path),
            Err(KeyringError::Empty { .. })
        ));
        assert_eq!(fs::read_to_string(&path).unwrap(), "");
    }

    #[test]
    fn a_file_that_others_may_read_or_change_is_loose() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        fs::write(&path, generate_key_line()).unwrap();
        for mode in [0o644, 0o604, 0o660] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(loose_mode(&path), Some(mode));
        }
        for mode in [0o400, 0o600, 0o440, 0o640] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(loose_mode(&path), None);
        }
    }
}
