//! A replica's forwarder as a process of its own, for tests which kill and pause it: `forwarder DOCUMENT`, the
//! configuration document as JSON. Ends with its standard input, so that it never outlives the test.

use audittrail_collector::forward;
use audittrail_collector::store::Store;
use audittrail_crds::document::Document;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let json = std::env::args().nth(1).ok_or("usage: forwarder DOCUMENT")?;
    let document: Document = serde_json::from_str(&json)?;
    let store = Store::lazy(&document.database)?;
    std::thread::spawn(|| {
        let _end = std::io::stdin().read_line(&mut String::new());
        std::process::exit(0);
    });
    let documents = watch::Sender::new(Arc::new(document));
    forward::run(store, documents.subscribe(), Uuid::new_v4(), CancellationToken::new()).await;
    Ok(())
}
