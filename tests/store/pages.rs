//! Pages of large events: they fit in the memory that a container has, and together they are everything.

#[expect(dead_code, reason = "these tests need less of it than others")]
mod program;
use audittrail_tests::postgres::Postgres;
use audittrail_tests::served::{OWNER, document};
use program::{Program, until};
use serde_json::Value;
use sqlx::PgPool;

/// Events in the log.
const EVENTS: usize = 1_000;

/// What the largest page may add to the memory of a collector, in MiB: a container has 256 for everything, and parsed, these
/// events would take more than that.
const GROWTH_MAX_MIB: u64 = 64;

/// 22 KB of small members each.
const FILL: &str = r#"
WITH large (details) AS (
    SELECT ('{' || string_agg('"k' || k || '":' || k, ',') || '}')::json FROM generate_series(0, 1899) AS k
), filled AS (
    INSERT INTO event (sequence, epoch, received_at, id, "timestamp", type, actor_type, actor_id, submitted_by_kind, submitted_by_name,
                       details, personal, body, leaf_hash)
    SELECT s, 0, '2026-03-05', 'evt_' || s, '2026-03-05', 'Large', 'system', 'test', 'writeKey', 'acme/writeKey',
           details, sha256('personal'), sha256('body'), sha256('leaf')
    FROM large, generate_series(0, $1 - 1) AS s
)
UPDATE head SET next_sequence = $1, last_received_at = '2026-03-05'"#;

/// The program, on a log of large events.
async fn filled() -> Program {
    let uri = Postgres::shared().create_database().await;
    let program = Program::serve(&document(&uri), &[]).await;
    let pool = PgPool::connect(&uri).await.expect("the server answers");
    until("there is a segment", || async {
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM segment").fetch_one(&pool).await.expect("a number");
        count > 0
    })
    .await;
    sqlx::query(FILL).bind(i64::try_from(EVENTS).expect("few")).execute(&pool).await.expect("filled");
    program
}

async fn page(program: &Program, path: &str) -> Value {
    let answer = program.get(path, OWNER).send().await.expect("answered");
    assert_eq!(answer.status(), 200, "{path}");
    answer.json().await.expect("JSON")
}

fn ids(events: &Value) -> Vec<String> {
    let events = events.as_array().expect("events");
    events.iter().map(|event| event["id"].as_str().expect("an id").to_owned()).collect()
}

fn all(newest_first: bool) -> Vec<String> {
    let mut ids: Vec<String> = (0..EVENTS).map(|number| format!("evt_{number}")).collect();
    if newest_first {
        ids.reverse();
    }
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_large_events_are_shorter_and_together_they_are_everything() {
    let program = filled().await;
    let before = program.most_resident_mib();
    for (order, newest_first) in [("desc", true), ("asc", false)] {
        let path = format!("/v1/events?limit=1000&type=Large&order={order}");
        let mut at = page(&program, &path).await;
        let mut pages = vec![ids(&at["events"])];
        while let Some(cursor) = at["nextCursor"].as_str() {
            at = page(&program, &format!("{path}&cursor={cursor}")).await;
            pages.push(ids(&at["events"]));
        }
        assert!(pages.len() > 2 && pages.iter().all(|page| !page.is_empty()), "{order}: {} pages", pages.len());
        assert_eq!(pages.concat(), all(newest_first), "{order}");
    }
    let grown = program.most_resident_mib() - before;
    assert!(grown < GROWTH_MAX_MIB, "{grown} MiB more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_for_segments_clients_takes_no_memory_for_what_it_does_not_show() {
    let program = filled().await;
    let before = program.most_resident_mib();
    let at = page(&program, "/audit-events?pagination.count=1000").await;
    assert_eq!(ids(&at["data"]["events"]), all(true));
    assert_eq!(at["data"]["pagination"]["next"], Value::Null);
    let grown = program.most_resident_mib() - before;
    assert!(grown < GROWTH_MAX_MIB, "{grown} MiB more");
}
