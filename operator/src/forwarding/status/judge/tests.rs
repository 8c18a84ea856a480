//! What is said of a forwarding, fact by fact.

use super::*;
use crate::testing::{facts, forwarding, now, report, report_of};
use audittrail_crds::report::Replica;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde_json::json;

fn placed(endpoint: &str) -> Placement {
    Placement::Placed { generation: 100, endpoint: endpoint.to_owned() }
}

/// The facts of a trail that is ready, and whose collectors report this.
fn with_report(change: impl FnOnce(&mut Report)) -> Facts {
    let mut report = report();
    change(&mut report);
    let mut facts = Facts { observation: Some(Ok(report)), ..facts() };
    facts.ready = Some(ready("True", Reason::Verified));
    facts
}

fn ready(status: &str, reason: Reason) -> Condition {
    let verdict = Verdict::new(Type::Ready, Status::True, reason, "words of the trail");
    let condition = conditions(&[], vec![verdict], None, now()).remove(0);
    Condition { status: status.to_owned(), ..condition }
}

fn judged(placement: &Result<Placement, Invalid>, facts: Option<&Facts>) -> AuditForwardingStatus {
    judge(&forwarding(&json!({"region": "US"})), placement, facts, now())
}

fn told(status: &AuditForwardingStatus) -> Vec<String> {
    let line = |one: &Condition| format!("{}: {} {}", one.type_, one.status, one.reason);
    status.conditions.iter().map(line).collect()
}

fn message(status: &AuditForwardingStatus) -> &str {
    &find(&status.conditions, Type::Ready).expect("a condition").message
}

#[test]
fn the_source_accepts() {
    let status = judged(&Ok(placed("https://source.example")), Some(&with_report(|_| {})));
    assert_eq!(
        told(&status),
        [
            "Ready: True SourceAccepts",
            "Reconciling: False AsExpected",
            "Stalled: False AsExpected",
            "ReferencesResolved: True Resolved",
            "SourceAccepting: True SourceAccepts",
        ]
    );
    assert_eq!(message(&status), "The source accepts since 2026-11-23T10:00:00Z.");
    assert_eq!((status.delivered, status.lag_events, status.lag_seconds), (Some(4), Some(1), Some(2)));
    assert_eq!(status.observed_generation, Some(2));
}

#[test]
fn since_when_is_the_time_of_the_turn() {
    let facts = with_report(|_| {});
    let mut forwarding = forwarding(&json!({"region": "US"}));
    let first = judge(&forwarding, &Ok(placed("https://source.example")), Some(&facts), now());
    forwarding.status = Some(first.clone());
    let later = now() + jiff::SignedDuration::from_secs(60);
    assert_eq!(judge(&forwarding, &Ok(placed("https://source.example")), Some(&facts), later), first);
}

#[test]
fn segment_cannot_confirm_keys() {
    for endpoint in ["https://api.segment.io", "https://events.eu1.segmentapis.com"] {
        let status = judged(&Ok(placed(endpoint)), Some(&with_report(|_| {})));
        assert!(message(&status).contains("cannot confirm the key"), "{}", message(&status));
    }
}

#[test]
fn each_state_has_its_reason() {
    for (state, ready, accepting, outlook) in [
        (State::Pending, "False SourcePending", "Unknown SourcePending", "Reconciling"),
        (State::Retrying, "False SourceUnavailable", "False SourceUnavailable", "Reconciling"),
        (State::KeyRefused, "False SourceRefusesKey", "False SourceRefusesKey", "Stalled"),
        (State::EndpointRefused, "False SourceRefusesRequest", "False SourceRefusesRequest", "Stalled"),
        (State::EventRefused, "False SourceRefusesEvents", "False SourceRefusesEvents", "Stalled"),
        (State::Loop, "False ForwardingLoop", "False ForwardingLoop", "Stalled"),
        (State::FilterInvalid, "False FilterInvalid", "Unknown FilterInvalid", "Stalled"),
    ] {
        let status = in_state(state);
        let told = told(&status);
        assert_eq!((&told[0], &told[4]), (&format!("Ready: {ready}"), &format!("SourceAccepting: {accepting}")));
        assert!(told.iter().any(|line| line.starts_with(&format!("{outlook}: True"))), "{told:?}");
        assert_eq!(message(&status).contains("its words"), state != State::Pending, "{}", message(&status));
        assert_eq!(status.last_error.as_deref(), Some("its words"));
    }
}

