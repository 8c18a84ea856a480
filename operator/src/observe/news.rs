//! Which of what a poll brings makes a difference to a trail's forwardings. Pure.

use super::Observation;
use crate::board::Facts;
use audittrail_crds::report::Forwarding;

/// How urgent a difference is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum News {
    /// There is none.
    None,
    /// Counters moved.
    Counters,
    /// Something turned.
    Turn,
}

/// What is new in `after`.
pub fn news(before: &Facts, after: &Facts) -> News {
    let verdict = |facts: &Facts| facts.ready.as_ref().map(|ready| (ready.status.clone(), ready.reason.clone()));
    let turned = verdict(before) != verdict(after)
        || replicas(before) != replicas(after)
        || states(before) != states(after)
        || before.suffice() != after.suffice();
    if turned {
        News::Turn
    } else if forwardings(before) == forwardings(after) {
        News::None
    } else {
        News::Counters
    }
}

fn replicas(facts: &Facts) -> Vec<(&str, i64)> {
    let Some(Ok(report)) = &facts.observation else { return Vec::new() };
    report.replicas.iter().map(|replica| (replica.name.as_str(), replica.generation)).collect()
}

fn states(facts: &Facts) -> Vec<(&str, i64, audittrail_crds::report::State)> {
    forwardings(facts).iter().map(|one| (one.name.as_str(), one.generation, one.state)).collect()
}

fn forwardings(facts: &Facts) -> &[Forwarding] {
    match &facts.observation {
        Some(Observation::Ok(report)) => &report.forwardings,
        _ => &[],
    }
}
