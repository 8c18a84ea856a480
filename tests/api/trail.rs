//! `AuditTrail` on a real API server, by the real operator with the chart's permissions.

mod fixture;

use audittrail_crds::document::{Access, ApiServerTokens, Catalogue, ClusterAccess, KubernetesObjects};
use audittrail_crds::{AuditForwarding, AuditTrail};
use audittrail_tests::cluster::{eventually, secret_value};
use audittrail_tests::control_plane::{OPERATOR_ACCOUNT, OPERATOR_NAMESPACE};
use fixture::{SOON, Setup, condition, setup};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Secret, Service, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, Role, RoleBinding};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, PostParams};
use rcgen::{CertificateParams, KeyPair};
use serde_json::json;

#[tokio::test]
async fn a_trail_makes_all_its_children() {
    let Some(setup) = setup("children").await else { return };
    setup.trail("acme", json!({})).await;
    setup.trail_says("acme", "StorageNotReady").await;
    for name in ["acme-ca", "acme-postgres", "acme-postgres-tls", "acme-write-key", "acme-collector"] {
        setup.appears::<Secret>(name).await;
    }
    setup.appears::<ConfigMap>("acme-ca").await;
    for name in ["acme-postgres", "acme-collector"] {
        setup.appears::<Service>(name).await;
    }
    for name in ["acme-postgres", "acme-collector", "acme-owner"] {
        setup.appears::<ServiceAccount>(name).await;
    }
    for name in ["acme-collector", "acme-owner"] {
        setup.appears::<Role>(name).await;
        setup.appears::<RoleBinding>(name).await;
    }
    setup.appears::<StatefulSet>("acme-postgres").await;
    setup.appears::<Deployment>("acme-collector").await;
    assert!(reviews_binding(&setup, "acme").await.is_some());
    assert!(setup.api::<Role>().get_opt("acme-writer").await.expect("an answer").is_none());
    let key = secret_value(&setup.client, "children", "acme-write-key", "writeKey").await;
    assert!(key.starts_with("atk_") && key.len() == 44, "{} characters", key.len());
}

#[tokio::test]
async fn every_child_but_the_password_goes_with_its_trail() {
    let Some(setup) = setup("owned").await else { return };
    setup.trail("acme", json!({})).await;
    setup.trail_says("acme", "StorageNotReady").await;
    let owned = |secret: &Secret| !secret.owner_references().is_empty();
    let kept: Vec<String> = setup
        .api::<Secret>()
        .list(&kube::api::ListParams::default())
        .await
        .expect("a list")
        .iter()
        .filter(|secret| !owned(secret))
        .map(ResourceExt::name_any)
        .collect();
    assert_eq!(kept, ["acme-postgres"]);
    let deployment = setup.appears::<Deployment>("acme-collector").await;
    assert_eq!(deployment.owner_references()[0].kind, "AuditTrail");
}

#[tokio::test]
async fn the_document_says_what_the_collector_needs() {
    let Some(setup) = setup("document").await else { return };
    setup.trail("acme", json!({"workspace": "Acme Inc."})).await;
    let document = setup.document("acme", "is there", |_| true).await;
    assert_eq!(document.trail.workspace, "Acme Inc.");
    assert!(document.trail.claim.ends_with("/document/acme"), "{}", document.trail.claim);
    let audience = "acme-collector.document.svc".to_owned();
    let operator = Some(format!("{OPERATOR_NAMESPACE}/{OPERATOR_ACCOUNT}"));
    assert_eq!(
        document.access,
        Access::Kubernetes(ClusterAccess { audience, api_server_tokens: ApiServerTokens::Accept, operator })
    );
    let password = secret_value(&setup.client, "document", "acme-postgres", "password").await;
    let uri =
        format!("postgresql://audittrail:{password}@acme-postgres.document.svc:5432/audittrail?sslmode=verify-full");
    assert_eq!(document.database.uri.reveal(), uri);
    let key = secret_value(&setup.client, "document", "acme-write-key", "writeKey").await;
    assert_eq!(document.ingest.write_keys[0].key.reveal(), key);
    assert_eq!(document.ingest.write_keys[0].name, "acme-write-key/writeKey");
    let authority = setup.appears::<ConfigMap>("acme-ca").await.data.expect("data")["ca.crt"].clone();
    assert_eq!(document.database.ca, Some(authority));
}

