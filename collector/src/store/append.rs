//! The transaction that appends a group of requests to the log: lock the head, drop duplicates,
//! allocate sequences, insert, move the head, COMMIT.

use super::epoch::{self, Known, Written};
use super::plan::{Found, Head, Outcome, Plan, Request, Stored, lookup_keys};
use super::segment::{self, Segments};
use super::{Store, insert};
use jiff_sqlx::ToSqlx;
use sqlx::{Connection, PgConnection};
use std::collections::HashMap;
use uuid::Uuid;

/// Statements of the writer are the same for every group, and planning them each time costs more than running them. An id is
/// looked up for one row at most, which a bitmap only makes slower.
const BEGIN: &str = "BEGIN; SET LOCAL plan_cache_mode = force_generic_plan; SET LOCAL enable_bitmapscan = off";

/// Why a group was not appended.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The database holds another trail.
    #[error("the database holds another trail")]
    InUse,
    /// A statement failed, or the COMMIT's outcome is unknown: appending the same again is safe.
    #[error("the database did not take the events: {0}")]
    Database(#[from] sqlx::Error),
}

#[derive(sqlx::FromRow)]
struct HeadRow {
    log_id: Uuid,
    epoch: i64,
    next_sequence: i64,
    received_at: jiff_sqlx::Timestamp,
    segments: Vec<i64>,
    segment_ends: Vec<i64>,
}

impl Store {
    /// Appends a group of requests to the log which `claim` has claimed. Either the transaction
    /// commits and every request has its outcome, or nothing is stored.
    pub async fn append(&self, claim: &str, group: &[Request]) -> Result<Vec<Outcome>, AppendError> {
        self.append_on(&mut *self.pool.acquire().await?, claim, group).await
    }

    /// [`Store::append`] on a connection that is held for several groups.
    pub(super) async fn append_on(
        &self,
        connection: &mut PgConnection,
        claim: &str,
        group: &[Request],
    ) -> Result<Vec<Outcome>, AppendError> {
        let mut transaction = connection.begin_with(BEGIN).await?;
        let (mut head, mut segments) = lock_head(&mut transaction, claim).await?.ok_or(AppendError::InUse)?;
        if let Some(restored) = self.known.lost(Known { epoch: head.epoch, next_sequence: head.next_sequence }) {
            head.epoch = epoch::raise(&mut transaction, &restored).await?;
        }
        let found = find(&mut transaction, group, &head).await?;
        let plan = Plan::of(group, &head, &found);
        if !plan.rows.is_empty() {
            if segments.end() < plan.next_sequence {
                segments = segment::ensure(&mut transaction, plan.next_sequence).await?;
            }
            insert::rows(&mut transaction, &plan, &head, &segments.widenings(&plan.rows)).await?;
        }
        transaction.commit().await?;
        self.known.learn(Known { epoch: head.epoch, next_sequence: plan.next_sequence });
        if let Some(newest) = plan.rows.last() {
            self.known.wrote(Written { epoch: head.epoch, sequence: newest.sequence, leaf_hash: newest.leaf_hash });
        }
        Ok(plan.outcomes)
    }
}

/// Locks the head to the end of the transaction. None when it belongs to another trail.
async fn lock_head(connection: &mut PgConnection, claim: &str) -> Result<Option<(Head, Segments)>, sqlx::Error> {
    let row: Option<HeadRow> = sqlx::query_as(
        "SELECT log_id, epoch, next_sequence, greatest(clock_timestamp(), last_received_at) AS received_at,
                ARRAY(SELECT first_sequence FROM segment WHERE end_sequence > next_sequence ORDER BY 1) AS segments,
                ARRAY(SELECT end_sequence FROM segment WHERE end_sequence > next_sequence ORDER BY 1) AS segment_ends
         FROM head WHERE claim = $1 FOR UPDATE OF head",
    )
    .bind(claim)
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| {
        let HeadRow { log_id, epoch, next_sequence, received_at, segments, segment_ends } = row;
        let head = Head { log_id, epoch, next_sequence, received_at: received_at.to_jiff() };
        (head, Segments::of(segments.into_iter().zip(segment_ends)))
    }))
}

/// The rows that stand already under an id of the group. No other writer adds one meanwhile: the head is locked.
async fn find(connection: &mut PgConnection, group: &[Request], head: &Head) -> Result<Vec<Found>, sqlx::Error> {
    let (days, ids): (Vec<_>, Vec<_>) =
        lookup_keys(group, head).into_iter().map(|(day, id)| (day.to_sqlx(), id)).unzip();
    // OFFSET 0 keeps the planner from joining any other way than by one look into the index for each key.
    let keys: Vec<(jiff_sqlx::Date, String, i64)> = sqlx::query_as(
        "SELECT of_day, of_id, sequence FROM unnest($1::date[], $2::text[]) AS key (of_day, of_id),
             LATERAL (SELECT sequence FROM event_id WHERE day = of_day AND id = of_id OFFSET 0) AS there",
    )
    .bind(days)
    .bind(ids)
    .fetch_all(&mut *connection)
    .await?;
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<Stored> = sqlx::query_as(
        "SELECT sequence, epoch, received_at, personal_salt, body_salt, leaf_hash, submitted_by_kind, submitted_by_name
         FROM event WHERE sequence = ANY($1)",
    )
    .bind(keys.iter().map(|(_, _, sequence)| *sequence).collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    let mut rows: HashMap<i64, Stored> = rows.into_iter().map(|row| (row.sequence, row)).collect();
    let found = |(day, id, sequence): (jiff_sqlx::Date, String, i64)| {
        Some(Found { day: day.to_jiff(), id, row: rows.remove(&sequence)? })
    };
    Ok(keys.into_iter().filter_map(found).collect())
}
