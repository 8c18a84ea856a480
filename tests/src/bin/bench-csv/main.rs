//! `make bench-csv`: how fast events are exported, beside what Postgres itself does with the same rows.
//!
//! Starts a Postgres of its own and the collector's release build, loads events over HTTP, reads them with `COPY … TO STDOUT` and with
//! exports by turns, both over TCP, prints a table with ratios and writes it to `docs/benchmarks.md`. All of it, the client
//! too, shares the machine. Talks to 127.0.0.1 only.

mod reading;

use audittrail_collector::query::export::EXPORTS_MAX;
use audittrail_tests::bench::POSTGRES_SETTINGS;
use audittrail_tests::bench::client::{self, Load};
use audittrail_tests::bench::collector::Collector;
use audittrail_tests::bench::table::{self, Row, Table};
use audittrail_tests::postgres::Postgres;
use clap::Parser;
use reading::Reading;
use std::path::PathBuf;

/// How events are loaded.
const LOADING: Load = Load { connections: 8, events_a_request: 500 };

/// What is measured: name, path, and what has to be reached.
const EXPORTS: [(&str, &str, &str); 4] = [
    ("CSV, newest first", "/v1/events.csv", "≥ 0.7"),
    ("CSV, oldest first", "/v1/events.csv?order=asc", "≥ 0.7"),
    ("NDJSON, newest first", "/v1/events.ndjson", ""),
    ("CSV, one of two outcomes", "/v1/events.csv?outcome=success", ""),
];

/// Measures how fast events are exported.
#[derive(Debug, Parser)]
struct Settings {
    /// The collector's program.
    #[arg(long, default_value = "target/release/collector")]
    collector: PathBuf,

    /// Pairs of runs of each export; the table shows medians.
    #[arg(long, default_value_t = 5)]
    runs: usize,

    /// Events in the log.
    #[arg(long, default_value_t = 1_000_000)]
    events: usize,

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
    let collector = Collector::start(&settings.collector, &postgres).await;
    client::run(&collector, LOADING, settings.events).await;
    collector.until_blocks_are_written_down().await;
    // What the first reader of fresh rows has to write is no part of any run.
    collector.run("VACUUM (ANALYZE) event").await;
    collector.run("CHECKPOINT").await;

    let mut table = Table::new(&postgres).await;
    table.add(Row::fact("resident memory, after loading", format!("{} MiB", collector.resident_mib()), ""));
    for (what, path, aim) in EXPORTS {
        table.add(compare(&collector, settings.runs, what, path, aim).await);
    }
    table.add(at_once(&collector, "of these rows", EXPORTS[0].1).await);
    collector.run(include_str!("large.sql")).await;
    table.add(at_once(&collector, "of rows of 100 KB", "/v1/events.csv?type=Large").await);
    let text = table.finish();
    println!("{text}");
    if let Some(path) = &settings.output {
        table::write_into(path, "bench-csv", &text);
    }
}

/// Baseline and export by turns. Each pair of runs has a ratio of its own, so that what else the machine does meets both.
async fn compare(collector: &Collector, runs: usize, what: &str, path: &str, aim: &'static str) -> Row {
    let (mut copies, mut exports, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    collector.forget_most_resident();
    for run in 0..=runs {
        let copy = reading::copy(collector).await;
        let export = reading::export(collector, path).await;
        // The first reads pages into memory.
        if run > 0 {
            ratios.push(export.rows_per_second() / copy.rows_per_second());
            copies.push(copy);
            exports.push(export);
        }
    }
    let (ours, theirs) = (Reading::median(&exports), Reading::median(&copies));
    let memory = collector.most_resident_mib();
    let ours = format!("{ours}; {memory} MiB at most");
    Row::compared(what, ours, format!("{theirs} (COPY)"), reading::median(ratios), aim)
}

/// As many exports as there may be.
async fn at_once(collector: &Collector, of: &str, path: &str) -> Row {
    collector.forget_most_resident();
    let exports = futures::future::join_all((0..EXPORTS_MAX).map(|_| reading::export(collector, path))).await;
    let rows: f64 = exports.iter().map(Reading::rows_per_second).sum();
    let figure = format!("{rows:.0} rows/s together, {} MiB at most", collector.most_resident_mib());
    Row::fact(&format!("CSV {of}, {EXPORTS_MAX} at once"), figure, "≤ 64 MiB")
}
