//! Everything is killed, again and again, while clients write: what was acknowledged is in the
//! trail, once and in order, and the source has each of it.

use audittrail_crds::{AuditForwarding, AuditTrail};
use audittrail_tests::cluster::{
    self, Collector, READY_WITHIN, apply, collector, delete_namespace, eventually, kill9, received, secret_value,
    token, wait_ready, workspace, written_by_clients,
};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::time::sleep;

const NAMESPACE: &str = "kills";
/// Kills of each kind of victim: 24 in all, and the issue asks for 20.
const ROUNDS: usize = 6;
const CLIENTS: usize = 4;
/// At most this long between one kill and the next; the moment is random.
const PAUSE_MAX: Duration = Duration::from_secs(4);

/// What is killed, by namespace and label.
const VICTIMS: [(&str, &str, &str); 3] = [
    ("collector", NAMESPACE, "app.kubernetes.io/component=collector"),
    ("Postgres", NAMESPACE, "app.kubernetes.io/component=postgres"),
    ("operator", "audittrail-system", "app.kubernetes.io/name=audittrail-operator"),
];

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_or_doubled_under_kills() {
    let client = cluster::client().await;
    delete_namespace(&client, NAMESPACE).await;
    apply(&client, &workspace(NAMESPACE)).await;
    wait_ready::<AuditTrail>(&client, NAMESPACE, "kills", ("True", "Verified"), READY_WITHIN).await;
    wait_ready::<AuditForwarding>(&client, NAMESPACE, "to-source", ("True", "SourceAccepts"), READY_WITHIN).await;

    let load = Load::start(&client).await;
    let killed = kill_at_random(&client, &load).await;
    let acknowledged = load.stop().await;
    println!("{killed} kills, {} events acknowledged", acknowledged.len());
    assert!(killed >= 20, "only {killed} kills");

    let recovery = Instant::now();
    // Counts as of now: a status from before the last kill would be Ready, too.
    let stored = i64::try_from(acknowledged.len()).expect("small");
    eventually("the status of the trail is Ready and of now", READY_WITHIN, || async {
        let trail: AuditTrail = wait_ready(&client, NAMESPACE, "kills", ("True", "Verified"), READY_WITHIN).await;
        let events = trail.status.and_then(|status| status.events);
        if events == Some(stored) { Ok(()) } else { Err(format!("{events:?} events")) }
    })
    .await;
    eventually("the status of the forwarding is Ready and of now", READY_WITHIN, || async {
        let forwarding: AuditForwarding =
            wait_ready(&client, NAMESPACE, "to-source", ("True", "SourceAccepts"), READY_WITHIN).await;
        let delivered = forwarding.status.and_then(|status| status.delivered);
        if delivered == Some(stored) { Ok(()) } else { Err(format!("{delivered:?} delivered")) }
    })
    .await;
    println!("Ready again, and all delivered, after {:?}", recovery.elapsed());

    let collector = collector(&client, NAMESPACE, "kills").await;
    let owner = token(&client, NAMESPACE, "kills-owner", &collector.audience).await;
    let trail = collector.everything(&owner).await;
    assert_in_order(&trail);
    let written = written_by_clients(&trail);
    assert_eq!(ids(&written, "id"), acknowledged, "the trail is not what was acknowledged");
    assert_eq!(written.len(), acknowledged.len(), "an event stands twice");

    // After everything else comes the record of this reading.
    let received = eventually("the source has every event, and who looked", READY_WITHIN, || async {
        let received = received(NAMESPACE).await?;
        if received.len() > trail.len() { Ok(received) } else { Err(format!("{} events", received.len())) }
    })
    .await;
    assert_eq!(ids(&received[..trail.len()], "eventId"), ids(&trail, "id"), "the source has other events");
    assert!(received.iter().all(|event| event["contentChanged"] == json!(false)), "an event came with two contents");
    delete_namespace(&client, NAMESPACE).await;
}

