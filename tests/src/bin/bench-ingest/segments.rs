//! What readers and writers feel while segments are made, blocks written down, and segments dropped.

use audittrail_tests::bench::client::{self, Going};
use audittrail_tests::bench::collector::Collector;
use audittrail_tests::bench::table::{Row, Table};
use std::time::Duration;
use tokio::time::sleep;

/// Connections that write, and as many that read, all the time.
const CONNECTIONS: usize = 4;

/// How long nothing else goes on.
const QUIET: Duration = Duration::from_secs(5);

/// Puts each of the keeper's doings into a stream of writes and reads. The log must have closed segments, which are gone
/// afterwards.
pub async fn measure(collector: &Collector, table: &mut Table) {
    collector.until_blocks_are_written_down().await;
    let going = client::go_on(collector, CONNECTIONS);
    sleep(QUIET).await;
    row(table, "4 writers and 4 readers, nothing else", going).await;

    let going = client::go_on(collector, CONNECTIONS);
    collector.run(include_str!("unmake.sql")).await;
    collector.until("SELECT count(*) FROM segment, head WHERE first_sequence > next_sequence", 4).await;
    row(table, "… while four segments are made", going).await;

    let going = client::go_on(collector, CONNECTIONS);
    collector.run("DELETE FROM posting; DELETE FROM block").await;
    collector.until_blocks_are_written_down().await;
    row(table, "… while blocks are written down", going).await;

    let going = client::go_on(collector, CONNECTIONS);
    collector.retain(1);
    collector.until("SELECT count(*) FROM segment, head WHERE end_sequence <= next_sequence", 0).await;
    row(table, "… while closed segments are dropped", going).await;
}

async fn row(table: &mut Table, what: &str, going: Going) {
    let (writes, reads) = going.stop().await;
    let figure = format!("p99 of writes {} ms, of reads {} ms", writes.as_millis(), reads.as_millis());
    table.add(Row::fact(what, figure, ""));
}
