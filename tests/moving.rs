//! Moving visitor sessions: what an export holds, and what an import does to a store. `tests/moving_live.rs` has the same with
//! real processes.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dressipi_sidecar::clock::{Clock, ManualClock, Timestamp};
use dressipi_sidecar::oauth::{
    AccessToken, AuthorizationCode, CodeVerifier, Grant, RefreshToken, TokenSet,
};
use dressipi_sidecar::secret::Secret;
use dressipi_sidecar::session::moving::{
    Adoption, ExportError, Exporter, FormatError, ImportError, ImportFailed, Summary, import,
};
use dressipi_sidecar::session::{
    Keyring, MemoryStore, RedbStore, State, Store, Vault, VisitorSession, generate_key_line,
};
use dressipi_sidecar::visitor::{IdentityKey, Namespace, VisitorKey};
use futures::stream;
use proptest::prelude::*;

const NOW: Timestamp = Timestamp::from_secs(4_000_000_000);
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

fn clock() -> Arc<dyn Clock> {
    Arc::new(ManualClock::new(NOW))
}

fn memory(keys: &str) -> Vault {
    vault(Arc::new(MemoryStore::new(10_000)), keys)
}

fn vault(store: Arc<dyn Store>, keys: &str) -> Vault {
    Vault::new(store, Keyring::parse(keys).unwrap(), YEAR)
}

fn redb(folder: &tempfile::TempDir, name: &str, keys: &str) -> Vault {
    let store = RedbStore::open(&folder.path().join(name), 1 << 20).unwrap();
    vault(Arc::new(store), keys)
}

fn visitor(number: u8) -> VisitorKey {
    VisitorKey::from_bytes([number + 1; 32])
}

fn tokens(generation: u32) -> TokenSet {
    TokenSet {
        access: AccessToken::new(Secret::new(format!("access-{generation}"))),
        refresh: RefreshToken::new(Secret::new(format!("refresh-{generation}"))),
        obtained_at: NOW,
        expires_at: NOW + Duration::from_secs(900),
        generation,
    }
}

fn session(profiles: u32, state: State) -> VisitorSession {
    VisitorSession {
        created_at: NOW,
        profiles,
        losses: 0,
        state,
    }
}

fn active(generation: u32) -> VisitorSession {
    session(1, State::Active(tokens(generation)))
}

fn granted(profiles: u32) -> VisitorSession {
    let grant = Grant {
        code: AuthorizationCode::new(Secret::new("code")),
        verifier: CodeVerifier::from_stored(Secret::new("verifier")),
    };
    let state = State::Granted {
        grant,
        granted_at: NOW,
        attempts: 0,
    };
    session(profiles, state)
}

fn lost(generation: u32, attempts: u32) -> VisitorSession {
    let state = State::Lost {
        tokens: tokens(generation),
        lost_at: NOW,
        attempts,
        not_before: NOW,
    };
    session(1, state)
}

/// One visitor's life, in order.
fn life(moment: usize) -> VisitorSession {
    match moment {
        0 => granted(1),
        1 => session(
            1,
            State::Unconfirmed {
                attempts: 1,
                not_before: NOW,
            },
        ),
        2..6 => active(u32::try_from(moment).unwrap() - 2),
        // A replica whose tokens were old by then says so late.
        6 => lost(3, 0),
        7 => active(4),
        8 => lost(4, 0),
        9 => lost(4, 1),
        10 => granted(2),
        _ => session(2, State::Active(tokens(0))),
    }
}

const LIFE: usize = 12;

async fn put(vault: &Vault, visitor: &VisitorKey, session: &VisitorSession) {
    let there = vault.load(visitor, NOW).await.unwrap();
    let version = there.map(|(version, _)| version);
    vault.save(visitor, version, session, NOW).await.unwrap();
}

async fn get(vault: &Vault, visitor: &VisitorKey) -> Option<VisitorSession> {
    let record = vault.load(visitor, NOW).await.unwrap();
    record.map(|(_, session)| session)
}

async fn export(vault: &Vault) -> Vec<u8> {
    let mut exporter = Exporter::of(vault.clone(), clock()).await.unwrap();
    let mut file = Vec::new();
    while let Some(piece) = exporter.next().await.unwrap() {
        file.extend_from_slice(&piece);
    }
    file
}

async fn bring_in(vault: &Vault, file: &[u8]) -> Result<Summary, ImportFailed> {
    bring_in_as(vault, file, Adoption::IfEmpty).await
}

async fn bring_in_as(
    vault: &Vault,
    file: &[u8],
    adoption: Adoption,
) -> Result<Summary, ImportFailed> {
    // In pieces that end in the middle of lines.
    let pieces: Vec<io::Result<Bytes>> = file
        .chunks(777)
        .map(|piece| Ok(Bytes::copy_from_slice(piece)))
        .collect();
    import(vault, &clock(), adoption, stream::iter(pieces), |_| {}).await
}

