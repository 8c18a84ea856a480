//! What is known of a trail, as conditions and counters. Pure.

use crate::board::{Applied, Facts};
use crate::conditions::{Outlook, Status, Verdict, conditions, summary};
use crate::names::Names;
use crate::observe::Silence;
use crate::trail::apply::{Pods, Running};
use crate::trail::continuity;
use audittrail_crds::AuditTrailStatus;
use audittrail_crds::condition::{Reason, Type};
use audittrail_crds::report::{Database, Durability, Log, Report};
use jiff::Timestamp;

/// The status that follows `previous`, given the facts. Times are whole seconds.
pub fn judge(names: &Names, previous: &AuditTrailStatus, facts: &Facts, now: Timestamp) -> AuditTrailStatus {
    let (ready, outlook) = ready(facts);
    let mut verdicts = summary(ready, outlook);
    verdicts.extend([storage_ready(facts), collector_ready(facts), durable(facts)]);
    verdicts.push(log::continuous(previous, facts).unwrap_or_else(|| unknown(Type::Continuous, facts)));
    verdicts.extend(log::retention_held(previous, facts));
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let mut status = AuditTrailStatus {
        observed_generation: facts.generation,
        conditions: conditions(&previous.conditions, verdicts, facts.generation, now),
        ..previous.clone()
    };
    if let Some(applied) = &facts.applied {
        status.url = Some(names.url());
        status.write_key_secret = Some(applied.write_key_secret.clone());
    }
    // Without a report, the last known counters stand.
    if let Some(Ok(report)) = &facts.observation {
        status.configuration_generation = report.replicas.iter().map(|replica| replica.generation).min();
    }
    if let Some(log) = facts.log().filter(|log| continuity::goes_on(previous, log)) {
        count(&mut status, log);
    }
    status
}

fn count(status: &mut AuditTrailStatus, log: &Log) {
    status.trail_id = Some(log.id.clone());
    status.epoch = Some(log.epoch);
    status.events = Some(log.next_sequence);
    status.last_sequence = (log.next_sequence > 0).then(|| log.next_sequence - 1);
    status.oldest_sequence = (log.first_sequence < log.next_sequence).then_some(log.first_sequence);
    status.undelivered_dropped = (log.undelivered_dropped > 0).then_some(log.undelivered_dropped);
}

/// The first thing in the way, in the order in which things depend on each other.
fn ready(facts: &Facts) -> (Verdict, Outlook) {
    if let Some(problem) = &facts.problem {
        let outlook = if problem.needs_help { Outlook::NeedsHelp } else { Outlook::Underway };
        return (Verdict::new(Type::Ready, Status::False, problem.reason, problem.message.clone()), outlook);
    }
    let (reason, message) = match (&facts.applied, &facts.observation) {
        (Some(applied), Some(Ok(report))) => verified(applied, report),
        (Some(applied), Some(Err(silence))) => silent(&applied.running, silence),
        _ => (Reason::CollectorNotReady, "the collector was not asked yet".to_owned()),
    };
    let status = if reason == Reason::Verified { Status::True } else { Status::False };
    (Verdict::new(Type::Ready, status, reason, message), Outlook::of(reason))
}

fn verified(applied: &Applied, report: &Report) -> (Reason, String) {
    match &report.database {
        Database::Unreachable { message } => match &applied.running.postgres {
            Some(pods) if pods.ready == 0 => (Reason::StorageNotReady, storage_message(pods)),
            _ => (Reason::DatabaseUnreachable, database_unreachable(message)),
        },
        Database::InUse { claim } => (Reason::DatabaseInUse, database_in_use(claim)),
        Database::Verified { .. } => applied_everywhere(applied, report),
    }
}

fn applied_everywhere(applied: &Applied, report: &Report) -> (Reason, String) {
    let generation = applied.document.generation;
    let behind: Vec<&str> = report
        .replicas
        .iter()
        .filter(|replica| replica.generation < generation)
        .map(|replica| replica.name.as_str())
        .collect();
    if behind.is_empty() && report.generation >= generation {
        let message = "the collector answers; a row was written to the database and read back";
        return (Reason::Verified, message.to_owned());
    }
    (
        Reason::ConfigurationPending,
        format!("not all collectors have applied the newest configuration yet: {}", behind.join(", ")),
    )
}

fn silent(running: &Running, silence: &Silence) -> (Reason, String) {
    match &running.postgres {
        Some(pods) if pods.ready == 0 => (Reason::StorageNotReady, storage_message(pods)),
        _ if running.collector.ready == 0 => (Reason::CollectorNotReady, collector_message(&running.collector)),
        _ => (Reason::CollectorUnreachable, unreachable(silence)),
    }
}

