//! Fixtures of unit tests: resources, Secrets and reports that are in order, to be changed one
//! thing at a time.

use crate::board::{Applied, Facts};
use crate::forwarding;
use crate::names::Names;
use crate::settings::Settings;
use crate::trail::apply::{Pods, Running};
use crate::trail::read::{Inputs, Secrets};
use crate::trail::validate::{Valid, validate};
use audittrail_crds::document::{
    Access, Catalogue, ClusterAccess, Database, Document, Ingest, Sensitive, Trail, VERSION,
};
use audittrail_crds::report::{self, Durability, Log, Replica, Report, State};
use audittrail_crds::{AuditForwarding, AuditTrail};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};
use std::sync::Arc;

pub fn now() -> Timestamp {
    "2026-11-23T10:00:00Z".parse().expect("a time")
}

pub fn settings() -> Settings {
    Settings {
        collector_image: "example/collector:1".to_owned(),
        postgres_image: "example/postgres:17".to_owned(),
        image_pull_policy: None,
        namespace: "audittrail-system".to_owned(),
        service_account: "audittrail-operator".to_owned(),
        reviews_cluster_role: "audittrail-collector-reviews".to_owned(),
        collector_address: None,
        allowed_source_networks: Vec::new(),
        probe_address: ([127, 0, 0, 1], 8080).into(),
    }
}

/// The trail `acme` with this `spec`, made at `second`.
pub fn trail_made_at(name: &str, second: i64, spec: &Value) -> AuditTrail {
    let created = Timestamp::from_second(second).expect("a time").to_string();
    let metadata = json!({"name": name, "namespace": "ns", "uid": format!("uid-{name}"), "generation": 3, "creationTimestamp": created});
    serde_json::from_value(json!({
        "apiVersion": "audittrail.dev/v1alpha1", "kind": "AuditTrail", "metadata": metadata, "spec": spec,
    }))
    .expect("a trail")
}

pub fn trail(spec: &Value) -> AuditTrail {
    trail_made_at("acme", 1000, spec)
}

pub fn managed() -> Value {
    json!({"workspace": "Acme", "storage": {"managed": {"size": "10Gi"}}})
}

pub fn external() -> Value {
    json!({"workspace": "Acme", "storage": {"external": {"uriSecretRef": {"name": "database"}}}})
}

/// What is read for a trail that is new.
pub fn inputs(spec: &Value) -> Inputs {
    Inputs {
        trail: trail(spec),
        cluster: "cluster-uid".to_owned(),
        siblings: vec![trail(spec)],
        secrets: Secrets::default(),
        stateful_set: None,
        forwardings: Vec::new(),
        facts: Facts::default(),
    }
}

pub fn valid(spec: &Value) -> Valid {
    validate(&inputs(spec)).expect("valid")
}

pub fn secret(name: &str, data: &[(&str, &str)]) -> Secret {
    let data = data.iter().map(|(key, value)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec())));
    Secret {
        metadata: kube::core::ObjectMeta { name: Some(name.to_owned()), ..kube::core::ObjectMeta::default() },
        data: Some(data.collect()),
        ..Secret::default()
    }
}

pub fn config_map(key: &str, value: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": "authorities"}, "data": {key: value}})).expect("a ConfigMap")
}

/// The forwarding `to-source` of `acme`, with `source` merged into its source.
pub fn forwarding(source: &Value) -> AuditForwarding {
    let mut http_api = json!({"writeKeySecretRef": {"name": "source"}});
    http_api.as_object_mut().expect("an object").extend(source.as_object().expect("an object").clone());
    serde_json::from_value(json!({
        "apiVersion": "audittrail.dev/v1alpha1",
        "kind": "AuditForwarding",
        "metadata": {"name": "to-source", "namespace": "ns", "generation": 2},
        "spec": {"trailRef": {"name": "acme"}, "source": {"httpApi": http_api}},
    }))
    .expect("a forwarding")
}

/// What is read for a forwarding that is in order.
pub fn forwarding_inputs(source: &Value) -> forwarding::read::Inputs {
    forwarding::read::Inputs {
        forwarding: forwarding(source),
        trail_exists: true,
        write_key: Some(secret("source", &[("writeKey", "source-key")])),
        authorities: None,
        trouble: None,
    }
}

pub fn names() -> Names {
    Names { namespace: "ns".to_owned(), trail: "acme".to_owned() }
}

/// A document of generation 100.
pub fn document() -> Document {
    Document {
        version: VERSION,
        generation: 100,
        trail: Trail {
            namespace: "ns".to_owned(),
            name: "acme".to_owned(),
            workspace: "Acme".to_owned(),
            claim: "cluster-uid/ns/acme".to_owned(),
        },
        database: Database { uri: Sensitive::new("postgresql://x"), ca: None },
        access: Access::Kubernetes(ClusterAccess {
            audience: "acme-collector.ns.svc".to_owned(),
            ..ClusterAccess::default()
        }),
        ingest: Ingest::default(),
        catalogue: Catalogue::default(),
        retention_seconds: None,
        known_log: None,
        tls: None,
        allowed_source_networks: Vec::new(),
        forwardings: Vec::new(),
    }
}

/// A report in which all is well, of generation 100.
pub fn report() -> Report {
    let durability = Durability {
        fsync: true,
        full_page_writes: true,
        synchronous_commit: "on".to_owned(),
        synchronous_standby_names: String::new(),
    };
    Report {
        replica: "a".to_owned(),
        version: "1".to_owned(),
        generation: 100,
        database: report::Database::Verified { at: Time(now()), durability },
        log: Some(Log { id: "log".to_owned(), epoch: 1, next_sequence: 5, ..Log::default() }),
        replicas: vec![Replica { name: "a".to_owned(), generation: 100, seen: Time(now()) }],
        forwardings: vec![report_of(State::Accepting)],
    }
}

/// The report's entry of `to-source`, of generation 100.
pub fn report_of(state: State) -> report::Forwarding {
    report::Forwarding {
        name: "to-source".to_owned(),
        generation: 100,
        state,
        delivered_sequence: Some(3),
        delivered: 4,
        lag_events: 1,
        lag_seconds: 2,
        ..report::Forwarding::default()
    }
}

/// Facts in which all is well.
pub fn facts() -> Facts {
    Facts {
        generation: Some(3),
        problem: None,
        applied: Some(Arc::new(Applied {
            document: document(),
            authority: String::new(),
            write_key_secret: "acme-write-key".to_owned(),
            running: Running { postgres: Some(pods(1, 1)), collector: pods(2, 2) },
        })),
        observation: Some(Ok(report())),
        last_log: None,
        ready: None,
    }
}

pub fn pods(ready: i32, wanted: i32) -> Pods {
    Pods { wanted, ready, trouble: None }
}
