//! Two replicas, each a process of its own: one is killed or paused, and the other goes on. What the first does when it wakes
//! up counts for nothing.

use crate::fixture::{Failpoint, NAME, Process, Setup, event, eventually};
use audittrail_collector::store::forwarding::LEASE;
use audittrail_collector::store::parked::Wanted;
use audittrail_crds::document::{Delivery, Forwarding};
use audittrail_source::script::{Poison, Standing, Step};
use sqlx::{Connection, PgConnection};
use std::time::Duration;
use tokio::time::Instant;

/// What taking over may take beyond the end of the lease.
const TAKE_OVER_MAX: Duration = Duration::from_secs(5);

/// A forwarding's row and what it has parked, as far as a stale holder could spoil it.
#[derive(Clone, Debug, Eq, PartialEq, sqlx::FromRow)]
struct Row {
    next_sequence: i64,
    delivered: i64,
    /// Sequences, and when they were parked.
    parked: Vec<String>,
}

impl Setup {
    async fn row(&self) -> Option<Row> {
        let mut connection = PgConnection::connect(self.uri()).await.expect("the database answers");
        sqlx::query_as(
            "SELECT next_sequence, delivered,
                    ARRAY(SELECT sequence || ' at ' || parked_at FROM parked WHERE forwarding = $1 ORDER BY 1) AS parked
             FROM forwarding WHERE name = $1",
        )
        .bind(NAME)
        .fetch_optional(&mut connection)
        .await
        .expect("the database answers")
    }

    async fn until_row(&self, what: &str, so: impl Fn(&Row) -> bool) -> Row {
        eventually(what, async || self.row().await.filter(|row| so(row))).await
    }

    /// The source refuses these events from now on, and no others.
    fn poison(&self, numbers: &[usize]) {
        let event_ids = numbers.iter().map(|number| event(*number).id).collect();
        self.source.set_standing(Standing { poison: Poison { event_ids, ..Poison::default() }, ..Standing::default() });
    }

    /// One event in a request: an event that is refused was alone from the start.
    fn one_by_one(&self) -> Forwarding {
        let delivery = Delivery { max_batch_events: Some(1), ..Delivery::default() };
        Forwarding { delivery, ..self.entry() }
    }

    /// Starts a first replica that pauses at a failpoint, waits until it has, and takes the lease from it.
    async fn paused_at(&self, failpoint: &'static str) -> Process {
        let first = self.process_with(Some(Failpoint::Pause(failpoint, 1)));
        first.until_paused().await;
        self.end_lease().await;
        first
    }

    /// Starts a second replica, which takes the lease and sends, and gets no answer.
    async fn hanging(&self) -> Process {
        let requests = self.requests();
        self.script([Step::Hang]);
        let second = self.process();
        self.until_requests(requests + 1).await;
        second
    }

    /// Wakes the first replica while the second has the lease, and waits until it has tried to write what it was about to write
    /// (a part of the statement is given): it waits for the table that is locked here, and is done some time after.
    async fn wake(&self, first: &Process, statement: &str) {
        let mut connection = PgConnection::connect(self.uri()).await.expect("the database answers");
        let mut locked = connection.begin().await.expect("a transaction");
        sqlx::query("LOCK TABLE forwarding IN EXCLUSIVE MODE").execute(&mut *locked).await.expect("a lock");
        first.signal("CONT");
        let mut watching = PgConnection::connect(self.uri()).await.expect("the database answers");
        let writes: i32 = eventually("the first replica to write", async || {
            let waits = sqlx::query_scalar(
                "SELECT pid FROM pg_stat_activity
                 WHERE datname = current_database() AND wait_event_type = 'Lock' AND strpos(query, $1) > 0",
            );
            waits.bind(statement).fetch_optional(&mut watching).await.expect("the statement is valid")
        })
        .await;
        locked.rollback().await.expect("the lock is given back");
        eventually("the end of its statement", async || {
            let idle = sqlx::query_scalar("SELECT state = 'idle' FROM pg_stat_activity WHERE pid = $1").bind(writes);
            let idle: bool = idle.fetch_one(&mut watching).await.expect("the connection is there");
            idle.then_some(())
        })
        .await;
    }

