//! What is said of the log itself: does it go on where it was, and what does it keep? Neither makes a trail unready, and
//! both stand while no collector answers: history does not depend on that.

use crate::board::Facts;
use crate::conditions::{Status, Verdict};
use crate::trail::continuity::{self, Position};
use audittrail_crds::AuditTrailStatus;
use audittrail_crds::condition::{Reason, Type};
use audittrail_crds::report::{Log, Raised};

/// What follows for those who depend on the log, and why it does not go away.
const CONSEQUENCES: &str = "cursors of readers start again, forwardings go on from there. This stays shown: a trail does \
    not forget what it lost";

/// Whether the log goes on where it was; `None` where no log was ever seen.
pub fn continuous(previous: &AuditTrailStatus, facts: &Facts) -> Option<Verdict> {
    let before = Verdict::again(&previous.conditions, Type::Continuous);
    let Some(log) = facts.log() else { return before };
    let broken = |reason, message: String| Some(Verdict::new(Type::Continuous, Status::False, reason, message));
    if let Some(earlier) = previous.trail_id.as_ref().filter(|earlier| **earlier != log.id) {
        return broken(Reason::DatabaseReplaced, replaced(earlier, previous, log));
    }
    if let Some(before) = before.filter(|before| before.reason == Reason::DatabaseReplaced) {
        return Some(before);
    }
    if let Some(remembered) = Position::remembered(previous).filter(|_| !continuity::goes_on(previous, log)) {
        return broken(Reason::DatabaseRewound, rewound(remembered, log));
    }
    if let Some(raised) = &log.raised {
        return broken(Reason::DatabaseRewound, raised_for(log.epoch, raised));
    }
    let message = format!("epoch {}: no loss is known", log.epoch);
    Some(Verdict::new(Type::Continuous, Status::True, Reason::AsExpected, message))
}

fn replaced(earlier: &str, previous: &AuditTrailStatus, log: &Log) -> String {
    format!(
        "the database holds the log {}, and held the log {earlier} with {} events before: those are not in this database. \
         If it was exchanged by mistake, point storage back to the earlier one. Meanwhile {CONSEQUENCES}",
        log.id,
        previous.events.unwrap_or_default(),
    )
}

fn rewound(remembered: Position, log: &Log) -> String {
    format!(
        "the database was restored or rewound: it held {remembered}, and holds {}. The collectors are being told to begin a \
         new epoch: {CONSEQUENCES}",
        Position::of(log)
    )
}

fn raised_for(epoch: i64, raised: &Raised) -> String {
    format!(
        "epoch {epoch} began at {} with sequence {}: {}. Events that were acknowledged before, and are not in what was \
         restored, are not in this trail; {CONSEQUENCES}",
        raised.at.0,
        raised.first_sequence,
        raised.reason.trim_end_matches('.'),
    )
}