#[tokio::test]
async fn retention_catalogue_and_kubernetes_objects_reach_the_document() {
    let Some(setup) = setup("taken").await else { return };
    let own =
        json!({"name": "Invoice Sent", "area": "Billing", "aliases": ["Bill Sent"], "schema": {"required": ["sum"]}});
    let spec = json!({
        "retention": "36h",
        "catalogue": {"mode": "Strict", "eventTypes": [own]},
        "ingest": {"kubernetes": {"objects": "Keep"}},
    });
    setup.trail("acme", spec).await;
    let document = setup.document("acme", "is there", |_| true).await;
    assert_eq!(document.retention_seconds, Some(129_600));
    assert_eq!(document.ingest.kubernetes_objects, KubernetesObjects::Keep);
    assert_eq!(
        serde_json::to_value(&document.catalogue).expect("JSON"),
        json!({"mode": "Strict", "eventTypes": [own]})
    );
    setup.patch::<AuditTrail>("acme", json!({"spec": {"retention": null, "catalogue": null}})).await;
    let document = setup.document("acme", "keeps all", |document| document.retention_seconds.is_none()).await;
    assert_eq!(document.catalogue, Catalogue::default());
}

#[tokio::test]
async fn a_catalogue_that_collectors_would_refuse_never_reaches_them() {
    let Some(setup) = setup("catalogue").await else { return };
    let of = |types: serde_json::Value| json!({"catalogue": {"eventTypes": types}});
    setup.trail("acme", of(json!([{"name": "Invoice Sent", "area": "Billing"}]))).await;
    setup.trail_says("acme", "StorageNotReady").await;
    let before = setup.document("acme", "is there", |_| true).await;
    let twice = json!([{"name": "Invoice Sent", "area": "Billing"}, {"name": "INVOICE SENT", "area": "Billing"}]);
    setup.patch::<AuditTrail>("acme", json!({"spec": of(twice)})).await;
    let trail = setup.trail_says("acme", "CatalogueInvalid").await;
    let message = condition(&trail, "Ready").message;
    assert!(message.contains(r#"the type "INVOICE SENT" is there twice"#), "{message}");
    assert_eq!(condition(&trail, "Stalled").status, "True");
    assert_eq!(setup.document("acme", "is there", |_| true).await, before);
    let bad = json!([{"name": "Invoice Sent", "area": "Billing", "schema": {"type": "text"}}]);
    setup.patch::<AuditTrail>("acme", json!({"spec": of(bad)})).await;
    setup
        .becomes::<AuditTrail>("acme", "names the schema", |trail| {
            condition(trail, "Ready").message.contains("its schema cannot be compiled")
        })
        .await;
    setup.patch::<AuditTrail>("acme", json!({"spec": {"catalogue": null}})).await;
    setup.trail_says("acme", "StorageNotReady").await;
    setup.document("acme", "has no own type", |document| document.catalogue.event_types.is_empty()).await;
}

#[tokio::test]
async fn traces_are_configured_in_the_pods_and_taken_out_again() {
    let Some(setup) = setup("traced").await else { return };
    setup.trail("acme", json!({"collector": {"tracing": {"endpoint": "http://otel.example:4318"}}})).await;
    let variables = |deployment: &Deployment| -> Vec<(String, String)> {
        let container =
            deployment.spec.as_ref().expect("a spec").template.spec.as_ref().expect("a pod").containers[0].clone();
        container.env.into_iter().flatten().filter_map(|one| Some((one.name, one.value?))).collect()
    };
    let deployment = setup.appears::<Deployment>("acme-collector").await;
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), "http://otel.example:4318".to_owned());
    assert!(variables(&deployment).contains(&endpoint), "{:?}", variables(&deployment));
    setup.patch::<AuditTrail>("acme", json!({"spec": {"collector": {"tracing": null}}})).await;
    setup
        .becomes::<Deployment>("acme-collector", "has no variable of OpenTelemetry", |deployment| {
            !variables(deployment).iter().any(|(name, _)| name.starts_with("OTEL_"))
        })
        .await;
}

