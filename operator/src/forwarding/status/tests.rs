//! When a status is written.

use super::*;
use crate::conditions::{Status, Verdict, conditions};
use crate::testing::{forwarding, now};
use audittrail_crds::condition::{Reason, Type};
use audittrail_crds::forwarding::CreatedSource;
use serde_json::json;

fn status(reason: Reason) -> AuditForwardingStatus {
    let verdict = Verdict::new(Type::Ready, Status::True, reason, "words");
    AuditForwardingStatus {
        conditions: conditions(&[], vec![verdict], Some(2), now()),
        delivered: Some(1),
        ..AuditForwardingStatus::default()
    }
}

fn before() -> AuditForwardingStatus {
    status(Reason::SourceAccepts)
}

fn seconds(before: &AuditForwardingStatus, after: &AuditForwardingStatus, age: i64) -> Option<u64> {
    waits(before, after, Some(now() - SignedDuration::from_secs(age)), now()).map(|wait| wait.as_secs())
}

#[test]
fn counters_and_words_wait_until_ten_seconds_after_the_last_write() {
    let counted = AuditForwardingStatus { delivered: Some(2), ..before() };
    let mut reworded = before();
    reworded.conditions[0].message = "other words".to_owned();
    for after in [counted, reworded] {
        assert_eq!(seconds(&before(), &after, 0), Some(10));
        assert_eq!(seconds(&before(), &after, 9), Some(1));
        assert_eq!(seconds(&before(), &after, 10), None);
    }
}

#[test]
fn turns_do_not_wait() {
    for after in [
        status(Reason::Disabled),
        AuditForwardingStatus { configuration_hash: Some("0".to_owned()), ..before() },
        AuditForwardingStatus { created_source: Some(CreatedSource::default()), ..before() },
        AuditForwardingStatus { observed_generation: Some(3), ..before() },
    ] {
        assert_eq!(seconds(&before(), &after, 0), None, "{after:?}");
    }
}

#[test]
fn a_status_that_was_never_written_or_in_our_future_waits_for_nothing() {
    let after = AuditForwardingStatus { delivered: Some(2), ..before() };
    assert_eq!(waits(&before(), &after, None, now()), None);
    assert_eq!(seconds(&before(), &after, -1), None);
}

#[test]
fn the_time_of_the_last_write_is_that_of_our_own_status() {
    let mut forwarding = forwarding(&json!({"region": "US"}));
    assert_eq!(written_at(&forwarding), None);
    let entry = |manager: &str, subresource: Option<&str>, second: i64| {
        let time = Timestamp::from_second(second).expect("a time").to_string();
        json!({"manager": manager, "subresource": subresource, "time": time})
    };
    let fields =
        json!([entry("kubectl", Some("status"), 1), entry(OPERATOR, None, 2), entry(OPERATOR, Some("status"), 3),]);
    forwarding.metadata.managed_fields = serde_json::from_value(fields).expect("managed fields");
    assert_eq!(written_at(&forwarding).map(Timestamp::as_second), Some(3));
}
