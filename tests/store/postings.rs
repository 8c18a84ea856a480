//! Blocks and their postings on a real Postgres: what they answer is what a plain query over the events answers, whatever was
//! asked, and they come and go with the events.

use audittrail_collector::query::filter::{Filter, Order};
use audittrail_collector::store::Store;
use audittrail_crds::document::{Document, Forwarding, Sensitive, StartFrom};
use audittrail_tests::filled::{EVENTS, fill, until_written_down};
use audittrail_tests::postgres::Postgres;
use audittrail_tests::proxy::Proxy;
use audittrail_tests::served::{Served, document};
use serde_json::{Value, json};
use sqlx::postgres::PgPool;
use sqlx::{AssertSqlSafe, Row};

/// A collector on a log with two whole blocks and a part.
async fn filled() -> (Served, PgPool, String) {
    let uri = Postgres::shared().create_database().await;
    let served = Served::start(&document(&uri)).await;
    let pool = PgPool::connect(&uri).await.expect("the server answers");
    fill(&served, &pool).await;
    (served, pool, uri)
}

/// Sequences of all pages, with views left out that looking itself has recorded.
async fn walked(served: &Served, query: &str, order: &str, limit: usize) -> Vec<i64> {
    let mut all = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = served.page(&format!("/v1/events?{query}&order={order}&limit={limit}{cursor}")).await;
        let events = page["events"].as_array().expect("a list");
        all.extend(events.iter().map(|event| event["sequence"].as_i64().expect("a number")).filter(|s| *s < EVENTS));
        let Some(next) = page["nextCursor"].as_str() else { return all };
        cursor = format!("&cursor={next}");
    }
}

