//! A toggle, a key and a filter take effect on every replica without a restart, and the source shows it. How long the slower
//! replica takes from the moment of the change is printed: the worst and the median of [`ROUNDS`].

use audittrail_crds::AuditForwarding;
use audittrail_tests::cluster::{
    self, Collector, READY_WITHIN, apply, collector, collector_at, delete_namespace, eventually, received,
    secret_value, token, wait_ready, workspace,
};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const NAMESPACE: &str = "effects";
const ROUNDS: usize = 20;
/// Keys, toggles and filters alternate between two states, so that each round is a change.
const STATES: [usize; 2] = [0, 1];

/// Owners see events, and this one how the replicas are, too.
const HEALTH: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: health, namespace: effects}
rules: [{apiGroups: [audittrail.dev], resources: [audittrails/health], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: health, namespace: effects}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: health}
subjects: [{kind: ServiceAccount, name: effects-owner, namespace: effects}]
";

/// The examples' workspace with two replicas, and a source that takes every key and remembers which.
struct Effects {
    client: Client,
    service: Collector,
    replicas: Vec<Collector>,
    owner: String,
    write_key: String,
    written: usize,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_toggle_a_key_and_a_filter_reach_every_replica_and_the_source() {
    let mut effects = Effects::set_up().await;
    let pods = effects.pods().await;
    let mut took: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
    for round in 0..ROUNDS {
        let state = STATES[round % 2];
        let off = effects.change_spec(&json!({"enabled": false})).await;
        took.entry("Off").or_default().push(off);
        let kept = effects.write("User Removed").await;
        took.entry("key").or_default().push(effects.change_key(&format!("key-{state}")).await);
        let left_out = ["Permission Check", "Warehouse Disabled"][state];
        let filter = json!({"filter": {"exclude": [{"type": [left_out]}]}});
        took.entry("filter").or_default().push(effects.change_spec(&filter).await);
        effects.never_arrives(&kept).await;
        took.entry("On").or_default().push(effects.change_spec(&json!({"enabled": true})).await);
        // What waited goes out with the new key and by the new filter, and so does what comes now.
        assert_eq!(effects.arrives(&kept).await["writeKey"], format!("key-{state}"));
        let refused = effects.write(left_out).await;
        let taken = effects.write(["Warehouse Disabled", "Permission Check"][state]).await;
        assert_eq!(effects.arrives(&taken).await["writeKey"], format!("key-{state}"));
        effects.never_arrives(&refused).await;
    }
    for (change, mut took) in took {
        took.sort_unstable();
        println!(
            "{change}: applied by the slower of two replicas after {:?} (median), {:?} (worst of {ROUNDS})",
            took[ROUNDS / 2],
            took[ROUNDS - 1]
        );
    }
    assert_eq!(effects.pods().await, pods, "a pod was restarted or replaced");
    delete_namespace(&effects.client, NAMESPACE).await;
}

impl Effects {
    async fn set_up() -> Self {
        let client = cluster::client().await;
        delete_namespace(&client, NAMESPACE).await;
        let key_of_source = "            - {name: WRITE_KEY, value: demo-source-key}\n";
        let yaml = workspace(NAMESPACE);
        assert!(yaml.contains(key_of_source), "the example has another form");
        apply(&client, &yaml.replace(&format!("          env:\n{key_of_source}"), "")).await;
        wait_ready::<AuditForwarding>(&client, NAMESPACE, "to-source", ("True", "SourceAccepts"), READY_WITHIN).await;
        apply(&client, HEALTH).await;
        let service = collector(&client, NAMESPACE, NAMESPACE).await;
        let owner = token(&client, NAMESPACE, &format!("{NAMESPACE}-owner"), &service.audience).await;
        let write_key = secret_value(&client, NAMESPACE, &format!("{NAMESPACE}-write-key"), "writeKey").await;
        let mut replicas = Vec::new();
        for pod in collectors(&client).await {
            let address = pod.status.and_then(|status| status.pod_ip).expect("a Ready pod has an address");
            let address = address.parse().expect("an IP address");
            replicas.push(collector_at(&client, NAMESPACE, NAMESPACE, address).await);
        }
        assert_eq!(replicas.len(), 2);
        Self { client, service, replicas, owner, write_key, written: 0 }
    }

