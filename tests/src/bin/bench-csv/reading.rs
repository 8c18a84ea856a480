//! Reading all events, from Postgres or from the collector.

use audittrail_tests::bench::collector::Collector;
use audittrail_tests::served::OWNER;
use futures::TryStreamExt;
use sqlx::{Connection, PgConnection};
use std::fmt;
use std::time::{Duration, Instant};

/// The columns that an export is made from, in whatever order Postgres reads the rows.
const COPY: &str = r#"COPY (SELECT sequence, epoch, received_at, id, "timestamp", type,
    actor_type, actor_id, actor_name, actor_email, resource_type, resource_id, resource_name,
    outcome, submitted_by_kind, submitted_by_name, context, changes, details FROM event) TO STDOUT CSV"#;

/// What a run took.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    rows: usize,
    elapsed: Duration,
    /// Processor time that the collector took.
    collector: Duration,
    /// Processor time that Postgres took.
    postgres: Duration,
}

/// `COPY` to a client over TCP.
pub async fn copy(collector: &Collector) -> Reading {
    let mut connection = PgConnection::connect(collector.database()).await.expect("the server answers");
    measure(collector, async {
        let mut rows = connection.copy_out_raw(COPY).await.expect("COPY begins");
        let mut lines = 0;
        while let Some(text) = rows.try_next().await.expect("COPY goes on") {
            lines += count_lines(&text);
        }
        drop(rows);
        lines
    })
    .await
}

/// An export to a client over TCP.
pub async fn export(collector: &Collector, path: &str) -> Reading {
    let request = reqwest::Client::new().get(format!("http://{}{path}", collector.address())).bearer_auth(OWNER);
    measure(collector, async {
        let mut answer = request.send().await.expect("answered").error_for_status().expect("a 200");
        let mut lines = 0;
        while let Some(text) = answer.chunk().await.expect("complete") {
            lines += count_lines(&text);
        }
        lines
    })
    .await
}

async fn measure(collector: &Collector, reading: impl Future<Output = usize>) -> Reading {
    let before = collector.processor_time();
    let begun = Instant::now();
    let rows = reading.await;
    let elapsed = begun.elapsed();
    let after = collector.processor_time();
    Reading { rows, elapsed, collector: after.0.saturating_sub(before.0), postgres: after.1.saturating_sub(before.1) }
}

/// No text of the load holds a line break.
fn count_lines(text: &[u8]) -> usize {
    text.iter().map(|byte| usize::from(*byte == b'\n')).sum()
}

impl Reading {
    /// Rows read in a second.
    pub fn rows_per_second(&self) -> f64 {
        count(self.rows) / self.elapsed.as_secs_f64()
    }

    /// The run in the middle of all.
    pub fn median(readings: &[Self]) -> Self {
        let mut readings = readings.to_vec();
        readings.sort_unstable_by(|one, other| one.rows_per_second().total_cmp(&other.rows_per_second()));
        readings[readings.len() / 2]
    }
}

impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each = |taken: Duration| taken.as_secs_f64() * 1e6 / count(self.rows);
        let (collector, postgres) = (each(self.collector), each(self.postgres));
        write!(f, "{:.0} rows/s, {collector:.1} + {postgres:.1} µs of processor a row", self.rows_per_second())
    }
}

/// The number in the middle of all.
pub fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_unstable_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

fn count(rows: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "counts of a benchmark are far below 2^52")]
    let count = rows as f64;
    count
}
