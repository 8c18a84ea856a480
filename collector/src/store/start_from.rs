//! Where a forwarding starts: its cursor is made once, and anew when `startFrom` has another value.

use super::Store;
use super::forwarding::state_name;
use audittrail_crds::document::{Forwarding, StartFrom};
use audittrail_crds::report::State;
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use sqlx::types::Json;

impl Store {
    /// Makes the cursor of a forwarding that has none, or makes it anew when `startFrom` has another
    /// value. False when that is not possible yet: this document is not the newest, or the
    /// moment to start from lies ahead.
    pub async fn prepare_forwarding(&self, entry: &Forwarding, generation: i64) -> Result<bool, sqlx::Error> {
        if self.has_cursor(entry).await? {
            return Ok(true);
        }
        let Some(first_sequence) = self.first_sequence(&entry.start_from).await? else { return Ok(false) };
        self.make_cursor(entry, generation, first_sequence).await
    }

    async fn has_cursor(&self, entry: &Forwarding) -> Result<bool, sqlx::Error> {
        let same: Option<bool> = sqlx::query_scalar("SELECT start_from = $2 FROM forwarding WHERE name = $1")
            .bind(&entry.name)
            .bind(Json(&entry.start_from))
            .fetch_optional(&self.pool)
            .await?;
        Ok(same == Some(true))
    }

    /// Of several replicas that come here, one makes the cursor; for the others nothing differs any
    /// more. `FOR SHARE`: no newer configuration can slip in between the check and the write.
    async fn make_cursor(&self, entry: &Forwarding, generation: i64, first_sequence: i64) -> Result<bool, sqlx::Error> {
        let done = sqlx::query(
            "INSERT INTO forwarding (name, start_from, epoch, next_sequence, generation, state)
             SELECT $1, $2, head.epoch, $3, $4, $5 FROM head
             WHERE (SELECT generation FROM configuration FOR SHARE) = $6
             ON CONFLICT (name) DO UPDATE
             SET start_from = excluded.start_from, epoch = excluded.epoch, next_sequence = excluded.next_sequence,
                 refused_in_a_row = '{}'
             WHERE forwarding.start_from <> excluded.start_from",
        )
        .bind(&entry.name)
        .bind(Json(&entry.start_from))
        .bind(first_sequence)
        .bind(entry.generation)
        .bind(state_name(State::Pending))
        .bind(generation)
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// The first sequence to deliver; none yet when it is that of a moment which lies ahead.
    async fn first_sequence(&self, start: &StartFrom) -> Result<Option<i64>, sqlx::Error> {
        match start {
            StartFrom::Now => self.head().await.map(|head| Some(head.next_sequence)),
            StartFrom::Beginning => self.oldest_sequence().await.map(Some),
            StartFrom::Time(Time(moment)) => self.first_sequence_at(*moment).await,
            StartFrom::Sequence(sequence) => Ok(Some((*sequence).max(0))),
        }
    }

    /// Sequence of the oldest event that is kept; the next one when there is none.
    ///
    /// Not in one statement: its plan may be older than its snapshot, and without the very first segment. It would see a
    /// head with events and none of them, and a forwarding from the beginning would begin behind them.
    pub(crate) async fn oldest_sequence(&self) -> Result<i64, sqlx::Error> {
        let next = self.head().await?.next_sequence;
        let oldest: Option<i64> = sqlx::query_scalar("SELECT sequence FROM event ORDER BY sequence LIMIT 1")
            .fetch_optional(&self.pool)
            .await?;
        Ok(oldest.unwrap_or(next))
    }

    /// Sequence of the first event received at `moment` or later. By bisection, since `received_at`
    /// never goes back and has no index.
    pub(super) async fn first_sequence_at(&self, moment: Timestamp) -> Result<Option<i64>, sqlx::Error> {
        if self.lies_ahead(moment).await? {
            return Ok(None);
        }
        let mut low = self.oldest_sequence().await?;
        let mut high = self.head().await?.next_sequence;
        while low < high {
            let middle = low + (high - low) / 2;
            match self.received_from(middle).await? {
                Some((sequence, received_at)) if received_at < moment => low = sequence + 1,
                _ => high = middle,
            }
        }
        Ok(Some(low))
    }

    async fn lies_ahead(&self, moment: Timestamp) -> Result<bool, sqlx::Error> {
        sqlx::query_scalar("SELECT $1 > clock_timestamp()").bind(moment.to_sqlx()).fetch_one(&self.pool).await
    }

    /// The first event from `sequence` on, and when it was received.
    async fn received_from(&self, sequence: i64) -> Result<Option<(i64, Timestamp)>, sqlx::Error> {
        let row: Option<(i64, jiff_sqlx::Timestamp)> =
            sqlx::query_as("SELECT sequence, received_at FROM event WHERE sequence >= $1 ORDER BY sequence LIMIT 1")
                .bind(sequence)
                .fetch_optional(&self.pool)
                .await?;
        Ok(row.map(|(sequence, received_at)| (sequence, received_at.to_jiff())))
    }
}
