//! What readers and writers feel while segments are made, indexed and dropped.

use crate::client::{self, Going};
use crate::collector::Collector;
use crate::table::{Row, Table};
use std::time::Duration;
use tokio::time::sleep;

/// Connections that write, and as many that read, all the time.
const CONNECTIONS: usize = 4;

/// How long nothing else goes on.
const QUIET: Duration = Duration::from_secs(5);

/// Puts each of the keeper's doings into a stream of writes and reads. The log must have closed segments, which are gone
/// afterwards.
pub async fn measure(collector: &Collector, table: &mut Table) {
    collector.until_segments_are_indexed().await;
    let going = client::go_on(collector, CONNECTIONS);
    sleep(QUIET).await;
    row(table, "4 writers and 4 readers, nothing else", going).await;

    let going = client::go_on(collector, CONNECTIONS);
    collector.run(include_str!("unmake.sql")).await;
    collector.until("SELECT count(*) FROM segment, head WHERE first_sequence > next_sequence", 4).await;
    row(table, "… while four segments are made", going).await;

    let going = client::go_on(collector, CONNECTIONS);
    collector.run(include_str!("unindex.sql")).await;
    collector.until_segments_are_indexed().await;
    row(table, "… while closed segments are indexed", going).await;

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
