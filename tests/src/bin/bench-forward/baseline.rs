//! What forwarding takes without its promises: a loop on one thread that selects, encodes and posts batch after batch,
//! without cursor, lease or verdict.

use crate::source::{Inlet, KEY};
use audittrail_collector::forward::encode::{self, Item};
use audittrail_collector::store::Store;
use audittrail_crds::document::{Database, Format, Sensitive};
use audittrail_tests::bench::collector::Collector;
use audittrail_tests::bench::processor::Thread;
use jiff::Timestamp;
use reqwest::header::CONTENT_TYPE;
use sqlx::{Connection, PgConnection};
use std::time::Duration;
use tokio::sync::oneshot;
use uuid::Uuid;

/// Of the trail in `audittrail_tests::served`.
const WORKSPACE: &str = "Acme";

/// Sends the log from its beginning in batches of these many events, and tells what processor time the loop took.
pub async fn run(collector: &Collector, inlet: &Inlet, batches: Vec<usize>) -> Duration {
    let (database, url) = (collector.database().to_owned(), inlet.url());
    let (done, taken) = oneshot::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(send_all(&database, &url, batches));
        done.send(Thread::current().taken()).expect("somebody waits for it");
    });
    taken.await.expect("the loop reaches its end")
}

async fn send_all(database: &str, url: &str, batches: Vec<usize>) {
    let store = Store::lazy(&Database { uri: Sensitive::new(database), ca: None }).expect("a good URI");
    let log_id = log_id(database).await;
    let client = reqwest::Client::new();
    let mut next_sequence = 0;
    for batch in batches {
        let events = store.events_from(next_sequence, batch).await.expect("the server answers");
        let Some(last) = events.last() else { break };
        next_sequence = last.sequence + 1;
        let items: Vec<Item> =
            events.iter().map(|event| encode::item(log_id, WORKSPACE, Format::Named, event)).collect();
        post(&client, url, encode::body(&items, KEY, Timestamp::now())).await;
    }
}

async fn post(client: &reqwest::Client, url: &str, body: Vec<u8>) {
    let request = client.post(url).basic_auth(KEY, Some("")).header(CONTENT_TYPE, "application/json").body(body);
    let answer = request.send().await.expect("answered").error_for_status().expect("a 200");
    answer.bytes().await.expect("a whole answer");
}

async fn log_id(database: &str) -> Uuid {
    let mut connection = PgConnection::connect(database).await.expect("the server answers");
    sqlx::query_scalar("SELECT log_id FROM head").fetch_one(&mut connection).await.expect("there is a log")
}
