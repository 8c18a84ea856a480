//! A collector that reports what the test says, for the operator to poll.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use crate::fixture::{SOON, Setup};
use audittrail_crds::report::{Database, Durability, Forwarding, Log, Replica, Report};
use audittrail_tests::cluster::eventually;
use audittrail_tests::control_plane::{OPERATOR_ACCOUNT, OPERATOR_NAMESPACE};
use axum::extract::State as Shared;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use axum::{Json, Router};
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
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

/// A trail whose pods are said to run.
pub async fn pods_run(setup: &Setup) {
    setup.trail("acme", json!({})).await;
    setup.trail_says("acme", "StorageNotReady").await;
    setup.patch_status::<StatefulSet>("acme-postgres", json!({"replicas": 1, "readyReplicas": 1})).await;
    let status = json!({"replicas": 1, "readyReplicas": 1, "availableReplicas": 1});
    setup.patch_status::<Deployment>("acme-collector", status).await;
}

/// Waits until an Event has this reason.
pub async fn events_tell(setup: &Setup, reason: &str) {
    eventually(&format!("an Event tells {reason}"), SOON, || async {
        let events = setup.api::<Event>().list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        let reasons: Vec<String> = events.into_iter().filter_map(|event| event.reason).collect();
        if reasons.iter().any(|told| told == reason) { Ok(()) } else { Err(format!("{reasons:?}")) }
    })
    .await;
}

/// A collector that reports what the test says.
pub struct Collector {
    report: Arc<Mutex<Report>>,
    polls: Arc<AtomicUsize>,
    handle: Handle<SocketAddr>,
}

impl Collector {
    pub async fn start(setup: &Setup, listener: TcpListener) -> Self {
        let tls = setup.document("acme", "is there", |_| true).await.tls.expect("a certificate");
        let (certificate, key) = (tls.certificate.into_bytes(), tls.key.reveal().as_bytes().to_vec());
        let tls = RustlsConfig::from_pem(certificate, key).await.expect("a certificate and its key");
        let report = Arc::new(Mutex::new(first_report()));
        let polls = Arc::new(AtomicUsize::new(0));
        let handle = Handle::new();
        let state = Shown {
            client: setup.client.clone(),
            audience: format!("acme-collector.{}.svc", setup.namespace),
            report: Arc::clone(&report),
            polls: Arc::clone(&polls),
        };
        let routes = Router::new().route("/v1/status", get(status)).with_state(state);
        listener.set_nonblocking(true).expect("a listener for the runtime");
        let server = axum_server::from_tcp_rustls(listener, tls).expect("a listener").handle(handle.clone());
        tokio::spawn(server.serve(routes.into_make_service()));
        Self { report, polls, handle }
    }

    /// Every replica has applied this generation.
    pub fn applies(&self, generation: i64) {
        self.says(|report| {
            report.generation = generation;
            report.replicas.iter_mut().for_each(|replica| replica.generation = generation);
        });
    }

    pub fn says_of_the_log(&self, change: impl FnOnce(&mut Log)) {
        self.says(|report| change(report.log.as_mut().expect("a log")));
    }

    /// Polls that were answered so far.
    pub fn polls(&self) -> usize {
        self.polls.load(Ordering::SeqCst)
    }

    pub async fn polled(&self, polls: usize) {
        eventually(&format!("{polls} polls were answered"), SOON, || async {
            if self.polls() >= polls { Ok(()) } else { Err(self.polls().to_string()) }
        })
        .await;
    }

    pub fn says(&self, change: impl FnOnce(&mut Report)) {
        change(&mut self.report.lock().expect("no test holds it"));
    }

    pub fn report(&self) -> Report {
        self.report.lock().expect("no test holds it").clone()
    }

    pub fn stop(self) {
        self.handle.shutdown();
    }
}

/// What the endpoint works with.
#[derive(Clone)]
struct Shown {
    client: Client,
    audience: String,
    report: Arc<Mutex<Report>>,
    polls: Arc<AtomicUsize>,
}

/// Answers as a collector does: only to the operator, by a token for this trail.
async fn status(Shared(shown): Shared<Shown>, headers: HeaderMap) -> Result<Json<Report>, StatusCode> {
    let header = headers.get("authorization").and_then(|header| header.to_str().ok());
    let token = header.and_then(|header| header.strip_prefix("Bearer ")).ok_or(StatusCode::UNAUTHORIZED)?;
    let review = TokenReview {
        spec: TokenReviewSpec { token: Some(token.to_owned()), audiences: Some(vec![shown.audience]) },
        ..TokenReview::default()
    };
    let review = Api::all(shown.client).create(&PostParams::default(), &review).await.expect("a review");
    let user = review.status.and_then(|status| status.user?.username);
    if user != Some(format!("system:serviceaccount:{OPERATOR_NAMESPACE}:{OPERATOR_ACCOUNT}")) {
        return Err(StatusCode::UNAUTHORIZED);
    }
    let report = shown.report.lock().expect("no test holds it").clone();
    shown.polls.fetch_add(1, Ordering::SeqCst);
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

/// What is said of the forwarding `to-source` before anything is known.
pub fn forwarding(generation: i64) -> Forwarding {
    Forwarding { name: "to-source".to_owned(), generation, ..Forwarding::default() }
}
