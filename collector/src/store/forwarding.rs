//! Forwardings: cursors, leases and facts.
//!
//! Two fences keep a replica that is paused or cut off from doing harm. The lease: only its holder
//! moves the cursor, and only until the lease ends by the database's clock. The generation: a replica
//! whose document is not the newest applied one neither takes a lease nor moves a cursor.

use super::Store;
use audittrail_crds::document::{Forwarding, StartFrom};
use audittrail_crds::report::{self, State};
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use sqlx::types::Json;
use std::time::Duration;
use uuid::Uuid;

/// How long a lease lasts. After a holder dies, the next one waits this long.
pub const LEASE: Duration = Duration::from_secs(10);

/// Where a forwarding stands in the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq, sqlx::FromRow)]
pub struct Cursor {
    /// Identity of the log.
    pub log_id: Uuid,
    /// Epoch of the newest event delivered, or of the log when the cursor was made.
    pub epoch: i64,
    /// The next sequence to deliver. Everything below it was delivered.
    pub next_sequence: i64,
}

/// Who asks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Asker<'a> {
    /// Name of the forwarding.
    pub forwarding: &'a str,
    /// Generation of the forwarding's entry; facts are written with it.
    pub entry_generation: i64,
    /// The replica.
    pub replica: Uuid,
    /// Generation of the replica's document: anything but the newest applied one is refused.
    pub generation: i64,
}

/// What the source accepted: events up to here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Delivered {
    /// Sequence of the newest of them.
    pub last_sequence: i64,
    /// Epoch of the newest of them.
    pub epoch: i64,
    /// How many they are.
    pub events: i64,
}

