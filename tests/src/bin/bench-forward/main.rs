//! `make bench-forward`: how fast events are forwarded, beside a loop without promises; how soon; and what ten forwardings cost.
//!
//! Starts a Postgres of its own and the collector's release build, loads events over HTTP, and forwards them to a source in this
//! program that parses every item. All of it shares the machine. Talks to 127.0.0.1 only.

mod baseline;
mod cost;
mod source;
mod throughput;

use audittrail_tests::bench::POSTGRES_SETTINGS;
use audittrail_tests::bench::client::{self, Load};
use audittrail_tests::bench::collector::Collector;
use audittrail_tests::bench::table::{self, Row, Table};
use audittrail_tests::postgres::Postgres;
use clap::Parser;
use source::Source;
use std::path::PathBuf;
use std::time::Duration;

/// How long the slower source waits before it answers.
const LATENCY: Duration = Duration::from_millis(25);

/// How events are loaded.
const BATCHES: Load = Load { connections: 8, events_a_request: 500 };

/// A vacuum by itself would fall into one turn and not into the other.
const NO_AUTOVACUUM: (&str, &str) = ("autovacuum", "off");

/// Measures how fast events are forwarded.
#[derive(Debug, Parser)]
struct Settings {
    /// The collector's program.
    #[arg(long, default_value = "target/release/collector")]
    collector: PathBuf,

    /// Pairs of runs to each source; the table shows medians.
    #[arg(long, default_value_t = 5)]
    runs: usize,

    /// Events in the log when measuring begins.
    #[arg(long, default_value_t = 300_000)]
    events: usize,

    /// For how long 1,000 events a second are written for each count of forwardings.
    #[arg(long, default_value_t = 20)]
    seconds: usize,

    /// The page to write the table into, between its two markers.
    #[arg(long)]
    output: Option<PathBuf>,
}

/// What is measured, and with what.
struct Bench {
    settings: Settings,
    collector: Collector,
    source: Source,
}

#[tokio::main]
async fn main() {
    let settings = Settings::parse();
    // Only a second call would fail.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let postgres = Postgres::start_with(&[POSTGRES_SETTINGS, &[NO_AUTOVACUUM]].concat());
    let collector = Collector::start(&settings.collector, &postgres).await;
    let mut table = Table::new(&postgres).await;
    let bench = Bench { settings, collector, source: Source::start() };
    bench.load().await;
    bench.measure(&mut table).await;
    let text = table.finish();
    println!("{text}");
    if let Some(path) = &bench.settings.output {
        table::write_into(path, "bench-forward", &text);
    }
}

impl Bench {
    async fn load(&self) {
        client::run(&self.collector, BATCHES, self.settings.events).await;
        self.collector.until_blocks_are_written_down().await;
        // What the first reader of fresh rows has to write is no part of any run.
        self.collector.run("VACUUM (ANALYZE) event").await;
        self.collector.run("CHECKPOINT").await;
    }

    async fn measure(&self, table: &mut Table) {
        throughput::warm_up(self).await;
        self.collector.forget_most_resident();
        let at_once =
            throughput::compare(self, "to a source that answers at once", Duration::ZERO, "≥ 20,000/s, ≥ 0.7");
        table.extend(at_once.await);
        table.add(self.most_resident());
        let late = throughput::compare(self, "to one that answers after 25 ms", LATENCY, "≥ 10,000/s, ≥ 0.7");
        table.extend(late.await);
        table.extend(cost::paced(self).await);
        self.collector.forget_most_resident();
        table.add(cost::backlog(self).await);
        table.add(self.most_resident());
    }

    fn most_resident(&self) -> Row {
        Row::fact("… resident memory at most", format!("{} MiB", self.collector.most_resident_mib()), "")
    }
}
