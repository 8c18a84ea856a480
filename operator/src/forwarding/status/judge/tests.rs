//! What is said of a forwarding, fact by fact.

use super::*;
use crate::testing::{facts, forwarding, now, report, report_of};
use audittrail_crds::report::Replica;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
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
        (State::EventRefused, "False SourceRefusesEvent", "False SourceRefusesEvent", "Stalled"),
    ] {
        let facts = with_report(|report| {
            report.forwardings[0].state = state;
            report.forwardings[0].last_error = Some("its words".to_owned());
        });
        let status = judged(&Ok(placed("https://source.example")), Some(&facts));
        let told = told(&status);
        assert_eq!((&told[0], &told[4]), (&format!("Ready: {ready}"), &format!("SourceAccepting: {accepting}")));
        assert!(told.iter().any(|line| line.starts_with(&format!("{outlook}: True"))), "{told:?}");
        assert_eq!(message(&status).contains("its words"), state != State::Pending, "{}", message(&status));
        assert_eq!(status.last_error.as_deref(), Some("its words"));
    }
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
