//! The life of segments on a real Postgres: made ahead, written down, dropped by retention, with a collector running.

use audittrail_collector::store::segment::SEGMENT_EVENTS;
use audittrail_crds::document::{Document, Forwarding, Sensitive, StartFrom};
use audittrail_tests::postgres::Postgres;
use audittrail_tests::served::{Served, document};
use serde_json::{Value, json};
use sqlx::postgres::PgPool;

const HOUR: i64 = 3600;

/// A collector on a database of its own, and a way to look into it.
struct Trail {
    served: Served,
    pool: PgPool,
    document: Document,
}

impl Trail {
    async fn start(change: impl FnOnce(&mut Document)) -> Self {
        let uri = Postgres::shared().create_database().await;
        let pool = PgPool::connect(&uri).await.expect("the server answers");
        let mut document = document(&uri);
        change(&mut document);
        let served = Served::start(&document).await;
        Self { served, pool, document }
    }

    /// Puts the document in force with a change.
    fn apply(&mut self, change: impl FnOnce(&mut Document)) {
        change(&mut self.document);
        self.document.generation += 1;
        self.served.apply(&self.document);
    }

    async fn run(&self, statement: &'static str) {
        sqlx::query(statement).execute(&self.pool).await.expect("the statement is valid");
    }

    async fn number(&self, query: &'static str) -> i64 {
        sqlx::query_scalar(query).fetch_one(&self.pool).await.expect("the query is valid")
    }

    async fn until(&self, what: &str, query: &'static str) {
        let holds = || async { sqlx::query_scalar(query).fetch_one(&self.pool).await.expect("the query is valid") };
        self.served.until(what, holds).await;
    }

    /// Two events: `last-of-0`, the last of the first segment, and `first-of-1`.
    async fn cross_the_first_end(&self) {
        self.until("there is a second segment", "SELECT count(*) > 1 FROM segment").await;
        sqlx::query("UPDATE head SET next_sequence = $1")
            .bind(SEGMENT_EVENTS - 1)
            .execute(&self.pool)
            .await
            .expect("moved");
        self.served.add(vec![event("last-of-0"), event("first-of-1")]).await;
    }

    /// Waits for two rounds of the keeper, each of which writes down a block that is missing.
    async fn two_rounds(&self) {
        for _ in 0..2 {
            self.run("WITH gone AS (DELETE FROM posting WHERE first_sequence = 0) DELETE FROM block WHERE first_sequence = 0").await;
            self.until("a round is done", "SELECT count(*) = 5 FROM block").await;
        }
    }

    /// Of all events, oldest first. That somebody looked is one event more afterwards.
    async fn ids(&self) -> Vec<String> {
        let page = self.served.page("/v1/events?order=asc").await;
        let events = page["events"].as_array().expect("a list").iter();
        events.map(|event| event["id"].as_str().expect("text").to_owned()).collect()
    }

    async fn log(&self) -> Value {
        self.served.page("/v1/status").await["log"].clone()
    }
}

fn event(id: &str) -> Value {
    json!({"id": id, "type": "Warehouse Disabled"})
}

fn forwarding(document: &Document) -> Forwarding {
    let entry = Forwarding::new("to-nobody", "http://127.0.0.1:9", Sensitive::new("key"));
    Forwarding { generation: document.generation, start_from: StartFrom::Beginning, ..entry }
}

