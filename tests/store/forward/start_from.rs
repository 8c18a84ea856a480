//! Where a forwarding starts, and that it goes on from there.

use crate::fixture::{Setup, eventually};
use audittrail_crds::document::{Forwarding, StartFrom};
use audittrail_crds::report::State;
use audittrail_tests::postgres::Postgres;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use sqlx::{Connection, Executor, PgConnection};

fn starting(setup: &Setup, start_from: StartFrom) -> Forwarding {
    Forwarding { start_from, ..setup.entry() }
}

/// Applies `start_from` and returns where it puts the cursor of a trail of so many events.
async fn first_sequence(setup: &Setup, events: i64, start_from: StartFrom) -> i64 {
    setup.apply(starting(setup, start_from.clone())).await;
    let generation = setup.generation();
    let prepared = setup.store.prepare_forwarding(&starting(setup, start_from), generation).await;
    assert!(prepared.expect("the database answers"));
    events - setup.facts().await.lag_events
}

/// Rewrites when events were received: a moment in a resource has whole seconds, and tests do not wait for those.
async fn receive_ten_each_two_seconds(setup: &Setup, first: &'static str) {
    let mut connection = PgConnection::connect(setup.uri()).await.expect("the database answers");
    sqlx::query("UPDATE event SET received_at = $1::timestamptz + sequence / 10 * interval '2 seconds'")
        .bind(first)
        .execute(&mut connection)
        .await
        .expect("the statement is valid");
}

#[tokio::test(flavor = "multi_thread")]
async fn now_is_the_moment_of_creation_even_while_the_source_is_down() {
    let setup = Setup::without_source(Postgres::shared()).await;
    setup.append(0..3).await;
    setup.apply(starting(&setup, StartFrom::Now)).await;
    let _forwarder = setup.forwarder();
    eventually("the cursor", async || setup.has_row().await.then_some(())).await;
    setup.append(3..5).await;
    setup.start_source().await;
    assert_eq!(setup.until_received(2).await, [3, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn now_is_the_moment_of_creation_even_of_a_forwarding_that_is_off() {
    let setup = Setup::new().await;
    setup.append(0..3).await;
    let entry = starting(&setup, StartFrom::Now);
    setup.apply(Forwarding { enabled: false, ..entry.clone() }).await;
    let _forwarder = setup.forwarder();
    setup.until_state(State::Disabled).await;
    setup.append(3..5).await;
    setup.apply(entry).await;
    assert_eq!(setup.until_received(2).await, [3, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_value_makes_the_cursor_anew_and_the_same_value_does_not() {
    let setup = Setup::new().await;
    setup.append(0..3).await;
    setup.apply(starting(&setup, StartFrom::Now)).await;
    let _forwarder = setup.forwarder();
    setup.until_state(State::Accepting).await;
    setup.append(3..5).await;
    setup.until_received(2).await;
    setup.until_delivered().await;

    setup.apply(starting(&setup, StartFrom::Now)).await;
    setup.append(5..6).await;
    assert_eq!(setup.until_received(3).await, [3, 4, 5]);
    setup.until_delivered().await;
    setup.apply(starting(&setup, StartFrom::Beginning)).await;
    assert_eq!(setup.until_received(6).await, [3, 4, 5, 0, 1, 2]);
    assert_eq!(setup.until_delivered().await.delivered, 9);
    assert_eq!(setup.deliveries(), [2, 2, 2, 1, 1, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forwarding_that_is_made_again_goes_on_where_the_last_of_its_name_was() {
    let setup = Setup::new().await;
    setup.append(0..3).await;
    setup.apply(setup.entry()).await;
    let _forwarder = setup.forwarder();
    setup.until_delivered().await;
    setup.apply(None).await;
    setup.append(3..5).await;
    setup.apply(setup.entry()).await;
    assert_eq!(setup.until_received(5).await, [0, 1, 2, 3, 4]);
    assert_eq!(setup.deliveries(), [1; 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cursor_starts_at_a_sequence_at_the_beginning_or_at_the_first_event_since_a_moment() {
    let setup = Setup::new().await;
    assert_eq!(first_sequence(&setup, 0, StartFrom::Beginning).await, 0);
    setup.append(0..50).await;
    assert_eq!(first_sequence(&setup, 50, StartFrom::Sequence(7)).await, 7);
    assert_eq!(first_sequence(&setup, 50, StartFrom::Sequence(-7)).await, 0);

    receive_ten_each_two_seconds(&setup, "2026-03-02T09:00:00Z").await;
    let at = |moment: &str| StartFrom::Time(Time(moment.parse().expect("valid")));
    assert_eq!(first_sequence(&setup, 50, at("2026-03-02T09:00:04Z")).await, 20);
    assert_eq!(first_sequence(&setup, 50, at("2026-03-02T09:00:05Z")).await, 30);
    assert_eq!(first_sequence(&setup, 50, at("2020-01-01T00:00:00Z")).await, 0);
    assert_eq!(first_sequence(&setup, 50, at("2026-03-02T09:00:09Z")).await, 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moment_that_lies_ahead_makes_no_cursor_yet() {
    let setup = Setup::new().await;
    let ahead = Timestamp::now() + SignedDuration::from_hours(1);
    let entry = starting(&setup, StartFrom::Time(Time(ahead)));
    setup.apply(entry.clone()).await;
    assert!(!setup.store.prepare_forwarding(&entry, 1).await.expect("the database answers"));
    assert!(!setup.has_row().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_retention_has_dropped_is_no_lag() {
    let setup = Setup::new().await;
    setup.append(0..10).await;
    setup.apply(setup.entry()).await;
    assert!(setup.store.prepare_forwarding(&setup.entry(), 1).await.expect("the database answers"));
    assert_eq!(setup.facts().await.lag_events, 10);
    let mut connection = PgConnection::connect(setup.uri()).await.expect("the database answers");
    connection.execute("DELETE FROM event WHERE sequence < 8").await.expect("valid");
    assert_eq!(setup.facts().await.lag_events, 2);
    connection.execute("DELETE FROM event").await.expect("valid");
    assert_eq!(setup.facts().await.lag_events, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_document_makes_no_cursor_anew() {
    let setup = Setup::new().await;
    setup.append(0..3).await;
    assert_eq!(first_sequence(&setup, 3, StartFrom::Now).await, 3);
    setup.store.apply_generation(2).await.expect("the database answers");
    let older = setup.store.prepare_forwarding(&starting(&setup, StartFrom::Beginning), 1).await;
    assert!(!older.expect("the database answers"));
    assert_eq!(setup.facts().await.lag_events, 0);
}
