//! Epochs of the log: raised when the database was restored or rewound, so that no sequence is given twice within one.
//!
//! Noticed in five ways: this process has seen more of the log than the database holds now; where it has written an event,
//! another one stands (a replica that had seen less went on first); the operator has seen more (the document's `knownLog`);
//! the log lives on another Postgres server than before (its system identifier differs: restored from a dump); or the server
//! went on from a point in its past (its timeline differs) while no process was there that could tell whether all was kept.

use super::Store;
use crate::event::leaf::Hash;
use audittrail_crds::document::KnownLog;
use audittrail_crds::report;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use sqlx::{Connection, PgConnection};
use std::sync::{Mutex, PoisonError};

/// How far the log is known to have gone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Known {
    /// The epoch.
    pub epoch: i64,
    /// The sequence that its next event was to get.
    pub next_sequence: i64,
}

/// The newest event that this process has written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Written {
    pub epoch: i64,
    pub sequence: i64,
    pub leaf_hash: Hash,
}

/// What this process knows of the log: it never forgets, whatever happens to the database.
#[derive(Debug, Default)]
pub struct Knowledge {
    known: Mutex<Option<Known>>,
    written: Mutex<Option<Written>>,
}

/// Why the epoch must be raised.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Restored {
    /// The new epoch is above this one: the highest that anybody has seen.
    above: i64,
    reason: String,
}

impl Known {
    /// What is lost if a log that was once here is `found` there.
    fn lost(self, found: Self) -> Option<Restored> {
        let less = found.epoch < self.epoch || (found.epoch == self.epoch && found.next_sequence < self.next_sequence);
        less.then(|| Restored {
            above: self.epoch,
            reason: format!(
                "in epoch {} the log had {} events; it was found in epoch {} with {}",
                self.epoch, self.next_sequence, found.epoch, found.next_sequence
            ),
        })
    }
}

impl Written {
    /// What is lost if an event with this leaf stands in its place. Retention may have dropped it.
    fn lost(self, leaf_hash: Option<&[u8]>) -> Option<Restored> {
        leaf_hash.is_some_and(|found| found != self.leaf_hash).then(|| Restored {
            above: self.epoch,
            reason: format!(
                "in epoch {} sequence {} was that of another event than it is now",
                self.epoch, self.sequence
            ),
        })
    }
}

impl Knowledge {
    /// What is lost if the log is `found` like this.
    pub(super) fn lost(&self, found: Known) -> Option<Restored> {
        self.get().and_then(|known| known.lost(found))
    }

