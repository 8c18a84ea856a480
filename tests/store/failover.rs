//! A streaming pair of Postgres servers under a collector whose URI names both: nothing acknowledged is lost when the
//! primary goes, and a server that is not the primary is never used.

use audittrail_collector::store::Store;
use audittrail_tests::clients::{Clients, assert_kept};
use audittrail_tests::proxy::Proxy;
use audittrail_tests::served::{Served, document};
use audittrail_tests::streaming::Pair;
use serde_json::json;
use sqlx::{Connection, Executor, PgConnection};
use std::time::Duration;

const CLIENTS: usize = 4;

/// How long events may have to wait after a standby was promoted.
const RECOVERY: Duration = Duration::from_secs(10);

/// The same where no connection tells that its host is gone: a heartbeat notices. No request fails within this time.
const SILENT_RECOVERY: Duration = Duration::from_secs(14);

/// A network before the primary, and the URI with both hosts that goes through it.
async fn through_proxy(pair: &Pair, database: &str) -> (Proxy, String) {
    let port = pair.primary.server().port();
    let proxy = Proxy::start(port).await;
    let uri = pair.uri(database).replace(&format!(":{port},"), &format!(":{},", proxy.port));
    (proxy, uri)
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_when_the_primary_is_killed_and_the_standby_promoted() {
    let mut pair = Pair::start().await;
    let database = pair.create_database().await;
    let served = Served::start(&document(&pair.uri(&database))).await;
    let clients = Clients::start(&served, "before", CLIENTS);
    clients.acknowledge(50).await;

    pair.primary.kill9();
    pair.promote().await;
    let waited = clients.acknowledge(1).await;
    println!("the first 200 came {} ms after the promotion", waited.as_millis());
    assert!(waited < RECOVERY, "{waited:?}");
    clients.acknowledge(50).await;
    let acknowledged = clients.stop().await;
    assert_kept(&pair.standby.uri(&database), &acknowledged).await;

    // The old primary comes back as a standby; it is the first in the URI.
    Pair::demote(&pair.primary);
    pair.primary.restart();
    served.add(vec![json!({"type": "Warehouse Disabled"})]).await;
    let second = Served::start(&document(&pair.uri(&database))).await;
    second.add(vec![json!({"type": "Warehouse Disabled"})]).await;
    assert_kept(&pair.standby.uri(&database), &acknowledged).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_stands_first_is_passed_over() {
    let pair = Pair::start().await;
    let database = pair.create_database().await;
    let served = Served::start(&document(&pair.uri_standby_first(&database))).await;
    let clients = Clients::start(&served, "a", CLIENTS);
    clients.acknowledge(20).await;
    assert_kept(&pair.primary.uri(&database), &clients.stop().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_starts_while_the_first_host_is_dead() {
    let mut pair = Pair::start().await;
    let database = pair.create_database().await;
    pair.primary.kill9();
    pair.promote().await;
    let served = Served::start(&document(&pair.uri(&database))).await;
    served.add(vec![json!({"type": "Warehouse Disabled"})]).await;
}

/// Its machine is gone, and so are its packets: no connection says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_vanishes_without_a_word_is_left_for_the_promoted_one() {
    let pair = Pair::start().await;
    let database = pair.create_database().await;
    let (proxy, through) = through_proxy(&pair, &database).await;
    let served = Served::start(&document(&through)).await;
    let clients = Clients::start(&served, "a", CLIENTS);
    clients.acknowledge(20).await;

    proxy.stall();
    pair.promote().await;
    let waited = clients.acknowledge(CLIENTS + 1).await;
    println!("the first 200 came {} ms after the primary fell silent", waited.as_millis());
    assert!(waited < SILENT_RECOVERY, "{waited:?}");
    clients.acknowledge(20).await;
    assert_kept(&pair.standby.uri(&database), &clients.stop().await).await;
}

/// No connection breaks here: what tells is that the database refuses to write (SQLSTATE 25006).
#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_was_made_read_only_is_left_for_the_promoted_one() {
    let pair = Pair::start().await;
    let database = pair.create_database().await;
    let served = Served::start(&document(&pair.uri(&database))).await;
    let clients = Clients::start(&served, "a", CLIENTS);
    clients.acknowledge(20).await;

    let mut fence = PgConnection::connect(&pair.primary.uri("postgres")).await.expect("the primary answers");
    fence.execute("ALTER SYSTEM SET default_transaction_read_only = on").await.expect("valid");
    fence.execute("SELECT pg_reload_conf()").await.expect("valid");
    pair.promote().await;
    let waited = clients.acknowledge(CLIENTS + 1).await;
    assert!(waited < RECOVERY, "{waited:?}");
    clients.acknowledge(20).await;
    assert_kept(&pair.standby.uri(&database), &clients.stop().await).await;
}

/// What clients were acknowledged stands on the promoted one; the old primary has the one event from before, and no other.
async fn assert_only_the_promoted_one_has(clients: Clients, pair: &Pair, database: &str) {
    assert_kept(&pair.standby.uri(database), &clients.stop().await).await;
    let mut old = PgConnection::connect(&pair.primary.uri(database)).await.expect("the old primary answers");
    let events: i64 = sqlx::query_scalar("SELECT count(*) FROM event").fetch_one(&mut old).await.expect("readable");
    assert_eq!(events, 1);
}

/// Nobody fenced it: it takes writes as before. Its timeline tells.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_primary_that_comes_back_as_if_nothing_had_happened_is_not_written_to() {
    let mut pair = Pair::start().await;
    let database = pair.create_database().await;
    let served = Served::start(&document(&pair.uri(&database))).await;
    served.add(vec![json!({"type": "Warehouse Disabled"})]).await;
    drop(served);
    pair.primary.kill9();
    pair.promote().await;
    Pair::configure(&pair.primary, "synchronous_standby_names = ''");
    pair.primary.restart();

    let served = Served::start(&document(&pair.uri(&database))).await;
    let clients = Clients::start(&served, "a", CLIENTS);
    clients.acknowledge(20).await;
    assert_only_the_promoted_one_has(clients, &pair, &database).await;
}

/// The same with a collector that was there all the time, and only the old primary to be found for a while.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_primary_is_not_written_to_while_the_promoted_one_restarts() {
    let mut pair = Pair::start().await;
    let database = pair.create_database().await;
    let served = Served::start(&document(&pair.uri(&database))).await;
    served.add(vec![json!({"type": "Warehouse Disabled"})]).await;
    pair.primary.kill9();
    pair.promote().await;
    let clients = Clients::start(&served, "a", CLIENTS);
    clients.acknowledge(20).await;
    Pair::configure(&pair.primary, "synchronous_standby_names = ''");
    pair.primary.restart();

    pair.standby.stop();
    let told = || async {
        let report = served.page("/v1/status").await;
        report["database"]["message"]
            .as_str()
            .is_some_and(|message| message.contains("is an old primary on timeline 1"))
    };
    served.until("the report says why nothing is written", told).await;
    pair.standby.restart();
    clients.acknowledge(20).await;
    assert_only_the_promoted_one_has(clients, &pair, &database).await;
}

