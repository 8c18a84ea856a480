//! An `AuditTrail` that the API server admits and the operator cannot read. It is there before the operator starts.

mod fixture;
mod reporting;

use audittrail_crds::AuditTrail;
use audittrail_tests::control_plane::ControlPlane;
use fixture::{Setup, setup};
use reporting::events_tell;
use serde_json::{Value, json};

/// Types of events with a JSON Schema of more levels than JSON is read here: no rule of admission can count them.
fn too_deep() -> Value {
    let schema = (0..200).fold(json!({}), |schema, _| json!({"not": schema}));
    json!({"eventTypes": [{"name": "Invoice Sent", "area": "Billing", "schema": schema}]})
}

#[tokio::test]
async fn one_trail_that_cannot_be_read_stops_no_other() {
    let Some(control_plane) = ControlPlane::shared() else { return };
    let deep = json!({
        "apiVersion": "audittrail.dev/v1alpha1",
        "kind": "AuditTrail",
        "metadata": {"name": "deep", "namespace": "unreadable"},
        "spec": {"workspace": "Deep", "storage": {"managed": {}}, "catalogue": too_deep()},
    });
    control_plane.kubectl(&["create", "namespace", "unreadable"], "");
    // Not by our own client, which cannot read the answer either.
    control_plane.kubectl(&["create", "-f", "-"], &deep.to_string());

    let Some(served) = setup("served").await else { return };
    served.secret("source", json!({"writeKey": "source-key"})).await;
    served.trail("acme", json!({})).await;
    served.forwarding("to-source", "acme", "source").await;
    served.trail_says("acme", "StorageNotReady").await;
    served.document("acme", "has the entry", |document| !document.forwardings.is_empty()).await;
    served.forwarding_says("to-source", "TrailNotReady").await;

    let beside = Setup { client: served.client.clone(), namespace: "unreadable".to_owned() };
    beside.trail("sound", json!({})).await;
    beside.trail_says("sound", "StorageNotReady").await;
    events_tell(&beside, "Unreadable").await;
    a_trail_that_becomes_unreadable_goes_on_when_it_is_mended(control_plane, &served).await;
}

async fn a_trail_that_becomes_unreadable_goes_on_when_it_is_mended(control_plane: &ControlPlane, served: &Setup) {
    let before = served.document("acme", "is there", |_| true).await;
    let patch = |kind: &str, change: &Value| {
        let kind = format!("--type={kind}");
        let change = format!("--patch={change}");
        control_plane.kubectl(&["patch", "audittrail", "acme", "-n", "served", &kind, &change], "");
    };
    patch("merge", &json!({"spec": {"catalogue": too_deep()}}));
    events_tell(served, "Unreadable").await;
    // Meanwhile its children stay, and others are served.
    served.trail("another", json!({})).await;
    served.trail_says("another", "StorageNotReady").await;
    assert_eq!(served.document("acme", "is there", |_| true).await, before);
    patch("json", &json!([{"op": "remove", "path": "/spec/catalogue"}]));
    served.trail_says("acme", "StorageNotReady").await;
    served.patch::<AuditTrail>("acme", json!({"spec": {"retention": "36h"}})).await;
    served.document("acme", "follows again", |document| document.retention_seconds == Some(129_600)).await;
}
