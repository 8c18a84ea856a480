//! A replica's forwarder as a process of its own, for tests which kill and pause it. Reads configuration documents from its
//! standard input, JSON, one a line: each replaces the one before, and the first has to come. At the end of its input, it
//! gives its leases back and ends, so that it never outlives the test.
//!
//! `KILL_AT=forward::after-send#3` kills it (SIGKILL) when it comes to this failpoint for the third time; `PAUSE_AT` pauses it
//! (SIGSTOP) there.

use audittrail_collector::forward;
use audittrail_collector::store::Store;
use audittrail_collector::tail::feed::Feed;
use audittrail_crds::document::Document;
use std::error::Error;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    abort_on_panic();
    for (variable, signal) in [("KILL_AT", "KILL"), ("PAUSE_AT", "STOP")] {
        if let Ok(setting) = std::env::var(variable) {
            signal_at(&setting, signal)?;
        }
    }
    let mut lines = lines();
    let first = next_document(&mut lines).await?.ok_or("no document on standard input")?;
    let store = Store::lazy(&first.database)?;
    let documents = watch::Sender::new(Arc::new(first));
    let shutdown = CancellationToken::new();
    let feed = Feed::new(store.clone());
    tokio::spawn(feed.clone().run());
    let running = tokio::spawn(forward::run(store, feed, documents.subscribe(), Uuid::new_v4(), shutdown.clone()));
    while let Some(document) = next_document(&mut lines).await? {
        documents.send_replace(Arc::new(document));
    }
    shutdown.cancel();
    Ok(running.await?)
}

/// The lines of the standard input.
fn lines() -> UnboundedReceiver<String> {
    let (sender, lines) = unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            // Whoever received them may have ended already.
            let _ended = sender.send(line);
        }
    });
    lines
}

async fn next_document(lines: &mut UnboundedReceiver<String>) -> Result<Option<Document>, serde_json::Error> {
    lines.recv().await.map(|line| serde_json::from_str(&line)).transpose()
}

/// A task that panics is started again, which would hide a defect from tests.
fn abort_on_panic() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        default(panic);
        std::process::abort();
    }));
}

/// Sends a signal to its parent. SIGSTOP reaches one thread first, and the others some time later: only when the process is seen to
/// be stopped, all are.
const SEND: &str =
    "kill -$0 $PPID || exit; [ $0 = STOP ] || exit 0; until grep -q '^State:.T' /proc/$PPID/status; do :; done";

/// Sends itself a signal at the failpoint `NAME#COUNT`.
fn signal_at(setting: &str, signal: &'static str) -> Result<(), Box<dyn Error>> {
    if !fail::has_failpoints() {
        return Err("this program was built without failpoints: `cargo test` builds it with them".into());
    }
    let (name, count) = setting.split_once('#').ok_or("a failpoint is NAME#COUNT")?;
    let left = AtomicU32::new(count.parse()?);
    fail::cfg_callback(name, move || {
        if left.fetch_sub(1, Ordering::Relaxed) == 1 {
            // Nothing of the task happens until the signal has come: this waits for the program that sends it.
            let sent = Command::new("sh").args(["-c", SEND, signal]).status();
            assert!(sent.is_ok_and(|status| status.success()), "SIG{signal} was not sent");
        }
    })?;
    Ok(())
}