/// Connections to it were begun while it was the primary, and are made when another one is known to be.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_reaches_an_old_primary_late_is_not_used() {
    let pair = Pair::start().await;
    let database = pair.create_database().await;
    let (proxy, through) = through_proxy(&pair, &database).await;
    let store = Store::lazy(&document(&through).database).expect("a URI");
    store.connect().await.expect("the primary answers");
    let mut old = PgConnection::connect(&pair.primary.uri(&database)).await.expect("the old primary answers");
    old.execute("ALTER SYSTEM SET synchronous_standby_names = ''").await.expect("valid");
    old.execute("SELECT pg_reload_conf()").await.expect("valid");
    pair.promote().await;

    proxy.stall();
    let begun = proxy.connections();
    let late = tokio::spawn({
        let store = store.clone();
        async move { store.connect().await }
    });
    let late_of_pool = tokio::spawn({
        let store = store.clone();
        async move { store.open("team-a/acme").await }
    });
    proxy.until_connections(begun + 2).await;
    store.suspect();
    store.connect().await.expect("the promoted one answers");
    proxy.resume();
    assert!(late.await.expect("no panic").is_err());
    late_of_pool.await.expect("no panic").expect("the promoted one is opened");
    let opened: Option<String> =
        sqlx::query_scalar("SELECT to_regclass('head')::text").fetch_one(&mut old).await.expect("readable");
    assert_eq!(opened, None);
}

/// A COMMIT that waits for a standby which is away is not acknowledged, and is not lost either.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_acknowledged_that_only_one_server_has() {
    let mut pair = Pair::start().await;
    let database = pair.create_database().await;
    let served = Served::start(&document(&pair.uri(&database))).await;
    let clients = Clients::start(&served, "a", CLIENTS);
    clients.acknowledge(20).await;

    pair.standby.kill9();
    let before = clients.acknowledged();
    clients.refused().await;
    // Each client may have had an answer on its way.
    assert!(clients.acknowledged() <= before + CLIENTS, "acknowledged though the standby is away");
    pair.standby.restart();
    clients.acknowledge(20).await;
    assert_kept(&pair.primary.uri(&database), &clients.stop().await).await;
}
