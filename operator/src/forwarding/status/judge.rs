//! What is known of a forwarding, as conditions and counters. Pure.

use super::words;
use crate::board::Facts;
use crate::conditions::{Outlook, Status, Verdict, conditions, find, summary};
use crate::forwarding::apply::Placement;
use crate::forwarding::validate::Invalid;
use audittrail_crds::condition::{Reason, Type};
use audittrail_crds::report::{self, Report, State};
use audittrail_crds::{AuditForwarding, AuditForwardingStatus};
use jiff::Timestamp;
use kube::ResourceExt;

/// The status that follows the present one. Times are whole seconds.
pub fn judge(
    forwarding: &AuditForwarding,
    placement: &Result<Placement, Invalid>,
    facts: Option<&Facts>,
    now: Timestamp,
) -> AuditForwardingStatus {
    let previous = forwarding.status.clone().unwrap_or_default();
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let (source, resolved) = match placement {
        Ok(placement) => {
            let verdict = Verdict::new(
                Type::ReferencesResolved,
                Status::True,
                Reason::Resolved,
                "everything that it names is there",
            );
            (source(forwarding, placement, facts, &since(&previous, now)), verdict)
        }
        Err(invalid) => {
            let (reason, message) = (invalid.reason(), invalid.to_string());
            let source = Source { reason, message: message.clone(), accepting: Status::Unknown };
            (source, Verdict::new(Type::ReferencesResolved, Status::False, reason, message))
        }
    };
    let generation = forwarding.metadata.generation;
    let mut status = AuditForwardingStatus { observed_generation: generation, ..previous };
    // Without a report, the last known counters stand.
    if let Some(entry) = report(facts).and_then(|report| entry(report, &forwarding.name_any())) {
        count(&mut status, entry);
    }
    let mut verdicts = source.verdicts(resolved);
    verdicts.extend(parked(&forwarding.name_any(), status.parked));
    status.conditions = conditions(&status.conditions, verdicts, generation, now);
    status
}

/// A forwarding with parked events that delivers the rest is ready, and says so. Off or not: somebody has to look.
fn parked(name: &str, count: Option<i64>) -> Option<Verdict> {
    let count = count.filter(|count| *count > 0)?;
    Some(Verdict::new(Type::EventsParked, Status::True, Reason::RefusedForGood, words::parked(name, count)))
}

/// How it stands with the source, or what is in the way of knowing.
struct Source {
    reason: Reason,
    message: String,
    accepting: Status,
}

impl Source {
    fn verdicts(self, resolved: Verdict) -> Vec<Verdict> {
        let good = matches!(self.reason, Reason::SourceAccepts | Reason::Disabled);
        let status = if good { Status::True } else { Status::False };
        let ready = Verdict::new(Type::Ready, status, self.reason, self.message.clone());
        let mut verdicts = summary(ready, Outlook::of(self.reason));
        verdicts.push(resolved);
        verdicts.push(Verdict::new(Type::SourceAccepting, self.accepting, self.reason, self.message));
        verdicts
    }
}

fn source(forwarding: &AuditForwarding, placement: &Placement, facts: Option<&Facts>, since: &str) -> Source {
    let unknown = |reason, message: String| Source { reason, message, accepting: Status::Unknown };
    if let Some(message) = trail_not_ready(forwarding, facts) {
        return unknown(Reason::TrailNotReady, message);
    }
    let pending =
        || unknown(Reason::ConfigurationPending, "the collectors have not applied this configuration yet".to_owned());
    let Placement::Placed { generation, endpoint } = placement else { return pending() };
    let Some(report) = report(facts) else { return pending() };
    match entry(report, &forwarding.name_any()) {
        Some(entry) if entry.generation >= *generation => delivery(forwarding, entry, report, endpoint, since),
        _ => pending(),
    }
}

