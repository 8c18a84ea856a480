//! What a forwarding says of its delivery: the operator polls a collector of ours, and tells each turn once.
//!
//! There is one operator and one address that it polls, so this is one story in several parts.

mod fixture;
mod reporting;

use audittrail_crds::AuditForwarding;
use audittrail_crds::report::{Forwarding, Replica, State};
use fixture::{Setup, condition, setup_with};
use jiff::Timestamp;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::ListParams;
use reporting::{Collector, events_tell, forwarding, pods_run};
use serde_json::{Value, json};
use std::net::TcpListener;

const NAME: &str = "to-source";

/// Between two writes of counters: ten seconds, and the API server's times are whole ones.
const COUNTERS_AT_LEAST_SECONDS: i64 = 9;

#[tokio::test]
async fn a_forwarding_says_how_it_is_doing() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let Some(setup) = setup_with("delivery", Some(address)).await else { return };
    pods_run(&setup).await;
    let collector = Collector::start(&setup, listener).await;
    the_source_accepts(&setup, &collector).await;
    what_changes_is_pending_until_a_collector_applied_it(&setup, &collector).await;
    every_fact_is_shown(&setup, &collector).await;
    what_breaks_is_told_in_the_words_of_the_source(&setup, &collector).await;
    counters_are_written_every_ten_seconds_at_most(&setup, &collector).await;
    parked_events_are_told_and_leave_it_ready(&setup, &collector).await;
    each_turn_is_told_once(&setup).await;
}

/// What the collectors say of the forwarding changes.
fn reports(collector: &Collector, change: impl FnOnce(&mut Forwarding)) {
    collector.says(|report| change(&mut report.forwardings[0]));
}

async fn the_source_accepts(setup: &Setup, collector: &Collector) {
    setup.secret("source", json!({"writeKey": "k"})).await;
    setup.forwarding(NAME, "acme", "source").await;
    let document = setup.document("acme", "has the entry", |document| !document.forwardings.is_empty()).await;
    collector.says(|report| report.forwardings = vec![forwarding(document.generation)]);
    collector.applies(document.generation);
    setup.forwarding_says(NAME, "SourcePending").await;
    reports(collector, |one| one.state = State::Accepting);
    let told = setup.forwarding_says(NAME, "SourceAccepts").await;
    assert_eq!(condition(&told, "SourceAccepting").status, "True");
}

/// A filter, a format, a delivery, another key: what was known of the source before is worth nothing.
async fn what_changes_is_pending_until_a_collector_applied_it(setup: &Setup, collector: &Collector) {
    for spec in [
        json!({"filter": {"exclude": [{"type": ["Permission Check"]}]}}),
        json!({"format": "SegmentAudit"}),
        json!({"delivery": {"maxEventsPerSecond": 100, "compression": "Gzip"}}),
    ] {
        let generation = collector.report().forwardings[0].generation;
        setup.patch::<AuditForwarding>(NAME, json!({"spec": spec})).await;
        is_applied_after(setup, collector, generation, &spec).await;
    }
    let generation = collector.report().forwardings[0].generation;
    setup.secret("source", json!({"writeKey": "another"})).await;
    // That a replica has read it is not enough: the source has to accept once more.
    let changed = is_pending_after(setup, generation, &json!("another key")).await;
    collector.applies(changed);
    let polls = collector.polls();
    collector.polled(polls + 2).await;
    is_pending_after(setup, generation, &json!("another key")).await;
    reports(collector, |one| one.generation = changed);
    setup.forwarding_says(NAME, "SourceAccepts").await;
}

async fn is_applied_after(setup: &Setup, collector: &Collector, generation: i64, what: &Value) {
    let changed = is_pending_after(setup, generation, what).await;
    collector.applies(changed);
    reports(collector, |one| one.generation = changed);
    setup.forwarding_says(NAME, "SourceAccepts").await;
}

/// Returns the entry's new generation.
async fn is_pending_after(setup: &Setup, generation: i64, what: &Value) -> i64 {
    let changed = setup
        .document("acme", &format!("has {what}"), |document| document.forwardings[0].generation > generation)
        .await;
    let told = setup.becomes(NAME, "is pending", |one: &AuditForwarding| is(one, "ConfigurationPending")).await;
    assert_eq!(condition(&told, "Ready").status, "False", "{what}");
    assert_eq!(condition(&told, "SourceAccepting").status, "Unknown", "{what}");
    changed.forwardings[0].generation
}

fn is(forwarding: &AuditForwarding, reason: &str) -> bool {
    condition(forwarding, "Ready").reason == reason
}

async fn every_fact_is_shown(setup: &Setup, collector: &Collector) {
    let at = Time(Timestamp::from_second(1_700_000_000).expect("a time"));
    reports(collector, |one| {
        (one.delivered, one.filtered, one.delivered_sequence) = (70, 20, Some(95));
        (one.lag_events, one.lag_seconds, one.last_success) = (5, 2, Some(at.clone()));
        one.configuration_hash = Some("0123456789abcdef".to_owned());
    });
    let counted = |one: &AuditForwarding| one.status.as_ref().is_some_and(|status| status.delivered == Some(70));
    let status = setup.becomes(NAME, "shows what was delivered", counted).await.status.expect("a status");
    assert_eq!((status.filtered, status.parked, status.delivered_sequence), (Some(20), Some(0), Some(95)));
    assert_eq!((status.lag_events, status.lag_seconds, status.last_success_time), (Some(5), Some(2), Some(at)));
    assert_eq!(status.configuration_hash.as_deref(), Some("0123456789abcdef"));
    assert_eq!((status.last_error, status.last_error_code, status.retrying_since), (None, None, None));
}

