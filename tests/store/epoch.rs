//! A database that was restored or rewound: the collector notices, raises the epoch and says so.

use audittrail_crds::document::{Document, KnownLog};
use audittrail_tests::postgres::Postgres;
use audittrail_tests::served::{Served, document};
use serde_json::{Value, json};
use sqlx::{Connection, Executor, PgConnection};
use std::path::Path;
use std::process::Command;

fn event(id: &str) -> Value {
    json!({"id": id, "type": "Warehouse Disabled"})
}

async fn epochs(served: &Served) -> Vec<(String, i64)> {
    let page = served.page("/v1/events?order=asc").await;
    let events = page["events"].as_array().expect("a list").iter();
    events
        .map(|event| (event["id"].as_str().expect("text").to_owned(), event["epoch"].as_i64().expect("a number")))
        .collect()
}

async fn log(served: &Served) -> Value {
    served.page("/v1/status").await["log"].clone()
}

async fn until_epoch(served: &Served, epoch: i64) {
    served.until("the epoch is raised", || async { log(served).await["epoch"] == epoch }).await;
}

fn copy(from: &Path, to: &Path) {
    let _gone = std::fs::remove_dir_all(to);
    let done = Command::new("cp").arg("-a").args([from, to]).status().expect("cp is there");
    assert!(done.success());
}

/// As when a volume is put back from a snapshot: nothing in the database tells, but the collector remembers.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_put_back_from_a_snapshot_begins_an_epoch() {
    let mut postgres = Postgres::start();
    let served = Served::start(&document(&postgres.create_database().await)).await;
    served.add(vec![event("kept")]).await;
    let data = postgres.server().directory().join("data");
    let snapshot = data.with_file_name("snapshot");
    postgres.stop();
    copy(&data, &snapshot);
    postgres.restart();
    served.until("it writes again", || async { served.state().await == "verified" }).await;
    served.add(vec![event("lost 1"), event("lost 2")]).await;
    // The page is the fourth event: who looked.
    let cursor = served.page("/v1/events?limit=1").await["nextCursor"].as_str().expect("more").to_owned();

    postgres.stop();
    copy(&snapshot, &data);
    postgres.restart();
    until_epoch(&served, 1).await;
    served.add(vec![event("after")]).await;
    assert_eq!(epochs(&served).await, [("kept".to_owned(), 0), ("after".to_owned(), 1)]);
    let raised = &log(&served).await["raised"];
    assert_eq!(raised["firstSequence"], 1);
    assert_eq!(raised["reason"], "in epoch 0 the log had 4 events; it was found in epoch 0 with 1");
    let answer = served.get(&format!("/v1/events?limit=1&cursor={cursor}")).send().await.expect("answered");
    assert_eq!(answer.status(), 400);
    assert!(answer.text().await.expect("text").contains("before the database was restored"));
}

/// A failover to a standby that lagged: the log is as long again as it was before anybody looks who knows that it was not.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_another_replica_went_on_with_first_begins_an_epoch() {
    for wrote_again in [false, true] {
        let uri = Postgres::shared().create_database().await;
        let (first, second) = (Served::start(&document(&uri)).await, Served::start(&document(&uri)).await);
        first.add(vec![event("kept"), event("lost")]).await;
        let mut connection = PgConnection::connect(&uri).await.expect("the server answers");
        // A failover ends every connection.
        let rewound = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                       WHERE datname = current_database() AND pid <> pg_backend_pid();
                       BEGIN; DELETE FROM event WHERE id = 'lost'; DELETE FROM event_id WHERE id = 'lost';
                       UPDATE head SET next_sequence = 1; COMMIT";
        connection.execute(rewound).await.expect("rewound");
        second.add(vec![event("new 1"), event("new 2")]).await;
        if wrote_again {
            first.add(vec![event("new 3")]).await;
        }
        until_epoch(&first, 1).await;
        assert!(log(&first).await["raised"]["reason"].as_str().is_some_and(|reason| !reason.is_empty()));
    }
}

/// What stands in the database by now, without a collector that remembers more.
async fn written(events: Vec<Value>) -> (&'static Postgres, String) {
    let postgres = Postgres::shared();
    let uri = postgres.create_database().await;
    let served = Served::start(&document(&uri)).await;
    served.add(events).await;
    (postgres, uri)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_operator_remembers_begins_an_epoch() {
    let (_, uri) = written(vec![event("kept")]).await;
    let known = |next_sequence| Document { known_log: Some(KnownLog { epoch: 0, next_sequence }), ..document(&uri) };
    let served = Served::start(&known(1)).await;
    assert_eq!(log(&served).await["epoch"], 0);
    served.apply(&Document { generation: 2, ..known(9) });
    until_epoch(&served, 1).await;
    // What was said of the epoch before changes nothing in this one.
    served.apply(&Document { generation: 3, ..known(10) });
    served.add(vec![event("after")]).await;
    assert_eq!(epochs(&served).await, [("kept".to_owned(), 0), ("after".to_owned(), 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_restored_from_a_dump_begins_an_epoch() {
    let (postgres, uri) = written(vec![event("kept")]).await;
    let other = Postgres::start();
    let restored = other.create_database().await;
    let file = std::env::temp_dir().join(format!("audittrail-dump-{}.sql", std::process::id()));
    let dump = postgres.server().programs().command("pg_dump").arg(&uri).output().expect("pg_dump is there");
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    std::fs::write(&file, dump.stdout).expect("written");
    let psql = other
        .server()
        .programs()
        .command("psql")
        .args(["-q", "-v", "ON_ERROR_STOP=1", "-f"])
        .arg(&file)
        .arg(&restored)
        .output();
    let psql = psql.expect("psql is there");
    assert!(psql.status.success(), "{}", String::from_utf8_lossy(&psql.stderr));
    let _gone = std::fs::remove_file(&file);

    let served = Served::start(&document(&restored)).await;
    let log = log(&served).await;
    assert_eq!((&log["epoch"], &log["nextSequence"]), (&json!(1), &json!(1)));
    assert!(log["raised"]["reason"].as_str().expect("text").contains("another Postgres server"), "{log}");
}

/// A cursor past the end would skip the events that get those sequences next.
#[tokio::test(flavor = "multi_thread")]
async fn a_forwarding_goes_on_from_where_the_restored_log_ends() {
    let (_, uri) = written(vec![event("kept")]).await;
    let mut connection = PgConnection::connect(&uri).await.expect("the server answers");
    connection
        .execute(
            "INSERT INTO forwarding (name, start_from, epoch, next_sequence, generation, state)
             VALUES ('ahead', '{}', 0, 9, 1, 'Accepting'), ('behind', '{}', 0, 0, 1, 'Accepting')",
        )
        .await
        .expect("two rows");
    let known_log = Some(KnownLog { epoch: 0, next_sequence: 9 });
    let served = Served::start(&Document { known_log, ..document(&uri) }).await;
    until_epoch(&served, 1).await;
    let cursors: Vec<(String, i64)> = sqlx::query_as("SELECT name, next_sequence FROM forwarding ORDER BY 1")
        .fetch_all(&mut connection)
        .await
        .expect("two rows");
    assert_eq!(cursors, [("ahead".to_owned(), 1), ("behind".to_owned(), 0)]);
}