/// A trail whose collectors have yet to apply the newest configuration is no obstacle: whether
/// this entry is applied is seen by its own generation.
fn trail_not_ready(forwarding: &AuditForwarding, facts: Option<&Facts>) -> Option<String> {
    let trail = &forwarding.spec.trail_ref.name;
    let Some(ready) = facts.and_then(|facts| facts.ready.as_ref()) else {
        return Some(format!("AuditTrail {trail} is not ready: nothing is known of it yet"));
    };
    let well = ready.status == "True" || ready.reason == Reason::ConfigurationPending.to_string();
    (!well).then(|| format!("AuditTrail {trail} is not ready: {}: {}", ready.reason, ready.message))
}

/// What the collectors say of this configuration.
fn delivery(
    forwarding: &AuditForwarding,
    entry: &report::Forwarding,
    report: &Report,
    endpoint: &str,
    since: &str,
) -> Source {
    let (reason, accepting, message) = match entry.state {
        State::Accepting => (Reason::SourceAccepts, Status::True, words::accepts(endpoint, since, entry)),
        State::Disabled => return disabled(entry, report),
        State::Pending => {
            (Reason::SourcePending, Status::Unknown, "the source was not tried yet in this configuration".to_owned())
        }
        State::Retrying => (Reason::SourceUnavailable, Status::False, words::unavailable(entry)),
        State::KeyRefused => (Reason::SourceRefusesKey, Status::False, words::refuses_key(forwarding, entry)),
        State::EndpointRefused => (Reason::SourceRefusesRequest, Status::False, words::refuses_request(entry)),
        State::EventRefused => (Reason::SourceRefusesEvents, Status::False, words::refuses_events(forwarding, entry)),
        State::Loop => (Reason::ForwardingLoop, Status::False, words::looped(entry)),
        // The source was not asked.
        State::FilterInvalid => (Reason::FilterInvalid, Status::Unknown, words::filter_invalid(entry)),
    };
    Source { reason, message, accepting }
}

/// Facts of a new configuration come from a replica that has applied it, and from then on no other one takes the lease or
/// moves the cursor. But only a replica that has read of the toggle has stopped.
fn disabled(entry: &report::Forwarding, report: &Report) -> Source {
    let stopped = report.replicas.iter().all(|replica| replica.generation >= entry.generation);
    let (reason, message) = if stopped {
        (Reason::Disabled, "forwarding is Off; its place in the trail is kept")
    } else {
        (Reason::ConfigurationPending, "forwarding was switched Off; not every collector has stopped yet")
    };
    Source { reason, message: message.to_owned(), accepting: Status::Unknown }
}

/// Since when `SourceAccepting` is true: the time of its transition, or now.
fn since(previous: &AuditForwardingStatus, now: Timestamp) -> String {
    let accepting = find(&previous.conditions, Type::SourceAccepting).filter(|accepting| accepting.status == "True");
    accepting.map_or(now, |accepting| accepting.last_transition_time.0).to_string()
}

fn report(facts: Option<&Facts>) -> Option<&Report> {
    facts?.observation.as_ref()?.as_ref().ok()
}

fn entry<'a>(report: &'a Report, name: &str) -> Option<&'a report::Forwarding> {
    report.forwardings.iter().find(|entry| entry.name == name)
}

fn count(status: &mut AuditForwardingStatus, entry: &report::Forwarding) {
    status.delivered_sequence = entry.delivered_sequence;
    status.delivered = Some(entry.delivered);
    status.filtered = Some(entry.filtered);
    status.parked = Some(entry.parked);
    status.lag_events = Some(entry.lag_events);
    status.lag_seconds = Some(entry.lag_seconds);
    status.last_success_time.clone_from(&entry.last_success);
    status.last_error.clone_from(&entry.last_error);
    status.last_error_code = entry.last_error_code;
    status.retrying_since.clone_from(&entry.retrying_since);
    status.configuration_hash.clone_from(&entry.configuration_hash);
}

#[cfg(test)]
mod tests;