async fn expected(pool: &PgPool, condition: &str, order: &str) -> Vec<i64> {
    let statement =
        format!("SELECT sequence FROM event WHERE sequence < {EVENTS} AND ({condition}) ORDER BY sequence {order}");
    let rows = sqlx::query(AssertSqlSafe(statement)).fetch_all(pool).await.expect("a valid condition");
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_filter_finds_what_a_plain_query_finds() {
    let (served, pool, _) = filled().await;
    for (query, condition) in [
        ("actor=rare", "actor_id = 'rare'"),
        ("actor=rare&actor=nobody&type=Type%201", "actor_id = 'rare' AND type = 'Type 1'"),
        ("actor=nobody", "false"),
        ("type=Type%200&outcome=denied", "type = 'Type 0' AND outcome = 'denied'"),
        ("area=Warehouses&actor=usr_7", "type = 'Warehouse Disabled' AND actor_id = 'usr_7'"),
        ("area=Sources", "false"),
        ("resource=res_49&resource=res_50&resource=res_100", "resource_id IN ('res_49', 'res_50', 'res_100')"),
        ("resource=res_60&resourceType=warehouse", "resource_id = 'res_60' AND resource_type = 'warehouse'"),
        ("resource=res_60&actorType=accessToken", "resource_id = 'res_60' AND actor_type = 'accessToken'"),
        ("submittedBy=other", "false"),
        // Within a zone, across zones and blocks, and late events.
        (
            "from=2026-03-01T13:53:20Z&to=2026-03-01T13:53:25Z",
            "\"timestamp\" >= '2026-03-01T13:53:20Z' AND \"timestamp\" < '2026-03-01T13:53:25Z'",
        ),
        (
            "from=2026-03-01T13:50:00Z&to=2026-03-01T13:57:00Z",
            "\"timestamp\" >= '2026-03-01T13:50:00Z' AND \"timestamp\" < '2026-03-01T13:57:00Z'",
        ),
        ("to=2026-03-01T00:00:00Z", "\"timestamp\" < '2026-03-01T00:00:00Z'"),
        ("from=2026-03-02T09:00:00Z", "\"timestamp\" >= '2026-03-02T09:00:00Z'"),
        (
            "actor=usr_17&from=2026-03-01T10:00:00Z&to=2026-03-01T15:00:00Z",
            "actor_id = 'usr_17' AND \"timestamp\" >= '2026-03-01T10:00:00Z' AND \"timestamp\" < '2026-03-01T15:00:00Z'",
        ),
        ("q=needle", "details::text ILIKE '%needle%'"),
        (
            "q=SEVENTEEN%20type&resource=res_99",
            "actor_email = 'seventeen@example.com' AND type LIKE 'Type%' AND resource_id = 'res_99'",
        ),
        ("q=rare%20bird", "actor_id = 'rare'"),
        ("q=100%25", "false"),
    ] {
        for order in ["desc", "asc"] {
            assert_eq!(
                walked(&served, query, order, 1000).await,
                expected(&pool, condition, order).await,
                "{query} {order}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn small_pages_neither_skip_nor_repeat_across_blocks() {
    let (served, pool, _) = filled().await;
    for order in ["desc", "asc"] {
        let found = walked(&served, "actor=usr_42&type=Type%202", order, 7).await;
        assert_eq!(found, expected(&pool, "actor_id = 'usr_42' AND type = 'Type 2'", order).await);
    }
}

/// A page must not depend on how far the keeper is.
#[tokio::test(flavor = "multi_thread")]
async fn a_block_that_is_not_written_down_is_read_event_by_event() {
    let (served, pool, _) = filled().await;
    let before = walked(&served, "type=Type%203&actor=usr_3", "desc", 1000).await;
    // Both at once: else the keeper would write it down in between.
    sqlx::query("UPDATE posting SET value = 'hidden' WHERE first_sequence = 0").execute(&pool).await.expect("hidden");
    let hidden = walked(&served, "type=Type%203&actor=usr_3", "desc", 1000).await;
    assert!(hidden.len() < before.len(), "postings are not what is read");
    sqlx::raw_sql("DELETE FROM posting WHERE first_sequence = 0; DELETE FROM block WHERE first_sequence = 0")
        .execute(&pool)
        .await
        .expect("forgotten");
    assert_eq!(walked(&served, "type=Type%203&actor=usr_3", "desc", 1000).await, before);
    until_written_down(&served, &pool).await;
    assert_eq!(walked(&served, "type=Type%203&actor=usr_3", "desc", 1000).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn postings_say_who_an_actor_is_and_how_often() {
    let (_served, pool, _) = filled().await;
    let row = sqlx::query(
        "SELECT kind, name, email, sum(count)::bigint FROM posting WHERE value = 'usr_17' GROUP BY 1, 2, 3",
    )
    .fetch_one(&pool)
    .await
    .expect("one row");
    let counted: i64 = sqlx::query_scalar("SELECT count(*) FROM event WHERE actor_id = 'usr_17' AND sequence < 100000")
        .fetch_one(&pool)
        .await
        .expect("a number");
    assert_eq!(
        (row.get::<&str, _>(0), row.get::<&str, _>(1), row.get::<&str, _>(2), row.get::<i64, _>(3)),
        ("user", "Person 17", "seventeen@example.com", counted)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_removes_postings_with_their_events() {
    let (served, pool, uri) = filled().await;
    let mut document = document(&uri);
    document.generation = 2;
    // The log's one segment is open, so that it is shortened: all that is older than its 60,000th event goes.
    sqlx::query("UPDATE event SET received_at = now() - CASE WHEN sequence < 60000 THEN interval '3 days' ELSE interval '0' END")
        .execute(&pool)
        .await
        .expect("aged");
    document.retention_seconds = Some(3600);
    served.apply(&document);
    let gone = || async {
        let oldest: i64 =
            sqlx::query_scalar("SELECT min(sequence) FROM event").fetch_one(&pool).await.expect("a number");
        let postings: i64 = sqlx::query_scalar("SELECT coalesce(sum(count), 0)::bigint FROM posting WHERE field = 1")
            .fetch_one(&pool)
            .await
            .expect("a number");
        // What is left of the second block is written down again.
        oldest == 60_000 && postings == 40_000
    };
    served.until("postings are of what is left", gone).await;
    assert_eq!(walked(&served, "actor=rare", "desc", 1000).await, [111_111, 77_777]);
    assert_eq!(json!(walked(&served, "type=Type%200&outcome=denied", "asc", 1000).await), Value::from(vec![70_000]));
}

/// What a forwarding holds begins in the middle of a block.
#[tokio::test(flavor = "multi_thread")]
async fn a_block_of_which_a_forwarding_holds_the_rest_is_written_down_once() {
    const HELD_FROM: i64 = 20_345;
    let (served, pool, uri) = filled().await;
    let mut document = document(&uri);
    document.generation = 2;
    let entry = Forwarding::new("to-nobody", "http://127.0.0.1:9", Sensitive::new("key"));
    document.forwardings = vec![Forwarding { generation: 2, start_from: StartFrom::Sequence(HELD_FROM), ..entry }];
    served.apply(&document);
    let number = |query: &'static str| {
        let pool = pool.clone();
        async move { sqlx::query_scalar::<_, i64>(query).fetch_one(&pool).await.expect("a number") }
    };
    served.until("it has a cursor", || async { number("SELECT count(*) FROM forwarding").await == 1 }).await;
    sqlx::query("UPDATE event SET received_at = now() - interval '2 days'").execute(&pool).await.expect("aged");
    document.generation = 3;
    document.retention_seconds = Some(3600);
    served.apply(&document);
    let shortened = || async { number("SELECT min(sequence) FROM event").await == HELD_FROM };
    served.until("what was delivered is gone", shortened).await;

    let version = || async {
        sqlx::query_scalar::<_, String>("SELECT xmin::text FROM block WHERE first_sequence = 0")
            .fetch_optional(&pool)
            .await
            .expect("readable")
    };
    served.until("the rest is written down", || async { version().await.is_some() }).await;
    let before = version().await;
    sqlx::raw_sql(
        "BEGIN;
         CREATE TEMPORARY TABLE more ON COMMIT DROP AS SELECT * FROM event WHERE sequence >= 90000;
         UPDATE more SET sequence = sequence + 30000, id = 'evt_' || sequence + 30000;
         INSERT INTO event SELECT * FROM more;
         UPDATE head SET next_sequence = 150000;
         COMMIT",
    )
    .execute(&pool)
    .await
    .expect("filled");
    // The keeper takes the oldest block first, and looks at the retention after each.
    let newer = || async { number("SELECT count(*) FROM block WHERE first_sequence = 100000").await == 1 };
    served.until("a newer block is written down", newer).await;
    assert_eq!(version().await, before);
}

/// Whoever asks may have read of the block before it was cut, and asks for its postings afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_of_a_block_that_retention_cuts_is_found_all_the_time() {
    let (served, pool, uri) = filled().await;
    let port = Postgres::shared().server().port();
    let proxy = Proxy::start(port).await;
    let through = document(&uri.replace(&format!(":{port}/"), &format!(":{}/", proxy.port)));
    let store = Store::lazy(&through.database).expect("a URI");
    proxy.hold_at("AS asked (of_group");
    let asking = tokio::spawn(async move {
        let filter = Filter { actors: vec!["rare".to_owned()], ..Filter::default() };
        store.events(&filter, &(50_000..EVENTS), Order::Desc, 10).await
    });
    proxy.until_held().await;

    sqlx::query("UPDATE event SET received_at = now() - CASE WHEN sequence < 60000 THEN interval '3 days' ELSE interval '0' END")
        .execute(&pool)
        .await
        .expect("aged");
    served.apply(&Document { generation: 2, retention_seconds: Some(3600), ..document(&uri) });
    let cut = || async {
        let (oldest, written): (i64, i64) = sqlx::query_as(
            "SELECT (SELECT min(sequence) FROM event),
                    (SELECT coalesce(sum(count), 0)::bigint FROM block JOIN posting USING (first_sequence)
                     WHERE first_sequence = 50000 AND field = 1)",
        )
        .fetch_one(&pool)
        .await
        .expect("two numbers");
        assert_eq!(written, 100_000 - oldest.max(50_000));
        oldest == 60_000
    };
    served.until("what is old is gone", cut).await;
    proxy.resume();
    let found = asking.await.expect("no panic").expect("the database answers");
    assert_eq!(found.iter().map(|event| event.sequence).collect::<Vec<_>>(), [111_111, 77_777]);
}
