//! Retention: drops the oldest part of the log.
//!
//! A closed segment goes as a whole: taken out of readers' sight, its ids removed, detached (concurrently, so that nobody
//! waits), dropped. A segment that fills so slowly that waiting for its end would keep events for much longer than asked is
//! shortened row by row instead.

use super::segment::{run, table};
use super::{Store, block};
use audittrail_crds::document::Document;
use audittrail_crds::report::RetentionHeld;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use sqlx::{Connection, PgConnection};
use std::ops::Range;

/// For how long past the retention an enabled forwarding holds what it has not delivered.
const HELD_MAX: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Rows stay for this long beyond the retention, if their segment may go as a whole by then.
const SLACK: SignedDuration = SignedDuration::from_hours(24);

/// Sequences whose ids or rows are removed in one transaction, so that none takes long.
const CHUNK_SEQUENCES: i64 = 10_000;

/// The oldest segment.
#[derive(Clone, Copy, Debug, sqlx::FromRow)]
struct Oldest {
    first_sequence: i64,
    end_sequence: i64,
    /// Retention has begun to drop it, and was interrupted.
    dropping: bool,
}

/// Names of the forwardings that hold events back: what they name may be missing for a while.
fn enabled(document: &Document) -> Vec<String> {
    document.forwardings.iter().filter(|entry| entry.is_wanted()).map(|entry| entry.name.clone()).collect()
}

impl Store {
    /// Drops the oldest segment if it is due, or a part of it. Goes on with what a crash interrupted.
    pub(super) async fn retain(&self, connection: &mut PgConnection, document: &Document) -> Result<(), sqlx::Error> {
        let Some(oldest) = oldest(connection).await? else { return Ok(()) };
        if oldest.dropping {
            return drop_segment(connection, oldest).await;
        }
        let Some(retention) = document.retention_seconds.map(SignedDuration::from_secs) else { return Ok(()) };
        // A replica that is cut off may have an old retention, and what is dropped does not come back. It is asked again in the
        // transaction that drops; here it spares the way to there.
        if self.newest_generation().await? > document.generation {
            return Ok(());
        }
        let Some((first_sequence, received_at, now)) = oldest_event(connection, oldest).await? else { return Ok(()) };
        if received_at >= now - retention {
            return Ok(());
        }
        let enabled = enabled(document);
        let end = self.end_of_what_may_go(&enabled, now - retention).await?;
        if end >= oldest.end_sequence {
            if note_dropping(connection, oldest, &enabled, document.generation).await? {
                drop_segment(connection, oldest).await?;
            }
            Ok(())
        } else if end > first_sequence && received_at < now - retention - SLACK {
            let end = end.min(first_sequence + CHUNK_SEQUENCES);
            shorten(connection, first_sequence..end, &enabled, document.generation).await
        } else {
            Ok(())
        }
    }

    /// One past the last sequence that may go: past the retention, and delivered by every enabled forwarding or held
    /// for long enough.
    async fn end_of_what_may_go(&self, enabled: &[String], cutoff: Timestamp) -> Result<i64, sqlx::Error> {
        let due = self.first_sequence_at(cutoff).await?.unwrap_or(0);
        let delivered: Option<i64> =
            sqlx::query_scalar("SELECT min(next_sequence) FROM forwarding WHERE name = ANY($1)")
                .bind(enabled)
                .fetch_one(&self.pool)
                .await?;
        let Some(delivered) = delivered.filter(|delivered| *delivered < due) else { return Ok(due) };
        let held_for_long = self.first_sequence_at(cutoff - HELD_MAX).await?.unwrap_or(0);
        Ok(delivered.max(held_for_long))
    }

    /// What keeps events longer than the retention asks; none when nothing does.
    pub async fn retention_held(&self, document: &Document) -> Result<Option<RetentionHeld>, sqlx::Error> {
        let Some(retention) = document.retention_seconds.map(SignedDuration::from_secs) else { return Ok(None) };
        let waiting: Vec<(String, jiff_sqlx::Timestamp)> = sqlx::query_as(
            "SELECT name, received_at FROM forwarding,
                 LATERAL (SELECT received_at FROM event WHERE sequence >= next_sequence ORDER BY sequence LIMIT 1) AS oldest
             WHERE name = ANY($1) AND received_at < clock_timestamp() - make_interval(secs => $2) ORDER BY name",
        )
        .bind(enabled(document))
        .bind(retention.as_secs_f64())
        .fetch_all(&self.pool)
        .await?;
        let until = waiting.iter().map(|(_, received_at)| received_at.to_jiff() + retention + HELD_MAX).min();
        Ok(until.map(|until| RetentionHeld {
            forwardings: waiting.into_iter().map(|(name, _)| name).collect(),
            until: Time(until),
        }))
    }

    /// Events that went before an enabled forwarding had delivered them, of all forwardings.
    pub async fn undelivered_dropped(&self) -> Result<i64, sqlx::Error> {
        sqlx::query_scalar("SELECT coalesce(sum(undelivered_dropped), 0)::bigint FROM forwarding")
            .fetch_one(&self.pool)
            .await
    }
}

