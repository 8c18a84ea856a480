//! The load: connections which each send request after request and wait for every answer. Bytes are written and
//! read by hand, so that the client takes little of the machine it shares.

use super::collector::Collector;
use super::events::Events;
use crate::served::{OWNER, WRITE_KEY};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// A load.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Connections, each with one request at a time.
    pub connections: usize,
    /// Events of each request.
    pub events_a_request: usize,
}

/// What a run took.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Events stored.
    pub events: usize,
    /// Events stored a second.
    pub events_per_second: f64,
    /// 99 of 100 requests were answered within this; zero where it was not measured.
    pub p99: Duration,
    /// Processor time that the collector took.
    pub collector_cpu: Duration,
    /// Processor time that Postgres took.
    pub postgres_cpu: Duration,
}

impl Outcome {
    /// Of a run of so many events, with the time that each request took.
    pub fn of(events: usize, elapsed: Duration, mut requests: Vec<Duration>) -> Self {
        requests.sort_unstable();
        let p99 = requests.get(requests.len() * 99 / 100).copied().unwrap_or_default();
        #[expect(clippy::cast_precision_loss, reason = "counts of a benchmark are far below 2^52")]
        let events_per_second = events as f64 / elapsed.as_secs_f64();
        Self { events, events_per_second, p99, collector_cpu: Duration::ZERO, postgres_cpu: Duration::ZERO }
    }
}

/// Sends `events` events as fast as they are acknowledged, and waits until all are.
///
/// # Panics
/// When a request is not answered 200.
pub async fn run(collector: &Collector, load: Load, events: usize) -> Outcome {
    send(collector, load, events, Duration::ZERO).await
}

/// Sends `events` events at an even pace, and waits until all are acknowledged. What is late follows at once, so that the
/// pace is kept on average.
///
/// # Panics
/// When a request is not answered 200.
pub async fn run_at(collector: &Collector, load: Load, events: usize, events_per_second: f64) -> Outcome {
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    let pause = Duration::from_secs_f64(load.events_a_request as f64 / events_per_second);
    send(collector, load, events, pause).await
}

async fn send(collector: &Collector, load: Load, events: usize, pause: Duration) -> Outcome {
    let day = collector.stored().await / EVENTS_OF_A_DAY;
    let turns = Arc::new(Turns::new(events / load.events_a_request, pause));
    let mut connections = JoinSet::new();
    let (collector_before, postgres_before) = collector.processor_time();
    let begun = Instant::now();
    for _ in 0..load.connections {
        let events = Events::new(load.events_a_request, day);
        connections.spawn(connection(collector.address(), events, Arc::clone(&turns)));
    }
    let requests = connections.join_all().await.concat();
    let outcome = Outcome::of(requests.len() * load.events_a_request, begun.elapsed(), requests);
    let (collector_after, postgres_after) = collector.processor_time();
    Outcome {
        collector_cpu: collector_after.saturating_sub(collector_before),
        postgres_cpu: postgres_after.saturating_sub(postgres_before),
        ..outcome
    }
}

/// Which request is sent next, whichever connection is free.
#[derive(Debug)]
struct Turns {
    next: AtomicUsize,
    end: AtomicUsize,
    begun: Instant,
    /// From one request to the next.
    pause: Duration,
}

impl Turns {
    fn new(requests: usize, pause: Duration) -> Self {
        Self { next: AtomicUsize::new(0), end: AtomicUsize::new(requests), begun: Instant::now(), pause }
    }

    /// Waits until a request is due; false when none is left.
    async fn next(&self) -> bool {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        if number >= self.end.load(Ordering::Relaxed) {
            return false;
        }
        if !self.pause.is_zero() {
            let after = self.pause * u32::try_from(number).expect("a paced load is short");
            tokio::time::sleep_until((self.begun + after).into()).await;
        }
        true
    }

    fn stop(&self) {
        self.end.store(0, Ordering::Relaxed);
    }
}

/// A trail that grows does so over days, and ids stand under their day.
const EVENTS_OF_A_DAY: usize = 1_000_000;

/// A page of the newest events, as a list asks for it.
const PAGE: &str = "/v1/events?limit=100";

/// Bytes of an answer, at most: a page of events.
const ANSWER_MAX_BYTES: usize = 256 * 1024;

/// Requests that go on until they are stopped.
#[derive(Debug)]
pub struct Going {
    turns: Arc<Turns>,
    writes: JoinSet<Vec<Duration>>,
    reads: JoinSet<Vec<Duration>>,
}

/// Begins to write one event a request, and to read pages, on so many connections each.
pub fn go_on(collector: &Collector, connections: usize) -> Going {
    let turns = Arc::new(Turns::new(usize::MAX, Duration::ZERO));
    let mut going = Going { turns: Arc::clone(&turns), writes: JoinSet::new(), reads: JoinSet::new() };
    for _ in 0..connections {
        going.writes.spawn(connection(collector.address(), Events::new(1, 0), Arc::clone(&turns)));
        going.reads.spawn(reading(collector.address(), Arc::clone(&turns)));
    }
    going
}

impl Going {
    /// Stops, and gives the 99th percentile of the writes and of the reads.
    pub async fn stop(self) -> (Duration, Duration) {
        self.turns.stop();
        let p99 = |requests: Vec<Duration>| Outcome::of(requests.len(), Duration::from_secs(1), requests).p99;
        (p99(self.writes.join_all().await.concat()), p99(self.reads.join_all().await.concat()))
    }
}

async fn connection(address: String, mut events: Events, turns: Arc<Turns>) -> Vec<Duration> {
    let head = format!(
        "POST /v1/events HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {WRITE_KEY}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        events.body().len()
    );
    asking(&address, &turns, || [head.as_bytes(), events.next_body()].concat()).await
}

async fn reading(address: String, turns: Arc<Turns>) -> Vec<Duration> {
    let request = format!("GET {PAGE} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {OWNER}\r\n\r\n");
    asking(&address, &turns, || request.clone().into_bytes()).await
}

/// Sends request after request on one connection, as long as it gets a turn. Returns how long each took.
async fn asking(address: &str, turns: &Turns, mut next: impl FnMut() -> Vec<u8>) -> Vec<Duration> {
    let mut stream = TcpStream::connect(address).await.expect("the collector listens");
    stream.set_nodelay(true).expect("an option of a socket");
    let mut requests = Vec::new();
    let mut answer = vec![0; ANSWER_MAX_BYTES];
    while turns.next().await {
        let begun = Instant::now();
        let request = next();
        stream.write_all(&request).await.expect("the collector reads");
        read_answer(&mut stream, &mut answer).await;
        requests.push(begun.elapsed());
    }
    requests
}

/// Reads one answer with a content-length, which must be a 200.
async fn read_answer(stream: &mut TcpStream, buffer: &mut [u8]) {
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..]).await.expect("the collector answers");
        assert!(read > 0, "the collector closed the connection");
        filled += read;
        let Some(end) = buffer[..filled].windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = std::str::from_utf8(&buffer[..end]).expect("text");
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
        if filled - end - 4 >= length.parse::<usize>().expect("a number") {
            return;
        }
    }
}
