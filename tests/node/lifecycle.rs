//! A trail from its first, wrong, YAML to its end: conditions name what is missing and clear by themselves, changes
//! take effect, deletion keeps or removes the data as asked.

use audittrail_crds::{AuditForwarding, AuditTrail};
use audittrail_tests::cluster::{
    self, READY_WITHIN, apply, collector, delete_namespace, eventually, secret_value, token, wait_ready,
    written_by_clients,
};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Secret};
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

const NAMESPACE: &str = "lifecycle";

/// "A broken child, key or source turns Ready false within 10 s", and the same for a mended one.
const TURN_WITHIN: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn a_trail_heals_changes_is_deleted_and_goes_on() {
    let client = cluster::client().await;
    delete_namespace(&client, NAMESPACE).await;
    apply(&client, NAMESPACE_YAML).await;

    what_is_missing_is_named_and_heals(&client).await;
    only_owners_read(&client).await;
    changes_take_effect(&client).await;
    a_retained_trail_goes_on_where_it_was(&client).await;
    a_deleted_trail_leaves_nothing(&client).await;
    delete_namespace(&client, NAMESPACE).await;
}

const NAMESPACE_YAML: &str = "
apiVersion: v1
kind: Namespace
metadata:
  name: lifecycle
  labels: {pod-security.kubernetes.io/enforce: restricted}
";

const TRAIL_YAML: &str = "
apiVersion: audittrail.dev/v1alpha1
kind: AuditTrail
metadata: {name: shop, namespace: lifecycle}
spec:
  workspace: Shop
  storage: {managed: {size: 1Gi}}
  access: {owners: [{kind: ServiceAccount, name: auditor, namespace: lifecycle}]}
  ingest:
    writeKeySecretRef: {name: my-key}
    serviceAccounts: [{name: app}]
";

const FORWARDING_YAML: &str = "
apiVersion: audittrail.dev/v1alpha1
kind: AuditForwarding
metadata: {name: out, namespace: lifecycle}
spec:
  trailRef: {name: shop}
  source:
    httpApi:
      endpoint: http://audit-source.audit-source.svc
      insecure: true
      writeKeySecretRef: {name: source-key}
";

const ACCOUNTS_YAML: &str = "
apiVersion: v1
kind: ServiceAccount
metadata: {name: auditor, namespace: lifecycle}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: app, namespace: lifecycle}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: stranger, namespace: lifecycle}
";

fn secret_yaml(name: &str, value: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Secret, metadata: {{name: {name}, namespace: lifecycle}}, stringData: {{writeKey: {value}}}}}"
    )
}

async fn what_is_missing_is_named_and_heals(client: &Client) {
    apply(client, FORWARDING_YAML).await;
    wait_ready::<AuditForwarding>(client, NAMESPACE, "out", ("False", "TrailMissing"), TURN_WITHIN).await;

    apply(client, TRAIL_YAML).await;
    let trail: AuditTrail = wait_ready(client, NAMESPACE, "shop", ("False", "SecretMissing"), TURN_WITHIN).await;
    let message = &cluster::Conditions::ready(&trail).expect("waited for").message;
    assert!(message.contains("my-key"), "the message does not name the Secret: {message}");

    apply(client, &secret_yaml("my-key", "atk_0123456789abcdef0123")).await;
    wait_ready::<AuditTrail>(client, NAMESPACE, "shop", ("True", "Verified"), READY_WITHIN).await;
    let forwarding: AuditForwarding =
        wait_ready(client, NAMESPACE, "out", ("False", "SecretMissing"), TURN_WITHIN).await;
    let message = &cluster::Conditions::ready(&forwarding).expect("waited for").message;
    assert!(message.contains("source-key"), "the message does not name the Secret: {message}");

    apply(client, &secret_yaml("source-key", "not-the-key")).await;
    wait_ready::<AuditForwarding>(client, NAMESPACE, "out", ("False", "SourceRefusesKey"), TURN_WITHIN).await;
    apply(client, &secret_yaml("source-key", "demo-source-key")).await;
    wait_ready::<AuditForwarding>(client, NAMESPACE, "out", ("True", "SourceAccepts"), TURN_WITHIN).await;
}

