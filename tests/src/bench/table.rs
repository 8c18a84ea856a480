//! The table of results.

use super::client::Outcome;
use crate::postgres::Postgres;
use sqlx::{Connection, PgConnection};
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

/// A line of the table.
#[derive(Debug)]
pub struct Row {
    what: String,
    ours: String,
    baseline: String,
    ratio: String,
    aim: &'static str,
}

/// The table.
#[derive(Debug)]
pub struct Table {
    machine: String,
    rows: Vec<Row>,
}

impl Row {
    /// A figure without a baseline.
    pub fn fact(what: &str, figure: String, aim: &'static str) -> Self {
        Self { what: what.to_owned(), ours: figure, baseline: String::new(), ratio: String::new(), aim }
    }

    /// A figure beside that of a baseline, with ours by the baseline's.
    pub fn compared(what: &str, ours: String, baseline: String, ratio: f64, aim: &'static str) -> Self {
        Self { what: what.to_owned(), ours, baseline, ratio: format!("{ratio:.2}"), aim }
    }

    /// Medians of our runs beside those of a baseline.
    pub fn ratio(what: &str, baseline: &[Outcome], of: &str, ours: &[Outcome], aim: &'static str) -> Self {
        let (base, own) = (median(baseline), median(ours));
        Self {
            what: what.to_owned(),
            ours: format!(
                "{own:.0}/s, p99 {} ms; {:.0} + {:.0} µs of processor an event (collector + Postgres)",
                p99_milliseconds(ours),
                microseconds(ours, |outcome| outcome.collector_cpu),
                microseconds(ours, |outcome| outcome.postgres_cpu),
            ),
            baseline: format!("{base:.0}/s ({of})"),
            ratio: format!("{:.2}", own / base),
            aim,
        }
    }

    /// Medians of the same load, with few and with many events stored.
    pub fn growth(what: &str, few: &[Outcome], many: &[Outcome]) -> Self {
        Self::ratio(what, few, "itself", many, "≥ 0.9")
    }
}

impl Table {
    /// An empty table that tells the machine's size.
    pub async fn new(postgres: &Postgres) -> Self {
        let mut connection = PgConnection::connect(&postgres.uri("postgres")).await.expect("the server answers");
        let version: String =
            sqlx::query_scalar("SHOW server_version").fetch_one(&mut connection).await.expect("a setting");
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kib = memory.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or_default();
        let machine = format!("{cores} cores, {} GiB of memory, PostgreSQL {version}", kib.div_ceil(1024 * 1024));
        Self { machine, rows: Vec::new() }
    }

    /// Adds a line, and prints it.
    pub fn add(&mut self, row: Row) {
        println!("{}: {} | {} | {} | {}", row.what, row.ours, row.baseline, row.ratio, row.aim);
        self.rows.push(row);
    }

    /// Adds lines, and prints them.
    pub fn extend(&mut self, rows: Vec<Row>) {
        for row in rows {
            self.add(row);
        }
    }

    /// The table as Markdown.
    pub fn finish(self) -> String {
        let mut text = format!("Machine: {}. Client, collector and Postgres share it.\n\n", self.machine);
        text.push_str("| what | collector | baseline | ratio | aim |\n|---|---|---|---|---|\n");
        for row in self.rows {
            writeln!(text, "| {} | {} | {} | {} | {} |", row.what, row.ours, row.baseline, row.ratio, row.aim)
                .expect("text can be written to");
        }
        text
    }
}

/// Ends the table in a page.
const END: &str = "<!-- end -->";

/// Writes the table into a page, in the place of the one before: between `<!-- make TARGET -->` and the next `<!-- end -->`.
pub fn write_into(page: &Path, target: &str, table: &str) {
    let begin = format!("<!-- make {target} -->\n");
    let text = std::fs::read_to_string(page).expect("the page can be read");
    let (before, rest) = text.split_once(&begin).expect("the page has the first marker");
    let (_, after) = rest.split_once(END).expect("the page has the second marker");
    let text = [before, &begin, "\n", table, "\n", END, after].concat();
    std::fs::write(page, text).expect("the page can be written");
}

fn median(outcomes: &[Outcome]) -> f64 {
    let mut rates: Vec<f64> = outcomes.iter().map(|outcome| outcome.events_per_second).collect();
    rates.sort_unstable_by(f64::total_cmp);
    rates[rates.len() / 2]
}

fn p99_milliseconds(outcomes: &[Outcome]) -> u128 {
    let mut all: Vec<u128> = outcomes.iter().map(|outcome| outcome.p99.as_millis()).collect();
    all.sort_unstable();
    all[all.len() / 2]
}

fn microseconds(outcomes: &[Outcome], of: fn(&Outcome) -> Duration) -> f64 {
    let events: usize = outcomes.iter().map(|outcome| outcome.events).sum();
    let taken: Duration = outcomes.iter().map(of).sum();
    #[expect(clippy::cast_precision_loss, reason = "counts of a benchmark are far below 2^52")]
    let each = taken.as_secs_f64() * 1e6 / events as f64;
    each
}
