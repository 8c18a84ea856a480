//! One replica sends at a time, and one that was paused or cut off does no harm.

use crate::fixture::{NAME, Setup, eventually};
use audittrail_collector::store::forwarding::{Asker, Cursor, Delivered, Fact, LEASE, Passed};
use audittrail_crds::document::KnownLog;
use audittrail_crds::report::State;
use audittrail_source::script::Step;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

const FIRST: Uuid = Uuid::from_u128(1);
const SECOND: Uuid = Uuid::from_u128(2);
const PASSED: Passed = Passed { next_sequence: 1, epoch: 0, filtered: 0 };
const DELIVERED: Delivered = Delivered { last_sequence: 0, events: 1 };

/// What taking over may take beyond the end of the lease.
const TAKE_OVER_MAX: Duration = Duration::from_secs(5);

fn asker(replica: Uuid, generation: i64) -> Asker<'static> {
    Asker { forwarding: NAME, entry_generation: 1, configuration_hash: "hash", replica, generation }
}

/// A forwarding that has a cursor, in generation 1, and that nobody runs.
async fn prepared() -> Setup {
    let setup = Setup::new().await;
    setup.append(0..3).await;
    setup.apply(setup.entry()).await;
    assert!(setup.store.prepare_forwarding(&setup.entry(), 1).await.expect("the database answers"));
    setup
}

impl Setup {
    async fn take(&self, replica: Uuid, generation: i64) -> Option<Cursor> {
        let standing = self.store.take_lease(asker(replica, generation)).await.expect("the database answers");
        standing.map(|standing| standing.cursor)
    }