    /// Ends the second replica, and lets the first go on alone: if it did harm, it has by then.
    async fn first_alone(&self, second: Process, next: usize) -> Row {
        assert!(second.stop().await.success());
        self.append(next..next + 3).await;
        let end = i64::try_from(next + 3).expect("few");
        self.until_row("the first replica to go on", |row| row.next_sequence == end).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_holder_is_killed_while_it_sends_the_other_replica_goes_on_in_order() {
    take_over("KILL").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_holder_is_paused_while_it_sends_the_other_replica_goes_on_in_order() {
    take_over("STOP").await;
}

/// The holder gets a signal with a request in flight, and events go on coming.
async fn take_over(signal: &str) {
    let setup = Setup::new().await;
    setup.append(0..20).await;
    setup.apply(setup.entry()).await;
    let first = setup.process();
    setup.until_received(20).await;
    setup.until_delivered().await;
    let second = setup.process();
    setup.script([Step::StoreThenHang]);
    setup.append(20..40).await;
    setup.until_received(21).await;
    first.signal(signal);
    let stopped = Instant::now();
    setup.append(40..60).await;

    assert_eq!(setup.until_received(60).await, (0..60).collect::<Vec<_>>());
    assert!(stopped.elapsed() < LEASE + TAKE_OVER_MAX, "after {:?}", stopped.elapsed());
    assert_eq!(setup.until_delivered().await.delivered, 60);

    if signal == "STOP" {
        first.signal("CONT");
        let row = setup.first_alone(second, 60).await;
        assert_eq!((row.next_sequence, row.delivered), (63, 63));
        assert_eq!(setup.received(), (0..63).collect::<Vec<_>>());
    }
    let twice = setup.deliveries().iter().filter(|deliveries| **deliveries == 2).count();
    assert!((1..=20).contains(&twice), "{twice} events came twice");
    assert!(setup.deliveries().iter().all(|deliveries| *deliveries <= 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_holder_does_not_move_the_cursor() {
    let setup = Setup::new().await;
    setup.append(0..3).await;
    setup.apply(setup.entry()).await;
    let first = setup.paused_at("forward::before-move").await;
    let second = setup.hanging().await;
    setup.wake(&first, "delivered = delivered + ").await;
    assert_eq!(setup.row().await, Some(Row { next_sequence: 0, delivered: 0, parked: Vec::new() }));

    let row = setup.first_alone(second, 3).await;
    assert_eq!((row.next_sequence, row.delivered), (6, 6));
    assert_eq!(setup.received(), (0..6).collect::<Vec<_>>());
    assert_eq!(setup.deliveries(), [2, 2, 2, 1, 1, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_holder_parks_nothing() {
    let setup = Setup::new().await;
    setup.poison(&[1]);
    setup.append(0..3).await;
    setup.apply(setup.one_by_one()).await;
    let first = setup.paused_at("forward::before-park").await;
    setup.poison(&[]);
    let second = setup.hanging().await;
    setup.wake(&first, "SELECT count(*) < $9 AS room").await;
    assert_eq!(setup.row().await, Some(Row { next_sequence: 1, delivered: 1, parked: Vec::new() }));

    let row = setup.first_alone(second, 3).await;
    assert_eq!((row.delivered, row.parked), (6, Vec::new()));
    assert_eq!(setup.received(), (0..6).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_holder_takes_nothing_back() {
    let setup = Setup::new().await;
    setup.poison(&[0, 1, 2]);
    setup.append(0..3).await;
    setup.apply(setup.one_by_one()).await;
    let first = setup.paused_at("forward::before-unpark").await;
    setup.poison(&[]);
    let before = setup.row().await.expect("the forwarding has a row");
    assert_eq!((before.next_sequence, before.parked.len()), (2, 2));
    let second = setup.hanging().await;
    setup.wake(&first, "filtered = filtered - ").await;
    assert_eq!(setup.row().await.as_ref(), Some(&before));

    let row = setup.first_alone(second, 3).await;
    assert_eq!((row.delivered, row.parked), (4, before.parked));
    assert_eq!(setup.received(), [2, 3, 4, 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_holder_ends_no_replay() {
    let setup = Setup::new().await;
    setup.poison(&[1]);
    setup.append(0..3).await;
    setup.apply(setup.one_by_one()).await;
    let parking = setup.process();
    let parked =
        setup.until_row("the poison to be parked", |row| row.next_sequence == 3 && row.parked.len() == 1).await;
    assert!(parking.stop().await.success());

    setup.poison(&[]);
    setup.store.ask_for_replay(NAME, &Wanted::All).await.expect("the database answers");
    let first = setup.paused_at("forward::before-replay-done").await;
    let second = setup.hanging().await;
    setup.wake(&first, "FROM sent").await;
    assert_eq!(setup.row().await, Some(parked), "the event is still to be replayed");

    let row = setup.first_alone(second, 3).await;
    assert_eq!((row.delivered, row.parked), (6, Vec::new()));
    assert_eq!(setup.received(), [0, 2, 1, 3, 4, 5]);
}
