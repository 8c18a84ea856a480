//! The filter index of a segment: one GIN index over the values that filters ask for.
//!
//! Measured with a million rows: keeping five B-trees of (filter, sequence) up to date while rows arrive costs 13 s and more, one
//! GIN index 4 s; built afterwards, the B-trees take 6.3 s and 177 MB, the GIN index 2 s and 27 MB, and it also answers for
//! several filters at once. So it is built when a segment closes, or after a minute if it fills slowly: then there
//! is little to build, and what still arrives is too little to matter.

use super::segment::{run, table};
use sqlx::PgConnection;

/// The values that filters compare, in one array. Two columns may hold equal text: queries also compare the
/// column itself. Compared byte by byte, which is what equality needs and costs least.
pub(super) const TERMS: &str =
    r#"((ARRAY[type, actor_type, actor_id, resource_type, resource_id, outcome, submitted_by_name]) COLLATE "C")"#;

/// A segment that is still filling after this long gets its index, in seconds.
const SLOW_AFTER_SECONDS: f64 = 60.0;

/// Entries that wait to be merged into the index, in KiB: each query reads through them, and merging them holds up one
/// insert for some milliseconds.
const PENDING_MAX_KIB: u32 = 512;

/// Builds the index of one segment that is due, oldest first.
pub(super) async fn index_one(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let due: Option<i64> = sqlx::query_scalar(
        "SELECT segment.first_sequence FROM segment, head
         WHERE indexed_at IS NULL AND dropping_at IS NULL
           AND (end_sequence <= next_sequence OR opened_at < clock_timestamp() - make_interval(secs => $1))
         ORDER BY 1 LIMIT 1",
    )
    .bind(SLOW_AFTER_SECONDS)
    .fetch_optional(&mut *connection)
    .await?;
    let Some(first_sequence) = due else { return Ok(()) };
    build(connection, &table(first_sequence)).await?;
    sqlx::query("UPDATE segment SET indexed_at = clock_timestamp() WHERE first_sequence = $1")
        .bind(first_sequence)
        .execute(connection)
        .await?;
    Ok(())
}

/// Builds concurrently, so that nobody waits for it. What a crash left half built is dropped first. The
/// planner gets to know the values at once.
async fn build(connection: &mut PgConnection, table: &str) -> Result<(), sqlx::Error> {
    let index = format!("{table}_terms");
    let half_built: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM pg_index WHERE indexrelid = to_regclass($1) AND NOT indisvalid)",
    )
    .bind(&index)
    .fetch_one(&mut *connection)
    .await?;
    if half_built {
        run(connection, format!("DROP INDEX CONCURRENTLY {index}")).await?;
    }
    run(
        connection,
        format!(
            "CREATE INDEX CONCURRENTLY IF NOT EXISTS {index} ON {table} USING gin ({TERMS}) WITH (gin_pending_list_limit = {PENDING_MAX_KIB})"
        ),
    )
    .await?;
    run(connection, format!("ANALYZE {table}")).await
}
