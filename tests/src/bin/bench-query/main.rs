//! `make bench-query`: how fast questions are answered, beside what an expert would ask Postgres by hand.
//!
//! Starts a Postgres of its own (fsync on) and the collector's release build, loads a year of events over HTTP, measures first pages of
//! every filter, late pages, words, how soon an event is visible, and first pages while events are written. Then it indexes the
//! same table for hand-written queries, and measures those. All of it, the client too, shares the machine. Talks to 127.0.0.1
//! only.

mod baseline;
mod cases;
mod http;
mod pages;
mod queries;
mod report;
mod trail;
mod visible;
mod writers;

use audittrail_collector::store::block::BLOCK_EVENTS;
use audittrail_tests::bench::POSTGRES_SETTINGS;
use audittrail_tests::bench::client::Load;
use audittrail_tests::bench::collector::Collector;
use audittrail_tests::bench::table::{self, Row, Table};
use audittrail_tests::postgres::Postgres;
use baseline::Baseline;
use clap::Parser;
use http::Connection;
use queries::{Measured, Order};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use trail::Trail;
use writers::{LARGE, Pace, SINGLE, Writers};

/// Events of the block that is not written down yet when measuring begins: readers scan them. The records of views of a
/// whole run still fit, so that it is measured near its worst.
const OPEN_EVENTS: usize = 33_000;

/// How long events are written to find the best pace.
const BEST_PACE: Duration = Duration::from_secs(8);

/// Events written a second while it is measured how soon one is visible.
const VISIBLE_PACE: f64 = 1_000.0;

/// Questions with words are asked this many times less often: one takes as long as a hundred others.
const RUNS_OF_WORDS: usize = 5;

/// Database of data that is kept.
const DATABASE: &str = "trail";

/// Measures how fast questions are answered.
#[derive(Debug, Parser)]
struct Settings {
    /// The collector's program.
    #[arg(long, default_value = "target/release/collector")]
    collector: PathBuf,

    /// Requests of each case and order.
    #[arg(long, default_value_t = 200)]
    runs: usize,

    /// Millions of events in the log.
    #[arg(long, default_value_t = 10)]
    stored: usize,

    /// Only cases and parts whose name has one of these in it. Parts beside cases are `page 1,000`, `visible`,
    /// `while written` and `by hand`.
    #[arg(long, value_delimiter = ';')]
    cases: Vec<String>,

    /// Keeps the data here, and uses what is there: loading takes minutes. Some events are added each time.
    #[arg(long)]
    data: Option<PathBuf>,

    /// The page to write the tables into, between its two markers.
    #[arg(long)]
    output: Option<PathBuf>,
}

impl Settings {
    fn wants(&self, name: &str) -> bool {
        self.cases.is_empty() || self.cases.iter().any(|case| name.contains(case.as_str()))
    }
}

/// What is measured.
struct Bench {
    settings: Settings,
    collector: Collector,
    trail: Arc<Trail>,
    table: Table,
}

#[tokio::main]
async fn main() {
    let settings = Settings::parse();
    // Only a second call would fail.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let postgres = match &settings.data {
        Some(directory) => Postgres::kept(directory, POSTGRES_SETTINGS),
        None => Postgres::start_with(POSTGRES_SETTINGS),
    };
    let database = postgres.database(DATABASE).await;
    let collector = Collector::start_on(&settings.collector, &postgres, &database).await;
    let (trail, table) = (Arc::new(Trail::new(settings.stored * 1_000_000)), Table::new(&postgres).await);
    let mut bench = Bench { settings, collector, trail, table };
    bench.load().await;
    let end = bench.stored().await;
    let measured = bench.measure(end).await;
    let text = [bench.table.finish(), report::cases(&measured)].join("\n");
    println!("{text}");
    if let Some(path) = &bench.settings.output {
        table::write_into(path, "bench-query", &text);
    }
}

impl Bench {
    async fn stored(&self) -> usize {
        self.collector.stored().await
    }

    fn connection(&self) -> Connection {
        Connection::open(&self.collector.address())
    }

    /// Writes what is missing of the year, and of the open block.
    async fn load(&self) {
        self.collector.run(include_str!("unindex.sql")).await;
        let stored = self.stored().await;
        let block = usize::try_from(BLOCK_EVENTS).expect("a small number");
        let wanted = stored.max(self.settings.stored * 1_000_000);
        let wanted = wanted + (block + OPEN_EVENTS - wanted % block) % block;
        Writers::start(&self.collector.address(), &self.trail, stored..wanted, LARGE, Pace::Best).wait();
        self.collector.until_blocks_are_written_down().await;
        // What the first reader of fresh rows has to write is no part of any run.
        self.collector.run("VACUUM (ANALYZE) event").await;
        self.collector.run("VACUUM (ANALYZE) posting").await;
        self.collector.run("CHECKPOINT").await;
    }

