//! A log with several blocks of events, put into the database at once: by HTTP it would take a debug build a minute.

use crate::served::Served;
use audittrail_collector::store::block::BLOCK_EVENTS;
use sqlx::postgres::PgPool;

/// Events in the log: two whole blocks, and a part that is not written down.
pub const EVENTS: i64 = 2 * BLOCK_EVENTS + 20_000;

/// One event a second from 2026-03-01 on, one of a thousand told a day late. `Type 0` to `Type 6` and `Warehouse Disabled` in turn;
/// `denied` only meets `Type 0` in event 70,000. `rare` acted thrice, in each part of the log; resources change every
/// thousand events.
const FILL: &str = r#"
WITH filled AS (
    INSERT INTO event (sequence, epoch, received_at, id, "timestamp", type, actor_type, actor_id, actor_name, actor_email,
                       resource_type, resource_id, resource_name, outcome, submitted_by_kind, submitted_by_name,
                       context, changes, details, personal, body, leaf_hash)
    SELECT s, 0, '2026-03-05'::timestamptz + s * interval '1 second', 'evt_' || s,
           '2026-03-01'::timestamptz + s * interval '1 second' - CASE WHEN s % 1000 = 500 THEN interval '1 day' ELSE interval '0' END,
           CASE s % 8 WHEN 7 THEN 'Warehouse Disabled' ELSE 'Type ' || s % 8 END,
           CASE s % 10 WHEN 0 THEN 'accessToken' ELSE 'user' END,
           CASE WHEN s IN (777, 77777, 111111) THEN 'rare' ELSE 'usr_' || s % 250 END,
           CASE WHEN s IN (777, 77777, 111111) THEN 'Rare Bird' ELSE 'Person ' || s % 250 END,
           CASE WHEN s % 250 = 17 THEN 'seventeen@example.com' END,
           CASE s % 3 WHEN 0 THEN 'warehouse' ELSE 'source' END, 'res_' || s / 1000, NULL,
           CASE WHEN s = 70000 OR s % 8 = 1 THEN 'denied' WHEN s % 8 = 2 THEN NULL ELSE 'success' END,
           'writeKey', 'acme/writeKey', NULL, NULL,
           CASE WHEN s % 40000 = 39999 THEN '{"reason":"Needle in it"}'::json END,
           sha256('personal'), sha256('body'), sha256('leaf')
    FROM generate_series(0, $1 - 1) AS s
), seen AS (
    UPDATE segment SET first_timestamp = '2026-02-28', last_timestamp = '2026-03-03' WHERE first_sequence = 0
)
UPDATE head SET next_sequence = $1, last_received_at = '2026-03-07'"#;

/// Fills the empty log of a collector, and waits until its whole blocks are written down.
pub async fn fill(served: &Served, pool: &PgPool) {
    let made = || async {
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM segment").fetch_one(pool).await.expect("a number");
        count > 0
    };
    served.until("there is a segment", made).await;
    sqlx::query(FILL).bind(EVENTS).execute(pool).await.expect("filled");
    until_written_down(served, pool).await;
}

/// Waits until every whole block is written down.
pub async fn until_written_down(served: &Served, pool: &PgPool) {
    let written = || async {
        let blocks: i64 = sqlx::query_scalar("SELECT count(*) FROM block").fetch_one(pool).await.expect("a number");
        blocks == EVENTS / BLOCK_EVENTS
    };
    served.until("whole blocks are written down", written).await;
}
