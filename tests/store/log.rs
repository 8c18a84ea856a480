//! The log on a real Postgres: gapless, in order, nothing lost, nothing twice.

use audittrail_collector::event::leaf::{Place, Salts, Sealed};
use audittrail_collector::event::{
    Actor, ActorType, Change, Context, Event, Resource, StoredEvent, SubmittedBy, SubmitterKind,
};
use audittrail_collector::ingest::room::Room;
use audittrail_collector::store::connect::OpenError;
use audittrail_collector::store::segment::SEGMENT_EVENTS;
use audittrail_collector::store::writer::{WriteError, Writer};
use audittrail_collector::store::{Outcome, Receipt, Request, Store};
use audittrail_crds::document::{Database, Sensitive};
use audittrail_tests::postgres::Postgres;
use serde_json::json;
use sqlx::{Connection, PgConnection};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const CLAIM: &str = "cluster/acme/acme";

fn store(uri: &str) -> Store {
    Store::lazy(&Database { uri: Sensitive::new(uri), ca: None }).expect("the URI is valid")
}

/// A log of its own on the shared server, and a connection to look into it.
async fn log() -> (Store, PgConnection) {
    let uri = Postgres::shared().create_database().await;
    let store = store(&uri);
    store.open(CLAIM).await.expect("migrated");
    (store, PgConnection::connect(&uri).await.expect("reachable"))
}