/// Every record of a store with its version, sealed as it is.
async fn contents(vault: &Vault) -> Vec<(VisitorKey, u64, Bytes)> {
    let page = vault.store().scan(None, 100_000, NOW).await.unwrap();
    assert!(page.next.is_none());
    let found = page.found.into_iter();
    let mut found: Vec<_> = found
        .map(|found| (found.key, found.version.0, found.entry.sealed))
        .collect();
    found.sort_unstable();
    found
}

#[tokio::test]
async fn a_memory_store_moves_into_a_database_whole() {
    let (old, new) = (generate_key_line(), generate_key_line());
    let from = memory(&old);
    let identity = from.identity_key(NOW).await.unwrap();
    for moment in 0..LIFE {
        put(
            &from,
            &visitor(u8::try_from(moment).unwrap()),
            &life(moment),
        )
        .await;
    }
    let file = export(&from).await;

    let folder = tempfile::tempdir().unwrap();
    let to = redb(&folder, "sessions.redb", &format!("{new}\n{old}"));
    let summary = bring_in(&to, &file).await.unwrap();
    assert_eq!((summary.added, summary.records()), (12, 12));
    for moment in 0..LIFE {
        let visitor = visitor(u8::try_from(moment).unwrap());
        assert_eq!(get(&to, &visitor).await, Some(life(moment)));
    }
    let census = to.census().await.unwrap();
    assert_eq!((census.active, census.lost, census.total()), (6, 3, 12));
    // The app's visitor is the same visitor there.
    let moved = to.identity_key(NOW).await.unwrap();
    let key = |identity: &IdentityKey| identity.visitor_key(Namespace::Header, b"ada");
    assert_eq!(key(&moved), key(&identity));
    to.store().close().await;

    // Sealed by the first key, every one of them: the other one is not needed any more.
    let alone = redb(&folder, "sessions.redb", &new);
    assert_eq!(get(&alone, &visitor(11)).await, Some(life(11)));
    assert_eq!(key(&alone.identity_key(NOW).await.unwrap()), key(&moved));
}

#[tokio::test]
async fn an_export_holds_no_token_in_clear() {
    let from = memory(&generate_key_line());
    from.identity_key(NOW).await.unwrap();
    put(&from, &visitor(1), &active(3)).await;
    put(&from, &visitor(2), &granted(1)).await;
    let file = export(&from).await;
    let text = String::from_utf8(file).unwrap();
    for secret in ["access-3", "refresh-3", "code", "verifier", "Y29kZ"] {
        assert!(!text.contains(secret), "{secret}");
    }
    assert_eq!(text.lines().count(), 4);
}

#[tokio::test]
async fn importing_twice_changes_nothing() {
    let (old, new) = (generate_key_line(), generate_key_line());
    let from = memory(&old);
    from.identity_key(NOW).await.unwrap();
    for number in 0..100 {
        put(&from, &visitor(number), &life(usize::from(number) % LIFE)).await;
    }
    let file = export(&from).await;
    let to = memory(&format!("{new}\n{old}"));
    bring_in(&to, &file).await.unwrap();
    let before = contents(&to).await;
    let summary = bring_in(&to, &file).await.unwrap();
    assert_eq!((summary.kept, summary.records()), (100, 100));
    assert_eq!(contents(&to).await, before);
}

#[tokio::test]
async fn a_store_imported_into_itself_is_sealed_with_the_first_key_and_nothing_else_changes() {
    let (old, new) = (generate_key_line(), generate_key_line());
    let store = Arc::new(MemoryStore::new(100));
    let before = vault(store.clone(), &old);
    before.identity_key(NOW).await.unwrap();
    put(&before, &visitor(1), &active(1)).await;
    put(&before, &visitor(2), &active(2)).await;
    let file = export(&before).await;

    let rotated = vault(store.clone(), &format!("{new}\n{old}"));
    put(&rotated, &visitor(2), &active(3)).await;
    let summary = bring_in_as(&rotated, &file, Adoption::Never).await.unwrap();
    assert_eq!((summary.resealed, summary.kept), (1, 1));
    let alone = vault(store, &new);
    alone.identity_key(NOW).await.unwrap();
    assert_eq!(get(&alone, &visitor(1)).await, Some(active(1)));
    assert_eq!(get(&alone, &visitor(2)).await, Some(active(3)));
}

