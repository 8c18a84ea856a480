//! `make bench-ingest`: how fast the collector takes events, beside what Postgres itself does with the same rows.
//!
//! Starts a Postgres of its own (fsync on) and the collector's release build, runs baselines and collector by
//! turns on the same server, prints a table with ratios and writes it to `docs/benchmarks.md`. All of
//! it, the client too, shares the machine. Talks to 127.0.0.1 only.

mod baseline;
mod segments;

use audittrail_tests::bench::POSTGRES_SETTINGS;
use audittrail_tests::bench::client::{self, Load, Outcome};
use audittrail_tests::bench::collector::Collector;
use audittrail_tests::bench::table::{self, Row, Table};
use audittrail_tests::postgres::Postgres;
use clap::Parser;
use std::path::PathBuf;

/// Events of one measured run of the batch load.
const BATCH_RUN_EVENTS: usize = 400_000;

/// Events of one measured run of the load with one event a request.
const SINGLE_RUN_EVENTS: usize = 100_000;

/// Many events in large requests, as forwarders and loaders send them.
const BATCHES: Load = Load { connections: 8, events_a_request: 500 };

/// One event a request, as applications send them.
const SINGLES: Load = Load { connections: 64, events_a_request: 1 };

/// Measures how fast events are accepted.
#[derive(Debug, Parser)]
struct Settings {
    /// The collector's program.
    #[arg(long, default_value = "target/release/collector")]
    collector: PathBuf,

    /// Runs of each load; the table shows medians.
    #[arg(long, default_value_t = 3)]
    runs: usize,

    /// Millions of stored events at which the loads are measured, in rising order. The first is what others are compared with.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 10])]
    stored: Vec<usize>,

    /// The page to write the table into, between its two markers.
    #[arg(long)]
    output: Option<PathBuf>,
}

#[tokio::main]
async fn main() {
    let settings = Settings::parse();
    // Only a second call would fail.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let postgres = Postgres::start_with(POSTGRES_SETTINGS);
    let mut table = Table::new(&postgres).await;
    compare(&settings, &postgres, &mut table).await;
    let text = table.finish();
    println!("{text}");
    if let Some(path) = &settings.output {
        table::write_into(path, "bench-ingest", &text);
    }
}

/// Baselines and collector by turns, then the collector alone as its log grows.
async fn compare(settings: &Settings, postgres: &Postgres, table: &mut Table) {
    let collector = Collector::start(&settings.collector, postgres).await;
    table.add(Row::fact("ready after start", format!("{} ms", collector.ready_after.as_millis()), "≤ 1 s"));
    table.add(Row::fact("resident memory, idle", format!("{} MiB", collector.resident_mib()), "≤ 30 MiB"));
    table.add(Row::fact("program, stripped", format!("{} MiB", collector.program_mib()), "image ≤ 40 MB"));
    // The first writes make the files of the write-ahead log, which later ones use again: not part of any run.
    baseline::copy(postgres, BATCHES, BATCH_RUN_EVENTS).await;

    let (mut copies, mut batches) = (Vec::new(), Vec::new());
    for _ in 0..settings.runs {
        copies.push(baseline::copy(postgres, BATCHES, BATCH_RUN_EVENTS).await);
        batches.push(client::run(&collector, BATCHES, BATCH_RUN_EVENTS).await);
    }
    table.add(Row::ratio("500 events a request × 8", &copies, "COPY, primary key only", &batches, "≥ 0.5"));
    table.add(Row::fact("orientation: one COPY of all rows", baseline::one_copy(postgres, BATCH_RUN_EVENTS).await, ""));
    table.add(Row::fact(
        "resident memory, after a million events",
        format!("{} MiB", collector.resident_mib()),
        "≤ 100 MiB",
    ));

    let (mut inserts, mut singles) = (Vec::new(), Vec::new());
    for _ in 0..settings.runs {
        inserts.push(baseline::pgbench(postgres, SINGLES, SINGLE_RUN_EVENTS).await);
        singles.push(client::run(&collector, SINGLES, SINGLE_RUN_EVENTS).await);
    }
    table.add(Row::ratio("1 event a request × 64", &inserts, "pgbench, single rows, same tables", &singles, "≥ 2"));
    grow(settings, &collector, table).await;
    segments::measure(&collector, table).await;
}

/// The same loads with more and more events stored.
async fn grow(settings: &Settings, collector: &Collector, table: &mut Table) {
    let mut first: Option<(Vec<Outcome>, Vec<Outcome>)> = None;
    for millions in &settings.stored {
        while collector.stored().await < millions * 1_000_000 {
            client::run(collector, BATCHES, BATCH_RUN_EVENTS).await;
        }
        collector.until_blocks_are_written_down().await;
        let (mut batches, mut singles) = (Vec::new(), Vec::new());
        for _ in 0..settings.runs {
            batches.push(client::run(collector, BATCHES, BATCH_RUN_EVENTS).await);
            singles.push(client::run(collector, SINGLES, SINGLE_RUN_EVENTS).await);
        }
        if let Some((first_batches, first_singles)) = &first {
            let at = settings.stored[0];
            table.add(Row::growth(
                &format!("500 × 8 at {millions} million, beside {at} million"),
                first_batches,
                &batches,
            ));
            table.add(Row::growth(
                &format!("1 × 64 at {millions} million, beside {at} million"),
                first_singles,
                &singles,
            ));
        } else {
            first = Some((batches, singles));
        }
    }
}