#[derive(sqlx::FromRow)]
struct FactsRow {
    name: String,
    generation: i64,
    state: String,
    last_error: Option<String>,
    last_success: Option<jiff_sqlx::Timestamp>,
    delivered_sequence: Option<i64>,
    delivered: i64,
    lag_events: i64,
    lag_seconds: i64,
}

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
             SET start_from = excluded.start_from, epoch = excluded.epoch, next_sequence = excluded.next_sequence
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
    pub(crate) async fn oldest_sequence(&self) -> Result<i64, sqlx::Error> {
        sqlx::query_scalar(
            "SELECT coalesce((SELECT sequence FROM event ORDER BY sequence LIMIT 1), next_sequence) FROM head",
        )
        .fetch_one(&self.pool)
        .await
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

    /// Takes the lease, or makes it last [`LEASE`] from now on. None when another replica
    /// holds it, or when this replica's document is not the newest.
    pub async fn take_lease(&self, asker: Asker<'_>) -> Result<Option<Cursor>, sqlx::Error> {
        let lease = sqlx::query_as(
            "UPDATE forwarding SET holder = $2, lease_until = clock_timestamp() + make_interval(secs => $4)
             WHERE name = $1
               AND (holder IS NULL OR holder = $2 OR lease_until < clock_timestamp())
               AND (SELECT generation FROM configuration) = $3
             RETURNING (SELECT log_id FROM head) AS log_id, epoch, next_sequence",
        )
        .bind(asker.forwarding)
        .bind(asker.replica)
        .bind(asker.generation)
        .bind(LEASE.as_secs_f64())
        .fetch_optional(&self.pool);
        self.unless_lost(lease).await
    }

    /// Gives the lease back, so that another replica goes on at once.
    pub async fn release_lease(&self, forwarding: &str, replica: Uuid) -> Result<(), sqlx::Error> {
        sqlx::query("UPDATE forwarding SET holder = NULL, lease_until = NULL WHERE name = $1 AND holder = $2")
            .bind(forwarding)
            .bind(replica)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Moves the cursor past what the source accepted, and makes the lease last [`LEASE`] from now on.
    /// None when the lease, the generation or the cursor is no longer what the sender took it for.
    /// `FOR SHARE` as in [`Store::make_cursor`].
    pub async fn move_cursor(
        &self,
        asker: Asker<'_>,
        from: Cursor,
        delivered: Delivered,
    ) -> Result<Option<Cursor>, sqlx::Error> {
        sqlx::query_as(
            "UPDATE forwarding
             SET next_sequence = $6 + 1, epoch = $7, delivered_sequence = $6, delivered = delivered + $8,
                 state = $9, last_error = NULL, last_success = clock_timestamp(), generation = $10,
                 lease_until = clock_timestamp() + make_interval(secs => $11)
             WHERE name = $1 AND holder = $2 AND lease_until > clock_timestamp()
               AND (SELECT generation FROM configuration FOR SHARE) = $3
               AND next_sequence = $4 AND epoch = $5
             RETURNING (SELECT log_id FROM head) AS log_id, epoch, next_sequence",
        )
        .bind(asker.forwarding)
        .bind(asker.replica)
        .bind(asker.generation)
        .bind(from.next_sequence)
        .bind(from.epoch)
        .bind(delivered.last_sequence)
        .bind(delivered.epoch)
        .bind(delivered.events)
        .bind(state_name(State::Accepting))
        .bind(asker.entry_generation)
        .bind(LEASE.as_secs_f64())
        .fetch_optional(&self.pool)
        .await
    }

    /// Writes how delivery stands; [`State::Accepting`] is a success. False when the lease is lost.
    pub async fn record_state(&self, asker: Asker<'_>, state: State, error: Option<&str>) -> Result<bool, sqlx::Error> {
        let done = sqlx::query(
            "UPDATE forwarding
             SET state = $4, last_error = $5, generation = $6,
                 last_success = CASE WHEN $7 THEN clock_timestamp() ELSE last_success END
             WHERE name = $1 AND holder = $2 AND lease_until > clock_timestamp()
               AND (SELECT generation FROM configuration) = $3",
        )
        .bind(asker.forwarding)
        .bind(asker.replica)
        .bind(asker.generation)
        .bind(state_name(state))
        .bind(error)
        .bind(asker.entry_generation)
        .bind(state == State::Accepting)
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Turns a forwarding off: nobody holds its lease any more. False when this replica's document
    /// is not the newest.
    pub async fn disable_forwarding(&self, asker: Asker<'_>) -> Result<bool, sqlx::Error> {
        let done = sqlx::query(
            "UPDATE forwarding
             SET state = $3, last_error = NULL, generation = $4, holder = NULL, lease_until = NULL
             WHERE name = $1 AND (SELECT generation FROM configuration) = $2",
        )
        .bind(asker.forwarding)
        .bind(asker.generation)
        .bind(state_name(State::Disabled))
        .bind(asker.entry_generation)
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Every forwarding that ever had a cursor, by name, with its lag behind the head.
    pub async fn forwarding_facts(&self) -> Result<Vec<report::Forwarding>, sqlx::Error> {
        let rows: Vec<FactsRow> = sqlx::query_as(
            "SELECT f.name, f.generation, f.state, f.last_error, f.last_success, f.delivered_sequence, f.delivered,
                    greatest(head.next_sequence - f.next_sequence, 0) AS lag_events,
                    greatest(coalesce(floor(extract(epoch FROM clock_timestamp() - oldest.received_at)), 0), 0)::bigint
                        AS lag_seconds
             FROM forwarding f CROSS JOIN head
             LEFT JOIN LATERAL (SELECT received_at FROM event WHERE sequence >= f.next_sequence
                                ORDER BY sequence LIMIT 1) oldest ON true
             ORDER BY f.name",
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(facts).collect())
    }
}

fn facts(row: FactsRow) -> report::Forwarding {
    report::Forwarding {
        name: row.name,
        generation: row.generation,
        state: parse_state(&row.state),
        last_error: row.last_error,
        last_success: row.last_success.map(|moment| Time(moment.to_jiff())),
        delivered_sequence: row.delivered_sequence,
        delivered: row.delivered,
        lag_events: row.lag_events,
        lag_seconds: row.lag_seconds,
    }
}

/// The name of a state in the database: that of the report.
fn state_name(state: State) -> &'static str {
    match state {
        State::Disabled => "Disabled",
        State::Pending => "Pending",
        State::Accepting => "Accepting",
        State::Retrying => "Retrying",
        State::KeyRefused => "KeyRefused",
        State::EndpointRefused => "EndpointRefused",
        State::EventRefused => "EventRefused",
    }
}

/// A name which only a newer collector knows says nothing to this one.
fn parse_state(name: &str) -> State {
    let states = [
        State::Disabled,
        State::Accepting,
        State::Retrying,
        State::KeyRefused,
        State::EndpointRefused,
        State::EventRefused,
    ];
    states.into_iter().find(|state| state_name(*state) == name).unwrap_or(State::Pending)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_have_the_names_of_the_report() {
        for state in [State::Disabled, State::Pending, State::Accepting, State::EventRefused] {
            assert_eq!(serde_json::to_value(state).expect("plain data"), state_name(state));
            assert_eq!(parse_state(state_name(state)), state);
        }
        assert_eq!(parse_state("Levitating"), State::Pending);
    }
}
