//! Forwardings: leases, cursors and facts.
//!
//! Two fences keep a replica that is paused or cut off from doing harm. The lease: only its holder
//! moves the cursor, and only until the lease ends by the database's clock. The generation: a replica
//! whose document is not the newest applied one neither takes a lease nor moves a cursor.

use super::Store;
use super::parked::Place;
use audittrail_crds::report::{self, State};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::time::Duration;
use uuid::Uuid;

/// How long a lease lasts. After a holder dies, the next one waits this long.
pub const LEASE: Duration = Duration::from_secs(10);

/// Where a forwarding stands in the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq, sqlx::FromRow)]
pub struct Cursor {
    /// Identity of the log.
    pub log_id: Uuid,
    /// Epoch of the newest event passed, or of the log when the cursor was made.
    pub epoch: i64,
    /// The next sequence to deliver. Everything below it was delivered, left out or parked.
    pub next_sequence: i64,
}

/// What the holder of a lease is told each time that it shows it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, sqlx::FromRow)]
pub struct Standing {
    /// The cursor.
    #[sqlx(flatten)]
    pub cursor: Cursor,
    /// Epoch of the log.
    pub log_epoch: i64,
    /// Lone events refused one after the other, with none accepted between.
    pub refused_in_a_row: i32,
    /// Somebody asked to send parked events again.
    pub replays: bool,
    /// Events lie ahead that are parked: the cursor was made anew.
    pub parked_ahead: bool,
}

/// The columns of [`Standing`], of a row of `forwarding`.
macro_rules! standing {
    () => {
        "(SELECT log_id FROM head) AS log_id, epoch, next_sequence, (SELECT head.epoch FROM head) AS log_epoch,
         cardinality(refused_in_a_row) AS refused_in_a_row,
         EXISTS (SELECT FROM parked WHERE forwarding = name AND replay_asked_at IS NOT NULL) AS replays,
         EXISTS (SELECT FROM parked WHERE forwarding = name AND sequence >= next_sequence) AS parked_ahead"
    };
}

/// What lets only the lease's holder write, and only under the newest configuration: [`Asker`] in $1 to $3. `FOR SHARE`: no
/// newer configuration can slip in between the check and the write.
macro_rules! fence {
    () => {
        "name = $1 AND holder = $2 AND lease_until > clock_timestamp()
         AND (SELECT generation FROM configuration FOR SHARE) = $3"
    };
}

pub(super) use {fence, standing};

/// Who asks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Asker<'a> {
    /// Name of the forwarding.
    pub forwarding: &'a str,
    /// Generation of the forwarding's entry; facts are written with it.
    pub entry_generation: i64,
    /// Which configuration that is ([`audittrail_crds::document::Forwarding::configuration_hash`]); facts are written with it.
    pub configuration_hash: &'a str,
    /// The replica.
    pub replica: Uuid,
    /// Generation of the replica's document: anything but the newest applied one is refused.
    pub generation: i64,
}

/// A part of the log that is done with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Passed {
    /// The sequence after it.
    pub next_sequence: i64,
    /// Epoch of its newest event.
    pub epoch: i64,
    /// Its events that the filter left out.
    pub filtered: i64,
}

/// What the source accepted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Delivered {
    /// Sequence of the newest event.
    pub last_sequence: i64,
    /// How many events.
    pub events: i64,
}

/// How delivery stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Fact<'a> {
    /// In a word.
    pub state: State,
    /// What went wrong, without secrets.
    pub error: Option<&'a str>,
    /// Status code of the answer that `error` tells of.
    pub code: Option<u16>,
}

#[derive(sqlx::FromRow)]
struct FactsRow {
    name: String,
    generation: i64,
    state: String,
    last_error: Option<String>,
    last_error_code: Option<i32>,
    last_success: Option<jiff_sqlx::Timestamp>,
    retrying_since: Option<jiff_sqlx::Timestamp>,
    configuration_hash: Option<String>,
    delivered_sequence: Option<i64>,
    delivered: i64,
    filtered: i64,
    parked: i64,
    lag_events: i64,
    lag_seconds: i64,
}

