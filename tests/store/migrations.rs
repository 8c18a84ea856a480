//! Schema versions: whoever starts first migrates, a newer schema is lived with, and a floor is kept.

use audittrail_tests::postgres::Postgres;
use audittrail_tests::served::{Served, body, document};
use futures::future::join_all;
use reqwest::header::RETRY_AFTER;
use serde_json::json;
use sqlx::{Connection, Executor, PgConnection, PgPool};

const COLLECTORS: usize = 5;

async fn connect(uri: &str) -> PgConnection {
    PgConnection::connect(uri).await.expect("the database answers")
}

#[tokio::test(flavor = "multi_thread")]
async fn collectors_that_start_at_once_on_an_empty_database_migrate_once_and_all_come_up() {
    let uri = Postgres::shared().create_database().await;
    let document = document(&uri);
    let all = join_all((0..COLLECTORS).map(|_| Served::start(&document))).await;
    for served in &all {
        served.add(vec![json!({"type": "Warehouse Disabled"})]).await;
    }
    let mut connection = connect(&uri).await;
    let (applied, versions): (i64, i64) =
        sqlx::query_as("SELECT count(*) FILTER (WHERE success), count(DISTINCT version) FROM _sqlx_migrations")
            .fetch_one(&mut connection)
            .await
            .expect("readable");
    assert!(applied >= 1);
    assert_eq!(applied, versions);
    let events: i64 =
        sqlx::query_scalar("SELECT next_sequence FROM head").fetch_one(&mut connection).await.expect("a head");
    assert_eq!(events, i64::try_from(COLLECTORS).expect("small"));
}

/// Expand before contract: what a newer version added does not disturb this one.
#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_is_one_version_newer_is_written_and_read() {
    let uri = Postgres::shared().create_database().await;
    drop(Served::start(&document(&uri)).await);
    let mut connection = connect(&uri).await;
    connection
        .execute(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
                 SELECT max(version) + 1, 'of a newer collector', true, '\\x00', 0 FROM _sqlx_migrations;
             ALTER TABLE event ADD COLUMN of_a_newer_version text;
             ALTER TABLE head ADD COLUMN of_a_newer_version bigint NOT NULL DEFAULT 7;
             ALTER TABLE segment ADD COLUMN of_a_newer_version text;
             ALTER TABLE forwarding ADD COLUMN of_a_newer_version text;
             ALTER TABLE replica ADD COLUMN of_a_newer_version text;
             CREATE TABLE of_a_newer_version (a int)",
        )
        .await
        .expect("valid");
    let served = Served::start(&document(&uri)).await;
    served.add(vec![json!({"id": "evt_1", "type": "Warehouse Disabled"})]).await;
    assert_eq!(served.page("/v1/events").await["events"][0]["id"], "evt_1");
}

/// A collector of schema 4, as it wrote before events had `passed`: the type that it writes with is still there.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_collector_goes_on_writing_beside_a_newer_one() {
    let uri = Postgres::shared().create_database().await;
    let served = Served::start(&document(&uri)).await;
    served.add(vec![json!({"id": "evt_1", "type": "Warehouse Disabled"})]).await;
    connect(&uri)
        .await
        .execute(
            r#"WITH given AS (
                 SELECT given.* FROM event, LATERAL unnest(ARRAY[ROW(
                     received_at::date, 1, 'evt_2', "timestamp", type, actor_type, actor_id, actor_name, actor_email,
                     resource_type, resource_id, resource_name, outcome, submitted_by_kind, submitted_by_name, context,
                     changes, details, personal_salt, body_salt, personal, body, leaf_hash
                 )]::given_event[]) AS given WHERE event.sequence = 0
             ), ids AS (
                 INSERT INTO event_id (day, id, sequence) SELECT day, id, sequence FROM given
             ), moved AS (
                 UPDATE head SET next_sequence = 2
             )
             INSERT INTO event (
                 sequence, epoch, received_at, id, "timestamp", type,
                 actor_type, actor_id, actor_name, actor_email, resource_type, resource_id, resource_name, outcome,
                 submitted_by_kind, submitted_by_name, context, changes, details,
                 personal_salt, body_salt, personal, body, leaf_hash
             )
             SELECT
                 sequence, 0, now(), id, "timestamp", type,
                 actor_type, actor_id, actor_name, actor_email, resource_type, resource_id, resource_name, outcome,
                 submitted_by_kind, submitted_by_name, context::json, changes::json, details::json,
                 personal_salt, body_salt, personal, body, leaf_hash
             FROM given"#,
        )
        .await
        .expect("what a collector of schema 4 writes with");
    served.add(vec![json!({"id": "evt_3", "type": "Warehouse Disabled"})]).await;
    let page = served.page("/v1/events?order=asc&type=Warehouse%20Disabled").await;
    let ids = page["events"].as_array().expect("events").iter().map(|event| event["id"].as_str().expect("an id"));
    assert_eq!(ids.collect::<Vec<_>>(), ["evt_1", "evt_2", "evt_3"]);
}

