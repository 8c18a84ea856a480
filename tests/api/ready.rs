//! Ready and back: the operator polls a collector of ours, over TLS with the trail's certificate
//! and with a token that the API server confirms, and tells what it learns.
//!
//! There is one operator and one address that it polls, so this is one story in several parts.

mod fixture;

use audittrail_crds::document::KnownLog;
use audittrail_crds::report::{Database, Durability, Forwarding, Log, Raised, Replica, Report, RetentionHeld, State};
use audittrail_crds::{AuditForwarding, AuditTrail};
use audittrail_tests::cluster::eventually;
use audittrail_tests::control_plane::{OPERATOR_ACCOUNT, OPERATOR_NAMESPACE};
use axum::extract::State as Shared;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use axum::{Json, Router};
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use fixture::{SOON, Setup, condition, setup_with};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Client;
use kube::api::{Api, ListParams, PostParams};
use serde_json::json;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

const AUDIENCE: &str = "acme-collector.ready.svc";

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
    a_rewound_database_is_remembered_until_the_epoch_is_raised(&setup, &collector).await;
    another_log_under_the_same_claim_is_told(&setup, &collector).await;
    a_silent_collector_is_told(&setup, collector).await;
}

/// A trail whose pods are said to run.
async fn pods_run(setup: &Setup) {
    setup.trail("acme", json!({})).await;
    setup.trail_says("acme", "StorageNotReady").await;
    setup.patch_status::<StatefulSet>("acme-postgres", json!({"replicas": 1, "readyReplicas": 1})).await;
    let status = json!({"replicas": 1, "readyReplicas": 1, "availableReplicas": 1});
    setup.patch_status::<Deployment>("acme-collector", status).await;
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

async fn events_tell(setup: &Setup, reason: &str) {
    eventually(&format!("an Event tells {reason}"), SOON, || async {
        let events = setup.api::<Event>().list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        let reasons: Vec<String> = events.into_iter().filter_map(|event| event.reason).collect();
        if reasons.iter().any(|told| told == reason) { Ok(()) } else { Err(format!("{reasons:?}")) }
    })
    .await;
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
    for (state, reason, stalled) in [
        (State::KeyRefused, "SourceRefusesKey", "True"),
        (State::EndpointRefused, "SourceRefusesRequest", "True"),
        (State::EventRefused, "SourceRefusesEvent", "True"),
        (State::Retrying, "SourceUnavailable", "False"),
        (State::Accepting, "SourceAccepts", "False"),
    ] {
        collector.says(|report| report.forwardings[0].state = state);
        let told = setup.forwarding_says("to-source", reason).await;
        assert_eq!(condition(&told, "Stalled").status, stalled, "{reason}");
    }
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

/// A collector that reports what the test says.
struct Collector {
    report: Arc<Mutex<Report>>,
    polls: Arc<AtomicUsize>,
    handle: Handle<SocketAddr>,
}

impl Collector {
    async fn start(setup: &Setup, listener: TcpListener) -> Self {
        let tls = setup.document("acme", "is there", |_| true).await.tls.expect("a certificate");
        let (certificate, key) = (tls.certificate.into_bytes(), tls.key.reveal().as_bytes().to_vec());
        let tls = RustlsConfig::from_pem(certificate, key).await.expect("a certificate and its key");
        let report = Arc::new(Mutex::new(first_report()));
        let polls = Arc::new(AtomicUsize::new(0));
        let handle = Handle::new();
        let state = (setup.client.clone(), Arc::clone(&report), Arc::clone(&polls));
        let routes = Router::new().route("/v1/status", get(status)).with_state(state);
        listener.set_nonblocking(true).expect("a listener for the runtime");
        let server = axum_server::from_tcp_rustls(listener, tls).expect("a listener").handle(handle.clone());
        tokio::spawn(server.serve(routes.into_make_service()));
        Self { report, polls, handle }
    }

    /// Every replica has applied this generation.
    fn applies(&self, generation: i64) {
        self.says(|report| {
            report.generation = generation;
            report.replicas.iter_mut().for_each(|replica| replica.generation = generation);
        });
    }

    fn says_of_the_log(&self, change: impl FnOnce(&mut Log)) {
        self.says(|report| change(report.log.as_mut().expect("a log")));
    }

    /// Polls that were answered so far.
    fn polls(&self) -> usize {
        self.polls.load(Ordering::SeqCst)
    }

    async fn polled(&self, polls: usize) {
        eventually(&format!("{polls} polls were answered"), SOON, || async {
            if self.polls() >= polls { Ok(()) } else { Err(self.polls().to_string()) }
        })
        .await;
    }

    fn says(&self, change: impl FnOnce(&mut Report)) {
        change(&mut self.report.lock().expect("no test holds it"));
    }

    fn report(&self) -> Report {
        self.report.lock().expect("no test holds it").clone()
    }

    fn stop(self) {
        self.handle.shutdown();
    }
}

/// Answers as a collector does: only to the operator, by a token for this trail.
async fn status(
    Shared((client, report, polls)): Shared<(Client, Arc<Mutex<Report>>, Arc<AtomicUsize>)>,
    headers: HeaderMap,
) -> Result<Json<Report>, StatusCode> {
    let header = headers.get("authorization").and_then(|header| header.to_str().ok());
    let token = header.and_then(|header| header.strip_prefix("Bearer ")).ok_or(StatusCode::UNAUTHORIZED)?;
    let review = TokenReview {
        spec: TokenReviewSpec { token: Some(token.to_owned()), audiences: Some(vec![AUDIENCE.to_owned()]) },
        ..TokenReview::default()
    };
    let review = Api::all(client).create(&PostParams::default(), &review).await.expect("a review");
    let user = review.status.and_then(|status| status.user?.username);
    if user != Some(format!("system:serviceaccount:{OPERATOR_NAMESPACE}:{OPERATOR_ACCOUNT}")) {
        return Err(StatusCode::UNAUTHORIZED);
    }
    let report = report.lock().expect("no test holds it").clone();
    polls.fetch_add(1, Ordering::SeqCst);
    Ok(Json(report))
}

fn first_report() -> Report {
    let now = Time(Timestamp::now());
    let durability = Durability {
        fsync: true,
        full_page_writes: true,
        synchronous_commit: "on".to_owned(),
        synchronous_standby_names: String::new(),
    };
    Report {
        replica: "acme-collector-0".to_owned(),
        version: "0.1.0".to_owned(),
        generation: 0,
        database: Database::Verified { at: now.clone(), durability },
        log: Some(Log { id: "5f0c".to_owned(), epoch: 1, next_sequence: 0, ..Log::default() }),
        replicas: vec![Replica { name: "acme-collector-0".to_owned(), generation: 0, seen: now }],
        forwardings: Vec::new(),
    }
}

fn forwarding(generation: i64) -> Forwarding {
    Forwarding {
        name: "to-source".to_owned(),
        generation,
        state: State::Pending,
        last_error: None,
        last_success: None,
        delivered_sequence: None,
        delivered: 0,
        lag_events: 0,
        lag_seconds: 0,
    }
}
