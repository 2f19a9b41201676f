#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

use super::*;

const HIT: fn() -> f64 = || 0.0;

fn queue(faults: impl IntoIterator<Item = Fault>) -> FaultQueue {
    let mut queue = FaultQueue::default();
    faults.into_iter().for_each(|fault| queue.add(fault, 0));
    queue
}

#[test]
fn a_delay_and_a_status_meet_one_request_and_are_then_used_up() {
    let mut queue = queue([
        Fault::once(Endpoint::Token, FaultKind::Delay { ms: 5 }),
        Fault::once(Endpoint::Token, FaultKind::status(503)),
    ]);
    assert_eq!(queue.take(Endpoint::Refresh, 0, HIT), Plan::default());
    assert_eq!(
        queue.take(Endpoint::Token, 0, HIT).names(),
        ["delay", "status"]
    );
    assert_eq!(queue.take(Endpoint::Token, 0, HIT), Plan::default());
}

#[test]
fn endings_follow_one_another_and_edits_wait_for_a_right_answer() {
    let mut queue = queue([
        Fault::once(Endpoint::Authorize, FaultKind::WrongState),
        Fault::once(Endpoint::Authorize, FaultKind::status(500)),
        Fault::once(Endpoint::Authorize, FaultKind::Html),
    ]);
    assert_eq!(queue.take(Endpoint::Authorize, 0, HIT).names(), ["status"]);
    assert_eq!(queue.take(Endpoint::Authorize, 0, HIT).names(), ["html"]);
    assert_eq!(
        queue.take(Endpoint::Authorize, 0, HIT).names(),
        ["wrong_state"]
    );
}

#[test]
fn a_fault_stays_until_cleared_or_until_its_time_is_over() {
    let mut queue = queue([
        Fault::always(Endpoint::Resource, FaultKind::Forbid).lasting(Duration::from_millis(10)),
        Fault::always(Endpoint::Token, FaultKind::Html),
    ]);
    assert_eq!(queue.take(Endpoint::Resource, 9, HIT).names(), ["forbid"]);
    assert_eq!(queue.take(Endpoint::Resource, 10, HIT), Plan::default());
    assert_eq!(queue.list(10).len(), 1);
    queue.clear();
    assert_eq!(queue.take(Endpoint::Token, 10, HIT), Plan::default());
}

#[test]
fn chance_decides_and_a_miss_uses_nothing_up() {
    let mut queue = queue([Fault::once(Endpoint::Token, FaultKind::Html).with_probability(0.5)]);
    assert_eq!(queue.take(Endpoint::Token, 0, || 0.5), Plan::default());
    assert_eq!(queue.take(Endpoint::Token, 0, || 0.49).names(), ["html"]);
    assert!(
        Fault::once(Endpoint::Token, FaultKind::Html)
            .with_probability(1.5)
            .validate()
            .is_err()
    );
}

#[test]
fn faults_read_from_json_and_a_misspelt_key_is_an_error() {
    let fault: Fault =
        serde_json::from_str(r#"{"endpoint":"refresh","kind":{"status":{"code":503}},"times":2}"#)
            .unwrap();
    assert_eq!(
        fault,
        Fault::times(Endpoint::Refresh, FaultKind::status(503), 2)
    );
    let fault: Fault =
        serde_json::from_str(r#"{"endpoint":"token","kind":"drop_after_commit"}"#).unwrap();
    assert_eq!(
        fault,
        Fault::always(Endpoint::Token, FaultKind::DropAfterCommit)
    );
    assert!(
        serde_json::from_str::<Fault>(r#"{"endpoint":"token","kind":"html","time":1}"#).is_err()
    );
    assert!(
        serde_json::from_str::<Fault>(r#"{"endpoint":"token","kind":{"delay":{"mss":1}}}"#)
            .is_err()
    );
}
