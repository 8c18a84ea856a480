//! The API server goes away and comes back: every watch of the operator breaks at once.

mod fixture;

use audittrail_crds::AuditForwarding;
use audittrail_tests::control_plane::ControlPlane;
use fixture::setup;
use k8s_openapi::api::core::v1::Secret;
use serde_json::json;
use std::time::{Duration, Instant};

/// A watch pauses 5 s at most, and then reads a list. A controller that pauses all watches for
/// each of their errors, which is what kube's does by itself, takes minutes.
const REACTS_WITHIN: Duration = Duration::from_secs(15);

#[tokio::test]
async fn the_operator_reacts_within_seconds_of_the_api_servers_return() {
    let Some(setup) = setup("restart").await else { return };
    setup.secret("source", json!({"writeKey": "source-key"})).await;
    setup.trail("acme", json!({})).await;
    setup.trail_says("acme", "StorageNotReady").await;
    for round in 0..3 {
        let control_plane = ControlPlane::shared().expect("it is running");
        tokio::task::spawn_blocking(|| control_plane.restart_api_server()).await.expect("it came back");
        let back = Instant::now();
        setup.forwarding("to-source", "acme", "source").await;
        setup.document("acme", "has the entry", |document| !document.forwardings.is_empty()).await;
        setup.delete::<Secret>("source").await;
        setup.forwarding_says("to-source", "SecretMissing").await;
        setup.delete::<AuditForwarding>("to-source").await;
        setup.document("acme", "has no entry", |document| document.forwardings.is_empty()).await;
        assert!(back.elapsed() < REACTS_WITHIN, "round {round}: {:?}", back.elapsed());
        setup.secret("source", json!({"writeKey": "source-key"})).await;
    }
}