async fn oldest(connection: &mut PgConnection) -> Result<Option<Oldest>, sqlx::Error> {
    sqlx::query_as(
        "SELECT first_sequence, end_sequence, dropping_at IS NOT NULL AS dropping FROM segment ORDER BY first_sequence LIMIT 1",
    )
    .fetch_optional(connection)
    .await
}

/// Sequence of the oldest event of a segment, when it was received, and the time.
async fn oldest_event(
    connection: &mut PgConnection,
    of: Oldest,
) -> Result<Option<(i64, Timestamp, Timestamp)>, sqlx::Error> {
    let row: Option<(i64, jiff_sqlx::Timestamp, jiff_sqlx::Timestamp)> = sqlx::query_as(
        "SELECT sequence, received_at, clock_timestamp() FROM event
         WHERE sequence >= $1 AND sequence < $2 ORDER BY sequence LIMIT 1",
    )
    .bind(of.first_sequence)
    .bind(of.end_sequence)
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|(sequence, received_at, now)| (sequence, received_at.to_jiff(), now.to_jiff())))
}

/// Whether this generation is the newest, and stays it to the end of the transaction (`FOR SHARE`). Asked last, since heartbeats
/// wait for it.
async fn still_newest(transaction: &mut PgConnection, generation: i64) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT generation <= $1 FROM configuration FOR SHARE")
        .bind(generation)
        .fetch_one(transaction)
        .await
}

/// From here on readers leave the segment out, and it is dropped whatever happens. False, and nothing is noted, under a newer
/// configuration.
async fn note_dropping(
    connection: &mut PgConnection,
    of: Oldest,
    enabled: &[String],
    generation: i64,
) -> Result<bool, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    sqlx::query("UPDATE segment SET dropping_at = clock_timestamp() WHERE first_sequence = $1")
        .bind(of.first_sequence)
        .execute(&mut *transaction)
        .await?;
    // Afterwards: a forwarding that goes back to parked events keeps their segment where it is until it has.
    count_undelivered(&mut transaction, of.first_sequence, of.end_sequence, enabled).await?;
    if !still_newest(&mut transaction, generation).await? {
        transaction.rollback().await?;
        return Ok(false);
    }
    transaction.commit().await?;
    tracing::info!(first_sequence = of.first_sequence, end_sequence = of.end_sequence, "retention drops a segment");
    Ok(true)
}

/// What goes undelivered is counted, and the cursor goes on after it.
async fn count_undelivered(
    connection: &mut PgConnection,
    first: i64,
    end: i64,
    enabled: &[String],
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE forwarding SET undelivered_dropped = undelivered_dropped + $2 - greatest(next_sequence, $1), next_sequence = $2
         WHERE name = ANY($3) AND next_sequence < $2",
    )
    .bind(first)
    .bind(end)
    .bind(enabled)
    .execute(connection)
    .await?;
    Ok(())
}

/// Ids first: an id whose event is gone would be a duplicate of nothing.
async fn drop_segment(connection: &mut PgConnection, of: Oldest) -> Result<(), sqlx::Error> {
    let mut first = of.first_sequence;
    while first < of.end_sequence {
        remove_ids(connection, first, first + CHUNK_SEQUENCES).await?;
        first += CHUNK_SEQUENCES;
    }
    block::remove(connection, of.first_sequence..of.end_sequence).await?;
    let table = table(of.first_sequence);
    if let Some(interrupted) = attachment(connection, &table).await? {
        let how = if interrupted { "FINALIZE" } else { "CONCURRENTLY" };
        run(connection, format!("ALTER TABLE event DETACH PARTITION {table} {how}")).await?;
    }
    run(connection, format!("DROP TABLE IF EXISTS {table}")).await?;
    sqlx::query("DELETE FROM segment WHERE first_sequence = $1").bind(of.first_sequence).execute(connection).await?;
    Ok(())
}

async fn remove_ids(connection: &mut PgConnection, first: i64, end: i64) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM event_id WHERE sequence >= $1 AND sequence < $2")
        .bind(first)
        .bind(end)
        .execute(connection)
        .await?;
    Ok(())
}

/// Whether the table is attached to the log, and if so, whether detaching it was interrupted.
async fn attachment(connection: &mut PgConnection, table: &str) -> Result<Option<bool>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT inhdetachpending FROM pg_inherits WHERE inhrelid = to_regclass($1) AND inhparent = to_regclass('event')",
    )
    .bind(table)
    .fetch_optional(connection)
    .await
}

/// Removes the rows of these sequences, unless there is a newer configuration.
async fn shorten(
    connection: &mut PgConnection,
    dropped: Range<i64>,
    enabled: &[String],
    generation: i64,
) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    remove_ids(&mut transaction, dropped.start, dropped.end).await?;
    sqlx::query("DELETE FROM event WHERE sequence >= $1 AND sequence < $2")
        .bind(dropped.start)
        .bind(dropped.end)
        .execute(&mut *transaction)
        .await?;
    block::cut(&mut transaction, dropped.clone()).await?;
    // Afterwards, as when a segment goes.
    count_undelivered(&mut transaction, dropped.start, dropped.end, enabled).await?;
    if !still_newest(&mut transaction, generation).await? {
        return transaction.rollback().await;
    }
    transaction.commit().await?;
    block::summarize(connection).await
}
