//! The rules. Their names are the tests' names.

use super::*;

pub(super) async fn a_missing_record_is_none(store: Arc<dyn Store>) {
    assert_eq!(store.load(&key(1), NOW).await.unwrap(), None);
    assert!(!store.remove(&key(1)).await.unwrap());
}

pub(super) async fn what_was_put_is_loaded(store: Arc<dyn Store>) {
    let version = store.put(&key(1), None, entry("one"), NOW).await.unwrap();
    let other = store.put(&key(2), None, entry("two"), NOW).await.unwrap();
    let stored = |version, sealed: &'static str| {
        let sealed = Bytes::from_static(sealed.as_bytes());
        Some(Stored { version, sealed })
    };
    let load = async |id| store.load(&key(id), NOW).await.unwrap();
    assert_eq!(load(1).await, stored(version, "one"));
    assert_eq!(load(2).await, stored(other, "two"));
}

pub(super) async fn a_create_never_overwrites(store: Arc<dyn Store>) {
    let version = store.put(&key(1), None, entry("one"), NOW).await.unwrap();
    let refused = store.put(&key(1), None, entry("two"), NOW).await;
    assert_eq!(conflict(refused), Some(version));
    let stored = store.load(&key(1), NOW).await.unwrap().unwrap();
    assert_eq!(stored.sealed, "one");
}

pub(super) async fn a_replacement_needs_the_stored_version(store: Arc<dyn Store>) {
    let first = store.put(&key(1), None, entry("one"), NOW).await.unwrap();
    let second = store
        .put(&key(1), Some(first), entry("two"), NOW)
        .await
        .unwrap();
    assert!(second > first);
    let refused = store.put(&key(1), Some(first), entry("stale"), NOW).await;
    assert_eq!(conflict(refused), Some(second));
    let refused = store
        .put(&key(1), Some(Version(u64::MAX >> 1)), entry("stale"), NOW)
        .await;
    assert_eq!(conflict(refused), Some(second));
    let refused = store.put(&key(2), Some(second), entry("stale"), NOW).await;
    assert_eq!(conflict(refused), None);
    let stored = store.load(&key(1), NOW).await.unwrap().unwrap();
    assert_eq!(
        (stored.version, stored.sealed),
        (second, Bytes::from("two"))
    );
}

pub(super) async fn no_version_is_used_twice_after_a_removal(store: Arc<dyn Store>) {
    let mut highest = Version(0);
    for _ in 0..3 {
        let first = store.put(&key(1), None, entry("one"), NOW).await.unwrap();
        let second = store
            .put(&key(1), Some(first), entry("two"), NOW)
            .await
            .unwrap();
        assert!(highest < first && first < second);
        highest = second;
        assert!(store.remove(&key(1)).await.unwrap());
        assert_eq!(store.load(&key(1), NOW).await.unwrap(), None);
        assert!(!store.remove(&key(1)).await.unwrap());
    }
    let new = store.put(&key(1), None, entry("new"), NOW).await.unwrap();
    let refused = store.put(&key(1), Some(highest), entry("stale"), NOW).await;
    assert_eq!(conflict(refused), Some(new));
}

pub(super) async fn an_expired_record_is_none_and_blocks_no_create(store: Arc<dyn Store>) {
    let old = store.put(&key(1), None, entry("old"), NOW).await.unwrap();
    let expiry = NOW + HOUR;
    let after = expiry + Duration::from_millis(1);
    assert!(store.load(&key(1), expiry).await.unwrap().is_some());
    assert_eq!(store.load(&key(1), after).await.unwrap(), None);
    let refused = store.put(&key(1), None, entry("new"), expiry).await;
    assert_eq!(conflict(refused), Some(old));
    let renewed = Entry {
        expires_at: after + HOUR,
        ..entry("new")
    };
    let new = store.put(&key(1), None, renewed, after).await.unwrap();
    assert!(new > old);
    let stored = store.load(&key(1), after).await.unwrap().unwrap();
    assert_eq!(stored.sealed, "new");
    assert_eq!(store.census().await.unwrap().active, 1);
}

