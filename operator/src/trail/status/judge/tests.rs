//! What is said of a trail, fact by fact.

use super::*;
use crate::board::Problem;
use crate::conditions::find;
use crate::testing::{facts, names, now, pods, report};
use audittrail_crds::report::Replica;
use std::sync::Arc;

fn judged(facts: &Facts) -> AuditTrailStatus {
    judge(&names(), &AuditTrailStatus::default(), facts, now())
}

/// `type: status reason` of all conditions, in order.
fn told(facts: &Facts) -> Vec<String> {
    let line = |one: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition| {
        format!("{}: {} {}", one.type_, one.status, one.reason)
    };
    judged(facts).conditions.iter().map(line).collect()
}

fn with_report(change: impl FnOnce(&mut Report)) -> Facts {
    let mut report = report();
    change(&mut report);
    Facts { observation: Some(Ok(report)), ..facts() }
}

fn with_running(postgres: Option<Pods>, collector: Pods, observation: Result<Report, &str>) -> Facts {
    let applied = facts().applied.expect("applied");
    let applied = Applied { running: Running { postgres, collector }, ..(*applied).clone() };
    let observation = observation.map_err(|message| Silence { message: message.to_owned() });
    Facts { applied: Some(Arc::new(applied)), observation: Some(observation), ..facts() }
}

#[test]
fn all_is_well() {
    let status = judged(&facts());
    assert_eq!(
        told(&facts()),
        [
            "Ready: True Verified",
            "Reconciling: False AsExpected",
            "Stalled: False AsExpected",
            "StorageReady: True AsExpected",
            "CollectorReady: True AsExpected",
            "Durable: True AsExpected",
            "Continuous: True AsExpected",
        ]
    );
    assert_eq!(status.observed_generation, Some(3));
    assert!(status.conditions.iter().all(|condition| condition.observed_generation == Some(3)));
    assert_eq!((status.events, status.last_sequence), (Some(5), Some(4)));
    assert_eq!((status.trail_id.as_deref(), status.configuration_generation), (Some("log"), Some(100)));
}

#[test]
fn an_empty_trail_has_no_last_sequence() {
    let facts = with_report(|report| report.log.as_mut().expect("a log").next_sequence = 0);
    let status = judged(&facts);
    assert_eq!((status.events, status.last_sequence), (Some(0), None));
}

#[test]
fn a_problem_that_needs_help_stalls() {
    let problem = Problem { reason: Reason::SecretMissing, message: "Secret x".to_owned(), needs_help: true };
    let facts = Facts { problem: Some(problem), applied: None, observation: None, ..facts() };
    assert_eq!(
        told(&facts),
        [
            "Ready: False SecretMissing",
            "Reconciling: False AsExpected",
            "Stalled: True SecretMissing",
            "StorageReady: Unknown SecretMissing",
            "CollectorReady: Unknown SecretMissing",
            "Durable: Unknown SecretMissing",
            "Continuous: Unknown SecretMissing",
        ]
    );
}

#[test]
fn a_problem_that_passes_reconciles_while_the_rest_is_still_told() {
    let problem = Problem { reason: Reason::ApplyFailed, message: "timeout".to_owned(), needs_help: false };
    let told = told(&Facts { problem: Some(problem), ..facts() });
    assert_eq!(
        told[..4],
        [
            "Ready: False ApplyFailed",
            "Reconciling: True ApplyFailed",
            "Stalled: False AsExpected",
            "StorageReady: True AsExpected"
        ]
    );
}