async fn only_owners_read(client: &Client) {
    apply(client, ACCOUNTS_YAML).await;
    let shop = collector(client, NAMESPACE, "shop").await;
    let status = async |token: &str| shop.get(token, "/v1/events").await.expect("answered").status().as_u16();
    let of = async |account: &str, audience: &str| token(client, NAMESPACE, account, audience).await;

    // RBAC of a new binding reaches the API server's authorizer a moment later.
    let owner = of("auditor", &shop.audience).await;
    eventually("the owner may read", TURN_WITHIN, || async {
        match status(&owner).await {
            200 => Ok(()),
            other => Err(other.to_string()),
        }
    })
    .await;
    assert_eq!(status(&of("shop-owner", &shop.audience).await).await, 200);
    assert_eq!(status(&of("stranger", &shop.audience).await).await, 403);
    assert_eq!(status(&of("app", &shop.audience).await).await, 403);
    assert_eq!(status(&of("auditor", "https://kubernetes.default.svc").await).await, 401);
    assert_eq!(status("nobody").await, 401);
    let key = secret_value(client, NAMESPACE, "my-key", "writeKey").await;
    assert_eq!(status(&key).await, 403);

    let event = |id: &str| json!({"id": id, "type": "User Removed", "actor": {"type": "user", "id": "ada"}});
    let write = async |token: &str, id: &str| {
        shop.post(token, "/v1/events", &event(id)).await.expect("answered").status().as_u16()
    };
    assert_eq!(write(&key, "by-key").await, 200);
    assert_eq!(write(&of("app", &shop.audience).await, "by-account").await, 200);
    assert_eq!(write(&of("stranger", &shop.audience).await, "by-stranger").await, 403);
    let trail = shop.everything(&owner).await;
    let submitters: Vec<Value> =
        written_by_clients(&trail).into_iter().map(|mut event| event["submittedBy"].take()).collect();
    assert_eq!(
        submitters,
        [
            json!({"kind": "writeKey", "name": "my-key/writeKey"}),
            json!({"kind": "serviceAccount", "name": "lifecycle/app"}),
        ]
    );
    // Who was refused has not looked.
    let readers: BTreeSet<&str> = trail
        .iter()
        .filter(|event| event["type"] == "Audit Trail Viewed")
        .filter_map(|event| event["actor"]["id"].as_str())
        .collect();
    assert_eq!(readers, ["lifecycle/auditor", "lifecycle/shop-owner"].into());
}

async fn changes_take_effect(client: &Client) {
    let trails: Api<AuditTrail> = Api::namespaced(client.clone(), NAMESPACE);
    let patch = Patch::Merge(json!({"spec": {"collector": {"replicas": 2}}}));
    trails.patch("shop", &PatchParams::default(), &patch).await.expect("accepted");
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), NAMESPACE);
    eventually("two collectors are ready", READY_WITHIN, || async {
        let deployment = deployments.get("shop-collector").await.map_err(|error| error.to_string())?;
        let ready = deployment.status.and_then(|status| status.ready_replicas);
        if ready == Some(2) { Ok(()) } else { Err(format!("{ready:?}")) }
    })
    .await;
    wait_ready::<AuditTrail>(client, NAMESPACE, "shop", ("True", "Verified"), READY_WITHIN).await;

    // A rotated write key works on every replica, and the one before it no more.
    let shop = collector(client, NAMESPACE, "shop").await;
    apply(client, &secret_yaml("my-key", "atk_rotated0123456789abcdef")).await;
    let event = json!({"id": "rotated", "type": "User Removed", "actor": {"type": "user", "id": "ada"}});
    for (key, expected) in [("atk_rotated0123456789abcdef", 200), ("atk_0123456789abcdef0123", 401)] {
        eventually(&format!("{key} is answered {expected}"), TURN_WITHIN, || async {
            for _ in 0..4 {
                let status = shop.post(key, "/v1/events", &event).await.map_err(|error| error.to_string())?.status();
                if status.as_u16() != expected {
                    return Err(status.to_string());
                }
            }
            Ok(())
        })
        .await;
    }
}

async fn a_retained_trail_goes_on_where_it_was(client: &Client) {
    let shop = collector(client, NAMESPACE, "shop").await;
    let before = shop.everything(&token(client, NAMESPACE, "auditor", &shop.audience).await).await;
    delete_trail(client).await;
    apply(client, TRAIL_YAML).await;
    wait_ready::<AuditTrail>(client, NAMESPACE, "shop", ("True", "Verified"), READY_WITHIN).await;
    // A new life has a new CA.
    let shop = collector(client, NAMESPACE, "shop").await;
    let after = shop.everything(&token(client, NAMESPACE, "auditor", &shop.audience).await).await;
    assert_eq!(after[..before.len()], before);
    // What came since is the record of the reading before.
    let since = &after[before.len()..];
    assert!(!since.is_empty() && written_by_clients(since).is_empty(), "{since:?}");
}

async fn a_deleted_trail_leaves_nothing(client: &Client) {
    let trails: Api<AuditTrail> = Api::namespaced(client.clone(), NAMESPACE);
    let patch = Patch::Merge(json!({"spec": {"deletionPolicy": "Delete"}}));
    trails.patch("shop", &PatchParams::default(), &patch).await.expect("accepted");
    delete_trail(client).await;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), NAMESPACE);
    let volumes: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), NAMESPACE);
    let bindings: Api<ClusterRoleBinding> = Api::all(client.clone());
    eventually("volume, Secrets and binding are gone", READY_WITHIN, || async {
        let volumes = volumes.list(&ListParams::default()).await.map_err(|error| error.to_string())?.items.len();
        let password = secrets.get_opt("shop-postgres").await.map_err(|error| error.to_string())?.is_some();
        let binding =
            bindings.get_opt("audittrail:lifecycle:shop:collector").await.map_err(|error| error.to_string())?.is_some();
        if (volumes, password, binding) == (0, false, false) {
            Ok(())
        } else {
            Err(format!("{volumes} volumes, password: {password}, binding: {binding}"))
        }
    })
    .await;
}

async fn delete_trail(client: &Client) {
    let trails: Api<AuditTrail> = Api::namespaced(client.clone(), NAMESPACE);
    trails.delete("shop", &DeleteParams::foreground()).await.expect("deleted");
    eventually("the trail is gone", READY_WITHIN, || async {
        match trails.get_opt("shop").await {
            Ok(None) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}
