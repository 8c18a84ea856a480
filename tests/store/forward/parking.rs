//! Events that a source refuses: which are parked, when the forwarding waits instead, and how they are sent again. What filters
//! leave out is counted beside them.

mod replay;

use crate::fixture::{Forwarder, NAME, Setup, event, eventually};
use audittrail_collector::event::Event;
use audittrail_collector::store::forwarding::{Asker, Standing as Held};
use audittrail_collector::store::parked::{ParkedEvent, Place, Wanted};
use audittrail_collector::store::parking::{Parking, Refused};
use audittrail_crds::document::{Forwarding, StartFrom};
use audittrail_crds::filter::{EventFilter, Selector};
use audittrail_crds::report::{self, State};
use audittrail_source::script::{Poison, PoisonAnswer, Standing, Step};
use sqlx::{Connection, PgConnection};
use std::ops::Range;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

const REPLICA: Uuid = Uuid::from_u128(1);

/// What a change of the document may take to have its effect.
const EFFECT_MAX: Duration = Duration::from_secs(2);

fn refusing(numbers: &[usize], answer: PoisonAnswer) -> Standing {
    let event_ids = numbers.iter().map(|number| event(*number).id).collect();
    Standing { poison: Poison { event_ids, answer, ..Poison::default() }, ..Standing::default() }
}

fn without(numbers: Range<usize>, parked: &[usize]) -> Vec<usize> {
    numbers.filter(|number| !parked.contains(number)).collect()
}

