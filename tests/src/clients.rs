//! Clients that write to a collector without pause, and remember what was acknowledged.

use crate::served::{DEADLINE, Served, WRITE_KEY, body};
use reqwest::header::RETRY_AFTER;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Pause of a client after a 503, and between two looks at something which is waited for.
const PAUSE: Duration = Duration::from_millis(20);

/// No request may take longer: the writer gives up after 15 s, and a request may wait for the group before its own.
const ANSWER_DEADLINE: Duration = Duration::from_secs(40);

/// Ids with their sequences.
pub type Acknowledged = BTreeMap<String, i64>;

/// Running clients.
pub struct Clients {
    tasks: Vec<JoinHandle<Acknowledged>>,
    stop: watch::Sender<bool>,
    acknowledged: Arc<AtomicUsize>,
    refused: Arc<AtomicUsize>,
}

/// What one client knows.
struct Client {
    http: reqwest::Client,
    address: SocketAddr,
    stopped: watch::Receiver<bool>,
    acknowledged: Arc<AtomicUsize>,
    refused: Arc<AtomicUsize>,
    details: Value,
}

impl Clients {
    /// Starts clients whose ids begin with `name`. Each writes one event after the other, and each event until it is
    /// acknowledged. Any answer but 200, and 503 with `Retry-After`, is a failure.
    pub fn start(served: &Served, name: &str, count: usize) -> Self {
        Self::start_with_details(served, name, count, &json!({}))
    }

    /// The same with events that carry these details.
    pub fn start_with_details(served: &Served, name: &str, count: usize, details: &Value) -> Self {
        let stop = watch::Sender::new(false);
        let acknowledged = Arc::new(AtomicUsize::new(0));
        let refused = Arc::new(AtomicUsize::new(0));
        let tasks = (0..count).map(|number| {
            let client = Client {
                http: served.client.clone(),
                address: served.address,
                stopped: stop.subscribe(),
                acknowledged: Arc::clone(&acknowledged),
                refused: Arc::clone(&refused),
                details: details.clone(),
            };
            tokio::spawn(client.run(format!("{name}-{number}")))
        });
        Self { tasks: tasks.collect(), stop, acknowledged, refused }
    }

    /// Events acknowledged so far.
    pub fn acknowledged(&self) -> usize {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits until so many more events are acknowledged, and says how long that took.
    pub async fn acknowledge(&self, more: usize) -> Duration {
        let goal = self.acknowledged() + more;
        self.until("events are acknowledged", || self.acknowledged() >= goal).await
    }

    /// Waits until one more request is refused, and says how long that took.
    pub async fn refused(&self) -> Duration {
        let goal = self.refused.load(Ordering::Relaxed) + 1;
        self.until("a request is refused", || self.refused.load(Ordering::Relaxed) >= goal).await
    }

    async fn until(&self, what: &str, reached: impl Fn() -> bool) -> Duration {
        let begun = Instant::now();
        while !reached() {
            assert!(begun.elapsed() < DEADLINE, "waited in vain until {what}");
            let all_run = !self.tasks.iter().any(JoinHandle::is_finished);
            assert!(all_run, "a client ended before {what}: its own words are above");
            tokio::time::sleep(PAUSE).await;
        }
        begun.elapsed()
    }

    /// Lets each client finish its event, and gives what was acknowledged to all.
    pub async fn stop(self) -> Acknowledged {
        self.stop.send_replace(true);
        let mut all = Acknowledged::new();
        for task in self.tasks {
            all.extend(task.await.expect("no client fails"));
        }
        all
    }
}

impl Client {
    async fn run(self, name: String) -> Acknowledged {
        let mut acknowledged = Acknowledged::new();
        for number in 0.. {
            if *self.stopped.borrow() {
                break;
            }
            let id = format!("{name}-{number}");
            let sequence = self.write(&id).await;
            self.acknowledged.fetch_add(1, Ordering::Relaxed);
            acknowledged.insert(id, sequence);
        }
        acknowledged
    }

    /// Sends an event until it is acknowledged. Its timestamp makes it a duplicate whenever it comes again.
    async fn write(&self, id: &str) -> i64 {
        let event = json!({
            "id": id, "timestamp": "2026-03-02T09:14:05Z", "type": "Warehouse Disabled",
            "actor": {"type": "system", "id": "test"}, "details": self.details,
        });
        let url = format!("http://{}/v1/events", self.address);
        loop {
            let request = self.http.post(&url).bearer_auth(WRITE_KEY).json(&event).timeout(ANSWER_DEADLINE);
            let answer = request.send().await.expect("every request is answered in time");
            let status = answer.status();
            let retry_after = answer.headers().get(RETRY_AFTER).cloned();
            let said = body(answer).await;
            if status == 200 {
                return said["lastSequence"].as_i64().expect("a sequence");
            }
            assert_eq!(status, 503, "{said}");
            assert!(retry_after.is_some(), "a 503 says when to try again: {said}");
            self.refused.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// What was acknowledged stands in the log under its sequence; the log has no gap and no id twice.
pub async fn assert_kept(uri: &str, acknowledged: &Acknowledged) {
    assert!(!acknowledged.is_empty(), "nothing was acknowledged");
    let mut connection = PgConnection::connect(uri).await.expect("the database answers");
    let rows: Vec<(i64, String)> = sqlx::query_as("SELECT sequence, id FROM event ORDER BY sequence")
        .fetch_all(&mut connection)
        .await
        .expect("readable");
    let sequences: Vec<i64> = rows.iter().map(|(sequence, _)| *sequence).collect();
    assert_eq!(sequences, (0..).take(rows.len()).collect::<Vec<i64>>(), "the log has a gap");
    let count = rows.len();
    let stored: Acknowledged = rows.into_iter().map(|(sequence, id)| (id, sequence)).collect();
    assert_eq!(stored.len(), count, "an id stands twice");
    for (id, sequence) in acknowledged {
        assert_eq!(stored.get(id), Some(sequence), "{id} was acknowledged");
    }
}