fn storage_ready(facts: &Facts) -> Verdict {
    let verdict = |status, reason, message: String| Verdict::new(Type::StorageReady, status, reason, message);
    let postgres = facts.applied.as_ref().and_then(|applied| applied.running.postgres.as_ref());
    match (&facts.observation, postgres) {
        (Some(Ok(Report { database: Database::Verified { .. }, .. })), _) => {
            verdict(Status::True, Reason::AsExpected, "the database answers and belongs to this trail".to_owned())
        }
        (Some(Ok(Report { database: Database::InUse { claim }, .. })), _) => {
            verdict(Status::False, Reason::DatabaseInUse, database_in_use(claim))
        }
        (_, Some(pods)) if pods.ready == 0 => verdict(Status::False, Reason::StorageNotReady, storage_message(pods)),
        (Some(Ok(Report { database: Database::Unreachable { message }, .. })), _) => {
            verdict(Status::False, Reason::DatabaseUnreachable, database_unreachable(message))
        }
        (Some(Err(_)) | None, _) => unknown(Type::StorageReady, facts),
    }
}

fn collector_ready(facts: &Facts) -> Verdict {
    let verdict = |status, reason, message: String| Verdict::new(Type::CollectorReady, status, reason, message);
    let Some(applied) = &facts.applied else { return unknown(Type::CollectorReady, facts) };
    let pods = &applied.running.collector;
    match &facts.observation {
        _ if pods.ready < pods.wanted => verdict(Status::False, Reason::CollectorNotReady, collector_message(pods)),
        Some(Ok(_)) => verdict(Status::True, Reason::AsExpected, "all pods are available, and they answer".to_owned()),
        Some(Err(silence)) => verdict(Status::False, Reason::CollectorUnreachable, unreachable(silence)),
        None => unknown(Type::CollectorReady, facts),
    }
}

fn durable(facts: &Facts) -> Verdict {
    let Some(Ok(Report { database: Database::Verified { durability, .. }, .. })) = &facts.observation else {
        return unknown(Type::Durable, facts);
    };
    let lacking = not_durable(durability);
    if lacking.is_empty() {
        let standbys = &durability.synchronous_standby_names;
        let message = match standbys.as_str() {
            "" => "a commit is on the disk of one database server before it is acknowledged".to_owned(),
            standbys => {
                format!("a commit is on disk, and at its synchronous standbys ({standbys}), before it is acknowledged")
            }
        };
        return Verdict::new(Type::Durable, Status::True, Reason::AsExpected, message);
    }
    let message = format!("a crash of the database may lose acknowledged events: set {}", lacking.join(", "));
    Verdict::new(Type::Durable, Status::False, Reason::NotDurable, message)
}

/// Settings that must change for an acknowledged event to survive a crash of the server.
fn not_durable(durability: &Durability) -> Vec<&'static str> {
    let checks = [
        (durability.fsync, "fsync=on"),
        (durability.full_page_writes, "full_page_writes=on"),
        (durability.synchronous_commit != "off", "synchronous_commit=on"),
    ];
    checks.into_iter().filter(|(good, _)| !good).map(|(_, setting)| setting).collect()
}

/// Nothing is known of this part; the reason is that of the whole.
fn unknown(type_: Type, facts: &Facts) -> Verdict {
    let (ready, _) = ready(facts);
    Verdict::new(type_, Status::Unknown, ready.reason, "not known: see Ready")
}

fn storage_message(pods: &Pods) -> String {
    with_trouble("Postgres is starting or not available", pods)
}

fn collector_message(pods: &Pods) -> String {
    with_trouble(&format!("{} of {} collector pods are available", pods.ready, pods.wanted), pods)
}

fn with_trouble(message: &str, pods: &Pods) -> String {
    pods.trouble.as_ref().map_or_else(|| message.to_owned(), |trouble| format!("{message}: {trouble}"))
}

fn unreachable(silence: &Silence) -> String {
    format!("collector pods are available, but none answers the operator: {}", silence.message)
}

fn database_unreachable(message: &str) -> String {
    format!("the collector cannot use the database: {message}")
}

fn database_in_use(claim: &str) -> String {
    format!("the database holds the trail {claim} (cluster/namespace/name): give this AuditTrail a database of its own")
}

mod log;
#[cfg(test)]
mod tests;
