//! How fast what is stored is sent: the baseline and a forwarding by turns.

use crate::Bench;
use crate::baseline;
use crate::source::{self, Received, count};
use audittrail_crds::document::StartFrom;
use audittrail_tests::bench::table::Row;
use std::fmt;
use std::time::Duration;

/// What a run took.
#[derive(Debug)]
struct Run {
    received: Received,
    /// Processor time of who sent: the collector, or the loop.
    sender: Duration,
    postgres: Duration,
    source: Duration,
}

/// Pairs of runs to a source that answers after a time. Each pair has a ratio of its own, so that what else the machine does
/// meets both.
pub async fn compare(bench: &Bench, what: &str, answer_after: Duration, aim: &'static str) -> Vec<Row> {
    let (mut loops, mut ours, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..bench.settings.runs {
        let one = forwarding(bench, answer_after).await;
        let other = baseline(bench, answer_after, &one).await;
        println!("{what}: {one}; the loop: {other}");
        ratios.push(one.events_per_second() / other.events_per_second());
        ours.push(one);
        loops.push(other);
    }
    let repeated: usize = ours.iter().map(|run| run.received.repeated).sum();
    let source = median(ours.iter().map(|run| each(run.source, run.received.events())).collect());
    vec![
        Row::compared(what, in_the_middle(ours).to_string(), in_the_middle(loops).to_string(), median(ratios), aim),
        Row::fact("… events that came twice", repeated.to_string(), "0"),
        Row::fact(
            "… what the source itself takes",
            format!("{source:.1} µs of processor an event: at most {:.0} thousand/s come in", 1e3 / source),
            "",
        ),
    ]
}

/// One run of each that nobody looks at: it reads pages into memory.
pub async fn warm_up(bench: &Bench) {
    let one = forwarding(bench, Duration::ZERO).await;
    baseline(bench, Duration::ZERO, &one).await;
}

/// The loop sends the same batches as the forwarding did.
async fn baseline(bench: &Bench, answer_after: Duration, forwarding: &Run) -> Run {
    let inlet = bench.source.open(answer_after);
    let (postgres, source) = (bench.collector.processor_time().1, bench.source.processor_time());
    let sender = baseline::run(&bench.collector, &inlet, forwarding.received.bodies.clone()).await;
    Run {
        received: inlet.take(),
        sender,
        postgres: bench.collector.processor_time().1.saturating_sub(postgres),
        source: bench.source.processor_time().saturating_sub(source),
    }
}

async fn forwarding(bench: &Bench, answer_after: Duration) -> Run {
    let inlet = bench.source.open(answer_after);
    let stored = bench.collector.stored().await;
    let (before, source) = (bench.collector.processor_time(), bench.source.processor_time());
    bench.collector.forward(vec![inlet.forwarding(StartFrom::Beginning)]);
    inlet.until_received(stored).await;
    let after = bench.collector.processor_time();
    let source = bench.source.processor_time().saturating_sub(source);
    bench.collector.forward(Vec::new());
    Run {
        received: inlet.take(),
        sender: after.0.saturating_sub(before.0),
        postgres: after.1.saturating_sub(before.1),
        source,
    }
}

impl Run {
    fn events_per_second(&self) -> f64 {
        source::events_per_second(std::slice::from_ref(&self.received))
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (events, bodies) = (self.received.events(), self.received.bodies.len());
        write!(
            f,
            "{:.0}/s, {} events and {} KB a body; {:.1} + {:.1} µs of processor an event",
            self.events_per_second(),
            events / bodies,
            self.received.bytes / bodies / 1000,
            each(self.sender, events),
            each(self.postgres, events)
        )
    }
}

/// Microseconds an event.
pub fn each(taken: Duration, events: usize) -> f64 {
    taken.as_secs_f64() * 1e6 / count(events)
}

fn in_the_middle(mut runs: Vec<Run>) -> Run {
    runs.sort_unstable_by(|one, other| one.events_per_second().total_cmp(&other.events_per_second()));
    runs.swap_remove(runs.len() / 2)
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_unstable_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}
