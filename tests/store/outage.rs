//! A database that is away for a while, in each of the ways it can be: requests fail clearly, nothing acknowledged is lost
//! or doubled, and the collector recovers by itself.

use audittrail_collector::store::Store;
use audittrail_collector::store::parked::Wanted;
use audittrail_tests::clients::{Clients, assert_kept};
use audittrail_tests::postgres::Postgres;
use audittrail_tests::proxy::Proxy;
use audittrail_tests::served::{DEADLINE, Served, document};
use serde_json::json;
use sqlx::{Connection, Executor, PgConnection};
use std::time::{Duration, Instant};

const CLIENTS: usize = 4;

/// Until connections that got lost without a word are replaced: a heartbeat notices. No request fails within this time.
const FORGOTTEN_RECOVERY: Duration = Duration::from_secs(14);

/// A new database: a proxy before it, its URI through that, and its own.
async fn database_behind_a_proxy() -> (Proxy, String, String) {
    let postgres = Postgres::shared();
    let uri = postgres.create_database().await;
    let proxy = Proxy::start(postgres.server().port()).await;
    let through = uri.replace(&format!(":{}/", postgres.server().port()), &format!(":{}/", proxy.port));
    (proxy, through, uri)
}

/// A collector that reaches its database through a proxy, and the database's own URI.
async fn behind_a_proxy() -> (Served, Proxy, String) {
    let (proxy, through, uri) = database_behind_a_proxy().await;
    (Served::start(&document(&through)).await, proxy, uri)
}

async fn number(connection: &mut PgConnection, query: &'static str) -> i64 {
    sqlx::query_scalar(query).fetch_one(connection).await.expect("the query is valid")
}

/// Waits until a query gives this number.
async fn until(connection: &mut PgConnection, query: &'static str, wanted: i64) {
    let deadline = Instant::now() + DEADLINE;
    while number(connection, query).await != wanted {
        assert!(Instant::now() < deadline, "waited in vain: {query}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn restarts_and_kills_of_the_database_lose_nothing() {
    let mut postgres = Postgres::start();
    let uri = postgres.create_database().await;
    let served = Served::start(&document(&uri)).await;
    let clients = Clients::start(&served, "a", CLIENTS);
    for _ in 0..2 {
        clients.acknowledge(20).await;
        postgres.restart();
        clients.acknowledge(20).await;
        postgres.kill9();
        postgres.restart();
    }
    clients.acknowledge(20).await;
    assert_kept(&uri, &clients.stop().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_for_long_is_a_503_and_then_a_200() {
    let mut postgres = Postgres::start();
    let uri = postgres.create_database().await;
    let served = Served::start(&document(&uri)).await;
    let clients = Clients::start(&served, "a", CLIENTS);
    clients.acknowledge(20).await;
    postgres.stop();
    clients.refused().await;
    postgres.restart();
    clients.acknowledge(20).await;
    assert_kept(&uri, &clients.stop().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_cut_are_made_again() {
    let (served, proxy, uri) = behind_a_proxy().await;
    let clients = Clients::start(&served, "a", CLIENTS);
    for _ in 0..3 {
        clients.acknowledge(20).await;
        proxy.cut();
        proxy.resume();
    }
    clients.acknowledge(20).await;
    proxy.cut();
    clients.refused().await;
    proxy.resume();
    clients.acknowledge(20).await;
    assert_kept(&uri, &clients.stop().await).await;
}

/// No packet passes, and none says so. Requests are answered nonetheless.
#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_falls_silent_is_a_503_and_then_a_200() {
    let (served, proxy, uri) = behind_a_proxy().await;
    let clients = Clients::start(&served, "a", CLIENTS);
    clients.acknowledge(20).await;
    proxy.stall();
    clients.refused().await;
    served.until("the report says so", || async { served.state().await == "unreachable" }).await;
    proxy.resume();
    clients.acknowledge(20).await;
    assert_kept(&uri, &clients.stop().await).await;
}

/// As when a firewall loses its table: connections are dead without knowing, new ones would work.
#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_forgotten_are_replaced() {
    let (served, proxy, uri) = behind_a_proxy().await;
    let clients = Clients::start(&served, "a", CLIENTS);
    clients.acknowledge(20).await;
    proxy.forget();
    let waited = clients.acknowledge(CLIENTS + 1).await;
    assert!(waited < FORGOTTEN_RECOVERY, "{waited:?}");
    clients.acknowledge(20).await;
    served.until("the report is good", || async { served.state().await == "verified" }).await;
    assert_kept(&uri, &clients.stop().await).await;
}

/// What a reader asked for goes on in the server after he has left, for longer than a connection may take to answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_who_leaves_a_slow_query_disturbs_nobody() {
    const READERS: &str = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE 'SELECT first_sequence, CASE%'";
    let uri = Postgres::shared().create_database().await;
    let served = Served::start(&document(&uri)).await;
    served.add(vec![json!({"type": "Warehouse Disabled"})]).await;
    let mut watching = PgConnection::connect(&uri).await.expect("the database answers");
    let mut slow = PgConnection::connect(&uri).await.expect("the database answers");
    slow.execute("BEGIN; LOCK TABLE block").await.expect("valid");
    let ask = || tokio::spawn(served.get("/v1/events?actor=nobody").send());
    let (patient, leaving) = (ask(), ask());
    until(&mut watching, READERS, 2).await;
    leaving.abort();
    slow.execute("SELECT pg_sleep(4); COMMIT").await.expect("valid");
    assert_eq!(patient.await.expect("no panic").expect("answered").status(), 200);
}

/// Else what is written there later is acknowledged, and nobody ever commits it.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_whose_begin_was_given_up_is_not_used_within_that_transaction() {
    const OPEN: &str = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND state = 'idle in transaction'";
    let (proxy, through, uri) = database_behind_a_proxy().await;
    let store = Store::lazy(&document(&through).database).expect("a URI");
    store.open("team-a/acme").await.expect("the database answers");
    let mut watching = PgConnection::connect(&uri).await.expect("the database answers");

    proxy.hold_at("BEGIN");
    let asking = tokio::spawn({
        let store = store.clone();
        async move { store.ask_for_replay("to-segment", &Wanted::All).await }
    });
    proxy.until_held().await;
    asking.abort();
    assert!(asking.await.is_err());
    proxy.resume();
    until(&mut watching, OPEN, 1).await;
    let deadline = Instant::now() + DEADLINE;
    for generation in 1.. {
        store.apply_generation(generation).await.expect("the database answers");
        assert_eq!(number(&mut watching, "SELECT generation FROM configuration").await, generation);
        if number(&mut watching, OPEN).await == 0 {
            break;
        }
        assert!(Instant::now() < deadline, "the connection is not taken again");
    }
}