/// The source said 503, three events wait, and two are parked.
fn in_state(state: State) -> AuditForwardingStatus {
    let facts = with_report(|report| {
        let one = &mut report.forwardings[0];
        (one.state, one.last_error, one.last_error_code) = (state, Some("its words".to_owned()), Some(503));
        one.retrying_since = Some(Time(now()));
        (one.lag_events, one.lag_seconds, one.parked) = (3, 40, 2);
    });
    judged(&Ok(placed("https://source.example")), Some(&facts))
}

#[test]
fn a_source_that_is_not_available_is_told_with_since_when_and_what_waits() {
    assert_eq!(
        message(&in_state(State::Retrying)),
        "the source is not available since 2026-11-23T10:00:00Z, and is tried again for as long as it takes; \
         3 events wait, the oldest for 40 s. Last error: 503: its words"
    );
}

#[test]
fn a_code_that_stands_in_the_words_is_not_said_twice() {
    let facts = with_report(|report| {
        let one = &mut report.forwardings[0];
        (one.state, one.last_error_code) = (State::Retrying, Some(503));
        one.last_error = Some("the source answered 503 Service Unavailable".to_owned());
    });
    let status = judged(&Ok(placed("x")), Some(&facts));
    assert!(message(&status).ends_with("Last error: the source answered 503 Service Unavailable"), "{status:?}");
}

#[test]
fn events_that_are_refused_in_a_row_are_told_with_what_to_do() {
    let status = in_state(State::EventRefused);
    for words in [
        "three events in a row",
        "no more can be parked (2 parked)",
        "none is skipped",
        "source.httpApi and format",
        "filter.exclude",
        "POST /v1/forwardings/to-source/replay",
        "3 events wait",
        "503: its words",
    ] {
        assert!(message(&status).contains(words), "{words:?} is not in {}", message(&status));
    }
}

#[test]
fn a_refused_key_is_told_with_the_secret_that_holds_it() {
    let status = in_state(State::KeyRefused);
    assert!(message(&status).contains("put the right one into the Secret source, key writeKey"), "{status:?}");
    let create = json!({"region": "US", "writeKeySecretRef": null, "create": {"tokenSecretRef": {"name": "token"}}});
    let facts = with_report(|report| report.forwardings[0].state = State::KeyRefused);
    let status = judge(&forwarding(&create), &Ok(placed("x")), Some(&facts), now());
    assert!(message(&status).contains("its key is in the Secret to-source-source"), "{status:?}");
}

#[test]
fn parked_events_leave_it_ready_and_are_told_while_there_are_any() {
    let parked = |count| with_report(|report| report.forwardings[0].parked = count);
    let judged = |count| judged(&Ok(placed("https://source.example")), Some(&parked(count)));
    let status = judged(2);
    let lines = told(&status);
    assert_eq!(
        (lines[0].as_str(), lines[5].as_str()),
        ("Ready: True SourceAccepts", "EventsParked: True RefusedForGood")
    );
    assert!(message(&status).ends_with("It refused 2 events for good: see the condition EventsParked."));
    let condition = find(&status.conditions, Type::EventsParked).expect("a condition");
    for words in ["2 events", "GET /v1/forwardings/to-source/parked", "POST /v1/forwardings/to-source/replay"] {
        assert!(condition.message.contains(words), "{words:?} is not in {}", condition.message);
    }
    assert_eq!(told(&judged(0)).len(), 5);
    assert!(find(&judged(1).conditions, Type::EventsParked).expect("a condition").message.contains("1 event for good"));
}

