//! What the API server itself refuses: schema and CEL rules, each at its bound and one past it,
//! with the field named.

mod forwarding;
mod trail;

use audittrail_crds::{AuditForwarding, AuditTrail};
use audittrail_tests::cluster::eventually;
use audittrail_tests::control_plane::ControlPlane;
use kube::api::{Api, PostParams};
use kube::core::NamespaceResourceScope;
use kube::{Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::fmt::Debug;
use std::time::Duration;

const NAMESPACE: &str = "default";

/// RFC 7386: null removes.
fn merge(target: &mut Value, change: &Value) {
    let Value::Object(change) = change else {
        *target = change.clone();
        return;
    };
    for (field, value) in change {
        match value {
            Value::Null => drop(target.as_object_mut().expect("an object").remove(field)),
            value => merge(target.as_object_mut().expect("an object").entry(field).or_insert(json!({})), value),
        }
    }
}

trait Kind:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Serialize
{
}
impl Kind for AuditTrail {}
impl Kind for AuditForwarding {}

/// What the API server says to `object`, without keeping it.
async fn ask<K: Kind>(client: &Client, object: Value) -> Result<K, String> {
    let api = Api::<kube::core::DynamicObject>::namespaced_with(
        client.clone(),
        NAMESPACE,
        &kube::core::ApiResource::erase::<K>(&()),
    );
    let object = serde_json::from_value(object).expect("an object");
    let answer = api.create(&PostParams { dry_run: true, ..PostParams::default() }, &object).await;
    answer.map(|object| object.try_parse().expect("its kind")).map_err(|error| error.to_string())
}

async fn admitted<K: Kind>(client: &Client, object: Value) -> K {
    ask(client, object.clone()).await.unwrap_or_else(|error| panic!("{object}: {error}"))
}

async fn refused<K: Kind>(client: &Client, object: Value, words: &str) {
    match ask::<K>(client, object.clone()).await {
        Ok(_) => panic!("admitted: {object}"),
        Err(error) => assert!(error.contains(words), "{words:?} is not in {error}"),
    }
}

async fn client() -> Option<Client> {
    Some(ControlPlane::shared()?.admin().await)
}

#[tokio::test]
async fn admit_documents_every_field() {
    let (Some(_), Some(control_plane)) = (client().await, ControlPlane::shared()) else { return };
    // With --recursive kubectl leaves descriptions out, so the parts are asked one by one.
    for part in [
        "audittrail.spec",
        "audittrail.spec.catalogue",
        "audittrail.spec.catalogue.eventTypes",
        "audittrail.spec.collector",
        "audittrail.spec.collector.tracing",
        "audittrail.spec.ingest",
        "audittrail.spec.ingest.kubernetes",
        "audittrail.status",
        "auditforwarding.spec",
        "auditforwarding.spec.delivery",
        "auditforwarding.spec.filter",
        "auditforwarding.spec.filter.include",
        "auditforwarding.spec.source.httpApi",
        "auditforwarding.spec.source.httpApi.create",
        "auditforwarding.spec.startFrom",
        "auditforwarding.status",
        "auditforwarding.status.createdSource",
    ] {
        // What kubectl explains from is published a moment after the definitions are established.
        let explained = || async { control_plane.try_kubectl(&["explain", part], "") };
        let text = eventually("the API is described", Duration::from_secs(30), explained).await;
        assert!(!text.contains("<no description>") && !text.contains("<empty>"), "{text}");
    }
}
