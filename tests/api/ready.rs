//! Ready and back: the operator polls a collector of ours, over TLS with the trail's certificate
//! and with a token that the API server confirms, and tells what it learns.
//!
//! There is one operator and one address that it polls, so this is one story in several parts.

mod fixture;
mod reporting;

use audittrail_crds::document::KnownLog;
use audittrail_crds::report::{Database, Log, Raised, Replica, RetentionHeld, State};
use audittrail_crds::{AuditForwarding, AuditTrail};
use fixture::{Setup, condition, setup_with};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use reporting::{Collector, events_tell, forwarding, pods_run};
use serde_json::json;
use std::net::TcpListener;

#[tokio::test]
async fn ready_means_verified_and_ends_when_something_breaks() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let Some(setup) = setup_with("ready", Some(address)).await else { return };
    pods_run(&setup).await;
    let collector = Collector::start(&setup, listener).await;
    the_trail_is_verified(&setup, &collector).await;
    the_forwarding_follows_its_source(&setup, &collector).await;
    off_is_ready_when_every_collector_has_stopped(&setup, &collector).await;
    a_broken_database_is_told(&setup, &collector).await;
    counters_move(&setup, &collector).await;
    what_retention_cannot_delete_is_told_while_it_lasts(&setup, &collector).await;
    a_document_that_is_deleted_comes_back_with_a_higher_generation(&setup, &collector).await;
    a_rewound_database_is_remembered_until_the_epoch_is_raised(&setup, &collector).await;
    another_log_under_the_same_claim_is_told(&setup, &collector).await;
    a_silent_collector_is_told(&setup, collector).await;
}

async fn the_trail_is_verified(setup: &Setup, collector: &Collector) {
    // The collector has applied nothing yet.
    setup.trail_says("acme", "ConfigurationPending").await;
    let document = setup.document("acme", "is there", |_| true).await;
    collector.says(|report| {
        report.generation = document.generation;
        report.replicas[0].generation = document.generation;
    });
    let trail = setup.trail_says("acme", "Verified").await;
    for type_ in ["Ready", "StorageReady", "CollectorReady", "Durable", "Continuous"] {
        assert_eq!(condition(&trail, type_).status, "True", "{type_}");
    }
    for type_ in ["Reconciling", "Stalled"] {
        assert_eq!(condition(&trail, type_).status, "False", "{type_}");
    }
    let status = trail.status.expect("a status");
    assert_eq!(status.url.as_deref(), Some("https://acme-collector.ready.svc"));
    assert_eq!(status.write_key_secret.as_deref(), Some("acme-write-key"));
    assert_eq!((status.events, status.last_sequence, status.epoch), (Some(0), None, Some(1)));
    assert_eq!(status.configuration_generation, Some(document.generation));
    events_tell(setup, "Verified").await;
}

async fn the_forwarding_follows_its_source(setup: &Setup, collector: &Collector) {
    setup.secret("source", json!({"writeKey": "k"})).await;
    setup.forwarding("to-source", "acme", "source").await;
    setup.forwarding_says("to-source", "ConfigurationPending").await;
    let document = setup.document("acme", "has the entry", |document| !document.forwardings.is_empty()).await;
    collector.says(|report| {
        report.generation = document.generation;
        report.replicas[0].generation = document.generation;
        report.forwardings = vec![forwarding(document.generation)];
    });
    setup.forwarding_says("to-source", "SourcePending").await;
    setup.trail_says("acme", "Verified").await;
    collector.says(|report| report.forwardings[0].state = State::Accepting);
    let told: AuditForwarding = setup.forwarding_says("to-source", "SourceAccepts").await;
    assert_eq!(condition(&told, "Ready").status, "True");
    assert!(condition(&told, "Ready").message.starts_with("The source accepts since 2"));
}

async fn off_is_ready_when_every_collector_has_stopped(setup: &Setup, collector: &Collector) {
    setup.patch::<AuditForwarding>("to-source", json!({"spec": {"enabled": false}})).await;
    let document = setup.document("acme", "has it off", |document| !document.forwardings[0].enabled).await;
    // The replica that answers has stopped, and another one has not.
    collector.says(|report| {
        report.forwardings[0].generation = document.generation;
        report.forwardings[0].state = State::Disabled;
        report.generation = document.generation;
        report.replicas[0].generation = document.generation;
        let behind =
            Replica { name: "behind".to_owned(), generation: document.generation - 1, ..report.replicas[0].clone() };
        report.replicas.push(behind);
    });
    setup
        .becomes::<AuditTrail>("acme", "waits for the one behind", |trail| {
            let ready = condition(trail, "Ready");
            ready.reason == "ConfigurationPending" && ready.message.ends_with(": behind")
        })
        .await;
    setup.forwarding_says("to-source", "ConfigurationPending").await;
    collector.says(|report| report.replicas[1].generation = document.generation);
    let told = setup.forwarding_says("to-source", "Disabled").await;
    assert_eq!(condition(&told, "Ready").status, "True");
    setup.trail_says("acme", "Verified").await;
}

