//! Whether a log goes on where it was. Pure.
//!
//! A database that was restored holds less than it had acknowledged, and nothing in it says so. A collector that ran all
//! the while notices by itself. Where none did, the trail's status is the only memory: so it never goes back, and
//! through the document it tells the collectors, which raise the epoch.

use crate::board::Facts;
use audittrail_crds::AuditTrailStatus;
use audittrail_crds::document::KnownLog;
use audittrail_crds::report::Log;
use std::fmt;

/// How far a log has come. A higher epoch is further, however much of the log was lost before it began.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Position {
    epoch: i64,
    next_sequence: i64,
}

impl Position {
    /// What the status remembers; `None` where no log was ever seen.
    pub fn remembered(status: &AuditTrailStatus) -> Option<Self> {
        Some(Self { epoch: status.epoch?, next_sequence: status.events? })
    }

    /// Where a log stands.
    pub fn of(log: &Log) -> Self {
        Self { epoch: log.epoch, next_sequence: log.next_sequence }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} events in epoch {}", self.next_sequence, self.epoch)
    }
}

impl From<KnownLog> for Position {
    fn from(known: KnownLog) -> Self {
        Self { epoch: known.epoch, next_sequence: known.next_sequence }
    }
}

impl From<Position> for KnownLog {
    fn from(position: Position) -> Self {
        Self { epoch: position.epoch, next_sequence: position.next_sequence }
    }
}

/// Whether `log` has come at least as far as the status remembers. While it has not, the status keeps its memory.
pub fn goes_on(status: &AuditTrailStatus, log: &Log) -> bool {
    Position::remembered(status).is_none_or(|remembered| Position::of(log) >= remembered)
}

/// What the document has to say of the log, given what it says now.
///
/// It says it when the log has fallen behind, and when no collector runs at all: those that come next must know before
/// they take the first event, which would hide a small loss. It goes on saying it in that epoch: as a lower bound it
/// stays true, and a document that does not change costs nothing.
pub fn known_log(status: &AuditTrailStatus, present: Option<KnownLog>, facts: &Facts) -> Option<KnownLog> {
    let present = present.map(Position::from);
    let Some(remembered) = Position::remembered(status) else { return present.map(KnownLog::from) };
    let fallen_behind = facts.log().is_some_and(|log| Position::of(log) < remembered);
    let known = if fallen_behind || nobody_runs(facts) {
        present.max(Some(remembered))
    } else {
        present.filter(|present| present.epoch >= remembered.epoch)
    };
    known.map(KnownLog::from)
}

/// Whether the document that is applied has yet to say what [`known_log`] wants it to say. A round that failed is tried
/// again without being asked for.
pub fn needs_a_round(status: &AuditTrailStatus, facts: &Facts) -> bool {
    let Some(applied) = facts.applied.as_ref().filter(|_| facts.problem.is_none()) else { return false };
    let present = applied.document.known_log;
    known_log(status, present, facts) != present
}

fn nobody_runs(facts: &Facts) -> bool {
    let no_pod = facts.applied.as_ref().is_some_and(|applied| applied.running.collector.ready == 0);
    no_pod && matches!(facts.observation, Some(Err(_)))
}

#[cfg(test)]
mod tests;
