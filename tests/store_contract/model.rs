//! The property: whatever is done in whatever order, a store does what a simple map does.

use std::collections::HashMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Create {
        id: u8,
        state: StateTag,
        minutes: u32,
    },
    /// `back`: how many writes of that key ago the expected version was given; 0 is the last one.
    Replace {
        id: u8,
        back: usize,
        state: StateTag,
        minutes: u32,
    },
    Remove {
        id: u8,
    },
    Wait {
        minutes: u32,
    },
    Sweep,
}

#[derive(Clone, Debug)]
struct Record {
    stored: Stored,
    state: StateTag,
    expires_at: Timestamp,
}

#[derive(Default)]
struct Model {
    records: HashMap<u8, Record>,
    given: HashMap<u8, Vec<Version>>,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let id = 0..4u8;
    let state = (0..5u8).prop_map(|byte| StateTag::from_byte(byte).unwrap());
    let minutes = 0..150u32;
    let step = prop_oneof![
        3 => (id.clone(), state.clone(), minutes.clone())
            .prop_map(|(id, state, minutes)| Step::Create { id, state, minutes }),
        4 => (id.clone(), 0..3usize, state, minutes.clone())
            .prop_map(|(id, back, state, minutes)| Step::Replace { id, back, state, minutes }),
        1 => id.prop_map(|id| Step::Remove { id }),
        2 => minutes.prop_map(|minutes| Step::Wait { minutes }),
        1 => Just(Step::Sweep),
    ];
    prop::collection::vec(step, 1..50)
}

pub(super) fn compare(make: impl AsyncFn() -> Fixture) {
    let config = Config {
        cases: 40,
        failure_persistence: None,
        ..Config::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    // What the stores of all cases share stays up between them.
    let _keep = runtime.block_on(make());
    let run = |steps: Vec<Step>| {
        runtime.block_on(async {
            let fixture = make().await;
            Model::default().run(&*fixture.store, steps).await;
            fixture.store.close().await;
        });
        Ok(())
    };
    TestRunner::new(config).run(&steps(), run).unwrap();
}

impl Model {
    async fn run(&mut self, store: &dyn Store, steps: Vec<Step>) {
        let mut now = NOW;
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Wait { minutes } => now = now + minutes * HOUR / 60,
                Step::Create { id, state, minutes } => {
                    self.put(store, number, id, None, state, minutes, now).await;
                }
                Step::Replace {
                    id,
                    back,
                    state,
                    minutes,
                } => {
                    let given = self.given.get(&id).map_or(&[][..], Vec::as_slice);
                    let expected = given.iter().rev().nth(back).copied();
                    let expected = expected.or(Some(Version(u64::MAX >> 1)));
                    self.put(store, number, id, expected, state, minutes, now)
                        .await;
                }
                Step::Remove { id } => {
                    let there = self.records.remove(&id).is_some();
                    assert_eq!(store.remove(&key(id)).await.unwrap(), there);
                }
                Step::Sweep => {
                    let before = self.records.len();
                    self.records.retain(|_, record| record.expires_at >= now);
                    let swept = store.sweep(now, 1000).await.unwrap();
                    assert_eq!(swept, before - self.records.len());
                }
            }
            self.agrees_with(store, now).await;
        }
    }

    #[allow(clippy::too_many_arguments, reason = "one call, spelled out")]
    async fn put(
        &mut self,
        store: &dyn Store,
        number: usize,
        id: u8,
        expected: Option<Version>,
        state: StateTag,
        minutes: u32,
        now: Timestamp,
    ) {
        let sealed = Bytes::from(number.to_string());
        let expires_at = now + minutes * HOUR / 60;
        let entry = Entry {
            sealed: sealed.clone(),
            state,
            expires_at,
        };
        let exact = self.records.get(&id).map(|record| record.stored.version);
        let visible = self.visible(id, now).map(|stored| stored.version);
        let admitted = match expected {
            None => visible.is_none(),
            Some(_) => expected == exact,
        };
        match store.put(&key(id), expected, entry, now).await {
            Ok(version) => {
                assert!(admitted);
                let given = self.given.entry(id).or_default();
                assert!(given.last().is_none_or(|last| *last < version));
                given.push(version);
                let stored = Stored { version, sealed };
                self.records.insert(
                    id,
                    Record {
                        stored,
                        state,
                        expires_at,
                    },
                );
            }
            refused => {
                assert_eq!(conflict(refused), visible);
                assert!(!admitted);
            }
        }
    }

    fn visible(&self, id: u8, now: Timestamp) -> Option<&Stored> {
        let record = self.records.get(&id)?;
        (record.expires_at >= now).then_some(&record.stored)
    }

    async fn agrees_with(&self, store: &dyn Store, now: Timestamp) {
        let mut census = Census::default();
        for id in 0..4 {
            let stored = store.load(&key(id), now).await.unwrap();
            assert_eq!(stored.as_ref(), self.visible(id, now));
            if let Some(count) = self
                .records
                .get(&id)
                .and_then(|record| census.count_mut(record.state))
            {
                *count += 1;
            }
        }
        assert_eq!(store.census().await.unwrap(), census);
    }
}