/// Clients that write one event after the other, each until it is acknowledged.
struct Load {
    clients: Vec<tokio::task::JoinHandle<BTreeSet<String>>>,
    acknowledged: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

impl Load {
    async fn start(client: &Client) -> Self {
        let key = secret_value(client, NAMESPACE, "kills-write-key", "writeKey").await;
        let acknowledged = Arc::new(AtomicUsize::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let mut clients = Vec::new();
        for number in 0..CLIENTS {
            let collector = collector(client, NAMESPACE, "kills").await;
            clients.push(tokio::spawn(write(
                collector,
                key.clone(),
                number,
                Arc::clone(&acknowledged),
                Arc::clone(&stop),
            )));
        }
        Self { clients, acknowledged, stop }
    }

    async fn stop(self) -> BTreeSet<String> {
        self.stop.store(true, Ordering::Relaxed);
        let mut acknowledged = BTreeSet::new();
        for client in self.clients {
            acknowledged.extend(client.await.expect("the client ran to its end"));
        }
        acknowledged
    }
}

/// Returns the ids that were acknowledged; each also stands in a file from the moment it was.
async fn write(
    collector: Collector,
    key: String,
    number: usize,
    acknowledged: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
) -> BTreeSet<String> {
    let path = std::env::temp_dir().join(format!("audittrail-acknowledged-{number}"));
    let mut file = File::create(&path).expect("a file can be made");
    let mut ids = BTreeSet::new();
    for count in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let id = format!("load-{number}-{count}");
        let event = json!({
            "id": id, "timestamp": "2026-11-23T09:00:00Z", "type": "Permission Check",
            "actor": {"type": "accessToken", "id": format!("client-{number}")},
        });
        eventually(&format!("{id} is acknowledged"), READY_WITHIN, || async {
            let answer = collector.post(&key, "/v1/events", &event).await.map_err(|error| error.to_string())?;
            match answer.status().as_u16() {
                200 => Ok(()),
                503 | 429 => Err(answer.status().to_string()),
                other => panic!("{id}: {other} {}", answer.text().await.unwrap_or_default()),
            }
        })
        .await;
        writeln!(file, "{id}").expect("the file takes a line");
        ids.insert(id);
        acknowledged.fetch_add(1, Ordering::Relaxed);
    }
    let _ = std::fs::remove_file(path);
    ids
}

/// Kills one victim after the other at random moments, the load going on. Returns how many kills hit.
async fn kill_at_random(client: &Client, load: &Load) -> usize {
    let mut killed = 0;
    for round in 0..ROUNDS {
        for (index, (what, namespace, label)) in VICTIMS.iter().enumerate() {
            // Both replicas of the collector have their turn.
            for victim in 0..if index == 0 { 2 } else { 1 } {
                let moment = Duration::from_millis(
                    u64::from(rand::random::<u16>()) % u64::try_from(PAUSE_MAX.as_millis()).expect("small"),
                );
                sleep(moment).await;
                let before = load.acknowledged.load(Ordering::Relaxed);
                let pod = running(client, namespace, label, victim).await;
                let processes = kill9(&pod);
                println!(
                    "round {round}: {what} {} killed ({processes} processes) after {before} events",
                    pod.name_any()
                );
                killed += usize::from(processes > 0);
            }
        }
    }
    killed
}

/// A pod whose container runs, the `index`th by name.
async fn running(client: &Client, namespace: &str, label: &str, index: usize) -> Pod {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    eventually(&format!("a running pod {label}"), READY_WITHIN, || async {
        let mut found = pods.list(&ListParams::default().labels(label)).await.map_err(|error| error.to_string())?.items;
        found.retain(|pod| {
            let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
            statuses.is_some_and(|all| {
                all.iter().all(|one| one.state.as_ref().is_some_and(|state| state.running.is_some()))
            })
        });
        found.sort_by_key(ResourceExt::name_any);
        let count = found.len();
        found.into_iter().nth(index).ok_or(format!("{count} running"))
    })
    .await
}

fn assert_in_order(trail: &[Value]) {
    let sequences: Vec<i64> = trail.iter().map(|event| event["sequence"].as_i64().expect("a number")).collect();
    let expected: Vec<i64> = (0..).take(trail.len()).collect();
    assert_eq!(sequences, expected, "the log has gaps");
}

fn ids(events: &[Value], member: &str) -> BTreeSet<String> {
    events.iter().map(|event| event[member].as_str().expect("an id").to_owned()).collect()
}