    /// Each collector pod, with how often its containers were restarted.
    async fn pods(&self) -> Vec<(Option<String>, i32)> {
        let restarts = |pod: &Pod| {
            let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
            statuses.into_iter().flatten().map(|status| status.restart_count).sum()
        };
        collectors(&self.client).await.iter().map(|pod| (pod.uid(), restarts(pod))).collect()
    }

    /// Changes the forwarding, and returns how long it took until every replica had applied it.
    async fn change_spec(&self, spec: &Value) -> Duration {
        let forwardings: Api<AuditForwarding> = Api::namespaced(self.client.clone(), NAMESPACE);
        let before = self.generations().await;
        let begun = Instant::now();
        let patch = Patch::Merge(json!({ "spec": spec }));
        forwardings.patch("to-source", &PatchParams::default(), &patch).await.expect("accepted");
        self.applied(&before, begun).await
    }

    /// Changes the write key in its Secret.
    async fn change_key(&self, key: &str) -> Duration {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), NAMESPACE);
        let before = self.generations().await;
        let begun = Instant::now();
        let patch = Patch::Merge(json!({"stringData": {"writeKey": key}}));
        secrets.patch("audit-source", &PatchParams::default(), &patch).await.expect("accepted");
        self.applied(&before, begun).await
    }

    /// Generation of the document that each replica has applied.
    async fn generations(&self) -> Vec<i64> {
        let of = |replica: Collector| async move {
            eventually("a replica answers", READY_WITHIN, || async {
                let answer = replica.get(&self.owner, "/v1/status").await.map_err(|error| error.to_string())?;
                let report: Value = answer.json().await.map_err(|error| error.to_string())?;
                report["generation"].as_i64().ok_or_else(|| report.to_string())
            })
            .await
        };
        futures::future::join_all(self.replicas.iter().cloned().map(of)).await
    }

    async fn applied(&self, before: &[i64], begun: Instant) -> Duration {
        loop {
            let now = self.generations().await;
            if now.iter().zip(before).all(|(now, before)| now > before) {
                return begun.elapsed();
            }
            assert!(begun.elapsed() < READY_WITHIN, "not applied: {before:?}, now {now:?}");
        }
    }

    /// Writes an event of this type and returns its id.
    async fn write(&mut self, r#type: &str) -> String {
        self.written += 1;
        let id = format!("evt-{}", self.written);
        let event = json!({"id": id, "type": r#type, "actor": {"type": "user", "id": "ada"}});
        let answer = self.service.post(&self.write_key, "/v1/events", &event).await.expect("answered");
        assert!(answer.status().is_success(), "{}", answer.status());
        id
    }

    /// Waits until the source has this event.
    async fn arrives(&self, id: &str) -> Value {
        eventually(&format!("{id} is at the source"), READY_WITHIN, || async {
            received(NAMESPACE).await?.into_iter().find(|event| event["eventId"] == id).ok_or("not there".to_owned())
        })
        .await
    }

    /// The source does not have this event now, though the trail has later ones or forwarding is Off.
    async fn never_arrives(&self, id: &str) {
        let received = received(NAMESPACE).await.expect("the source answers");
        assert!(received.iter().all(|event| event["eventId"] != id), "{id} was sent");
    }
}

async fn collectors(client: &Client) -> Vec<Pod> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let label = format!("app.kubernetes.io/component=collector,app.kubernetes.io/instance={NAMESPACE}");
    let mut pods = pods.list(&ListParams::default().labels(&label)).await.expect("listed").items;
    pods.sort_by_key(ResourceExt::name_any);
    pods
}