#[tokio::test]
async fn a_changed_trail_changes_its_children() {
    let Some(setup) = setup("changed").await else { return };
    setup.trail("acme", json!({})).await;
    setup.trail_says("acme", "StorageNotReady").await;
    let resources = json!({"requests": {"cpu": "0.5", "memory": "1024Mi"}});
    let spec = json!({
        "collector": {"replicas": 3, "resources": resources},
        "access": {"owners": [{"kind": "User", "name": "ann"}, {"kind": "ServiceAccount", "name": "audit"}]},
        "ingest": {"serviceAccounts": [{"name": "app"}, {"name": "app", "namespace": "other"}]},
    });
    setup.patch::<AuditTrail>("acme", json!({"spec": spec})).await;
    setup
        .becomes::<Deployment>("acme-collector", "has three replicas", |deployment| {
            deployment.spec.as_ref().is_some_and(|spec| spec.replicas == Some(3))
        })
        .await;
    let subjects = |binding: RoleBinding| -> Vec<String> {
        let text = |subject: k8s_openapi::api::rbac::v1::Subject| {
            format!("{} {}/{}", subject.kind, subject.namespace.unwrap_or_default(), subject.name)
        };
        binding.subjects.unwrap_or_default().into_iter().map(text).collect()
    };
    let three = |binding: &RoleBinding| binding.subjects.as_ref().is_some_and(|subjects| subjects.len() == 3);
    let owners = subjects(setup.becomes("acme-owner", "has three subjects", three).await);
    assert_eq!(owners, ["ServiceAccount changed/acme-owner", "User /ann", "ServiceAccount changed/audit"]);
    let writers = subjects(setup.appears("acme-writer").await);
    assert_eq!(writers, ["ServiceAccount changed/app", "ServiceAccount other/app"]);

    setup.patch::<AuditTrail>("acme", json!({"spec": {"ingest": null, "access": null}})).await;
    setup.goes::<RoleBinding>("acme-writer").await;
    setup.goes::<Role>("acme-writer").await;
    let one = |binding: &RoleBinding| binding.subjects.as_ref().is_some_and(|subjects| subjects.len() == 1);
    setup.becomes("acme-owner", "has one subject", one).await;
}

#[tokio::test]
async fn a_round_that_changes_nothing_writes_nothing() {
    let Some(setup) = setup("quiet").await else { return };
    let resources = json!({"requests": {"cpu": "0.5", "memory": "1024Mi"}, "limits": {"memory": "2048Mi"}});
    let spec = json!({
        "storage": {"managed": {"size": "1024Mi", "resources": resources}},
        "collector": {"resources": resources},
        "access": {"owners": [{"kind": "Group", "name": "auditors"}]},
        "ingest": {"serviceAccounts": [{"name": "app"}]},
        "retention": "90d",
        "catalogue": {"eventTypes": [{"name": "Invoice Sent", "area": "Billing", "schema": {"required": ["sum"]}}]},
    });
    setup.trail("acme", spec).await;
    setup.trail_says("acme", "StorageNotReady").await;
    let before = setup.writes();
    assert!(before.len() > 15, "{before:#?}");
    // A change that concerns no child makes a round, and the status shows that it is over.
    for policy in ["Delete", "Retain"] {
        setup.patch::<AuditTrail>("acme", json!({"spec": {"deletionPolicy": policy}})).await;
        setup.trail_says("acme", "StorageNotReady").await;
    }
    assert_eq!(setup.writes(), before);
}

#[tokio::test]
async fn what_somebody_changed_in_a_child_is_put_right() {
    let Some(setup) = setup("drift").await else { return };
    setup.trail("acme", json!({})).await;
    setup.trail_says("acme", "StorageNotReady").await;
    setup.patch::<Deployment>("acme-collector", json!({"spec": {"replicas": 0}})).await;
    setup
        .becomes::<Deployment>("acme-collector", "has its replica again", |deployment| {
            deployment.spec.as_ref().is_some_and(|spec| spec.replicas == Some(1))
        })
        .await;
    let mallory = json!([{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "mallory"}]);
    setup.patch::<RoleBinding>("acme-owner", json!({"subjects": mallory})).await;
    setup
        .becomes::<RoleBinding>("acme-owner", "binds the owner account alone", |binding| {
            binding.subjects.as_ref().is_some_and(|subjects| subjects.len() == 1 && subjects[0].name == "acme-owner")
        })
        .await;
    setup.delete::<Service>("acme-collector").await;
    setup.appears::<Service>("acme-collector").await;
}

