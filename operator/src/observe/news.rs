//! Which of what a poll brings makes a difference to a trail's forwardings. Pure.

use super::Observation;
use crate::board::Facts;
use audittrail_crds::report::{Forwarding, State};

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

/// With whether anything is parked: the first event that is, is a turn.
fn states(facts: &Facts) -> Vec<(&str, i64, State, bool)> {
    forwardings(facts).iter().map(|one| (one.name.as_str(), one.generation, one.state, one.parked > 0)).collect()
}

fn forwardings(facts: &Facts) -> &[Forwarding] {
    match &facts.observation {
        Some(Observation::Ok(report)) => &report.forwardings,
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{facts, report};
    use audittrail_crds::report::Report;

    fn with_report(change: impl FnOnce(&mut Report)) -> Facts {
        let mut report = report();
        change(&mut report);
        Facts { observation: Some(Ok(report)), ..facts() }
    }

    #[test]
    fn the_time_alone_is_no_news() {
        let later = with_report(|report| report.replicas[0].seen.0 += jiff::SignedDuration::from_secs(5));
        assert_eq!(news(&facts(), &later), News::None);
    }

    #[test]
    fn counters_are_news_that_can_wait() {
        assert_eq!(news(&facts(), &with_report(|report| report.forwardings[0].delivered += 1)), News::Counters);
        let parked = |count| with_report(|report| report.forwardings[0].parked = count);
        assert_eq!(news(&parked(1), &parked(2)), News::Counters);
    }

    #[test]
    fn states_replicas_and_silence_are_turns() {
        let silent = Facts { observation: Some(Err(crate::observe::Silence { message: String::new() })), ..facts() };
        for after in [
            with_report(|report| report.forwardings[0].state = State::KeyRefused),
            with_report(|report| report.forwardings[0].generation += 1),
            with_report(|report| report.forwardings[0].parked = 1),
            with_report(|report| report.replicas[0].generation += 1),
            silent,
        ] {
            assert_eq!(news(&facts(), &after), News::Turn);
        }
        assert_eq!(news(&Facts::default(), &facts()), News::Turn);
    }
}