async fn what_breaks_is_told_in_the_words_of_the_source(setup: &Setup, collector: &Collector) {
    let at = Time(Timestamp::from_second(1_700_000_000).expect("a time"));
    for (state, reason, stalled) in [
        (State::EventRefused, "SourceRefusesEvents", "True"),
        (State::FilterInvalid, "FilterInvalid", "True"),
        (State::Retrying, "SourceUnavailable", "False"),
    ] {
        reports(collector, |one| {
            (one.state, one.last_error_code, one.retrying_since) = (state, Some(503), Some(at.clone()));
            one.last_error = Some("the source's words".to_owned());
        });
        let told = setup.forwarding_says(NAME, reason).await;
        assert_eq!(condition(&told, "Stalled").status, stalled, "{reason}");
        assert_eq!(condition(&told, "Ready").status, "False", "{reason}");
        assert!(condition(&told, "Ready").message.contains("the source's words"), "{reason}");
        let status = told.status.expect("a status");
        assert_eq!((status.last_error_code, status.retrying_since), (Some(503), Some(at.clone())), "{reason}");
    }
    let told = setup.forwarding_says(NAME, "SourceUnavailable").await;
    let message = condition(&told, "Ready").message;
    for words in ["since 2023-11-14T22:13:20Z", "5 events wait, the oldest for 2 s", "503: the source's words"] {
        assert!(message.contains(words), "{words:?} is not in {message}");
    }
}

async fn counters_are_written_every_ten_seconds_at_most(setup: &Setup, collector: &Collector) {
    let turned = written_at(&setup.forwarding_says(NAME, "SourceUnavailable").await);
    reports(collector, |one| (one.delivered, one.lag_seconds) = (71, 60));
    // A turn of something else wakes the forwarding, and its counters wait all the same.
    collector.says(|report| {
        let other = Replica { name: "other".to_owned(), ..report.replicas[0].clone() };
        report.replicas.push(other);
    });
    let counted = |one: &AuditForwarding| one.status.as_ref().is_some_and(|status| status.delivered == Some(71));
    let counted = setup.becomes(NAME, "shows what was delivered", counted).await;
    assert!(condition(&counted, "Ready").message.contains("the oldest for 60 s"));
    let waited = written_at(&counted).as_second() - turned.as_second();
    assert!(waited >= COUNTERS_AT_LEAST_SECONDS, "{waited} s");
}

/// When the operator wrote the status, by the API server's clock.
fn written_at(forwarding: &AuditForwarding) -> Timestamp {
    let entries = forwarding.metadata.managed_fields.iter().flatten();
    let mut status = entries.filter(|entry| entry.subresource.as_deref() == Some("status"));
    status.next().and_then(|entry| entry.time.as_ref()).expect("a status with its time").0
}

async fn parked_events_are_told_and_leave_it_ready(setup: &Setup, collector: &Collector) {
    reports(collector, |one| {
        (one.state, one.parked) = (State::Accepting, 2);
        (one.last_error, one.last_error_code, one.retrying_since) = (None, None, None);
    });
    let parked = |one: &AuditForwarding, count: &str| {
        let conditions = one.status.as_ref().map(|status| status.conditions.clone()).unwrap_or_default();
        conditions.iter().any(|one| one.type_ == "EventsParked" && one.message.contains(count))
    };
    let told = setup.becomes(NAME, "says what is parked", |one: &AuditForwarding| parked(one, "2 events")).await;
    assert_eq!(condition(&told, "Ready").status, "True");
    assert_eq!(told.status.as_ref().and_then(|status| status.parked), Some(2));
    events_tell(setup, "RefusedForGood").await;
    reports(collector, |one| one.parked = 3);
    setup.becomes(NAME, "counts one more", |one: &AuditForwarding| parked(one, "3 events")).await;
    reports(collector, |one| one.parked = 0);
    setup.becomes(NAME, "has nothing parked", |one: &AuditForwarding| !parked(one, "")).await;
}

/// Each of these came once, and stayed for several polls and writes of counters.
async fn each_turn_is_told_once(setup: &Setup) {
    let events = setup.api::<Event>().list(&ListParams::default()).await.expect("Events can be listed");
    for reason in ["SourcePending", "SourceRefusesEvents", "FilterInvalid", "SourceUnavailable", "RefusedForGood"] {
        let told: Vec<&Event> = events.iter().filter(|event| event.reason.as_deref() == Some(reason)).collect();
        assert_eq!(told.len(), 1, "{reason}: {told:?}");
        assert!(told[0].series.is_none(), "{reason}: {:?}", told[0].series);
    }
}