pub(super) async fn the_census_follows_every_change(store: Arc<dyn Store>) {
    let put = async |id, expected, state| {
        let entry = Entry {
            state,
            ..entry("x")
        };
        store.put(&key(id), expected, entry, NOW).await.unwrap()
    };
    let census = async || store.census().await.unwrap();
    assert_eq!(census().await, Census::default());
    let granted = put(1, None, StateTag::Granted).await;
    put(2, None, StateTag::Unconfirmed).await;
    let lost = put(3, None, StateTag::Lost).await;
    let expected = Census {
        unconfirmed: 1,
        granted: 1,
        active: 0,
        lost: 1,
    };
    assert_eq!(census().await, expected);
    put(1, Some(granted), StateTag::Active).await;
    let recreated = put(3, Some(lost), StateTag::Active).await;
    put(3, Some(recreated), StateTag::Active).await;
    let refused = store.put(&key(1), None, entry("x"), NOW).await;
    conflict(refused);
    let expected = Census {
        unconfirmed: 1,
        granted: 0,
        active: 2,
        lost: 0,
    };
    assert_eq!(census().await, expected);
    store.remove(&key(1)).await.unwrap();
    store.remove(&key(2)).await.unwrap();
    let expected = Census {
        active: 1,
        ..Census::default()
    };
    assert_eq!(census().await, expected);
    assert_eq!(census().await.total(), 1);
}

pub(super) async fn internal_records_are_no_visitors(store: Arc<dyn Store>) {
    let internal = Entry {
        state: StateTag::Internal,
        ..entry("x")
    };
    let version = store
        .put(&key(1), None, internal.clone(), NOW)
        .await
        .unwrap();
    assert_eq!(store.census().await.unwrap(), Census::default());
    let version = store
        .put(&key(1), Some(version), entry("x"), NOW)
        .await
        .unwrap();
    assert_eq!(store.census().await.unwrap().total(), 1);
    store
        .put(&key(1), Some(version), internal, NOW)
        .await
        .unwrap();
    assert_eq!(store.census().await.unwrap(), Census::default());
    store.remove(&key(1)).await.unwrap();
    assert_eq!(store.census().await.unwrap(), Census::default());
}

pub(super) async fn a_sweep_forgets_what_expired_and_no_more_than_its_limit(store: Arc<dyn Store>) {
    // Some long ago, some just now, some within the same hour as now, some later.
    let expiries = [1, 30, 60, 61, 62, 119, 120, 180].map(|minutes| NOW + minutes * HOUR / 60);
    for (id, expires_at) in expiries.into_iter().enumerate() {
        let entry = Entry {
            expires_at,
            ..entry("x")
        };
        store.put(&key(id as u8), None, entry, NOW).await.unwrap();
    }
    let now = NOW + 61 * HOUR / 60;
    assert_eq!(store.sweep(now, 0).await.unwrap(), 0);
    assert_eq!(store.sweep(now, 2).await.unwrap(), 2);
    assert_eq!(store.census().await.unwrap().active, 6);
    assert_eq!(store.sweep(now, 100).await.unwrap(), 1);
    assert_eq!(store.sweep(now, 100).await.unwrap(), 0);
    for (id, expires_at) in expiries.into_iter().enumerate() {
        let there = store.load(&key(id as u8), NOW).await.unwrap().is_some();
        assert_eq!(there, expires_at >= now, "{id}");
    }
    assert_eq!(store.census().await.unwrap().active, 5);
}

pub(super) async fn a_record_that_was_written_again_is_not_swept(store: Arc<dyn Store>) {
    let first = store.put(&key(1), None, entry("one"), NOW).await.unwrap();
    let renewed = Entry {
        expires_at: NOW + 3 * HOUR,
        ..entry("two")
    };
    store.put(&key(1), Some(first), renewed, NOW).await.unwrap();
    assert_eq!(store.sweep(NOW + 2 * HOUR, 100).await.unwrap(), 0);
    assert_eq!(store.sweep(NOW + 4 * HOUR, 100).await.unwrap(), 1);
}