/// The columns come while statements are prepared: none may say "cached plan must not change result type".
#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_grows_under_a_running_collector_disturbs_nothing() {
    let uri = Postgres::shared().create_database().await;
    let served = Served::start(&document(&uri)).await;
    served.add(vec![json!({"id": "evt_1", "type": "Warehouse Disabled"})]).await;
    served.page("/v1/events").await;
    connect(&uri)
        .await
        .execute(
            "ALTER TABLE event ADD COLUMN of_a_newer_version text;
             ALTER TABLE head ADD COLUMN of_a_newer_version text;
             ALTER TABLE segment ADD COLUMN of_a_newer_version text;
             ALTER TABLE replica ADD COLUMN of_a_newer_version text",
        )
        .await
        .expect("valid");
    served.add(vec![json!({"id": "evt_2", "type": "Warehouse Disabled"})]).await;
    assert_eq!(served.page("/v1/events").await["events"][0]["id"], "evt_2");
    assert_eq!(served.state().await, "verified");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_whose_floor_was_raised_is_refused_with_a_clear_word() {
    let uri = Postgres::shared().create_database().await;
    drop(Served::start(&document(&uri)).await);
    connect(&uri).await.execute("UPDATE schema_floor SET version = 999").await.expect("valid");

    let served = Served::start_without_waiting(&document(&uri)).await;
    let said = "needs a collector that knows schema version 999";
    served
        .until("the reason is known", || async {
            served.page("/v1/status").await["database"]["message"]
                .as_str()
                .is_some_and(|message| message.contains(said))
        })
        .await;
    let event = json!({"type": "Warehouse Disabled", "actor": {"type": "system", "id": "test"}});
    let answer = served.post("/v1/events").json(&event).send().await.expect("answered");
    assert_eq!(answer.status(), 503);
    assert!(answer.headers().contains_key(RETRY_AFTER));
    assert!(body(answer).await["detail"].as_str().expect("text").contains(said));
}

/// The lock is the session's: on a connection that goes back to a pool it would stay.
#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_fails_leaves_no_lock_behind() {
    let uri = Postgres::shared().create_database().await;
    let mut owner = connect(&uri).await;
    owner
        .execute("CREATE ROLE guest LOGIN; REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        .await
        .expect("the role is new to the server");
    let as_guest = document(&uri.replace("postgres@", "guest@"));
    let first = Served::start_without_waiting(&as_guest).await;
    let refused = || async {
        let report = first.page("/v1/status").await;
        report["database"]["message"].as_str().is_some_and(|message| message.contains("permission denied"))
    };
    first.until("the reason is known", refused).await;
    owner.execute("GRANT CREATE ON SCHEMA public TO guest").await.expect("valid");
    let second = Served::start(&as_guest).await;
    for served in [&first, &second] {
        served.until("the log is open", || async { served.state().await == "verified" }).await;
    }
    let pool = PgPool::connect(&uri).await.expect("the database answers");
    // The keeper's stays on purpose, and that under which segments are made for a moment.
    let free = || async {
        sqlx::query_scalar(
            "SELECT count(*) = 0 FROM pg_locks JOIN pg_database ON pg_database.oid = database
             WHERE locktype = 'advisory' AND datname = current_database()
               AND (classid::bigint << 32 | objid::bigint) <> x'6b6565706572'::bigint",
        )
        .fetch_one(&pool)
        .await
        .expect("readable")
    };
    second.until("only the keeper has a lock", free).await;
}