#[test]
fn parked_events_are_told_while_nothing_is_reported() {
    let mut forwarding = forwarding(&json!({"region": "US"}));
    let parked = with_report(|report| report.forwardings[0].parked = 2);
    forwarding.status = Some(judge(&forwarding, &Ok(placed("x")), Some(&parked), now()));
    let silent = Facts { observation: None, ..parked };
    let missing = Err(Invalid::TrailMissing { name: "acme".to_owned() });
    for (placement, facts) in [(Ok(placed("x")), Some(&silent)), (missing, None)] {
        let status = judge(&forwarding, &placement, facts, now());
        assert_eq!(told(&status)[5], "EventsParked: True RefusedForGood");
    }
}

#[test]
fn every_fact_of_the_report_is_shown() {
    let facts = with_report(|report| {
        let one = &mut report.forwardings[0];
        (one.filtered, one.parked, one.last_success) = (5, 6, Some(Time(now())));
        (one.retrying_since, one.last_error_code) = (Some(Time(now())), Some(429));
        one.configuration_hash = Some("0123456789abcdef".to_owned());
    });
    let status = judged(&Ok(placed("x")), Some(&facts));
    assert_eq!((status.delivered_sequence, status.filtered, status.parked), (Some(3), Some(5), Some(6)));
    assert_eq!((status.last_success_time, status.retrying_since), (Some(Time(now())), Some(Time(now()))));
    assert_eq!((status.last_error_code, status.configuration_hash.as_deref()), (Some(429), Some("0123456789abcdef")));
}

#[test]
fn off_is_ready_once_every_replica_has_stopped() {
    let with = |generation: i64| {
        with_report(|report| {
            report.forwardings = vec![report_of(State::Disabled)];
            report.replicas.push(Replica { generation, ..report.replicas[0].clone() });
        })
    };
    assert_eq!(told(&judged(&Ok(placed("x")), Some(&with(99))))[0], "Ready: False ConfigurationPending");
    assert_eq!(told(&judged(&Ok(placed("x")), Some(&with(100))))[0], "Ready: True Disabled");
}

#[test]
fn facts_of_an_older_configuration_do_not_count() {
    let facts = with_report(|report| report.forwardings[0].generation = 99);
    assert_eq!(told(&judged(&Ok(placed("x")), Some(&facts)))[0], "Ready: False ConfigurationPending");
    let facts = with_report(|report| report.forwardings.clear());
    assert_eq!(told(&judged(&Ok(placed("x")), Some(&facts)))[0], "Ready: False ConfigurationPending");
    assert_eq!(
        told(&judged(&Ok(Placement::Pending), Some(&with_report(|_| {}))))[0],
        "Ready: False ConfigurationPending"
    );
}

#[test]
fn a_trail_that_is_not_ready_passes_its_reason_on() {
    let mut facts = with_report(|_| {});
    facts.ready = Some(ready("False", Reason::DatabaseUnreachable));
    let status = judged(&Ok(placed("x")), Some(&facts));
    assert_eq!(told(&status)[0], "Ready: False TrailNotReady");
    assert_eq!(message(&status), "AuditTrail acme is not ready: DatabaseUnreachable: words of the trail");
    assert_eq!(told(&judged(&Ok(placed("x")), None))[0], "Ready: False TrailNotReady");
}

#[test]
fn another_forwardings_change_does_not_turn_this_one() {
    let mut facts = with_report(|_| {});
    facts.ready = Some(ready("False", Reason::ConfigurationPending));
    assert_eq!(told(&judged(&Ok(placed("x")), Some(&facts)))[0], "Ready: True SourceAccepts");
}

#[test]
fn what_is_missing_comes_first() {
    let missing = Err(Invalid::TrailMissing { name: "acme".to_owned() });
    assert_eq!(
        told(&judged(&missing, None)),
        [
            "Ready: False TrailMissing",
            "Reconciling: False AsExpected",
            "Stalled: True TrailMissing",
            "ReferencesResolved: False TrailMissing",
            "SourceAccepting: Unknown TrailMissing",
        ]
    );
}
