//! The rules of stores that several replicas share: each is given two of them on the same data.

use dressipi_sidecar::clock::{Clock, SystemClock};
use dressipi_sidecar::oauth::TokenFingerprint;
use dressipi_sidecar::session::{Acquired, LeaseOwner, News, SharedStore};
use tokio::sync::broadcast::Receiver;

use super::*;

fn owner() -> LeaseOwner {
    LeaseOwner::random().unwrap()
}

fn shared(store: &Arc<dyn Store>) -> &dyn SharedStore {
    store.shared().expect("a store for several replicas")
}

async fn acquire(store: &Arc<dyn Store>, owner: &LeaseOwner, term: Duration) -> Acquired {
    let acquired = shared(store).acquire(&key(1), owner, term, NOW).await;
    acquired.unwrap()
}

async fn heard(news: &mut Receiver<News>) -> News {
    let next = tokio::time::timeout(Duration::from_secs(20), news.recv());
    next.await.expect("news come").unwrap()
}

pub(super) async fn of_64_who_want_a_lease_exactly_one_gets_it(
    one: Arc<dyn Store>,
    other: Arc<dyn Store>,
) {
    let wanting: Vec<_> = (0..64)
        .map(|number| {
            let store = if number % 2 == 0 { &one } else { &other }.clone();
            tokio::spawn(async move { acquire(&store, &owner(), HOUR).await })
        })
        .collect();
    let mut ours = 0;
    for wanting in wanting {
        match wanting.await.unwrap() {
            Acquired::Ours(record) => {
                assert_eq!(record, None);
                ours += 1;
            }
            Acquired::Theirs(left) => assert!(left <= HOUR && left > HOUR / 2, "{left:?}"),
        }
    }
    assert_eq!(ours, 1);
}

pub(super) async fn whoever_holds_a_lease_takes_it_anew(
    one: Arc<dyn Store>,
    other: Arc<dyn Store>,
) {
    let owner = owner();
    assert_eq!(acquire(&one, &owner, HOUR / 60).await, Acquired::Ours(None));
    assert_eq!(acquire(&one, &owner, HOUR).await, Acquired::Ours(None));
    match acquire(&other, &self::owner(), HOUR).await {
        Acquired::Theirs(left) => assert!(left > HOUR / 2, "{left:?}"),
        ours => panic!("{ours:?}"),
    }
}

pub(super) async fn a_lease_is_released_by_its_owner_only(
    one: Arc<dyn Store>,
    other: Arc<dyn Store>,
) {
    let (owner, stranger) = (owner(), owner());
    acquire(&one, &owner, HOUR).await;
    shared(&other).release(&key(1), &stranger).await.unwrap();
    assert!(matches!(
        acquire(&other, &stranger, HOUR).await,
        Acquired::Theirs(_)
    ));
    shared(&one).release(&key(1), &owner).await.unwrap();
    assert_eq!(acquire(&other, &stranger, HOUR).await, Acquired::Ours(None));
    // It is another's now.
    shared(&one).release(&key(1), &owner).await.unwrap();
    assert!(matches!(
        acquire(&one, &owner, HOUR).await,
        Acquired::Theirs(_)
    ));
}

pub(super) async fn a_lease_is_renewed_by_its_owner_only(
    one: Arc<dyn Store>,
    other: Arc<dyn Store>,
) {
    let (owner, stranger) = (owner(), owner());
    let renew = async |store: &Arc<dyn Store>, owner: &LeaseOwner| {
        shared(store).renew(&key(1), owner, HOUR).await.unwrap()
    };
    assert!(!renew(&one, &owner).await);
    acquire(&one, &owner, HOUR / 60).await;
    assert!(!renew(&other, &stranger).await);
    assert!(renew(&one, &owner).await);
    match acquire(&other, &stranger, HOUR).await {
        Acquired::Theirs(left) => assert!(left > HOUR / 2, "{left:?}"),
        ours => panic!("{ours:?}"),
    }
    shared(&one).release(&key(1), &owner).await.unwrap();
    assert!(!renew(&one, &owner).await);
}

pub(super) async fn a_lease_ends_by_itself(one: Arc<dyn Store>, other: Arc<dyn Store>) {
    let (owner, next) = (owner(), owner());
    let term = Duration::from_millis(300);
    acquire(&one, &owner, term).await;
    let mut refused = 0;
    while let Acquired::Theirs(left) = acquire(&other, &next, HOUR).await {
        assert!(left <= term, "{left:?}");
        refused += 1;
        tokio::time::sleep(left / 2 + Duration::from_millis(1)).await;
    }
    assert!(refused > 0);
    let renewed = shared(&one).renew(&key(1), &owner, HOUR).await.unwrap();
    assert!(!renewed);
}

