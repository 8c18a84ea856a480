//! The toggle takes effect within 2 s, on two replicas, with nothing lost.

use audittrail_crds::AuditForwarding;
use audittrail_tests::cluster::{
    self, READY_WITHIN, apply, collector, delete_namespace, eventually, received, secret_value, wait_ready, workspace,
};
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use std::time::{Duration, Instant};

const NAMESPACE: &str = "toggle";
const ROUNDS: usize = 5;

#[tokio::test(flavor = "multi_thread")]
async fn off_keeps_the_place_and_on_goes_on_from_there() {
    let client = cluster::client().await;
    delete_namespace(&client, NAMESPACE).await;
    apply(&client, &workspace(NAMESPACE)).await;
    wait_ready::<AuditForwarding>(&client, NAMESPACE, "to-source", ("True", "SourceAccepts"), READY_WITHIN).await;
    let collector = collector(&client, NAMESPACE, "toggle").await;
    let key = secret_value(&client, NAMESPACE, "toggle-write-key", "writeKey").await;
    let write = async |id: String| {
        let event = json!({"id": id, "type": "User Removed", "actor": {"type": "user", "id": "ada"}});
        assert!(collector.post(&key, "/v1/events", &event).await.expect("answered").status().is_success());
    };

    for round in 0..ROUNDS {
        let off = turn(&client, false).await;
        write(format!("off-{round}")).await;
        let on = turn(&client, true).await;
        let delivered = Instant::now();
        eventually("what was written while Off is delivered", READY_WITHIN, || async {
            if received(NAMESPACE).await?.iter().any(|event| event["eventId"] == json!(format!("off-{round}"))) {
                Ok(())
            } else {
                Err("not there".to_owned())
            }
        })
        .await;
        println!("round {round}: Off shown after {off:?}, On after {on:?}, delivered {:?} later", delivered.elapsed());
    }
    let received = received(NAMESPACE).await.expect("the source answers");
    let ids: Vec<&str> = received.iter().filter_map(|event| event["eventId"].as_str()).collect();
    assert_eq!(ids, (0..ROUNDS).map(|round| format!("off-{round}")).collect::<Vec<_>>());
    delete_namespace(&client, NAMESPACE).await;
}

/// Turns the forwarding On or Off and returns how long it took until the status says that it is done.
async fn turn(client: &Client, enabled: bool) -> Duration {
    let forwardings: Api<AuditForwarding> = Api::namespaced(client.clone(), NAMESPACE);
    let patch = Patch::Merge(json!({"spec": {"enabled": enabled}}));
    let begun = Instant::now();
    forwardings.patch("to-source", &PatchParams::default(), &patch).await.expect("accepted");
    let reason = if enabled { "SourceAccepts" } else { "Disabled" };
    wait_ready::<AuditForwarding>(client, NAMESPACE, "to-source", ("True", reason), READY_WITHIN).await;
    begun.elapsed()
}
