//! The transaction that appends a group of requests to the log: lock the head, drop duplicates,
//! allocate sequences, insert, move the head, COMMIT.

use super::plan::{Found, LockedHead, Outcome, Plan, Request, lookup_keys};
use super::{Store, insert, segment};
use jiff_sqlx::ToSqlx;
use sqlx::{Connection, PgConnection};

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

impl Store {
    /// Appends a group of requests to the log which `claim` has claimed. Either the transaction
    /// commits and every request has its outcome, or nothing is stored.
    pub async fn append(&self, claim: &str, group: &[Request]) -> Result<Vec<Outcome>, AppendError> {
        let mut connection = self.pool.acquire().await?;
        let mut transaction = connection.begin().await?;
        let head = lock_head(&mut transaction, claim).await?.ok_or(AppendError::InUse)?;
        let found = find(&mut transaction, group, &head).await?;
        let plan = Plan::of(group, &head, found);
        if !plan.rows.is_empty() {
            segment::ensure(&mut transaction, plan.next_sequence).await?;
            insert::rows(&mut transaction, &plan.rows).await?;
            segment::widen(&mut transaction, &plan.rows).await?;
            move_head(&mut transaction, &plan, &head).await?;
        }
        transaction.commit().await?;
        Ok(plan.outcomes)
    }
}

/// Locks the head to the end of the transaction. None when it belongs to another trail.
async fn lock_head(connection: &mut PgConnection, claim: &str) -> Result<Option<LockedHead>, sqlx::Error> {
    sqlx::query_as(
        "SELECT log_id, epoch, next_sequence, greatest(clock_timestamp(), last_received_at) AS received_at
         FROM head WHERE claim = $1 FOR UPDATE",
    )
    .bind(claim)
    .fetch_optional(connection)
    .await
}

/// The rows that stand already under an id of the group. No other writer adds one meanwhile: the head is locked.
async fn find(connection: &mut PgConnection, group: &[Request], head: &LockedHead) -> Result<Vec<Found>, sqlx::Error> {
    let (days, ids): (Vec<_>, Vec<_>) = lookup_keys(group, head).into_iter().unzip();
    sqlx::query_as(
        "SELECT i.day, i.id, e.sequence, e.epoch, e.received_at, e.personal_salt, e.body_salt, e.leaf_hash,
                e.submitted_by_kind, e.submitted_by_name
         FROM unnest($1::date[], $2::text[]) AS key (day, id)
         JOIN event_id i ON i.day = key.day AND i.id = key.id
         JOIN event e ON e.sequence = i.sequence",
    )
    .bind(days.into_iter().map(ToSqlx::to_sqlx).collect::<Vec<_>>())
    .bind(ids)
    .fetch_all(connection)
    .await
}

async fn move_head(connection: &mut PgConnection, plan: &Plan, head: &LockedHead) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE head SET next_sequence = $1, last_received_at = $2")
        .bind(plan.next_sequence)
        .bind(head.received_at)
        .execute(connection)
        .await?;
    Ok(())
}
