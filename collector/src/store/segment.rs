//! Segments: partitions of the log by range of sequence.

use super::plan::Row;
use jiff_sqlx::ToSqlx;
use sqlx::{AssertSqlSafe, PgConnection};

/// Events a segment holds. Small enough to index or to drop in seconds, large enough that a trail of a hundred
/// million events has a hundred of them.
pub const SEGMENT_EVENTS: i64 = 1_000_000;

/// Makes the segments that hold every sequence below `end` and are missing. The caller has locked the
/// head, so no other replica makes the same one.
pub(super) async fn ensure(connection: &mut PgConnection, end: i64) -> Result<(), sqlx::Error> {
    let mut first: i64 =
        sqlx::query_scalar("SELECT coalesce(max(end_sequence), 0) FROM segment").fetch_one(&mut *connection).await?;
    while first < end {
        make(connection, first).await?;
        first += SEGMENT_EVENTS;
    }
    Ok(())
}

/// A table is made on its own and then attached: attaching lets readers of the other segments go
/// on, `CREATE TABLE … PARTITION OF` does not.
async fn make(connection: &mut PgConnection, first: i64) -> Result<(), sqlx::Error> {
    let end = first + SEGMENT_EVENTS;
    // Names and bounds cannot be bound as parameters; all are numbers of ours.
    sqlx::raw_sql(AssertSqlSafe(format!(
        "CREATE TABLE event_{first:019} (LIKE event);
         ALTER TABLE event ATTACH PARTITION event_{first:019} FOR VALUES FROM ({first}) TO ({end});"
    )))
    .execute(&mut *connection)
    .await?;
    sqlx::query("INSERT INTO segment (first_sequence, end_sequence) VALUES ($1, $2)")
        .bind(first)
        .bind(end)
        .execute(connection)
        .await?;
    Ok(())
}

/// Widens the time range of the segments that `rows` went into.
pub(super) async fn widen(connection: &mut PgConnection, rows: &[Row]) -> Result<(), sqlx::Error> {
    for of_segment in rows.chunk_by(|a, b| a.stored.sequence / SEGMENT_EVENTS == b.stored.sequence / SEGMENT_EVENTS) {
        let (Some(earliest), Some(latest)) = (
            of_segment.iter().map(|row| row.stored.timestamp).min(),
            of_segment.iter().map(|row| row.stored.timestamp).max(),
        ) else {
            continue;
        };
        sqlx::query(
            "UPDATE segment SET first_timestamp = least(first_timestamp, $2), last_timestamp = greatest(last_timestamp, $3)
             WHERE first_sequence = $1
               AND (first_timestamp IS NULL OR first_timestamp > $2 OR last_timestamp < $3)",
        )
        .bind(of_segment[0].stored.sequence / SEGMENT_EVENTS * SEGMENT_EVENTS)
        .bind(earliest.to_sqlx())
        .bind(latest.to_sqlx())
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}