/// Who keeps events longer than the retention asks; `None` where nobody does.
pub fn retention_held(previous: &AuditTrailStatus, facts: &Facts) -> Option<Verdict> {
    let Some(log) = facts.log() else { return Verdict::again(&previous.conditions, Type::RetentionHeld) };
    let held = log.retention_held.as_ref()?;
    let message = format!(
        "events past the retention are kept until {} for AuditForwardings which have yet to deliver them, and go then all the \
         same: {}. See why these are behind, or switch them Off",
        held.until.0,
        held.forwardings.join(", "),
    );
    Some(Verdict::new(Type::RetentionHeld, Status::True, Reason::ForwardingsBehind, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conditions::find;
    use crate::observe::Silence;
    use crate::testing::{facts, names, now, report};
    use crate::trail::status::judge;
    use audittrail_crds::report::{Report, RetentionHeld};
    use jiff::SignedDuration;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

    fn log(id: &str, epoch: i64, next_sequence: i64) -> Log {
        Log { id: id.to_owned(), epoch, next_sequence, ..Log::default() }
    }

    fn reported(log: Log) -> Facts {
        let mut report = report();
        report.log = Some(log);
        Facts { observation: Some(Ok(report)), ..facts() }
    }

    fn silent() -> Facts {
        Facts { observation: Some(Err(Silence { message: "refused".to_owned() })), ..facts() }
    }

    fn after(previous: &AuditTrailStatus, facts: &Facts) -> AuditTrailStatus {
        judge(&names(), previous, facts, now())
    }

    /// A trail whose log `a` was last seen with 100 events in epoch 0.
    fn seen() -> AuditTrailStatus {
        after(&AuditTrailStatus::default(), &reported(log("a", 0, 100)))
    }

    fn of(status: &AuditTrailStatus, type_: Type) -> Condition {
        find(&status.conditions, type_).expect("a condition").clone()
    }

    /// Status, reason and message of `Continuous`; it never makes the trail unready.
    fn told(status: &AuditTrailStatus) -> (String, String, String) {
        assert_eq!(of(status, Type::Ready).status, "True");
        let Condition { status, reason, message, .. } = of(status, Type::Continuous);
        (status, reason, message)
    }

    fn raised(log: Log) -> Log {
        let reason = "the operator had seen 100 events".to_owned();
        Log { raised: Some(Raised { at: Time(now()), first_sequence: 90, reason }), ..log }
    }

    #[test]
    fn without_a_loss_the_epoch_is_told() {
        let words = ("True".to_owned(), "AsExpected".to_owned(), "epoch 0: no loss is known".to_owned());
        assert_eq!(told(&seen()), words);
    }

    #[test]
    fn a_raised_epoch_says_when_where_how_and_what_follows() {
        let status = after(&seen(), &reported(raised(log("a", 1, 95))));
        let (status, reason, message) = told(&status);
        assert_eq!((status.as_str(), reason.as_str()), ("False", "DatabaseRewound"));
        let beginning = "epoch 1 began at 2026-11-23T10:00:00Z with sequence 90: the operator had seen 100 events. ";
        assert!(message.starts_with(beginning), "{message}");
        assert!(message.contains("cursors of readers start again") && message.contains("stays shown"), "{message}");
    }

    #[test]
    fn a_rewound_log_is_told_before_the_epoch_is_raised_and_ever_after() {
        let rewound = after(&seen(), &reported(log("a", 0, 90)));
        let (status, reason, message) = told(&rewound);
        assert_eq!((status.as_str(), reason.as_str()), ("False", "DatabaseRewound"));
        assert!(message.contains("it held 100 events in epoch 0, and holds 90 events in epoch 0"), "{message}");
        let raised = after(&rewound, &reported(raised(log("a", 1, 90))));
        let later = after(&raised, &reported(self::raised(log("a", 1, 900))));
        for status in [&raised, &later] {
            assert_eq!(told(status).1, "DatabaseRewound");
        }
        assert_eq!(told(&raised), told(&later));
    }

    #[test]
    fn another_log_under_the_same_claim_is_told_and_stays_told() {
        for next in [0, 200] {
            let first = after(&seen(), &reported(log("b", 0, next)));
            let (status, reason, message) = told(&first);
            assert_eq!((status.as_str(), reason.as_str()), ("False", "DatabaseReplaced"));
            assert!(message.contains("holds the log b, and held the log a with 100 events before"), "{message}");
            let raised = after(&first, &reported(raised(log("b", 1, next))));
            let later = after(&raised, &reported(self::raised(log("b", 1, 500))));
            assert_eq!((told(&raised), told(&later)), (told(&first), told(&first)), "{next}");
            assert_eq!((later.trail_id.as_deref(), later.events), (Some("b"), Some(500)));
        }
    }

    #[test]
    fn a_trail_that_saw_no_log_yet_takes_any() {
        assert_eq!(told(&after(&AuditTrailStatus::default(), &reported(log("b", 3, 7)))).0, "True");
    }

    #[test]
    fn silence_changes_nothing_in_it() {
        let rewound = after(&seen(), &reported(raised(log("a", 1, 90))));
        for before in [seen(), rewound] {
            let after = after(&before, &silent());
            assert_eq!(of(&after, Type::Continuous), of(&before, Type::Continuous));
        }
        let never = after(&AuditTrailStatus::default(), &silent());
        assert_eq!(of(&never, Type::Continuous).status, "Unknown");
    }

    #[test]
    fn the_last_count_before_a_silence_is_not_lost() {
        let mut facts = reported(log("a", 0, 100));
        facts.observed(Ok(Report { log: Some(log("a", 0, 107)), ..report() }));
        facts.observed(Err(Silence { message: "refused".to_owned() }));
        assert_eq!(after(&seen(), &facts).events, Some(107));
    }

    #[test]
    fn retention_held_is_there_only_while_it_is_true() {
        let held = RetentionHeld {
            forwardings: vec!["to-segment".to_owned(), "to-siem".to_owned()],
            until: Time(now() + SignedDuration::from_hours(24)),
        };
        let holding = after(&seen(), &reported(Log { retention_held: Some(held), ..log("a", 0, 100) }));
        let condition = of(&holding, Type::RetentionHeld);
        assert_eq!((condition.status.as_str(), condition.reason.as_str()), ("True", "ForwardingsBehind"));
        assert!(condition.message.contains("until 2026-11-24T10:00:00Z"), "{}", condition.message);
        assert!(condition.message.contains(": to-segment, to-siem."), "{}", condition.message);
        assert_eq!(of(&holding, Type::Ready).status, "True");
        assert_eq!(of(&after(&holding, &silent()), Type::RetentionHeld), condition);
        let released = after(&holding, &reported(log("a", 0, 100)));
        assert_eq!(find(&released.conditions, Type::RetentionHeld), None);
    }

    #[test]
    fn what_is_kept_and_what_went_undelivered_is_counted() {
        let counted = |first_sequence, undelivered_dropped| {
            let status = after(&seen(), &reported(Log { first_sequence, undelivered_dropped, ..log("a", 0, 100) }));
            (status.oldest_sequence, status.undelivered_dropped)
        };
        assert_eq!(counted(40, 3), (Some(40), Some(3)));
        assert_eq!(counted(100, 0), (None, None));
    }
}