impl Store {
    /// Takes the lease, or makes it last [`LEASE`] from now on. None when another replica
    /// holds it, or when this replica's document is not the newest.
    ///
    /// Refusals under an earlier entry say nothing about this one, so counting begins anew: facts still carry the
    /// generation of that entry.
    pub async fn take_lease(&self, asker: Asker<'_>) -> Result<Option<Standing>, sqlx::Error> {
        let lease = sqlx::query_as(concat!(
            "UPDATE forwarding
             SET holder = $2, lease_until = clock_timestamp() + make_interval(secs => $4),
                 refused_in_a_row = CASE WHEN generation = $5 THEN refused_in_a_row ELSE '{}' END
             WHERE name = $1
               AND (holder IS NULL OR holder = $2 OR lease_until < clock_timestamp())
               AND (SELECT generation FROM configuration) = $3
             RETURNING ",
            standing!()
        ))
        .bind(asker.forwarding)
        .bind(asker.replica)
        .bind(asker.generation)
        .bind(LEASE.as_secs_f64())
        .bind(asker.entry_generation)
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

    /// Moves the cursor past a part of the log of which the source accepted events, and makes the lease last [`LEASE`]
    /// from now on. None when the lease, the generation or the cursor is no longer what the sender took it for.
    ///
    /// `sent` are those of the accepted events of which there may be a parked copy: what the source has is not parked.
    pub async fn move_cursor(
        &self,
        asker: Asker<'_>,
        from: Cursor,
        passed: Passed,
        delivered: Delivered,
        sent: &[Place],
    ) -> Result<Option<Standing>, sqlx::Error> {
        let (epochs, sequences): (Vec<i64>, Vec<i64>) = sent.iter().map(|place| (place.epoch, place.sequence)).unzip();
        sqlx::query_as(concat!(
            "WITH moved AS (
                UPDATE forwarding
                SET next_sequence = $6, epoch = $7, filtered = filtered + $8,
                    delivered_sequence = $9, delivered = delivered + $10, refused_in_a_row = '{}',
                    state = $11, last_error = NULL, last_error_code = NULL, retrying_since = NULL,
                    last_success = clock_timestamp(), generation = $12, configuration_hash = $13,
                    lease_until = clock_timestamp() + make_interval(secs => $14)
                WHERE ",
            fence!(),
            " AND next_sequence = $4 AND epoch = $5 RETURNING ",
            standing!(),
            "),
             forgotten AS (
                DELETE FROM parked USING unnest($15::bigint[], $16::bigint[]) AS sent (epoch, sequence)
                WHERE cardinality($15::bigint[]) > 0 AND EXISTS (SELECT FROM moved)
                  AND forwarding = $1 AND parked.epoch = sent.epoch AND parked.sequence = sent.sequence
             )
             SELECT * FROM moved"
        ))
        .bind(asker.forwarding)
        .bind(asker.replica)
        .bind(asker.generation)
        .bind(from.next_sequence)
        .bind(from.epoch)
        .bind(passed.next_sequence)
        .bind(passed.epoch)
        .bind(passed.filtered)
        .bind(delivered.last_sequence)
        .bind(delivered.events)
        .bind(state_name(State::Accepting))
        .bind(asker.entry_generation)
        .bind(asker.configuration_hash)
        .bind(LEASE.as_secs_f64())
        .bind(epochs)
        .bind(sequences)
        .fetch_optional(&self.pool)
        .await
    }

    /// Moves the cursor past a part of the log of which the filter left everything out, which says nothing about the
    /// source. None as in [`Store::move_cursor`].
    pub async fn pass_filtered(
        &self,
        asker: Asker<'_>,
        from: Cursor,
        passed: Passed,
    ) -> Result<Option<Standing>, sqlx::Error> {
        sqlx::query_as(concat!(
            "UPDATE forwarding
             SET next_sequence = $6, epoch = $7, filtered = filtered + $8,
                 lease_until = clock_timestamp() + make_interval(secs => $9)
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
        .bind(passed.next_sequence)
        .bind(passed.epoch)
        .bind(passed.filtered)
        .bind(LEASE.as_secs_f64())
        .fetch_optional(&self.pool)
        .await
    }

    /// Writes how delivery stands; [`State::Accepting`] is a success, and a state of failure lasts since the first one after a
    /// success. False when the lease is lost.
    pub async fn record_state(&self, asker: Asker<'_>, fact: Fact<'_>) -> Result<bool, sqlx::Error> {
        let done = sqlx::query(concat!(
            "UPDATE forwarding
             SET state = $4, last_error = $5, last_error_code = $6, generation = $7, configuration_hash = $8,
                 last_success = CASE WHEN $9 THEN clock_timestamp() ELSE last_success END,
                 retrying_since = CASE WHEN $9 THEN NULL ELSE coalesce(retrying_since, clock_timestamp()) END
             WHERE ",
            fence!()
        ))
        .bind(asker.forwarding)
        .bind(asker.replica)
        .bind(asker.generation)
        .bind(state_name(fact.state))
        .bind(fact.error)
        .bind(fact.code.map(i32::from))
        .bind(asker.entry_generation)
        .bind(asker.configuration_hash)
        .bind(fact.state == State::Accepting)
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Turns a forwarding off: nobody holds its lease any more. False when this replica's document
    /// is not the newest.
    pub async fn disable_forwarding(&self, asker: Asker<'_>) -> Result<bool, sqlx::Error> {
        let done = sqlx::query(
            "UPDATE forwarding
             SET state = $3, last_error = NULL, last_error_code = NULL, retrying_since = NULL, generation = $4,
                 configuration_hash = $5, holder = NULL, lease_until = NULL
             WHERE name = $1 AND (SELECT generation FROM configuration) = $2",
        )
        .bind(asker.forwarding)
        .bind(asker.generation)
        .bind(state_name(State::Disabled))
        .bind(asker.entry_generation)
        .bind(asker.configuration_hash)
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Every forwarding that ever had a cursor, by name, with its lag behind the head. Configurations have hashes of the trail's
    /// own: their write keys are in them, and a guess of one must not be told right by who reads a status.
    pub async fn forwarding_facts(&self) -> Result<Vec<report::Forwarding>, sqlx::Error> {
        // What retention has dropped does not wait any more.
        let oldest = self.oldest_sequence().await?;
        let rows: Vec<FactsRow> = sqlx::query_as(
            "SELECT f.name, f.generation, f.state, f.last_error, f.last_error_code, f.last_success, f.retrying_since,
                    left(encode(sha256(cursor_key.key || convert_to('configuration ' || f.configuration_hash, 'UTF8')), 'hex'), 16)
                        AS configuration_hash,
                    f.delivered_sequence, f.delivered, f.filtered,
                    (SELECT count(*) FROM parked WHERE forwarding = f.name) AS parked,
                    greatest(head.next_sequence - greatest(f.next_sequence, $1), 0) AS lag_events,
                    greatest(coalesce(floor(extract(epoch FROM clock_timestamp() - oldest.received_at)), 0), 0)::bigint
                        AS lag_seconds
             FROM forwarding f CROSS JOIN head CROSS JOIN cursor_key
             LEFT JOIN LATERAL (SELECT received_at FROM event WHERE sequence >= f.next_sequence
                                ORDER BY sequence LIMIT 1) oldest ON true
             ORDER BY f.name",
        )
        .bind(oldest)
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
        filtered: row.filtered,
        parked: row.parked,
        retrying_since: row.retrying_since.map(|moment| Time(moment.to_jiff())),
        last_error_code: row.last_error_code.and_then(|code| u16::try_from(code).ok()),
        configuration_hash: row.configuration_hash,
        lag_events: row.lag_events,
        lag_seconds: row.lag_seconds,
    }
}

/// The name of a state in the database: that of the report.
pub(super) fn state_name(state: State) -> &'static str {
    match state {
        State::Disabled => "Disabled",
        State::Pending => "Pending",
        State::Accepting => "Accepting",
        State::Retrying => "Retrying",
        State::KeyRefused => "KeyRefused",
        State::EndpointRefused => "EndpointRefused",
        State::EventRefused => "EventRefused",
        State::Loop => "Loop",
        State::FilterInvalid => "FilterInvalid",
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
        State::Loop,
        State::FilterInvalid,
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