pub(super) async fn leases_of_visitors_are_apart(one: Arc<dyn Store>, other: Arc<dyn Store>) {
    acquire(&one, &owner(), HOUR).await;
    let another = shared(&other)
        .acquire(&key(2), &owner(), HOUR, NOW)
        .await
        .unwrap();
    assert_eq!(another, Acquired::Ours(None));
}

pub(super) async fn who_gets_a_lease_gets_the_record(one: Arc<dyn Store>, other: Arc<dyn Store>) {
    let version = one.put(&key(1), None, entry("one"), NOW).await.unwrap();
    let owner = owner();
    let sealed = Bytes::from_static(b"one");
    let record = Stored { version, sealed };
    assert_eq!(
        acquire(&other, &owner, HOUR).await,
        Acquired::Ours(Some(record))
    );
    let later = NOW + 2 * HOUR;
    let expired = shared(&other).acquire(&key(1), &owner, HOUR, later).await;
    assert_eq!(expired.unwrap(), Acquired::Ours(None));
}

pub(super) async fn an_owner_who_slept_through_its_lease_meets_a_conflict(
    one: Arc<dyn Store>,
    other: Arc<dyn Store>,
) {
    let first = one.put(&key(1), None, entry("first"), NOW).await.unwrap();
    let (sleeper, next) = (owner(), owner());
    acquire(&one, &sleeper, Duration::from_millis(1)).await;
    while let Acquired::Theirs(left) = acquire(&other, &next, HOUR).await {
        tokio::time::sleep(left).await;
    }
    let second = other
        .put(&key(1), Some(first), entry("second"), NOW)
        .await
        .unwrap();
    let late = one.put(&key(1), Some(first), entry("late"), NOW).await;
    assert_eq!(conflict(late), Some(second));
}

pub(super) async fn news_reach_the_others_and_not_their_sender(
    one: Arc<dyn Store>,
    other: Arc<dyn Store>,
) {
    let (mut here, mut there) = (shared(&one).news(), shared(&other).news());
    let (owner, token) = (owner(), TokenFingerprint::from_bytes([7; 8]));
    let version = one.put(&key(1), None, entry("one"), NOW).await.unwrap();
    assert_eq!(heard(&mut there).await, News::Changed(key(1)));
    // What changes nothing is no news.
    conflict(one.put(&key(1), None, entry("two"), NOW).await);
    acquire(&one, &owner, HOUR).await;
    shared(&one).release(&key(1), &self::owner()).await.unwrap();
    shared(&one).release(&key(1), &owner).await.unwrap();
    assert_eq!(heard(&mut there).await, News::Released(key(1)));
    shared(&one)
        .announce_rejection(&key(1), token)
        .await
        .unwrap();
    assert_eq!(heard(&mut there).await, News::Rejected(key(1), token));
    one.put(&key(1), Some(version), entry("three"), NOW)
        .await
        .unwrap();
    assert_eq!(heard(&mut there).await, News::Changed(key(1)));
    // An erasure is news even where there is no record: others may have something in memory.
    for present in [true, false] {
        assert_eq!(one.remove(&key(1)).await.unwrap(), present);
        assert_eq!(heard(&mut there).await, News::Erased(key(1)));
    }
    // The first that the sender hears is what another has done.
    other.put(&key(2), None, entry("two"), NOW).await.unwrap();
    assert_eq!(heard(&mut here).await, News::Changed(key(2)));
}

pub(super) async fn all_go_by_one_clock(one: Arc<dyn Store>, other: Arc<dyn Store>) {
    let first = shared(&one).time().await.unwrap();
    let second = shared(&other).time().await.unwrap();
    assert!(first <= second);
    // It is this machine's, and no test's.
    let apart = SystemClock.now().since(second);
    assert!(apart < Duration::from_secs(60), "{apart:?}");
}

pub(super) async fn a_closed_store_gives_no_lease(one: Arc<dyn Store>, other: Arc<dyn Store>) {
    one.close().await;
    let owner = owner();
    let refused = shared(&one).acquire(&key(1), &owner, HOUR, NOW).await;
    assert!(matches!(refused, Err(StoreError::Closed)));
    assert!(matches!(shared(&one).time().await, Err(StoreError::Closed)));
    assert_eq!(acquire(&other, &owner, HOUR).await, Acquired::Ours(None));
}