/// Whatever such a key signs, nobody trusts: certificates would be made anew in each round, and Postgres rolled with them.
#[tokio::test]
async fn an_authority_whose_certificate_is_that_of_another_key_stops_the_trail() {
    let Some(setup) = setup("pair").await else { return };
    setup.trail("acme", json!({})).await;
    setup.trail_says("acme", "StorageNotReady").await;
    let before = setup.appears::<StatefulSet>("acme-postgres").await;
    let document = setup.document("acme", "is there", |_| true).await;
    let key = KeyPair::generate().expect("a key");
    let other = CertificateParams::default().self_signed(&key).expect("a certificate").pem();
    setup.patch::<Secret>("acme-ca", json!({"stringData": {"tls.crt": other}})).await;
    let trail = setup.trail_says("acme", "SecretInvalid").await;
    let message = condition(&trail, "Ready").message;
    assert!(
        message.contains("Secret acme-ca: key tls.crt is no certificate of the private key beside it"),
        "{message}"
    );
    assert_eq!(setup.appears::<StatefulSet>("acme-postgres").await.metadata.generation, before.metadata.generation);
    assert_eq!(setup.document("acme", "is there", |_| true).await, document);
    setup.delete::<Secret>("acme-ca").await;
    setup.trail_says("acme", "StorageNotReady").await;
}

#[tokio::test]
async fn a_missing_secret_is_named_and_the_trail_goes_on_when_it_appears() {
    let Some(setup) = setup("missing").await else { return };
    setup.trail("acme", json!({"ingest": {"writeKeySecretRef": {"name": "key"}}})).await;
    let trail = setup.trail_says("acme", "SecretMissing").await;
    assert!(condition(&trail, "Ready").message.contains("Secret key does not exist"));
    assert_eq!(condition(&trail, "Stalled").status, "True");
    setup.secret("key", json!({"writeKey": "short"})).await;
    let trail = setup.trail_says("acme", "SecretInvalid").await;
    assert!(condition(&trail, "Ready").message.contains("key writeKey must have 16 to 200 characters"));
    setup.secret("key", json!({"writeKey": "0123456789abcdef"})).await;
    let trail = setup.trail_says("acme", "StorageNotReady").await;
    assert_eq!(condition(&trail, "Stalled").status, "False");
    assert_eq!(condition(&trail, "Reconciling").status, "True");
    setup.document("acme", "has the key", |one| one.ingest.write_keys[0].key.reveal() == "0123456789abcdef").await;
}

#[tokio::test]
async fn an_external_database_makes_no_postgres() {
    let Some(setup) = setup("external").await else { return };
    let storage = json!({"external": {"uriSecretRef": {"name": "database"}}});
    setup.trail("acme", json!({"storage": storage})).await;
    let trail = setup.trail_says("acme", "SecretMissing").await;
    assert!(condition(&trail, "Ready").message.contains("create it with the key uri"));
    setup
        .secret(
            "database",
            json!({"uri": "postgresql://a:b@one.example,two.example/c?target_session_attrs=read-write"}),
        )
        .await;
    setup.trail_says("acme", "CollectorNotReady").await;
    let document = setup.document("acme", "is there", |_| true).await;
    assert!(document.database.uri.reveal().contains("one.example,two.example") && document.database.ca.is_none());
    assert!(setup.api::<StatefulSet>().get_opt("acme-postgres").await.expect("an answer").is_none());
}

#[tokio::test]
async fn the_older_of_two_trails_keeps_its_workspace() {
    let Some(setup) = setup("unique").await else { return };
    setup.trail("first", json!({"workspace": "Acme"})).await;
    setup.trail_says("first", "StorageNotReady").await;
    setup.trail("a-second", json!({"workspace": "Acme"})).await;
    let second = setup.trail_says("a-second", "WorkspaceNotUnique").await;
    assert!(condition(&second, "Ready").message.contains("AuditTrail first"));
    assert!(setup.api::<Secret>().get_opt("a-second-collector").await.expect("an answer").is_none());
    setup.trail_says("first", "StorageNotReady").await;
    setup.delete::<AuditTrail>("first").await;
    setup.trail_says("a-second", "StorageNotReady").await;
}

