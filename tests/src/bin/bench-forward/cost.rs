//! What forwarding costs while events come in one by one, how soon they arrive, and what ten forwardings cost beside one.

use crate::source::{self, Inlet, Received};
use crate::throughput::each;
use crate::{BATCHES, Bench};
use audittrail_collector::store::block::BLOCK_EVENTS;
use audittrail_crds::document::StartFrom;
use audittrail_tests::bench::client::{self, Load};
use audittrail_tests::bench::table::Row;
use audittrail_tests::bench::times::Times;
use futures::future::join_all;
use std::time::Duration;

/// One event a request, as applications send them.
const SINGLES: Load = Load { connections: 16, events_a_request: 1 };

/// Events written a second.
const PACE: f64 = 1_000.0;

/// Forwardings that are compared with one.
const MANY: usize = 10;

/// Turns in which a machine that slows down or recovers meets each count alike.
const TURNS: [usize; 6] = [0, 1, MANY, MANY, 1, 0];

/// What turns with one count of forwardings took.
#[derive(Debug, Default)]
struct Taken {
    events: usize,
    collector: Duration,
    postgres: Duration,
    latencies: Vec<Duration>,
    events_per_second: Vec<f64>,
}

/// Forwards what is written at a pace: nothing, to one source, to ten.
pub async fn paced(bench: &Bench) -> Vec<Row> {
    let (mut none, mut one, mut many) = (Taken::default(), Taken::default(), Taken::default());
    for forwardings in TURNS {
        let taken = match forwardings {
            0 => &mut none,
            1 => &mut one,
            _ => &mut many,
        };
        turn(bench, forwardings, taken).await;
    }
    let ratio = many.beside(&none).as_secs_f64() / one.beside(&none).as_secs_f64();
    let pace = one.events_per_second.iter().copied().fold(f64::INFINITY, f64::min);
    let cost = |taken: &Taken| {
        format!("{:.0} µs of processor an event ({})", each(taken.beside(&none), taken.events), taken.told())
    };
    vec![
        Row::fact("accepted → received, 1,000 events/s", Times::of(one.latencies.clone()).to_string(), "p99 ≤ 250 ms"),
        Row::fact("… while events were written", format!("{pace:.0}/s"), "1,000/s"),
        Row::fact("… with ten forwardings", Times::of(many.latencies.clone()).to_string(), ""),
        Row::fact("1,000 events/s, no forwarding", none.told(), ""),
        Row::compared(
            "1,000 events/s, ten forwardings beside one: what comes on top",
            cost(&many),
            format!("{} (one)", cost(&one)),
            ratio,
            "< 3",
        ),
    ]
}

/// Writes at the pace with so many forwardings, until everything has arrived.
async fn turn(bench: &Bench, forwardings: usize, taken: &mut Taken) {
    let events = bench.settings.seconds * 1_000 / 2;
    make_room(bench, events).await;
    let inlets: Vec<Inlet> = (0..forwardings).map(|_| bench.source.open(Duration::ZERO)).collect();
    bench.collector.forward(inlets.iter().map(|inlet| inlet.forwarding(StartFrom::Now)).collect());
    join_all(inlets.iter().map(Inlet::until_requested)).await;
    let before = bench.collector.processor_time();
    let written = client::run_at(&bench.collector, SINGLES, events, PACE).await;
    join_all(inlets.iter().map(|inlet| inlet.until_received(events))).await;
    let after = bench.collector.processor_time();
    bench.collector.forward(Vec::new());
    taken.events += events;
    taken.collector += after.0.saturating_sub(before.0);
    taken.postgres += after.1.saturating_sub(before.1);
    taken.latencies.extend(inlets.iter().flat_map(|inlet| inlet.take().latencies));
    taken.events_per_second.push(written.events_per_second);
    println!("{forwardings} forwardings: {}", taken.told());
}

/// Makes sure that no block is written down during a turn: it would be the work of only one of them.
async fn make_room(bench: &Bench, events: usize) {
    let block = usize::try_from(BLOCK_EVENTS).expect("a small number");
    let open = bench.collector.stored().await % block;
    if open + events > block {
        client::run(&bench.collector, BATCHES, (block - open).next_multiple_of(BATCHES.events_a_request)).await;
    }
    bench.collector.until_blocks_are_written_down().await;
}

impl Taken {
    fn all(&self) -> Duration {
        self.collector + self.postgres
    }

    /// What comes on top of another.
    fn beside(&self, other: &Self) -> Duration {
        self.all().saturating_sub(other.all())
    }

    fn told(&self) -> String {
        let (collector, postgres) = (each(self.collector, self.events), each(self.postgres, self.events));
        format!("collector {collector:.0}, Postgres {postgres:.0} µs of processor an event in all")
    }
}

/// What ten forwardings take that all begin with the same stored events, beside one.
pub async fn backlog(bench: &Bench) -> Row {
    let events = bench.settings.events / 3;
    let (one, one_rate) = catch_up(bench, 1, events).await;
    let (many, many_rate) = catch_up(bench, MANY, events).await;
    let told = |taken: Duration, rate: f64| {
        format!("{rate:.0} deliveries/s; {:.1} µs of processor for each of the events", each(taken, events))
    };
    Row::compared(
        &format!("{} thousand stored events, ten forwardings at once beside one", events / 1_000),
        told(many, many_rate),
        format!("{} (one)", told(one, one_rate)),
        many.as_secs_f64() / one.as_secs_f64(),
        "",
    )
}

/// Processor time of collector and Postgres, and deliveries a second.
async fn catch_up(bench: &Bench, forwardings: usize, events: usize) -> (Duration, f64) {
    let first = bench.collector.stored().await - events;
    let start = StartFrom::Sequence(i64::try_from(first).expect("a count"));
    let inlets: Vec<Inlet> = (0..forwardings).map(|_| bench.source.open(Duration::ZERO)).collect();
    let before = bench.collector.processor_time();
    bench.collector.forward(inlets.iter().map(|inlet| inlet.forwarding(start.clone())).collect());
    join_all(inlets.iter().map(|inlet| inlet.until_received(events))).await;
    let after = bench.collector.processor_time();
    bench.collector.forward(Vec::new());
    let taken = after.0.saturating_sub(before.0) + after.1.saturating_sub(before.1);
    let received: Vec<Received> = inlets.iter().map(Inlet::take).collect();
    (taken, source::events_per_second(&received))
}