async fn a_broken_database_is_told(setup: &Setup, collector: &Collector) {
    let verified = collector.report().database;
    collector.says(|report| report.database = Database::Unreachable { message: "connection refused".to_owned() });
    let trail = setup.trail_says("acme", "DatabaseUnreachable").await;
    assert!(condition(&trail, "StorageReady").message.contains("connection refused"));
    setup.forwarding_says("to-source", "TrailNotReady").await;
    collector.says(|report| report.database = Database::InUse { claim: "other/ns/name".to_owned() });
    let trail = setup.trail_says("acme", "DatabaseInUse").await;
    assert_eq!(condition(&trail, "Stalled").status, "True");
    collector.says(|report| report.database = verified);
    setup.trail_says("acme", "Verified").await;
    setup.forwarding_says("to-source", "Disabled").await;
}

async fn counters_move(setup: &Setup, collector: &Collector) {
    collector.says(|report| {
        report.log.as_mut().expect("a log").next_sequence = 7;
        report.forwardings[0].delivered = 5;
        report.forwardings[0].lag_events = 2;
    });
    setup
        .becomes::<AuditTrail>("acme", "counts seven events", |trail| {
            trail.status.as_ref().is_some_and(|status| (status.events, status.last_sequence) == (Some(7), Some(6)))
        })
        .await;
    setup
        .becomes::<AuditForwarding>("to-source", "counts what was delivered", |forwarding| {
            forwarding.status.as_ref().is_some_and(|status| (status.delivered, status.lag_events) == (Some(5), Some(2)))
        })
        .await;
}

async fn what_retention_cannot_delete_is_told_while_it_lasts(setup: &Setup, collector: &Collector) {
    collector.says_of_the_log(|log| {
        log.first_sequence = 2;
        log.undelivered_dropped = 1;
        log.retention_held = Some(RetentionHeld {
            forwardings: vec!["to-source".to_owned()],
            until: Time(Timestamp::now() + jiff::SignedDuration::from_hours(1)),
        });
    });
    let held = |trail: &AuditTrail| {
        trail
            .status
            .as_ref()
            .and_then(|status| status.conditions.iter().find(|one| one.type_ == "RetentionHeld").cloned())
    };
    let trail = setup.becomes::<AuditTrail>("acme", "holds events", |trail| held(trail).is_some()).await;
    assert_eq!(held(&trail).expect("a condition").reason, "ForwardingsBehind");
    let status = trail.status.as_ref().expect("a status");
    assert_eq!((status.oldest_sequence, status.undelivered_dropped), (Some(2), Some(1)));
    assert_eq!(condition(&trail, "Ready").status, "True");
    collector.says_of_the_log(|log| log.retention_held = None);
    setup.becomes::<AuditTrail>("acme", "holds none", |trail| held(trail).is_none()).await;
}

/// Its generation may be ahead of the clock, and collectors would refuse a lower one.
async fn a_document_that_is_deleted_comes_back_with_a_higher_generation(setup: &Setup, collector: &Collector) {
    let ahead = setup.document("acme", "is there", |_| true).await.generation + 1_000_000_000;
    collector.applies(ahead);
    let polls = collector.polls();
    collector.polled(polls + 2).await;
    setup.delete::<Secret>("acme-collector").await;
    setup.appears::<Secret>("acme-collector").await;
    let document = setup.document("acme", "is above what was reported", |document| document.generation > ahead).await;
    assert_eq!(document.forwardings[0].generation, document.generation);
    collector.applies(document.generation);
    collector.says(|report| report.forwardings[0].generation = document.generation);
    setup.forwarding_says("to-source", "Disabled").await;
    setup.trail_says("acme", "Verified").await;
}