/// An event that the filter of [`Setup::filtering`] leaves out.
fn noise(number: usize) -> Event {
    Event { r#type: "Permission Check".to_owned(), ..event(number) }
}

impl Setup {
    /// The source refuses these events.
    fn refuse(&self, numbers: &[usize]) {
        self.source.set_standing(refusing(numbers, PoisonAnswer::Refuse));
    }

    /// The source refuses whatever it gets.
    fn refuse_all(&self) {
        let always = Some(Step::Status { code: 400, retry_after: None });
        self.source.set_standing(Standing { always, ..Standing::default() });
    }

    fn accept_all(&self) {
        self.source.set_standing(Standing::default());
    }

    fn filtering(&self) -> Forwarding {
        let exclude = vec![Selector { r#type: vec![noise(0).r#type], ..Selector::default() }];
        Forwarding { filter: EventFilter { exclude, ..EventFilter::default() }, ..self.entry() }
    }

    async fn parked(&self) -> Vec<ParkedEvent> {
        self.store.parked(NAME, Place::START, 100).await.expect("the database answers")
    }

    async fn until(&self, what: &str, so: impl Fn(&report::Forwarding) -> bool) -> report::Forwarding {
        eventually(what, async || self.store.forwarding_facts().await.ok()?.into_iter().next().filter(&so)).await
    }

    async fn until_parked(&self, parked: i64) -> report::Forwarding {
        self.until(&format!("{parked} parked events"), |facts| facts.parked == parked).await
    }

    async fn ask_for_replay(&self) -> i64 {
        self.store.ask_for_replay(NAME, &Wanted::All).await.expect("the database answers")
    }

    /// A lease on events without a source, for calls of the store.
    async fn held(&self, events: usize) -> Held {
        self.append(0..events).await;
        self.apply(self.entry()).await;
        assert!(self.store.prepare_forwarding(&self.entry(), 1).await.expect("the database answers"));
        self.store.take_lease(asker()).await.expect("the database answers").expect("free")
    }

    async fn park(&self, held: Held, sequence: i64, room_max: i64) -> Parking {
        let filtered = sequence - held.cursor.next_sequence;
        let parking = self.store.park(asker(), held.cursor, filtered, refused(sequence), room_max).await;
        parking.expect("the database answers")
    }
}

/// A trail of so many events, all delivered but these, which are parked.
async fn delivered_but(events: usize, refused: &[usize]) -> (Setup, Forwarder) {
    let setup = Setup::new().await;
    setup.refuse(refused);
    setup.append(0..events).await;
    setup.apply(setup.entry()).await;
    let forwarder = setup.forwarder();
    setup.until_delivered().await;
    assert_eq!(setup.parked().await.len(), refused.len());
    (setup, forwarder)
}

fn asker() -> Asker<'static> {
    Asker { forwarding: NAME, entry_generation: 1, configuration_hash: "hash", replica: REPLICA, generation: 1 }
}

fn refused(sequence: i64) -> Refused<'static> {
    Refused { place: Place { epoch: 0, sequence }, code: Some(400), reason: "no" }
}

fn parked(parking: Parking) -> Held {
    match parking {
        Parking::Done(held) => held,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_poison_event_in_five_hundred_is_parked_and_all_others_arrive_in_order() {
    for answer in [PoisonAnswer::Refuse, PoisonAnswer::OkFalse] {
        let setup = Setup::new().await;
        setup.source.set_standing(refusing(&[137], answer));
        setup.append(0..500).await;
        setup.apply(setup.entry()).await;
        let _forwarder = setup.forwarder();
        let facts = setup.until_delivered().await;
        assert_eq!((facts.delivered, facts.parked, facts.filtered, facts.state), (499, 1, 0, State::Accepting));
        assert_eq!(setup.received(), without(0..500, &[137]));
        // Nine halvings of five hundred, and as many that pass.
        assert!(setup.requests() <= 22, "{} requests", setup.requests());

        let row = &setup.parked().await[0];
        assert_eq!((row.place(), row.id.as_str()), (Place { epoch: 0, sequence: 137 }, "evt_137"));
        assert_eq!(row.code, Some(if answer == PoisonAnswer::Refuse { 400 } else { 200 }));
        assert!(row.reason.contains("the source answered"), "{}", row.reason);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_poison_events_in_a_row_are_parked_and_accepted_events_begin_the_count_anew() {
    let setup = Setup::new().await;
    let poison = [3, 4, 6, 7, 11];
    setup.refuse(&poison);
    setup.append(0..20).await;
    setup.apply(setup.entry()).await;
    let _forwarder = setup.forwarder();
    let facts = setup.until_delivered().await;
    assert_eq!((facts.delivered, facts.parked, facts.state), (15, 5, State::Accepting));
    assert_eq!(setup.received(), without(0..20, &poison));
}

#[tokio::test(flavor = "multi_thread")]
async fn at_three_in_a_row_nothing_is_parked_and_the_forwarding_waits_until_something_changes() {
    let setup = Setup::new().await;
    setup.refuse(&[4, 5, 6]);
    setup.append(0..10).await;
    setup.apply(setup.entry()).await;
    let first = setup.forwarder();
    let facts = setup.until_state(State::EventRefused).await;
    assert_eq!((facts.delivered, facts.parked, facts.lag_events, facts.filtered), (4, 0, 6, 0));
    assert_eq!(facts.last_error_code, Some(400));

    // Whoever takes over waits too.
    first.stop().await;
    let requests = setup.requests();
    let _second = setup.forwarder();
    eventually("the other replica to try", async || (setup.requests() > requests + 3).then_some(())).await;
    let facts = setup.until_state(State::EventRefused).await;
    assert_eq!((facts.parked, facts.lag_events), (0, 6));
    assert_eq!(setup.parked().await, []);

    let changed = Instant::now();
    setup.refuse(&[5]);
    setup.apply(setup.entry()).await;
    setup.until_received(9).await;
    assert!(changed.elapsed() < EFFECT_MAX, "after {:?}", changed.elapsed());
    let facts = setup.until_delivered().await;
    assert_eq!((facts.delivered, facts.parked, facts.state), (9, 1, State::Accepting));
    assert_eq!(setup.received(), without(0..10, &[5]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_refuses_everything_parks_nothing_of_a_trickle() {
    let setup = Setup::new().await;
    setup.refuse_all();
    setup.apply(setup.entry()).await;
    let first = setup.forwarder();
    setup.append(0..1).await;
    setup.until_parked(1).await;
    setup.append(1..2).await;
    setup.until_parked(2).await;
    // The count is in the row: it outlives whoever counts.
    first.stop().await;
    let _second = setup.forwarder();
    setup.append(2..3).await;
    let facts = setup.until_state(State::EventRefused).await;
    assert_eq!((facts.delivered, facts.parked, facts.lag_events), (0, 0, 3));

    setup.accept_all();
    setup.apply(setup.entry()).await;
    assert_eq!(setup.until_received(3).await, [0, 1, 2]);
    let facts = setup.until_delivered().await;
    assert_eq!((facts.delivered, facts.parked, facts.state), (3, 0, State::Accepting));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_large_is_split_and_a_lone_event_that_is_gets_parked() {
    let setup = Setup::new().await;
    setup.source.set_standing(Standing { body_max_bytes: Some(5_000), ..Standing::default() });
    setup.append(0..30).await;
    let large = Event { id: "evt_30".to_owned(), r#type: "x".repeat(100), ..event(30) };
    let details = serde_json::json!({"text": "x".repeat(6_000)}).as_object().cloned();
    setup.append_events(vec![Event { details, ..large }]).await;
    setup.append(31..33).await;
    setup.apply(setup.entry()).await;
    let _forwarder = setup.forwarder();
    let facts = setup.until_delivered().await;
    assert_eq!((facts.delivered, facts.parked), (32, 1));
    assert_eq!(setup.received(), without(0..33, &[30]));
    assert_eq!(setup.parked().await[0].code, Some(413));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_filter_leaves_out_is_counted_and_passed() {
    let setup = Setup::new().await;
    setup.refuse(&[5]);
    setup.append_events(vec![noise(0), event(1), noise(2), noise(3), event(4), event(5), noise(6)]).await;
    setup.apply(setup.filtering()).await;
    let _forwarder = setup.forwarder();
    let facts = setup.until_delivered().await;
    assert_eq!((facts.delivered, facts.filtered, facts.parked, facts.delivered_sequence), (2, 4, 1, Some(4)));
    assert_eq!(setup.received(), [1, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn traffic_that_the_filter_leaves_out_moves_the_cursor_without_a_request() {
    let setup = Setup::new().await;
    setup.apply(setup.filtering()).await;
    let _forwarder = setup.forwarder();
    let before = setup.until_state(State::Accepting).await;
    let requests = setup.requests();
    setup.append_events((0..100).map(noise).collect()).await;
    let facts = setup.until("the cursor at the head", |facts| facts.filtered == 100 && facts.lag_events == 0).await;
    assert_eq!((facts.delivered, facts.last_success), (0, before.last_success));
    assert_eq!(setup.requests(), requests);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_cannot_be_used_is_said_and_another_one_goes_on() {
    let setup = Setup::new().await;
    setup.append(0..3).await;
    let include = vec![Selector { area: vec!["Nowhere".to_owned()], ..Selector::default() }];
    let filter = EventFilter { include, ..EventFilter::default() };
    setup.apply(Forwarding { filter, ..setup.entry() }).await;
    let _forwarder = setup.forwarder();
    let facts = setup.until_state(State::FilterInvalid).await;
    assert!(facts.last_error.expect("says why").contains("area"));
    assert_eq!((facts.lag_events, setup.requests()), (3, 0));

    setup.apply(setup.filtering()).await;
    assert_eq!(setup.until_received(3).await, [0, 1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn un_parking_takes_back_what_was_counted_as_left_out() {
    let setup = Setup::new().await;
    setup.refuse_all();
    setup.append_events(vec![noise(0), event(1), noise(2), event(3), noise(4), noise(5), event(6)]).await;
    setup.apply(setup.filtering()).await;
    let _forwarder = setup.forwarder();
    let facts = setup.until_state(State::EventRefused).await;
    assert_eq!((facts.filtered, facts.parked, facts.lag_events), (1, 0, 6));
    setup.accept_all();
    setup.apply(setup.filtering()).await;
    let facts = setup.until_delivered().await;
    assert_eq!((facts.filtered, facts.delivered, facts.parked), (4, 3, 0));
    assert_eq!(setup.received(), [1, 3, 6]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_cursor_made_anew_delivers_is_parked_no_more_and_the_rest_is() {
    let (setup, _forwarder) = delivered_but(6, &[1, 4]).await;

    setup.refuse(&[4]);
    setup.apply(Forwarding { start_from: StartFrom::Sequence(0), ..setup.entry() }).await;
    let facts = setup.until("all again", |facts| facts.delivered == 9 && facts.lag_events == 0).await;
    assert_eq!(facts.parked, 1);
    assert_eq!(setup.parked().await[0].id, "evt_4");
    assert_eq!(setup.received(), [0, 2, 3, 5, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_is_parked_than_there_is_room_for() {
    let setup = Setup::new().await;
    let held = setup.held(3).await;
    let held = parked(setup.park(held, 0, 1).await);
    assert_eq!((held.cursor.next_sequence, held.refused_in_a_row), (1, 1));
    assert_eq!(setup.park(held, 1, 1).await, Parking::Full);
    assert_eq!(setup.facts().await.lag_events, 2);
    let held = parked(setup.park(held, 1, 2).await);
    assert_eq!((held.cursor.next_sequence, held.refused_in_a_row), (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn un_parking_goes_back_to_the_first_and_keeps_what_retention_has_dropped() {
    let setup = Setup::new().await;
    let held = setup.held(6).await;
    let held = parked(setup.park(held, 1, 10).await);
    let held = parked(setup.park(held, 3, 10).await);
    assert_eq!(setup.facts().await.filtered, 2);
    let mut connection = PgConnection::connect(setup.uri()).await.expect("the database answers");
    sqlx::query("DELETE FROM event WHERE sequence < 2").execute(&mut connection).await.expect("valid");

    let back = setup.store.unpark(asker(), held.cursor, refused(4)).await.expect("the database answers");
    let back = back.expect("it holds the lease");
    assert_eq!((back.cursor.next_sequence, back.refused_in_a_row), (3, 3));
    let left: Vec<String> = setup.parked().await.into_iter().map(|row| row.id).collect();
    assert_eq!(left, ["evt_1"]);
    let facts = setup.facts().await;
    assert_eq!((facts.filtered, facts.state, facts.last_error_code), (2, State::EventRefused, Some(400)));
    assert_eq!(setup.store.unpark(asker(), held.cursor, refused(4)).await.expect("answers"), None, "it moved already");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_parked_before_in_another_pass_is_parked_once() {
    let setup = Setup::new().await;
    let held = setup.held(2).await;
    let first = parked(setup.park(held, 0, 10).await);
    let mut connection = PgConnection::connect(setup.uri()).await.expect("the database answers");
    sqlx::query("UPDATE forwarding SET next_sequence = 0").execute(&mut connection).await.expect("valid");
    assert_eq!(setup.ask_for_replay().await, 1);
    assert_ne!(first.cursor, held.cursor);
    parked(setup.park(held, 0, 10).await);
    let rows = setup.parked().await;
    assert_eq!((rows.len(), rows[0].replay_asked_at), (1, None));
}
