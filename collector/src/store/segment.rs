//! Segments: partitions of the log by range of sequence. Made ahead, so that no writer waits for one; see
//! [`super::keeper`] for the rest of their life.

use super::plan::Row;
use jiff::Timestamp;
use sqlx::{AssertSqlSafe, PgConnection};
use std::ops::Range;

/// Events a segment holds: some whole blocks ([`super::block`]). Retention drops this many at once; a trail of a hundred million
/// events has four hundred segments.
pub const SEGMENT_EVENTS: i64 = 250_000;

/// Key of the advisory lock under which segments are made: "segment" in ASCII.
const MAKING_LOCK: i64 = 0x73_65_67_6d_65_6e_74;

/// The segments from the one that holds the next sequence on, as ranges of sequences, in order.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Segments(Vec<Range<i64>>);

/// The time range that new rows give a segment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Widening {
    pub first_sequence: i64,
    pub earliest: Timestamp,
    pub latest: Timestamp,
}

impl Segments {
    /// Of first sequences and ends, in order.
    pub fn of(bounds: impl Iterator<Item = (i64, i64)>) -> Self {
        Self(bounds.map(|(first, end)| first..end).collect())
    }

    /// One past the last sequence that fits.
    pub fn end(&self) -> i64 {
        self.0.last().map_or(0, |range| range.end)
    }

    /// What `rows`, in the order of their sequences, do to the segments they go into.
    pub fn widenings(&self, rows: &[Row<'_>]) -> Vec<Widening> {
        let of = |range: &Range<i64>| {
            let begin = rows.partition_point(|row| row.sequence < range.start);
            let end = rows.partition_point(|row| row.sequence < range.end);
            let times = || rows[begin..end].iter().map(|row| row.timestamp);
            Some(Widening { first_sequence: range.start, earliest: times().min()?, latest: times().max()? })
        };
        self.0.iter().filter_map(of).collect()
    }
}

/// Name of the partition that begins with this sequence.
pub(super) fn table(first_sequence: i64) -> String {
    format!("event_{first_sequence:019}")
}

/// Makes the segments that hold every sequence below `end` and are missing. Returns those which hold the next
/// sequence and later ones.
pub(super) async fn ensure(connection: &mut PgConnection, end: i64) -> Result<Segments, sqlx::Error> {
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(MAKING_LOCK).execute(&mut *connection).await?;
    let mut first: i64 =
        sqlx::query_scalar("SELECT coalesce(max(end_sequence), 0) FROM segment").fetch_one(&mut *connection).await?;
    while first < end {
        make(connection, first).await?;
        first += SEGMENT_EVENTS;
    }
    let bounds: Vec<(i64, i64)> = sqlx::query_as(
        "SELECT segment.first_sequence, end_sequence FROM segment, head WHERE end_sequence > next_sequence ORDER BY 1",
    )
    .fetch_all(connection)
    .await?;
    Ok(Segments::of(bounds.into_iter()))
}

/// A table is made on its own and then attached: attaching lets readers and writers of the other segments go
/// on, `CREATE TABLE … PARTITION OF` does not.
async fn make(connection: &mut PgConnection, first: i64) -> Result<(), sqlx::Error> {
    let (table, end) = (table(first), first + SEGMENT_EVENTS);
    // Names and bounds cannot be bound as parameters; all are numbers of ours.
    sqlx::raw_sql(AssertSqlSafe(format!(
        "CREATE TABLE {table} (LIKE event);
         ALTER TABLE event ATTACH PARTITION {table} FOR VALUES FROM ({first}) TO ({end});"
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

/// Runs a statement whose names cannot be bound as parameters; all are of ours.
pub(super) async fn run(connection: &mut PgConnection, statement: String) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(connection).await?;
    Ok(())
}
