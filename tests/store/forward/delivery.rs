//! Every event arrives, in order, whatever the source does.

use crate::fixture::{KEY, NAME, Setup, eventually};
use audittrail_crds::document::{Delivery, Forwarding, Sensitive};
use audittrail_crds::report::State;
use audittrail_source::script::{Standing, Step};
use audittrail_tests::postgres::Postgres;
use audittrail_tests::proxy::Proxy;
use sqlx::{Connection, Executor, PgConnection};
use std::time::Duration;
use tokio::time::Instant;

/// What a change of the document may take to have its effect.
const EFFECT_MAX: Duration = Duration::from_secs(2);

const fn status(code: u16) -> Step {
    Step::Status { code, retry_after: None }
}

fn all(events: usize) -> Vec<usize> {
    (0..events).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_arrive_once_in_order_and_the_status_counts_them() {
    let setup = Setup::new().await;
    setup.append(0..1_500).await;
    setup.apply(setup.entry()).await;
    let _forwarder = setup.forwarder();
    setup.until_received(1_500).await;
    setup.append(1_500..1_600).await;

    assert_eq!(setup.until_received(1_600).await, all(1_600));
    let facts = setup.until_delivered().await;
    assert_eq!((facts.state, facts.delivered, facts.delivered_sequence), (State::Accepting, 1_600, Some(1_599)));
    assert_eq!((facts.lag_events, facts.lag_seconds, facts.last_error), (0, 0, None));
    assert!(facts.last_success.is_some());
    assert!(setup.deliveries().iter().all(|deliveries| *deliveries == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_was_down_gets_everything_once_it_is_up() {
    let setup = Setup::without_source(Postgres::shared()).await;
    setup.append(0..30).await;
    setup.apply(setup.entry()).await;
    let _forwarder = setup.forwarder();

    let facts = setup.until_state(State::Retrying).await;
    assert!(facts.last_error.expect("says why").contains("Connection refused"));
    assert_eq!((facts.delivered, facts.lag_events, facts.delivered_sequence), (0, 30, None));

    setup.start_source().await;
    assert_eq!(setup.until_received(30).await, all(30));
    assert_eq!(setup.until_delivered().await.state, State::Accepting);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_429_is_tried_again_no_sooner_than_the_source_asks() {
    let setup = Setup::new().await;
    setup.script([Step::Status { code: 429, retry_after: Some(2) }]);
    setup.append(0..3).await;
    setup.apply(setup.entry()).await;
    let _forwarder = setup.forwarder();

    setup.until_requests(1).await;
    let refused = Instant::now();
    assert_eq!(setup.until_received(3).await, all(3));
    // The request is counted a moment before it is answered, so the wait began later, not sooner.
    assert!(refused.elapsed() >= Duration::from_millis(1_900), "after {:?}", refused.elapsed());
    assert_eq!(setup.requests(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_500_and_a_reset_connection_are_tried_again() {
    let setup = Setup::new().await;
    setup.script([status(500), Step::Reset]);
    setup.append(0..3).await;
    setup.apply(setup.entry()).await;
    let _forwarder = setup.forwarder();
    assert_eq!(setup.until_received(3).await, all(3));
    assert_eq!(setup.requests(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn half_an_answer_and_a_batch_that_was_not_ok_are_no_success() {
    let setup = Setup::new().await;
    setup.script([Step::Half, Step::OkFalse]);
    setup.append(0..3).await;
    setup.apply(setup.entry()).await;
    let _forwarder = setup.forwarder();
    assert_eq!(setup.until_received(3).await, all(3));
    // What was not ok is sent in halves.
    assert_eq!(setup.requests(), 4);
    assert_eq!(setup.until_delivered().await.delivered, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_was_stored_without_an_answer_comes_again_with_the_same_message_ids() {
    let setup = Setup::new().await;
    setup.script([Step::StoreThenDrop]);
    setup.append(0..3).await;
    setup.apply(setup.entry()).await;
    let _forwarder = setup.forwarder();
    assert_eq!(setup.until_delivered().await.delivered, 3);
    assert_eq!((setup.received(), setup.deliveries()), (all(3), vec![2, 2, 2]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_key_is_said_and_the_right_key_goes_on_at_once() {
    let setup = Setup::new().await;
    setup.append(0..3).await;
    setup.apply(Forwarding { write_key: Sensitive::new("wrong-key"), ..setup.entry() }).await;
    let _forwarder = setup.forwarder();

    let facts = setup.until_state(State::KeyRefused).await;
    let error = facts.last_error.expect("says why");
    assert!(error.contains("401") && !error.contains("wrong-key"), "{error}");
    assert_eq!((facts.generation, facts.delivered), (1, 0));

    let changed = Instant::now();
    setup.apply(Forwarding { write_key: Sensitive::new(KEY), ..setup.entry() }).await;
    assert_eq!(setup.until_received(3).await, all(3));
    assert!(changed.elapsed() < EFFECT_MAX, "after {:?}", changed.elapsed());
    let facts = setup.until_delivered().await;
    assert_eq!((facts.state, facts.generation), (State::Accepting, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_finds_out_about_the_key_when_there_is_nothing_to_send() {
    let setup = Setup::new().await;
    setup.apply(Forwarding { write_key: Sensitive::new("wrong-key"), ..setup.entry() }).await;
    let _forwarder = setup.forwarder();
    setup.until_state(State::KeyRefused).await;

    setup.apply(setup.entry()).await;
    let facts = setup.until_state(State::Accepting).await;
    assert!(facts.last_success.is_some());
    assert!(setup.received().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_endpoint_is_said() {
    let setup = Setup::new().await;
    setup.append(0..1).await;
    let endpoint = setup.entry().endpoint;
    setup.apply(Forwarding { endpoint: format!("{endpoint}/elsewhere"), ..setup.entry() }).await;
    let _forwarder = setup.forwarder();
    assert!(setup.until_state(State::EndpointRefused).await.last_error.expect("says why").contains("404"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_refused_as_a_whole_arrives_in_halves() {
    let setup = Setup::new().await;
    setup.script([status(400)]);
    setup.append(0..3).await;
    setup.apply(setup.entry()).await;
    let _forwarder = setup.forwarder();
    assert_eq!(setup.until_received(3).await, all(3));
    let facts = setup.until_delivered().await;
    assert_eq!((facts.state, facts.delivered, facts.parked), (State::Accepting, 3, 0));
    assert_eq!((setup.requests(), setup.deliveries()), (3, vec![1; 3]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loop_is_said_and_nothing_is_skipped() {
    let setup = Setup::new().await;
    setup.source.set_standing(Standing { always: Some(Step::Loop), ..Standing::default() });
    setup.append(0..3).await;
    setup.apply(setup.entry()).await;
    let _forwarder = setup.forwarder();
    let facts = setup.until_state(State::Loop).await;
    assert_eq!((facts.last_error_code, facts.delivered, facts.lag_events), (Some(403), 0, 3));
    assert!(facts.retrying_since.is_some());

    setup.source.set_standing(Standing::default());
    setup.apply(setup.entry()).await;
    assert_eq!(setup.until_received(3).await, all(3));
    let facts = setup.until_delivered().await;
    assert_eq!((facts.state, facts.last_error_code, facts.retrying_since), (State::Accepting, None, None));
    let hash = facts.configuration_hash.expect("a hash");
    assert!(hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "{hash}");
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_are_as_large_as_the_forwarding_wants_them() {
    let setup = Setup::new().await;
    setup.append(0..10).await;
    let delivery = Delivery { max_batch_events: Some(4), ..Delivery::default() };
    setup.apply(Forwarding { delivery, ..setup.entry() }).await;
    let _forwarder = setup.forwarder();
    assert_eq!(setup.until_received(10).await, all(10));
    assert_eq!(setup.requests(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_go_out_no_faster_than_the_forwarding_wants_it() {
    let setup = Setup::new().await;
    setup.append(0..50).await;
    let delivery = Delivery { max_events_per_second: Some(20), ..Delivery::default() };
    setup.apply(Forwarding { delivery, ..setup.entry() }).await;
    let _forwarder = setup.forwarder();
    setup.until_received(20).await;
    let first = Instant::now();
    assert_eq!(setup.until_received(50).await, all(50));
    // The third batch goes out two seconds after the first, which was counted a moment after it went out.
    assert!(first.elapsed() >= Duration::from_millis(1_800), "after {:?}", first.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn off_ends_the_request_in_flight_and_keeps_the_cursor() {
    let setup = Setup::new().await;
    setup.append(0..3).await;
    setup.apply(setup.entry()).await;
    let _forwarder = setup.forwarder();
    setup.until_received(3).await;
    setup.until_delivered().await;

    setup.script([Step::Hang]);
    setup.append(3..6).await;
    setup.until_requests(2).await;
    let changed = Instant::now();
    setup.apply(Forwarding { enabled: false, ..setup.entry() }).await;
    let facts = setup.until_state(State::Disabled).await;
    assert!(changed.elapsed() < EFFECT_MAX, "after {:?}", changed.elapsed());
    assert_eq!((facts.delivered, facts.lag_events, facts.generation), (3, 3, 2));
    setup.append(6..9).await;

    setup.apply(setup.entry()).await;
    assert_eq!(setup.until_received(9).await, all(9));
    assert!(setup.deliveries().iter().all(|deliveries| *deliveries == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn off_does_not_wait_for_the_lease_of_another_one() {
    let setup = Setup::new().await;
    let gone = Forwarding { name: "gone".to_owned(), ..setup.entry() };
    setup.apply_all([gone, setup.entry()]).await;
    let _forwarder = setup.forwarder();
    setup.until_requests(2).await;
    let mut connection = PgConnection::connect(setup.uri()).await.expect("the database answers");
    let mut transaction = connection.begin().await.expect("the database answers");
    transaction.execute("SELECT FROM forwarding WHERE name = 'gone' FOR UPDATE").await.expect("valid");
    let changed = Instant::now();
    setup.apply(Forwarding { enabled: false, ..setup.entry() }).await;
    eventually("it is off", async || {
        let facts = setup.store.forwarding_facts().await.ok()?;
        facts.into_iter().find(|facts| facts.name == NAME && facts.state == State::Disabled)
    })
    .await;
    assert!(changed.elapsed() < EFFECT_MAX, "after {:?}", changed.elapsed());
}

/// What was sent over it was received, and no answer comes: neither end says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_forgotten_while_the_cursor_moves_stops_nothing() {
    let setup = Setup::new().await;
    setup.append(0..1).await;
    setup.apply(setup.entry()).await;
    let port = Postgres::shared().server().port();
    let proxy = Proxy::start(port).await;
    let _forwarder = setup.forwarder_at(&setup.uri().replace(&format!(":{port}/"), &format!(":{}/", proxy.port)));
    setup.until_delivered().await;

    let mut connection = PgConnection::connect(setup.uri()).await.expect("the database answers");
    let mut transaction = connection.begin().await.expect("the database answers");
    transaction.execute("SELECT FROM forwarding FOR UPDATE").await.expect("valid");
    setup.append(1..2).await;
    setup.until_received(2).await;
    let moving = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
                  AND query LIKE '%delivered_sequence = $9%'";
    eventually("the cursor is about to move", async || {
        let mut other = PgConnection::connect(setup.uri()).await.ok()?;
        (sqlx::query_scalar::<_, i64>(moving).fetch_one(&mut other).await.ok()? == 1).then_some(())
    })
    .await;
    proxy.forget();
    transaction.rollback().await.expect("the database answers");
    setup.append(2..3).await;
    assert_eq!(setup.until_received(3).await, all(3));
    assert_eq!(setup.until_delivered().await.delivered_sequence, Some(2));
}

/// A place that refused the key or the endpoint may be the wrong one, until an empty batch has passed.
#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_refused_a_batch_is_shown_no_event_before_a_probe_has_passed() {
    let setup = Setup::new().await;
    setup.script([status(404), status(503)]);
    setup.append(0..3).await;
    setup.apply(setup.entry()).await;
    let _forwarder = setup.forwarder();
    assert_eq!(setup.until_received(3).await, all(3));
    assert_eq!((setup.requests(), setup.source.received().counts().probes), (4, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_refused_a_probe_is_shown_no_event_before_another_one_has_passed() {
    let setup = Setup::new().await;
    setup.script([status(404)]);
    setup.apply(setup.entry()).await;
    let _forwarder = setup.forwarder();
    setup.until_state(State::EndpointRefused).await;
    setup.append(0..3).await;
    assert_eq!(setup.until_received(3).await, all(3));
    assert_eq!((setup.requests(), setup.source.received().counts().probes), (3, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_elsewhere_in_the_document_leaves_a_forwarding_alone() {
    let setup = Setup::new().await;
    setup.apply(setup.entry()).await;
    let _forwarder = setup.forwarder();
    setup.until_state(State::Accepting).await;
    let probes = setup.requests();
    setup.apply_elsewhere().await;
    setup.append(0..3).await;
    assert_eq!(setup.until_received(3).await, all(3));
    assert_eq!(setup.requests(), probes + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_killed_and_comes_back_loses_nothing_of_the_order() {
    let mut postgres = Postgres::start();
    let setup = Setup::without_source(&postgres).await;
    setup.start_source().await;
    setup.append(0..200).await;
    setup.apply(setup.entry()).await;
    let _forwarder = setup.forwarder();
    setup.until_received(1).await;

    postgres.kill9();
    postgres.restart();
    setup.append(200..300).await;
    assert_eq!(setup.until_received(300).await, all(300));
    assert_eq!(setup.until_delivered().await.delivered_sequence, Some(299));
}