fn event(id: impl Into<String>) -> Event {
    Event {
        id: id.into(),
        timestamp: None,
        r#type: "Warehouse Disabled".to_owned(),
        actor: Some(Actor { r#type: ActorType::User, id: "usr_1".to_owned(), name: None, email: None }),
        resource: None,
        outcome: None,
        context: None,
        changes: Vec::new(),
        details: None,
    }
}

fn by() -> SubmittedBy {
    SubmittedBy { kind: SubmitterKind::WriteKey, name: "acme-write-key/writeKey".to_owned() }
}

async fn append(writer: &Writer, events: Vec<Event>) -> Result<Receipt, WriteError> {
    writer.append(events, by(), Room::default().enter()).await
}

async fn everything(store: &Store) -> Vec<StoredEvent> {
    store.events_from(0, usize::MAX).await.expect("readable")
}

fn ids(events: &[StoredEvent]) -> Vec<&str> {
    events.iter().map(|stored| stored.event.id.as_str()).collect()
}

#[track_caller]
fn assert_gapless(events: &[StoredEvent]) {
    let sequences: Vec<i64> = events.iter().map(|stored| stored.sequence).collect();
    let expected: Vec<i64> = (0..).take(events.len()).collect();
    assert_eq!(sequences, expected);
    assert!(events.is_sorted_by_key(|stored| stored.received_at), "receivedAt goes back");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_write_one_gapless_log() {
    let (first, _) = log().await;
    let second = first.clone();
    let writers = [Writer::start(first.clone(), CLAIM.to_owned()), Writer::start(second, CLAIM.to_owned())];
    let requests = (0..200).map(|number| {
        let writer = writers[number % 2].clone();
        let events = (0..3).map(|index| event(format!("{number}/{index}"))).collect();
        tokio::spawn(async move { append(&writer, events).await })
    });
    for request in requests.collect::<Vec<_>>() {
        assert_eq!(request.await.expect("ran").expect("stored").accepted, 3);
    }
    let events = everything(&first).await;
    assert_eq!(events.len(), 600);
    assert_gapless(&events);
}

/// Whether what a process has written is still there is asked while it writes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_looked_at_while_it_is_written_to_stays_in_its_epoch() {
    let (store, _) = log().await;
    let writer = Writer::start(store.clone(), CLAIM.to_owned());
    let writing = async {
        for number in 0..500 {
            append(&writer, vec![event(number.to_string())]).await.expect("stored");
        }
    };
    let looking = async {
        loop {
            store.check_epoch(None).await.expect("the database answers");
        }
    };
    tokio::select! {
        () = writing => {}
        () = looking => unreachable!("it never ends"),
    }
    let events = everything(&store).await;
    assert_gapless(&events);
    assert!(events.iter().all(|stored| stored.epoch == 0), "{:?}", events.last());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_comes_back_as_it_was_written_and_its_leaf_can_be_proven() {
    let (store, mut connection) = log().await;
    let log_id = store.open(CLAIM).await.expect("open again");
    let awkward = "tab\t newline\n backslash-dot\n\\.\n quote\" \\N é 🦀";
    let whole = Event {
        timestamp: Some("2026-03-02T09:14:05.123456Z".parse().expect("valid")),
        resource: Some(Resource {
            r#type: "warehouse".to_owned(),
            id: awkward.to_owned(),
            name: Some(awkward.to_owned()),
        }),
        context: Some(Context { ip: Some("::1".to_owned()), user_agent: Some(awkward.to_owned()), request_id: None }),
        changes: vec![Change {
            field: "enabled".to_owned(),
            before: Some(json!(true)),
            after: Some(json!([1.5, null, awkward])),
        }],
        details: json!({"deep": {"text": awkward, "number": 9_007_199_254_740_992_u64}}).as_object().cloned(),
        ..event("evt_1")
    };
    let writer = Writer::start(store.clone(), CLAIM.to_owned());
    append(&writer, vec![whole.clone()]).await.expect("stored");

    let stored = everything(&store).await.remove(0);
    assert!(stored.holds(&whole), "{stored:?}");
    let (personal, body, leaf_hash): (Vec<u8>, Vec<u8>, Vec<u8>) =
        sqlx::query_as("SELECT personal_salt, body_salt, leaf_hash FROM event")
            .fetch_one(&mut connection)
            .await
            .expect("a row");
    let salts = Salts { personal: personal.try_into().expect("16 bytes"), body: body.try_into().expect("16 bytes") };
    let place =
        Place { trail: log_id, epoch: stored.epoch, sequence: stored.sequence, received_at: stored.received_at };
    assert_eq!(Sealed::new(whole, salts).leaf_hash(&place, &stored.submitted_by)[..], leaf_hash);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_event_again_is_a_duplicate() {
    let (store, _) = log().await;
    let writer = Writer::start(store.clone(), CLAIM.to_owned());
    let dated = Event { timestamp: Some("2020-01-01T00:00:00Z".parse().expect("valid")), ..event("dated") };
    let batch = vec![event("a"), dated, event("a")];
    let first = append(&writer, batch.clone()).await.expect("stored");
    assert_eq!(first, Receipt { accepted: 2, duplicates: 1, last_sequence: Some(1) });
    let again = append(&writer, batch).await.expect("stored");
    assert_eq!(again, Receipt { accepted: 0, duplicates: 3, last_sequence: Some(1) });
    assert_eq!(ids(&everything(&store).await), ["a", "dated"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_with_other_content_is_refused_with_all_that_came_with_it() {
    let (store, _) = log().await;
    let writer = Writer::start(store.clone(), CLAIM.to_owned());
    append(&writer, vec![event("a")]).await.expect("stored");
    let other = Event { r#type: "Warehouse Enabled".to_owned(), ..event("a") };
    let refused = append(&writer, vec![event("b"), other.clone(), event("c")]).await;
    assert_eq!(refused, Err(WriteError::Conflict(vec![1])));
    assert_eq!(ids(&everything(&store).await), ["a"]);
    assert_eq!(
        append(&writer, vec![event("d"), Event { outcome: None, ..other }]).await,
        Err(WriteError::Conflict(vec![1]))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_in_a_group_leaves_the_other_requests_alone() {
    let (store, _) = log().await;
    let request = |events: Vec<Event>| Request {
        events: events
            .into_iter()
            .map(|event| Sealed::new(event, Salts { personal: [1; 16], body: [2; 16] }))
            .collect(),
        submitted_by: by(),
    };
    let other = Event { r#type: "Warehouse Enabled".to_owned(), ..event("a") };
    let group = [request(vec![event("a")]), request(vec![event("b"), other]), request(vec![event("c")])];
    let outcomes = store.append(CLAIM, &group).await.expect("committed");
    assert_eq!(outcomes[1], Outcome::Conflict(vec![1]));
    assert!(
        matches!(outcomes[2], Outcome::Stored(Receipt { accepted: 1, last_sequence: Some(1), .. })),
        "{outcomes:?}"
    );
    let events = everything(&store).await;
    assert_eq!(ids(&events), ["a", "c"]);
    assert_gapless(&events);
}

/// After a COMMIT of unknown outcome the same request is tried again, with the same salts.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_try_of_the_same_request_counts_its_own_rows_as_accepted() {
    let (store, _) = log().await;
    let salts = |byte| Salts { personal: [byte; 16], body: [byte; 16] };
    let request = |salts| [Request { events: vec![Sealed::new(event("a"), salts)], submitted_by: by() }];
    let first = store.append(CLAIM, &request(salts(1))).await.expect("committed");
    assert_eq!(store.append(CLAIM, &request(salts(1))).await.expect("committed"), first);
    let by_another = store.append(CLAIM, &request(salts(2))).await.expect("committed");
    assert_eq!(by_another, [Outcome::Stored(Receipt { accepted: 0, duplicates: 1, last_sequence: Some(0) })]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_may_cross_the_end_of_a_segment() {
    let (store, mut connection) = log().await;
    let before_the_end = SEGMENT_EVENTS - 2;
    sqlx::query("UPDATE head SET next_sequence = $1")
        .bind(before_the_end)
        .execute(&mut connection)
        .await
        .expect("moved");
    let writer = Writer::start(store.clone(), CLAIM.to_owned());
    let dated = |id: &str, timestamp: &str| Event { timestamp: Some(timestamp.parse().expect("valid")), ..event(id) };
    let batch = vec![
        dated("a", "2026-01-02T00:00:00Z"),
        dated("b", "2026-01-01T00:00:00Z"),
        dated("c", "2026-01-03T00:00:00Z"),
    ];
    let receipt = append(&writer, batch).await.expect("stored");
    assert_eq!(receipt.last_sequence, Some(SEGMENT_EVENTS));
    let segments: Vec<(i64, String, String)> = sqlx::query_as(
        "SELECT first_sequence, to_char(first_timestamp AT TIME ZONE 'UTC', 'DD'), to_char(last_timestamp AT TIME ZONE 'UTC', 'DD')
         FROM segment ORDER BY 1",
    )
    .fetch_all(&mut connection)
    .await
    .expect("readable");
    let day = |first, earliest: &str, latest: &str| (first, earliest.to_owned(), latest.to_owned());
    assert_eq!(segments, [day(0, "01", "02"), day(SEGMENT_EVENTS, "03", "03")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn received_at_does_not_go_back_when_the_clock_does() {
    let (store, mut connection) = log().await;
    sqlx::query("UPDATE head SET last_received_at = clock_timestamp() + interval '1 hour'")
        .execute(&mut connection)
        .await
        .expect("moved");
    let writer = Writer::start(store.clone(), CLAIM.to_owned());
    append(&writer, vec![event("a")]).await.expect("stored");
    append(&writer, vec![event("b")]).await.expect("stored");
    let events = everything(&store).await;
    assert!(events[0].received_at > jiff::Timestamp::now() + Duration::from_mins(50));
    assert_gapless(&events);
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_start_together_migrate_once() {
    let uri = Postgres::shared().create_database().await;
    let opened = futures::future::join_all((0..4).map(|_| async { store(&uri).open(CLAIM).await })).await;
    let log_ids: BTreeSet<_> = opened.into_iter().map(|log_id| log_id.expect("opened")).collect();
    assert_eq!(log_ids.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_trail_is_told_whose_database_it_is() {
    let (store, _) = log().await;
    let error = store.open("cluster/other/other").await.expect_err("in use");
    assert!(matches!(&error, OpenError::InUse { claim } if claim == CLAIM), "{error}");
    let writer = Writer::start(store, "cluster/other/other".to_owned());
    assert_eq!(append(&writer, vec![event("a")]).await, Err(WriteError::Unavailable));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_binary_older_than_the_floor_of_the_schema_refuses_it() {
    let (store, mut connection) = log().await;
    sqlx::query("UPDATE schema_floor SET version = 999").execute(&mut connection).await.expect("raised");
    let error = store.open(CLAIM).await.expect_err("too old");
    assert!(matches!(error, OpenError::TooOld { floor: 999, .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_configuration_never_goes_back() {
    let (store, _) = log().await;
    assert_eq!(store.apply_generation(7).await.expect("applied"), 7);
    assert_eq!(store.apply_generation(3).await.expect("answered"), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_is_read_back_with_what_the_database_promises() {
    let (store, _) = log().await;
    let heartbeat = store.heartbeat("pod-1", 7).await.expect("written");
    assert!(heartbeat.durability.fsync && heartbeat.durability.full_page_writes);
    assert_eq!(heartbeat.durability.synchronous_commit, "on");
    let replicas = store.replicas().await.expect("readable");
    assert_eq!(
        replicas.iter().map(|replica| (replica.name.as_str(), replica.generation)).collect::<Vec<_>>(),
        [("pod-1", 7)]
    );
    store.forget_replicas(Some("pod-1")).await.expect("forgotten");
    assert!(store.replicas().await.expect("readable").is_empty());
}

/// Clients write without pause while the database is killed again and again; each sends an id until it
/// is acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_kills_of_the_database_once_and_in_order() {
    const KILLS: usize = 5;
    const CLIENTS: usize = 4;
    let mut postgres = Postgres::start();
    let uri = postgres.create_database().await;
    let store = store(&uri);
    store.open(CLAIM).await.expect("migrated");
    let writer = Writer::start(store.clone(), CLAIM.to_owned());
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let clients: Vec<_> =
        (0..CLIENTS).map(|client| tokio::spawn(write_until(writer.clone(), client, stopped.clone()))).collect();
    for kill in 0..KILLS {
        // At least one commit between kills, so that each kill meets running writers.
        let goal = 20 * (i64::try_from(kill).expect("small") + 1);
        wait_until(|| async { store.head().await.is_ok_and(|head| head.next_sequence >= goal) }).await;
        postgres.kill9();
        postgres.restart();
    }
    stop.send(true).expect("clients listen");
    let mut acknowledged = BTreeMap::new();
    for client in clients {
        acknowledged.extend(client.await.expect("ran"));
    }
    let events = everything(&store).await;
    assert_gapless(&events);
    let count = events.len();
    let stored: BTreeMap<String, i64> = events.into_iter().map(|stored| (stored.event.id, stored.sequence)).collect();
    assert_eq!(stored.len(), count, "an id stands twice");
    assert_eq!(acknowledged, stored);
}

/// Writes one event after the other, each until it is acknowledged; returns ids with their sequences.
async fn write_until(writer: Writer, client: usize, stopped: tokio::sync::watch::Receiver<bool>) -> Vec<(String, i64)> {
    let mut acknowledged = Vec::new();
    for number in 0.. {
        if *stopped.borrow() {
            break;
        }
        let id = format!("{client}/{number}");
        let receipt = loop {
            match append(&writer, vec![event(&id)]).await {
                Ok(receipt) => break receipt,
                Err(WriteError::Unavailable | WriteError::Overloaded) => {}
                Err(error) => panic!("{id}: {error}"),
            }
        };
        acknowledged.push((id, receipt.last_sequence.expect("a sequence")));
    }
    acknowledged
}

async fn wait_until<F: Future<Output = bool>>(mut condition: impl FnMut() -> F) {
    let reached = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), reached).await.expect("the condition holds within a minute");
}