    async fn advance(&self, replica: Uuid, generation: i64, from: Cursor) -> Option<Cursor> {
        let moved = self.store.move_cursor(asker(replica, generation), from, PASSED, DELIVERED, &[]).await;
        moved.expect("the database answers").map(|standing| standing.cursor)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_held_by_one_and_free_again_when_it_is_given_back() {
    let setup = prepared().await;
    assert!(setup.take(FIRST, 1).await.is_some());
    assert!(setup.take(FIRST, 1).await.is_some(), "its holder renews it");
    assert!(setup.take(SECOND, 1).await.is_none());
    setup.store.release_lease(NAME, SECOND).await.expect("the database answers");
    assert!(setup.take(SECOND, 1).await.is_none(), "only its holder gives it back");
    setup.store.release_lease(NAME, FIRST).await.expect("the database answers");
    assert!(setup.take(SECOND, 1).await.is_some());
}

/// The status is read by people who may not know the write key, which the configuration has: the hash is none that they
/// could make of a guess.
#[tokio::test(flavor = "multi_thread")]
async fn another_trail_says_another_hash_of_the_same_configuration() {
    let mut hashes = Vec::new();
    for _ in 0..2 {
        let setup = prepared().await;
        let hash = async |asker| {
            assert!(setup.store.disable_forwarding(asker).await.expect("the database answers"));
            setup.facts().await.configuration_hash.expect("a hash")
        };
        let first = hash(asker(FIRST, 1)).await;
        assert_ne!(hash(Asker { configuration_hash: "other", ..asker(FIRST, 1) }).await, first);
        assert_eq!(hash(asker(SECOND, 1)).await, first);
        hashes.push(first);
    }
    assert_ne!(hashes[0], hashes[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_holder_cannot_move_the_cursor_or_say_how_it_stands() {
    let setup = prepared().await;
    let stale = setup.take(FIRST, 1).await.expect("free");
    setup.end_lease().await;
    assert_eq!(setup.advance(FIRST, 1, stale).await, None, "its lease has ended");

    let cursor = setup.take(SECOND, 1).await.expect("the lease has ended");
    assert_eq!(cursor, stale);
    assert_eq!(setup.advance(FIRST, 1, stale).await, None, "another one holds it");
    let fact = Fact { state: State::Retrying, error: Some("stale"), code: None };
    let recorded = setup.store.record_state(asker(FIRST, 1), fact).await;
    assert!(!recorded.expect("the database answers"));

    let moved = setup.advance(SECOND, 1, cursor).await.expect("it holds the lease");
    assert_eq!(moved.next_sequence, 1);
    assert_eq!(setup.advance(SECOND, 1, cursor).await, None, "the cursor is elsewhere");
    let facts = setup.facts().await;
    assert_eq!((facts.delivered, facts.delivered_sequence, facts.state), (1, Some(0), State::Accepting));
}

/// What was read before may be gone, and its sequences belong to other events.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_read_before_an_epoch_moves_a_cursor_in_it() {
    let setup = prepared().await;
    let cursor = setup.take(FIRST, 1).await.expect("free");
    let known = KnownLog { epoch: 0, next_sequence: 4 };
    setup.store.check_epoch(Some(known)).await.expect("the database answers");
    setup.append(3..5).await;
    assert_eq!(setup.advance(FIRST, 1, cursor).await, None);
    assert_eq!(setup.take(FIRST, 1).await, Some(cursor), "it begins anew from there");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_document_takes_no_lease_and_moves_no_cursor() {
    let setup = prepared().await;
    let cursor = setup.take(FIRST, 1).await.expect("free");
    setup.store.apply_generation(2).await.expect("the database answers");
    assert_eq!(setup.advance(FIRST, 1, cursor).await, None);
    assert_eq!(setup.take(FIRST, 1).await, None, "not even to renew it");
    assert!(!setup.store.disable_forwarding(asker(FIRST, 1)).await.expect("the database answers"));
    assert_eq!(setup.take(FIRST, 3).await, None, "nor does one that nobody has applied yet");
    assert!(setup.take(FIRST, 2).await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_stops_hands_over_at_once() {
    let setup = Setup::new().await;
    setup.append(0..3).await;
    setup.apply(setup.entry()).await;
    let first = setup.forwarder();
    setup.until_received(3).await;
    let _second = setup.forwarder();

    let stopped = Instant::now();
    first.stop().await;
    setup.append(3..6).await;
    assert_eq!(setup.until_received(6).await, [0, 1, 2, 3, 4, 5]);
    assert!(stopped.elapsed() < Duration::from_secs(3), "after {:?}", stopped.elapsed());
}

/// The first batch is stored but not answered, and the one after it hangs: so the holder has sent
/// what it could not confirm, and is in the middle of sending it again.
async fn in_the_middle_of_sending() -> Setup {
    let setup = Setup::new().await;
    setup.script([Step::StoreThenDrop, Step::Hang]);
    setup.append(0..3).await;
    setup.apply(setup.entry()).await;
    setup
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_holder_is_killed_the_lease_expires_and_its_events_are_sent_again() {
    let setup = in_the_middle_of_sending().await;
    let holder = setup.process();
    setup.until_requests(2).await;
    holder.signal("KILL");
    let killed = Instant::now();

    let _second = setup.forwarder();
    assert_eq!(setup.until_delivered().await.delivered, 3);
    assert!(killed.elapsed() < LEASE + TAKE_OVER_MAX, "after {:?}", killed.elapsed());
    assert_eq!((setup.received(), setup.deliveries()), (vec![0, 1, 2], vec![2, 2, 2]));
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_holder_is_paused_another_goes_on_and_the_paused_one_does_no_harm() {
    let setup = in_the_middle_of_sending().await;
    let holder = setup.process();
    setup.until_requests(2).await;
    holder.signal("STOP");

    let second = setup.forwarder();
    setup.until_delivered().await;
    setup.append(3..6).await;
    setup.until_received(6).await;
    let before = setup.until_delivered().await;
    assert_eq!(before.delivered, 6);

    // Awake again, it has a lease that ended and a batch which another one delivered; when the second
    // is gone, it goes on as if nothing had been.
    holder.signal("CONT");
    setup.append(6..9).await;
    setup.until_received(9).await;
    setup.until_delivered().await;
    second.stop().await;
    setup.append(9..12).await;
    assert_eq!(setup.until_received(12).await, (0..12).collect::<Vec<_>>());
    let facts =
        eventually("the cursor at the head", async || Some(setup.facts().await).filter(|facts| facts.lag_events == 0))
            .await;
    assert_eq!((facts.delivered, facts.delivered_sequence), (12, Some(11)));
    assert_eq!(setup.deliveries(), [vec![2; 3], vec![1; 9]].concat());
}