    async fn measure(&mut self, end: usize) -> Vec<Measured> {
        let mut measured = self.first_pages();
        if self.settings.wants("page 1,000") {
            self.table.extend(pages::measure(&mut self.connection()));
        }
        let mut words = self.words();
        self.sizes().await;
        if self.settings.wants("visible") {
            self.visible().await;
        }
        if self.settings.wants("while written") {
            self.while_written(&mut measured).await;
        }
        if self.settings.wants("by hand") {
            let end = i64::try_from(end).expect("a count");
            self.by_hand(end, &mut measured, &mut words).await;
        }
        self.table.extend(report::summary(&measured));
        self.table.extend(words.iter().map(report::words).collect());
        measured
    }

    fn first_pages(&self) -> Vec<Measured> {
        let mut connection = self.connection();
        let mut measured = Vec::new();
        for case in cases::first_pages(&self.trail).into_iter().filter(|case| self.settings.wants(case.name)) {
            for order in [Order::Desc, Order::Asc] {
                let one = queries::measure(&mut connection, case.clone(), order, self.settings.runs);
                println!("{}, {order}: {}; by cursor {}", case.name, one.first, one.by_cursor);
                measured.push(one);
            }
        }
        measured
    }

    fn words(&self) -> Vec<Measured> {
        let wanted = cases::words().into_iter().filter(|case| self.settings.wants(case.name));
        let runs = self.settings.runs.div_ceil(RUNS_OF_WORDS);
        let mut measured = Vec::new();
        for case in wanted {
            let one = queries::measure(&mut self.connection(), case, Order::Desc, runs);
            println!("{}: {}", one.case.name, one.first);
            measured.push(one);
        }
        measured
    }

    async fn sizes(&mut self) {
        let mib = |bytes: i64| format!("{} MiB", bytes / (1024 * 1024));
        let events = "SELECT sum(pg_total_relation_size(relid))::bigint FROM pg_partition_tree('event')";
        let postings = "SELECT pg_total_relation_size('posting') + pg_total_relation_size('block')";
        let (events, postings) = (self.collector.query(events).await, self.collector.query(postings).await);
        self.table.add(Row::fact("events in the database", mib(events), ""));
        self.table.add(Row::fact("their postings", mib(postings), ""));
    }

    async fn visible(&mut self) {
        let writers = self.write(SINGLE, Pace::EventsPerSecond(VISIBLE_PACE)).await;
        let rows = visible::measure(&self.collector.address()).await;
        let paced = writers.stop();
        self.table.extend(rows);
        self.table.add(Row::fact("… while events were written", format!("{paced:.0}/s"), "1,000/s"));
    }

    /// Writes events that follow those which are there, until it is stopped.
    async fn write(&self, load: Load, pace: Pace) -> Writers {
        let stored = self.stored().await;
        Writers::start(&self.collector.address(), &self.trail, stored..usize::MAX / 4, load, pace)
    }

    /// Finds the best pace of writing, then measures first pages at half of it.
    async fn while_written(&mut self, measured: &mut [Measured]) {
        let writers = self.write(LARGE, Pace::Best).await;
        tokio::time::sleep(BEST_PACE).await;
        let best = writers.stop();
        self.collector.until_blocks_are_written_down().await;
        let writers = self.write(LARGE, Pace::EventsPerSecond(best / 2.0)).await;
        let mut connection = self.connection();
        for one in measured.iter_mut() {
            let runs = self.settings.runs.div_ceil(2);
            one.while_written = queries::first_pages(&mut connection, &one.case, one.order, runs);
            println!("{}, {}, while events are written: {}", one.case.name, one.order, one.while_written);
        }
        let paced = writers.stop();
        let figure = format!("{best:.0}/s at best; {paced:.0}/s while first pages were measured");
        self.table.add(Row::fact("events written, 500 a request × 8", figure, ""));
    }

    async fn by_hand(&mut self, end: i64, measured: &mut [Measured], words: &mut [Measured]) {
        let mut baseline = Baseline::prepare(&self.collector, end).await;
        let indexes = "SELECT sum(pg_relation_size(relid))::bigint FROM pg_class, pg_partition_tree(pg_class.oid)
                       WHERE relkind = 'I' AND relname LIKE 'bench\\_%'";
        let bytes = self.collector.query(indexes).await;
        self.table.add(Row::fact("indexes of the hand-written queries", format!("{} MiB", bytes / (1024 * 1024)), ""));
        for one in measured.iter_mut().chain(words) {
            (one.by_hand, one.by_hand_recorded) = baseline.measure(one, self.settings.runs).await;
            println!("{}, {}, by hand: {}; recorded: {}", one.case.name, one.order, one.by_hand, one.by_hand_recorded);
        }
    }
}
