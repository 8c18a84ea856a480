//! What Postgres does with the same rows, on the same server with the same settings. The SQL stands beside.

use audittrail_collector::store::Store;
use audittrail_crds::document::{Database, Sensitive};
use audittrail_tests::bench::client::{Load, Outcome};
use audittrail_tests::bench::events::hex;
use audittrail_tests::postgres::Postgres;
use sqlx::{Connection, Executor, PgConnection};
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Events that go into the tables of `pgbench`, at most: as many segments are made ahead.
const PGBENCH_EVENTS_MAX: i64 = 2_000_000;

/// `COPY` into a table with nothing but a primary key, as many rows a COPY and a COMMIT as the load has events a request.
pub async fn copy(postgres: &Postgres, load: Load, events: usize) -> Outcome {
    let database = database(postgres).await;
    let next = Arc::new(AtomicI64::new(0));
    let mut connections = JoinSet::new();
    let begun = Instant::now();
    for _ in 0..load.connections {
        let (database, next) = (database.clone(), Arc::clone(&next));
        connections.spawn(async move {
            let mut connection = PgConnection::connect(&database).await.expect("the server answers");
            let mut copies = Vec::new();
            loop {
                let first = next.fetch_add(rows(load.events_a_request), Ordering::Relaxed);
                if first >= rows(events) {
                    return copies;
                }
                let begun = Instant::now();
                copy_rows(&mut connection, first, load.events_a_request).await;
                copies.push(begun.elapsed());
            }
        });
    }
    let copies = connections.join_all().await.concat();
    Outcome::of(events, begun.elapsed(), copies)
}

/// One COPY and one COMMIT for all rows, in words.
pub async fn one_copy(postgres: &Postgres, events: usize) -> String {
    let database = database(postgres).await;
    let mut connection = PgConnection::connect(&database).await.expect("the server answers");
    let begun = Instant::now();
    copy_rows(&mut connection, 0, events).await;
    format!("{:.0}/s", Outcome::of(events, begun.elapsed(), Vec::new()).events_per_second)
}

/// A new database with the collector's schema and the tables of `baseline.sql`. By its socket: sqlx does not set
/// `TCP_NODELAY`, and a COPY by TCP would wait for delayed acknowledgements.
async fn database(postgres: &Postgres) -> String {
    let uri = postgres.create_database().await;
    let store = Store::lazy(&Database { uri: Sensitive::new(uri.clone()), ca: None }).expect("a good URI");
    store.open("bench").await.expect("the schema is made");
    let mut connection = PgConnection::connect(&uri).await.expect("the server answers");
    connection.execute(include_str!("baseline.sql")).await.expect("the statements are valid");
    let directory: String =
        sqlx::query_scalar("SHOW unix_socket_directories").fetch_one(&mut connection).await.expect("a setting");
    format!("{uri}?host={directory}")
}

async fn copy_rows(connection: &mut PgConnection, first: i64, count: usize) {
    let mut text = String::with_capacity(count * 600);
    for sequence in first..first + rows(count) {
        row(&mut text, sequence);
    }
    let mut copy = connection
        .copy_in_raw("COPY plain (sequence, epoch, received_at, id, \"timestamp\", type, actor_type, actor_id, actor_name, resource_type, resource_id, resource_name, outcome, submitted_by_kind, submitted_by_name, context, changes, personal_salt, body_salt, personal, body, leaf_hash) FROM STDIN")
        .await
        .expect("COPY begins");
    copy.send(text.into_bytes()).await.expect("COPY reads");
    copy.finish().await.expect("COPY ends");
}

fn row(text: &mut String, sequence: i64) {
    let id = hex(rand::random());
    let hash = "5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8";
    writeln!(
        text,
        "{sequence}\t0\t2026-03-02 09:14:06.120+00\t{id}\t2026-03-02 09:14:05.120+00\tEvent Type {}\tuser\tusr_{}\tPerson {}\twarehouse\twhs_{}\tProduction\tsuccess\twriteKey\tbench/writeKey\t{{\"ip\":\"198.51.100.23\",\"requestId\":\"req-1002\"}}\t[{{\"after\":false,\"before\":true,\"field\":\"enabled\"}}]\t\\\\x{id}\t\\\\x{id}\t\\\\x{hash}\t\\\\x{hash}\t\\\\x{hash}",
        sequence % 170,
        sequence % 20_000,
        sequence % 20_000,
        sequence % 100_000,
    )
    .expect("text can be written to");
}

/// `pgbench`, single rows into the collector's own tables, prepared statements.
pub async fn pgbench(postgres: &Postgres, load: Load, events: usize) -> Outcome {
    let uri = database(postgres).await;
    let mut connection = PgConnection::connect(&uri).await.expect("the server answers");
    make_segments(&mut connection).await;
    let script = std::env::temp_dir().join(format!("audittrail-pgbench-{}.sql", std::process::id()));
    std::fs::write(&script, include_str!("pgbench.sql")).expect("written");
    let transactions = (events / load.connections).to_string();
    let clients = load.connections.to_string();
    let begun = Instant::now();
    let output = postgres
        .server()
        .programs()
        .command("pgbench")
        .args(["--no-vacuum", "--protocol=prepared", "--jobs=2", "--client", &clients, "--transactions", &transactions])
        .arg("--file")
        .arg(&script)
        .arg(&uri)
        .output()
        .expect("pgbench can be run");
    let elapsed = begun.elapsed();
    let _gone = std::fs::remove_file(&script);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Outcome::of(events / load.connections * load.connections, elapsed, vec![Duration::ZERO])
}

async fn make_segments(connection: &mut PgConnection) {
    let statement =
        format!("CREATE TABLE event_bench PARTITION OF event FOR VALUES FROM (0) TO ({PGBENCH_EVENTS_MAX})");
    connection.execute(sqlx::AssertSqlSafe(statement)).await.expect("a partition");
}

fn rows(count: usize) -> i64 {
    i64::try_from(count).expect("a small count")
}
