//! Events that a source refused: put aside, taken back, and sent again.
//!
//! Each function is one transaction with both fences of [`super::forwarding`]: a copy is there exactly when the cursor has
//! passed its event for that reason.

use super::Store;
use super::forwarding::{Asker, Cursor, LEASE, Standing, fence, standing, state_name};
use super::parked::Place;
use super::read::SELECT;
use crate::event::StoredEvent;
use audittrail_crds::report::State;
use sqlx::postgres::PgRow;
use sqlx::{FromRow, QueryBuilder, Row};

/// A lone event that the source refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Refused<'a> {
    /// Where it stands.
    pub place: Place,
    /// Status code of the refusal.
    pub code: Option<u16>,
    /// The source's words, without secrets.
    pub reason: &'a str,
}

/// What became of an event that was to be parked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Parking {
    /// It is parked, and the cursor has passed it.
    Done(Standing),
    /// No more can be parked.
    Full,
    /// Lease, generation or cursor is no longer what the sender took it for.
    Lost,
}

/// Room for more, and where the forwarding stands if the event was parked.
struct Outcome {
    room: bool,
    standing: Option<Standing>,
}

impl Store {
    /// Copies a refused event and moves the cursor past it, and past `filtered` events before it. `room_max` is how many
    /// copies a forwarding may have ([`super::parked::PARKED_MAX`]).
    ///
    /// Only the holder of the lease adds copies, so none can come between counting and adding. That the source refused
    /// says nothing new about how it stands, unless nothing is known yet under this entry.
    pub async fn park(
        &self,
        asker: Asker<'_>,
        from: Cursor,
        filtered: i64,
        refused: Refused<'_>,
        room_max: i64,
    ) -> Result<Parking, sqlx::Error> {
        let outcome: Outcome = sqlx::query_as(concat!(
            r#"WITH held AS (SELECT count(*) < $9 AS room FROM parked WHERE forwarding = $1),
             moved AS (
                UPDATE forwarding
                SET next_sequence = $6 + 1, epoch = $7, filtered = filtered + $8,
                    refused_in_a_row = refused_in_a_row || $6::bigint,
                    state = CASE WHEN generation = $10 THEN state ELSE $14 END,
                    last_error = CASE WHEN generation = $10 THEN last_error END,
                    last_error_code = CASE WHEN generation = $10 THEN last_error_code END,
                    generation = $10, configuration_hash = $11,
                    lease_until = clock_timestamp() + make_interval(secs => $15)
                WHERE "#,
            fence!(),
            r#" AND next_sequence = $4 AND forwarding.epoch = $5 AND (SELECT room FROM held)
                  AND EXISTS (SELECT FROM event WHERE event.sequence = $6 AND event.epoch = $7)
                RETURNING "#,
            standing!(),
            r#"),
             copied AS (
                INSERT INTO parked (forwarding, sequence, epoch, received_at, id, "timestamp", type,
                    actor_type, actor_id, actor_name, actor_email, resource_type, resource_id, resource_name,
                    outcome, submitted_by_kind, submitted_by_name, context, changes, details, passed,
                    parked_at, code, reason)
                SELECT $1, sequence, epoch, received_at, id, "timestamp", type,
                    actor_type, actor_id, actor_name, actor_email, resource_type, resource_id, resource_name,
                    outcome, submitted_by_kind, submitted_by_name, context, changes, details, passed,
                    clock_timestamp(), $12, $13
                FROM event WHERE sequence = $6 AND EXISTS (SELECT FROM moved)
                ON CONFLICT (forwarding, epoch, sequence) DO UPDATE
                SET parked_at = excluded.parked_at, code = excluded.code, reason = excluded.reason, replay_asked_at = NULL
             )
             SELECT held.room, moved.* FROM held LEFT JOIN moved ON true"#
        ))
        .bind(asker.forwarding)
        .bind(asker.replica)
        .bind(asker.generation)
        .bind(from.next_sequence)
        .bind(from.epoch)
        .bind(refused.place.sequence)
        .bind(refused.place.epoch)
        .bind(filtered)
        .bind(room_max)
        .bind(asker.entry_generation)
        .bind(asker.configuration_hash)
        .bind(refused.code.map(i32::from))
        .bind(refused.reason)
        .bind(state_name(State::Pending))
        .bind(LEASE.as_secs_f64())
        .fetch_one(&self.pool)
        .await?;
        Ok(match outcome {
            Outcome { standing: Some(standing), .. } => Parking::Done(standing),
            Outcome { room: false, .. } => Parking::Full,
            Outcome { .. } => Parking::Lost,
        })
    }

    /// Takes back the events that were parked since the source last accepted any, and moves the cursor to the first of
    /// them; `refused` is the one that shows that it accepts none. None as in [`Store::move_cursor`].
    ///
    /// What retention has dropped meanwhile stays parked: its copy is all that is left. Retention in turn waits for the
    /// locks on segments and events, and finds the cursor where it is then.
    pub async fn unpark(
        &self,
        asker: Asker<'_>,
        from: Cursor,
        refused: Refused<'_>,
    ) -> Result<Option<Standing>, sqlx::Error> {
        let mut transaction = self.pool.begin().await?;
        let kept: Vec<(i64, i64)> = sqlx::query_as(
            "SELECT event.epoch, event.sequence FROM forwarding
             JOIN parked ON parked.forwarding = name AND parked.sequence = ANY(refused_in_a_row)
             JOIN event ON event.sequence = parked.sequence AND event.epoch = parked.epoch
             JOIN segment ON event.sequence >= segment.first_sequence AND event.sequence < segment.end_sequence
             WHERE name = $1 AND dropping_at IS NULL AND event.sequence < next_sequence
             ORDER BY event.sequence FOR SHARE OF segment FOR KEY SHARE OF event FOR UPDATE OF parked",
        )
        .bind(asker.forwarding)
        .fetch_all(&mut *transaction)
        .await?;
        let (epochs, sequences): (Vec<i64>, Vec<i64>) = kept.into_iter().unzip();
        sqlx::query(
            "DELETE FROM parked USING unnest($2::bigint[], $3::bigint[]) AS kept (epoch, sequence)
             WHERE forwarding = $1 AND parked.epoch = kept.epoch AND parked.sequence = kept.sequence",
        )
        .bind(asker.forwarding)
        .bind(&epochs)
        .bind(&sequences)
        .execute(&mut *transaction)
        .await?;
        let first = sequences.first().copied().unwrap_or(from.next_sequence);
        let passed = from.next_sequence - first;
        let left_out = passed - i64::try_from(sequences.len()).unwrap_or_default();
        let standing = sqlx::query_as(concat!(
            "UPDATE forwarding
             SET next_sequence = $6, filtered = filtered - $7, refused_in_a_row = refused_in_a_row || $8::bigint,
                 state = $9, last_error = $10, last_error_code = $11,
                 retrying_since = coalesce(retrying_since, clock_timestamp()),
                 generation = $12, configuration_hash = $13,
                 lease_until = clock_timestamp() + make_interval(secs => $14)
             WHERE ",
            fence!(),
            " AND next_sequence = $4 AND epoch = $5 RETURNING ",
            standing!()
        ))
        .bind(asker.forwarding)
        .bind(asker.replica)
        .bind(asker.generation)
        .bind(from.next_sequence)
        .bind(from.epoch)
        .bind(first)
        .bind(left_out)
        .bind(refused.place.sequence)
        .bind(state_name(State::EventRefused))
        .bind(refused.reason)
        .bind(refused.code.map(i32::from))
        .bind(asker.entry_generation)
        .bind(asker.configuration_hash)
        .bind(LEASE.as_secs_f64())
        .fetch_optional(&mut *transaction)
        .await?;
        if standing.is_some() {
            transaction.commit().await?;
        } else {
            transaction.rollback().await?;
        }
        Ok(standing)
    }

    /// Parked events that are to be sent again, at most `limit`, in the order of the log.
    pub async fn replays(&self, forwarding: &str, limit: i64) -> Result<Vec<StoredEvent>, sqlx::Error> {
        let mut query = QueryBuilder::new(SELECT);
        query.push("parked WHERE replay_asked_at IS NOT NULL AND forwarding = ").push_bind(forwarding);
        query.push(" ORDER BY epoch, sequence LIMIT ").push_bind(limit);
        query.build_query_as().fetch_all(&self.pool).await
    }

    /// Forgets parked events that the source has accepted now. None when lease or
    /// generation is no longer what the sender took it for.
    pub async fn finish_replay(&self, asker: Asker<'_>, events: &[Place]) -> Result<Option<Standing>, sqlx::Error> {
        let (epochs, sequences): (Vec<i64>, Vec<i64>) =
            events.iter().map(|place| (place.epoch, place.sequence)).unzip();
        sqlx::query_as(concat!(
            "WITH sent AS (SELECT epoch, sequence FROM parked JOIN unnest($4::bigint[], $5::bigint[]) AS given (epoch, sequence)
                           USING (epoch, sequence) WHERE forwarding = $1 ORDER BY epoch, sequence FOR UPDATE OF parked),
             moved AS (
                UPDATE forwarding
                SET delivered = delivered + (SELECT count(*) FROM sent), refused_in_a_row = '{}',
                    state = $6, last_error = NULL, last_error_code = NULL, retrying_since = NULL,
                    last_success = clock_timestamp(), generation = $7, configuration_hash = $8,
                    lease_until = clock_timestamp() + make_interval(secs => $9)
                WHERE ",
            fence!(),
            " RETURNING ",
            standing!(),
            "),
             forgotten AS (
                DELETE FROM parked USING sent
                WHERE forwarding = $1 AND parked.epoch = sent.epoch AND parked.sequence = sent.sequence
                  AND EXISTS (SELECT FROM moved)
             )
             SELECT * FROM moved"
        ))
        .bind(asker.forwarding)
        .bind(asker.replica)
        .bind(asker.generation)
        .bind(epochs)
        .bind(sequences)
        .bind(state_name(State::Accepting))
        .bind(asker.entry_generation)
        .bind(asker.configuration_hash)
        .bind(LEASE.as_secs_f64())
        .fetch_optional(&self.pool)
        .await
    }

    /// Writes that a replayed event was refused again: it stays parked. None as in [`Store::finish_replay`].
    pub async fn refuse_replay(&self, asker: Asker<'_>, refused: Refused<'_>) -> Result<Option<Standing>, sqlx::Error> {
        sqlx::query_as(concat!(
            "WITH moved AS (
                UPDATE forwarding SET lease_until = clock_timestamp() + make_interval(secs => $4)
                WHERE ",
            fence!(),
            " RETURNING ",
            standing!(),
            "),
             refused AS (
                UPDATE parked SET replay_asked_at = NULL, parked_at = clock_timestamp(), code = $5, reason = $6
                WHERE forwarding = $1 AND epoch = $7 AND sequence = $8 AND EXISTS (SELECT FROM moved)
             )
             SELECT * FROM moved"
        ))
        .bind(asker.forwarding)
        .bind(asker.replica)
        .bind(asker.generation)
        .bind(LEASE.as_secs_f64())
        .bind(refused.code.map(i32::from))
        .bind(refused.reason)
        .bind(refused.place.epoch)
        .bind(refused.place.sequence)
        .fetch_optional(&self.pool)
        .await
    }
}

impl FromRow<'_, PgRow> for Outcome {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        let moved: Option<i64> = row.try_get("next_sequence")?;
        let standing = moved.map(|_| Standing::from_row(row)).transpose()?;
        Ok(Self { room: row.try_get("room")?, standing })
    }
}