pub(super) async fn a_large_sweep_forgets_all_that_expired(store: Arc<dyn Store>) {
    let puts: Vec<_> = (0..1000u64)
        .map(|id| {
            let store = store.clone();
            tokio::spawn(async move {
                let expires_at = NOW + Duration::from_secs(id * 60);
                store
                    .put(
                        &numbered(id),
                        None,
                        Entry {
                            expires_at,
                            ..entry("x")
                        },
                        NOW,
                    )
                    .await
            })
        })
        .collect();
    for put in puts {
        put.await.unwrap().unwrap();
    }
    // Expired before the 601st minute: those of the minutes 0 to 600.
    assert_eq!(
        store
            .sweep(NOW + Duration::from_secs(601 * 60), 10_000)
            .await
            .unwrap(),
        601
    );
    assert_eq!(store.census().await.unwrap().total(), 399);
}

pub(super) async fn of_64_writers_of_one_version_exactly_one_wins(store: Arc<dyn Store>) {
    let mut expected = None;
    for round in 0..8 {
        let writers: Vec<_> = (0..64u8)
            .map(|writer| {
                let store = store.clone();
                let entry = entry(vec![round, writer]);
                tokio::spawn(
                    async move { (writer, store.put(&key(1), expected, entry, NOW).await) },
                )
            })
            .collect();
        let mut winner = None;
        let mut conflicts = Vec::new();
        for writer in writers {
            match writer.await.unwrap() {
                (writer, Ok(version)) => assert_eq!(winner.replace((writer, version)), None),
                (_, refused) => conflicts.push(conflict(refused)),
            }
        }
        let (writer, version) = winner.unwrap();
        assert_eq!(conflicts, [Some(version); 63]);
        let stored = store.load(&key(1), NOW).await.unwrap().unwrap();
        assert_eq!(
            (stored.version, stored.sealed),
            (version, Bytes::from(vec![round, writer]))
        );
        expected = Some(version);
    }
}

pub(super) async fn concurrent_writes_to_different_keys_all_land(store: Arc<dyn Store>) {
    let writers: Vec<_> = (0..200u64)
        .map(|id| {
            let store = store.clone();
            let entry = entry(id.to_string());
            tokio::spawn(async move { store.put(&numbered(id), None, entry, NOW).await.unwrap() })
        })
        .collect();
    for (id, writer) in (0u64..).zip(writers) {
        let version = writer.await.unwrap();
        let stored = store.load(&numbered(id), NOW).await.unwrap().unwrap();
        assert_eq!(
            (stored.version, stored.sealed),
            (version, Bytes::from(id.to_string()))
        );
    }
    assert_eq!(store.census().await.unwrap().active, 200);
}

pub(super) async fn values_of_any_size_up_to_64_kib_come_back_whole(store: Arc<dyn Store>) {
    let mut expected = None;
    for size in [0, 1, 4095, 4096, 65535, 65536] {
        let value: Vec<u8> = (0..size).map(|index| (index % 251) as u8).collect();
        expected = Some(
            store
                .put(&key(1), expected, entry(value.clone()), NOW)
                .await
                .unwrap(),
        );
        assert_eq!(
            store.load(&key(1), NOW).await.unwrap().unwrap().sealed,
            value
        );
    }
}

pub(super) async fn an_open_store_checks_well(store: Arc<dyn Store>) {
    store.check().await.unwrap();
    store.put(&key(1), None, entry("one"), NOW).await.unwrap();
    store.check().await.unwrap();
}

pub(super) async fn a_closed_store_says_that_it_is_closed(store: Arc<dyn Store>) {
    let version = store.put(&key(1), None, entry("one"), NOW).await.unwrap();
    store.close().await;
    store.close().await;
    let put = store.put(&key(1), Some(version), entry("two"), NOW).await;
    assert!(matches!(put, Err(PutError::Store(StoreError::Closed))));
    assert!(matches!(
        store.load(&key(1), NOW).await,
        Err(StoreError::Closed)
    ));
    assert!(matches!(
        store.remove(&key(1)).await,
        Err(StoreError::Closed)
    ));
    assert!(matches!(store.check().await, Err(StoreError::Closed)));
    assert!(matches!(store.census().await, Err(StoreError::Closed)));
    assert!(matches!(
        store.scan(None, 1, NOW).await,
        Err(StoreError::Closed)
    ));
    assert!(matches!(store.sweep(NOW, 1).await, Err(StoreError::Closed)));
}

