//! The source: an HTTP server on a thread of its own, like a machine with one core. It parses every item, and looks whether
//! its `messageId` came before.

use audittrail_crds::document::{Forwarding, Sensitive, StartFrom};
use audittrail_tests::bench::processor::Thread;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::post;
use jiff::Timestamp;
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::time::sleep;
use uuid::Uuid;

/// The write key of every forwarding; the source does not look at it.
pub const KEY: &str = "bench-key";

/// How long what is waited for may take.
const DEADLINE: Duration = Duration::from_mins(3);

const POLL: Duration = Duration::from_millis(5);

/// A running source; it ends with this program.
#[derive(Debug)]
pub struct Source {
    address: SocketAddr,
    inlets: Inlets,
    thread: Thread,
}

type Inlets = Arc<Mutex<HashMap<String, Inlet>>>;

/// One base URL of the source.
#[derive(Clone, Debug)]
pub struct Inlet {
    /// What stands in the URL; the forwarding has the same name.
    name: String,
    address: SocketAddr,
    /// From the parsed request to its answer.
    answer_after: Duration,
    received: Arc<Mutex<Received>>,
}

/// What came to an inlet.
#[derive(Debug, Default)]
pub struct Received {
    /// Requests, empty ones included.
    pub requests: usize,
    /// Items of each request that had any.
    pub bodies: Vec<usize>,
    /// Items whose `messageId` had come before.
    pub repeated: usize,
    /// From `receivedAt` of each item to its arrival.
    pub latencies: Vec<Duration>,
    /// Bytes of the requests with items.
    pub bytes: usize,
    ids: HashSet<Uuid>,
    span: Option<Span>,
}

/// When bodies came.
#[derive(Clone, Copy, Debug)]
struct Span {
    first: Instant,
    last: Instant,
    /// Items of the first.
    first_items: usize,
}

#[derive(Deserialize)]
struct Batch<'a> {
    #[serde(borrow)]
    batch: Vec<Item<'a>>,
}

/// All members of these have to be there, and to be of their types.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Item<'a> {
    message_id: Uuid,
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(borrow)]
    user_id: Cow<'a, str>,
    #[serde(borrow)]
    properties: Properties<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Properties<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    received_at: Timestamp,
}

impl Source {
    /// Starts a source on a free port of 127.0.0.1.
    pub fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
        listener.set_nonblocking(true).expect("an option of a socket");
        let address = listener.local_addr().expect("a bound socket has an address");
        let inlets = Inlets::default();
        let routes = Router::new().route("/{name}/v1/batch", post(batch)).with_state(Arc::clone(&inlets));
        let (started, thread) = mpsc::channel();
        std::thread::spawn(move || {
            started.send(Thread::current()).expect("somebody waits for it");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
                axum::serve(listener, routes).await.expect("it serves for ever");
            });
        });
        Self { address, inlets, thread: thread.recv().expect("the thread starts") }
    }

    /// A new base URL, at which requests are answered after this time.
    pub fn open(&self, answer_after: Duration) -> Inlet {
        let mut inlets = locked(&self.inlets);
        let name = format!("forwarding-{}", inlets.len());
        let inlet = Inlet { name: name.clone(), address: self.address, answer_after, received: Arc::default() };
        inlets.insert(name, inlet.clone());
        inlet
    }

    /// Processor time that the source has taken so far.
    pub fn processor_time(&self) -> Duration {
        self.thread.taken()
    }
}

impl Inlet {
    /// Where bodies are posted to.
    pub fn url(&self) -> String {
        format!("{}/v1/batch", self.endpoint())
    }

    fn endpoint(&self) -> String {
        format!("http://{}/{}", self.address, self.name)
    }

    /// A forwarding to it.
    pub fn forwarding(&self, start_from: StartFrom) -> Forwarding {
        Forwarding { start_from, ..Forwarding::new(&self.name, self.endpoint(), Sensitive::new(KEY)) }
    }

    /// What came. The inlet begins anew.
    pub fn take(&self) -> Received {
        std::mem::take(&mut *locked(&self.received))
    }

    /// Waits until the source is known to whoever sends to it.
    pub async fn until_requested(&self) {
        self.until("a request", |received| received.requests > 0).await;
    }

    /// Waits until so many different events came.
    pub async fn until_received(&self, events: usize) {
        self.until(&format!("{events} events"), |received| received.events() >= events).await;
    }

    async fn until(&self, what: &str, condition: impl Fn(&Received) -> bool) {
        let begun = Instant::now();
        while !condition(&locked(&self.received)) {
            let came = locked(&self.received).events();
            assert!(begun.elapsed() < DEADLINE, "{} waited in vain for {what}; {came} events came", self.name);
            sleep(POLL).await;
        }
    }

    fn add(&self, bytes: usize, items: &[Item<'_>], arrived: (Instant, Timestamp)) {
        let mut received = locked(&self.received);
        received.requests += 1;
        if items.is_empty() {
            return;
        }
        received.bodies.push(items.len());
        received.bytes += bytes;
        let (moment, time) = arrived;
        let span = received.span.get_or_insert(Span { first: moment, last: moment, first_items: items.len() });
        span.last = moment;
        for item in items {
            // Both clocks are this machine's.
            received.latencies.push(time.duration_since(item.properties.received_at).unsigned_abs());
            if !received.ids.insert(item.message_id) {
                received.repeated += 1;
            }
        }
    }
}

impl Received {
    /// Different events.
    pub fn events(&self) -> usize {
        self.ids.len()
    }
}

/// From the first body at any of these inlets to the last. The first one's events are not counted: nobody saw when sending it
/// began.
pub fn events_per_second(all: &[Received]) -> f64 {
    let spans = all.iter().filter_map(|received| received.span);
    let Some(first) = spans.clone().min_by_key(|span| span.first) else { return 0.0 };
    let last = spans.map(|span| span.last).max().unwrap_or(first.last);
    let events: usize = all.iter().map(Received::events).sum();
    count(events - first.first_items) / last.duration_since(first.first).as_secs_f64()
}

/// A number to calculate with.
pub fn count(events: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "counts of a benchmark are far below 2^52")]
    let count = events as f64;
    count
}

async fn batch(
    State(inlets): State<Inlets>,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<&'static str, (StatusCode, String)> {
    let arrived = (Instant::now(), Timestamp::now());
    let inlet = locked(&inlets).get(&name).cloned().ok_or((StatusCode::NOT_FOUND, String::new()))?;
    inlet.add(body.len(), &parse(&body).map_err(|error| (StatusCode::BAD_REQUEST, error))?, arrived);
    if !inlet.answer_after.is_zero() {
        sleep(inlet.answer_after).await;
    }
    Ok(r#"{"success":true}"#)
}

fn parse(body: &[u8]) -> Result<Vec<Item<'_>>, String> {
    let Batch { batch } = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let empty = |item: &Item<'_>| item.event.is_empty() || item.user_id.is_empty() || item.properties.id.is_empty();
    if batch.iter().any(empty) {
        return Err("event, userId or properties.id is empty".to_owned());
    }
    Ok(batch)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