#[tokio::test]
async fn an_object_of_somebody_else_is_not_taken_over() {
    let Some(setup) = setup("foreign").await else { return };
    let foreign = json!({"metadata": {"name": "acme-collector"}, "spec": {"ports": [{"port": 80}]}});
    let foreign: Service = serde_json::from_value(foreign).expect("a Service");
    setup.api::<Service>().create(&PostParams::default(), &foreign).await.expect("created");
    setup.trail("acme", json!({})).await;
    let trail = setup.trail_says("acme", "ApplyFailed").await;
    let message = condition(&trail, "Ready").message;
    assert!(message.contains("Service acme-collector exists and does not belong to this AuditTrail"), "{message}");
    setup.delete::<Service>("acme-collector").await;
    setup.trail_says("acme", "StorageNotReady").await;
}

#[tokio::test]
async fn a_refused_child_is_reported_in_the_api_servers_words() {
    let Some(setup) = setup("refused").await else { return };
    // A limit below its request: schema and CEL cannot compare quantities.
    let resources = json!({"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}});
    setup.trail("acme", json!({"collector": {"resources": resources}})).await;
    let trail = setup.trail_says("acme", "ApplyFailed").await;
    let message = condition(&trail, "Ready").message;
    assert!(
        message.contains("Deployment acme-collector") && message.contains("must be less than or equal to memory limit"),
        "{message}"
    );
    assert_eq!(condition(&trail, "Stalled").status, "True");
    setup.patch::<AuditTrail>("acme", json!({"spec": {"collector": {"resources": null}}})).await;
    setup.trail_says("acme", "StorageNotReady").await;
}

#[tokio::test]
async fn without_a_running_collector_the_trail_says_what_is_not_ready() {
    let Some(setup) = setup("silent").await else { return };
    setup.trail("acme", json!({"collector": {"replicas": 2}})).await;
    setup.trail_says("acme", "StorageNotReady").await;
    setup.patch_status::<StatefulSet>("acme-postgres", json!({"replicas": 1, "readyReplicas": 1})).await;
    let trail = setup.trail_says("acme", "CollectorNotReady").await;
    assert!(condition(&trail, "CollectorReady").message.contains("0 of 2 collector pods are available"));
    assert_eq!(condition(&trail, "Durable").status, "Unknown");
    let status = json!({"replicas": 2, "readyReplicas": 2, "availableReplicas": 2});
    setup.patch_status::<Deployment>("acme-collector", status).await;
    setup.trail_says("acme", "CollectorUnreachable").await;
}

#[tokio::test]
async fn deletion_with_retain_keeps_the_password_for_the_next_trail() {
    let Some(setup) = setup("retain").await else { return };
    setup.trail("acme", json!({})).await;
    setup.trail_says("acme", "StorageNotReady").await;
    let generation = setup.document("acme", "is there", |_| true).await.generation;
    let password = secret_value(&setup.client, "retain", "acme-postgres", "password").await;
    volume(&setup, "acme").await;
    setup.delete::<AuditTrail>("acme").await;
    setup.goes::<AuditTrail>("acme").await;
    assert!(reviews_binding(&setup, "acme").await.is_none());
    setup.appears::<PersistentVolumeClaim>("data-acme-postgres-0").await;

    collect_garbage(&setup).await;
    setup.trail("acme", json!({})).await;
    setup.trail_says("acme", "StorageNotReady").await;
    let document = setup.document("acme", "is there again", |_| true).await;
    assert!(document.database.uri.reveal().contains(&password));
    assert!(document.generation > generation, "{} after {generation}", document.generation);
}

#[tokio::test]
async fn deletion_with_delete_takes_volume_and_password_along() {
    let Some(setup) = setup("delete").await else { return };
    setup.trail("acme", json!({"deletionPolicy": "Delete"})).await;
    setup.trail_says("acme", "StorageNotReady").await;
    volume(&setup, "acme").await;
    setup.delete::<AuditTrail>("acme").await;
    setup.goes::<AuditTrail>("acme").await;
    setup.goes::<StatefulSet>("acme-postgres").await;
    setup.goes::<Secret>("acme-postgres").await;
    // Without a controller nobody takes the finalizer of a volume in use off; it is marked.
    eventually("the volume is gone, or going", SOON, || async {
        match setup.api::<PersistentVolumeClaim>().get_opt("data-acme-postgres-0").await {
            Ok(None) => Ok(()),
            Ok(Some(claim)) if claim.metadata.deletion_timestamp.is_some() => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert!(reviews_binding(&setup, "acme").await.is_none());
}

#[tokio::test]
async fn deletion_leaves_a_volume_of_somebody_else() {
    let Some(setup) = setup("strangers").await else { return };
    let foreign = json!({
        "metadata": {"name": "data-acme-postgres-0"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    });
    let foreign: PersistentVolumeClaim = serde_json::from_value(foreign).expect("a claim");
    setup.api().create(&PostParams::default(), &foreign).await.expect("created");
    setup.trail("acme", json!({"deletionPolicy": "Delete"})).await;
    setup.trail_says("acme", "StorageNotReady").await;
    setup.delete::<AuditTrail>("acme").await;
    setup.goes::<AuditTrail>("acme").await;
    let claim = setup.appears::<PersistentVolumeClaim>("data-acme-postgres-0").await;
    assert!(claim.metadata.deletion_timestamp.is_none());
}

#[tokio::test]
async fn the_password_and_the_write_key_of_an_earlier_life_are_used() {
    let Some(setup) = setup("earlier").await else { return };
    setup.secret("acme-postgres", json!({"password": "from/before"})).await;
    setup.secret("acme-write-key", json!({"writeKey": "atk_from-before-0"})).await;
    setup.trail("acme", json!({})).await;
    let document = setup.document("acme", "is there", |_| true).await;
    assert!(document.database.uri.reveal().contains("audittrail:from%2Fbefore@"));
    assert_eq!(document.ingest.write_keys[0].key.reveal(), "atk_from-before-0");
}

#[tokio::test]
async fn one_trails_trouble_stays_its_own() {
    let Some(setup) = setup("neighbours").await else { return };
    setup.trail("broken", json!({"ingest": {"writeKeySecretRef": {"name": "nowhere"}}})).await;
    setup.trail("sound", json!({})).await;
    setup.trail_says("broken", "SecretMissing").await;
    setup.trail_says("sound", "StorageNotReady").await;
    setup.forwarding("orphan", "nobody", "nowhere").await;
    let orphan: AuditForwarding = setup.forwarding_says("orphan", "TrailMissing").await;
    assert!(condition(&orphan, "Ready").message.contains("AuditTrail nobody does not exist"));
}

/// The binding outside of the namespace.
async fn reviews_binding(setup: &Setup, trail: &str) -> Option<ClusterRoleBinding> {
    let name = format!("audittrail:{}:{trail}:collector", setup.namespace);
    Api::all(setup.client.clone()).get_opt(&name).await.expect("an answer")
}

/// Makes the volume that the StatefulSet controller would make, with the labels it would give it.
async fn volume(setup: &Setup, trail: &str) {
    let stateful_set = setup.appears::<StatefulSet>(&format!("{trail}-postgres")).await;
    let spec = stateful_set.spec.expect("a spec");
    let mut claim = spec.volume_claim_templates.expect("a template").remove(0);
    claim.metadata.name = Some(format!("data-{trail}-postgres-0"));
    claim.metadata.labels = spec.selector.match_labels;
    claim.status = None;
    setup.api().create(&PostParams::default(), &claim).await.expect("created");
}

/// What the garbage collector does with objects whose owner is gone.
async fn collect_garbage(setup: &Setup) {
    let all = DeleteParams::default();
    let children = kube::api::ListParams::default();
    setup.api::<Deployment>().delete_collection(&all, &children).await.expect("deleted");
    setup.api::<StatefulSet>().delete_collection(&all, &children).await.expect("deleted");
    setup.api::<ConfigMap>().delete_collection(&all, &children).await.expect("deleted");
    setup.api::<Service>().delete_collection(&all, &children).await.expect("deleted");
    setup.api::<ServiceAccount>().delete_collection(&all, &children).await.expect("deleted");
    setup.api::<Role>().delete_collection(&all, &children).await.expect("deleted");
    setup.api::<RoleBinding>().delete_collection(&all, &children).await.expect("deleted");
    for secret in setup.api::<Secret>().list(&children).await.expect("a list") {
        if !secret.owner_references().is_empty() {
            setup.delete::<Secret>(&secret.name_any()).await;
        }
    }
}