#[tokio::test]
async fn what_cannot_be_opened_is_named_and_the_rest_is_imported() {
    let (old, new) = (generate_key_line(), generate_key_line());
    let store = Arc::new(MemoryStore::new(100));
    let before = vault(store.clone(), &new);
    before.identity_key(NOW).await.unwrap();
    put(&before, &visitor(1), &active(1)).await;
    let mixed = vault(store, &format!("{old}\n{new}"));
    put(&mixed, &visitor(2), &active(2)).await;
    put(&mixed, &visitor(3), &active(3)).await;
    let file = export(&mixed).await;

    let to = memory(&new);
    let summary = bring_in(&to, &file).await.unwrap();
    assert_eq!((summary.added, summary.unreadable), (1, 2));
    let [problem] = &summary.problems[..] else {
        panic!("{summary}")
    };
    assert_eq!(problem.records, 2);
    let id = Keyring::parse(&old).unwrap().cookie_keys()[0].0;
    let id = format!("{:08x}", u32::from_be_bytes(id));
    assert!(problem.problem.contains(&id), "{summary}");
    assert!(problem.problem.contains("put that key back"), "{summary}");
    assert_eq!(get(&to, &visitor(1)).await, Some(active(1)));
    // With the key, what was missing comes in.
    let summary = bring_in(&memory(&format!("{new}\n{old}")), &file).await;
    assert_eq!(summary.unwrap().added, 3);
}

#[tokio::test]
async fn a_store_with_visitors_of_another_identity_refuses_and_says_what_to_do() {
    let key = generate_key_line();
    let from = memory(&key);
    from.identity_key(NOW).await.unwrap();
    put(&from, &visitor(1), &active(1)).await;
    let file = export(&from).await;

    let to = memory(&key);
    to.identity_key(NOW).await.unwrap();
    put(&to, &visitor(2), &active(2)).await;
    let before = contents(&to).await;
    let failed = bring_in(&to, &file).await.unwrap_err();
    assert!(matches!(failed.reason, ImportError::OtherIdentity { .. }));
    assert!(failed.to_string().contains("session.path"), "{failed}");
    assert_eq!(contents(&to).await, before);

    // Without visitors it takes the export's identity over, but never under a process that goes by its own.
    let empty = memory(&key);
    empty.identity_key(NOW).await.unwrap();
    let failed = bring_in_as(&empty, &file, Adoption::Never).await;
    let reason = failed.unwrap_err().reason;
    assert!(matches!(reason, ImportError::OtherIdentity { .. }));
    assert_eq!(bring_in(&empty, &file).await.unwrap().added, 1);
}

#[tokio::test]
async fn without_the_key_of_the_identity_nothing_is_imported() {
    let from = memory(&generate_key_line());
    from.identity_key(NOW).await.unwrap();
    put(&from, &visitor(1), &active(1)).await;
    let file = export(&from).await;
    let to = memory(&generate_key_line());
    let failed = bring_in(&to, &file).await.unwrap_err();
    assert!(matches!(failed.reason, ImportError::Identity(_)));
    assert!(failed.to_string().contains("session.keys_file"), "{failed}");
    assert!(contents(&to).await.is_empty());
}

#[tokio::test]
async fn a_file_that_breaks_off_is_an_error_whatever_came_before() {
    let key = generate_key_line();
    let from = memory(&key);
    from.identity_key(NOW).await.unwrap();
    for number in 0..10 {
        put(&from, &visitor(number), &active(1)).await;
    }
    let file = export(&from).await;
    let end = file[..file.len() - 1]
        .iter()
        .rposition(|byte| *byte == b'\n');
    let to = memory(&key);
    let failed = bring_in(&to, &file[..=end.unwrap()]).await.unwrap_err();
    let reason = &failed.reason;
    assert!(matches!(
        reason,
        ImportError::Format(FormatError::Truncated(10))
    ));
    assert_eq!(failed.done.added, 10);
    // The whole file, after it, brings in what is missing: here nothing.
    assert_eq!(bring_in(&to, &file).await.unwrap().kept, 10);
}

#[tokio::test]
async fn what_has_expired_stays_away_and_what_moves_lives_no_longer() {
    let key = generate_key_line();
    let from = memory(&key);
    from.identity_key(NOW).await.unwrap();
    put(&from, &visitor(1), &active(1)).await;
    let file = export(&from).await;
    let much_later: Arc<dyn Clock> = Arc::new(ManualClock::new(NOW + YEAR + YEAR));
    let to = memory(&key);
    let pieces = stream::iter([Ok(Bytes::from(file.clone()))]);
    let summary = import(&to, &much_later, Adoption::IfEmpty, pieces, |_| {}).await;
    assert_eq!(summary.unwrap().expired, 1);

    // The target would keep it for longer; the visitor was told otherwise.
    let keyring = Keyring::parse(&key).unwrap();
    let to = Vault::new(Arc::new(MemoryStore::new(9)), keyring, YEAR * 3);
    bring_in(&to, &file).await.unwrap();
    assert!(to.load(&visitor(1), NOW + YEAR).await.unwrap().is_some());
    let after = NOW + YEAR + Duration::from_secs(1);
    assert!(to.load(&visitor(1), after).await.unwrap().is_none());
}