    /// What was committed is known from now on.
    pub fn learn(&self, seen: Known) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_none_or(|known| (known.epoch, known.next_sequence) < (seen.epoch, seen.next_sequence)) {
            *known = Some(seen);
        }
    }

    /// An event of this process was committed.
    pub(super) fn wrote(&self, event: Written) {
        *self.written.lock().unwrap_or_else(PoisonError::into_inner) = Some(event);
    }

    fn get(&self) -> Option<Known> {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn written(&self) -> Option<Written> {
        *self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The server behind a connection; none of a value which the role may not see.
#[derive(Clone, Copy, Debug, Eq, PartialEq, sqlx::FromRow)]
struct Server {
    system_identifier: Option<i64>,
    timeline: Option<i32>,
}

#[derive(sqlx::FromRow)]
struct HeadRow {
    epoch: i64,
    next_sequence: i64,
    system_identifier: Option<i64>,
    timeline: Option<i32>,
}

impl Store {
    /// Compares the log with what is known of it and raises the epoch if something was lost or cannot be ruled out.
    /// Idle trails need this too, so it goes with every heartbeat.
    pub async fn check_epoch(&self, known_outside: Option<KnownLog>) -> Result<(), sqlx::Error> {
        let mut connection = self.pool.acquire().await?;
        let server = server(&mut connection).await?;
        let seen: HeadRow = sqlx::query_as("SELECT epoch, next_sequence, system_identifier, timeline FROM head")
            .fetch_one(&mut *connection)
            .await?;
        let restored = self.restored(&mut connection, &seen, server, known_outside).await?;
        if restored.is_some() || seen.server() != server {
            self.settle(&mut connection, server, known_outside).await?;
        } else {
            self.known.learn(seen.known());
        }
        Ok(())
    }

    /// Before this process writes over another connection than before: whether its newest event is still there. Once it has
    /// written again, it could not tell any more.
    pub(super) async fn check_written(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        if self.overwritten(connection).await?.is_some() { self.check_epoch(None).await } else { Ok(()) }
    }

    /// What is lost where this process has written its newest event. It may write another one meanwhile: this is of the one
    /// that was asked for.
    async fn overwritten(&self, connection: &mut PgConnection) -> Result<Option<Restored>, sqlx::Error> {
        let Some(written) = self.known.written() else { return Ok(None) };
        let leaf_hash: Option<Vec<u8>> =
            sqlx::query_scalar("SELECT leaf_hash FROM event WHERE epoch = $1 AND sequence = $2")
                .bind(written.epoch)
                .bind(written.sequence)
                .fetch_optional(connection)
                .await?;
        Ok(written.lost(leaf_hash.as_deref()))
    }

    /// Looks again under the head's lock: another replica may have raised the epoch meanwhile.
    async fn settle(
        &self,
        connection: &mut PgConnection,
        server: Server,
        known_outside: Option<KnownLog>,
    ) -> Result<(), sqlx::Error> {
        let mut transaction = connection.begin().await?;
        let found: HeadRow =
            sqlx::query_as("SELECT epoch, next_sequence, system_identifier, timeline FROM head FOR UPDATE")
                .fetch_one(&mut *transaction)
                .await?;
        let mut epoch = found.epoch;
        if let Some(restored) = self.restored(&mut transaction, &found, server, known_outside).await? {
            epoch = raise(&mut transaction, &restored).await?;
        }
        sqlx::query("UPDATE head SET system_identifier = $1, timeline = $2")
            .bind(server.system_identifier)
            .bind(server.timeline)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        self.known.learn(Known { epoch, next_sequence: found.next_sequence });
        Ok(())
    }

    /// Why the epoch must be raised; none when nothing was lost, or that was said already.
    async fn restored(
        &self,
        connection: &mut PgConnection,
        found: &HeadRow,
        server: Server,
        known_outside: Option<KnownLog>,
    ) -> Result<Option<Restored>, sqlx::Error> {
        let overwritten = self.overwritten(connection).await?.filter(|restored| restored.above == found.epoch);
        Ok(overwritten.or_else(|| verdict(found.known(), self.known.get(), known_outside, found.server(), server)))
    }

    /// How the present epoch came to be; none for the first.
    pub async fn raised(&self) -> Result<Option<report::Raised>, sqlx::Error> {
        let row: Option<(jiff_sqlx::Timestamp, i64, String)> =
            sqlx::query_as("SELECT raised_at, first_sequence, reason FROM epoch ORDER BY epoch DESC LIMIT 1")
                .fetch_optional(&self.pool)
                .await?;
        Ok(row.map(|(at, first_sequence, reason)| report::Raised { at: Time(at.to_jiff()), first_sequence, reason }))
    }
}

impl HeadRow {
    fn known(&self) -> Known {
        Known { epoch: self.epoch, next_sequence: self.next_sequence }
    }

    fn server(&self) -> Server {
        Server { system_identifier: self.system_identifier, timeline: self.timeline }
    }
}

/// Why the epoch must be raised; none when nothing was lost.
fn verdict(
    found: Known,
    own: Option<Known>,
    outside: Option<KnownLog>,
    before: Server,
    now: Server,
) -> Option<Restored> {
    let outside = outside.map(|known| Known { epoch: known.epoch, next_sequence: known.next_sequence });
    if let Some(restored) = own.into_iter().chain(outside).find_map(|known| known.lost(found)) {
        return Some(restored);
    }
    let differs = |before: Option<i64>, now: Option<i64>| before.zip(now).is_some_and(|(before, now)| before != now);
    let reason = if differs(before.system_identifier, now.system_identifier) {
        "the log was found on another Postgres server than before: it was restored from a dump"
    } else if own.is_none() && differs(before.timeline.map(i64::from), now.timeline.map(i64::from)) {
        // Whoever was there all the time knows that nothing is missing, for instance after a synchronous failover.
        "Postgres went on from a point in its past (a recovery or a failover) while no collector ran that could tell whether all was kept"
    } else {
        return None;
    };
    Some(Restored { above: found.epoch, reason: reason.to_owned() })
}

/// Raises the epoch in a transaction that holds the head's lock. Forwardings which were past the log's end go on
/// from there, since its next events get those sequences anew. Every lease ends: a batch that was read before may hold
/// events that are no longer there, and must not move a cursor past others.
pub(super) async fn raise(connection: &mut PgConnection, restored: &Restored) -> Result<i64, sqlx::Error> {
    let epoch: i64 = sqlx::query_scalar("UPDATE head SET epoch = greatest(epoch, $1) + 1 RETURNING epoch")
        .bind(restored.above)
        .fetch_one(&mut *connection)
        .await?;
    sqlx::query(
        "INSERT INTO epoch (epoch, first_sequence, raised_at, reason)
         SELECT epoch, next_sequence, clock_timestamp(), $1 FROM head",
    )
    .bind(&restored.reason)
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "UPDATE forwarding SET next_sequence = least(forwarding.next_sequence, head.next_sequence),
             holder = NULL, lease_until = NULL
         FROM head",
    )
    .execute(connection)
    .await?;
    tracing::error!(epoch, reason = restored.reason, "the database was restored or rewound: the epoch is raised");
    Ok(epoch)
}

/// What the server says of itself. Managed services may hide it, which is no fault: then this tells nothing.
async fn server(connection: &mut PgConnection) -> Result<Server, sqlx::Error> {
    let allowed: bool =
        sqlx::query_scalar("SELECT has_function_privilege('pg_control_system()', 'execute') AND has_function_privilege('pg_walfile_name(pg_lsn)', 'execute')")
            .fetch_one(&mut *connection)
            .await?;
    if !allowed {
        return Ok(Server { system_identifier: None, timeline: None });
    }
    // The first eight digits of a file of the write-ahead log are its timeline.
    sqlx::query_as(
        "SELECT system_identifier,
                ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::integer AS timeline
         FROM pg_control_system()",
    )
    .fetch_one(connection)
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Server = Server { system_identifier: Some(1), timeline: Some(1) };

    fn known(epoch: i64, next_sequence: i64) -> Known {
        Known { epoch, next_sequence }
    }

    #[test]
    fn a_log_that_grew_lost_nothing() {
        assert_eq!(verdict(known(0, 5), Some(known(0, 5)), None, HERE, HERE), None);
        assert_eq!(verdict(known(0, 6), Some(known(0, 5)), None, HERE, HERE), None);
        assert_eq!(verdict(known(1, 2), Some(known(0, 5)), None, HERE, HERE), None);
    }

    #[test]
    fn a_log_with_less_than_was_seen_was_rewound() {
        let restored = verdict(known(0, 4), Some(known(0, 5)), None, HERE, HERE).expect("noticed");
        assert_eq!(restored.reason, "in epoch 0 the log had 5 events; it was found in epoch 0 with 4");
    }

    #[test]
    fn a_new_epoch_is_above_all_that_were_seen() {
        assert_eq!(verdict(known(0, 9), Some(known(3, 5)), None, HERE, HERE).expect("noticed").above, 3);
        let there = Server { system_identifier: Some(2), ..HERE };
        assert_eq!(verdict(known(2, 9), None, None, HERE, there).expect("noticed").above, 2);
    }

    #[test]
    fn what_the_operator_saw_counts_as_well() {
        let outside = |next_sequence| Some(KnownLog { epoch: 0, next_sequence });
        assert!(verdict(known(0, 4), None, outside(5), HERE, HERE).is_some());
        assert_eq!(verdict(known(0, 5), None, outside(5), HERE, HERE), None);
        assert_eq!(verdict(known(1, 4), None, outside(5), HERE, HERE), None);
    }

    #[test]
    fn another_server_is_a_restored_dump() {
        let there = Server { system_identifier: Some(2), ..HERE };
        let restored = verdict(known(0, 5), Some(known(0, 5)), None, HERE, there).expect("noticed");
        assert!(restored.reason.contains("another Postgres"));
        let hidden = Server { system_identifier: None, timeline: None };
        assert_eq!(verdict(known(0, 5), None, None, hidden, there), None);
    }

    #[test]
    fn a_failover_is_no_loss_for_whoever_was_there() {
        let promoted = Server { timeline: Some(2), ..HERE };
        assert_eq!(verdict(known(0, 5), Some(known(0, 5)), None, HERE, promoted), None);
        assert!(verdict(known(0, 5), None, None, HERE, promoted).is_some());
    }
}