#[tokio::test(flavor = "multi_thread")]
async fn segments_are_there_before_they_are_needed() {
    let trail = Trail::start(|_| {}).await;
    trail.until("four segments are ready", "SELECT count(*) >= 4 FROM segment").await;
    trail.cross_the_first_end().await;
    trail.until("another is ready", "SELECT count(*) >= 5 FROM segment").await;
    assert_eq!(trail.ids().await, ["last-of-0", "first-of-1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_find_what_lies_in_blocks_and_after_them() {
    let trail = Trail::start(|_| {}).await;
    trail.cross_the_first_end().await;
    trail.until("the first segment is written down", "SELECT count(*) = 5 FROM block").await;
    for filter in
        ["type=Warehouse%20Disabled", "actor=test&actorType=system", "area=Warehouses&submittedBy=acme/writeKey"]
    {
        let page = trail.served.page(&format!("/v1/events?{filter}")).await;
        assert_eq!(page["events"].as_array().expect("a list").len(), 2, "{filter}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_drops_a_segment_with_its_ids() {
    let mut trail = Trail::start(|_| {}).await;
    trail.cross_the_first_end().await;
    trail.run("UPDATE event SET received_at = received_at - interval '2 hours' WHERE id = 'last-of-0'").await;
    trail.apply(|document| document.retention_seconds = Some(HOUR));
    trail.until("it is gone", "SELECT to_regclass('event_0000000000000000000') IS NULL").await;
    trail.until("it is forgotten", "SELECT NOT EXISTS (SELECT FROM segment WHERE first_sequence = 0)").await;
    assert_eq!(trail.number("SELECT count(*) FROM event_id").await, 1);
    assert_eq!(trail.ids().await, ["first-of-1"]);
    assert_eq!(trail.log().await["firstSequence"], SEGMENT_EVENTS);
    // What was dropped is not known any more, what is kept is.
    let answer = trail.served.post("/v1/events").json(&json!({"events": [
        {"id": "last-of-0", "type": "Warehouse Enabled", "actor": {"type": "system", "id": "test"}},
        {"id": "first-of-1", "type": "Warehouse Disabled", "actor": {"type": "system", "id": "test"}},
    ]}));
    let receipt: Value = answer.send().await.expect("answered").json().await.expect("JSON");
    assert_eq!((&receipt["accepted"], &receipt["duplicates"]), (&json!(1), &json!(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drop_that_a_crash_interrupted_is_finished() {
    let trail = Trail::start(|_| {}).await;
    trail.cross_the_first_end().await;
    trail.run("ALTER TABLE event DETACH PARTITION event_0000000000000000000").await;
    trail.run("UPDATE segment SET dropping_at = now() WHERE first_sequence = 0").await;
    trail.until("it is forgotten", "SELECT NOT EXISTS (SELECT FROM segment WHERE first_sequence = 0)").await;
    assert_eq!(trail.number("SELECT count(*) FROM event_id").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_that_fills_slowly_is_shortened() {
    let mut trail = Trail::start(|_| {}).await;
    trail.served.add(vec![event("old"), event("recent")]).await;
    trail.run("UPDATE event SET received_at = received_at - interval '2 days' WHERE id = 'old'").await;
    trail.apply(|document| document.retention_seconds = Some(HOUR));
    trail.until("the old event is gone", "SELECT NOT EXISTS (SELECT FROM event WHERE id = 'old')").await;
    assert_eq!(trail.number("SELECT count(*) FROM event_id").await, 1);
    assert_eq!(trail.ids().await, ["recent"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_enabled_forwarding_holds_what_it_has_not_delivered() {
    hold_and_let_go(|_| {}).await;
}

/// Its Secret is away for a weekend, say.
#[tokio::test(flavor = "multi_thread")]
async fn a_forwarding_that_lacks_something_holds_what_it_has_not_delivered() {
    hold_and_let_go(|entry| (entry.enabled, entry.incomplete) = (false, true)).await;
}

async fn hold_and_let_go(change: impl Fn(&mut Forwarding)) {
    let mut trail = Trail::start(|_| {}).await;
    trail.cross_the_first_end().await;
    trail.apply(|document| document.forwardings = vec![forwarding(document)]);
    trail.until("it has a cursor", "SELECT count(*) = 1 FROM forwarding").await;
    trail.apply(|document| change(&mut document.forwardings[0]));
    trail.run("UPDATE event SET received_at = received_at - interval '2 hours' WHERE id = 'last-of-0'").await;
    trail.apply(|document| document.retention_seconds = Some(HOUR));
    let held = || async { trail.log().await["retentionHeld"]["forwardings"] == json!(["to-nobody"]) };
    trail.served.until("it holds the segment", held).await;
    assert_eq!(trail.ids().await, ["last-of-0", "first-of-1"]);

    trail.run("UPDATE event SET received_at = received_at - interval '8 days' WHERE id = 'last-of-0'").await;
    trail.until("it is gone all the same", "SELECT to_regclass('event_0000000000000000000') IS NULL").await;
    let log = trail.log().await;
    assert_eq!(log["undeliveredDropped"], SEGMENT_EVENTS - (SEGMENT_EVENTS - 1));
    assert_eq!(log["retentionHeld"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forwarding_that_is_off_holds_nothing() {
    let mut trail = Trail::start(|_| {}).await;
    trail.cross_the_first_end().await;
    trail.apply(|document| document.forwardings = vec![forwarding(document)]);
    trail.until("it has a cursor", "SELECT count(*) = 1 FROM forwarding").await;
    trail.run("UPDATE event SET received_at = received_at - interval '2 hours' WHERE id = 'last-of-0'").await;
    trail.apply(|document| {
        document.forwardings[0].enabled = false;
        document.retention_seconds = Some(HOUR);
    });
    trail.until("it is gone", "SELECT to_regclass('event_0000000000000000000') IS NULL").await;
}

/// What is dropped does not come back: a replica that is cut off from Kubernetes may have an old retention.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_with_an_old_document_drops_nothing() {
    let mut trail = Trail::start(|_| {}).await;
    trail.cross_the_first_end().await;
    trail.run("UPDATE event SET received_at = received_at - interval '2 hours' WHERE id = 'last-of-0'").await;
    trail.run("UPDATE configuration SET generation = 9").await;
    trail.apply(|document| document.retention_seconds = Some(HOUR));
    let in_force = || async { trail.served.page("/v1/status").await["generation"] == 2 };
    trail.served.until("the document is in force", in_force).await;
    trail.until("the first segment is written down", "SELECT count(*) = 5 FROM block").await;
    trail.two_rounds().await;
    assert_eq!(trail.ids().await, ["last-of-0", "first-of-1"]);
    trail.apply(|document| document.generation = 9);
    trail.until("it is gone", "SELECT to_regclass('event_0000000000000000000') IS NULL").await;
}

/// A keeper that was paused goes on with what its document said.
#[tokio::test(flavor = "multi_thread")]
async fn a_newer_configuration_stops_a_drop_that_was_decided_before() {
    let mut trail = Trail::start(|_| {}).await;
    trail.cross_the_first_end().await;
    trail.run("UPDATE event SET received_at = received_at - interval '2 hours' WHERE id = 'last-of-0'").await;
    trail.until("the first segment is written down", "SELECT count(*) = 5 FROM block").await;
    let mut pause = trail.pool.begin().await.expect("the server answers");
    sqlx::query("LOCK TABLE forwarding").execute(&mut *pause).await.expect("valid");
    trail.apply(|document| document.retention_seconds = Some(HOUR));
    let asks = "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database()
                    AND wait_event_type = 'Lock' AND query LIKE 'SELECT min(next_sequence) FROM forwarding%'";
    trail.until("the keeper asks for what was delivered", asks).await;
    trail.run("UPDATE configuration SET generation = 9").await;
    pause.commit().await.expect("the server answers");
    trail.two_rounds().await;
    assert_eq!(trail.ids().await, ["last-of-0", "first-of-1"]);
}