/// Seven events in epoch 1 are remembered; the volume of an older copy, with four, comes back.
async fn a_rewound_database_is_remembered_until_the_epoch_is_raised(setup: &Setup, collector: &Collector) {
    assert_eq!(setup.document("acme", "is there", |_| true).await.known_log, None);
    collector.says_of_the_log(|log| log.next_sequence = 4);
    let told = setup.document("acme", "says what the log held", |document| document.known_log.is_some()).await;
    assert_eq!(told.known_log, Some(KnownLog { epoch: 1, next_sequence: 7 }));
    let trail = setup.trail_says("acme", "ConfigurationPending").await;
    assert_eq!(continuous(&trail), ("False".to_owned(), "DatabaseRewound".to_owned()));
    assert_eq!(trail.status.expect("a status").events, Some(7), "the memory stays");
    // Not yet acted upon: poll after poll nothing is written again.
    let polls = collector.polls();
    collector.polled(polls + 3).await;
    let document = setup.document("acme", "is there", |_| true).await;
    assert_eq!((document.generation, document.known_log), (told.generation, told.known_log));

    collector.says_of_the_log(|log| {
        (log.epoch, log.next_sequence) = (2, 5);
        let reason = "the operator had seen 7 events".to_owned();
        log.raised = Some(Raised { at: Time(Timestamp::now()), first_sequence: 4, reason });
    });
    let over = setup.document("acme", "says no more of it", |document| document.known_log.is_none()).await;
    assert!(over.generation > told.generation);
    collector.applies(over.generation);
    let trail = setup
        .becomes::<AuditTrail>("acme", "counts in the new epoch", |trail| {
            trail.status.as_ref().is_some_and(|status| (status.epoch, status.events) == (Some(2), Some(5)))
        })
        .await;
    assert_eq!(continuous(&trail), ("False".to_owned(), "DatabaseRewound".to_owned()));
    let message = condition(&trail, "Continuous").message;
    assert!(message.contains("with sequence 4: the operator had seen 7 events."), "{message}");
    assert_eq!(setup.trail_says("acme", "Verified").await.status.expect("a status").epoch, Some(2));
    events_tell(setup, "DatabaseRewound").await;
}

async fn another_log_under_the_same_claim_is_told(setup: &Setup, collector: &Collector) {
    collector.says_of_the_log(|log| *log = Log { id: "77aa".to_owned(), ..Log::default() });
    let told = setup.document("acme", "says what the log held", |document| document.known_log.is_some()).await;
    assert_eq!(told.known_log, Some(KnownLog { epoch: 2, next_sequence: 5 }));
    setup
        .becomes::<AuditTrail>("acme", "tells of the other log", |trail| continuous(trail).1 == "DatabaseReplaced")
        .await;
    collector.says_of_the_log(|log| {
        log.epoch = 3;
        let reason = "the operator had seen 5 events".to_owned();
        log.raised = Some(Raised { at: Time(Timestamp::now()), first_sequence: 0, reason });
    });
    let over = setup.document("acme", "says no more of it", |document| document.known_log.is_none()).await;
    collector.applies(over.generation);
    let trail = setup.trail_says("acme", "Verified").await;
    let message = condition(&trail, "Continuous").message;
    assert!(message.contains("holds the log 77aa, and held the log 5f0c with 5 events before"), "{message}");
    assert_eq!(trail.status.expect("a status").trail_id.as_deref(), Some("77aa"));
    collector.says_of_the_log(|log| log.next_sequence = 7);
    setup
        .becomes::<AuditTrail>("acme", "counts seven events", |trail| {
            trail.status.as_ref().is_some_and(|status| status.events == Some(7))
        })
        .await;
}

/// Status and reason of `Continuous`.
fn continuous(trail: &AuditTrail) -> (String, String) {
    let condition = condition(trail, "Continuous");
    (condition.status, condition.reason)
}

async fn a_silent_collector_is_told(setup: &Setup, collector: Collector) {
    collector.stop();
    let trail = setup.trail_says("acme", "CollectorUnreachable").await;
    assert!(condition(&trail, "Ready").message.contains("Connection refused"), "{:?}", condition(&trail, "Ready"));
    assert_eq!(continuous(&trail), ("False".to_owned(), "DatabaseReplaced".to_owned()));
    assert_eq!(trail.status.expect("a status").events, Some(7), "the last known counters stand");
    setup.forwarding_says("to-source", "TrailNotReady").await;
    // Nobody is left who could remember: whoever starts next is to know before it takes an event.
    assert_eq!(setup.document("acme", "is there", |_| true).await.known_log, None);
    setup.patch_status::<Deployment>("acme-collector", json!({"readyReplicas": 0, "availableReplicas": 0})).await;
    let told = setup.document("acme", "says what the log held", |document| document.known_log.is_some()).await;
    assert_eq!(told.known_log, Some(KnownLog { epoch: 3, next_sequence: 7 }));
}