pub(super) async fn who_meets_a_closing_store_gets_an_answer(store: Arc<dyn Store>) {
    let writers: Vec<_> = (0..64)
        .map(|id| {
            let store = store.clone();
            tokio::spawn(async move { store.put(&key(id), None, entry("x"), NOW).await })
        })
        .collect();
    tokio::task::yield_now().await;
    store.close().await;
    for writer in writers {
        match writer.await.unwrap() {
            Ok(_) | Err(PutError::Store(StoreError::Closed)) => {}
            other => panic!("{other:?}"),
        }
    }
}

fn numbered(id: u64) -> VisitorKey {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&id.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
    VisitorKey::from_bytes(bytes)
}

pub(super) async fn a_scan_finds_every_record_once_while_nothing_changes(store: Arc<dyn Store>) {
    let mut expected = Vec::new();
    for id in 0..100 {
        let state = StateTag::from_byte(id % 5).unwrap();
        let entry = Entry {
            state,
            expires_at: NOW + HOUR * u32::from(id),
            ..entry(vec![id; 10])
        };
        let version = store.put(&key(id), None, entry.clone(), NOW).await.unwrap();
        // The first ten expire.
        if id >= 10 {
            let key = key(id);
            expected.push(Found {
                key,
                version,
                entry,
            });
        }
    }
    let now = NOW + HOUR * 9 + Duration::from_millis(1);
    for limit in [1, 7, 1000] {
        let mut found = Vec::new();
        let mut cursor = None;
        loop {
            let page = store.scan(cursor, limit, now).await.unwrap();
            found.extend(page.found);
            match page.next {
                Some(next) => cursor = Some(next),
                None => break,
            }
        }
        found.sort_by_key(|found| found.key);
        found.dedup();
        assert_eq!(found, expected, "limit {limit}");
    }
}

pub(super) async fn a_list_has_the_first_records_of_a_range_in_order(store: Arc<dyn Store>) {
    // In a few buckets, with some that expire between the others.
    let key = |number: u16| {
        let mut bytes = [0; 32];
        bytes[0] = (number / 50) as u8 * 60;
        bytes[31] = (number % 50) as u8;
        VisitorKey::from_bytes(bytes)
    };
    let mut expected = Vec::new();
    for number in (1..200_u16).rev() {
        let entry = Entry {
            state: StateTag::from_byte((number % 4) as u8 + 1).unwrap(),
            expires_at: NOW + HOUR * u32::from(number % 3),
            ..entry(number.to_be_bytes().to_vec())
        };
        let key = key(number);
        // Bookkeeping between the visitors is none of an operator's.
        let internal = Entry {
            state: StateTag::Internal,
            ..entry.clone()
        };
        let mut place = *key.as_bytes();
        place[30] = 1;
        let place = VisitorKey::from_bytes(place);
        store.put(&place, None, internal, NOW).await.unwrap();
        let version = store.put(&key, None, entry.clone(), NOW).await.unwrap();
        expected.push(Found {
            key,
            version,
            entry,
        });
    }
    expected.reverse();
    let now = NOW + Duration::from_millis(1);
    expected.retain(|found| found.entry.expires_at > now);
    let last = VisitorKey::from_bytes([0xff; 32]);
    for limit in [1, 7, 1000] {
        let (mut found, mut from) = (Vec::new(), Some(VisitorKey::from_bytes([0; 32])));
        while let Some(first) = from {
            let part = store.list(first..=last, limit, now).await.unwrap();
            assert!(part.len() <= limit);
            from = part.last().and_then(|found| found.key.successor());
            found.extend(part);
        }
        assert_eq!(found, expected, "limit {limit}");
    }
    let range = key(60)..=key(160);
    let within: Vec<_> = expected
        .iter()
        .filter(|found| range.contains(&found.key))
        .cloned()
        .collect();
    assert_eq!(store.list(range, 1000, now).await.unwrap(), within);
    let (there, expired) = (expected[3].clone(), key(3));
    let one = store.list(there.key..=there.key, 1, now).await.unwrap();
    assert_eq!(one, [there]);
    assert_eq!(store.list(expired..=expired, 1, now).await.unwrap(), []);
    let internal = VisitorKey::from_bytes(std::array::from_fn(|at| u8::from(at >= 30)));
    assert!(store.load(&internal, NOW).await.unwrap().is_some());
    assert_eq!(store.list(internal..=internal, 1, NOW).await.unwrap(), []);
}