#[test]
fn the_first_thing_in_the_way_is_the_reason() {
    let unreachable = || Database::Unreachable { message: "refused".to_owned() };
    let in_use = || Database::InUse { claim: "c/n/t".to_owned() };
    let with_database = |database| Ok(Report { database, ..report() });
    let cases = [
        (Some(pods(0, 1)), pods(0, 2), Err("no"), "StorageNotReady"),
        (Some(pods(0, 1)), pods(2, 2), Err("no"), "StorageNotReady"),
        (Some(pods(1, 1)), pods(0, 2), Err("no"), "CollectorNotReady"),
        (None, pods(0, 2), Err("no"), "CollectorNotReady"),
        (Some(pods(1, 1)), pods(1, 2), Err("no"), "CollectorUnreachable"),
        (Some(pods(0, 1)), pods(2, 2), with_database(unreachable()), "StorageNotReady"),
        (Some(pods(1, 1)), pods(2, 2), with_database(unreachable()), "DatabaseUnreachable"),
        (None, pods(2, 2), with_database(unreachable()), "DatabaseUnreachable"),
        (None, pods(2, 2), with_database(in_use()), "DatabaseInUse"),
        // What answers is right, whatever the pods' status says.
        (Some(pods(0, 1)), pods(0, 2), Ok(report()), "Verified"),
    ];
    for (postgres, collector, observation, reason) in cases {
        let case = format!("{postgres:?} {collector:?} {observation:?}");
        let ready = find(&judged(&with_running(postgres, collector, observation)).conditions, Type::Ready).cloned();
        assert_eq!(ready.expect("a condition").reason, reason, "{case}");
    }
}

#[test]
fn a_database_of_another_trail_stalls() {
    let facts = with_report(|report| report.database = Database::InUse { claim: "c/n/t".to_owned() });
    let told = told(&facts);
    assert_eq!(told[2..4], ["Stalled: True DatabaseInUse", "StorageReady: False DatabaseInUse"]);
}

#[test]
fn every_replica_must_have_applied_the_document() {
    let behind = |name: &str| Replica { name: name.to_owned(), generation: 99, ..report().replicas[0].clone() };
    let status = judged(&with_report(|report| report.replicas.push(behind("b"))));
    let ready = find(&status.conditions, Type::Ready).expect("a condition");
    assert_eq!(ready.reason, "ConfigurationPending");
    assert!(ready.message.ends_with(": b"), "{}", ready.message);
    assert_eq!(status.configuration_generation, Some(99));
}

#[test]
fn a_replica_that_is_missing_is_told_while_the_trail_is_ready() {
    let facts = with_running(Some(pods(1, 1)), pods(1, 2), Ok(report()));
    let told = told(&facts);
    assert_eq!(
        (told[0].as_str(), told[4].as_str()),
        ("Ready: True Verified", "CollectorReady: False CollectorNotReady")
    );
}

#[test]
fn what_kubernetes_says_of_the_pods_is_passed_on() {
    let stuck = Pods { trouble: Some("exceeded quota".to_owned()), ..pods(0, 1) };
    let status = judged(&with_running(None, stuck, Err("no")));
    let ready = find(&status.conditions, Type::Ready).expect("a condition");
    assert_eq!(ready.message, "0 of 1 collector pods are available: exceeded quota");
}

#[test]
fn a_setting_that_may_lose_events_is_named() {
    let facts = with_report(|report| {
        let Database::Verified { durability, .. } = &mut report.database else { panic!("verified") };
        *durability = Durability { fsync: false, synchronous_commit: "off".to_owned(), ..durability.clone() };
    });
    let status = judged(&facts);
    let durable = find(&status.conditions, Type::Durable).expect("a condition");
    assert_eq!((durable.status.as_str(), durable.reason.as_str()), ("False", "NotDurable"));
    assert!(durable.message.ends_with("set fsync=on, synchronous_commit=on"), "{}", durable.message);
    assert_eq!(find(&status.conditions, Type::Ready).expect("a condition").status, "True");
}

#[test]
fn without_an_answer_the_last_known_counters_stand() {
    let before = judged(&facts());
    let silent = with_running(Some(pods(1, 1)), pods(2, 2), Err("no"));
    let after = judge(&names(), &before, &silent, now());
    assert_eq!((after.events, after.last_sequence, after.trail_id), (Some(5), Some(4), Some("log".to_owned())));
}

#[test]
fn the_same_facts_make_the_same_status() {
    let before = judged(&facts());
    let later = now() + jiff::SignedDuration::from_secs(60);
    assert_eq!(judge(&names(), &before, &facts(), later), before);
}
