//! Writes events: to fill the log, and while it is queried.

use crate::http::Connection;
use crate::trail::Trail;
use audittrail_tests::bench::client::Load;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Large requests, as in `make bench-ingest`.
pub const LARGE: Load = Load { connections: 8, events_a_request: 500 };

/// One event a request.
pub const SINGLE: Load = Load { connections: 8, events_a_request: 1 };

/// Who comes later than this to a request does not make up for it.
const LATE_MAX: Duration = Duration::from_millis(200);

/// How fast events are written.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// As fast as they are acknowledged.
    Best,
    /// This many a second.
    EventsPerSecond(f64),
}

/// Threads that write.
#[derive(Debug)]
pub struct Writers {
    next: Arc<AtomicUsize>,
    first: usize,
    begun: Instant,
    threads: Vec<JoinHandle<()>>,
}

impl Writers {
    /// Begins to write these events of the trail, in whole requests.
    pub fn start(address: &str, trail: &Arc<Trail>, numbers: Range<usize>, load: Load, pace: Pace) -> Self {
        let next = Arc::new(AtomicUsize::new(numbers.start));
        let begun = Instant::now();
        let pause = pace.pause(load);
        let threads = (0_u32..)
            .take(load.connections)
            .map(|place| {
                let writer =
                    Writer { trail: Arc::clone(trail), next: Arc::clone(&next), end: numbers.end, load, pause };
                // One connection after the other.
                let due = begun + pause / u32::try_from(load.connections).unwrap_or(1) * place;
                let connection = Connection::open(address);
                thread::spawn(move || writer.write(connection, due))
            })
            .collect();
        Self { next, first: numbers.start, begun, threads }
    }

    /// Waits until all are stored.
    pub fn wait(self) {
        for thread in self.threads {
            thread.join().expect("every request is answered");
        }
    }

    /// Ends them, and gives the events stored a second.
    pub fn stop(self) -> f64 {
        // More than any end. A request that began before is still waited for, and not counted.
        let next = self.next.swap(usize::MAX / 2, Ordering::Relaxed);
        let elapsed = self.begun.elapsed();
        #[expect(clippy::cast_precision_loss, reason = "counts of a benchmark are far below 2^52")]
        let written = next.saturating_sub(self.first) as f64;
        self.wait();
        written / elapsed.as_secs_f64()
    }
}

impl Pace {
    /// From one request of a connection to its next.
    fn pause(self, load: Load) -> Duration {
        #[expect(clippy::cast_precision_loss, reason = "a small number")]
        let events = (load.events_a_request * load.connections) as f64;
        match self {
            Self::Best => Duration::ZERO,
            Self::EventsPerSecond(rate) => Duration::from_secs_f64(events / rate),
        }
    }
}

/// What each of the threads does.
#[derive(Debug)]
struct Writer {
    trail: Arc<Trail>,
    /// Of all threads.
    next: Arc<AtomicUsize>,
    end: usize,
    load: Load,
    pause: Duration,
}

impl Writer {
    fn write(self, mut connection: Connection, mut due: Instant) {
        loop {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            due = due.max(Instant::now().checked_sub(LATE_MAX).unwrap_or(due)) + self.pause;
            let first = self.next.fetch_add(self.load.events_a_request, Ordering::Relaxed);
            if first >= self.end {
                return;
            }
            connection.post(&self.trail.body(first, self.load.events_a_request));
        }
    }
}