#[tokio::test]
async fn an_export_that_nobody_could_open_is_not_made() {
    let store = Arc::new(MemoryStore::new(9));
    let vault = Vault::new(store, Keyring::ephemeral(), YEAR);
    vault.identity_key(NOW).await.unwrap();
    let refused = Exporter::of(vault, clock()).await.err();
    assert!(matches!(refused, Some(ExportError::Ephemeral)));
    let refused = Exporter::of(memory(&generate_key_line()), clock()).await;
    assert!(matches!(refused.err(), Some(ExportError::Empty)));
}

proptest! {
    /// Whatever a store holds, and whatever is imported into it in whatever order, also at the same time: what is newest
    /// stays.
    #[test]
    fn invariant_3_an_import_puts_no_older_refresh_token_in_a_newer_ones_place(
        stored in proptest::collection::vec(proptest::option::of(0..LIFE), 3),
        files in proptest::collection::vec(proptest::collection::vec(proptest::option::of(0..LIFE), 3), 1..4),
        together in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let key = generate_key_line();
            let to = memory(&key);
            to.identity_key(NOW).await.unwrap();
            let blank = export(&to).await;
            let fill = async |vault: &Vault, moments: &[Option<usize>]| {
                for (number, moment) in moments.iter().enumerate() {
                    if let Some(moment) = moment {
                        put(vault, &visitor(u8::try_from(number).unwrap()), &life(*moment)).await;
                    }
                }
            };
            fill(&to, &stored).await;
            let mut exports = Vec::new();
            for moments in &files {
                let from = memory(&key);
                bring_in(&from, &blank).await.unwrap();
                fill(&from, moments).await;
                exports.push(export(&from).await);
            }
            let imports = exports.iter().map(|file| bring_in(&to, file));
            if together {
                for summary in futures::future::join_all(imports).await {
                    summary.unwrap();
                }
            } else {
                for import in imports {
                    import.await.unwrap();
                }
            }
            for number in 0..3 {
                let moments = files.iter().chain([&stored]).filter_map(|moments| moments[number]);
                let newest = moments.max_by_key(|moment| life(*moment).age()).map(life);
                let there = get(&to, &visitor(u8::try_from(number).unwrap())).await;
                prop_assert_eq!(there, newest);
            }
            Ok(())
        })?;
    }
}

/// What version 0.1.0 exported, sealed with the key beside it: read for ever. Neither file ever changes.
#[tokio::test]
async fn the_export_of_version_1_is_read_for_ever() {
    let keys = include_str!("golden/export-v1.keys");
    let file = include_bytes!("golden/export-v1.ndjson");
    let to = memory(&format!("{}\n{keys}", generate_key_line()));
    let summary = bring_in(&to, file).await.unwrap();
    assert_eq!((summary.added, summary.records()), (12, 12));
    for moment in 0..LIFE {
        let visitor = visitor(u8::try_from(moment).unwrap());
        assert_eq!(get(&to, &visitor).await, Some(life(moment)));
    }
    let identity = to.identity_key(NOW).await.unwrap();
    let ada = identity.visitor_key(Namespace::Minted, b"ada");
    assert_eq!(ada.to_string(), include_str!("golden/export-v1.ada").trim());
}

/// An export of that many visitors, with tokens of a realistic size, for tests of size.
pub async fn write_many(path: &std::path::Path, key: &str, visitors: u32) {
    use std::io::Write as _;
    let to = Vault::new(
        Arc::new(MemoryStore::new(u64::from(visitors) + 1)),
        Keyring::parse(key).unwrap(),
        YEAR,
    );
    to.identity_key(NOW).await.unwrap();
    let blank = String::from_utf8(export(&to).await).unwrap();
    let mut file = io::BufWriter::new(std::fs::File::create(path).unwrap());
    let (header, _) = blank.split_once('\n').unwrap();
    writeln!(file, "{header}").unwrap();
    let large = TokenSet {
        access: AccessToken::new(Secret::new("a".repeat(700))),
        refresh: RefreshToken::new(Secret::new("r".repeat(100))),
        ..tokens(1)
    };
    let session = session(1, State::Active(large));
    for number in 0..visitors {
        let one = Vault::new(
            Arc::new(MemoryStore::new(1)),
            Keyring::parse(key).unwrap(),
            YEAR,
        );
        let mut bytes = [7; 32];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        one.identity_key(NOW).await.unwrap();
        put(&one, &VisitorKey::from_bytes(bytes), &session).await;
        let lines = String::from_utf8(export(&one).await).unwrap();
        writeln!(file, "{}", lines.lines().nth(1).unwrap()).unwrap();
    }
    writeln!(file, "{{\"records\":{visitors}}}").unwrap();
}
